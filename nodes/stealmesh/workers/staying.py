"""Results that stay on the node: a worker hands them over beside its answer, which has only their names.

Decides which results stay, by their size, and the values of Refs in a result (`lending.py`); and whether one lies in memory or on disk: an order says how much
room there is. Small ones go along in plain bytes, as a descriptor for each would use them up. Refuses to
know what becomes of them (`stealmesh/values/made.py`).

The descriptor goes first, as a packet, and the STAYS frame that speaks of it second: so a node that has read the
frame finds the packet.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stealmesh.workers import forked, wire
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.limits import REFS_ONLY

if TYPE_CHECKING:
    from stealmesh.values.warm import WarmFiles


class OrderThatKeeps(Protocol):
    """What an order says of results that stay (`outcome.ChunkOrder`)."""

    job: bytes
    stays_from: int
    memory: int
    directory: str


@dataclass(frozen=True, slots=True)
class PutsAway:
    """Puts away the results of one chunk, from the item `first` on."""

    number: int
    chunk: OrderThatKeeps
    first: int

    @property
    def least(self) -> int:
        """Octets of the smallest result that stays."""
        return self.chunk.stays_from

    def at(self, first: int) -> PutsAway:
        return self if first == self.first else PutsAway(self.number, self.chunk, first)

    def __call__(self, results: list[Any]) -> list[Any]:
        return HERE.put_away(self.number, self.chunk, self.first, results)


LOOKED_AT = 8
"""Of a chunk with more results nobody asks how large each is before they are packed together."""
Send = Callable[..., None]


class HandsOver:
    """Of one worker process."""

    def __init__(self) -> None:
        self.refs_are_made = False
        """A task of this process has made a Ref: results are looked through for such."""
        self.tidy: Callable[[], None] = lambda: None
        """Called behind the answer to an order, once a task here has made a Ref."""
        self.warm: WarmFiles | None = None
        """Files of results, for the next ones."""
        self._orders: socket.socket | None = None
        self._send: Send = lambda *words: None

    def settle_in(self, orders: socket.socket, send: Send) -> None:
        """`send(kind, pieces, before)`: sends a frame, and calls `before` first, with nothing in between."""
        self._orders, self._send = orders, send

    def put_away(
        self, number: int, chunk: OrderThatKeeps, first: int, results: list[Any]
    ) -> list[Any]:
        """The results of this chunk from the item `first` on, in the same list: names take the place of those that
        stay. One that cannot be packed travels, and fails there. Raises StoreFull."""
        forked.end_if_forked()
        from stealmesh.refs import Stayed
        from stealmesh.values.parts import packed
        from stealmesh_protocol.ids import value_of_item

        for offset, result in enumerate(results):
            if result is None:
                continue  # it may stand for an item that failed
            name = value_of_item(chunk.job, first + offset)
            try:
                if name and self.refs_are_made:
                    from stealmesh.workers.lending import lent

                    together, with_names = lent(name, result)
                    if together is not None:
                        self._hand_over(number, chunk, first + offset, together)
                        results[offset] = with_names
                        continue
                if not name or chunk.stays_from >= REFS_ONLY:
                    continue
                parts = packed(result)
            except CannotShip:
                continue
            if parts.octets < chunk.stays_from:
                continue
            self._hand_over(number, chunk, first + offset, parts)
            results[offset] = Stayed(name, parts.octets)
            del parts, result  # the process may have nothing else to do for long
        return results

    def _hand_over(self, number: int, chunk: OrderThatKeeps, item: int, parts: Any) -> None:
        from stealmesh.values.room import Room
        from stealmesh.values.shelf import SMALL_OCTETS_MAX
        from stealmesh.values.warm import WarmFiles

        head = wire.STAYS_HEAD.pack(number, item, parts.octets)
        if parts.octets <= SMALL_OCTETS_MAX:
            room = bytearray(parts.octets)
            for at, part in parts:
                room[at : at + len(part)] = part
            self._send(wire.FrameKind.STAYS, (head, bytes(room)), None)
            return
        if parts.octets > chunk.memory:
            descriptor = Room(directory=chunk.directory).full(parts.octets, parts)
            self._send_and_close(head, descriptor)
            return
        chunk.memory -= parts.octets
        if self.warm is None:
            self.warm = WarmFiles()
        file = self.warm.full("stealmesh-value-made", parts.octets, parts)
        try:
            self._send_and_close(head, file.reader())
        finally:
            self.warm.rest(file, chunk.memory)

    def _send_and_close(self, head: bytes, descriptor: int) -> None:
        orders = self._orders
        assert orders is not None, "a worker has settled in before it runs anything"
        before = lambda: socket.send_fds(orders, [head], [descriptor])  # noqa: E731
        try:
            self._send(wire.FrameKind.STAYS, (head,), before)
        finally:
            os.close(descriptor)


def is_heavy(results: Sequence[Any], least: int) -> bool:
    """Can one of a few results be seen to stay, without packing it? Or may there be Refs of tasks in them?"""
    if least <= 1:
        return True
    if HERE.refs_are_made:
        from stealmesh import refs

        if refs.in_hand():
            return True
    if least >= REFS_ONLY or len(results) > LOOKED_AT:
        return False
    for result in results:
        kind = type(result)
        if kind is bytes or kind is bytearray or kind is str:
            if len(result) >= least:
                return True
        elif hasattr(kind, "__array_interface__") and _octets_of(result) >= least:
            return True
    return False


def _octets_of(array: Any) -> int:
    """It may be the user's own kind of array. What it raises here, packing raises as well."""
    try:
        return int(array.nbytes)
    except BaseException as error:  # noqa: BLE001
        forked.end_if_forked(error)
        return 0


HERE = HandsOver()
