"""Workers that stand in for those that wait.

A task that waits for a child elsewhere holds its worker and needs no core. Then one more worker of this node
works, for as long as that lasts, so that all cores have something to do. Decides when one starts, rests and
ends; there are at most as many as ordinary workers. Refuses to know what they run (`dispatcher.py`), and why
nothing stands still without them: a child that no worker has begun comes back to who waits for it.

Idea: compensation threads of Java's fork/join pool (Lea).
"""

from __future__ import annotations

from math import inf

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Relieve
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.links.links import Links

REST_SECONDS = 10.0
"""One that has had nothing to do for so long ends. Longer: more memory; shorter: more forks."""
AGAIN_SECONDS = 1.0
"""After one that failed to start, or died."""


class Relief:
    """Their numbers begin at twice that of the ordinary workers, as these may have two processes each."""

    def __init__(self, context: Context, links: Links, slots: Slots) -> None:
        self._links = links
        self._effects = context.effects
        self._slots = slots
        self._starting: set[int] = set()
        self._working: set[int] = set()
        self._resting: dict[int, float] = {}
        """Since when; infinite: since a moment ago."""
        self._not_before = 0.0
        self._needed = False
        """A task waits, or there is one of us."""

    def task_waits(self, worker: int, number: int, *, waits: bool) -> None:
        chunk = self._slots.running_chunk(worker, number)
        if chunk is not None:
            chunk.waits = waits
            self._needed = True

    def ready(self, worker: int) -> None:
        """One of ours can take work."""
        self._starting.discard(worker)
        self._resting[worker] = inf
        self._needed = True

    def lost(self, worker: int, now: float) -> None:
        ours = worker in self._starting or worker in self._working or worker in self._resting
        if not ours:
            return
        self._starting.discard(worker)
        self._working.discard(worker)
        self._resting.pop(worker, None)
        self._not_before = now + AGAIN_SECONDS

    def tend(self, now: float) -> None:
        """As many work as tasks wait."""
        if not self._needed:
            return
        waiting = sum(1 for chunk in self._slots.running() if chunk.waits and not chunk.void)
        wanted = min(waiting, self._own)
        missing = wanted - len(self._working)
        for _ in range(missing):
            self._begin_one(now)
        if missing < 0:
            self._rest(-missing, now)
        for worker, since in list(self._resting.items()):
            if since == inf:
                self._resting[worker] = now
            elif now - since >= REST_SECONDS:
                del self._resting[worker]
                self._effects.append(Relieve(worker, False))
        self._needed = bool(waiting or self._working or self._starting or self._resting)

    # ------------------------------------------------------------ inside

    @property
    def _own(self) -> int:
        """How many ordinary workers there are."""
        return self._links.view.me.workers

    def _begin_one(self, now: float) -> None:
        if self._resting:
            worker, _ = self._resting.popitem()
            self._working.add(worker)
            self._slots.ready(worker)
            self._slots.relief.add(worker)
        elif now >= self._not_before and not self._starting:
            free = (n for n in range(2 * self._own, 3 * self._own) if n not in self._working)
            self._starting.add(worker := next(free))
            self._effects.append(Relieve(worker, True))

    def _rest(self, count: int, now: float) -> None:
        """Those that have nothing to do. One that has works on to its end."""
        for worker in sorted(self._working)[::-1]:
            if count and self._slots.dismiss(worker):
                count -= 1
                self._working.discard(worker)
                self._resting[worker] = now
