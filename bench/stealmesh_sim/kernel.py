"""The kernel of a virtual world: one clock, and a heap of what is going to happen.

Decides the order of events: by time, then arrivals before timers, then as they were planned. So a
world is a function of its seed. Refuses to know what happens. After FoundationDB's simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

from stealmesh_sim.breach import Breach as Breach

ARRIVALS, TIMERS = 0, 1
"""At one moment what arrives comes before the timers."""
STANDSTILL_ACTIONS = 100_000
"""More actions than this at one moment are an endless loop."""


class Clock(Protocol):
    """The part of the kernel that everything in a world uses."""

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""

    def at(
        self, when: float, action: Callable[..., None], *args: Any, priority: int = ARRIVALS
    ) -> None:
        """Plan an action for the moment `when`."""

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Plan an action for `seconds` from now."""


class Kernel:
    """One heap, one clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._standing = 0
        """Actions so far at this moment."""

    def at(
        self, when: float, action: Callable[..., None], *args: Any, priority: int = ARRIVALS
    ) -> None:
        self._planned += 1
        heappush(self._heap, (when, priority, self._planned, action, args))

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self._planned += 1
        heappush(self._heap, (self.now + seconds, ARRIVALS, self._planned, action, args))

    def run(self, until: float, *, unless: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then. Returns True, early, once `unless` holds (asked now and then)."""
        heap = self._heap
        asked = 0
        while heap and heap[0][0] <= until:
            self.step()
            asked += 1
            if unless is not None and asked % 16 == 0 and unless():
                return True
        if unless is not None and unless():
            return True
        self.now = max(self.now, until)
        return False

    def step(self) -> bool:
        """Perform the next action; False if there is none."""
        if not self._heap:
            return False
        when, _, _, action, args = heappop(self._heap)
        if when > self.now:
            self.now = when
            self._standing = 0
        self._standing += 1
        if self._standing > STANDSTILL_ACTIONS:
            raise Breach("load", f"time stands still at {self.now:.6f} for {args}")
        action(*args)
        return True
