"""`report(done, total)` where tasks run side by side: each speaks for its own item.

Decides whose word it is. A context variable says which chunk speaks: asyncio hands the context of a task on to
the tasks and threads (`asyncio.to_thread`) that it makes. A thread that a task starts by itself has no context
before Python 3.14, and is not heard. Refuses to know what words are for; they share the stream with results,
and go out under the listener's lock, as in `reporting.py`.

A hundred tasks may speak at once. So a process has room for a hundred words at once, and for some dozens a
second after that; of each chunk it keeps the latest word until there is room. The last word of a task that
falls silent goes out, too.
"""

from __future__ import annotations

import _thread
import asyncio
import time
from collections.abc import Callable, Sized
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from stealmesh.workers import stopping, wire
from stealmesh.workers.reporting import PAUSE_SECONDS, Here

WORDS_AT_ONCE = 128.0
WORDS_A_SECOND = 64.0

Word = tuple[int, int, float, float]


class Speaker:
    """One chunk that runs."""

    __slots__ = ("lo", "number", "over", "results", "said", "stopped", "task", "thread")

    def __init__(self, number: int, lo: int) -> None:
        self.number = number
        self.lo = lo
        self.results: Sized = ()
        """As many as items before the one that runs."""
        self.over = False
        self.stopped: int | None = None
        """The item that the program has stopped last (stopping_beside.py)."""
        self.said = 0.0
        """When a word of it last went out."""
        self.thread = _thread.get_ident()
        self.task = _current_task()

    @property
    def item(self) -> int:
        """The one that runs."""
        return self.lo + len(self.results)

    @property
    def is_me(self) -> bool:
        """Does the chunk's own thread, or asyncio task, ask this?"""
        return _thread.get_ident() == self.thread and _current_task() is self.task


_SPEAKER: ContextVar[Speaker | None] = ContextVar("_SPEAKER", default=None)
_ITEM: ContextVar[tuple[int, int] | None] = ContextVar("_ITEM", default=None)
"""Of what a task has made: the chunk and the item for which it first spoke. It may outlive that item."""


class HereBeside(Here):
    """What this process runs side by side, and what the tasks say of it."""

    __slots__ = ("_at", "_left", "_words")

    def __init__(self, lock: Any, send: Callable[..., None]) -> None:
        super().__init__()
        self.settle_in(lock, send)
        self._words: dict[int, Word] = {}
        """By chunk: its latest word, while there is no room for it."""
        self._left = WORDS_AT_ONCE
        """The room there was `_at` that time."""
        self._at = perf_counter()

    def begins(self, number: int, lo: int) -> Speaker:
        """A chunk begins in this thread, or in this asyncio task."""
        speaker = Speaker(number, lo)
        _SPEAKER.set(speaker)
        return speaker

    @property
    def results(self) -> Sized:
        speaker = _SPEAKER.get()
        return () if speaker is None else speaker.results

    @results.setter
    def results(self, results: Sized) -> None:
        speaker = _SPEAKER.get()
        if speaker is not None:
            speaker.results = results

    def voice(self) -> tuple[int, int] | None:
        speaker = _SPEAKER.get()
        if speaker is None:
            return None
        results = speaker.results
        return speaker.number, -1 if type(results) is tuple else speaker.lo + len(results)

    def forget(self) -> None:
        super().forget()
        self._send, self._words = None, {}

    def tell(self, done: float, total: float) -> None:
        speaker = _SPEAKER.get()
        if speaker is None:
            return
        with stopping.NOW.holds_back(), self._lock:
            if speaker.over or self._send is None:
                return  # the task is over, and what it made is still there; or this is a forked child
            word = (speaker.number, speaker.lo + len(speaker.results), done, total)
            if not _is_of_item(speaker, word[:2]):
                return
            now = perf_counter()
            earlier = self._words.pop(speaker.number, None)
            if earlier is not None and earlier[1] != word[1] and self._has_room_now(now):
                self._say(earlier, now)
            if now >= speaker.said + PAUSE_SECONDS and self._has_room_now(now):
                speaker.said = now
                self._say(word, now)
            else:
                self._words[speaker.number] = word
                self._have_said_later()

    def ends(self, speaker: Speaker) -> None:
        """The chunk is over: say its last word, before its results."""
        with self._lock:
            speaker.over = True
            word = self._words.pop(speaker.number, None) if self._words else None
            if word is not None and self._has_room_now(perf_counter()):
                self._say(word, self._at)

    # ------------------------------------------------------------ with the lock held

    def _has_room_now(self, now: float) -> bool:
        self._left = min(WORDS_AT_ONCE, self._left + (now - self._at) * WORDS_A_SECOND)
        self._at = now
        return self._left >= 1.0

    def _say(self, word: Word, now: float) -> None:
        self._left -= 1.0
        assert self._send is not None, "it has settled in"
        self._send(wire.FrameKind.TOLD, wire.WORD.pack(*word))

    # ------------------------------------------------------------ the second thread

    def _say_later(self) -> None:
        while True:
            self._wake.acquire()
            while self._words:
                time.sleep(PAUSE_SECONDS)
                with self._lock:
                    if not self._say_what_has_room():
                        return

    def _say_what_has_room(self) -> bool:
        """False: the node is gone."""
        now = perf_counter()
        while self._words and self._has_room_now(now):
            number = next(iter(self._words))
            try:
                self._say(self._words.pop(number), now)
            except OSError:
                return False
        return True


def speaker_here() -> Speaker | None:
    """The chunk that runs in this context."""
    return _SPEAKER.get()


def _is_of_item(speaker: Speaker, item: tuple[int, int]) -> bool:
    if speaker.is_me:
        return True
    first = _ITEM.get()
    if first is None:
        _ITEM.set(item)
        return True
    return first == item


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # no loop runs in this thread
