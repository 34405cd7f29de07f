"""How an exception gets into one of the tasks that run side by side.

The node sends a question to the process's listener (`division.py`), which hands it to the loop. A coroutine is
cancelled, as asyncio does it. In a thread's task an exception is raised by the interpreter itself, between two
instructions; a thread that sleeps or waits in C gets it when it comes back. The node ends the process after a
grace if neither helps (`holding/stopped.py`), and the neighbours run again.

Decides whether what runs now is meant, and promises what stopping.py does: nothing is raised outside of the
user's code, nothing twice for one order, and nothing while the task's thread holds it back. Each thread has a
lock for that. Under it the exception is called for; under it the thread leaves the user's code, and calls off
what has not come. Refuses to know why a task is to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from collections.abc import Iterator

from stealmesh.workers import stopping
from stealmesh.workers.reporting_beside import Speaker, speaker_here

EARLY_SECONDS = 0.05
"""A question may come before its chunk has begun. It is looked at once more after that time."""


class Seat:
    """A thread that runs plain functions."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread = threading.get_ident()
        self.inside = False
        self.called_for = False
        """An exception is on its way, or has come."""
        self.heeded = False
        """It has come."""
        self.held_back = False

    def enter(self) -> None:
        with self.lock:
            self.inside, self.called_for, self.heeded = True, False, False

    def leave(self) -> None:
        with self.lock:
            self.inside = False
            if self.called_for:
                _call_off(self.thread)

    def call(self) -> None:
        """From another thread: stop the task that runs here."""
        with self.lock:
            if self.inside and not self.called_for:
                self.called_for = True
                if not self.held_back:
                    _call_for(self.thread)

    def hold_back(self) -> None:
        with self.lock:
            if self.called_for and not self.heeded:
                _call_off(self.thread)
            self.held_back = True

    def go_on(self) -> None:
        """Raises FromOutside, if it has been called for meanwhile."""
        with self.lock:
            self.held_back = False
            late = self.inside and self.called_for and not self.heeded
        if late:
            raise stopping.FromOutside


class StoppingBeside(stopping.Stopping):
    """What runs in this process, by chunk."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._seats = threading.local()
        super().__init__()
        self._loop = loop
        self._runs: dict[int, tuple[Speaker, Seat | None]] = {}

    def at_work(self) -> list[stopping.AtWork]:
        speakers = [speaker for speaker, _ in list(self._runs.values())]
        return [stopping.AtWork(s.number, s.item, s.thread, s.task) for s in speakers]

    # ------------------------------------------------------------ a task's thread

    def begins(self, speaker: Speaker) -> None:
        """The chunk begins in this thread, or in this asyncio task."""
        seat = None
        if speaker.task is None:
            seat = self._seat
            if seat is None:
                seat = self._seats.seat = Seat()
        self._runs[speaker.number] = (speaker, seat)

    def ends(self, speaker: Speaker) -> None:
        del self._runs[speaker.number]

    @property
    def _seat(self) -> Seat | None:
        """Of this thread; None: the loop's, or one that a task has made."""
        return self._seats.__dict__.get("seat")

    @property
    def inside(self) -> bool:
        seat = self._seat
        return seat is not None and seat.inside

    @inside.setter
    def inside(self, inside: bool) -> None:
        seat = self._seat
        if seat is None:
            return
        if inside:
            seat.enter()
        else:
            seat.leave()

    def has_stopped_it(self) -> bool:
        speaker = speaker_here()
        return speaker is not None and speaker.stopped == speaker.item

    def heeded(self) -> None:
        seat = self._seat
        if seat is not None:
            seat.heeded = True

    @contextlib.contextmanager
    def holds_back(self) -> Iterator[None]:
        seat = self._seat
        if seat is None:
            yield
            return
        seat.hold_back()
        try:
            yield
        finally:
            seat.go_on()

    # ------------------------------------------------------------ other threads

    def asked(self, number: int, lo: int, hi: int) -> None:
        """The node wants the items [lo, hi) of this chunk stopped."""
        self._loop.call_soon_threadsafe(self._stop, number, lo, hi, True)

    def _stop(self, number: int, lo: int, hi: int, early: bool) -> None:
        run = self._runs.get(number)
        if run is None:
            if early:
                self._loop.call_later(EARLY_SECONDS, self._stop, number, lo, hi, False)
            return
        speaker, seat = run
        if not lo <= speaker.item < hi:
            return
        if seat is not None:
            seat.call()
        elif speaker.task is not None:
            speaker.stopped = speaker.item
            speaker.task.cancel()


def _call_for(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(stopping.FromOutside)
    )


def _call_off(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
