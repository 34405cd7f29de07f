"""Items that are opened one by one, when the loop over them comes to each.

Decides nothing: it hands items over, or raises `CannotOpenItem` in place of an item that refuses to be
opened, and goes on behind it. Refuses to know what runs, and what becomes of failures. It opens no item
before its turn, so a neighbour neither fails nor waits for it, and what is not begun can still be taken
away (`__setstate__`, as list iterators have it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import length_hint
from typing import Any

from stealmesh_protocol.errors import CannotLoad, MeshError
from stealmesh_protocol.values import Entry


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
