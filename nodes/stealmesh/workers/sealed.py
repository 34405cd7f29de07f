"""Items that are opened one by one, when the loop over them comes to each.

Decides nothing: it hands items over, or raises `CannotOpenItem` in place of an item that refuses to be
opened, and goes on behind it. Refuses to know what runs, and what becomes of failures. It opens no item
before its turn, so a neighbour neither fails nor waits for it, and what is not begun can still be taken
away (`__setstate__`, as list iterators have it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import Any

from stealmesh.workers import forked
from stealmesh.workers.stopping import FromOutside
from stealmesh_protocol import values
from stealmesh_protocol.errors import CannotLoad, MeshError
from stealmesh_protocol.values import Entry

HANDED_ON_OCTETS_MAX = 64 * 1024
"""A larger result ends the chunk: what needs it gets it as everything else does."""
_SAME_FOR_ALL = frozenset({type(None), bool, int, float})
"""Nothing that a task does with one of these is seen by another task."""


class CannotOpenItem(CannotLoad):
    """In place of an item: the task never saw it."""


class CannotOpenCarried(CannotOpenItem):
    """The item carries its function, which could not be opened: another machine may have what it needs."""


Explain = Callable[[MeshError], str]


class SealedItems:
    """A list of items; some (Entries) are still packed."""

    __slots__ = ("_explain", "_items")

    def __init__(self, items: list[Any], explain: Explain) -> None:
        self._items = items
        self._explain = explain

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, part: slice) -> SealedItems:
        return SealedItems(self._items[part], self._explain)

    def __iter__(self) -> Opening:
        return Opening(iter(self._items), self._explain)

    def open_all(self) -> tuple[list[Any], dict[int, CannotOpenItem]]:
        """The items that can be opened, in order, and why the others cannot, by their offset."""
        opened: list[Any] = []
        faults: dict[int, CannotOpenItem] = {}
        for offset, item in enumerate(self._items):
            try:
                opened += Opening(iter([item]), self._explain)
            except CannotOpenItem as fault:
                faults[offset] = fault
        return opened, faults


class Opening(Iterator[Any]):
    """An iterator, not a generator: it goes on after it has raised."""

    __slots__ = ("_explain", "_items")

    def __init__(self, items: Iterator[Any], explain: Explain) -> None:
        self._items = items
        self._explain = explain

    def __next__(self) -> Any:
        item = next(self._items)
        if type(item) is not Entry:
            return item
        try:
            return item.open()
        except MeshError as fault:
            raise CannotOpenItem(self._explain(fault)) from fault.__cause__

    def __length_hint__(self) -> int:
        return length_hint(self._items)

    def pass_over(self) -> None:
        """Go on behind the next item without opening it."""
        next(self._items, None)

    def __setstate__(self, place: int) -> None:
        self._items.__setstate__(place)  # type: ignore[attr-defined]


class HandedOn(SealedItems):
    """Items that need the result of the one before them, all but the first."""

    __slots__ = ("_octets_max", "results")

    def __init__(self, items: list[Any], explain: Explain, stays_from: int) -> None:
        super().__init__(items, explain)
        self.results: list[Any] = []
        """Of the items before the next one."""
        self._octets_max = min(HANDED_ON_OCTETS_MAX, stays_from // 2 or HANDED_ON_OCTETS_MAX)

    def __iter__(self) -> HandingOn:
        return HandingOn(self._items, self._explain, self.results, self._octets_max)


class HandingOn(Opening):
    """Opens each item together with a copy of the result before it, as if that had travelled.

    It ends before an item for which that does not work, for whatever reason. That item is given back: it runs
    alone, and there the reason is told.
    """

    __slots__ = ("_octets_max", "_results")

    def __init__(
        self, items: list[Any], explain: Explain, results: list[Any], octets_max: int
    ) -> None:
        super().__init__(iter(items), explain)
        self._results = results
        self._octets_max = octets_max

    def __next__(self) -> Any:
        if not self._results:
            return super().__next__()
        item = next(self._items)
        try:
            return item.open_behind(self._copied(self._results[-1]))
        except FromOutside:
            raise  # the program stops this item
        except BaseException as error:  # noqa: BLE001 - packing and opening run the user's code
            forked.end_if_forked(error)
            self.end()
            raise StopIteration from None

    def end(self) -> None:
        """No item begins any more."""
        self.__setstate__(sys.maxsize)

    def _copied(self, result: Any) -> Any:
        """Raises CannotShip, OverflowError, or what the user's code raises."""
        if type(result) in _SAME_FOR_ALL:
            return result
        codec, blob = values.pack(result)
        if len(blob) > self._octets_max:
            raise OverflowError("too large to be handed on")
        return values.unpack(codec, blob)
