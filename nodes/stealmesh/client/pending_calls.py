"""How many calls of a program are not over, and when a thread that submits has to wait.

Decides that beyond a bound `submit` waits until calls end, so that a program that is faster than its mesh does
not grow. Decides also who never waits: the mesh's own threads, in which callbacks and the inputs of jobs run. Calls
that wait for others may need just these threads to go on, and each callback that waited would cost a thread more.
Refuses to know what a call is. What waits on tasks' own behalf (`stealmesh.here()`) is not counted: their calls
would have to end for their own parents to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from stealmesh.host.interrupts import WakefulCondition

LOOKS_MAX = 1024
"""After this number of calls somebody counts how many are not over. A smaller bound is looked at more often."""
PATIENCE_SECONDS = 0.5
"""The longest that a thread sleeps between two counts. Each call that ends wakes it sooner."""
OURS = "stealmesh-"
"""How the names of the mesh's threads begin."""


class Waited(Protocol):
    """What ends the calls of a program."""

    condition: WakefulCondition
    failure: BaseException | None


class PendingCalls:
    """The calls of one program."""

    def __init__(
        self, link: Waited, most: int, pending: Callable[[], int], is_closed: Callable[[], bool]
    ) -> None:
        self._link = link
        self._most = most
        self._pending = pending
        self._is_closed = is_closed
        self._step = max(1, min(LOOKS_MAX, most // 8))
        self._left = 0
        """This many calls may come before somebody counts again. Threads count it down together, and may miss a few."""
        self.waiting = 0
        """Threads that wait."""

    def one_more(self) -> None:
        """Another call comes. Returns when there is room for it, or none is needed any more: then the caller hears why
        from what it calls next."""
        self._left -= 1
        if self._left < 0:
            self._look()

    def _look(self) -> None:
        """Is there room for as many as come before the next look?"""
        self._left = self._step
        if self._has_room() or threading.current_thread().name.startswith(OURS):
            return
        with self._link.condition:
            self.waiting += 1
            try:
                while not (self._has_room() or self._is_closed()):
                    self._link.condition.wait_for_any(PATIENCE_SECONDS)
            finally:
                self.waiting -= 1

    def _has_room(self) -> bool:
        return self._link.failure is not None or self._pending() + self._step <= self._most
