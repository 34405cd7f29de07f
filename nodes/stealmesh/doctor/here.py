"""What this machine gives: versions, limits, room, and what dead meshes have left.

Decides what is too little for a node. Looks at this process and its user only. Refuses to know keys and nodes.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stealmesh.doctor.diagnosis import Diagnosis, in_words
from stealmesh.host import hideout, machine
from stealmesh.host.core_in_use import core_in_use
from stealmesh.host.identity import VERSION
from stealmesh.host.peer_cache import state_directory
from stealmesh.transport.library import Library, library
from stealmesh.transport.sockets import FILES_REMEDY, THREADS_REMEDY
from stealmesh_engine.links.introductions import PROTOCOL_VERSION

PYTHON_MIN = (3, 11)
LIBZMQ_MIN = (4, 3)
DESCRIPTORS_MIN = 1024
PROCESSES_LEFT_MIN = 64
MEMORY_MIN = 256 << 20
SHARED_MEMORY_MIN = 64 << 20
STATE_MIN = 64 << 20
MADE_AT = 1_735_689_600.0
"""2025-01-01: an earlier time of day is a clock that was never set."""


def findings(state: str = "") -> Iterator[Diagnosis]:
    """`state`: where a node here would keep durable jobs."""
    yield versions(sys.version_info[:2])
    yield core(core_in_use())
    yield encryption(library())
    yield descriptors(machine.soft_limit(resource.RLIMIT_NOFILE))
    yield processes(machine.soft_limit(resource.RLIMIT_NPROC), processes_of(os.getuid()))
    yield memory(machine.memory_free())
    yield shared_memory(machine.disk_free(machine.SHARED_MEMORY))
    directory = state or str(state_directory())
    yield disk(directory, machine.disk_free(directory), writable=_is_writable(directory))
    yield clock(time.time())
    yield leftovers(left_behind())


def versions(python: tuple[int, ...]) -> Diagnosis:
    text = f"stealmesh {VERSION}, protocol {PROTOCOL_VERSION}, Python {platform.python_version()}"
    remedy = "" if python >= PYTHON_MIN else "install Python 3.11 or later"
    return Diagnosis("versions", text, remedy)


def core(verdict: str) -> Diagnosis:
    """A compiled core that does not fit is no defect of the mesh, but somebody installed it to be used."""
    stale = "other sources" in verdict or "compiled for" in verdict
    return Diagnosis(
        "core", verdict, "build it anew with `make fast`, or uninstall it" if stale else ""
    )


def encryption(found: Library) -> Diagnosis:
    text = f"libzmq {found.version} (pyzmq {found.binding})"
    numbers = tuple(int(part) for part in found.version.split(".")[:2] if part.isdecimal())
    if not found.curve:
        remedy = "install pyzmq from a wheel (pip install --force-reinstall pyzmq), which brings libsodium"
        return Diagnosis("encryption", f"{text} without CURVE: no node can encrypt", remedy)
    if numbers < LIBZMQ_MIN:
        return Diagnosis("encryption", text, "upgrade pyzmq: libzmq 4.3 or later is needed")
    return Diagnosis("encryption", f"{text} with CURVE")


def descriptors(most: int) -> Diagnosis:
    if most >= DESCRIPTORS_MIN:
        return Diagnosis("open files", _limit(most))
    text = f"a process may open {most}, and a node with many peers needs {DESCRIPTORS_MIN}"
    return Diagnosis("open files", text, FILES_REMEDY)


def processes(most: int, now: int) -> Diagnosis:
    if most - now >= PROCESSES_LEFT_MIN:
        return Diagnosis("processes", f"{_limit(most)}; {now} run")
    return Diagnosis("processes", f"this user may have {most}, and has {now}", THREADS_REMEDY)


def memory(free: int) -> Diagnosis:
    if free < 0 or free >= MEMORY_MIN:
        return Diagnosis("memory", f"{in_words(free)} free" if free >= 0 else "unknown")
    return Diagnosis(
        "memory", f"{in_words(free)} free", "end other programs, or start fewer workers"
    )


def shared_memory(free: int) -> Diagnosis:
    if free >= SHARED_MEMORY_MIN:
        return Diagnosis("shared memory", f"{in_words(free)} free in {machine.SHARED_MEMORY}")
    text = "there is none" if free < 0 else f"{in_words(free)} free in {machine.SHARED_MEMORY}"
    remedy = "give the container more (docker run --shm-size=1g), or remove files there"
    return Diagnosis("shared memory", text, remedy)


def disk(directory: str, free: int, *, writable: bool) -> Diagnosis:
    if not writable:
        remedy = "make it yours, or name another directory with --state"
        return Diagnosis("state", f"{directory} cannot be written to", remedy)
    if free >= STATE_MIN:
        return Diagnosis("state", f"{in_words(free)} free for durable jobs in {directory}")
    text = f"{in_words(max(free, 0))} free for durable jobs in {directory}"
    return Diagnosis("state", text, "free some room there, or name another directory with --state")


def clock(now: float) -> Diagnosis:
    text = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    remedy = "" if now >= MADE_AT else "set the clock: tokens and passes have dates"
    return Diagnosis("clock", text, remedy)


def leftovers(paths: list[Path]) -> Diagnosis:
    if not paths:
        return Diagnosis("leftovers", "none of dead meshes")
    some = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if paths[3:] else "")
    remedy = f"the next node of yours removes them; or: rm -r {' '.join(map(str, paths[:3]))}"
    return Diagnosis("leftovers", f"of processes that were killed: {some}", remedy)


# ---------------------------------------------------------------- looking


def processes_of(user: int) -> int:
    """How many processes this user has."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found += entry.stat().st_uid == user
            except OSError:
                continue  # it has just ended
    return found


def left_behind() -> list[Path]:
    """Directories of this user's dead nodes and programs."""
    return sorted({path for base in hideout.bases() for path in hideout.dead_in(base)})


def _is_writable(directory: str) -> bool:
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _limit(most: int) -> str:
    return "no limit" if most >= machine.UNLIMITED else f"up to {most}"
