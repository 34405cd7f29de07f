"""A worker hands results on from item to item of a chunk, as if each of them had travelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stealmesh.workers import run as runner
from stealmesh.workers import wire
from stealmesh.workers.division import ChunkRun, Failed
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome
from stealmesh_protocol import given, values
from stealmesh_protocol.apart import LeavesItselfOut, packed_apart
from stealmesh_protocol.errors import Defer
from stealmesh_protocol.values import Entry


class Before(LeavesItselfOut):
    """The result of the item before."""


def items(*args: tuple[Any, ...]) -> list[Entry]:
    """Calls, as a worker gets them: a `Before` in the arguments leaves a place empty."""
    found: list[Entry] = []
    for each in args:
        packed, left_out = packed_apart(values.pack, (each, {}))
        blob = given.item_apart(packed, 1, {}) if left_out else values.join_entries([packed])
        found += values.entries_of(blob)
    return found


def order(count: int, stays_from: int = 0) -> ChunkOrder:
    blocks: list[list[Any]] = [[at, at + 1, values.ITEMS, b"", b""] for at in range(count)]
    for block in blocks[1:]:
        block[2] = wire.BEHIND
    told = ChunkOrder(wire.SUBMIT, b"f", b"", 0, 0, False, 0, 0, count, blocks)
    told.stays_from = stays_from
    return told


def run(
    function: Callable[..., Any], *args: tuple[Any, ...], stays_from: int = 0
) -> tuple[ChunkOutcome, list[tuple[int, int, int]]]:
    """The last word on the chunk, and the parts (from, to, codec) that were told before."""
    told: list[tuple[int, int, int]] = []

    def begins(count: int, results: list[Any], failures: Failed, now: float) -> ChunkRun:
        return ChunkRun(1, 0, True, results, failures, now, count)

    def tells(going: ChunkRun, lo: int, upto: int, codec: int, blob: bytes, failed: int) -> bool:
        told.append((lo, upto, codec))
        going.told = upto
        return True

    chunk = order(len(args), stays_from)
    handed = runner.handed_on(items(*args), "here", stays_from)
    watch = (begins, lambda going: None, tells)
    outcome = runner.run(chunk, function, None, handed, lambda lo, hi: [], watch)
    return outcome, told


def opened(outcome: ChunkOutcome) -> tuple[list[Any], list[values.Failure]]:
    return values.unpack_outcomes(outcome.codec, outcome.blob)


def test_each_item_gets_the_result_before_it() -> None:
    outcome, told = run(lambda a, b: a + b, (1, 2), (Before(), 10), (Before(), 100))
    assert opened(outcome) == ([3, 13, 113], [])
    assert (outcome.done, told) == (3, [])


def test_what_an_item_does_with_a_result_changes_no_other() -> None:
    def longer(some: list[int]) -> list[int]:
        some.append(len(some))
        return some

    outcome, _ = run(longer, ([],), (Before(),), (Before(),))
    assert opened(outcome)[0] == [[0], [0, 1], [0, 1, 2]]


def test_nothing_begins_behind_a_failure() -> None:
    ran: list[int] = []

    def task(x: int) -> int:
        ran.append(x)
        if x == 1:
            raise ValueError("no")
        return x + 1

    outcome, told = run(task, (0,), (Before(),), (Before(),))
    results, failures = opened(outcome)
    assert ran == [0, 1]
    assert (results[0], [f.offset for f in failures], outcome.done) == (1, [1], 2)
    assert told == []


def test_nothing_begins_behind_an_item_that_is_put_off() -> None:
    ran: list[int] = []

    def task(x: int) -> int:
        ran.append(x)
        if x == 1:
            raise Defer(0.1)
        return x + 1

    outcome, told = run(task, (0,), (Before(),), (Before(),))
    assert ran == [0, 1]
    assert told == [(0, 1, values.PLAIN), (1, 2, values.AGAIN)]
    assert (outcome.done, outcome.blob) == (2, b"")


class Unopened:
    """Can be packed, and not opened."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Odd:
    """Ends who packs it."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "result", [threading.Lock(), Unopened(), Odd(), b"x" * 70_000], ids=lambda r: type(r).__name__
)
def test_what_cannot_be_handed_on_ends_the_chunk(result: Any) -> None:
    """It is told at its own place, and what needs it is given back."""
    ran: list[Any] = []

    def task(x: Any) -> Any:
        ran.append(x)
        return result if len(ran) == 2 else 5

    outcome, _ = run(task, (0,), (Before(),), (Before(),))
    assert (len(ran), outcome.done) == (2, 2)


def test_a_result_that_may_stay_is_not_handed_on() -> None:
    """From half the size on, as sizes are not measured in one way."""
    for octets, done in ((40, 3), (60, 1)):
        outcome, _ = run(lambda x: x, (b"x" * octets,), (Before(),), (Before(),), stays_from=100)
        assert outcome.done == done


def test_what_is_given_back_does_not_begin() -> None:
    """The listener empties the iterator while an item runs."""
    handed = runner.handed_on(items((0,), (Before(),), (Before(),)), "here", 0)
    source: Iterator[Any] = iter(handed)
    assert next(source) == ((0,), {})
    handed.results.append(7)
    assert next(source) == ((7,), {})
    source.__setstate__(1 << 40)  # type: ignore[attr-defined]
    assert list(source) == []


def test_a_function_that_cannot_be_loaded_fails_the_first_item_alone() -> None:
    from stealmesh.workers.outcome import all_failed

    outcome = all_failed(order(3), ImportError("gone"), "here", lacking=True)
    assert (outcome.codec, outcome.done, outcome.failed) == (values.LACKING, 1, 1)
