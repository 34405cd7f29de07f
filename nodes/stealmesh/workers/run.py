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
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pickle import loads
from time import perf_counter
from typing import Any, Protocol

from stealmesh.shipping import opening, versions
from stealmesh.workers import wire
from stealmesh.workers.division import ChunkRun, Failed, moved
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.sealed import CannotOpenCarried, CannotOpenItem, SealedItems
from stealmesh_protocol import limits, values
from stealmesh_protocol.errors import CannotLoad, CannotShip, MeshError
from stealmesh_protocol.raised import bases_of, packed_exception
from stealmesh_protocol.raised import headline as _headline
from stealmesh_protocol.values import LACKING, RAISED, UNLOADABLE, UNSENDABLE, Failure

TRACEBACK_CHARS_A_CHUNK_MAX = 256 * 1024
"""Fifty thousand items that fail alike need not tell the same story fifty thousand times."""

FOLD_ITEMS = 1 << 14
"""Results of a reduction that are folded together: what a divided one still has to do is bounded by it,
and of cheap items so many are still in the processor's cache."""

LIMIT_FIRST = 64
LIMIT_MAX = 1 << 30
LIMIT_GROWTH_MAX = 4
VISIT_SECONDS = 0.005
"""How long a visit should take: it is how long a thief waits for a bag to be shared."""
STEP_SECONDS = 0.5
STEP_COST_MAX = 0.1
"""Share of the time that taking stock may cost: the longer packing takes, the rarer it is."""

REMARKS_OCTETS = 64 * 1024
"""Room for remarks beside results."""

CAUSES_MAX = 8
"""An exception may be among its own causes."""

_TOO_LARGE = f"at most {limits.BLOB_OCTETS_MAX >> 20} MiB travel in one message"
_SIZE_REMEDY = "write it to a file or a store that the program sees and return its name"

WHERE = "this node"
"""How people call it, once the worker has been told."""

Items = list[Any] | range | SealedItems
Again = Callable[[int, int], Items]
"""Items [lo, hi) of the chunk once more, as they were sent."""

Clock = Callable[[], float]

Begins = Callable[[int, list[Any], Failed, float], ChunkRun]
Ends = Callable[[ChunkRun], None]
"""For whoever answers questions about the chunk while it runs (division.py)."""


@dataclass(slots=True)
class ChunkOrder:
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
    code: bytes = b""
    """The bundle of the program's own modules, by its digest."""


@dataclass(slots=True)
class ChunkOutcome:
    codec: int
    blob: bytes
    seconds: float
    failed: int = 0
    done: int = 0
    """It covers the chunk's items up to this one, counted from its first."""


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
    chunk: ChunkOrder,
    function: Any,
    combine: Any,
    items: Items,
    again: Again,
    watch: tuple[Begins, Ends] | None = None,
) -> ChunkOutcome:
    """All items of the chunk, in order; of one that is divided meanwhile, those that stay here.

    What takes its items one by one can be divided, what takes them at once cannot.
    """
    failures, count = Failures(), len(items)
    begun = perf_counter()
    if chunk.vectorized:
        return _told(
            chunk, _at_once(chunk, function, items, again, failures), failures, begun, count
        )
    results: list[Any] = []
    if watch is None or count == 1:
        _one_by_one(chunk, function, iter(items), results, again, failures)
        if chunk.kind == wire.REDUCE and not failures.records:
            results = _fold(combine, results, failures)
        return _told(chunk, results, failures, begun, count)
    begins, ends = watch
    going = begins(count, results, failures, begun)
    if chunk.kind != wire.REDUCE:
        source = iter(items)
        if going.goes_on(source):
            _one_by_one(chunk, function, source, results, again, failures)
        ends(going)
        done = len(results)
        if going.told:
            results, failures = results[going.told :], failures.behind(going.told)
        return _told(chunk, results, failures, going.since, done)
    partial = _fold_on(chunk, function, combine, items, results, again, failures, going)
    ends(going)
    # One that has failed counts whole, and ends where the part that was given back starts.
    done = going.kept if failures.records else len(results)
    return _told(chunk, partial, failures, going.since, done)


def _fold_on(
    chunk: ChunkOrder,
    function: Any,
    combine: Any,
    items: Items,
    results: list[Any],
    again: Again,
    failures: Failures,
    going: ChunkRun,
) -> list[Any]:
    """The partial, in a list. Folded on the way, so that whoever is divided ends soon, and that what
    is folded already can go. The list of results stays as long as it is: it counts them."""
    partial: list[Any] = []
    for first in range(0, len(items), FOLD_ITEMS):
        source = iter(items[first : first + FOLD_ITEMS])
        if not going.goes_on(source):
            break
        _one_by_one(chunk, function, source, results, again, failures)
        fresh = results[first:]
        if failures.records or not fresh:
            break
        results[first:] = [None] * len(fresh)
        partial = _fold(combine, partial + fresh, failures)
        if failures.records:
            break
    return partial


def _told(
    chunk: ChunkOrder, results: Sequence[Any], failures: Failures, since: float, done: int
) -> ChunkOutcome:
    """What there is to say, up to the item `done`, that has not been said. It may be nothing."""
    seconds = perf_counter() - since
    if len(results) == 0 and not failures.records:
        return ChunkOutcome(values.PLAIN, b"", seconds, done=done)
    send = _send_partial if chunk.kind == wire.REDUCE else _send_results
    outcome = send(results, failures, seconds)
    outcome.done = done
    return outcome


def _one_by_one(
    chunk: ChunkOrder,
    function: Any,
    source: Iterator[Any],
    results: list[Any],
    again: Again,
    failures: Failures,
) -> None:
    """Results in the order of the items; None stands where one failed."""
    go = _call_each if chunk.kind == wire.SUBMIT else _apply_each
    while True:
        error = go(function, source, results)
        if error is None:
            return
        offset = len(results)
        attempts = [_headline(error)]
        # What this machine lacks it lacks at the next attempt, too: others are asked instead.
        while error is not None and len(attempts) <= chunk.retries and not is_lacking(error):
            fresh, error = _as_sent(again, offset, offset + 1)
            if error is None:
                error = go(function, fresh, results)
            if error is not None:
                attempts.append(_headline(error))
        if error is not None:
            unopened = isinstance(error, CannotOpenItem)
            failures.add(offset, error, attempts, UNLOADABLE if unopened else RAISED)
            failures.lacking |= type(error) is CannotOpenCarried
            failures.lacking |= unopened and is_lacking_for_an_item(error)
            if chunk.kind == wire.REDUCE:
                return  # one missing item makes the partial worthless
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
        end_if_forked(error)
        return error
    return None


def _call_each(function: Any, items: Iterable[Any], results: list[Any]) -> BaseException | None:
    """The same for items that are (args, kwargs)."""
    append = results.append
    try:
        for args, kwargs in items:
            append(function(*args, **kwargs))
    except BaseException as error:
        end_if_forked(error)
        return error
    return None


def _as_sent(again: Again, lo: int, hi: int) -> tuple[Items, BaseException | None]:
    """Items for another attempt. Opening a value once more runs its own code once more."""
    try:
        return again(lo, hi), None
    except BaseException as error:
        end_if_forked(error)
        return [], error


def _at_once(
    chunk: ChunkOrder, function: Any, items: Items, again: Again, failures: Failures
) -> Sequence[Any]:
    """One call for the whole chunk, or for those of its items that can be opened: as many results as
    items, or (reduce) one partial."""
    count, folds = len(items), chunk.kind == wire.REDUCE
    faults: dict[int, CannotOpenItem] = {}
    if isinstance(items, SealedItems):
        items, faults = items.open_all()
    for offset, fault in faults.items():
        failures.add(0 if folds else offset, fault, kind=UNLOADABLE)
        failures.lacking |= is_lacking_for_an_item(fault)
    if faults and folds:
        del failures.records[1:]
        return []
    if len(faults) == count:
        return [None] * count
    expected = None if folds else count - len(faults)
    attempts: list[str] = []
    results, error = _call_whole(function, items, expected)
    while error is not None:
        attempts.append(_headline(error))
        if len(attempts) > chunk.retries or is_lacking(error):
            break
        fresh, error = _as_sent(again, 0, count)
        if error is None:
            whole = fresh.open_all()[0] if isinstance(fresh, SealedItems) else fresh
            results, error = _call_whole(function, whole, expected)
    if error is None and not faults:
        return results  # an array stays one
    spread: list[Any] = [None] * count
    found = iter(results)
    for offset in range(1 if folds else count):
        if offset in faults:
            continue
        if error is None:
            spread[offset] = next(found)
        else:
            failures.add(offset, error, attempts)
    failures.records.sort(key=lambda record: record.offset)
    return spread


def call_carried(blob: bytes, /, *args: Any, **kwargs: Any) -> Any:
    """A call of a function that is used once: it comes with its arguments (program/streams.py)."""
    versions.begin()
    try:
        function = loads(blob)
    except BaseException as error:
        end_if_forked(error)
        raise CannotOpenCarried(str(_unloadable(error, WHERE))) from error
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
        end_if_forked(error)
        return [], error
    return results, None


def _fold(combine: Any, results: Sequence[Any], failures: Failures) -> list[Any]:
    """The one partial of a chunk, in a list."""
    try:
        return [functools.reduce(combine, results)]
    except BaseException as error:
        end_if_forked(error)
        failures.add(0, error)
        return []


def _send_results(results: Sequence[Any], failures: Failures, seconds: float) -> ChunkOutcome:
    if failures.records:
        return _send_failures(results, failures, seconds)
    try:
        codec, blob = values.pack_list(results)
        if len(blob) <= limits.BLOB_OCTETS_MAX:
            return ChunkOutcome(codec, blob, seconds)
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
            _check_size(blob)
            if len(blob) > room:
                raise OverflowError(f"the results of its chunk together: {_TOO_LARGE}")
            room -= len(blob)
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


def _send_partial(results: Sequence[Any], failures: Failures, seconds: float) -> ChunkOutcome:
    if not failures.records:
        try:
            codec, blob = values.pack(results[0])
            _check_size(blob)
            return ChunkOutcome(codec, blob, seconds)
        except BaseException as error:
            failures.add(0, _unsendable(results[0], error), kind=UNSENDABLE)
    return _send_failures((), failures, seconds)


def _check_size(blob: bytes) -> None:
    if len(blob) > limits.BLOB_OCTETS_MAX:
        raise OverflowError(
            f"packed, it has {len(blob):,} octets, and {_TOO_LARGE}: {_SIZE_REMEDY}"
        )


def _send_failures(results: Sequence[Any], failures: Failures, seconds: float) -> ChunkOutcome:
    assert failures.records
    try:
        codec, blob = values.pack_outcomes(results, failures.records)
        _check_size(blob)
    except BaseException as error:  # a good result beside the failed ones cannot be sent: find it
        known = {record.offset for record in failures.records}
        good = [None if offset in known else result for offset, result in enumerate(results)]
        good = _without_unsendable(good, failures, error)
        failures.records.sort(key=lambda record: record.offset)
        codec, blob = values.pack_outcomes(good, failures.records)
    if failures.lacking:
        codec = LACKING
    return ChunkOutcome(codec, blob, seconds, len(failures.records))


def open_block(codec: int, blob: bytes) -> list[Any]:
    """Its items; those that were packed one by one as they are, for `SealedItems`."""
    if codec == values.ITEMS:
        return list(values.entries_of(blob))
    return values.unpack_list(codec, blob)


def sealed(items: list[Any], where: str) -> SealedItems:
    return SealedItems(items, lambda fault: _unopened(fault, where))


def _unopened(fault: MeshError, where: str) -> str:
    if isinstance(fault.__cause__, ImportError):
        return str(_unloadable(fault, where))
    return f"an argument could not be opened on node {where}: {fault}"


# ---------------------------------------------------------------- explore jobs


class BagFlags(Protocol):
    """What others want from a running bag."""

    def is_share_wanted(self) -> bool: ...
    def shared(self) -> None: ...
    def is_abandoned(self) -> bool: ...


@dataclass(slots=True)
class VisitPace:
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
        octets = len(step.partial) + len(step.rest) + sum(len(blob) for _, blob in step.spares)
        if octets > limits.BLOB_OCTETS_MAX:  # they travel together, so that they count together
            raise OverflowError(
                f"the partial result and the bag together have {octets:,} octets: {_TOO_LARGE}"
            )
        self._clear()
        return step


def explore(
    visit: Any,
    combine: Any,
    bag: list[Any],
    retries: int,
    flags: BagFlags,
    pace: VisitPace,
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
            end_if_forked(error)
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
            end_if_forked(error)
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


def _failed_step(
    error: BaseException, kind: str, attempts: Sequence[str] = (), *, lacking: bool = False
) -> Step:
    failures = Failures()
    failures.add(0, error, attempts, kind)
    codec, blob = values.pack_outcomes(None, failures.records)
    if lacking or failures.lacking:
        codec = LACKING
    return Step(partial=_tagged((codec, blob)), failed=1)


def bag_failed(error: BaseException, where: str, *, lacking: bool) -> Step:
    """A bag or its functions could not be opened here."""
    return _failed_step(_unloadable(error, where), UNLOADABLE, lacking=lacking)


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
        self.lacking = False
        """One of them failed because this machine lacks what another may have."""
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
        if kind == RAISED and versions.met and self._room > 0:
            story = f"{story.rstrip()}\n\n{_other_versions()}\n"
        self._room -= len(story)
        if kind == RAISED:
            self.lacking = self.lacking or is_lacking(error)
            headline, blob = _headline(error), self._pickled(error)
        else:
            headline, blob = str(error), b""
        told = list(attempts or [headline])
        bases = bases_of(type(error)) if kind == RAISED else []
        self.records.append(Failure(offset, kind, blob, headline, story, told, bases))

    def behind(self, told: int) -> Failures:
        """Those of the items that have not been told of, counted from the first of these."""
        rest = Failures()
        rest.records = moved(self.records, told, sys.maxsize)
        rest.lacking = self.lacking
        rest._room = self._room
        return rest

    def _pickled(self, error: BaseException) -> bytes:
        """A whole chunk may fail with one and the same exception: pickle it once."""
        if self._last is None or self._last[0] is not error:
            self._last = (error, packed_exception(error))
        return self._last[1]


def _story(error: BaseException) -> str:
    """The traceback from the task's first frame on, without ours above it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # a task's own __repr__ or a broken source file
        return _headline(error)


def is_lacking(error: BaseException) -> bool:
    """Did a task fail because something cannot be imported on this machine?

    An import statement says what it looked for (`name`); libraries that import what they need only
    when it is needed (pandas its file formats) wrap that in an ImportError of their own. Anything
    else that a task makes of it is the task's own exception.
    """
    for _ in range(CAUSES_MAX):
        if not isinstance(error, ImportError):
            return False
        if error.name:
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__
    return False


def is_lacking_for_an_item(error: BaseException) -> bool:
    """The same of an item that cannot be opened: its class may be missing, too."""
    if isinstance(error, CannotLoad) and error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, ImportError | AttributeError)


def all_failed(
    chunk: ChunkOrder, error: BaseException, where: str, *, lacking: bool = False
) -> ChunkOutcome:
    """The function or the items could not be loaded here: no item was executed."""
    return _all_failed(chunk, _unloadable(error, where), lacking=lacking)


def all_unopened(chunk: ChunkOrder, error: BaseException, where: str) -> ChunkOutcome:
    """The same where it is the items: those that were packed together, or a single one."""
    lacking = is_lacking_for_an_item(error)
    if not isinstance(error, MeshError):
        return all_failed(chunk, error, where, lacking=lacking)
    told = CannotLoad(_unopened(error, where)).with_traceback(error.__traceback__)
    return _all_failed(chunk, told, lacking=lacking)


def _all_failed(chunk: ChunkOrder, told: BaseException, *, lacking: bool) -> ChunkOutcome:
    failures = Failures()
    failures.lacking = lacking
    count = 1 if chunk.kind == wire.REDUCE else chunk.hi - chunk.lo
    for offset in range(count):
        failures.add(offset, told, kind=UNLOADABLE)
    outcome = _send_failures((), failures, 0.0)
    outcome.done = chunk.hi - chunk.lo
    return outcome


def _unloadable(error: BaseException, where: str) -> BaseException:
    """Which machine lacks what, and what to do about it."""
    if isinstance(error, CannotLoad) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name:
        told = CannotLoad(
            f"module {error.name!r} is not importable on node {where}: install it there, or put "
            f"its directory on that node's PYTHONPATH{_or_send_it(error.name)}"
        )
    else:
        told = CannotLoad(
            f"the task could not be loaded on node {where}: {_headline(error)}; the node needs "
            "the same code and the same versions as the program that submitted it"
        )
    if versions.met:
        told = CannotLoad(f"{told}; {_other_versions()}")
    return told.with_traceback(error.__traceback__)


def _or_send_it(name: str) -> str:
    living = opening.living()
    left = living is not None and opening.is_under(name, living.left)
    return ", or take it out of no_ship" if left else ""


def _other_versions() -> str:
    return f"on node {WHERE} there are other versions: {versions.in_words(versions.met)}"


def remarked(codec: int, blob: bytes) -> tuple[int, bytes]:
    """The same results, with what the program has not been told yet of this machine's packages.

    What is not taken for a result may reach nobody, and says it in its failures' own words."""
    if not blob or codec == LACKING or len(blob) > limits.BLOB_OCTETS_MAX - REMARKS_OCTETS:
        return codec, blob
    told = [values.OtherVersion(WHERE, *other) for other in versions.news.values()]
    versions.news.clear()
    return values.with_remarks(codec, blob, told)


def _unsendable(result: Any, error: BaseException) -> BaseException:
    told = CannotShip(
        f"the task's result, of type {type(result).__module__}.{type(result).__qualname__}, "
        f"cannot be sent: {_headline(error)}; return plain data, or something that can be pickled"
    )
    return told.with_traceback(error.__traceback__)
