"""The threads in which the program's own code runs on the mesh's behalf: callbacks, combiners.

Decides when one more thread is needed. One is enough while it makes progress, so callbacks run one
after another, as they do under the standard library's pools. When a callback blocks for
`STUCK_SECONDS`, another thread takes the work behind it: a callback may sleep, wait for other results
or ask for the status, and delays only itself.

Refuses to know what it runs. Exceptions are logged where the standard library logs them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from stealmesh.host.interrupts import WakefulCondition

LOGGER = logging.getLogger("concurrent.futures")

STUCK_SECONDS = 0.02
"""How long work may wait behind a callback that does not return. A shorter time starts more threads for
callbacks that merely compute; a longer time delays the work behind a stuck one."""

Work = Callable[[], object]


class UserThreads:
    """Runs work in order, in one thread or, while that is stuck, in several.

    One thread without work waits for the next. Another one, the guard, waits until work has waited too
    long. All other threads end when they have no work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        self._guard_needed = threading.Condition(self._lock)
        self._quiet = WakefulCondition(self._lock)
        self._queue: deque[Work] = deque()
        self._begun = 0
        """How many works were ever taken from the queue: does not grow while all threads are stuck."""
        self._working: set[int] = set()
        """Threads, by ident, that run some work at this moment."""
        self._ending: set[int] = set()
        """Those of them that wait until the others are done. They do not wait for each other."""
        self._waiting = 0
        self._starting = 0
        self._guarding = False
        self._ended = False
        self._no_threads = False
        """No thread can be started any more: a thread that waits does the rest."""

    def run(self, *works: Work) -> None:
        """Have each called soon, in this order."""
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
        """Sleep until all other work is done; False after `timeout` seconds.

        Does not wait for the work that this thread runs itself, nor for threads that wait here as well:
        two callbacks may both shut the mesh down.
        """
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
        """Do the queued work in this thread if no other can be started (the interpreter is ending)."""
        with self._lock:
            while self._do_one():
                pass

    def _do_one(self) -> bool:
        """Run one queued item. Called with the lock held; releases it while the item runs."""
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
        """Let threads end when the queue is empty. Queued work is still done."""
        with self._lock:
            self._ended = True
            self._work_came.notify_all()
            self._guard_needed.notify_all()

    # ------------------------------------------------------------ the threads

    def _start(self) -> None:
        """Start one more thread that serves. Called with the lock held."""
        self._starting += 1
        if not self._start_thread(self._serve):
            self._starting -= 1
            self._no_threads = True
            self._quiet.notify_all()

    def _start_thread(self, target: Callable[[], None]) -> bool:
        thread = threading.Thread(target=target, name="stealmesh-callbacks", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or the system has no more threads
            return False
        return True

    def _serve(self) -> None:
        me = threading.get_ident()
        with self._lock:
            self._starting -= 1
        while (work := self._next(me)) is not None:
            _call(work)
            del work  # its objects end here, in this thread
            with self._lock:
                self._working.discard(me)
                self._quiet.notify_all()

    def _next(self, me: int) -> Work | None:
        """Wait for the next work; None if this thread is not needed any more."""
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
        """Have the guard watch for work behind a stuck callback. Called with the lock held."""
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
    """Work that belongs together: done one after another, in any of the threads."""

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
