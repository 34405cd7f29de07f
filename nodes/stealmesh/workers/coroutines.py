"""Runs the items of a chunk whose function is `async def`, one after the other, on the worker's event loop.

The promises are those of run.py. Many such chunks run side by side, so each of them waits only for itself.
An item whose time is up is cancelled as coroutines are; its neighbours do not notice. Refuses to know orders,
sockets, and who else is on the loop. One that the program stops is cancelled, too. What a task leaves on the loop (its own asyncio tasks) goes on there.
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from stealmesh.workers import present, reporting, stopping, wire
from stealmesh.workers.again import may_try_again, put_off
from stealmesh.workers.failures import Failures
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome
from stealmesh.workers.run import (
    Again,
    Begins,
    Ends,
    Items,
    Speak,
    Tells,
    as_sent,
    fold,
    note_failure,
    say_again,
    told,
)
from stealmesh_protocol.raised import headline
from stealmesh_protocol.unasked import is_a
from stealmesh_protocol.values import Failure


class TimeIsUp(Exception):
    """An item has run longer than its timeout."""


async def run(
    chunk: ChunkOrder,
    function: Any,
    combine: Any,
    items: Items,
    again: Again,
    watch: tuple[Begins, Ends, Tells] | None = None,
) -> ChunkOutcome:
    """As `run.run`, for coroutines."""
    failures, count, begun = Failures(), len(items), perf_counter()
    results: list[Any] = []
    reporting.HERE.results = results
    here = present.begins(results)
    source = iter(items)
    if watch is None:
        later = await _one_by_one(chunk, function, source, results, again, failures)
        await _over(here)
        if later is not None:
            return ChunkOutcome(*later, perf_counter() - begun, done=1)
        return told(chunk, _folded(chunk, combine, results, failures), failures, begun, count)
    begins, ends, tells = watch
    here.run = going = begins(count, results, failures, begun)
    if going.goes_on(source):
        speak = (going, tells)
        await _one_by_one(chunk, function, source, results, again, failures, speak)
    await _over(here)
    ends(going)
    done = len(results)
    if chunk.kind == wire.REDUCE:
        # A failed reduction counts whole, and ends where the part that was given back starts.
        done = going.kept if failures.records else done
        results = _folded(chunk, combine, results, failures)
    elif going.told:
        results, failures = results[going.told :], failures.behind(going.told)
    return told(chunk, results, failures, going.since, done)


def _folded(chunk: ChunkOrder, combine: Any, results: list[Any], failures: Failures) -> list[Any]:
    if chunk.kind != wire.REDUCE or failures.records or not results:
        return results
    return fold(combine, results, failures)


async def _one_by_one(
    chunk: ChunkOrder,
    function: Any,
    source: Iterator[Any],
    results: list[Any],
    again: Again,
    failures: Failures,
    speak: Speak | None = None,
) -> tuple[int, bytes] | None:
    """Append results in the order of the items, with None where an item failed.

    With `speak`, items may run again later. Returns what to say of the chunk's only item, if that is to run
    again later. An item of a reduction that failed is tried again at once.
    """
    while (error := await _each(chunk, function, source, results)) is not None:
        offset = len(results)
        attempts = [headline(error)]
        if chunk.kind == wire.REDUCE:
            last = await _at_once(chunk, function, results, again, attempts, error)
            if last is None:
                continue
            error = last
        elif not is_a(error, TimeIsUp):
            later = put_off(error, chunk.retries)
            if later is not None:
                if speak is None:
                    return later
                here = present.PRESENT.get()
                if here is not None and here.family is not None:
                    await _beside(here.item_over)
                say_again(chunk, results, failures, speak, *later)
                results.append(None)
                continue
        if is_a(error, TimeIsUp):
            failures.records.append(_timed_out(chunk, offset))
        else:
            note_failure(chunk, function, failures, offset, error, attempts)
        if chunk.kind == wire.REDUCE:
            return None  # one missing item makes the partial worthless
        results.append(None)
    return None


async def _at_once(
    chunk: ChunkOrder,
    function: Any,
    results: list[Any],
    again: Again,
    attempts: list[str],
    error: BaseException,
) -> BaseException | None:
    """Try the item again. Returns why it has failed; None: it has its result."""
    offset = len(results)
    while len(attempts) <= chunk.retries and not is_a(error, TimeIsUp) and may_try_again(error):
        fresh, fault = as_sent(again, offset, offset + 1)
        if fault is None:
            fault = await _each(chunk, function, iter(fresh), results)
        if fault is None:
            return None
        error = fault
        attempts.append(headline(error))
    return error


async def _each(
    chunk: ChunkOrder, function: Any, source: Iterator[Any], results: list[Any]
) -> BaseException | None:
    """Append results until one fails: then exactly the items before it have one."""
    calls = chunk.kind == wire.SUBMIT
    try:
        for item in source:
            if results:
                await asyncio.sleep(0)  # coroutines that never wait take turns
            made = function(*item[0], **item[1]) if calls else function(item)
            if hasattr(type(made), "__await__"):
                made = await (_in_time(made, chunk.timeout) if chunk.timeout else made)
            end_if_forked()
            results.append(made)
    except BaseException as error:
        end_if_forked(error)
        _go_on()
        here = present.PRESENT.get()
        if here is not None and here.family is not None:
            await _beside(present.item_failed)
        return stopping.FromOutside() if stopping.NOW.has_stopped_it() else error
    return None


async def _over(here: present.Present) -> None:
    """What the items have left to be run (`stealmesh.here()`) runs in a thread: the loop is others', too."""
    if here.family is None:
        here.ends()
    else:
        await _beside(here.ends)


async def _beside(work: Callable[[], None]) -> None:
    """In a thread, to its end: the program may stop the item meanwhile, and that must not cut this short."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    while not thread.done():
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            _go_on()


def _go_on() -> None:
    """A task that cancelled itself must not cancel what comes after it in the same chunk."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def _in_time(made: Any, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await made
    except TimeoutError as error:
        if limit.expired():
            raise TimeIsUp from error
        raise


def _timed_out(chunk: ChunkOrder, offset: int) -> Failure:
    """In the words of the node (holding/poison.py), which ends other tasks that take too long."""
    text = f"item {chunk.lo + offset} of {chunk.name} ran longer than its timeout of {chunk.timeout:g} s"
    return Failure(offset, "timeout", text=text)
