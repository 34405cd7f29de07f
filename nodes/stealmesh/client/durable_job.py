"""`launch` and `attach`: a handle on a job that lives in the mesh and not in this program.

The handle has no part in the job. It asks for the job's state (the core does, with every beat) and
collects results by position, so a program can drop it and make another one elsewhere at any moment.
It fetches results as they are read, a few messages ahead, and unpacks them in the reader's own
thread. Several readers take turns: each knows its own position, and a reader fetches again what was
fetched for another one. Refuses to know where the job runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from stealmesh.client.arguments import whole_number
from stealmesh.client.feeding import blocks_of
from stealmesh.client.item_words import plain
from stealmesh.client.reduce import MISSING
from stealmesh.client.results import open_chunk, open_partial
from stealmesh.client.session import ProgramLink
from stealmesh.host.interrupts import WakefulCondition
from stealmesh_engine import effects as fx
from stealmesh_engine.durable.slices import slice_items_of
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, SupplyJob
from stealmesh_protocol.accounts import NO_WORD
from stealmesh_protocol.errors import JobLost, JobRefused
from stealmesh_protocol.ids import SLICES_MAX, JobId, whole_of
from stealmesh_protocol.messages import JobKind, JobLine, Kept
from stealmesh_protocol.printed import readable

UNREAD_OCTETS_MAX = 4 << 20
"""Fetched results that wait for their reader."""
ERRORS_KEPT_MAX = 10_000
"""How many errors are remembered as readers meet them. `errors()` reads a job with more once again."""
FIRST_WORD_SECONDS = 5.0
OUTPUT_SECONDS = 0.5
"""After this time without an answer the question what an item has printed is asked again."""
RATE_SECONDS = 10.0
"""Over how long the rate is measured."""
_ENDED = frozenset({"done", "cancelled", "lost", "expired"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a durable job has come, as its primary said last."""

    done: int
    total: int
    """Items so far; more may come while an iterable is being read."""
    failed: int
    running: int
    """Items that nodes hold leases for."""
    rate: float
    """Items a second, lately."""
    eta_seconds: float | None
    """None while the rate is not known."""
    items: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    """Index → (done, total) of running items that say how far they are (`stealmesh.report`), the first
    of them."""

    def _repr_html_(self) -> str:
        """For notebooks."""
        from stealmesh.notebook import looks

        return looks.html_of(looks.progress, self)


@dataclass(slots=True, eq=False)
class _Reader:
    """How far one reader has come, and when (`time.monotonic()`) it gives up."""

    until: float | None
    position: int = 0


class OtherAccount(JobLost):
    """The partial results of a search are those of another account now, which says the same in other parts."""


class JobResults(Iterator[Any]):
    """The results of a durable job in order, as they come.

    A task's own exception is raised at its place, and the next call goes on with the next item. With
    `return_exceptions` the exception is yielded instead. The errors that end the reading (JobLost,
    CancelledError, MeshClosed, TimeoutError) are raised again by every further call.
    """

    def __init__(self, found: Iterator[tuple[int, Any, bool]], return_exceptions: bool) -> None:
        self._found = found
        self._return_exceptions = return_exceptions
        self._broken: BaseException | None = None

    def __iter__(self) -> JobResults:
        return self

    def __next__(self) -> Any:
        if self._broken is not None:
            raise self._broken
        try:
            _, value, failed = next(self._found)
        except StopIteration:
            raise
        except Exception as error:
            self._broken = error
            raise
        if failed and not self._return_exceptions:
            raise value
        return value


class Job:
    """A durable job. Made by `Mesh.launch` and `Mesh.attach`; usable from any thread.

    Results stay with the mesh until they expire (`Config.keep_seconds`). If the mesh runs out of room,
    it drops those that were collected, so `results()` may be called again, but not for ever.
    """

    def __init__(
        self,
        link: ProgramLink,
        job: JobId,
        combine: Callable[[Any, Any], Any] | None = None,
        initial: Any = MISSING,
        line: JobLine | None = None,
    ) -> None:
        self._link = link
        self._job = job
        self._combine = combine
        self._initial = initial
        self._changed = WakefulCondition()
        self._line = line
        self.at_end: Callable[[], object] | None = None
        """Called once, in the driver's thread, when it is over while this program is there."""
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
        """Every result below this index was fetched for the present reader."""
        self._asking = False
        self._reader: _Reader | None = None
        """The present reader: results are fetched for it."""
        self._turn = threading.Lock()
        """Held by the reader that waits for results; the others wait for their turn."""
        self._gap: JobLost | None = None
        """The mesh no longer has what the present reader wants."""
        self._errors: dict[int, BaseException] = {}
        """By index: the errors that readers have met."""
        self._marks: deque[tuple[float, float]] = deque()
        self._account = NO_WORD
        """Of a search: what the results that were fetched belong to."""

    # ------------------------------------------------------------ the program's threads

    @property
    def id(self) -> str:
        """Names the job in the whole mesh: give it to `Mesh.attach`, here or elsewhere."""
        return self._job.hex()

    @property
    def name(self) -> str:
        """What `status` calls it. Waits up to 5 s for the primary's first answer; then ""."""
        line = self._first_word()
        return "" if line is None else line.name

    @property
    def owner(self) -> str:
        """The program that submitted it: user@host and process. Waits as `name` does."""
        line = self._first_word()
        return "" if line is None else line.owner

    @property
    def started(self) -> float | None:
        """When it was submitted, in seconds of `time.time()`. Waits as `name` does; then None."""
        line = self._first_word()
        return None if line is None else line.started or None

    @property
    def ended(self) -> float | None:
        """When it ended, in seconds of `time.time()`. None: it had not ended half a second ago, or no
        node that saw the end is left. Waits as `name` does."""
        line = self._first_word()
        return None if line is None else line.ended or None

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
        """How far it has come. Waits up to 5 s for the primary's first answer; then all zeros."""
        line = self._first_word()
        if line is None:
            return Progress(0, 0, 0, 0, 0.0, None)
        with self._changed:
            rate = self._rate()
            total = _total(line)
            left = total - _done(line)
            eta = 0.0 if not left else left / rate if rate else None
            return Progress(line.done, total, line.failed, line.leased, rate, eta, _items(line))

    def results(
        self, timeout: float | None = None, *, return_exceptions: bool = False
    ) -> JobResults:
        """The results in order, as they come; the partial results of a reduction.

        Raises a task's own exception at its place (or yields it, with `return_exceptions`), and goes
        on behind it. Raises JobLost, CancelledError, MeshClosed, and TimeoutError `timeout` seconds
        after this call. Each call makes a reader of its own, which begins at the first item.
        """
        if isinstance(timeout, bool):
            raise TypeError("results(timeout): write results(return_exceptions=True)")
        reader = _Reader(None if timeout is None else time.monotonic() + timeout)
        with self._changed:
            if self._reader is None:
                self._read_for(reader)
        return JobResults(self._read(reader), return_exceptions)

    def errors(self, timeout: float | None = None) -> list[tuple[int, BaseException]]:
        """(index, exception) of every item that failed; waits until the job is over.

        In a reduction a partial result fails as a whole; its index is the first that it covers. Raises
        TimeoutError after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        if not self.wait(timeout):
            raise TimeoutError(f"job {self.id} is not over; its errors come with its results")
        with self._changed:
            failed = 0 if self._line is None else self._line.failed
            if failed and len(self._errors) == failed:
                return sorted(self._errors.items())
        if not failed and self._error is None and self._closed and not self._cancelled:
            return []
        found = self._read(_Reader(until))
        return [(index, error) for index, error, is_error in found if is_error]

    def output(self, index: int, timeout: float | None = 5.0) -> str:
        """What item `index` has printed: the end of it, at most 16 KiB, and how much is missing before.

        It is kept for jobs with `options(output="caller")`, in the memory of the job's home: of each job 1 MiB, of
        the items that printed last. The end of that process is the end of it. What belongs to a failure stays
        with the failure (`task_output` of its exception), as long as the job does. Empty: the item has
        printed nothing, or it is not known any more. Raises TimeoutError if no home answers.
        """
        index = whole_number("index", index, 0)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = (
                OUTPUT_SECONDS if until is None else min(OUTPUT_SECONDS, until - time.monotonic())
            )
            try:
                text, dropped = self._link.ask_output(self._job, index).result(max(0.0, left))
                break
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError(f"the home of job {self.id} did not say it") from None
        with self._changed:
            error = self._errors.get(index)
        found = readable(text) or str(getattr(error, "task_output", ""))
        return f"{found}({dropped:,} lines dropped)\n" if dropped else found

    def result(self, timeout: float | None = None) -> Any:
        """All results as a list; of a reduction, a search or a single call its one value. Waits until the
        job is over.

        Raises the first exception of a task, and what `results` raises."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._value(None if until is None else until - time.monotonic())
            except OtherAccount:
                continue

    def _value(self, timeout: float | None) -> Any:
        values = self.results(timeout)
        if self._combine is None:
            found = list(values)
            if self._line is not None and self._line.kind is JobKind.SUBMIT:
                return found[0]
            if self._is_reduction:
                raise TypeError(
                    "this job is a reduction: attach(job_id, combine=…) to get its one value, or "
                    "read its partial results with results()"
                )
            return found
        start = () if self._initial is MISSING else (self._initial,)
        return reduce(self._combine, (*start, *values))

    def cancel(self) -> None:
        """Begin no more of the job, also of one that another program launched; the mesh drops its results.
        What runs of it ends for nothing. Raises MeshClosed after shutdown, unless the job is known to be over."""
        self._abolish(stop=False)

    def _abolish(self, *, stop: bool) -> None:
        line = self._line
        if line is None or line.state not in _ENDED:
            self._link.must_work()  # the mesh would go on with it, and nobody would know
        self._link.post(AbolishJob(self._job, stop=stop))

    def stop(self) -> None:
        """Cancel the job, and stop the tasks of it that run (see `Future.stop`). Raises as `cancel` does."""
        self._abolish(stop=True)

    def _repr_html_(self) -> str:
        """For notebooks: as its primary said last."""
        from stealmesh.notebook import looks

        return looks.html_of(looks.job, self)

    def latest(self) -> tuple[JobLine, int, float] | None:
        """What its primary said last, the number of items and the rate; waits for nothing. None: nothing yet."""
        line = self._line
        return None if line is None else (line, _total(line), self._rate())

    def __repr__(self) -> str:
        state = "unknown" if self._line is None else self._line.state
        name = "" if self._line is None else f" {self._line.name}"
        return f"<stealmesh.Job {self.id}{name} {state}>"

    # ------------------------------------------------------------ launching

    def await_accepted(self, upto: int, *, whole: bool = False) -> None:
        """Sleep until the mesh holds the job safely, with its items below `upto` (`whole`: with all)."""
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
            at_end = self.at_end
            if at_end is not None and self._over:
                self.at_end = None
                at_end()
            self._changed.notify_all()

    def also(self, handle: Any) -> None:
        raise AssertionError("a handle is given to all who attach")

    def disown(self, error: BaseException) -> None:
        self._changed = WakefulCondition()
        self.broken(error)

    def broken(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:  # `or` would call the exception's own __bool__
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
        """Are its results partial ones?"""
        return self._line is not None and self._line.kind in (JobKind.REDUCE, JobKind.EXPLORE)

    def _take(self, effect: fx.Results) -> None:
        self._line, self._closed = effect.line, effect.closed or effect.line.state == "cancelled"
        self._cancelled = effect.line.state == "cancelled"
        now = time.monotonic()
        self._marks.append((now, _done(effect.line)))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        if effect.lo != self._next:
            return  # meant for an earlier reader
        if effect.account != self._account:
            self._account = effect.account
            if self._next:
                self._gap = OtherAccount(
                    [(0, self._next)], self.id, "a cut has healed: read it again"
                )
                return
        if effect.missing and effect.missing[0][0] <= self._next:
            self._gap = JobLost(effect.missing, self.id, "collected before, or lost")
        for kept, blob in zip(effect.results, effect.blobs, strict=True):
            self._unread.append((kept, blob))
            self._unread_octets += len(blob)
            self._next = kept.hi
        if effect.results:
            self._asking = False
            self._ask()

    def _read_for(self, reader: _Reader) -> None:
        """Have results fetched for this reader from where it stands."""
        self._reader, self._gap = reader, None
        self._unread.clear()
        self._unread_octets, self._next, self._asking = 0, reader.position, False
        self._ask()

    def _ask(self) -> None:
        """Have the next results fetched, unless enough are waiting."""
        if self._reader and not self._asking and self._unread_octets < UNREAD_OCTETS_MAX:
            self._asking = True
            self._link.post(FetchResults(self._job, self._next))

    def _read(self, reader: _Reader) -> Iterator[tuple[int, Any, bool]]:
        """Index, value, and whether the value is the exception of that item."""
        while (entry := self._entry(reader)) is not None:
            kept, blob = entry
            part = kept.part
            if self._is_reduction:
                reader.position = kept.hi
                if self._line is not None and self._line.kind is JobKind.EXPLORE:
                    if not blob:
                        continue  # a bag that brought nothing
                    yield self._noted(kept.lo, *_partial(blob[0], memoryview(blob)[1:]))
                else:
                    yield self._noted(kept.lo, *_partial(part.codec, blob))
                continue
            values, errors = open_chunk(
                part.codec, blob, part.hi - part.lo, part.lo, self._line.name if self._line else ""
            )
            begin, end = max(kept.lo, reader.position), kept.hi
            reader.position = end
            for at in range(begin, end):
                error = errors.get(at - part.lo)
                failed = error is not None  # `error or` would call the exception's own __bool__
                yield self._noted(at, error if failed else values[at - part.lo], failed)

    def _noted(self, index: int, value: Any, failed: bool) -> tuple[int, Any, bool]:
        if failed and len(self._errors) < ERRORS_KEPT_MAX:
            self._errors[index] = value
        return index, value, failed

    def _entry(self, reader: _Reader) -> tuple[Kept, bytes] | None:
        """Wait for the next results; None at the end. Raises TimeoutError, and what ended the job."""
        patience = -1 if reader.until is None else max(0.0, reader.until - time.monotonic())
        if not self._turn.acquire(timeout=patience):
            raise _too_late(self.id, self._line, reader.position)
        try:
            with self._changed:
                if self._reader is not reader:
                    self._read_for(reader)
                return self._awaited(reader)
        finally:
            self._turn.release()

    def _awaited(self, reader: _Reader) -> tuple[Kept, bytes] | None:
        while True:
            if self._unread:
                entry = self._unread.popleft()
                self._unread_octets -= len(entry[1])
                self._ask()
                return entry
            if self._cancelled:
                raise CancelledError(f"job {self.id} was cancelled")
            if self._line is not None and self._closed and reader.position == self._line.total:
                self._collected = True
                self._changed.notify_all()
                return None
            failure = self._gap if self._error is None else self._error
            if failure is not None:
                raise failure
            wait = None if reader.until is None else reader.until - time.monotonic()
            if wait is not None and wait <= 0:
                raise _too_late(self.id, self._line, reader.position)
            self._changed.wait(wait)

    def _first_word(self) -> JobLine | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._line is not None or self._error is not None, FIRST_WORD_SECONDS
            )
            return self._line

    def _rate(self) -> float:
        if not self._marks:
            return 0.0  # only `Mesh.jobs` has told of it
        (since, had), (now, has) = self._marks[0], self._marks[-1]
        return (has - had) / (now - since) if now > since else 0.0


def _total(line: JobLine) -> int:
    if line.kind is JobKind.EXPLORE:
        return line.done + line.leased + line.free  # as far as it is known
    return line.total


def _too_late(job: str, line: JobLine | None, at: int) -> TimeoutError:
    """What the primary said last, and where to ask for more."""
    known = (
        "no node has answered for it"
        if line is None
        else f"{line.done:,} of {_total(line):,} are done, and nodes have {line.leased:,}"
    )
    return TimeoutError(
        f"job {job} has not come further than item {at}: {known} "
        f"(`stealmesh explain {job}/{at}` says more)"
    )


def _partial(codec: int, blob: bytes | memoryview) -> tuple[Any, bool]:
    try:
        return open_partial(codec, blob), False
    except Exception as error:  # noqa: BLE001  the task's own: it is a result
        return error, True


def attached(
    link: ProgramLink,
    job: JobId,
    combine: Callable[[Any, Any], Any] | None = None,
    initial: Any = MISSING,
    line: JobLine | None = None,
) -> Job:
    """The handle on a job that some program launched; `line` is what is known of it already."""
    job = whole_of(job)
    known = link.durable.get(job)
    if isinstance(known, Job) and combine is None:
        return known
    handle = Job(link, job, combine, initial, line)
    if known is not None and not isinstance(known, Job):
        known.also(handle)  # a call of this program
        return handle
    link.follow(job, handle, AttachJob(job))
    return handle


def supply(handle: Job, link: ProgramLink, name: str, items: Iterable[Any], job: JobId) -> None:
    """Give the mesh all items of an iterable and wait until it holds them safely.

    Raises ValueError for more items than the slices can hold, CannotShip, JobRefused, JobLost, and what
    the iterable raises.
    """
    behind: deque[tuple[int, int]] = deque()
    """For each block that the mesh may not hold yet: the index behind it, and its octets."""
    octets_behind = 0
    slice_items = slice_items_of(job)
    for block, blob in blocks_of(items, name, slice_items):
        if slice_items is not None and block.hi >= (most := SLICES_MAX * slice_items):
            raise ValueError(f"a durable job of {most:,} items or more: raise Config.slice_items")
        link.post(SupplyJob(job, block, blob))
        behind.append((block.hi, len(blob)))
        octets_behind += len(blob)
        while octets_behind > UNREAD_OCTETS_MAX:
            hi, octets = behind.popleft()
            handle.await_accepted(hi)
            octets_behind -= octets
    link.post(SupplyJob(job, closed=True))
    handle.await_accepted(0, whole=True)


def _done(line: JobLine) -> float:
    """Items done, with the shares that running ones say they have done."""
    return line.done + sum(min(1.0, done / total) for _, done, total in line.told if total > 0)


def _items(line: JobLine) -> dict[int, tuple[float, float | None]]:
    return {
        item: (plain(done), None if total < 0 else plain(total)) for item, done, total in line.told
    }
