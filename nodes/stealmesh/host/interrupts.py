"""Ctrl-C, kept out of code that must not end half-way.

A signal's handler runs in the main thread, between any two instructions, and Ctrl-C's raises. In the
middle of a decision of the core, or between a lock and its release, that would end the mesh with all
its work. So SIGINT is noted there, and given to the program's own handler right after. Refuses to know
what is protected.

A signal may also come and wake nobody: it arrives in another thread, or just before the main thread falls
asleep. Then Ctrl-C is seen when the wait ends, perhaps never. So the program's threads sleep for a second at
the most, and look (`WakefulCondition`).

Two more tools. `no_interrupts` protects a stretch of code: it replaces the handler, which costs about a
microsecond. `shared_condition` is for the lock of all futures. Python code enters an ordinary
condition, and a handler that raises there leaves it locked for ever; this one is entered in C, where
no handler runs. Handlers of other signals may raise, too: where a program has some, `no_interrupts`
tells the main thread to leave such work to another one.
"""

from __future__ import annotations

import _signal  # signal's own functions wrap each number in an enum: ten times as dear
import os
import signal
import threading
from types import FrameType

_OTHERS = (
    signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM,
    signal.SIGPROF,
)  # fmt: skip
"""Signals for which programs have handlers that may raise."""

AWAKE_SECONDS = 1.0
"""How late a signal is seen at the most that woke nobody. A program that waits looks once in this time."""

_main_thread = threading.main_thread().ident
"""Kept here, as asking `threading` each time would cost half as much as the rest."""


def _forked() -> None:
    """The thread that forks is the child's main thread."""
    global _main_thread
    _main_thread = threading.get_ident()


os.register_at_fork(after_in_child=_forked)


class no_interrupts:  # noqa: N801  a with statement reads it as a phrase
    """``with no_interrupts() as allowed:`` Ctrl-C waits until the end of the block.

    `allowed` is False where that cannot be had: in the main thread of a program with handlers for
    other signals. What is inside should then be left to another thread.
    """

    __slots__ = ("_before", "_noted")

    def __enter__(self) -> bool:
        self._before: object = None
        self._noted: list[FrameType | None] = []
        if threading.get_ident() != _main_thread:
            return True  # handlers only ever run in the main one
        if any(map(callable, map(_signal.getsignal, _OTHERS))):
            return False
        before = _signal.getsignal(signal.SIGINT)
        if callable(before):
            self._before = before
            _signal.signal(signal.SIGINT, self._note)
        return True

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append(frame)

    def __exit__(self, *raised: object) -> None:
        before = self._before
        if callable(before):
            _signal.signal(signal.SIGINT, before)
            if self._noted:
                before(signal.SIGINT, self._noted[0])


class WakefulCondition(threading.Condition):
    """A condition whose `wait` ends after a second at the latest, notified or not: a signal is looked for then.
    The caller asks again what it waits for, as after every wait."""

    wants_all = 0
    """How many threads want to hear of each future that is settled. Others hear of those that they wait for."""

    def wait_for_any(self, timeout: float | None = None) -> bool:
        """The same, until anything is settled."""
        self.wants_all += 1
        try:
            return self.wait(timeout)
        finally:
            self.wants_all -= 1

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(AWAKE_SECONDS if timeout is None else min(timeout, AWAKE_SECONDS))


def shared_condition() -> WakefulCondition:
    """A condition with a re-entrant lock that is entered and left without running Python code."""
    lock = threading.RLock()
    entered_in_c = {"__enter__": lock.__enter__, "__exit__": lock.__exit__}
    # A class of its own: `with` looks at the type, and a built-in method there is called as it is.
    made: WakefulCondition = type("SharedCondition", (WakefulCondition,), entered_in_c)(lock)
    return made
