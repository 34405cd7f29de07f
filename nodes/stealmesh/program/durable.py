"""`launch` and `attach`: a handle on a job that lives in the mesh and not in this program.

The handle has no part in the job: it asks how things stand (the core does, with every beat) and
collects results by position, so that it can be dropped, and another one made elsewhere, at any
moment. Results are fetched as they are read, a few messages ahead, and unpacked in the reader's
own thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from stealmesh.program.feeding import blocks_of
from stealmesh.program.folds import MISSING
from stealmesh.program.outcomes import open_chunk, open_partial
from stealmesh_engine import effects as fx
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, SupplyJob
from stealmesh_engine.slices import slice_items_of
from stealmesh_protocol.errors import JobLost, JobRefused
from stealmesh_protocol.ids import JOB_ID_OCTETS, SLICE_ID_OCTETS, SLICES_MAX, JobId, whole_of
from stealmesh_protocol.messages import JobKind, JobLine, Kept

if TYPE_CHECKING:
    from stealmesh.program.link import ProgramLink

UNREAD_OCTETS_MAX = 4 << 20
"""Fetched results that wait for their reader."""
RATE_SECONDS = 10.0
"""Over how long the rate is measured."""
_ENDED = frozenset({"done", "cancelled", "lost", "expired"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a durable job has come, as its home said last."""

    done: int
    total: int
    """Items so far; more may come while an iterable is being read."""
    failed: int
    running: int
    """Items that are with nodes."""
    rate: float
    """Items a second, lately."""
    eta_seconds: float | None
    """None while nothing can be said."""


class Job:
    """A durable job. Made by `Mesh.launch` and `Mesh.attach`; usable from any thread.

    Results stay with the mesh until they expire (`Config.keep_seconds`) or, if it runs out of room,
    until somebody has collected them: `results()` may be called again, but not for ever.
    """

    def __init__(
        self,
        link: ProgramLink,
        job: JobId,
        combine: Callable[[Any, Any], Any] | None = None,
        initial: Any = MISSING,
    ) -> None:
        self._link = link
        self._job = job
        self._combine = combine
        self._initial = initial
        self._changed = threading.Condition()
        self._line: JobLine | None = None
        self._accepted = 0
        self._accepted_whole = False
        self._error: BaseException | None = None
        self._cancelled = False
        self._closed = False
        self._collected = False
        """A reader has come to the end."""
        self._unread: deque[tuple[Kept, bytes]] = deque()
        self._unread_octets = 0
        self._next = 0
        """Everything below was fetched for the present reader."""
        self._asking = False
        self._reader = 0
        self._marks: deque[tuple[float, int]] = deque()

    # ------------------------------------------------------------ the program's threads

    @property
    def id(self) -> str:
        """Names the job in the whole mesh: give it to `Mesh.attach`, here or elsewhere."""
        return self._job.hex()

    def done(self) -> bool:
        """Is it over, with or without success (as of the last half second)?"""
        with self._changed:
            return self._over

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until it is over; False if `timeout` seconds were not enough."""
        with self._changed:
            self._changed.wait_for(lambda: self._over, timeout)
            return self._over

    def progress(self) -> Progress:
        """How far it has come. Waits a moment for the home's first word."""
        with self._changed:
            self._changed.wait_for(lambda: self._line is not None or self._error is not None, 5.0)
            line = self._line
            if line is None:
                return Progress(0, 0, 0, 0, 0.0, None)
            rate = self._rate()
            left = line.total - line.done
            eta = 0.0 if not left else left / rate if rate else None
            return Progress(line.done, line.total, line.failed, line.leased, rate, eta)

    def results(self, timeout: float | None = None) -> Iterator[Any]:
        """The results in order, as they come; the partial results of a reduction.

        Raises a task's own exception at its place, JobLost, CancelledError, MeshClosed, and
        TimeoutError `timeout` seconds after this call. One reader at a time: a second call starts
        from the beginning and ends the first.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._reader += 1
            reader = self._reader
            self._unread.clear()
            self._unread_octets, self._next, self._asking = 0, 0, False
            self._ask()
        return self._read(reader, until)

    def result(self, timeout: float | None = None) -> Any:
        """All results as a list, or the one value of a reduction; waits until the job is over."""
        values = self.results(timeout)
        if self._combine is None:
            found = list(values)
            if self._is_reduction:
                raise TypeError(
                    "this job is a reduction: attach(job_id, combine=…) to get its one value, or "
                    "read its partial results with results()"
                )
            return found
        start = () if self._initial is MISSING else (self._initial,)
        return reduce(self._combine, (*start, *values))

    def cancel(self) -> None:
        """Stop the job, whoever launched it; its results are given up."""
        self._link.post(AbolishJob(self._job))

    def __repr__(self) -> str:
        state = "unknown" if self._line is None else self._line.state
        return f"<stealmesh.Job {self.id} {state}>"

    # ------------------------------------------------------------ launching

    def await_accepted(self, upto: int, *, whole: bool = False) -> None:
        """Sleep until the mesh holds the job safely, with its items below `upto` (or all of them)."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._error is not None
                    or self._cancelled
                    or (self._accepted_whole if whole else self._accepted >= upto)
                )
            )
            if self._error is not None:
                raise self._error

    # ------------------------------------------------------------ the driver's thread

    def shown(self, effect: fx.Accepted | fx.Results | fx.JobGone) -> None:
        with self._changed:
            if isinstance(effect, fx.Accepted):
                if effect.refusal:
                    self._error = JobRefused(effect.refusal)
                self._accepted = max(self._accepted, effect.upto)
                self._accepted_whole = self._accepted_whole or effect.closed
            elif isinstance(effect, fx.Results):
                self._take(effect)
            else:
                total = 0 if self._line is None else self._line.total
                self._error = JobLost([(self._next, max(total, self._next))], self.id, effect.why)
            self._changed.notify_all()

    def broken(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:  # nobody asks an exception for its truth
                self._error = error
            self._changed.notify_all()

    # ------------------------------------------------------------ inside

    @property
    def _over(self) -> bool:
        return (
            self._error is not None
            or self._collected
            or (self._line is not None and self._line.state in _ENDED and self._closed)
        )

    @property
    def _is_reduction(self) -> bool:
        return self._line is not None and self._line.kind is JobKind.REDUCE

    def _take(self, effect: fx.Results) -> None:
        self._line, self._closed = effect.line, effect.closed or effect.line.state == "cancelled"
        self._cancelled = effect.line.state == "cancelled"
        now = time.monotonic()
        self._marks.append((now, effect.line.done))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        if effect.lo != self._next:
            return  # meant for an earlier reader
        if effect.missing and effect.missing[0][0] <= self._next:
            self._error = JobLost(effect.missing, self.id, "collected before, or lost")
        for kept, blob in zip(effect.results, effect.blobs, strict=True):
            self._unread.append((kept, blob))
            self._unread_octets += len(blob)
            self._next = kept.hi
        if effect.results:
            self._asking = False
            self._ask()

    def _ask(self) -> None:
        """Have the next results fetched, unless enough are waiting."""
        if self._reader and not self._asking and self._unread_octets < UNREAD_OCTETS_MAX:
            self._asking = True
            self._link.post(FetchResults(self._job, self._next))

    def _read(self, reader: int, until: float | None) -> Iterator[Any]:
        position = 0
        while (entry := self._entry(reader, position, until)) is not None:
            kept, blob = entry
            if self._is_reduction:
                position = kept.hi
                yield open_partial(kept.part.codec, blob)
                continue
            part = kept.part
            values, errors = open_chunk(part.codec, blob, part.hi - part.lo)
            for at in range(max(kept.lo, position), kept.hi):
                position = at + 1
                if at - part.lo in errors:
                    raise errors[at - part.lo]
                yield values[at - part.lo]

    def _entry(self, reader: int, position: int, until: float | None) -> tuple[Kept, bytes] | None:
        """The next results, waited for; None at the end."""
        with self._changed:
            while True:
                if reader != self._reader:
                    raise RuntimeError("another reader of this job has begun: results() again")
                if self._unread:
                    entry = self._unread.popleft()
                    self._unread_octets -= len(entry[1])
                    self._ask()
                    return entry
                if self._cancelled:
                    raise CancelledError(f"job {self.id} was cancelled")
                if self._line is not None and self._closed and position == self._line.total:
                    self._collected = True
                    self._changed.notify_all()
                    return None
                if self._error is not None:
                    raise self._error
                wait = None if until is None else until - time.monotonic()
                if wait is not None and wait <= 0:
                    raise TimeoutError(f"job {self.id} has not come further than item {position}")
                self._changed.wait(wait)

    def _rate(self) -> float:
        (since, had), (now, has) = self._marks[0], self._marks[-1]
        return (has - had) / (now - since) if now > since else 0.0


def attached(
    link: ProgramLink,
    job_id: str,
    combine: Callable[[Any, Any], Any] | None,
    initial: Any,
) -> Job:
    """The handle on a job that somebody launched. Raises ValueError for what is no job id."""
    try:
        job = bytes.fromhex(job_id)
    except (ValueError, TypeError):
        job = b""
    if len(job) not in (JOB_ID_OCTETS, SLICE_ID_OCTETS):
        raise ValueError(f"not a job id: {job_id!r}; it is what Job.id and status() show")
    job = whole_of(job)
    known = link.durable.get(job)
    if known is not None and combine is None:
        return known
    handle = Job(link, job, combine, initial)
    link.follow(job, handle, AttachJob(job))
    return handle


def supply(handle: Job, link: ProgramLink, name: str, items: Iterable[Any], job: JobId) -> None:
    """Give the mesh all items of an iterable and wait until it holds them safely."""
    behind: deque[tuple[int, int]] = deque()
    octets = 0
    size = slice_items_of(job)
    for block, blob in blocks_of(items, name, size):
        if size is not None and block.hi >= SLICES_MAX * size:
            raise ValueError(f"as many as {SLICES_MAX * size:,} items: raise Config.slice_items")
        link.post(SupplyJob(job, block, blob))
        behind.append((block.hi, len(blob)))
        octets += len(blob)
        while octets > UNREAD_OCTETS_MAX:
            hi, size = behind.popleft()
            handle.await_accepted(hi)
            octets -= size
    link.post(SupplyJob(job, closed=True))
    handle.await_accepted(0, whole=True)
