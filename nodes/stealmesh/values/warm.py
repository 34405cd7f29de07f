"""Memory files of values that are over, for the next values of the same size.

A new page of memory costs five times what it costs to write into one that is there: the kernel finds it, clears it, and
takes it back. A program that sends an array of 64 MiB after another spends most of its time on that. So the process
that made a file keeps it for a moment, and the next value of that size goes into it.

Decides which files are kept, and for how long. Refuses to know what a value is and who reads it.

Two rules keep values as they are:

* Nobody changes a value. A file is sealed once it is full: no write and no new map changes it, in any process. Only the
  map that its maker has kept from before still does.
* A file is used again only when nobody looks at it any more. Each reader gets a descriptor that was opened for it, with
  a shared lock (flock). The kernel drops this lock with the last descriptor and the last map of that opening, in
  whatever process, also after SIGKILL. As long as there is one, its maker gets no exclusive lock.

A task that has kept an array of its arguments in a global, or a program that has kept a result, is such a reader.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Iterable
from time import monotonic

RESTS_SECONDS = 1.0
"""A file that nobody needed for this time goes."""
WARM_OCTETS_MAX = 512 * 1024 * 1024
WARM_FILES_MAX = 32
"""What one process keeps at most."""
REUSED_OCTETS_MIN = 1024 * 1024
"""A smaller file goes at once: it is soon made, and a map of it takes a second descriptor."""
COPY_OCTETS = 8 * 1024 * 1024
"""Copied at once: other threads of the process wait for that."""
WRITE_OCTETS_MAX = 1 << 30
"""One write call takes at most 2 GiB."""
_SEAL_FUTURE_WRITE = 0x10
_MADV_POPULATE_WRITE = 23

Pieces = Iterable[tuple[int, bytes | memoryview]]


class MemoryFile:
    """A file without a name that this process has made, in memory."""

    def __init__(self, name: str, octets: int) -> None:
        """Raises OSError."""
        self.octets = octets
        self.rests_since = 0.0
        self._pid = os.getpid()
        self._map: mmap.mmap | None = None
        """From before it was sealed; None: it cannot be used again."""
        self._is_mapped = False
        """The map has all its pages."""
        self.descriptor = memory(name, octets)

    def fill(self, pieces: Pieces) -> None:
        """Write a value, and let nobody else do so. Raises OSError."""
        if self._map is not None:
            self._fill_again(self._map, pieces)
            return
        for at, piece in pieces:
            write(self.descriptor, at, piece)
        if self.octets >= REUSED_OCTETS_MIN:
            self._keep_map()
        if self._map is None:
            _seal(self.descriptor, fcntl.F_SEAL_WRITE)

    def _keep_map(self) -> None:
        kept = None
        try:
            kept = mmap.mmap(self.descriptor, self.octets)
            _seal(self.descriptor, _SEAL_FUTURE_WRITE)
        except OSError:  # no room for a map, or a kernel that does not know this seal
            if kept is not None:
                kept.close()
        else:
            self._map = kept

    def _fill_again(self, kept: mmap.mmap, pieces: Pieces) -> None:
        if not self._is_mapped:  # all pages at once is quicker than one by one
            with contextlib.suppress(OSError):
                kept.madvise(_MADV_POPULATE_WRITE)
            self._is_mapped = True
        with memoryview(kept) as room:
            for at, piece in pieces:
                with memoryview(piece) as view, view.cast("B") as octets:
                    for done in range(0, len(octets), COPY_OCTETS):
                        part = octets[done : done + COPY_OCTETS]
                        room[at + done : at + done + len(part)] = part

    def reader(self) -> int:
        """A descriptor for somebody who reads it, which the caller closes. Raises OSError."""
        if self._map is None:
            return os.dup(self.descriptor)
        try:
            descriptor = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a host without /proc
            self._map = None
            return os.dup(self.descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return descriptor

    def may_be_used_again(self) -> bool:
        """Does nobody look at it any more?"""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return True

    @property
    def can_rest(self) -> bool:
        """In a forked child it is its parent's."""
        return self._map is not None and os.getpid() == self._pid

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        os.close(self.descriptor)


class WarmFiles:
    """Those of one process. Any thread takes one, and lets one rest."""

    def __init__(self) -> None:
        self._resting: list[MemoryFile] = []
        """The oldest first. Some may still be looked at."""
        self._lock = threading.RLock()
        self._ended = False
        _ALL.add(self)

    def __bool__(self) -> bool:
        return bool(self._resting)

    def full(self, name: str, octets: int, pieces: Pieces) -> MemoryFile:
        """A file with this value. Raises OSError."""
        file = self._take(octets) or MemoryFile(name, octets)
        try:
            file.fill(pieces)
        except BaseException:
            file.close()
            raise
        return file

    def _take(self, octets: int) -> MemoryFile | None:
        with self._lock:
            for at in range(len(self._resting) - 1, -1, -1):  # the youngest is the warmest
                file = self._resting[at]
                if file.octets == octets and file.may_be_used_again():
                    return self._resting.pop(at)
        return None

    def rest(self, file: MemoryFile, most: int = WARM_OCTETS_MAX) -> None:
        """Its value is over, as far as this process knows. `most`: octets that may rest here in all."""
        if self._ended or _forbidden.is_set() or not file.can_rest:
            file.close()
            return
        file.rests_since = monotonic()
        with self._lock:
            self._resting.append(file)
        self.tidy(min(most, WARM_OCTETS_MAX))

    def tidy(self, most: int = WARM_OCTETS_MAX) -> None:
        """The old go, and what is too much."""
        before = monotonic() - RESTS_SECONDS
        with self._lock:
            octets = sum(file.octets for file in self._resting)
            while self._resting and (
                octets > most
                or len(self._resting) > WARM_FILES_MAX
                or self._resting[0].rests_since < before
            ):
                octets -= self._resting[0].octets
                self._resting.pop(0).close()

    def clear(self) -> None:
        with self._lock:
            while self._resting:
                self._resting.pop().close()

    def end(self) -> None:
        """From now on none is kept."""
        self._ended = True
        self.clear()

    def leave_to_the_parent(self) -> None:
        """In a forked child, where another thread may have held the lock: it may live for long, and needs none."""
        self._lock = threading.RLock()
        self.clear()


_ALL: weakref.WeakSet[WarmFiles] = weakref.WeakSet()


_forbidden = threading.Event()


def keep_none() -> None:
    """In a process that would not notice that it has nothing to do."""
    _forbidden.set()
    clear_all()


def some_rest() -> bool:
    """In this process."""
    return any(_ALL)


def clear_all() -> None:
    """This process has nothing to do."""
    for each in list(_ALL):
        each.clear()


def _forked() -> None:
    for each in list(_ALL):
        each.leave_to_the_parent()


os.register_at_fork(after_in_child=_forked)


def memory(name: str, octets: int) -> int:
    """A descriptor of a new file in memory. Raises OSError."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, octets)
    return descriptor


def _seal(descriptor: int, against_writing: int) -> None:
    seals = against_writing | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def write(descriptor: int, at: int, part: bytes | memoryview) -> None:
    """Raises OSError."""
    with memoryview(part) as view, view.cast("B") as octets:
        done = 0
        while done < len(octets):
            done += os.pwrite(descriptor, octets[done : done + WRITE_OCTETS_MAX], at + done)
