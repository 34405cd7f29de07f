"""Results that workers have handed over and whose chunks are not answered yet, or not judged.

Decides that what a worker made goes with it, unless its answer has come. Refuses to know which results stay:
the engine says of each, with its name, that it is kept, or without one, that it goes.
"""

from __future__ import annotations

import os
import socket

from stealmesh.values.descriptors import received
from stealmesh.values.shelf import OpenFile, Shelf
from stealmesh.workers.wire import STAYS_HEAD
from stealmesh_engine.effects import KeepMade

Made = dict[int, OpenFile | bytearray]
"""Of one chunk: by items."""


class MadeResults:
    """Of one node."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._made: dict[int, Made] = {}
        """By chunks: not answered."""
        self._judged: dict[int, Made] = {}
        """Answered; the engine says what becomes of them."""

    def came(self, payload: memoryview, orders: socket.socket) -> None:
        """A worker hands a result over; a descriptor of it has come the way that orders go. Raises ValueError,
        OSError."""
        chunk, item, octets = STAYS_HEAD.unpack_from(payload)
        small = payload[STAYS_HEAD.size :]
        made: OpenFile | bytearray
        if small:
            made = bytearray(small)
        else:
            made = self._shelf.opened(_descriptor(orders, bytes(payload), octets), octets)
        self._forget(self._made, chunk, item)  # it was packed twice
        self._made.setdefault(chunk, {})[item] = made

    def answered(self, chunk: int, upto: int) -> tuple[tuple[int, int], ...]:
        """The worker has answered for the chunk's items below `upto`. Returns those that stay, with octets."""
        if chunk not in self._made:
            return ()
        stays = []
        for item in sorted(each for each in self._made[chunk] if each < upto):
            made = _pop(self._made, chunk, item)
            self._judged.setdefault(chunk, {})[item] = made
            stays.append((item, made.octets if isinstance(made, OpenFile) else len(made)))
        return tuple(stays)

    def keep(self, effect: KeepMade) -> None:
        """The engine has judged it."""
        if not effect.value:
            self._forget(self._judged, effect.chunk, effect.item)
        else:
            self._shelf.take_over(effect.value, _pop(self._judged, effect.chunk, effect.item))

    def lost(self, chunk: int) -> None:
        """The worker has died in the midst of this chunk."""
        for item in list(self._made.get(chunk, ())):
            self._forget(self._made, chunk, item)

    def _forget(self, where: dict[int, Made], chunk: int, item: int) -> None:
        if item in where.get(chunk, ()):
            self._shelf.drop(_pop(where, chunk, item))

    def close(self) -> None:
        for where in (self._made, self._judged):
            for chunk in list(where):
                for item in list(where[chunk]):
                    self._forget(where, chunk, item)


def _pop(where: dict[int, Made], chunk: int, item: int) -> OpenFile | bytearray:
    made = where[chunk]
    found = made.pop(item)
    if not made:
        del where[chunk]
    return found


def _descriptor(orders: socket.socket, head: bytes, octets: int) -> int:
    packet, descriptors = received(orders, STAYS_HEAD.size, 1, socket.MSG_DONTWAIT)
    for extra in descriptors[1:]:
        os.close(extra)
    if not descriptors or packet != head or os.fstat(descriptors[0]).st_size != octets:
        for descriptor in descriptors[:1]:
            os.close(descriptor)
        raise ValueError("a result was to come as an open file, and something else came")
    return descriptors[0]
