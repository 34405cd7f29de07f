"""Tasks inside tasks, in one process: what a worker's loop and its children do, without a worker."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

import stealmesh
from stealmesh.nested import family as families
from stealmesh.workers import division, present, reporting, run
from stealmesh.workers.failures import Failures
from stealmesh.workers.outcome import ChunkOrder
from stealmesh_protocol import values
from stealmesh_protocol.errors import CannotShip, TaskStopped

PATIENCE = 60


@contextmanager
def in_a_task() -> Iterator[Any]:
    """As the loop does around a chunk of one item."""
    one = present.begins([])
    try:
        yield one
    finally:
        one.ends()
        present.PRESENT.set(None)


def as_task(fn: Callable[..., Any], *args: Any) -> Any:
    """What the loop makes of an item: its value, or its exception."""
    with in_a_task() as one:
        try:
            value = fn(*args)
        except BaseException:
            present.item_failed()
            raise
        one.item_over()
        return value


def chunk(function: Any, items: list[Any], retries: int = 0) -> Any:
    """The chunk as a worker runs it: results, or the failures by offset."""
    order = ChunkOrder(1, b"", b"", 0, 0, False, retries, 0, len(items), [])
    outcome = run.run(order, function, None, items, lambda lo, hi: items[lo:hi])
    return values.unpack_list(outcome.codec, outcome.blob) if not outcome.failed else outcome


class Boom(Exception):
    pass


# ---------------------------------------------------------------- what is left


def note(seen: list[Any], what: Any) -> Any:
    seen.append(what)
    return what


def test_what_a_task_leaves_is_over_before_its_result_counts() -> None:
    seen: list[Any] = []

    def child(depth: int) -> None:
        if depth:
            stealmesh.here().submit(child, depth - 1)
        seen.append(depth)

    as_task(child, 3)
    assert seen == [3, 2, 1, 0]


def test_what_a_child_leaves_is_over_before_its_result_counts() -> None:
    seen: list[Any] = []

    def child() -> int:
        stealmesh.here().submit(note, seen, "grandchild")
        return 1

    def parent() -> None:
        sibling = stealmesh.here().submit(note, seen, "sibling")
        assert stealmesh.here().submit(child).result() == 1
        assert seen == ["grandchild"]
        sibling.result()

    as_task(parent)
    assert seen == ["grandchild", "sibling"]


def test_what_a_failed_task_leaves_is_cancelled() -> None:
    seen: list[Any] = []
    futures = []

    def fails() -> None:
        futures.append(stealmesh.here().submit(note, seen, 1))
        raise Boom

    with pytest.raises(Boom):
        as_task(fails)
    assert seen == []
    assert futures[0].cancelled()


def test_a_failed_child_takes_its_own_with_it_and_nothing_else() -> None:
    seen: list[Any] = []

    def fails() -> None:
        stealmesh.here().submit(note, seen, "mine")
        raise Boom

    def parent() -> None:
        stealmesh.here().submit(note, seen, "sibling")
        with pytest.raises(Boom):
            stealmesh.here().submit(fails).result()

    as_task(parent)
    assert seen == ["sibling"]


def test_each_item_of_a_chunk_finishes_its_own() -> None:
    seen: list[Any] = []

    def item(n: int) -> int:
        if n % 2:
            seen.append(n)
        else:
            stealmesh.here().submit(note, seen, -n)
        return n

    assert chunk(item, [2, 3, 4]) == [2, 3, 4]
    assert sorted(seen) == [-4, -2, 3]
    assert seen.index(-2) < seen.index(-4), "at the latest when the next item submits"


def test_an_item_that_fails_cancels_nothing_of_the_item_before_it() -> None:
    seen: list[Any] = []

    def item(n: int) -> int:
        if n == 3:
            raise Boom
        stealmesh.here().submit(note, seen, n)
        return n

    assert chunk(item, [2, 3]).failed == 1
    assert seen == [2]


def test_a_failed_attempt_leaves_nothing_to_the_next() -> None:
    seen: list[Any] = []
    attempts: list[int] = []

    def item(n: int) -> int:
        attempts.append(n)
        stealmesh.here().submit(note, seen, len(attempts))
        if len(attempts) < 3:
            raise Boom
        return n

    order = ChunkOrder(2, b"", b"", 0, 0, False, 2, 0, 1, [])  # a reduction tries again at once
    outcome = run.run(order, item, operator.add, [5], lambda lo, hi: [5])
    assert values.unpack(outcome.codec, outcome.blob) == 5
    assert seen == [3]


def test_an_item_is_told_when_its_children_are_over() -> None:
    going = division.ChunkRun(1, 0, True, [1, 2, 3], Failures(), 0.0, 5)
    going.held = 1
    part = division._packed(going, going.told)
    assert part is not None
    assert part[0] == 1
    going.held = 0
    assert division._packed(going, going.told) is None
    going.held = None
    assert division._packed(going, going.told) is not None


def test_a_chunk_holds_what_its_items_left() -> None:
    runs: list[division.ChunkRun] = []
    held: list[Any] = []

    def begins(count: int, results: list[Any], failures: Any, now: float) -> division.ChunkRun:
        runs.append(division.ChunkRun(1, 0, True, results, failures, now, count))
        return runs[0]

    def item(n: int) -> None:
        held.append(runs[0].held)
        if n == 1:
            stealmesh.here().submit(note, held, "left")
        held.append(runs[0].held)

    order = ChunkOrder(1, b"", b"", 0, 0, False, 0, 0, 3, [])
    items = [0, 1, 2]
    run.run(
        order,
        item,
        None,
        items,
        lambda lo, hi: items[lo:hi],
        (begins, lambda _: None, lambda *told: True),
    )
    assert held == [None, None, None, 1, 1, 1, "left"]
    assert runs[0].held is None


def test_the_with_block_ends_what_was_submitted_in_it() -> None:
    seen: list[Any] = []

    def parent() -> None:
        with stealmesh.here() as mesh:
            mesh.submit(note, seen, 1)
            mesh.submit(child).result()
        assert sorted(map(str, seen)) == ["1", "2", "inner"]

    def child() -> None:
        with stealmesh.here() as mesh:
            mesh.submit(note, seen, "inner")
        assert seen == ["inner"]
        stealmesh.here().submit(note, seen, 2)

    as_task(parent)


# ---------------------------------------------------------------- futures like any other


def test_a_child_runs_when_it_is_asked_for_and_once() -> None:
    seen: list[Any] = []

    def parent() -> None:
        future = stealmesh.here().submit(note, seen, 1)
        assert seen == []
        assert (future.result(), future.result(), future.exception()) == (1, 1, None)

    as_task(parent)
    assert seen == [1]


def test_cancelled_before_it_began_it_never_runs() -> None:
    seen: list[Any] = []

    def parent() -> None:
        future = stealmesh.here().submit(note, seen, 1)
        called: list[Any] = []
        assert future.cancel()
        assert future.cancel()
        future.add_done_callback(called.append)
        assert called == [future]
        assert future.done()
        with pytest.raises(CancelledError):
            future.result()
        finished = stealmesh.here().submit(note, [], 2)
        finished.result()
        assert not finished.cancel()

    as_task(parent)
    assert seen == []


def test_a_callback_has_the_child_run() -> None:
    def parent() -> None:
        over = threading.Event()
        future = stealmesh.here().submit(pow, 2, 10)
        future.add_done_callback(lambda _: over.set())
        assert over.wait(PATIENCE)
        assert future.result() == 1024

    as_task(parent)


def test_a_loop_that_asks_ends() -> None:
    def parent() -> int:
        future = stealmesh.here().submit(pow, 2, 10)
        pause = threading.Event()
        while not future.done():
            pause.wait(0.001)
        return future.result()

    assert as_task(parent) == 1024


@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_wait_waits(when: str) -> None:
    def parent() -> None:
        futures = [stealmesh.here().submit(divmod, 1, n) for n in (1, 0, 2)]
        done, _ = concurrent.futures.wait(futures, PATIENCE, when)
        assert done
        if when == "ALL_COMPLETED":
            assert len(done) == 3
        assert isinstance(futures[1].exception(), ZeroDivisionError)

    as_task(parent)


def test_a_timeout_is_kept_although_the_child_goes_on() -> None:
    def parent() -> str:
        gate = threading.Event()
        future = stealmesh.here().submit(gate.wait, PATIENCE)
        with pytest.raises(TimeoutError):
            future.result(0.01)
        gate.set()
        return "opened" if future.result() else "not opened"

    assert as_task(parent) == "opened"


def test_await_and_gather() -> None:
    async def gathered() -> list[int]:
        mesh = stealmesh.here()
        loop = asyncio.get_running_loop()
        one = await mesh.submit(pow, 2, 2)
        both = await asyncio.gather(mesh.submit(pow, 2, 3), loop.run_in_executor(mesh, pow, 2, 4))
        return [one, *both]

    assert as_task(lambda: asyncio.run(gathered())) == [4, 8, 16]


def test_awaits_inside_awaits_end() -> None:
    async def waits(depth: int) -> int:
        return 1 + await stealmesh.here().submit(deep, depth - 1)

    def deep(depth: int) -> int:
        return asyncio.run(waits(depth)) if depth else 0

    assert as_task(deep, 8) == 8


def test_a_child_that_waits_for_itself_is_told_so() -> None:
    box: list[Any] = []

    def child() -> None:
        box[0].result()

    def parent() -> None:
        box.append(stealmesh.here().submit(child))
        with pytest.raises(RuntimeError, match="waits for its own end"):
            box[0].result()

    as_task(parent)


def test_a_stop_goes_through() -> None:
    """It is meant for the whole task, whatever child it hits."""

    def stopped() -> None:
        raise TaskStopped("now")

    def parent() -> None:
        future = stealmesh.here().submit(stopped)
        concurrent.futures.wait([future], PATIENCE)
        assert isinstance(future.exception(), TaskStopped)
        with pytest.raises(TaskStopped):
            stealmesh.here().submit(stopped).exception()

    as_task(parent)


# ---------------------------------------------------------------- inputs


@dataclass
class Order:
    parts: Any


def total(*values: Any, more: Any = ()) -> int:
    return int(sum(values) + sum(more))


@pytest.mark.parametrize("where", ["plain", "list", "dict", "object", "keyword", "tuples"])
def test_a_future_is_an_input_wherever_it_lies(where: str) -> None:
    def parent() -> Any:
        mesh = stealmesh.here()
        one, two = mesh.submit(pow, 2, 3), mesh.submit(pow, 2, 4)
        if where == "plain":
            return mesh.submit(total, one, two, 1).result()
        if where == "list":
            return mesh.submit(total, more=[one, two, 1]).result()
        if where == "dict":
            return mesh.submit(lambda by: total(*by.values()), {"a": one, 2: two, "c": 1}).result()
        if where == "object":
            return (
                mesh.submit(lambda order: total(*order.parts), Order([one, {}, two][::2])).result()
                + 1
            )
        if where == "keyword":
            return mesh.submit(lambda a, b: a + b, 1, b=mesh.submit(total, one, two)).result()
        return mesh.submit(lambda t: total(*t[0][0]), (([one, two, 1],),)).result()

    assert as_task(parent) == 25


def test_a_child_without_inputs_gets_the_very_object() -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            raise TypeError("never")

    def parent() -> None:
        mesh = stealmesh.here()
        for each in (Unpicklable(), [Unpicklable()], {"a": {"b": 1}}, Order([1, 2])):
            assert mesh.submit(lambda got, each=each: got is each, each).result()

    as_task(parent)


def test_an_input_that_fails_fails_its_dependents_with_its_error() -> None:
    def parent() -> None:
        mesh = stealmesh.here()
        bad = mesh.submit(divmod, 1, 0)
        seen: list[Any] = []
        future = mesh.submit(note, [bad], seen)
        with pytest.raises(ZeroDivisionError) as caught:
            mesh.submit(note, [], future).result()
        assert len(caught.value.__notes__) == 1
        cancelled = mesh.submit(pow, 1, 1)
        cancelled.cancel()
        waits = mesh.submit(pow, cancelled, 1)
        with pytest.raises(CancelledError):
            waits.result()
        assert waits.cancelled()

    as_task(parent)


def test_a_future_where_none_can_be_found_is_refused() -> None:
    class Closed(list):  # type: ignore[type-arg]
        def __reduce_ex__(self, _: Any) -> Any:
            raise TypeError("never")

    def parent() -> None:
        mesh = stealmesh.here()
        with pytest.raises(CannotShip):
            mesh.submit(len, [Closed(), mesh.submit(pow, 1, 1)]).result()

    as_task(parent)


def test_a_map_over_futures_waits_for_each() -> None:
    def parent() -> list[int]:
        mesh = stealmesh.here()
        futures = [mesh.submit(pow, 2, n) for n in range(4)]
        assert sorted(mesh.map(operator.neg, futures, ordered=False)) == [-8, -4, -2, -1]
        return list(mesh.map(total, futures, [1, 1, 1, 1]))

    assert as_task(parent) == [2, 3, 5, 9]


# ---------------------------------------------------------------- maps and the like


def twice(items: Any) -> Any:
    return [2 * n for n in items]


def test_maps_reductions_and_explorations() -> None:
    def expand(n: int) -> tuple[int, list[int]]:
        return 1, [n - 1, n - 2] if n > 1 else []

    def parent() -> None:
        mesh = stealmesh.here()
        assert list(mesh.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
        assert list(mesh.map(pow)) == []
        assert mesh.map_reduce(str, range(5), operator.add, initial=">").result() == ">01234"
        assert mesh.explore(stealmesh.each(expand), [10], operator.add).result() == 177
        assert mesh.map_reduce(str, [], operator.add, initial="x").result() == "x"
        with pytest.raises(TypeError, match="nothing to combine"):
            mesh.map_reduce(str, [], operator.add).result()
        doubled = stealmesh.vectorized(twice)
        assert list(mesh.map(doubled, range(5), chunksize=2)) == [0, 2, 4, 6, 8]
        summed = stealmesh.vectorized(sum)
        assert mesh.map_reduce(summed, range(5), operator.add).result() == 10

    as_task(parent)


def test_a_map_is_lazy_and_ends_with_its_reader() -> None:
    seen: list[Any] = []

    def parent() -> None:
        results = stealmesh.here().map(partial(note, seen), range(10))
        assert seen == []
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        with pytest.raises(TimeoutError):
            next(stealmesh.here().map(partial(note, seen), range(3), timeout=-1))
        with pytest.raises(ValueError, match="chunksize"):
            stealmesh.here().map(note, [], chunksize=0)

    as_task(parent)
    assert seen == [0]


def test_what_an_item_of_a_map_leaves_is_over_before_its_result() -> None:
    seen: list[Any] = []

    def item(n: int) -> int:
        stealmesh.here().submit(note, seen, n)
        return n

    def parent() -> None:
        for n in stealmesh.here().map(item, range(3)):
            assert seen == list(range(n + 1))

    as_task(parent)


# ---------------------------------------------------------------- settings


def test_retries_and_reports() -> None:
    def flaky(box: list[int]) -> int:
        box[0] += 1
        if box[0] < 3:
            raise Boom
        stealmesh.report(box[0], 10)
        return box[0]

    heard: list[Any] = []

    def parent() -> None:
        mesh = stealmesh.here()
        boxes = [[0], [0], [0], [0]]
        assert mesh.options(retries=5).submit(lambda: flaky(boxes[0])).result() == 3
        assert list(mesh.options(retries=2).map(lambda n: flaky(boxes[n]), [1])) == [3]
        with pytest.raises(Boom):
            mesh.options(retries=1).submit(lambda: flaky(boxes[2])).result()
        view = mesh.options(retries=2)
        assert view.map_reduce(lambda n: flaky(boxes[n]), [3], operator.add).result() == 3
        loud = mesh.options(report=lambda *word: heard.append(word))
        loud.submit(stealmesh.report, 1, 2).result()
        loud.submit(stealmesh.report, 3).result()

    as_task(parent)
    assert heard == [(0, 1.0, 2.0), (1, 3.0, None)]


def test_a_child_does_not_speak_for_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(reporting.Here, "tell", lambda _, *word: heard.append(word))

    def parent() -> None:
        stealmesh.report(1, 2)
        stealmesh.here().submit(stealmesh.report, 9, 9).result()
        list(stealmesh.here().map(stealmesh.report, [7]))
        stealmesh.report(2, 2)

    as_task(parent)
    assert heard == [(1.0, 2.0), (2.0, 2.0)]


@pytest.mark.parametrize(
    "setting", [{"timeout": 1.0}, {"resources": {"GPU": 1}}, {"max_parallel": 2}, {"durable": True}]
)
def test_settings_of_a_process_are_refused(setting: dict[str, Any]) -> None:
    def parent() -> None:
        with pytest.raises(ValueError, match="set it for the outer task"):
            stealmesh.here().options(**setting)
        with pytest.raises(TypeError):
            stealmesh.here().options(nonsense=1)
        with pytest.raises(ValueError, match="retries"):
            stealmesh.here().options(retries=-1)

    as_task(parent)


# ---------------------------------------------------------------- where it is


def test_outside_of_a_task_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"with stealmesh\.Mesh\(\)"):
        stealmesh.here()


def test_a_thread_belongs_to_the_task_that_started_it() -> None:
    def parent() -> list[int]:
        results: list[int] = []

        def work(n: int) -> None:
            mesh = stealmesh.here()
            futures = [mesh.submit(pow, 2, n), mesh.submit(pow, 2, n + 1)]
            results.extend(each.result() for each in futures)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return sorted(results)

    assert as_task(parent) == [1, 2, 2, 4, 4, 8, 8, 16]


def test_a_child_is_begun_by_one_pile() -> None:
    def parent() -> None:
        future: Any = stealmesh.here().submit(pow, 1, 1)
        pile = families.Pile()
        assert future.begins(pile)
        assert not future.begins(families.Pile())
        assert future.pile is pile
        future._state = "PENDING"

    as_task(parent)


def test_two_threads_that_want_the_same_child_run_it_once() -> None:
    seen: list[Any] = []
    got: list[Any] = []
    others = threading.Event()

    def child() -> int:
        assert others.wait(PATIENCE)
        seen.append(1)
        return len(seen)

    def parent() -> None:
        future = stealmesh.here().submit(child)

        def ask() -> None:
            got.append(future.result())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        others.set()
        got.append(future.result())
        for thread in threads:
            thread.join(PATIENCE)

    for _ in range(20):
        seen.clear()
        got.clear()
        others.clear()
        as_task(parent)
        assert (seen, got) == ([1], [1, 1, 1, 1])


def test_a_thread_that_outlives_its_task_is_refused() -> None:
    gate, answers = threading.Event(), []
    meshes: list[Any] = []
    started = threading.Event()

    def late() -> None:
        meshes.append(stealmesh.here())
        started.set()
        assert gate.wait(PATIENCE)
        for call in (stealmesh.here, partial(meshes[0].submit, pow, 1, 1)):
            try:
                call()
            except RuntimeError as error:
                answers.append(str(error))

    thread = threading.Thread(target=late)

    def parent() -> None:
        thread.start()
        assert started.wait(PATIENCE)

    as_task(parent)
    with in_a_task():  # the next task of the same process
        gate.set()
        thread.join(PATIENCE)
    assert len(answers) == 2
    assert all("is over" in each for each in answers)


def test_a_thread_between_two_tasks_that_run_side_by_side_is_told_so() -> None:
    answers: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="side by side"):
            stealmesh.here()
        answers.append("asked")

    with in_a_task() as one:
        other = present.begins([])
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(PATIENCE)
        other.ends()
        present.PRESENT.set(one)
    assert answers == ["asked"]


# ---------------------------------------------------------------- depth


def deep(depth: int) -> int:
    return 1 + stealmesh.here().submit(deep, depth - 1).result() if depth else 0


def deep_map(depth: int) -> int:
    return 1 + sum(stealmesh.here().map(deep_map, [depth - 1])) if depth else 0


def deep_left(depth: int, seen: list[int]) -> None:
    seen.append(depth)
    if depth:
        stealmesh.here().submit(deep_left, depth - 1, seen)


def deep_beside(depth: int) -> int:
    return 1 + stealmesh.here().submit(deep_beside, depth - 1).result(PATIENCE) if depth else 0


@pytest.mark.parametrize("fn", [deep, deep_map])
def test_a_thousand_levels_end(fn: Callable[[int], int]) -> None:
    assert as_task(fn, 1000) == 1000
    assert as_task(fn, 3) == 3


def test_a_thousand_levels_of_what_is_left_end() -> None:
    seen: list[int] = []
    as_task(deep_left, 1000, seen)
    assert seen == list(range(1000, -1, -1))


def test_waits_with_a_timeout_nest() -> None:
    assert as_task(deep_beside, 150) == 150


def test_an_exception_comes_up_a_thousand_levels() -> None:
    def sinks(depth: int) -> Any:
        if not depth:
            raise Boom("at the bottom")
        return stealmesh.here().submit(sinks, depth - 1).result()

    with pytest.raises(Boom, match="at the bottom"):
        as_task(sinks, 1000)


def test_a_recursion_that_does_not_end_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "SEGMENTS_MAX", 3)
    with pytest.raises(RecursionError, match="return what is still to be done"):
        as_task(deep, 10**6)


def test_no_thread_is_left_of_a_task() -> None:
    before = threading.active_count()
    as_task(deep, 500)
    as_task(deep_beside, 20)
    for _ in range(1000):
        if threading.active_count() <= before:
            return
        threading.Event().wait(0.01)
    raise AssertionError("threads are left")


def test_an_item_s_own_tasks_are_over_before_it_is_told_because_another_is_put_off() -> None:
    """Item 0 leaves a task behind; item 1 raises Defer, so what is before it is told at once: nothing of it
    is open then."""
    held: list[Any] = []

    def begins(count: int, results: list[Any], failures: Any, now: float) -> division.ChunkRun:
        return division.ChunkRun(1, 0, True, results, failures, now, count)

    def tells(run: division.ChunkRun, told: int, upto: int, *rest: Any) -> bool:
        held.append((told, upto, run.held))
        run.told = upto
        return True

    def item(n: int) -> None:
        if n == 0:
            stealmesh.here().submit(abs, n)
        if n == 1:
            raise stealmesh.Defer(1)

    order = ChunkOrder(1, b"", b"", 0, 0, False, 0, 0, 3, [])
    items = [0, 1, 2]
    watch = (begins, lambda _: None, tells)
    run.run(order, item, None, items, lambda lo, hi: items[lo:hi], watch)
    assert held == [(0, 1, None), (1, 2, None)]
