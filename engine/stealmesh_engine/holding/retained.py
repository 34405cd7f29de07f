"""What a holder retains of durable jobs although their primaries hold it safely.

It retains results that it has computed, and inputs that it was given: an item that it gave away may be
lost with its primary. Decides what goes when there is no more room: what came first of the oldest job.
Refuses to know when it is needed, which is when all replicas of a job are lost at one instant
(`holder.py`, `durable/election.py`). What goes is no loss: the primary has it.

Idea: the checkpoints of its own work that every place keeps for its neighbours in X10's resilient
stores, turned round: a node that has done something is one more copy of it, at no cost but memory.
"""

from __future__ import annotations

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.config import Config
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Block, Part

ENTRY_OCTETS = 256
"""What an entry takes beside its blob."""

Item = tuple[Part | Block, bytes]
_Key = tuple[bool, int, int]


class Retained:
    """Results and inputs of durable jobs, by job, within `spare_octets_max`."""

    def __init__(self, config: Config, counters: Counters) -> None:
        self._config = config
        self._counters = counters
        self._jobs: dict[JobId, dict[_Key, Item]] = {}
        self.octets = 0

    def add(self, job: JobId, what: Part | Block, blob: bytes) -> None:
        """Retain this as well, and drop what there is no room for."""
        key = (isinstance(what, Part), what.lo, what.hi)
        self._remove(job, key)
        self._jobs.setdefault(job, {})[key] = (what, blob)
        self.octets += len(blob) + ENTRY_OCTETS
        while self.octets > self._config.spare_octets_max:
            oldest = next(iter(self._jobs))
            self._remove(oldest, next(iter(self._jobs[oldest])))
            self._counters.count("spares-dropped")

    def results(self, job: JobId) -> list[tuple[Part, bytes]]:
        return [(what, b) for what, b in self._of(job) if isinstance(what, Part)]

    def inputs(self, job: JobId) -> list[tuple[Block, bytes]]:
        return [(what, b) for what, b in self._of(job) if isinstance(what, Block)]

    def has(self, job: JobId) -> bool:
        return job in self._jobs

    def drop(self, job: JobId) -> None:
        """The job is over."""
        for key in list(self._jobs.get(job, ())):
            self._remove(job, key)

    def _of(self, job: JobId) -> list[Item]:
        return list(self._jobs.get(job, {}).values())

    def _remove(self, job: JobId, key: _Key) -> None:
        kept = self._jobs.get(job, {})
        item = kept.pop(key, None)
        if item is not None:
            self.octets -= len(item[1]) + ENTRY_OCTETS
            if not kept:
                del self._jobs[job]
