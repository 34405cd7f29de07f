"""What a worker answers while it is busy: how far its chunk is, and what it gives back of it.

A chunk is cut by what items have cost before, and it may turn out dear: then its node asks. The loop
over the items cannot look up for that. Between two cheap items a look at one shared word takes a
third of their time, and inside a dear one there is no loop to look. So a second thread listens. It
sleeps in the kernel until there is a question, and answers it beside the task that runs.

What it gives back was never begun and never will be. Both threads share the iterator that the loop
takes its items from. The listener first empties that iterator, in one C call, and only then counts
the results: with k of them the loop is at item k, or about to end without it, so k stays here.
An item behind k was not begun before the count, or there would be more than k results; and none is
begun after it, because the iterator is empty. (A loop that takes its items in several goes shows the
next iterator before it asks whether it may go on; the listener forbids that before it looks at the
iterator. So either the loop stops, or the listener empties what it goes on with.) The loop's own last
word says how far it came, so that the node also learns of an item that was kept and not begun.

Each result is told once. The listener speaks only while it holds the lock and the loop has not
ended, and the loop ends under the same lock. User values are packed outside of it, so that a task
and the packing of its neighbours' results never wait for each other.

It refuses to know why the node asks, and runs no task. Partials of a reduction need the user's
`combine`, so they are left to the loop: of a reduction the listener tells only what is not begun.

Ideas: the order "first lower the end, then look" is Dijkstra's; the private end of a deque that
a thief may lower comes from the THE protocol of Cilk-5 (Frigo, Leiserson, Randall).
"""

from __future__ import annotations

import _thread
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from msgspec.structs import replace

from stealmesh.workers import wire
from stealmesh.workers.staying import PutsAway, is_heavy
from stealmesh_protocol import limits, values
from stealmesh_protocol.values import Failure


class Failed(Protocol):
    """What has failed of a chunk so far (failures.Failures)."""

    records: list[Failure]
    lacking: bool


QUESTION_OCTETS_MAX = 8192


@dataclass(slots=True)
class ChunkRun:
    """A chunk that runs in the loop now."""

    number: int
    first: int
    """The job's index of its first item; all other positions count from there."""
    in_parts: bool
    """Results may travel before the end of the chunk."""
    results: list[Any]
    failures: Failed
    """Complete for all items that have a result."""
    since: float
    """The clock when the last part was told."""
    kept: int
    """Items from here on were given back."""
    away: PutsAway | None = None
    """Puts away results that stay here."""
    told: int = 0
    """Items before this one have been reported."""
    held: int | None = None
    """The item with this number has submitted tasks (nested/family.py): they are over when it is None again."""
    source: Iterator[Any] = field(default_factory=lambda: iter(()))
    closed: bool = False
    over: bool = False

    def goes_on(self, source: Iterator[Any]) -> bool:
        """The loop is about to take items from `source`. True: it may."""
        self.source = source
        return not self.closed

    def give_back(self) -> int:
        """Begin no item but the one that may be running. Returns where the rest starts."""
        if len(self.results) + 1 >= self.kept:
            return self.kept  # there is no rest
        self.closed = True
        if not _emptied(self.source):
            return self.kept  # we could not say that it was not begun
        return min(len(self.results) + 1, self.kept)


def _emptied(source: Iterator[Any]) -> bool:
    """Empties the iterators of lists and ranges: `__setstate__`, which unpickling uses, moves them to the
    end. False for any other iterator."""
    try:
        source.__setstate__(sys.maxsize)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, OverflowError):
        return False
    return True


class Listener:
    """Answers the node's questions about the chunk that runs."""

    def __init__(self, questions: socket.socket, send: Callable[..., None]) -> None:
        self._questions = questions
        self._send = send
        self._lock = _thread.allocate_lock()
        self._runs: dict[int, ChunkRun] = {}
        """By number: one, or those that run side by side."""
        self._listens = False
        self._thread = False
        self._stops: Callable[[int, int, int], None] | None = None
        """Where tasks run side by side: what to do with an order to stop some."""
        self.give_child: Callable[[int, bytes], None] = lambda number, door: None
        """Hears that a child of this chunk's task is wanted (`nesting.py`), in our thread."""
        self.take_door: Callable[[bytes], None] = lambda door: None
        """Hears the way into the mesh (`nesting.py`), in our thread."""
        self.tell_stacks: Callable[[int], None] = lambda ticket: None
        """Tells what this process is at (`stacks.py`), in our thread."""
        self.end_hire: Callable[[int], None] = lambda number: None
        """Hears that the node wants a hired worker back (`hired.py`), in our thread."""
        self.node_gone: Callable[[], None] = lambda: None
        """Called in our thread."""
        self.listens: Callable[[], None] = lambda: None
        """Called when the thread is there."""

    # ------------------------------------------------------------ the loop's thread

    def begins(
        self,
        number: int,
        first: int,
        in_parts: bool,
        away: PutsAway | None,
        count: int,
        results: list[Any],
        failures: Failed,
        now: float,
    ) -> ChunkRun:
        run = ChunkRun(number, first, in_parts, results, failures, now, count, away)
        self.listen()
        self._runs[number] = run
        return run

    def ends(self, run: ChunkRun) -> None:
        """From here on only the loop speaks of this chunk."""
        with self._lock:
            run.over = True
            self._runs.pop(run.number, None)

    @property
    def lock(self) -> Any:
        """Held while anything but the loop writes on the stream."""
        return self._lock

    def tells(
        self, run: ChunkRun, told: int, upto: int, codec: int, blob: bytes, failed: int
    ) -> bool:
        """The loop speaks before the end: of the items from `told` to `upto`. False: they have been told
        meanwhile, at least in part."""
        with self._lock:
            if run.told != told:
                return False
            now = perf_counter()
            seconds, run.since = now - run.since, now
            head = wire.RESULT_HEAD.pack(
                run.number, codec, failed, seconds, run.first + upto, run.first + run.kept
            )
            run.told = upto
            self._send(wire.FrameKind.PART, head, blob)
            return True

    def forget(self) -> None:
        """In a forked child: the listener is not here, and may have held the lock."""
        self._lock = _thread.allocate_lock()
        self._runs = {}
        self._listens = True

    def hears_stops(self, stops: Callable[[int, int, int], None]) -> None:
        """From now on it hears what is to stop, too. Where one task runs at a time, a signal says it."""
        self._stops = stops
        self.listen()

    @property
    def is_there(self) -> bool:
        """Is there a thread that reads questions?"""
        return self._thread

    def listen(self) -> None:
        """Start the thread late: a worker with single items only never needs it. Signals are for the loop's
        thread."""
        if self._listens:
            return
        self._listens = True
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            _thread.start_new_thread(self._listen, ())
            self._thread = True
            self.listens()
        except RuntimeError:
            pass  # no thread to be had: chunks are not divided here
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # ------------------------------------------------------------ the listening thread

    def _listen(self) -> None:
        while True:
            try:
                packet = self._questions.recv(QUESTION_OCTETS_MAX)
            except OSError:
                self.node_gone()
                return
            if len(packet) == wire.STOP.size and self._stops is not None:
                self._stops(*wire.STOP.unpack(packet))
                continue
            if len(packet) < wire.QUESTION.size:
                self.node_gone()
                return
            number, asked = wire.QUESTION.unpack_from(packet)
            if asked == wire.GIVE_CHILD:
                self.give_child(number, packet[wire.QUESTION.size :])
                continue
            if asked == wire.TAKE_DOOR:
                self.take_door(packet[wire.QUESTION.size :])
                continue
            if asked == wire.END_HIRE:
                try:
                    self.end_hire(number)
                except OSError:
                    return
                continue
            if asked == wire.TELL_STACKS:
                try:
                    self.tell_stacks(number)
                except OSError:
                    return
                continue
            run = self._runs.get(number)
            if run is not None:
                try:
                    self._answer(run, give=asked == wire.GIVE_BACK)
                except OSError:
                    return
                del run  # it has results, and the next question may be long in coming

    def _answer(self, run: ChunkRun, *, give: bool) -> None:
        kept = run.give_back() if give else run.kept
        told = run.told
        part = _packed(run, told) if run.in_parts else None
        upto, codec, blob, failed = part or (told, values.PLAIN, b"", 0)
        if upto == told and kept == run.kept:
            return  # nothing new
        with self._lock:
            if run.over or run.told != told:
                return  # the loop says it all, or has said something meanwhile
            now = perf_counter()
            seconds, run.since = now - run.since, now
            head = wire.RESULT_HEAD.pack(
                run.number, codec, failed, seconds, run.first + upto, run.first + kept
            )
            run.told, run.kept = upto, kept
            self._send(wire.FrameKind.PART, head, blob)


def _packed(run: ChunkRun, lo: int) -> tuple[int, int, bytes, int] | None:
    """What is finished and not told: (its end, codec, blob, failed items). None: nothing, or it cannot
    be packed; the loop sorts that out at the chunk's end."""
    hi = len(run.results)
    held = run.held  # looked at after the results, as it is set before an item has one
    if held is not None:
        hi = min(hi, held)
    if lo >= hi:
        return None
    if run.failures.lacking:
        return None  # the loop's last word says so for all that is not told
    results = run.results[lo:hi]
    failed = moved(run.failures.records, lo, hi)
    away = None if run.away is None else run.away.at(run.first + lo)
    try:
        if away is not None and (failed or is_heavy(results, away.least)):
            results, away = away(results), None
        if failed:
            codec, blob = values.pack_outcomes(results, failed)
        else:
            codec, blob = values.pack_list(results)
        if away is not None and len(blob) >= away.least:
            codec, blob = values.pack_list(away(results))
    except BaseException:  # noqa: BLE001 - packing runs the user's code, beside a task that may change the value
        return None
    return None if len(blob) > limits.BLOB_OCTETS_MAX else (hi, codec, blob, len(failed))


def moved(failed: list[Failure], lo: int, hi: int) -> list[Failure]:
    """The failures of the items [lo, hi), counted from `lo`."""
    return [replace(each, offset=each.offset - lo) for each in failed if lo <= each.offset < hi]
