"""Results that workers here have made and that stay.

Decides what becomes of each: kept under its name if it is reported, and gone if nobody will hear of it.
Refuses to know where the octets are (the host) and whether a result counts (its owner).
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.values import Values
from stealmesh_engine.effects import KeepMade
from stealmesh_engine.events import ChunkDone, ChunkPart
from stealmesh_protocol.ids import JobId, value_of_item
from stealmesh_protocol.messages import Part


class MadeHere:
    def __init__(self, context: Context, values: Values) -> None:
        self._effects = context.effects
        self._values = values

    def drop(self, event: ChunkDone | ChunkPart) -> None:
        """Nobody wants to hear of it."""
        self._drop(event.chunk, event.stays)

    def keep(self, job: JobId, chunk: int, part: Part, now: float) -> None:
        """The part is going to be reported."""
        for item, octets in part.stays:
            value = value_of_item(job, item)
            self._effects.append(KeepMade(chunk, item, value))
            self._values.copies.make(value, octets, part.lid, now)

    def unsaid(self, job: JobId, parts: list[Part]) -> None:
        """The job is over before these were reported."""
        for part in parts:
            for item, _ in part.stays:
                self._values.copies.unmake(value_of_item(job, item))

    def _drop(self, chunk: int, stays: tuple[tuple[int, int], ...]) -> None:
        for item, _ in stays:
            self._effects.append(KeepMade(chunk, item))
