"""Where a virtual process keeps the octets of values, and what is known of every value in a world.

Does what a host does: makes room, writes and reads pieces, and forgets. Decides nothing. Every value's octets
follow from its name, so a checker knows of each copy whether it is right.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any, Protocol

from stealmesh_engine.effects import (
    Adopt,
    ForgetValue,
    KeepMade,
    KeepRoom,
    ReadPiece,
    WritePiece,
)
from stealmesh_engine.events import Adopted, Event, NoRoom, PieceRead
from stealmesh_protocol.ids import PeerId, ValueId, item_of

READ_SECONDS = 0.0001
OCTETS_MAX = 1 << 28
"""What fits on any virtual host. A liar may say that a value has more."""
_MAKING = Struct(">QQ")
"""Of the process, of the chunk."""


class ShelfWorld(Protocol):
    """What a shelf needs of its world."""

    def shelf_of(self, peer: PeerId) -> VirtualShelf | None:
        """That of a process that lives, and runs."""

    def after(self, seconds: float, action: Any, *arguments: Any) -> None: ...


class ShelfHost(Protocol):
    """A process as its shelf sees it."""

    alive: bool

    @property
    def world(self) -> ShelfWorld: ...

    def hear(self, event: Event) -> None: ...


@lru_cache(maxsize=64)
def content(value: ValueId, octets: int) -> bytes:
    """The octets of a value, all of them different from any other's."""
    return (value * (octets // len(value) + 1))[:octets]


class VirtualShelf:
    """The octets of values that one process has."""

    def __init__(self, process: ShelfHost) -> None:
        self._process = process
        self.values: dict[ValueId, bytearray] = {}
        self.sent = 0
        """Octets that were read for other processes."""
        self.octets_max = 0
        """What fits on its memory and disk; 0: everything."""
        self.adopted = 0
        """Values that a neighbour handed over."""
        self.made: dict[tuple[int, int], bytearray] = {}
        """Results that workers have handed over: by chunk and item, until the core has said what becomes of them."""

    def put(self, value: ValueId, octets: int) -> None:
        """The program of this process makes a value."""
        self.values[value] = bytearray(content(value, octets))

    def make(self, chunk: int, item: int, value: ValueId, octets: int, maker: int) -> None:
        """A worker makes a result. No other making has the same octets."""
        self.made[chunk, item] = bytearray(content(value + _MAKING.pack(maker, chunk), octets))

    def keep_made(self, effect: KeepMade) -> None:
        made = self.made.pop((effect.chunk, effect.item))
        if effect.value:
            self.values[effect.value] = made

    def is_right(self, value: ValueId, octets: int) -> bool:
        """Is all of it here, and (of a result) of one making?"""
        there = self.values.get(value, b"")
        if item_of(value) is not None:
            maker = bytes(there[len(value) : len(value) + _MAKING.size])
            return len(there) == octets and there.startswith(content(value + maker, octets))
        return len(there) == octets and there.startswith(content(value, octets))  # without a copy

    def keep_room(self, effect: KeepRoom) -> None:
        most = self.octets_max or OCTETS_MAX
        if effect.octets + sum(map(len, self.values.values())) > most:
            self._process.hear(NoRoom(effect.value, "the disk is full"))
            return
        self.values[effect.value] = bytearray(effect.octets)

    def adopt(self, effect: Adopt) -> None:
        self._process.world.after(READ_SECONDS, self._adopt, effect)

    def _adopt(self, effect: Adopt) -> None:
        neighbour = self._process.world.shelf_of(effect.peer)
        there = None if neighbour is None else neighbour.values.get(effect.value)
        comes = effect.value in self.values  # in pieces, by now
        whole = there is not None and not comes and self._process.alive
        if whole and there is not None:
            self.values[effect.value] = bytearray(there)
            self.adopted += 1
        self._process.hear(Adopted(effect.value, effect.peer, whole))

    def write(self, effect: WritePiece) -> None:
        self.values[effect.value][effect.at : effect.at + len(effect.blob)] = effect.blob

    def read(self, effect: ReadPiece) -> None:
        self._process.world.after(READ_SECONDS, self._read, effect)

    def _read(self, effect: ReadPiece) -> None:
        there = self.values.get(effect.value, b"")
        blob = bytes(there[effect.at : effect.at + effect.octets])
        self.sent += len(blob)
        self._process.hear(PieceRead(effect.value, effect.at, blob, effect.peer))

    def forget(self, effect: ForgetValue) -> None:
        self.values.pop(effect.value, None)
