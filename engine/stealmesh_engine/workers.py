"""A node's picture of its worker processes: who is idle, who runs what, what waits behind it.

Decides nothing. Refuses to know jobs and leases beyond the chunk that it hands in and out.
A worker holds at most two chunks: one that it runs and one queued behind it, so that it
never waits for its node. The queued one can be taken back as long as it is unread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from stealmesh_protocol.ids import JobId, LeaseId

PATROL_SECONDS = 0.05
"""How long a worker may be busy with something else before what waits for it counts as waiting."""
OVERRUN_FACTOR = 4.0


@dataclass(slots=True)
class Chunk:
    """What a worker was handed: items [lo, hi) of a lease (explore: a whole bag)."""

    number: int
    job: JobId
    lid: LeaseId
    lo: int
    hi: int
    worker: int
    started: float
    """When it went to the worker or, if it had to queue, when the one before it ended."""
    expected_seconds: float | None
    explore: bool = False
    timeout_at: float | None = None
    timed_out: bool = False
    void: bool = False
    """Its lease is gone: whatever comes of it is dropped."""
    awaited: bool = False
    """Its owner wants to hear that it runs, should it take long, and has not heard so yet."""

    @property
    def tell_at(self) -> float:
        """When its owner is to hear that it runs; else never."""
        return self.started + PATROL_SECONDS if self.awaited and not self.void else inf

    def is_overdue(self, now: float) -> bool:
        """Has it run much longer than was expected?"""
        limit = max(OVERRUN_FACTOR * (self.expected_seconds or 0.0), PATROL_SECONDS)
        return now - self.started > limit

    @property
    def long_at(self) -> float:
        """When an item of a job of which none had ended before it turns out to be long; else never."""
        uncharted = self.expected_seconds is None and not (self.explore or self.void)
        return self.started + PATROL_SECONDS if uncharted else inf

    def ends_soon(self, now: float) -> bool:
        """As far as anybody can say."""
        ends = self.started + (self.expected_seconds or 0.0)
        return not self.is_overdue(now) and ends <= now + PATROL_SECONDS


@dataclass(slots=True)
class Slot:
    """One worker."""

    worker: int
    running: Chunk | None = None
    queued: Chunk | None = None
    sharing: bool = False
    """It has been asked to give up part of its explore bag and has not done so yet."""
    retracting: bool = False


@dataclass(slots=True)
class Slots:
    """All workers that are ready, by number."""

    by_worker: dict[int, Slot] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.by_worker)

    def ready(self, worker: int) -> Slot:
        slot = Slot(worker)
        self.by_worker[worker] = slot
        return slot

    def lost(self, worker: int) -> Slot | None:
        return self.by_worker.pop(worker, None)

    def idle(self) -> list[Slot]:
        return [slot for slot in self.by_worker.values() if slot.running is None]

    def running(self) -> list[Chunk]:
        return [slot.running for slot in self.by_worker.values() if slot.running is not None]

    def chunks(self) -> list[Chunk]:
        """Everything that is with workers."""
        return [
            chunk
            for slot in self.by_worker.values()
            for chunk in (slot.running, slot.queued)
            if chunk is not None
        ]

    def soon_free(self, now: float) -> bool:
        """Is one of them free, or about to be?"""
        return any(
            slot.running is None or slot.running.ends_soon(now) for slot in self.by_worker.values()
        )

    def finished(self, slot: Slot, number: int, now: float) -> Chunk | None:
        """The worker is done with its running chunk; the queued one runs now."""
        chunk = slot.running
        if chunk is None or chunk.number != number:
            return None
        slot.running, slot.queued = slot.queued, None
        if slot.running is not None:
            slot.running.started = now
        slot.sharing = False
        return chunk
