"""Where the octets of a value go: into memory while there is room, then into a file on disk.

A file has no name, so it goes with the last process that has it open, also after SIGKILL: nothing is left on
disk, and no start has anything to clear up. Its octets are reserved when it is made, so a full disk is found
out then and not in the middle of a value.

Decides the bounds and the place on disk. Refuses to know which value is needed: the engine lets copies go
before anything goes to disk, and a value stays where it was first put. What the kernel has of a file in its
own memory is as fast as memory, and goes when others need that memory.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from dataclasses import replace

from stealmesh.host.machine import ALWAYS_THERE, free_in, temporary_directory
from stealmesh.values.warm import Pieces, write
from stealmesh_engine.config import Config
from stealmesh_protocol.errors import StoreFull

MEMORY_SHARE = 0.3
DISK_SHARE = 0.5
_CGROUP_LIMIT = "/sys/fs/cgroup/memory.max"


def resolved(config: Config, directory: str = "") -> Config:
    """The same with the bounds of the store in octets; for a node these count from now on."""
    return replace(
        config,
        store_memory_octets=config.store_memory_octets or int(MEMORY_SHARE * memory_octets()),
        store_disk_octets=config.store_disk_octets
        or int(DISK_SHARE * max(0, free_in(place(directory))))
        or 1,
    )


def memory_octets() -> int:
    """What this host, or the container that we are in, has."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError), open(_CGROUP_LIMIT, encoding="ascii") as file:
        return min(found, int(file.read()))  # "max": there is no limit
    return found


def place(directory: str = "") -> str:
    """Where files go: this directory, or the one for temporary files. /tmp is memory on many machines, so
    /var/tmp comes first, unless the user has chosen."""
    if directory:
        return directory
    if "TMPDIR" not in os.environ and os.access(ALWAYS_THERE, os.W_OK | os.X_OK):
        return ALWAYS_THERE
    return temporary_directory()


class Room:
    """What one process may keep. Any thread takes some and gives it back."""

    def __init__(self, memory_max: int = 0, disk_max: int = 0, directory: str = "") -> None:
        """0: no bound."""
        self._memory_max = memory_max
        self._disk_max = disk_max
        self._directory = directory
        self.memory = 0
        self.disk = 0
        """Octets that are in use."""
        self.spilled = 0
        """Octets that ever went to disk."""
        self._lock = threading.RLock()  # as the shelf's

    @classmethod
    def of(cls, config: Config, directory: str = "") -> Room:
        """As `resolved` has said."""
        return cls(config.store_memory_octets, config.store_disk_octets, directory)

    def bound(self, memory_max: int, directory: str) -> None:
        """From now on this much may lie in memory, and the rest there."""
        self._memory_max, self._directory = memory_max, directory

    def take(self, octets: int) -> bool:
        """This is going to be kept. True: on disk. Raises StoreFull."""
        with self._lock:
            if not self._memory_max or self.memory + octets <= self._memory_max:
                self.memory += octets
                return False
            if self._disk_max and self.disk + octets > self._disk_max:
                raise StoreFull(self._refusal(octets))
            self.disk += octets
            self.spilled += octets
            return True

    def enter(self, octets: int, *, on_disk: bool) -> None:
        """A worker has made this, as its order said it might."""
        with self._lock:
            if on_disk:
                self.disk += octets
                self.spilled += octets
            else:
                self.memory += octets

    def left(self) -> int:
        """Octets that may still go into memory."""
        return max(0, self._memory_max - self.memory) if self._memory_max else 1 << 62

    @property
    def directory(self) -> str:
        return self._directory

    def _refusal(self, octets: int) -> str:
        return (
            f"a value of {octets:,} octets does not fit: {self.memory:,} of {self._memory_max:,} octets are "
            f"taken in memory (store_memory_octets) and {self.disk:,} of {self._disk_max:,} on the disk of "
            f"{place(self._directory)} (store_disk_octets); let Refs go that are not needed any more, or "
            "raise one of these settings"
        )

    def give_back(self, octets: int, *, on_disk: bool) -> None:
        with self._lock:
            if on_disk:
                self.disk -= octets
            else:
                self.memory -= octets
            assert self.memory >= 0, "more is given back than was taken"
            assert self.disk >= 0, "more is given back than was taken"

    def full(self, octets: int, parts: Pieces) -> int:
        """A descriptor of a new file on disk, without a name, with all of this. Raises OSError, StoreFull."""
        descriptor = self.file(octets)
        try:
            for at, part in parts:
                write(descriptor, at, part)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def file(self, octets: int) -> int:
        """A descriptor of a new file of this size on disk, without a name. Raises StoreFull."""
        where = place(self._directory)
        try:
            with tempfile.TemporaryFile(prefix="stealmesh-value-", dir=where, buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, octets)
                return os.dup(file.fileno())
        except OSError as error:
            raise StoreFull(
                f"a value of {octets:,} octets does not fit into memory (store_memory_octets), and cannot go "
                f"to disk in {where}: {error.strerror}; free some room there, or name another directory in "
                "TMPDIR (of a node: --state)"
            ) from None


def readable(descriptor: int) -> int:
    """A descriptor of the same file that cannot change it."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
