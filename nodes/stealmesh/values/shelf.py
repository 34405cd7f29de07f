"""The octets of the values that a process has, where it can share them.

Decides where they lie: a large value in a file without a name, in memory (memfd) or beyond the bound on disk
(`room.py`), so that it goes with the last process that has it open, also after SIGKILL; a small one in plain
bytes, because a descriptor for each would use them up. A file that this process has filled goes into the hands of
`warm.py` once its value is over. Refuses to know what a value is, and who needs it: the engine says what comes, what is
read and what goes.

Used by the driver's thread; a program's own threads put values in, and take descriptors, as do the threads
that serve neighbours.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stealmesh.values.room import Room, readable
from stealmesh.values.warm import MemoryFile, Pieces, WarmFiles, memory, write
from stealmesh_protocol.ids import ValueId

SMALL_OCTETS_MAX = 64 * 1024
WARM_SHARE = 8
"""Of the room that is left for values this part may be kept warm for those to come."""


@dataclass(slots=True)
class OpenFile:
    """A large value."""

    descriptor: int
    octets: int
    on_disk: bool
    shared: bool = False
    """Another process has made it, and counts it."""
    made: MemoryFile | None = None
    """We have made it, in memory."""
    _mapped: memoryview | None = None

    def piece(self, at: int, octets: int) -> bytes | memoryview:
        """A part of it, as it lies: nothing is copied, and it stays readable when the file is closed. It is copied if
        the process has no descriptor or no room for a map. Raises OSError."""
        if self._mapped is None:
            # Private, as a sealed file allows no other map to some kernels; nobody writes.
            flags, protection = mmap.MAP_PRIVATE, mmap.PROT_READ
            try:
                with self.reader() as descriptor:
                    mapped = mmap.mmap(descriptor, self.octets, flags, protection)
            except OSError:
                return os.pread(self.descriptor, octets, at)
            self._mapped = memoryview(mapped)
        return self._mapped[at : at + octets]

    def for_another(self) -> int:
        """A descriptor of it that changes nothing, which the caller closes. Raises OSError."""
        if self.made is not None:
            return self.made.reader()
        return (readable if self.on_disk else os.dup)(self.descriptor)

    @contextmanager
    def reader(self) -> Iterator[int]:
        """The same, for a moment."""
        descriptor = self.for_another()
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class Shelf:
    """Values by their names."""

    def __init__(self, room: Room | None = None) -> None:
        self.room = room or Room()
        self._warm = WarmFiles()
        self._files: dict[ValueId, OpenFile] = {}
        """Large values."""
        self._small: dict[ValueId, bytearray] = {}
        self.missed = 0
        """Values that a worker was to have and that had gone."""
        self._lock = threading.RLock()
        """Held while one comes or goes: neighbours hand over in threads of their own. A Ref may end in between, in
        the same thread, and its value goes then."""

    def __contains__(self, value: ValueId) -> bool:
        return value in self._files or value in self._small

    def __len__(self) -> int:
        return len(self._files) + len(self._small)

    # ------------------------------------------------------------ in

    def put(self, value: ValueId, octets: int, parts: Pieces) -> None:
        """Keep a value that is here as a whole. Raises OSError, StoreFull."""
        if octets <= SMALL_OCTETS_MAX:
            room = bytearray(octets)
            for at, part in parts:
                room[at : at + len(part)] = part
            self._small[value] = room
            return
        on_disk = self.room.take(octets)
        try:
            if on_disk:
                self._files[value] = OpenFile(self.room.full(octets, parts), octets, True)
            else:
                made = self._warm.full(_name(value), octets, parts)
                self._files[value] = OpenFile(made.descriptor, octets, False, made=made)
        except BaseException:
            self.room.give_back(octets, on_disk=on_disk)
            raise

    def keep_room(self, value: ValueId, octets: int) -> None:
        """A value of this size is going to come in pieces. Raises OSError, StoreFull."""
        with self._lock:
            # A neighbour has just handed it over, and nobody waits for that any more.
            self._forget(value)
            if octets <= SMALL_OCTETS_MAX:
                self._small[value] = bytearray(octets)
            else:
                self._files[value] = self._make(value, octets)

    def take_over(self, value: ValueId, made: OpenFile | bytearray) -> None:
        """This has all of the value, in place of what there was under this name."""
        with self._lock:
            self._forget(value)
            if isinstance(made, OpenFile):
                self._files[value] = made
            else:
                self._small[value] = made

    def opened(self, descriptor: int, octets: int) -> OpenFile:
        """This file, which a worker has made, is ours from now on."""
        on_disk = not is_memory(descriptor)
        self.room.enter(octets, on_disk=on_disk)
        return OpenFile(descriptor, octets, on_disk)

    def drop(self, made: OpenFile | bytearray) -> None:
        """Nothing needs it."""
        if isinstance(made, OpenFile):
            self._close(made)

    def adopt(self, value: ValueId, descriptor: int, octets: int) -> bool:
        """This file, of another process, holds all of the value: keep it, and close it later. False, and it is
        closed at once: the value comes in pieces by now."""
        with self._lock:
            comes = value in self
            if comes:
                os.close(descriptor)
            else:
                on_disk = not is_memory(descriptor)
                self._files[value] = OpenFile(descriptor, octets, on_disk, shared=True)
        return not comes

    def write(self, value: ValueId, at: int, blob: bytes | memoryview) -> None:
        """A piece has come. Raises OSError when there is no memory for it."""
        small = self._small.get(value)
        if small is not None:
            small[at : at + len(blob)] = blob
        elif value in self._files:
            write(self._files[value].descriptor, at, blob)

    # ------------------------------------------------------------ out

    def read(self, value: ValueId, at: int, octets: int) -> bytes | memoryview:
        """A piece of it, which is whole; empty if it is not here."""
        small = self._small.get(value)
        if small is not None:
            return bytes(small[at : at + octets])
        found = self._files.get(value)
        return b"" if found is None else found.piece(at, octets)

    def descriptor(self, value: ValueId) -> int:
        """A descriptor of a file with all of it, which the caller closes. Raises KeyError, OSError."""
        small = self._small.get(value)
        if small is None:
            with self._lock:  # otherwise it may be closed, and its number another file's
                return self._files[value].for_another()
        descriptor = memory(_name(value), len(small))
        write(descriptor, 0, memoryview(small))
        return descriptor

    def open(self, value: ValueId, place: int | None) -> Any:
        """The value (one of several in it: `place`), which the caller may change. Raises KeyError, CannotLoad,
        ValueLost."""
        from stealmesh.values.parts import opened

        return opened(self.mapped(value, place))

    def mapped(self, value: ValueId, place: int | None) -> memoryview:
        """The same, not opened."""
        from stealmesh.values.parts import private

        descriptor = self.descriptor(value)
        try:
            return private(descriptor, self.octets(value), place)
        finally:
            os.close(descriptor)

    def given(self, value: ValueId) -> int:
        """The same for a worker. The value may have gone while the order that needs it waited for a process: then
        nothing needs what comes of the order, and its items find nothing in the place of the value."""
        try:
            return self.descriptor(value)
        except KeyError:
            self.missed += 1
            return os.memfd_create("stealmesh-value-gone", os.MFD_CLOEXEC)

    def octets(self, value: ValueId) -> int:
        """How many octets it has. Raises KeyError."""
        small = self._small.get(value)
        return self._files[value].octets if small is None else len(small)

    def forget(self, value: ValueId) -> None:
        with self._lock:
            self._forget(value)

    def _forget(self, value: ValueId) -> None:
        self._small.pop(value, None)
        found = self._files.pop(value, None)
        if found is not None:
            self._close(found)

    def close(self) -> None:
        for value in [*self._files, *self._small]:
            self.forget(value)
        self.keep_none_warm()

    def keep_none_warm(self) -> None:
        """Nothing looks after it any more: what its program forgets from now on goes at once."""
        self._warm.end()

    def tidy(self) -> None:
        """Now and then: give back memory that was kept for values which have not come."""
        if self._warm:
            self._warm.tidy(self._most_warm())

    def _most_warm(self) -> int:
        """What may lie here beside the values: less, where these have little room."""
        return self.room.left() // WARM_SHARE

    def counters(self) -> dict[str, int]:
        return {"values-gone-before-their-order": self.missed} if self.missed else {}

    def facts(self) -> dict[str, int]:
        """For `status`."""
        return {
            "memory_octets": self.room.memory,
            "disk_octets": self.room.disk,
            "spilled_octets": self.room.spilled,
        }

    # ------------------------------------------------------------ files

    def _make(self, value: ValueId, octets: int) -> OpenFile:
        on_disk = self.room.take(octets)
        try:
            descriptor = self.room.file(octets) if on_disk else memory(_name(value), octets)
        except BaseException:
            self.room.give_back(octets, on_disk=on_disk)
            raise
        return OpenFile(descriptor, octets, on_disk)

    def _close(self, file: OpenFile) -> None:
        if not file.shared:
            self.room.give_back(file.octets, on_disk=file.on_disk)
        if file.made is not None:
            self._warm.rest(file.made, self._most_warm())
        else:
            os.close(file.descriptor)


def _name(value: ValueId) -> str:
    """For a person who looks at what a process has open."""
    return f"stealmesh-value-{value[-8:].hex()}"


def is_memory(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        return False  # a file on disk has no seals
    return True
