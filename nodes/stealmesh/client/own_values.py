"""The values that a program has put on the mesh: `scatter`, and their end.

Decides the names of values, and that their octets stay with the program as the first copy. Refuses to know
what needs a value (`needs.py`, `refs.py`) and where other copies are (the engine).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

from stealmesh import refs
from stealmesh.refs import Grip, Ref
from stealmesh.values.room import Room
from stealmesh.values.shelf import Shelf
from stealmesh_engine.events import Event, KeepValue, ReleaseValue
from stealmesh_protocol.ids import PeerId, ValueId, value_id


class OwnValues:
    """The home of a program's values."""

    def __init__(self, me: PeerId, post: Callable[..., None], room: Room | None = None) -> None:
        self.shelf = Shelf(room)
        self._me = me
        self._post = post
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._closed = False
        self.on_first: Callable[[], None] = lambda: None
        """Called before a value is told of: neighbours may ask for it."""

    def scatter(self, value: Any) -> Ref[Any]:
        """Put the value on the mesh. Raises CannotShip, StoreFull, OSError."""
        from stealmesh.values.parts import packed

        parts, needs = refs.noting(lambda: packed(value))
        name = value_id(self._me, next(self._numbers))
        self.shelf.put(name, parts.octets, parts)
        grip = Grip(self, name, parts.octets, refs.grips_of(needs))
        self.on_first()
        self.tell(KeepValue(name, parts.octets))
        return Ref(name, parts.octets, grip)

    def tell(self, event: Event) -> None:
        self._post(event)

    def open(self, value: ValueId) -> Any:
        from stealmesh.values.parts import mapped

        descriptor = self.shelf.descriptor(value)
        try:
            return mapped(descriptor, self.shelf.octets(value))
        finally:
            os.close(descriptor)

    def released(self, value: ValueId) -> None:
        if os.getpid() != self._pid:
            return  # a forked copy of the program: the values are its parent's
        if self._closed:
            self.shelf.forget(value)
        else:
            self.tell(ReleaseValue(value))

    def close(self) -> None:
        """The driver has ended. What the program still has a Ref of stays with it."""
        self._closed = True


def gathered(value: Any, timeout: float | None = None) -> Any:
    """The same, with the results of futures and the values of Refs in their places. Looks into lists, tuples,
    sets and dicts, at any depth. Raises what a future raises, ValueLost, TimeoutError."""
    from stealmesh.futures import Future

    if isinstance(value, Ref):
        return value.result()
    if isinstance(value, Future):
        return gathered(value.result(timeout), timeout)
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind([gathered(each, timeout) for each in value])
    if kind is dict:
        return {key: gathered(each, timeout) for key, each in value.items()}
    return value
