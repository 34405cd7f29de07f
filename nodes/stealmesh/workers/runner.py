"""Runs what a chunk asks for, and puts into words whatever goes wrong.

The only file that calls user code. It is given functions and items, never an order or a
socket, so that everything it decides can be tested without a process.

Three promises:

* An item is not executed twice because a neighbour failed: the loop goes on behind it.
* Whatever a task does short of ending its process comes back as a failure of that very item:
  any exception (SystemExit too), a result that cannot be sent, a function that cannot be loaded.
* Another attempt at an item gets the item as it was sent, not as the first attempt left it.

In the blobs of explore jobs (bags, rests, spares, partials) the first octet is the codec, as
they travel without one beside them.
"""

# ruff: noqa: BLE001 - user code may raise anything, and whatever it raises is one item's failure.

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pickle import loads
from time import perf_counter
from typing import Any, Protocol

import cloudpickle

from stealmesh.workers import wire
from stealmesh_protocol import limits, values
from stealmesh_protocol.errors import CannotLoad, CannotShip
from stealmesh_protocol.values import RAISED, UNLOADABLE, UNSENDABLE, Failure

EXCEPTION_OCTETS_MAX = 1024 * 1024
TRACEBACK_CHARS_A_CHUNK_MAX = 256 * 1024
"""Fifty thousand items that fail alike need not tell the same story fifty thousand times."""

LIMIT_FIRST = 64
LIMIT_MAX = 1 << 30
LIMIT_GROWTH_MAX = 4
VISIT_SECONDS = 0.005
"""How long a visit should take: it is how long a thief waits for a bag to be shared."""
STEP_SECONDS = 0.5
STEP_COST_MAX = 0.1
"""Share of the time that taking stock may cost: the longer packing takes, the rarer it is."""

_TOO_LARGE = f"at most {limits.BLOB_OCTETS_MAX >> 20} MiB travel in one message"

WHERE = "this node"
"""How people call it, once the worker has been told."""

Again = Callable[[int, int], "list[Any] | range"]
"""Items [lo, hi) of the chunk once more, as they were sent."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Chunk:
    """An order without its number: what RunChunk and its JobSpec say, as far as a worker cares."""

    kind: int
    function: bytes
    combine: bytes
    start: int
    step: int
    vectorized: bool
    retries: int
    lo: int
    hi: int
    blocks: list[list[Any]]
    """Each: lo, hi, codec, key in the cache (or empty), blob (if there is no key)."""


@dataclass(slots=True)
class Outcome:
    codec: int
    blob: bytes
    seconds: float
    failed: int = 0


@dataclass(slots=True)
class Step:
    """What an explore bag has to say between two visits; remaining 0 is its last word."""

    partial: bytes = b""
    rest: bytes = b""
    remaining: int = 0
    items: int = 0
    seconds: float = 0.0
    spares: list[tuple[int, bytes]] = field(default_factory=list)
    failed: int = 0


# ---------------------------------------------------------------- indexed jobs


def run(
    chunk: Chunk, function: Any, combine: Any, items: list[Any] | range, again: Again
) -> Outcome:
    """All items of the chunk, in order."""
    failures = Failures()
    begun = perf_counter()
    if chunk.vectorized:
        results = _at_once(chunk, function, items, again, failures)
    else:
        results = _one_by_one(chunk, function, items, again, failures)
    if chunk.kind == wire.REDUCE and not failures.records:
        results = _fold(combine, results, failures)
    seconds = perf_counter() - begun
    if chunk.kind == wire.REDUCE:
        return _send_partial(results, failures, seconds)
    return _send_results(results, failures, seconds)


def _one_by_one(
    chunk: Chunk, function: Any, items: list[Any] | range, again: Again, failures: Failures
) -> list[Any]:
    """Results in the order of the items; None stands where one failed."""
    go = _call_each if chunk.kind == wire.SUBMIT else _apply_each
    results: list[Any] = []
    source = iter(items)
    while True:
        error = go(function, source, results)
        if error is None:
            return results
        offset = len(results)
        attempts = [_headline(error)]
        while error is not None and len(attempts) <= chunk.retries:
            error = go(function, again(offset, offset + 1), results)
            if error is not None:
                attempts.append(_headline(error))
        if error is not None:
            failures.add(offset, error, attempts)
            if chunk.kind == wire.REDUCE:
                return results  # one missing item makes the partial worthless
            results.append(None)


def _apply_each(function: Any, items: Iterable[Any], results: list[Any]) -> BaseException | None:
    """Append results until one fails: then exactly the items before it have one.

    A plain loop: `results.extend(map(function, items))` is no faster, and takes a StopIteration
    raised by the function for the end of the items.
    """
    append = results.append
    try:
        for item in items:
            append(function(item))
    except BaseException as error:
        return error
    return None


def _call_each(function: Any, items: Iterable[Any], results: list[Any]) -> BaseException | None:
    """The same for items that are (args, kwargs)."""
    append = results.append
    try:
        for args, kwargs in items:
            append(function(*args, **kwargs))
    except BaseException as error:
        return error
    return None


def _at_once(
    chunk: Chunk, function: Any, items: list[Any] | range, again: Again, failures: Failures
) -> Sequence[Any]:
    """One call for the whole chunk: as many results as items, or (reduce) one partial."""
    count = len(items)
    expected = None if chunk.kind == wire.REDUCE else count
    attempts = []
    results, error = _call_whole(function, items, expected)
    while error is not None:
        attempts.append(_headline(error))
        if len(attempts) > chunk.retries:
            break
        results, error = _call_whole(function, again(0, count), expected)
    if error is None:
        return results
    for offset in range(1 if chunk.kind == wire.REDUCE else count):
        failures.add(offset, error, attempts)
    return [None] * count


def call_carried(blob: bytes, /, *args: Any, **kwargs: Any) -> Any:
    """A call of a function that is used once: it comes with its arguments (program/streams.py)."""
    try:
        function = loads(blob)
    except BaseException as error:
        raise _unloadable(error, WHERE) from error
    return function(*args, **kwargs)


def _call_whole(
    function: Any, items: list[Any] | range, expected: int | None
) -> tuple[Sequence[Any], BaseException | None]:
    try:
        result = function(items)
        if expected is None:
            return [result], None
        results = result if hasattr(result, "dtype") else list(result)  # arrays travel as they are
        if len(results) != expected:
            name = getattr(function, "__qualname__", repr(function))
            raise ValueError(
                f"the vectorized function {name} returned {len(results)} results for a chunk of "
                f"{expected} items; it has to return exactly one for each"
            )
    except BaseException as error:
        return [], error
    return results, None


def _fold(combine: Any, results: Sequence[Any], failures: Failures) -> list[Any]:
    """The one partial of a chunk, in a list."""
    try:
        return [functools.reduce(combine, results)]
    except BaseException as error:
        failures.add(0, error)
        return []


def _send_results(results: Sequence[Any], failures: Failures, seconds: float) -> Outcome:
    if failures.records:
        return _send_failures(results, failures, seconds)
    try:
        codec, blob = values.pack_list(results)
        if len(blob) <= limits.BLOB_OCTETS_MAX:
            return Outcome(codec, blob, seconds)
        fault: BaseException = OverflowError(f"the chunk's results together: {_TOO_LARGE}")
    except BaseException as error:
        fault = error
    return _send_failures(_without_unsendable(results, failures, fault), failures, seconds)


def _without_unsendable(
    results: Sequence[Any], failures: Failures, fault: BaseException
) -> list[Any]:
    """The results with None where one cannot travel, and a failure for each of those.

    `fault` is what sending them together met with: if each can travel alone (there was no memory
    for all, say), it is the failure of all.
    """
    known = len(failures.records)
    room = limits.BLOB_OCTETS_MAX
    sendable = list(results)
    for offset, result in enumerate(sendable):
        try:
            _, blob = values.pack(result)
            room -= len(blob)
            if room < 0:
                raise OverflowError(f"the chunk's results together: {_TOO_LARGE}")
        except BaseException as error:
            sendable[offset] = None
            failures.add(offset, _unsendable(result, error), kind=UNSENDABLE)
    if len(failures.records) > known:
        return sendable
    failed = {record.offset for record in failures.records}
    told = _unsendable(results, fault)
    for offset in range(len(sendable)):
        if offset not in failed:
            failures.add(offset, told, kind=UNSENDABLE)
    return []


def _send_partial(results: Sequence[Any], failures: Failures, seconds: float) -> Outcome:
    if not failures.records:
        try:
            codec, blob = values.pack(results[0])
            if len(blob) > limits.BLOB_OCTETS_MAX:
                raise OverflowError(f"it is too large: {_TOO_LARGE}")
            return Outcome(codec, blob, seconds)
        except BaseException as error:
            failures.add(0, _unsendable(results[0], error), kind=UNSENDABLE)
    return _send_failures((), failures, seconds)


def _send_failures(results: Sequence[Any], failures: Failures, seconds: float) -> Outcome:
    assert failures.records
    try:
        codec, blob = values.pack_outcomes(results, failures.records)
    except BaseException as error:  # a good result beside the failed ones cannot be sent: find it
        known = {record.offset for record in failures.records}
        good = [None if offset in known else result for offset, result in enumerate(results)]
        good = _without_unsendable(good, failures, error)
        failures.records.sort(key=lambda record: record.offset)
        codec, blob = values.pack_outcomes(good, failures.records)
    return Outcome(codec, blob, seconds, len(failures.records))


def open_block(codec: int, blob: bytes) -> list[Any]:
    return values.unpack_list(codec, blob)


# ---------------------------------------------------------------- explore jobs


class BagFlags(Protocol):
    """What others want from a running bag."""

    def is_share_wanted(self) -> bool: ...
    def shared(self) -> None: ...
    def is_abandoned(self) -> bool: ...


@dataclass(slots=True)
class Pace:
    """How many items to visit at once, learned from visit to visit."""

    limit: int = LIMIT_FIRST

    def learn(self, seconds: float) -> None:
        factor = min(LIMIT_GROWTH_MAX, VISIT_SECONDS / max(seconds, 1e-9))
        self.limit = min(LIMIT_MAX, max(1, int(self.limit * factor)))


_NOTHING = object()


class _Gains:
    """What a bag's visits have brought since the last step."""

    def __init__(self, combine: Any) -> None:
        self._combine = combine
        self._clear()

    def _clear(self) -> None:
        self._partial: Any = _NOTHING
        self._items = 0
        self._seconds = 0.0

    def add(self, gained: Any, items: int) -> None:
        empty = self._partial is _NOTHING
        self._partial = gained if empty else self._combine(self._partial, gained)
        self._items += items

    def spend(self, seconds: float) -> None:
        self._seconds += seconds

    def take_stock(self, bag: list[Any], spare: list[Any]) -> Step:
        """Pack it all, and begin anew."""
        step = Step(
            partial=b"" if self._partial is _NOTHING else _tagged(values.pack(self._partial)),
            rest=pack_bag(bag) if bag else b"",
            remaining=len(bag),
            items=self._items,
            seconds=self._seconds,
            spares=[(len(spare), pack_bag(spare))] if spare else [],
        )
        self._clear()
        return step


def explore(
    visit: Any,
    combine: Any,
    bag: list[Any],
    retries: int,
    flags: BagFlags,
    pace: Pace,
    clock: Clock = perf_counter,
) -> Iterator[Step]:
    """Visit a bag until it is empty, giving half away whenever that is wanted.

    Every step tells what was gained since the one before, exactly once. An abandoned bag ends
    with all that is left of it as a spare: no item is lost, whatever the listener makes of it.
    """
    gains = _Gains(combine)
    spare: list[Any] = []
    told, pause = clock(), STEP_SECONDS
    while bag:
        begun, limit, before = clock(), pace.limit, len(bag)
        attempts: list[str] = []
        try:
            gained, bag = _visit(visit, bag, limit, retries, attempts)
            gains.add(gained, limit if bag else min(limit, before))
        except BaseException as error:
            yield _failed_step(error, RAISED, [*attempts, _headline(error)])
            return
        now = clock()
        gains.spend(now - begun)
        if bag:  # an empty one says nothing about how long `limit` items take
            pace.learn(now - begun)
        bag, spare = _share(bag, flags)
        if bag and (spare or now - told >= pause):
            try:
                step = gains.take_stock(bag, spare)
            except BaseException as error:
                yield _failed_step(_unsendable(bag, error), UNSENDABLE)
                return
            told = clock()
            pause = max(STEP_SECONDS, (told - now) / STEP_COST_MAX)
            yield step
    try:
        step = gains.take_stock(bag, spare)
    except BaseException as error:
        step = _failed_step(_unsendable(bag, error), UNSENDABLE)
    yield step


def _visit(
    visit: Any, bag: list[Any], limit: int, retries: int, attempts: list[str]
) -> tuple[Any, list[Any]]:
    """All attempts but the last get a copy of the bag, as a visit may empty what it is given."""
    for _ in range(retries):
        try:
            return _checked(visit(list(bag), limit))
        except BaseException as error:
            attempts.append(_headline(error))
    return _checked(visit(bag, limit))


def _checked(result: Any) -> tuple[Any, list[Any]]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            "visit(bag, limit) has to return a pair: what the visited items contributed, and "
            f"the list of items still to do; it returned {type(result).__name__}"
        )
    gained, rest = result
    return gained, rest if type(rest) is list else list(rest)


def _share(bag: list[Any], flags: BagFlags) -> tuple[list[Any], list[Any]]:
    """What is kept and what is given away: every other item, as neighbours tend to be alike."""
    if flags.is_abandoned():
        return [], bag
    if len(bag) >= 2 and flags.is_share_wanted():
        flags.shared()
        return bag[0::2], bag[1::2]
    return bag, []


def _failed_step(error: BaseException, kind: str, attempts: Sequence[str] = ()) -> Step:
    failures = Failures()
    failures.add(0, error, attempts, kind)
    return Step(partial=_tagged(values.pack_outcomes(None, failures.records)), failed=1)


def bag_failed(error: BaseException, where: str) -> Step:
    """A bag or its functions could not be opened here."""
    return _failed_step(_unloadable(error, where), UNLOADABLE)


def pack_bag(items: list[Any]) -> bytes:
    return _tagged(values.pack_list(items))


def open_bag(blob: bytes) -> list[Any]:
    return values.unpack_list(blob[0], blob[1:])


def _tagged(packed: tuple[int, bytes]) -> bytes:
    codec, blob = packed
    return b"%c%b" % (codec, blob)


# ---------------------------------------------------------------- what went wrong, in words


class Failures:
    """The failed items of one chunk, within bounds."""

    def __init__(self) -> None:
        self.records: list[Failure] = []
        self._room = TRACEBACK_CHARS_A_CHUNK_MAX
        self._last: tuple[BaseException, bytes] | None = None

    def add(
        self,
        offset: int,
        error: BaseException,
        attempts: Sequence[str] = (),
        kind: str = RAISED,
    ) -> None:
        """What kept the program from loading or sending something is told in its own words: it is
        not the task's exception, and becomes one of ours on arrival."""
        story = _story(error) if self._room > 0 else "(as for the items before it)"
        self._room -= len(story)
        if kind == RAISED:
            headline, blob = _headline(error), self._pickled(error)
        else:
            headline, blob = str(error), b""
        told = list(attempts or [headline])
        self.records.append(Failure(offset, kind, blob, headline, story, told))

    def _pickled(self, error: BaseException) -> bytes:
        """A whole chunk may fail with one and the same exception: pickle it once."""
        if self._last is None or self._last[0] is not error:
            self._last = (error, pickled_exception(error))
        return self._last[1]


def pickled_exception(error: BaseException) -> bytes:
    """Empty if it cannot travel. Many exceptions pickle well and then cannot be loaded: try it."""
    try:
        blob: bytes = cloudpickle.dumps(error)
        loads(blob)
    except BaseException:
        return b""
    return blob if len(blob) <= EXCEPTION_OCTETS_MAX else b""


def _headline(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        text = str(error)[:EXCEPTION_OCTETS_MAX]
    except BaseException:  # a task's own __str__
        return f"{name} (which cannot be printed)"
    return f"{name}: {text}" if text else name


def _story(error: BaseException) -> str:
    """The traceback from the task's first frame on, without ours above it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # a task's own __repr__ or a broken source file
        return _headline(error)


def all_failed(chunk: Chunk, error: BaseException, where: str) -> Outcome:
    """The function or the items could not be loaded here: no item was executed."""
    failures = Failures()
    count = 1 if chunk.kind == wire.REDUCE else chunk.hi - chunk.lo
    told = _unloadable(error, where)
    for offset in range(count):
        failures.add(offset, told, kind=UNLOADABLE)
    return _send_failures((), failures, 0.0)


def _unloadable(error: BaseException, where: str) -> BaseException:
    """Which machine lacks what, and what to do about it."""
    if isinstance(error, CannotLoad) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name:
        told = CannotLoad(
            f"module {error.name!r} is not importable on node {where}: install it there, or put "
            "its directory on that node's PYTHONPATH"
        )
    else:
        told = CannotLoad(
            f"the task could not be loaded on node {where}: {_headline(error)}; the node needs "
            "the same code and the same versions as the program that submitted it"
        )
    return told.with_traceback(error.__traceback__)


def _unsendable(result: Any, error: BaseException) -> BaseException:
    told = CannotShip(
        f"the task's result, of type {type(result).__module__}.{type(result).__qualname__}, "
        f"cannot be sent: {_headline(error)}; return plain data, or something that can be pickled"
    )
    return told.with_traceback(error.__traceback__)
