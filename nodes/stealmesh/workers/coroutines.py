"""Runs the items of a chunk whose function is `async def`, one after the other, on the worker's event loop.

The promises are those of run.py. Many such chunks run side by side, so each of them waits only for itself.
An item whose time is up is cancelled as coroutines are; its neighbours do not notice. Refuses to know orders,
sockets, and who else is on the loop. What a task leaves on the loop (its own asyncio tasks) goes on there.
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from stealmesh.workers import present, reporting, wire
from stealmesh.workers.failures import Failures, hide_frames_of, is_lacking
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome
from stealmesh.workers.run import (
    Again,
    Begins,
    Ends,
    Items,
    as_sent,
    fold,
    note_failure,
    told,
)
from stealmesh_protocol.raised import headline
from stealmesh_protocol.values import Failure

hide_frames_of(__file__)


class TimeIsUp(Exception):
    """An item has run longer than its timeout."""


async def run(
    chunk: ChunkOrder,
    function: Any,
    combine: Any,
    items: Items,
    again: Again,
    watch: tuple[Begins, Ends] | None = None,
) -> ChunkOutcome:
    """As `run.run`, for coroutines."""
    failures, count, begun = Failures(), len(items), perf_counter()
    results: list[Any] = []
    reporting.HERE.results = results
    here = present.begins(results)
    source = iter(items)
    if watch is None:
        await _one_by_one(chunk, function, source, results, again, failures)
        await _over(here)
        return told(chunk, _folded(chunk, combine, results, failures), failures, begun, count)
    begins, ends = watch
    here.run = going = begins(count, results, failures, begun)
    if going.goes_on(source):
        await _one_by_one(chunk, function, source, results, again, failures)
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
) -> None:
    """Append results in the order of the items, with None where an item failed."""
    while (error := await _each(chunk, function, source, results)) is not None:
        offset = len(results)
        attempts = [headline(error)]
        while (
            len(attempts) <= chunk.retries
            and not is_lacking(error)
            and not isinstance(error, TimeIsUp)
        ):
            fresh, fault = as_sent(again, offset, offset + 1)
            if fault is None:
                fault = await _each(chunk, function, iter(fresh), results)
            if fault is None:
                break
            error = fault
            attempts.append(headline(error))
        else:
            if isinstance(error, TimeIsUp):
                failures.records.append(_timed_out(chunk, offset))
            else:
                note_failure(chunk, function, failures, offset, error, attempts)
            if chunk.kind == wire.REDUCE:
                return  # one missing item makes the partial worthless
            results.append(None)


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
            if hasattr(made, "__await__"):
                made = await (_in_time(made, chunk.timeout) if chunk.timeout else made)
            end_if_forked()
            results.append(made)
    except BaseException as error:
        end_if_forked(error)
        _go_on()
        here = present.PRESENT.get()
        if here is not None and here.family is not None:
            await asyncio.to_thread(present.item_failed)
        return error
    return None


async def _over(here: present.Present) -> None:
    """What the items have left to be run (`stealmesh.here()`) runs in a thread: the loop is others', too."""
    if here.family is None:
        here.ends()
    else:
        await asyncio.to_thread(here.ends)


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
