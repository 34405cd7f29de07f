from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from itertools import count
from operator import length_hint
from typing import Any, NoReturn

import numpy as np
import pytest

from stealmesh.workers import outcome, wire
from stealmesh.workers import run as runner
from stealmesh.workers.division import ChunkRun, Failed
from stealmesh.workers.failures import TRACEBACK_CHARS_A_CHUNK_MAX
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome
from stealmesh.workers.sealed import Opening
from stealmesh.workers.stopping import FromOutside
from stealmesh_protocol import values
from stealmesh_protocol.errors import TaskStopped


def chunk(kind: int = wire.MAP, *, vectorized: bool = False, retries: int = 0) -> ChunkOrder:
    return ChunkOrder(kind, b"f", b"c", 0, 1, vectorized, retries, 0, 0, [])


def run(
    function: Any, items: Any, kind: int = wire.MAP, combine: Any = operator.add, **options: Any
) -> ChunkOutcome:
    """With items that come fresh from their blob for another attempt."""
    codec, blob = values.pack_list(list(items))

    def again(lo: int, hi: int) -> list[Any]:
        return values.unpack_list(codec, blob)[lo:hi]

    return runner.run(chunk(kind, **options), function, combine, items, again)


def opened(outcome: ChunkOutcome) -> tuple[list[Any], list[values.Failure]]:
    return values.unpack_outcomes(outcome.codec, outcome.blob)


def value(outcome: ChunkOutcome) -> Any:
    assert not outcome.failed, opened(outcome)
    return values.unpack(outcome.codec, outcome.blob)


# ---------------------------------------------------------------- each item once


def test_results_are_in_the_order_of_the_items() -> None:
    assert value(run(lambda x: x * 2, range(5))) == [0, 2, 4, 6, 8]


def test_calls_get_their_arguments() -> None:
    items = [((1, 2), {}), ((), {"a": 3, "b": 4})]
    assert value(run(lambda a, b: a - b, items, wire.SUBMIT)) == [-1, -1]


@pytest.mark.parametrize(
    "error", [ValueError("no"), StopIteration(7), SystemExit(3), MemoryError()]
)
def test_a_failing_item_harms_no_other_and_nothing_runs_twice(error: BaseException) -> None:
    ran: list[int] = []

    def task(x: int) -> int:
        ran.append(x)
        if x % 3 == 1:
            raise error
        return x

    outcome = run(task, range(6))
    results, failures = opened(outcome)
    assert ran == list(range(6))
    assert outcome.failed == 2
    assert [f.offset for f in failures] == [1, 4]
    assert [results[i] for i in (0, 2, 3, 5)] == [0, 2, 3, 5]
    assert type(values.rebuild(failures[0])) is type(error)


def test_the_story_begins_at_the_task() -> None:
    def deep() -> NoReturn:
        raise KeyError("lost")

    (_, (failure,)) = opened(run(lambda _: deep(), range(1)))
    assert failure.text == "KeyError: 'lost'"
    assert "deep" in failure.traceback
    assert "_apply_each" not in failure.traceback


def test_another_attempt_gets_the_item_as_it_was_sent() -> None:
    seen: list[list[int]] = []

    def task(item: list[int]) -> int:
        seen.append(list(item))
        item.append(9)
        if len(seen) < 3:
            raise ValueError(len(seen))
        return sum(item)

    assert value(run(task, [[1]], wire.REDUCE, retries=2)) == 10
    assert seen == [[1], [1], [1]]


def test_attempts_are_told_one_by_one() -> None:
    numbers = count()

    def task(_: int) -> NoReturn:
        raise ValueError(next(numbers))

    (_, (failure,)) = opened(run(task, range(1), wire.REDUCE, retries=2))
    assert failure.attempts == ["ValueError: 0", "ValueError: 1", "ValueError: 2"]
    assert str(values.rebuild(failure)) == "2"


class OpensOnce:
    """Its own code refuses to be called a second time in one process."""

    opened = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __setstate__(self, state: dict[str, int]) -> None:
        type(self).opened += 1
        if type(self).opened > 1:
            raise OSError("the line is taken")
        self.value = state["value"]


@pytest.mark.parametrize("vectorized", [False, True])
def test_an_item_that_cannot_be_opened_again_fails_alone(vectorized: bool) -> None:
    """Such an error passed through the loop, and ended the worker."""
    OpensOnce.opened = 0
    codec, blob = values.pack_list([OpensOnce(5)])

    def again(lo: int, hi: int) -> list[Any]:
        return values.unpack_list(codec, blob)[lo:hi]

    def task(_: Any) -> NoReturn:
        raise ValueError("no")

    order = chunk(wire.REDUCE, retries=2, vectorized=vectorized)
    outcome = runner.run(order, task, None, again(0, 1), again)
    (_, (failure,)) = opened(outcome)
    assert "the line is taken" in failure.text
    assert len(failure.attempts) == 3
    assert failure.attempts[0] == "ValueError: no"


class Closed:
    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> NoReturn:
    raise OSError("not here")


@pytest.mark.parametrize("failing", [1, 3])
def test_a_whole_chunk_is_tried_again_beside_an_item_that_cannot_be_opened(failing: int) -> None:
    codec, blob = values.pack_list([[1], Closed(), [3]])
    assert codec == values.ITEMS
    seen = []

    def again(lo: int, hi: int) -> Any:
        return runner.sealed(runner.open_block(codec, blob)[lo:hi], "here")

    def task(items: list[list[int]]) -> list[int]:
        seen.append([list(item) for item in items])
        items[0].append(9)
        if len(seen) <= failing:
            raise ValueError(len(seen))
        return [sum(item) for item in items]

    outcome = runner.run(chunk(vectorized=True, retries=2), task, None, again(0, 3), again)
    results, failures = opened(outcome)
    assert seen == [[[1], [3]]] * min(3, failing + 1)
    if failing < 3:
        assert (results[0], results[2]) == (10, 3)
        assert [failure.offset for failure in failures] == [1]
    else:
        assert [failure.offset for failure in failures] == [0, 1, 2]
        assert failures[0].attempts == ["ValueError: 1", "ValueError: 2", "ValueError: 3"]
    assert "not here" in next(f.text for f in failures if f.offset == 1)


def test_where_no_item_can_be_opened_nothing_is_called() -> None:
    items = runner.sealed(
        runner.open_block(values.ITEMS, values.pack_list([Closed(), Closed()])[1]), "here"
    )
    called: list[Any] = []
    order = chunk(vectorized=True)
    outcome = runner.run(order, called.append, None, items, lambda lo, hi: items[lo:hi])
    assert [failure.offset for failure in opened(outcome)[1]] == [0, 1]
    assert not called


# ---------------------------------------------------------------- reductions, whole chunks


def test_partials_meet_in_order() -> None:
    assert value(run(str, range(4), wire.REDUCE)) == "0123"


def test_a_failing_item_fails_its_partial_at_once() -> None:
    ran: list[int] = []

    def task(x: int) -> float:
        ran.append(x)
        return 1 / (2 - x)

    outcome = run(task, range(5), wire.REDUCE)
    assert outcome.failed == 1
    assert [f.offset for f in opened(outcome)[1]] == [2]
    assert ran == [0, 1, 2]


def test_a_failing_combine_fails_the_partial() -> None:
    outcome = run(lambda x: x, [1, "a"], wire.REDUCE)
    assert outcome.failed == 1
    assert isinstance(values.rebuild(opened(outcome)[1][0]), TypeError)


def test_a_vectorized_function_gets_the_chunk() -> None:
    assert value(run(lambda r: [x + 1 for x in r], range(3), vectorized=True)) == [1, 2, 3]
    assert value(run(sum, range(4), wire.REDUCE, vectorized=True)) == 6


def test_an_array_travels_as_it_is() -> None:
    outcome = run(lambda r: np.arange(r.start, r.stop) * 2, range(3), vectorized=True)
    assert isinstance(value(outcome), np.ndarray)
    assert opened(outcome)[0] == [0, 2, 4]


def test_too_few_results_are_an_error_of_every_item() -> None:
    outcome = run(lambda r: list(r)[1:], range(3), vectorized=True)
    _, failures = opened(outcome)
    assert [f.offset for f in failures] == [0, 1, 2]
    assert "returned 2 results for a chunk of 3" in failures[0].text


def test_a_whole_chunk_is_tried_again_with_fresh_items() -> None:
    seen: list[list[int]] = []

    def task(items: list[int]) -> list[int]:
        seen.append(list(items))
        items.clear()
        if len(seen) < 2:
            raise ValueError
        return [7, 8]

    assert value(run(task, [1, 2], vectorized=True, retries=1)) == [7, 8]
    assert seen == [[1, 2], [1, 2]]


# ---------------------------------------------------------------- what cannot travel


def test_a_result_that_cannot_be_sent_is_named_and_its_neighbours_are_saved() -> None:
    outcome = run(lambda x: threading.Lock() if x == 1 else x, range(3))
    results, (failure,) = opened(outcome)
    assert (failure.offset, failure.kind) == (1, values.UNSENDABLE)
    assert "_thread.lock" in failure.text
    assert (results[0], results[2]) == (0, 2)


def test_unsendable_results_beside_failed_items_are_found() -> None:
    def task(x: int) -> Any:
        return threading.Lock() if x == 2 else 1 // x

    results, failures = opened(run(task, range(4)))
    assert [(f.offset, f.kind) for f in failures] == [(0, "raised"), (2, "unsendable")]
    assert (results[1], results[3]) == (1, 0)


def test_an_unsendable_partial_is_a_failure() -> None:
    outcome = run(lambda _: threading.Lock(), range(1), wire.REDUCE)
    assert [f.kind for f in opened(outcome)[1]] == [values.UNSENDABLE]


def test_results_that_fail_only_together_fail_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def pack_list(items: Any, **_: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(values, "pack_list", pack_list)
    monkeypatch.setattr(
        values, "pack_outcomes", lambda results, failures: (0, b"%d" % len(list(failures)))
    )
    outcome = run_range(lambda x: x, 3)
    assert (outcome.failed, outcome.blob) == (3, b"3")


def run_range(function: Callable[[int], Any], n: int) -> ChunkOutcome:
    return runner.run(chunk(), function, None, range(n), lambda lo, hi: range(lo, hi))


class NotLoadable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one argument is remembered")


def test_an_exception_with_a_constructor_of_its_own_travels_by_its_parts() -> None:
    def task(_: int) -> NoReturn:
        raise NotLoadable(1, 2)

    (_, (failure,)) = opened(run(task, range(1)))
    assert type(values.rebuild(failure)) is NotLoadable
    assert failure.text == "NotLoadable: only one argument is remembered"


def test_an_exception_that_cannot_be_had_elsewhere_travels_as_text_and_bases() -> None:
    lock = threading.Lock()

    class Local(NotLoadable):
        held = lock

    def task(_: int) -> NoReturn:
        raise Local(1, 2)

    (_, (failure,)) = opened(run(task, range(1)))
    assert failure.exception == b""
    assert [base.rpartition(":")[2] for base in failure.bases] == ["NotLoadable", "Exception"]
    assert isinstance(values.rebuild(failure), NotLoadable)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


def test_an_exception_that_cannot_be_printed_is_still_reported() -> None:
    def task(_: int) -> NoReturn:
        raise Unprintable

    (_, (failure,)) = opened(run(task, range(1)))
    assert "Unprintable" in failure.text


def test_many_equal_failures_do_not_grow_without_bound() -> None:
    def task(_: int) -> NoReturn:
        raise ValueError("x" * 1000)

    _, failures = opened(run(task, range(5000)))
    assert len(failures) == 5000
    assert sum(len(f.traceback) for f in failures) < 2 * TRACEBACK_CHARS_A_CHUNK_MAX


def test_what_cannot_be_loaded_names_the_module_and_the_remedy() -> None:
    error = ModuleNotFoundError("No module named 'lights'", name="lights")
    told = ChunkOrder(wire.MAP, b"f", b"", 0, 1, False, 0, 10, 13, [])
    _, failures = opened(outcome.all_failed(told, error, "n1 (h1)"))
    assert [f.offset for f in failures] == [0, 1, 2]
    assert failures[0].kind == values.UNLOADABLE
    assert "'lights'" in failures[0].text
    assert "n1 (h1)" in failures[0].text
    assert "install" in failures[0].text


# ---------------------------------------------------------------- stopped between two items


class Interrupted(Opening):
    """The signal comes when the loop is about to take the item at `place`, before or after it has."""

    def __init__(self, items: range, place: int, *, after: bool) -> None:
        super().__init__(iter(items), str)
        self.place = place
        self.after = after
        self.due = True

    def __next__(self) -> Any:
        here = ITEMS - length_hint(self) == self.place
        item = super().__next__() if self.after or not here or not self.due else None
        if here and self.due:
            self.due = False
            error = FromOutside()
            raise error
        return item


ITEMS = 6


class StoppedItems:
    def __init__(self, place: int, *, after: bool) -> None:
        self.source = Interrupted(range(ITEMS), place, after=after)

    def __len__(self) -> int:
        return ITEMS

    def __iter__(self) -> Interrupted:
        return self.source


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("place", range(ITEMS))
def test_no_result_moves_when_a_task_is_stopped(place: int, after: bool) -> None:
    """Not even if the signal comes between two items."""

    def begins(length: int, results: list[Any], failures: Failed, now: float) -> ChunkRun:
        return ChunkRun(1, 0, True, results, failures, now, length)

    ran: list[int] = []

    def task(x: int) -> int:
        ran.append(x)
        return x

    items: Any = StoppedItems(place, after=after)
    watch = (begins, lambda run: None, lambda *told: True)
    outcome = runner.run(chunk(), task, None, items, lambda lo, hi: range(lo, hi), watch)
    assert ran == [x for x in range(ITEMS) if x != place]
    if place == ITEMS - 1 and after:
        assert outcome.done == place, "the loop may end before it, and gives it back"
        assert value(outcome) == ran
    else:
        found, (failure,) = opened(outcome)
        assert outcome.done == ITEMS
        assert (failure.offset, failure.kind) == (place, values.STOPPED)
        assert [x for at, x in enumerate(found) if at != place] == ran


def test_a_task_s_own_exception_of_that_name_is_its_own() -> None:
    def task(x: int) -> int:
        if x == 2:
            raise TaskStopped("mine")
        return x

    found, (failure,) = opened(run(task, range(4)))
    assert [found[at] for at in (0, 1, 3)] == [0, 1, 3]
    assert failure.offset == 2
