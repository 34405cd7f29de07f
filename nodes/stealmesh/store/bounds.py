"""How much a node may keep of durable jobs: no more than its disk has room for.

A log that is written anew needs room for both copies, and each may be twice as large as what lives in it. So a
quarter of the disk's room is what the node may promise; the rest is refused at the call, while a full disk in
the middle of a job ends the node. Refuses to know what others do with the disk later on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stealmesh.host.machine import UNLIMITED, free_in
from stealmesh.store.logfile import FILE
from stealmesh_engine.config import Config

DISK_SHARE = 4


def fitting(config: Config, directory: str, say: Callable[[str], None]) -> Config:
    """The same with what fits into this directory; says so if that is less than was asked for."""
    room = _room(Path(directory)) // DISK_SHARE
    if room >= config.keep_octets_max:
        return config
    say(
        f"{directory} has room for {room:,} octets of durable jobs, so no more are kept here (keep_octets_max "
        f"is {config.keep_octets_max:,}); free some room there, or name another directory with --state"
    )
    return replace(config, keep_octets_max=max(1, room))


def _room(directory: Path) -> int:
    """What is free, and what the log has already. A directory that cannot be asked is not bounded here: opening
    the log says what is wrong."""
    free, log = free_in(directory), directory / FILE
    try:
        has = log.stat().st_size if log.exists() else 0
    except OSError:
        return UNLIMITED
    return UNLIMITED if free < 0 else free + has
