"""Which values the work of a node needs, asked when its store is full.

Decides that an item needs its values from when it is here until its chunk is over. Refuses to know how large
the store is, and what goes from it (`data`).
"""

from __future__ import annotations

from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.held_job import HeldJobs
from stealmesh_engine.holding.slots import Slots
from stealmesh_protocol.ids import ValueId


class NeededHere:
    def __init__(self, jobs: HeldJobs, slots: Slots, dispatcher: Dispatcher) -> None:
        self._jobs = jobs
        self._slots = slots
        self._dispatcher = dispatcher

    def in_use(self) -> set[ValueId]:
        found: set[ValueId] = set()
        for job, held in self._jobs.items():
            parts = [(part.lo, part.hi) for part in held.bags.untouched_parts()]
            parts += [(chunk.lo, chunk.hi) for chunk in self._slots.chunks_of(job)]
            if parts or held.bags.queued_items:
                found.update(held.spec.needs)
                found |= held.bags.needed_by(parts)
        return found

    def will_end(self) -> bool:
        return any(
            (held.spec.needs or held.bags.waits)
            and (job in self._dispatcher.stock or any(self._slots.chunks_of(job)))
            for job, held in self._jobs.items()
        )

    def is_idle(self) -> bool:
        return not self._slots or self._dispatcher.room() > 0
