"""Runs the items of a chunk, one by one or all at once.

Only this file and explore.py call user code. They are given functions and items, never an order or a
socket, so that tests need no process. Three promises:

* No item runs twice because a neighbour failed: the loop goes on behind it.
* What a task does short of ending its process comes back as a failure of that very item:
  any exception (SystemExit too), a result that cannot be sent, a function that cannot be loaded.
* Another attempt at an item gets the item as it was sent, not as the first attempt left it.
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import length_hint
from pickle import loads
from time import perf_counter
from typing import Any

from stealmesh.returned import results_of
from stealmesh.shipping import versions
from stealmesh.workers import present, reporting, stopping, wire
from stealmesh.workers.again import may_try_again, put_off, undeferred
from stealmesh.workers.division import ChunkRun, Failed
from stealmesh.workers.failures import (
    Failures,
    is_lacking_for_an_item,
    unloadable,
    unopened,
)
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.memory import LIMIT, named, out_of_memory
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome, pack_partial, pack_results
from stealmesh.workers.sealed import (
    CannotOpenCarried,
    CannotOpenItem,
    HandedOn,
    HandingOn,
    Opening,
    SealedItems,
)
from stealmesh.workers.stopping import FromOutside
from stealmesh_protocol import values
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import TaskStopped
from stealmesh_protocol.raised import headline
from stealmesh_protocol.unasked import is_a
from stealmesh_protocol.values import OUT_OF_MEMORY, RAISED, STOPPED, UNLOADABLE

FOLD_ITEMS = 1 << 14
"""Results that a reduction folds together. It bounds what a divided chunk still has to do, and cheap
results of this number are still in the processor's cache."""

Items = list[Any] | range | SealedItems
Again = Callable[[int, int], Items]
"""Items [lo, hi) of the chunk once more, as they were sent."""

Begins = Callable[[int, list[Any], Failed, float], ChunkRun]
Ends = Callable[[ChunkRun], None]
Tells = Callable[[ChunkRun, int, int, int, bytes, int], bool]
"""For the listener that answers questions about the chunk while it runs (division.py)."""


def run(
    chunk: ChunkOrder,
    function: Any,
    combine: Any,
    items: Items,
    again: Again,
    watch: tuple[Begins, Ends, Tells] | None = None,
) -> ChunkOutcome:
    """Run all items of the chunk in order, or those that stay here if it is divided meanwhile.

    A chunk that takes its items one by one can be divided; a vectorized one cannot.
    """
    failures, count = Failures(), len(items)
    begun = perf_counter()
    results: list[Any] = []
    here = present.begins(results)
    if chunk.vectorized:
        whole = _at_once(chunk, function, items, again, failures)
        here.ends()
        return told(chunk, whole, failures, begun, count)
    reporting.HERE.results = results
    if isinstance(items, HandedOn):
        items.results = results
    if watch is None or count == 1:
        later = _one_by_one(chunk, function, iter(items), results, again, failures)
        here.ends()
        if later is not None:
            return ChunkOutcome(*later, perf_counter() - begun, done=1)
        if chunk.kind == wire.REDUCE and not failures.records:
            results = fold(combine, results, failures)
        return told(chunk, results, failures, begun, count)
    begins, ends, tells = watch
    here.run = going = begins(count, results, failures, begun)
    if chunk.kind != wire.REDUCE:
        source = iter(items)
        if going.goes_on(source):
            _one_by_one(chunk, function, source, results, again, failures, (going, tells))
        here.ends()
        ends(going)
        done = len(results)
        if going.told:
            results, failures = results[going.told :], failures.behind(going.told)
        return told(chunk, results, failures, going.since, done)
    partial = _fold_on(chunk, function, combine, items, results, again, failures, going)
    here.ends()
    ends(going)
    # A failed reduction counts whole, and ends where the part that was given back starts.
    done = going.kept if failures.records else len(results)
    return told(chunk, partial, failures, going.since, done)


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
    """The partial, in a list. It folds on the way, so that a divided chunk ends soon and folded results
    can go. The list of results keeps its length, which counts them."""
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
        partial = fold(combine, partial + fresh, failures)
        if failures.records:
            break
    return partial


Speak = tuple[ChunkRun, Tells]
"""For a chunk that speaks of its items before its end."""


def say_again(
    chunk: ChunkOrder,
    results: list[Any],
    failures: Failures,
    speak: Speak,
    codec: int,
    blob: bytes,
) -> None:
    """The item behind `results` is to run again: tell the results before it, and then that. The listener
    may tell some of them at the same time. The caller sees to what items have left of their own tasks."""
    going, tells = speak
    offset = len(results)
    while (first := going.told) < offset:
        before = told(chunk, results[first:], failures.behind(first), going.since, offset)
        tells(going, first, offset, before.codec, before.blob, before.failed)
    tells(going, offset, offset + 1, codec, blob, 0)


def told(
    chunk: ChunkOrder, results: Sequence[Any], failures: Failures, since: float, done: int
) -> ChunkOutcome:
    """Pack what is not told yet, up to the item `done`. It may be nothing."""
    seconds = perf_counter() - since
    if chunk.keeps:
        failures.lacking = False
    if len(results) == 0 and not failures.records:
        return ChunkOutcome(values.PLAIN, b"", seconds, done=done)
    if chunk.kind == wire.REDUCE:
        outcome = pack_partial(results, failures, seconds)
    else:
        away = None if chunk.away is None else chunk.away.at(chunk.lo + done - len(results))
        outcome = pack_results(results, failures, seconds, away)
    outcome.done = done
    return outcome


def _one_by_one(
    chunk: ChunkOrder,
    function: Any,
    source: Iterator[Any],
    results: list[Any],
    again: Again,
    failures: Failures,
    speak: Speak | None = None,
) -> tuple[int, bytes] | None:
    """Append results in the order of the items, with None where an item failed.

    With `speak`, items may run again later, and it may end before the last one: the rest is given back.
    Returns what to say of the chunk's only item, if that is to run again later. An item of a reduction that
    failed is tried again at once.
    """
    go = _call_each if chunk.kind == wire.SUBMIT else _apply_each
    behind = length_hint(source) if speak is not None else 0
    now = stopping.NOW
    while True:
        try:  # as in `_watched`; a call less
            now.inside = True
            error = go(function, source, results)
            now.inside = False
        except FromOutside as stopped:
            now.inside = False
            present.item_failed()
            error = stopped
        if error is None:
            return None
        if (
            speak is not None
            and is_a(error, FromOutside)
            and not _is_behind_it(source, behind, results)
        ):
            return None  # given back, begun or not: its node drops it
        offset = len(results)
        attempts = [headline(error)]
        if chunk.kind != wire.REDUCE:
            later = put_off(error, chunk.retries)
            if later is not None:
                error = None  # its frames hold what the next item needs
                if speak is None:
                    return later
                present.item_over()
                say_again(chunk, results, failures, speak, *later)
                results.append(None)
                _hand_nothing_on(source)
                continue
        else:
            while error is not None and len(attempts) <= chunk.retries and may_try_again(error):
                fresh, error = as_sent(again, offset, offset + 1)
                if error is None:
                    error = _watched(go, function, fresh, results)
                if error is not None:
                    attempts.append(headline(error))
        if error is not None:
            note_failure(chunk, function, failures, offset, error, attempts)
            error = None  # its frames hold what the next item needs
            if chunk.kind == wire.REDUCE:
                return None  # one missing item makes the partial worthless
            results.append(None)
            _hand_nothing_on(source)


def _hand_nothing_on(source: Iterator[Any]) -> None:
    """This item has no result: what needs it does not begin here."""
    if isinstance(source, HandingOn):
        source.end()


def note_failure(
    chunk: ChunkOrder,
    function: Any,
    failures: Failures,
    offset: int,
    error: BaseException,
    attempts: list[str],
) -> None:
    """This item has failed for good."""
    if LIMIT.passed_by(error):
        where = named(function, chunk.lo + offset) if chunk.kind == wire.REDUCE else ""
        failures.add(offset, out_of_memory(error, where), attempts, OUT_OF_MEMORY)
        return
    unopened = is_a(error, CannotOpenItem)
    kind = UNLOADABLE if unopened else STOPPED if is_a(error, TaskStopped) else RAISED
    failures.add(offset, undeferred(error), attempts, kind)
    failures.lacking |= type(error) is CannotOpenCarried
    failures.lacking |= unopened and is_lacking_for_an_item(error)


def _is_behind_it(source: Iterator[Any], behind: int, results: list[Any]) -> bool:
    """The item behind `results` was stopped, perhaps just before the loop took it: now it has. False: the
    source is empty, perhaps because the listener has emptied it, so the item may not have begun."""
    left = length_hint(source)
    if left and behind - left == len(results):
        if isinstance(source, Opening):
            source.pass_over()
        else:
            next(source, None)
    return left > 0


def _watched(
    go: Callable[[Any, Any, list[Any]], BaseException | None],
    function: Any,
    items: Iterable[Any],
    results: list[Any],
) -> BaseException | None:
    """Go through the items, and let the program stop them. If it does so when one is just over, that one
    is stopped."""
    try:
        stopping.NOW.inside = True
        error = go(function, items, results)
        stopping.NOW.inside = False
    except FromOutside as stopped:
        stopping.NOW.inside = False
        present.item_failed()
        return stopped
    return error


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
        present.item_failed()
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
        present.item_failed()
        return error
    return None


def as_sent(again: Again, lo: int, hi: int) -> tuple[Items, BaseException | None]:
    """Items for another attempt. Opening a value again runs its own code again, which may raise."""
    try:
        return again(lo, hi), None
    except BaseException as error:
        end_if_forked(error)
        return [], error


def _at_once(
    chunk: ChunkOrder, function: Any, items: Items, again: Again, failures: Failures
) -> Sequence[Any]:
    """Call the function once for the whole chunk, or for those items that can be opened. Returns as many
    results as items, or (reduce) one partial."""
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
    results, error = _call_whole_watched(function, items, expected)
    while error is not None:
        attempts.append(headline(error))
        if len(attempts) > chunk.retries or not may_try_again(error):
            break
        fresh, error = as_sent(again, 0, count)
        if error is None:
            whole = fresh.open_all()[0] if isinstance(fresh, SealedItems) else fresh
            results, error = _call_whole_watched(function, whole, expected)
    if error is None and not faults:
        return results  # an array stays an array
    kind = RAISED
    if error is not None and LIMIT.passed_by(error):
        error, kind = (
            out_of_memory(error, named(function, chunk.lo) if folds else ""),
            OUT_OF_MEMORY,
        )
    spread: list[Any] = [None] * count
    found = iter(results)
    for offset in range(1 if folds else count):
        if offset in faults:
            continue
        if error is None:
            spread[offset] = next(found)
        else:
            failures.add(offset, undeferred(error), attempts, kind)
    failures.records.sort(key=lambda record: record.offset)
    return spread


def call_carried(blob: bytes, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that is used once and comes with its arguments (client/streams.py)."""
    PICKLES.opens_none()
    versions.begin()
    try:
        function = loads(blob)
    except BaseException as error:
        end_if_forked(error)
        raise CannotOpenCarried(str(unloadable(error))) from error
    return function(*args, **kwargs)


def _call_whole_watched(
    function: Any, items: Any, expected: int | None
) -> tuple[Sequence[Any], BaseException | None]:
    try:
        stopping.NOW.inside = True
        outcome = _call_whole(function, items, expected)
        stopping.NOW.inside = False
    except FromOutside as stopped:
        stopping.NOW.inside = False
        return [], stopped
    return outcome


def _call_whole(
    function: Any, items: list[Any] | range, expected: int | None
) -> tuple[Sequence[Any], BaseException | None]:
    try:
        result = function(items)
        if expected is None:
            return [result], None
        results = results_of(function, result, expected)
    except BaseException as error:
        end_if_forked(error)
        present.item_failed()
        return [], error
    return results, None


def fold(combine: Any, results: Sequence[Any], failures: Failures) -> list[Any]:
    """The one partial of a chunk, in a list."""
    try:
        return [functools.reduce(combine, results)]
    except BaseException as error:
        end_if_forked(error)
        failures.add(0, error)
        return []


def open_block(codec: int, blob: bytes) -> list[Any]:
    """The items of a block. Items that were packed one by one stay packed, for `SealedItems`."""
    if codec == values.ITEMS:
        return list(values.entries_of(blob))
    return values.unpack_list(codec, blob)


def sealed(items: list[Any], where: str) -> SealedItems:
    return SealedItems(items, lambda fault: unopened(fault, where))


def handed_on(items: list[Any], where: str, stays_from: int) -> HandedOn:
    return HandedOn(items, lambda fault: unopened(fault, where), stays_from)
