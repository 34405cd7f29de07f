"""The threads in which the program's own code runs on the mesh's behalf: callbacks, combiners.

Decides when one more thread is needed. One is enough as long as it gets on, so callbacks run one
after another, as they do under the standard library's pools. Work that waits behind a callback
that has blocked for `STUCK_SECONDS` is given to another thread: a callback may sleep, wait for other
results or ask for the status, and only itself is late by it.

Refuses to know what it runs. Whatever that raises is logged where the standard library logs it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

LOGGER = logging.getLogger("concurrent.futures")

STUCK_SECONDS = 0.02
"""How long work may wait behind a callback that does not return. Shorter: more threads for callbacks
that merely compute; longer: others are late by so much."""

Work = Callable[[], object]


class UserThreads:
    """Runs work in order, in one thread or, where that is stuck, in several.

    Of the threads that have nothing to do one waits for work and one, the guard, for the moment at
    which work has waited too long. All others end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        self._guard_needed = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._queue: deque[Work] = deque()
        self._begun = 0
        """How much work was ever taken from the queue: stands still while everybody is stuck."""
        self._working: set[int] = set()
        """Threads, by ident, in the middle of something."""
        self._ending: set[int] = set()
        """Those of them that wait until the others are done: they do not wait for each other."""
        self._waiting = 0
        self._starting = 0
        self._guarding = False
        self._ended = False
        self._no_threads = False
        """None can be started any more: who waits does the rest."""

    def run(self, *works: Work) -> None:
        """Have each called, in this order, soon."""
        self.run_all(works)

    def run_all(self, works: Iterable[Work]) -> None:
        with self._lock:
            self._queue.extend(works)
            if self._waiting:
                self._work_came.notify()
            elif not self._working and not self._starting:
                self._start()
            if self._working:
                self._call_guard()

    def wait_until_quiet(self, timeout: float | None = None) -> bool:
        """Sleep until all is done, but for what this very thread is in the middle of, and what waits
        here as well: two callbacks may both shut the mesh down."""
        until = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        with self._lock:
            is_callback = me in self._working and me not in self._ending
            if is_callback:
                self._ending.add(me)
                self._quiet.notify_all()
            try:
                while self._queue or self._others(me):
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    if not self._do_one():
                        self._quiet.wait(left)
            finally:
                if is_callback:
                    self._ending.discard(me)
        return True

    def _others(self, me: int) -> set[int]:
        return self._working - self._ending if me in self._ending else self._working

    def do_abandoned_work(self) -> None:
        """No thread can be started any more (the interpreter is on its way out): who waits does it."""
        with self._lock:
            while self._do_one():
                pass

    def _do_one(self) -> bool:
        """The same, of one piece of work (holding the lock, but not meanwhile)."""
        if not (self._queue and self._no_threads) or self._waiting:
            return False
        work = self._queue.popleft()
        self._lock.release()
        try:
            _call(work)
            del work
        finally:
            self._lock.acquire()
        return True

    def end(self) -> None:
        """What is queued is still done; threads without work go."""
        with self._lock:
            self._ended = True
            self._work_came.notify_all()
            self._guard_needed.notify_all()

    # ------------------------------------------------------------ the threads

    def _start(self) -> None:
        """One more that serves (holding the lock)."""
        self._starting += 1
        if not self._start_thread(self._serve):
            self._starting -= 1
            self._no_threads = True
            self._quiet.notify_all()

    def _start_thread(self, target: Callable[[], None]) -> bool:
        thread = threading.Thread(target=target, name="stealmesh-callbacks", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is on its way out, or the system has no more
            return False
        return True

    def _serve(self) -> None:
        me = threading.get_ident()
        with self._lock:
            self._starting -= 1
        while (work := self._next(me)) is not None:
            _call(work)
            del work  # what it held on to ends here, in this thread
            with self._lock:
                self._working.discard(me)
                self._quiet.notify_all()

    def _next(self, me: int) -> Work | None:
        """The next work; None when this thread is one too many."""
        with self._lock:
            while not self._queue:
                if self._waiting or self._ended:
                    return None
                self._waiting += 1
                self._work_came.wait()
                self._waiting -= 1
            self._begun += 1
            self._working.add(me)
            if len(self._queue) > 1:
                self._call_guard()
            return self._queue.popleft()

    def _call_guard(self) -> None:
        """Work may come to wait behind somebody who is stuck: have that watched (holding the lock)."""
        if self._guarding:
            self._guard_needed.notify()
        else:
            self._guarding = self._start_thread(self._guard)

    def _guard(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    if self._ended:
                        self._guarding = False
                        return
                    self._guard_needed.wait()
                begun = self._begun
            time.sleep(STUCK_SECONDS)
            with self._lock:
                if self._queue and self._begun == begun and not self._waiting:
                    self._start()


def _call(work: Work) -> None:
    try:
        work()
    except BaseException:
        LOGGER.exception("exception in a thread that runs the program's own code")


class Strand:
    """Work that belongs together: done one after another, whichever thread does it."""

    def __init__(self, threads: UserThreads) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._queue: deque[Work] = deque()
        self._running = False

    def put(self, work: Work) -> None:
        with self._lock:
            self._queue.append(work)
            if self._running:
                return
            self._running = True
        self._threads.run(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running = False
                    return
                work = self._queue.popleft()
            _call(work)
            del work
