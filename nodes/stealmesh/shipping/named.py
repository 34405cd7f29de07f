"""Functions and classes that values refer to by name: will the name do, and what has to come with it?

An argument may hold a function of one of the program's modules, or an object of its classes. Workers
import the module, but what they import may not be what the program has now: then pieces go along.
Decides that for each value that is pickled, so it remembers what it found for as long as nothing changes.
Refuses to know how pieces are made (packing.py).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stealmesh.shipping.change_watch import ChangeWatch
from stealmesh.shipping.open_ends import handed_over
from stealmesh.shipping.opening import Piece
from stealmesh.shipping.packing import Pickler, dumps, pieces_for, with_pieces
from stealmesh.shipping.reach import Reach, functions_in, is_watched, walk, walk_all
from stealmesh_protocol import whole

KNOWN_MAX = 4096


@dataclass(slots=True)
class _Known:
    """A function or class of one of the program's modules."""

    value: weakref.ref[Any]
    pieces: tuple[Piece, ...]
    watch: ChangeWatch


class WorkersSender(whole.Sender):
    """The sender of a worker. It sends names only, as the program has the definitions."""

    def dumps(self, value: Any) -> bytes:
        return dumps(value)

    def pickler(self) -> Any:
        return Pickler

    def own_way(self, value: Any) -> Any:
        return handed_over(value)


class ProgramsSender(WorkersSender):
    """In the program."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def beside(self, named: Any) -> Sequence[Any] | None:
        module = named.__module__
        if module == "__main__":
            return None
        if not isinstance(module, str) or not is_watched(module) or "<" in named.__qualname__:
            return ()  # pickle itself refuses what is inside of a function
        known = self._known.get(id(named))
        if known is not None and known.value() is named and known.watch.holds():
            return known.pieces
        reach = Reach()
        if isinstance(named, type):
            walk(named, reach)
        else:
            walk_all(functions_in(named), reach)
        pieces = pieces_for(reach)
        reach.watch.close()
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[id(named)] = _Known(weakref.ref(named), pieces, reach.watch)
        return pieces

    def joined(self, beside: Sequence[Any], blob: bytes) -> bytes:
        return with_pieces(tuple(beside), blob)
