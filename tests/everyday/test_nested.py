"""Tasks inside tasks, as programs use them: real workers, and deaths of workers that wait for children."""

from __future__ import annotations

import multiprocessing
import operator
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.everyday.running import killed

import stealmesh
from stealmesh_protocol.errors import RemoteTraceback

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def lone() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def fib(n: int) -> int:
    if n < 2:
        return n
    mesh = stealmesh.here()
    one, two = mesh.submit(fib, n - 1), mesh.submit(fib, n - 2)
    return one.result() + two.result()


def queens(n: int, rows: tuple[int, ...] = ()) -> int:
    if len(rows) == n:
        return 1
    row = len(rows)
    free = [
        column
        for column in range(n)
        if all(column != at and abs(column - at) != row - up for up, at in enumerate(rows))
    ]
    return sum(stealmesh.here().map(lambda column: queens(n, (*rows, column)), free))


def quicksort(numbers: list[int]) -> list[int]:
    if len(numbers) < 1000:
        return sorted(numbers)
    pivot, mesh = numbers[len(numbers) // 2], stealmesh.here()
    low = mesh.submit(quicksort, [x for x in numbers if x < pivot])
    high = mesh.submit(quicksort, [x for x in numbers if x > pivot])
    return [*low.result(), *(x for x in numbers if x == pivot), *high.result()]


def deep(depth: int) -> int:
    return 1 + stealmesh.here().submit(deep, depth - 1).result() if depth else 0


def fails() -> None:
    raise ZeroDivisionError("inside")


def asks_inside() -> Any:
    return stealmesh.here().submit(fails).result()


def test_divide_and_conquer(mesh: stealmesh.Mesh) -> None:
    numbers = [Random(1).randrange(10**6) for _ in range(20_000)]
    results: list[Any] = [
        mesh.submit(fib, 18),
        mesh.submit(queens, 6),
        mesh.submit(quicksort, numbers),
    ]
    assert results[0].result(PATIENCE) == 2584
    assert results[1].result(PATIENCE) == 4
    assert results[2].result(PATIENCE) == sorted(numbers)


def test_a_thousand_levels_end_on_one_worker(lone: stealmesh.Mesh) -> None:
    assert lone.submit(deep, 1000).result(PATIENCE) == 1000


def fibs(items: Any) -> Any:
    return list(stealmesh.here().map(fib, items))


def test_items_of_every_kind_of_job_have_children(mesh: stealmesh.Mesh) -> None:
    assert list(mesh.map(fib, range(10))) == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]
    assert mesh.map_reduce(fib, range(10), operator.add).result(PATIENCE) == 88
    assert list(mesh.map(stealmesh.vectorized(fibs), range(10))) == [
        0,
        1,
        1,
        2,
        3,
        5,
        8,
        13,
        21,
        34,
    ]

    def expand(n: int) -> tuple[int, list[int]]:
        return stealmesh.here().submit(fib, n).result(), [n - 1] if n else []

    explored = mesh.explore(stealmesh.each(expand), [9], operator.add)
    assert explored.result(PATIENCE) == 88


def test_an_error_inside_reaches_the_program_with_its_traceback(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(ZeroDivisionError, match="inside") as caught:
        mesh.submit(asks_inside).result(PATIENCE)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    told = caught.value.__cause__.text
    assert "in fails" in told
    assert "in asks_inside" in told
    assert "nested/family.py" not in told


def test_a_process_that_a_task_starts_is_no_task(lone: stealmesh.Mesh) -> None:
    def parent() -> list[str]:
        stealmesh.here()
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()

        def child() -> None:
            try:
                stealmesh.here()
            except RuntimeError as error:
                theirs.send(str(error))

        process = context.Process(target=child)
        process.start()
        told = ours.recv()
        process.join()
        return [told, str(stealmesh.here().submit(pow, 2, 3).result())]

    told, value = lone.submit(parent).result(PATIENCE)
    assert "no task" in told
    assert value == "8"


def test_a_worker_that_dies_takes_its_children_with_it(tmp_path: Path) -> None:
    """The parent runs again, and so do its children: each counts once."""
    first = tmp_path / "first"

    def child(n: int) -> int:
        if n == 3 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    def parent() -> int:
        mesh = stealmesh.here()
        return sum(each.result() for each in [mesh.submit(child, n) for n in range(6)])

    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        assert mesh.submit(parent).result(PATIENCE) == 15
    assert first.exists()


def test_a_node_that_dies_takes_its_tasks_children_with_it(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    gate = tmp_path / "gate"

    def child(n: int) -> int:
        (marks / f"{n}-{os.getppid()}-{os.getpid()}").touch()
        until = time.monotonic() + PATIENCE
        while n == 2 and not gate.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return n

    def parent() -> int:
        mesh = stealmesh.here()
        return sum(each.result() for each in [mesh.submit(child, n) for n in range(5)])

    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        future = mesh.submit(parent)
        until = time.monotonic() + PATIENCE
        while not list(marks.glob("2-*")) and time.monotonic() < until:
            time.sleep(0.01)
        worker = int(next(marks.glob("2-*")).name.split("-")[2])
        nodes = mesh.status()["nodes"]
        (holder,) = [node["pid"] for node in nodes if worker in node["worker_pids"]]
        os.kill(holder, signal.SIGKILL)
        gate.touch()
        assert future.result(PATIENCE) == 10


# ---------------------------------------------------------------- random programs under kills


def tree(random: Random, size: list[int], depth: int = 0) -> list[Any]:
    """[number, style, children, fails]"""
    size[0] -= 1
    children: list[Any] = []
    made = [size[0], random.choice(["submit", "map", "reduce"]), children, False]
    while size[0] > 0 and depth < 8 and random.random() < 0.8:
        children.append(tree(random, size, depth + 1))
    made[3] = not children and random.random() < 0.1
    return made


def one_by_one(node: list[Any]) -> int:
    number, style, children, bad = node
    if bad:
        raise KeyError(number)
    values = []
    for child in children:
        try:
            values.append(one_by_one(child))
        except KeyError:
            if style != "submit":
                raise
            values.append(-1)
    return int(number + sum(values))


def as_tasks(node: list[Any], seconds: float = 0.0) -> int:
    number, style, children, bad = node
    time.sleep(seconds)
    if bad:
        raise KeyError(number)
    mesh = stealmesh.here()
    if style == "map":
        return int(number + sum(mesh.map(as_tasks, children, [seconds] * len(children))))
    if style == "reduce":
        total = mesh.map_reduce(lambda n: as_tasks(n, seconds), children, operator.add, initial=0)
        return int(number + total.result())
    values = []
    for each in [mesh.submit(as_tasks, child, seconds) for child in children]:
        try:
            values.append(each.result())
        except KeyError:
            values.append(-1)
    return int(number + sum(values))


def outcome(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except KeyError as error:
        return f"KeyError {error}"


def test_random_programs_under_kills_are_what_they_are_one_by_one() -> None:
    """Workers are killed while they run trees of tasks: every tree has its own value, once."""
    random, hits = Random(11), 0
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        for _ in range(3):
            trees = [tree(random, [random.randint(1, 25)]) for _ in range(6)]
            futures = [mesh.submit(as_tasks, each, 0.005) for each in trees]
            for number in (1, 3):  # an item that killed three workers would be the culprit
                outcome(lambda f=futures[number]: f.result(PATIENCE))
                pids = [pid for node in mesh.status()["nodes"] for pid in node["worker_pids"]]
                if pids and not all(each.done() for each in futures):
                    hits += killed(random.choice(pids))
            got = [outcome(lambda f=each: f.result(PATIENCE)) for each in futures]
            assert got == [outcome(one_by_one, each) for each in trees]
    assert hits > 0
