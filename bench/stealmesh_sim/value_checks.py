"""The watcher of values: a chunk runs where all that it needs is whole and right, and no copy is left over.

Refuses to know how copies travel: it looks at what is on the shelves of the processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from stealmesh_engine.effects import RunChunk
from stealmesh_protocol.ids import PeerId, ValueId, owner_of
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process


class ValueWorld(Protocol):
    """What is watched."""

    values: dict[ValueId, int]

    def living(self) -> Iterator[Process]: ...


class ValueChecks:
    def __init__(self, world: ValueWorld) -> None:
        self._world = world
        self.lost_by_name = False
        """Do items fail in this world because a value that they need is gone?"""
        self.needed = 0
        """How often a chunk that was handed out needed a value."""

    def runs(self, process: Process, effect: RunChunk) -> None:
        """A worker of this process is handed a chunk."""
        for value in needs_of(effect):
            self.needed += 1
            if not self.is_right(process, value):
                raise Breach("values", f"{process.name} runs without {value.hex()}")

    def is_right(self, process: Process, value: ValueId) -> bool:
        """Does this process have all of it?"""
        return process.shelf.is_right(value, self._world.values[value])

    def still_keeping(self, owner: PeerId) -> list[str]:
        """Who still has something of this owner's values: octets, a copy in the books, a fetch under way."""
        return [
            p.name
            for p in self._world.living()
            for known in (
                p.shelf.values,
                p.core.values.copies.fetches,
                p.core.values.copies.whole,
                p.core.values.copies.stored.made,
                p.core.values.results.recipes,
                p.core.values.directory.accounts,
            )
            if any(owner_of(value) == owner for value in known) or p.shelf.made
        ]


def needs_of(effect: RunChunk) -> list[ValueId]:
    """The values that a chunk is made of."""
    blocks = [b for b, _ in effect.blocks if b.lo < effect.hi and effect.lo < b.hi]
    return [*effect.spec.needs, *(value for block in blocks for value in block.needs)]
