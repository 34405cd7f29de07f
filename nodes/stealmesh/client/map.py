"""`map`: an iterator over results that keeps the mesh a bounded step ahead of its reader.

The ledger gets the job's items only so far ahead of the reader that the unread results stay within a
few megabytes. A slow reader slows the mesh down; a fast one never waits for a release. A `range` of any
length stays a range and is one frame. A thread of its own reads any other iterable, in blocks, under the
same bound.

Results come as chunks. The reader's own thread unpacks them, one chunk at a time, so ten million
results cost the memory of a few thousand. Decides how far the mesh may run ahead; refuses to know
where the items run.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from concurrent.futures import CancelledError
from typing import Any, NoReturn, TypeVar

from stealmesh.client.feeding import Feeder
from stealmesh.client.item_words import ItemWords, PartBar
from stealmesh.client.results import open_chunk
from stealmesh.client.session import ProgramLink
from stealmesh.client.until_read import UntilRead
from stealmesh.host.interrupts import WakefulCondition
from stealmesh_engine import effects as fx
from stealmesh_engine.events import OpenJob, Release
from stealmesh_protocol.errors import MeshClosed
from stealmesh_protocol.messages import JobSpec
from stealmesh_protocol.raised import set_context
from stealmesh_protocol.unasked import context_of

T = TypeVar("T")

UNREAD_OCTETS_MAX = 12 << 20
"""How many octets of packed results may wait for the reader."""
OTHER_THREAD = (
    "stealmesh: map reads its input in a thread of its own. If the input works only in the thread that "
    "made it (a cursor does): map over list(cursor), or connect with check_same_thread=False"
)
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
WINDOW_ITEMS_MIN = 1 << 12
WINDOW_ITEMS_FIRST = 1 << 17


class MapResults(itertools.chain[T]):
    """What `map` returns: an iterator at the speed of C. `close()` (or dropping it) cancels the rest."""

    _chunks: Generator[Iterable[T], None, None]
    _job: MapJob
    mesh: object = None
    """Keeps the mesh while it is read: `for x in Mesh().map(...)` holds no other reference to it."""

    @classmethod
    def over(cls, job: MapJob) -> MapResults[T]:
        chunks = job.chunks()
        results = cls.from_iterable(chunks)
        assert isinstance(results, cls)
        results._chunks, results._job = chunks, job
        return results

    def stop(self) -> None:
        """Stop here, and stop the tasks that run as well (see `Future.stop`)."""
        self._job.stop(running=True)
        self.close()

    def close(self) -> None:
        """Stop here: what has not been computed is cancelled."""
        self._chunks.close()
        self._job.stop()  # a generator that never started does not do it

    def __del__(self) -> None:
        self._job.until_read.drop()


class MapJob:
    """One map: the chunks that came, and how far the mesh may run ahead."""

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        *,
        total: int | None,
        size: int | None,
        ordered: bool,
        buffersize: int | None,
        until: float | None,
        bar: PartBar | None,
        words: ItemWords | None = None,
        speculate: bool = False,
    ) -> None:
        self.link = link
        self.spec = spec
        self.total = total
        """How many items there are; None while the iterable has not been read to its end."""
        self._size = size
        """How many items the input says it has; None: it does not say."""
        self._ordered = ordered
        self._buffersize = buffersize
        self._until = until
        self._bar = bar
        self._words = words
        self._speculate = speculate
        self._changed = WakefulCondition()
        self._early: dict[int, fx.Deliver] = {}
        self._arrived: deque[fx.Deliver] = deque()
        self._position = 0
        self.consumed = 0
        self._released = 0
        self._octets_per_item = 0.0
        self._error: BaseException | None = None
        """Ends the iteration: once everything before it is delivered (the input raised it), or at once
        (the mesh was shut down)."""
        self._at_once = False
        self._over = False
        self._begun = False
        """The program has asked for a result."""
        self._unbounded = False
        self._ending = False
        """No more items are read or released; results of earlier ones are still delivered."""
        self._reading = False
        """A thread reads the input."""
        self._refused = False
        """That thread was told to stop although there may be more items."""
        self._asked = 0
        """Items that were read or released so far."""
        self._delivered = 0
        self.until_read = UntilRead()
        self.until_read.function_has(spec.needs)

    # ------------------------------------------------------------ starting

    def start_range(self, functions: dict[bytes, bytes]) -> None:
        assert self.total is not None
        self._asked = self._released = min(self.total, self._window())
        event = OpenJob(self.spec, self.total, self._released, functions=functions)
        event.speculate = self._speculate
        self.link.open(self.spec.job, self, event)

    def start_blocks(self, items: Iterator[Any], functions: dict[bytes, bytes]) -> None:
        event = OpenJob(self.spec, open_ended=True, functions=functions)
        event.speculate = self._speculate
        self.link.open(self.spec.job, self, event)
        self._reading = True
        Feeder(
            self.link, self.spec, items, self._room, self._input_ended, self.until_read.items_have
        )

    # ------------------------------------------------------------ the reader's thread

    def chunks(self) -> Generator[Iterable[Any], None, None]:
        """The results, chunk by chunk."""
        self._begun = True
        try:
            while (effect := self._next()) is not None:
                error = yield from self._open(effect)
                if error is not None:
                    context = context_of(error)
                    try:
                        raise error
                    finally:
                        if context is not None:
                            set_context(error, context)
                        # Breaks the cycle of this frame and the error's traceback.
                        del error, context
        finally:
            self.stop()

    def stop(self, *, running: bool = False) -> None:
        """The program reads no more: cancel the rest, and stop what runs if it says so."""
        with self._changed:
            over, self._over = self._over, True
            self._changed.notify_all()
        self.until_read.drop()
        if not over:
            self.link.cancel(self.spec.job, stop=running)
        if self._bar is not None:
            self._bar.close()

    def how_far(self) -> tuple[int, int | None]:
        """Items that were read, and how many there are."""
        return self.consumed, self.total

    def _open(self, effect: fx.Deliver) -> Generator[Iterable[Any], None, BaseException | None]:
        """The results up to the first item that failed. Returns its error."""
        part = effect.part
        kept = self.until_read.opens(effect.lo)
        values, errors = open_chunk(
            part.codec, effect.blob, part.hi - part.lo, part.lo, self.spec.name
        )
        del kept
        self.until_read.opened(effect.lo, effect.hi)
        if effect.hi - effect.lo != part.hi - part.lo:
            values = values[effect.lo - part.lo : effect.hi - part.lo]
            errors = {at - (effect.lo - part.lo): error for at, error in errors.items()}
        plain = not errors and _are_plain(values)
        self._read_on(effect.hi - effect.lo, len(effect.blob))
        if self._bar is not None:
            unread = effect.hi - effect.lo - min(errors) if errors else 0
            self._bar(self.consumed - unread, self.total)
        del effect
        if plain:
            yield values
            return None
        if errors:
            yield _handing_over(values[: min(errors)])
            return errors[min(errors)]
        yield _handing_over(values)
        return None

    def _next(self) -> fx.Deliver | None:
        with self._changed:
            while True:
                effect = self._take()
                if effect is not None:
                    return effect
                if self._error is not None and (self._at_once or self._all_read()):
                    self._raise()
                if self._all_read():
                    return None
                left = None if self._until is None else self._until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no result of {self.spec.name} within the map's timeout")
                self._wait(left)

    def _wait(self, seconds: float | None) -> None:
        """With the lock held. A bar moves meanwhile, and not while the program is busy with results."""
        if self._bar is None:
            self._changed.wait(seconds)
            return
        self._bar.goes_on()
        try:
            self._changed.wait(seconds)
        finally:
            self._bar.rest()

    def _raise(self) -> NoReturn:
        """Without a cycle of the error, its traceback and this object."""
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error

    def _take(self) -> fx.Deliver | None:
        if not self._ordered:
            return self._arrived.popleft() if self._arrived else None
        effect = self._early.pop(self._position, None)
        if effect is not None:
            self._position = effect.hi
        return effect

    def _all_read(self) -> bool:
        return self.total is not None and self.consumed >= self.total

    def _read_on(self, items: int, octets: int) -> None:
        """The reader has taken results of this size: let the mesh run on."""
        each = octets / items
        self._octets_per_item += (each - self._octets_per_item) * (
            0.3 if self._octets_per_item else 1.0
        )
        with self._changed:
            self.consumed += items
            self._changed.notify_all()
        if self.spec.step and self.total is not None and not self._ending:
            window = self._window()
            upto = min(self.total, self.consumed + window)
            if upto - self._released >= window // 4 or upto == self.total > self._released:
                self._asked = self._released = upto
                self.link.post(Release(self.spec.job, upto))

    # ------------------------------------------------------------ the mesh is about to go

    def finish(self, *, hurried: bool) -> None:
        """Let the job end; a program that reads it later gets what was computed by then.

        As in the standard library, the mesh computes everything that was asked for: the whole input, or
        as far as `buffersize` allows. `hurried` (the block was left by an exception, the program ends):
        it does not wait for a map that is half read, or for an input without a known end.
        """
        if hurried and self._begun:
            self.broken(MeshClosed("the mesh was shut down before this map was read to its end"))
            self.stop()
        elif hurried and self._size is None and self.total is None:
            self._end_here(at_once=True)
        elif self._buffersize is not None:
            self._end_here(at_once=False)
        else:
            self._run_to_the_end()

    def cancel(self) -> None:
        """Cancel what has not been computed; reading on raises CancelledError."""
        self.broken(CancelledError())
        self.stop()

    def call_off(self) -> None:
        self.broken(CancelledError(f"{self.spec.name} was cancelled from outside"))
        self.stop(running=True)

    def _run_to_the_end(self) -> None:
        with self._changed:
            self._unbounded = True
            self._changed.notify_all()
        if self.spec.step and self.total is not None:
            self.link.post(Release(self.spec.job, self.total))

    def _end_here(self, *, at_once: bool) -> None:
        """Read no more of the input, or no more than `buffersize` allows, and compute that."""
        with self._changed:
            self._ending = True
            self._reading &= not at_once
            if not self._reading:
                self._cut_off()
            self._changed.notify_all()

    def _cut_off(self) -> None:
        """No more items will come (call with the lock held). Reading past them raises MeshClosed."""
        if self._asked not in (self.total, self._size):
            text = "the mesh was shut down before the input of this map was read to its end"
            if self._error is None:
                self._error = MeshClosed(text)
        self.total = self._asked

    @property
    def finished(self) -> bool:
        if self._over or self.spec.job not in self.link.jobs:
            return True
        if self._has_all():
            return True  # the job may go on, to make values of Refs again
        return self._ending and not self._reading and self._delivered >= self._asked

    def _window(self) -> int:
        """How many items the mesh may be ahead of the reader."""
        if self._unbounded:
            return sys.maxsize
        if self._buffersize is not None:
            return self._buffersize
        if not self._octets_per_item:
            return WINDOW_ITEMS_FIRST
        return max(WINDOW_ITEMS_MIN, int(UNREAD_OCTETS_MAX / self._octets_per_item))

    # ------------------------------------------------------------ the driver's thread

    def deliver(self, effect: fx.Deliver) -> None:
        if self._words is not None:
            self._words.over(effect.lo, effect.hi)
        if effect.part.stays:
            self._keep(effect)
        with self._changed:
            self._delivered += effect.hi - effect.lo
            if self._over:
                self.link.dropped += effect.hi - effect.lo
                return
            if self._ordered:
                self._early[effect.lo] = effect
                if effect.lo != self._position:
                    return
            else:
                self._arrived.append(effect)
            self._changed.notify_all()

    def _keep(self, effect: fx.Deliver) -> None:
        """There are Refs in these results, until they are opened."""
        stays = [each for each in effect.part.stays if effect.lo <= each[0] < effect.hi]
        values = self.link.values
        grips = values.results(self.spec.job, stays, self.link.needs, asked_for=False)
        self.until_read.came(effect.lo, grips.values())

    def running(self, intervals: list[tuple[int, int]]) -> None:
        """The program cannot ask which items of a map run."""

    def progress(self, words: list[tuple[int, float, float]]) -> None:
        if self._words is not None:
            self._words.hear(words)

    def spared(self, effect: Any, cause: Any) -> None:
        raise AssertionError("only single calls wait for others in the core")

    def needs_as_well(self, index: int, grip: Any) -> None:
        raise AssertionError("only single calls wait for others in the core")

    def handed_to_hired(self, index: int) -> None:
        raise AssertionError("only single calls are handed to hired workers")

    def waits(self, item: int) -> None:
        """Nor which wait."""

    def _has_all(self) -> bool:
        """Has each item of the input its result here?"""
        return self.total is not None and self._delivered >= self.total

    def done(self) -> None:
        """Comes after the last results, unless the mesh was shut down."""
        if not self._has_all():
            self.broken(MeshClosed("this mesh has been shut down"))

    def broken(self, error: BaseException) -> None:
        with self._changed:
            # A mesh that ends behind the last result takes nothing away; an input that was cut off has said so.
            if self._error is None and not (type(error) is MeshClosed and self._has_all()):
                self._error = error
            self._at_once = True
            self._changed.notify_all()
        if self._bar is not None:
            self.link.user_threads.run(self._bar.close)  # this may be the driver's thread

    def disown(self, error: BaseException) -> None:
        self._bar = None  # the parent's
        self._changed = WakefulCondition()
        self.broken(error)

    # ------------------------------------------------------------ the input's thread

    def _room(self, fed: int, size: int) -> int:
        """Wait until the reader has caught up; return how many more items, at most `size`, may be read.

        Waits until there is room for several at once. 0: stop reading.
        """
        with self._changed:
            self._asked = fed
            while not self._over and not self._at_once:
                window = self._window()
                room = window - (fed - self.consumed)
                if self._ending:
                    self._refused = room <= 0 or not self._reading
                    return 0 if self._refused else min(size, room)
                if room >= min(size, max(1, window // 4)):
                    return min(size, room)
                self._changed.wait()
            return 0

    def _input_ended(self, fed: int, error: BaseException | None) -> None:
        if type(error).__module__ == "sqlite3" and type(error).__name__ == "ProgrammingError":
            assert error is not None
            error.add_note(OTHER_THREAD)
        with self._changed:
            self._reading = False
            self._asked = fed
            if self._error is None:  # `or` would call the exception's own __bool__
                self._error = error
            if self._refused:
                self._cut_off()
            self.total = fed
            self._changed.notify_all()


def size_of(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """How many items a map over these has; None if one of them has no `len()`."""
    sizes = [size for each in iterables if (size := _length_of(each)) is not None]
    return min(sizes) if len(sizes) == len(iterables) else None


def _length_of(iterable: Iterable[Any]) -> int | None:
    if not isinstance(iterable, Sized):
        return None
    try:
        return len(iterable)
    except Exception:  # noqa: BLE001  a range of more than can be counted, a `__len__` of the user's
        return None


def _are_plain(values: list[Any]) -> bool:
    """Plain values hold no other objects, so the whole list may be yielded at the speed of C.

    Looks at both ends only: values in a mixed list live a little longer than necessary, no more.
    """
    return not values or (type(values[0]) in _PLAIN and type(values[-1]) in _PLAIN)


def _handing_over(values: list[T]) -> Iterator[T]:
    """Yield without keeping, so that a result ends when the reader drops it."""
    values.reverse()
    while values:
        yield values.pop()
