"""The octets of the values that a process has, in anonymous memory that it can share.

Decides where they lie: a large value in a file without a name (memfd), so that it goes with the last process
that has it open, also after SIGKILL; a small one in plain bytes, because a descriptor for each would use
them up. Refuses to know what a value is, and who needs it: the engine says what comes, what is read and
what goes.

Used by the driver's thread; a program's own threads put values in, and take descriptors, as do the threads
that serve neighbours.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable

from stealmesh_protocol.ids import ValueId

SMALL_OCTETS_MAX = 64 * 1024
WRITE_OCTETS_MAX = 1 << 30
"""One write call takes at most 2 GiB."""


class Shelf:
    """Values by their names."""

    def __init__(self) -> None:
        self._files: dict[ValueId, tuple[int, int]] = {}
        """Large values: descriptor, octets."""
        self._small: dict[ValueId, bytearray] = {}
        self._lock = threading.Lock()
        """Held while one comes or goes: neighbours hand over in threads of their own."""

    def __contains__(self, value: ValueId) -> bool:
        return value in self._files or value in self._small

    def __len__(self) -> int:
        return len(self._files) + len(self._small)

    # ------------------------------------------------------------ in

    def put(
        self, value: ValueId, octets: int, parts: Iterable[tuple[int, bytes | memoryview]]
    ) -> None:
        """Keep a value that is here as a whole. Raises OSError."""
        if octets <= SMALL_OCTETS_MAX:
            room = bytearray(octets)
            for at, part in parts:
                room[at : at + len(part)] = part
            self._small[value] = room
            return
        descriptor = _file(value, octets)
        try:
            for at, part in parts:
                _write(descriptor, at, part)
            _seal(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._files[value] = (descriptor, octets)

    def keep_room(self, value: ValueId, octets: int) -> None:
        """A value of this size is going to come in pieces. Raises OSError."""
        with self._lock:
            self._forget(
                value
            )  # a neighbour has just handed it over, and nobody waits for that any more
            if octets <= SMALL_OCTETS_MAX:
                self._small[value] = bytearray(octets)
            else:
                self._files[value] = (_file(value, octets), octets)

    def adopt(self, value: ValueId, descriptor: int, octets: int) -> bool:
        """This file, of another process, holds all of the value: keep it, and close it later. False, and it is
        closed at once: the value comes in pieces by now."""
        with self._lock:
            comes = value in self
            if comes:
                os.close(descriptor)
            else:
                self._files[value] = (descriptor, octets)
        return not comes

    def write(self, value: ValueId, at: int, blob: bytes) -> None:
        """A piece has come. Raises OSError when there is no memory for it."""
        small = self._small.get(value)
        if small is not None:
            small[at : at + len(blob)] = blob
        elif value in self._files:
            _write(self._files[value][0], at, blob)

    # ------------------------------------------------------------ out

    def read(self, value: ValueId, at: int, octets: int) -> bytes:
        """A piece of it; empty if it is not here."""
        small = self._small.get(value)
        if small is not None:
            return bytes(small[at : at + octets])
        found = self._files.get(value)
        return b"" if found is None else os.pread(found[0], octets, at)

    def descriptor(self, value: ValueId) -> int:
        """A descriptor of a file with all of it, which the caller closes. Raises KeyError, OSError."""
        small = self._small.get(value)
        if small is None:
            return os.dup(self._files[value][0])
        descriptor = _file(value, len(small))
        _write(descriptor, 0, memoryview(small))
        return descriptor

    def octets(self, value: ValueId) -> int:
        """How many octets it has. Raises KeyError."""
        small = self._small.get(value)
        return self._files[value][1] if small is None else len(small)

    def forget(self, value: ValueId) -> None:
        with self._lock:
            self._forget(value)

    def _forget(self, value: ValueId) -> None:
        self._small.pop(value, None)
        found = self._files.pop(value, None)
        if found is not None:
            os.close(found[0])

    def close(self) -> None:
        for value in [*self._files, *self._small]:
            self.forget(value)


def _file(value: ValueId, octets: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    descriptor = os.memfd_create(f"stealmesh-value-{value[-8:].hex()}", flags)
    os.ftruncate(descriptor, octets)
    return descriptor


def _seal(descriptor: int) -> None:
    """From now on no process can change what is in it, whoever has it open."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)


def _write(descriptor: int, at: int, part: bytes | memoryview) -> None:
    with memoryview(part) as view, view.cast("B") as octets:
        done = 0
        while done < len(octets):
            done += os.pwrite(descriptor, octets[done : done + WRITE_OCTETS_MAX], at + done)
