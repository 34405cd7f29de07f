"""`report(done, total)`: a task says how far it is.

Decides how often its node hears of it: a few times a second, and the last word always, also if the task then
falls silent. Which item speaks follows from the number of results that the loop has, so a task that says
nothing costs nothing, and any thread of the task may speak. Refuses to know who wants to hear it.

Words share the stream with results. So a word goes out under the listener's lock (division.py), and none
goes out once the loop has taken the chunk's number away: the loop first takes it, then looks whether somebody
`spoke`; a task's thread first says that it speaks, then looks at the number. One of the two sees the other
(Dekker), and the loop needs no lock for a chunk that says nothing.
"""

from __future__ import annotations

import _thread
import math
import signal
import time
from collections.abc import Callable, Sized
from time import perf_counter
from typing import Any

from stealmesh.workers import stopping, wire
from stealmesh.workers.present import PRESENT

PAUSE_SECONDS = 0.25
"""Between two words about one item."""
WORDS_AT_ONCE = 8.0
"""Short items speak once each: after this number of words their worker has to wait, too."""
WORDS_A_SECOND = 4.0

Send = Callable[..., None]


class Here:
    """What this worker runs now, and what its task says of it."""

    __slots__ = ("_lock", "_loop", "_pending", "_room", "_said", "_send", "_threads", "_told", "_wake",
                 "lo", "number", "results", "spoke")  # fmt: skip

    def __init__(self) -> None:
        self.number: int | None = None
        """Of the chunk; None: no task runs, or one that has no item of its own (an explore bag)."""
        self.lo = 0
        self.results: Sized = ()
        """The loop's results so far: as many as items before this one."""
        self.spoke = False
        """Something has been said since the chunk began."""
        self._lock: Any = _thread.allocate_lock()
        self._send: Send | None = None
        self._loop = 0
        """The thread that runs tasks."""
        self._threads: Any = _thread._local()
        """Of every other thread that has spoken: the chunk and the item for which it first did."""
        self._pending: tuple[int, int, float, float] | None = None
        self._told: tuple[int, int] | None = None
        """The chunk and the item of the last word that went out."""
        self._said = 0.0
        """When it did."""
        self._room = WORDS_AT_ONCE
        self._wake: Any = None

    def settle_in(self, lock: Any, send: Send) -> None:
        """Words go out by `send`, under this lock."""
        self._lock, self._send, self._loop = lock, send, _thread.get_ident()

    def voice(self) -> tuple[int, int] | None:
        """The chunk and the item that run in this context (printing.py); -1: no single one of its items."""
        number, results = self.number, self.results
        if number is None:
            return None
        return number, -1 if type(results) is tuple else self.lo + len(results)

    def forget(self) -> None:
        """In a forked child: it is not the task, and says nothing."""
        self.number, self._lock = None, _thread.allocate_lock()

    def tell(self, done: float, total: float) -> None:
        """In any thread of the task."""
        number = self.number
        if number is None:
            return
        self.spoke = True
        if _thread.get_ident() != self._loop:
            self._tell(number, done, total)
            return
        with stopping.NOW.holds_back():  # half a word would spoil the stream
            self._tell(number, done, total)

    def _tell(self, number: int, done: float, total: float) -> None:
        with self._lock:
            if self.number != number:
                return  # the task is over, and this thread is still there
            word = (number, self.lo + len(self.results), done, total)
            if not self._is_of_item(word[:2]):
                return
            now = perf_counter()
            if self._pending is not None and self._pending[1] != word[1]:
                self._say_pending(now)
            if self._has_room(word, now):
                self._pending = None
                self._say(word, now)
            else:
                self._pending = word
                self._have_said_later()

    def say(self, number: int, kind: wire.FrameKind) -> None:
        """Something about this chunk, unless it is over. In any thread of the task."""
        self.spoke = True
        with self._lock:
            if self.number == number and self._send is not None:
                self._send(kind, wire.CHUNK.pack(number))

    def close(self) -> None:
        """The chunk is over (its number is gone): say the last word, before its results."""
        with self._lock:
            self._say_pending(perf_counter())
            self.spoke = False

    # ------------------------------------------------------------ with the lock held

    def _is_of_item(self, item: tuple[int, int]) -> bool:
        """Does this thread belong to the item that runs? A thread that a task has started belongs to the
        item for which it first spoke, and may outlive it."""
        if _thread.get_ident() == self._loop:
            return True
        first: tuple[int, int] = self._threads.__dict__.setdefault("item", item)
        return first == item

    def _has_room(self, word: tuple[int, int, float, float], now: float) -> bool:
        if word[:2] == self._told and now - self._said < PAUSE_SECONDS:
            return False
        return self._room + (now - self._said) * WORDS_A_SECOND >= 1.0

    def _say_pending(self, now: float) -> None:
        word, self._pending = self._pending, None
        if word is not None and self._room + (now - self._said) * WORDS_A_SECOND >= 1.0:
            self._say(word, now)

    def _say(self, word: tuple[int, int, float, float], now: float) -> None:
        room = min(WORDS_AT_ONCE, self._room + (now - self._said) * WORDS_A_SECOND)
        self._room, self._said, self._told = room - 1.0, now, word[:2]
        assert self._send is not None, "a worker has settled in before it runs anything"
        self._send(wire.FrameKind.TOLD, wire.WORD.pack(*word))

    def _have_said_later(self) -> None:
        """A second thread says it in a moment, should the task say nothing more."""
        if self._wake is None:
            self._wake = _thread.allocate_lock()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                _thread.start_new_thread(self._say_later, ())
            except RuntimeError:
                return  # no thread to be had: the next word, or the end of the item, says it
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        elif self._wake.locked():
            self._wake.release()

    # ------------------------------------------------------------ the second thread

    def _say_later(self) -> None:
        while True:
            self._wake.acquire()
            time.sleep(PAUSE_SECONDS)
            with self._lock:
                if self._pending is None or self._pending[0] != self.number:
                    continue  # the chunk's end has said it
                try:
                    self._say_pending(perf_counter())
                except OSError:
                    return  # the node is gone


HERE = Here()


def report(done: float, total: float | None = None) -> None:
    """In a task: say how far it is, as in `stealmesh.report(3, 10)`.

    Bars, `Job.progress()`, `status` and the callback of `options(report=…)` show it. Call it as often as
    you like: a few words a second travel, and the last one always. Any thread of the task may call it.
    Outside of a task, and in a `visit` of `explore`, it does nothing, so a function that reports also
    runs without a mesh. Raises TypeError and ValueError for what is not a number from 0 on.
    """
    word = _number("done", done), -1.0 if total is None else _number("total", total)
    one = PRESENT.get()
    if one is None or one.mesh is None or not one.mesh.hears(*word):
        HERE.tell(*word)


def _number(name: str, value: Any) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a number, not {value!r:.40}")
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise TypeError(f"{name} must be a number, not a {type(value).__qualname__}") from None
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be a number from 0 on, not {number}")
    return number
