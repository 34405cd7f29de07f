"""What a process can still get from its machine: descriptors, processes, memory, disk, and the time of day.

Reads and counts, and decides nothing: `stealmesh doctor` says what is too little (`doctor/`). Each figure is read
when somebody asks, so that a status shows what is now. -1: unknown.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

UNLIMITED = 1 << 62
ALWAYS_THERE = "/var/tmp"
SHARED_MEMORY = "/dev/shm"


def temporary_directory() -> str:
    """The usual one. A machine may have none, and a relative one has gone with its working directory: then one that
    every system should have. What is wrong with it is told when something is written there."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return ALWAYS_THERE


def soft_limit(kind: int) -> int:
    soft = resource.getrlimit(kind)[0]
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def address_space_left() -> int:
    """Octets that this process may still map, by `ulimit -v`."""
    limit = soft_limit(resource.RLIMIT_AS)
    if limit == UNLIMITED:
        return UNLIMITED
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return -1
    return max(0, limit - pages * resource.getpagesize())


def descriptors_open() -> int:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # one is that of the look itself
    except OSError:
        return -1


def memory_free() -> int:
    """Octets that processes may still get, of this host or of the container that we are in."""
    found = -1
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                found = int(rest.split()[0]) * 1024
        group = Path("/sys/fs/cgroup")
        most, now = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        return min(found, int(most) - int(now))  # "max": there is no limit
    except (OSError, ValueError):
        return found


def free_in(directory: str | os.PathLike[str]) -> int:
    """Octets that this user may still write in a directory; -1 also if there is none."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return -1
    return found.f_bavail * found.f_frsize


def disk_free(directory: str | os.PathLike[str]) -> int:
    """The same; of a directory that is still to be made, where it would be."""
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    return free_in(path)


class Machine:
    """As one process sees it."""

    def __init__(self) -> None:
        self._offset = self._now()
        self.state = ""
        """The directory of its durable jobs; empty: it has none."""

    @staticmethod
    def _now() -> float:
        return time.time() - time.monotonic()

    def jumped(self) -> float:
        """Seconds that the time of day has been put forward since this process began; below zero: back."""
        return self._now() - self._offset

    def facts(self) -> dict[str, Any]:
        """For `status`. Names no directory: those who may look need not know the paths."""
        return {
            "clock": time.time(),
            "clock_jumped": self.jumped(),
            "descriptors": descriptors_open(),
            "descriptors_max": soft_limit(resource.RLIMIT_NOFILE),
            "memory_free": memory_free(),
            "shared_memory_free": disk_free(SHARED_MEMORY),
            "state_free": disk_free(self.state) if self.state else -1,
        }
