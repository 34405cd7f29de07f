"""Who this process is: its record for the mesh, and what shipped code needs to run here."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import socket
import sys
import time
from pathlib import Path
from random import Random

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.limits import NAME_CHARS_MAX
from stealmesh_protocol.messages import Member, Resources, Role
from stealmesh_protocol.passes import LIFE_OCTETS, own_id

VERSION = "0.1.0"


@functools.cache
def host_id() -> str:
    """Identifies one running machine: its name and its boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    mark = boot.read_text().strip()[:8] if boot.exists() else ""
    return f"{socket.gethostname()}/{mark}" if mark else socket.gethostname()


def runtime() -> str:
    """The Python version, which cloudpickle needs to be equal on both sides."""
    return f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"


def build() -> str:
    return f"stealmesh {VERSION} {runtime()} {platform.system().lower()}"


def new_life() -> tuple[PeerId, bytes]:
    """The id of a new process that holds the mesh key, and the proof that it is its own."""
    secret = os.urandom(LIFE_OCTETS)
    return own_id(secret), secret


def new_member(
    role: Role,
    name: str,
    endpoints: list[str],
    workers: int,
    *,
    eligible: bool = False,
    runs: str = "",
    resources: Resources = (),
    life: PeerId = b"",
) -> Member:
    """The record of this process life, under an id that no other life ever has (`life`; without: one that proves nothing).
    `runs` is for tests: the Python that it claims to be."""
    return Member(
        id=life or os.urandom(16),
        name=name or f"{socket.gethostname()}-{os.getpid()}",
        host=host_id(),
        role=role,
        endpoints=endpoints,
        incarnation=1,
        workers=workers,
        pid=os.getpid(),
        build=build(),
        eligible=eligible,
        runtime=runs or runtime(),
        resources=resources,
    )


def submitter() -> str:
    """The owner of this process, for people who look at its jobs: user@host:process."""
    return f"{_user()}@{socket.gethostname()}:{os.getpid()}"[:NAME_CHARS_MAX]


@functools.cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user has no name
        return str(os.getuid())


def wall_offset() -> float:
    """The time of day minus the monotonic time that cores get, in seconds."""
    return time.time() - time.monotonic()


def new_rng() -> Random:
    """The random source of one core, seeded from the system."""
    return Random(os.urandom(16))
