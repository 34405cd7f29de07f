"""What a transport does later: actions by the time at which they are due."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Timers:
    __slots__ = ("_numbers", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        """(due, number, action), the soonest first."""
        self._numbers = count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heappush(self.heap, (due, next(self._numbers), action))

    def fire(self) -> None:
        """Do all that is due."""
        now = time.monotonic()
        while self.heap and self.heap[0][0] <= now:
            heappop(self.heap)[2]()
