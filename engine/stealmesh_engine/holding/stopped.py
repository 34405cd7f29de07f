"""Tasks that the program stops while they run: first an exception in the task, then the end of its worker.

Decides which chunks are concerned, what their workers are told, and when a worker has had time enough. The
items do not count any more, here and at their owner, before a worker hears of it; so whatever the task
makes of its exception, and no matter who dies meanwhile, nothing of it is delivered. Its neighbours in the chunk
are run again if the worker has to go. Refuses to know what becomes of a dead worker's chunk (answers.py)
and how an exception gets into a task (`nodes/stealmesh/workers/stopping.py`).

Idea: an interrupt, then a kill after a grace, as systemd ends its services.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from stealmesh_engine.base.intervals import IntervalSet

GRACE_SECONDS = 0.6
"""From the exception to the end of the worker. A task that closes its files needs some time; together with
the way there and back, a stopped task is gone within a second."""


@dataclass(slots=True)
class Stopped:
    """The stopped items of one chunk."""

    items: IntervalSet = field(default_factory=IntervalSet)
    _waiting: deque[tuple[float, int, int]] = field(default_factory=deque)
    """For which items its worker has time, and until when: the first first."""

    @property
    def until(self) -> float:
        """When a worker that still has the first of them has had its time; inf: there is none."""
        return self._waiting[0][0] if self._waiting else inf

    def add(self, lo: int, hi: int, now: float) -> None:
        self.items.add(lo, hi)
        self._waiting.append((now + GRACE_SECONDS, lo, hi))

    def around(self, item: int) -> tuple[int, int]:
        """The stopped items in a row with this one. A worker remembers one such row: a program that stops its
        tasks one after the other must not make it forget the one that runs."""
        return next((lo, hi) for lo, hi in self.items if lo <= item < hi)

    def ends_worker(self, now: float, lo: int, hi: int) -> bool:
        """Has the worker, which has [lo, hi) left, had its time for one of them? True once."""
        ends = False
        while now >= self.until:
            _, first, last = self._waiting.popleft()
            ends |= first < hi and lo < last
        return ends
