"""The part of a driver that a program's own threads carry out when a hired worker has their call: order and answer.

The thread that submits tells the core and sends the order; the thread that waits sleeps on the worker's socket, and tells
the core the answer. So no other thread wakes up for such a call. Decides when a thread may do so, and when the loop has
to. Refuses to know what a call is.

Both hold the driver's turn while they tell the core anything, as the loop does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from stealmesh.host.hired import HiredWays, Way
from stealmesh.host.interrupts import no_interrupts
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import Event
from stealmesh_protocol.ids import JobId

ATTENDS_SECONDS = 0.02
"""A thread that sleeps on a hired worker's answer looks so often whether its call is over without one."""


class AttendsHired:
    """What it needs of its driver (`driver.py`)."""

    core: NodeCore
    program: Any
    hired: HiredWays
    _turn: threading.Lock
    _posted: deque[Event]
    _unheard: list[Event]
    _awake: bool
    _torn: BaseException | None
    _sleeps_until: float

    def wake(self) -> None:
        raise NotImplementedError

    def _wake_if_due(self) -> None:
        """After a step in another thread: the loop sleeps on, unless there is something to do before it wakes up."""
        due = self.core.next_deadline()
        if self._unheard or (due is not None and due < self._sleeps_until):
            self.wake()

    def _step(self) -> list[Effect]:
        raise NotImplementedError

    def _perform(self, events: list[Event]) -> list[Effect]:
        raise NotImplementedError

    def _tell(self, effects: list[Effect]) -> None:
        raise NotImplementedError

    def hand(self, job: JobId, feed: Callable[[], Event | None]) -> bool:
        """Tell the core of a single call that a hired worker may take, here and now. False: nothing was done. The
        shortest way: no thread but this one wakes up, and nothing else is looked at."""
        way = self.hired.by_job.get(job)
        if way is None or way.item >= 0 or way.closed:
            return False
        with no_interrupts() as allowed:
            if not allowed or self._awake or not self._turn.acquire(blocking=False):
                return False
            try:
                if (
                    self._unheard
                    or self._posted
                    or self._torn is not None
                    or self.program.has_wishes()
                ):
                    return False
                event = feed()
                if event is None:
                    return False
                self._tell(self._perform([event]))
            except BaseException as error:
                self._torn = error
                self.wake()
                raise
            finally:
                self._turn.release()
            self._wake_if_due()
        return True

    def attend(self, job: JobId, item: int, is_over: Callable[[], bool], until: float) -> None:
        """Sleep until a hired worker answers for this item, if it is with one, and take the answer ourselves.

        It returns sooner if another thread attends, if the item goes another way, if `is_over`, or if it is time.
        Called by a thread of the program's, which then waits as for any other item."""
        way = self.hired.by_job.get(job)
        if way is None or way.item != item or way.attended:
            return
        way.attended = True
        try:
            self.hired.unwatch(way)
            while way.item == item and not is_over():
                left = until - time.monotonic()
                if left <= 0:
                    return
                if way.sleeper.poll(1000.0 * min(left, ATTENDS_SECONDS)) and not self._hear_answer(
                    way
                ):
                    return
        finally:
            way.attended = False
            if way.item >= 0:
                self.hired.watch(way)

    def _hear_answer(self, way: Way) -> bool:
        """False: the loop is to hear it."""
        with no_interrupts() as allowed:
            if not allowed:
                return False
            with self._turn:
                try:
                    if self._unheard or self._posted or self._torn is not None:
                        self._unheard += self.hired.look(way)
                        self._tell(self._step())
                    else:
                        self._tell(self._perform(self.hired.look(way)))
                except BaseException as error:
                    self._torn = error
                    self.wake()
                    raise
            self._wake_if_due()
        return True
