"""The thread that writes the log: one fsync for all that waits, and never one in the node's loop.

A disk takes milliseconds, sometimes seconds; the node's heart must not wait for it. So `write`
and `rewrite` only queue, the thread appends everything that has gathered while it slept in
fsync, makes sure of all of it at once (group commit) and reports the last ticket through a
descriptor that the loop watches. A log that is written anew appears whole or not at all: it is
made under another name, made sure of, then renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from stealmesh.store.records import SEAT_OCTETS, framed, opening, read
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_engine.events import Recall, Written
from stealmesh_protocol.messages import Keep

FILE = "durable.log"


class LogInUse(Exception):
    """Another process writes to this directory."""


class Log:
    """One directory, one process at a time. Raises LogInUse, OSError, NotALog."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._path = directory / FILE
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LogInUse(f"{directory} is in use by another node") from None
        self.seat, self.records = self._open()
        self.on_written: Callable[[Written], None] = lambda event: None
        """Called in the log's thread; set before the first write."""
        self.on_failure: Callable[[OSError], None] = lambda error: None
        """The disk is full or broken: nothing more is written (and so nothing acknowledged)."""
        self._queue: deque[Write | Rewrite] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="stealmesh-log", daemon=True)
        self._thread.start()

    def recall(self) -> Recall:
        """What was in the log, once."""
        records, self.records = self.records, []
        return Recall(self.seat, records)

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
        os.close(self._file)
        os.close(self._lock)

    # ------------------------------------------------------------ inside

    def _open(self) -> tuple[bytes, list[Keep]]:
        """Read the log, cut off what a crash left half-written, and open it for appending."""
        octets = self._path.read_bytes() if self._path.exists() else b""
        seat, records, good = read(octets)
        if not seat:
            seat = os.urandom(SEAT_OCTETS)
            self._replace([], seat)
        else:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if good < len(octets):
                os.ftruncate(self._file, good)
                os.fsync(self._file)
        return seat, records

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
                print(f"stealmesh: the log of durable jobs fails: {error}", file=sys.stderr)
                self.on_failure(error)
                return
            self.on_written(Written(batch[-1].ticket))

    def _write(self, batch: list[Write | Rewrite]) -> None:
        """Everything in order, then one fsync."""
        pending: list[bytes] = []
        for effect in batch:
            if isinstance(effect, Write):
                pending.append(framed(effect.record))
            else:
                pending.clear()  # the records of a rewrite have what was joined before it
                self._replace(effect.records, self.seat)
        if pending:
            _write_all(self._file, b"".join(pending))
            os.fdatasync(self._file)

    def _replace(self, records: list[Keep], seat: bytes) -> None:
        """A log of these records takes the place of the one that is there."""
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, opening(seat))
            for record in records:
                _write_all(file, framed(record))
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(fresh, self._path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        with contextlib.suppress(AttributeError):
            os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _write_all(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]
