"""The thread that writes the log: one fsync for all that waits, and never one in the node's loop.

A disk takes milliseconds, sometimes seconds, and the node's loop must not wait for it. So `perform`
only queues. The thread appends everything that has gathered during its last fsync, syncs all of it at
once (group commit), and reports the last ticket with `on_written`.

A full disk may have room again in a moment, and a failed fsync leaves it open what is on the disk. So
the thread writes what failed once more, as another file, for a few seconds. Until then it acknowledges
nothing; if it does not succeed the node ends, and others keep its jobs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from stealmesh.host.saying import say
from stealmesh.store.files import SystemFiles
from stealmesh.store.logfile import FILE, LogFile, OtherMesh
from stealmesh.store.records import NOBODY, NotALog
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_engine.events import Recall, Written

PATIENCE_SECONDS = 3.0
"""Less than a primary waits for a silent replica."""
AGAIN_SECONDS = 0.2


class LogUnusable(Exception):
    """There can be no log in this directory; says why and what to do."""


class LogInUse(LogUnusable):
    """Another process writes to this directory."""


class Log:
    """One directory, one process at a time. Raises LogUnusable."""

    def __init__(self, directory: Path, mesh: bytes = NOBODY) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        self._files = SystemFiles(directory)
        self._log = LogFile(self._files, os.urandom, mesh)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = self._log.open()
        except BlockingIOError:
            self._let_go()
            raise LogInUse(f"{directory} is in use by another node") from None
        except (NotALog, OtherMesh, OSError) as error:
            self._let_go()
            raise self._unusable(error) from None
        self.seat, self.records, self.lost = found.seat, found.records, found.lost
        if found.lost:
            say(
                f"the log in {directory} was damaged: {found.why}. Everything else in it "
                "is there; what it lost comes from the other replicas"
            )
        self.on_written: Callable[[Written], None] = lambda event: None
        """Called in the log's thread; set before the first write."""
        self.on_failure: Callable[[OSError], None] = lambda error: None
        """Called when the disk is full or broken. The log writes, and so acknowledges, nothing more."""
        self._queue: deque[Write | Rewrite] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="stealmesh-log", daemon=True)
        self._thread.start()

    def recall(self) -> Recall:
        """What was in the log, once."""
        records, self.records = self.records, []
        return Recall(self.seat, records, self.lost)

    def perform(self, effect: Write | Rewrite) -> None:
        """Queue it (from any thread)."""
        with self._wanted:
            self._queue.append(effect)
            self._wanted.notify()

    def close(self) -> None:
        """Write what is queued, then let go."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        self._thread.join()
        self._let_go()

    # ------------------------------------------------------------ inside

    def _let_go(self) -> None:
        self._files.close()
        os.close(self._lock)

    def _unusable(self, error: Exception) -> LogUnusable:
        why = f"cannot keep durable jobs in {self._directory}: {error}"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return LogUnusable(f"{why}; make room for another copy of {FILE}")
        if isinstance(error, OSError):
            return LogUnusable(f"{why}; let this user read and write there")
        return LogUnusable(
            f"{why}; move {FILE} away (what this node kept comes from the other replicas)"
        )

    def _run(self) -> None:
        while True:
            with self._wanted:
                while not self._queue and not self._closing:
                    self._wanted.wait()
                batch = list(self._queue)
                self._queue.clear()
            if not batch:
                return
            try:
                self._write(batch)
            except OSError as error:
                say(f"the log of durable jobs fails: {error}")
                self.on_failure(error)
                return
            self.on_written(Written(batch[-1].ticket))

    def _write(self, batch: list[Write | Rewrite]) -> None:
        """Write the batch. It is on the disk when this returns. Raises OSError."""
        try:
            self._log.write(batch)
        except OSError as error:
            until = time.monotonic() + PATIENCE_SECONDS
            say(f"the log in {self._directory}: {error}; trying again")
            while not self._again(batch, until):
                pass

    def _again(self, batch: list[Write | Rewrite], until: float) -> bool:
        """Try once more; raises once patience is over."""
        with self._wanted:
            self._wanted.wait_for(lambda: self._closing, AGAIN_SECONDS)
        try:
            self._log.again(batch)
        except OSError:
            if self._closing or time.monotonic() > until:
                raise
            return False
        return True
