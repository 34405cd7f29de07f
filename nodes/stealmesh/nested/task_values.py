"""The values that tasks of this process have put on the mesh: `here().scatter`.

Such a value lies in this process, in memory without a name, until it leaves: as an argument of a child that goes
elsewhere it becomes a value of this worker's client (`away.py`); in a task's result it becomes the program's
(`workers/lending.py`). So a task that dies has put nothing on the mesh, and its second run begins with nothing.
Decides that, and the bound: what the order leaves for results in memory. Refuses to know who needs a value.
"""

from __future__ import annotations

import gc
import itertools
import os
from typing import Any

from stealmesh import refs
from stealmesh.refs import Grip, Ref
from stealmesh.values.room import MEMORY_SHARE, Room, memory_octets
from stealmesh.values.shelf import Shelf
from stealmesh.workers import staying
from stealmesh_protocol.ids import PEER_ID_OCTETS, ValueId, value_id


class TaskValues:
    """The home of the Refs that tasks of this process make."""

    is_a_tasks = True

    def __init__(self) -> None:
        self._me = os.urandom(PEER_ID_OCTETS)
        """Stands in names for an owner. No peer has it, so nothing can be asked for by such a name."""
        self._numbers = itertools.count(1)
        self._kept = 0
        """As many values had something here that kept them when a task was last over: a global, perhaps."""
        self.shelf = Shelf(Room(int(MEMORY_SHARE * memory_octets()) // (os.cpu_count() or 1)))

    def scatter(self, value: Any, order: staying.OrderThatKeeps | None) -> Ref[Any]:
        """Raises CannotShip, TypeError, StoreFull, OSError."""
        from stealmesh.values.parts import packed

        parts, needs = refs.noting(lambda: packed(value), leaves=lambda ref: ref)
        if needs:
            raise TypeError(
                "scatter: there is a Ref in this value, which would have to travel with it; scatter its parts, "
                "and pass the Refs side by side"
            )
        if order is not None and order.stays_from:
            self.shelf.room.bound(max(1, order.memory), order.directory)
        name = value_id(self._me, next(self._numbers))
        self.shelf.put(name, parts.octets, parts)
        staying.HERE.refs_are_made, staying.HERE.tidy = True, self.tidy
        return Ref(name, parts.octets, Grip(self, name, parts.octets, []))

    def tidy(self) -> None:
        """A task is over. Its Refs may be in a circle of garbage, with the traceback of its error for example: so
        what it has left is looked for, and only once."""
        if refs.in_hand() > self._kept:
            gc.collect()
        self._kept = refs.in_hand()

    def open(self, value: ValueId, place: int | None) -> Any:
        return self.shelf.open(value, place)

    def octets_of(self, value: ValueId, place: int | None) -> memoryview:
        return self.shelf.mapped(value, place)

    def released(self, value: ValueId) -> None:
        self.shelf.forget(value)

    def forget_recipe(self, value: ValueId) -> None:
        raise AssertionError("what a task has put on the mesh has no recipe")

    def ask(self, value: ValueId) -> None:
        raise AssertionError("it is here")

    def bring(self, value: ValueId, timeout: float | None) -> None:
        raise AssertionError("it is here")


HERE = TaskValues()
