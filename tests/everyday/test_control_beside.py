"""Stopped, tried again, put off: coroutines, and plain functions in the threads of a worker.

Nothing here is timed. Neighbours run in the same process as what is stopped, and say in which one they end.
"""

# ruff: noqa: ASYNC110 - these tasks touch files, and block, on purpose

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real
PATIENCE_SECONDS = 60.0
Mesh: Any = stealmesh.Mesh


@pytest.fixture(scope="module")
def one() -> Iterator[Any]:
    with Mesh(workers=1) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def threaded() -> Iterator[Any]:
    with Mesh(workers=1, threads=4) as mesh:
        yield mesh


def ran_before(log: Path) -> int:
    """How often this was called before with this file."""
    with open(log, "a") as file:
        file.write("x")
    return log.stat().st_size - 1


def times_run(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


# ---------------------------------------------------------------- coroutines that are stopped


async def neighbour(place: Path, n: int) -> int:
    """Begin, wait until the gate is open, and say where."""
    ran_before(place / f"neighbour-{n}")
    while not (place / "gate").exists():
        await asyncio.sleep(0.01)
    return os.getpid()


async def waiting(place: Path) -> None:
    (place / "began").write_text(str(os.getpid()))
    try:
        await asyncio.Event().wait()
    finally:
        (place / "ended").touch()


async def stubborn(place: Path) -> None:
    (place / "began").write_text(str(os.getpid()))
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            (place / "ended").touch()


def with_neighbours(mesh: Any, place: Path, beside: Any, task: Any) -> tuple[Any, list[Any], int]:
    """What is to be stopped, its neighbours, and the process in which they run."""
    neighbours = [mesh.submit(beside, place, n) for n in range(3)]
    future = mesh.submit(task, place)
    until((place / "began").exists, "it runs")
    until(future.running, "it is known to run")
    until(lambda: all(times_run(place / f"neighbour-{n}") for n in range(3)), "they run")
    return future, neighbours, int((place / "began").read_text())


def test_a_stopped_coroutine_ends_and_its_neighbours_go_on(one: Any, tmp_path: Path) -> None:
    future, neighbours, pid = with_neighbours(one, tmp_path, neighbour, waiting)
    assert future.stop()
    assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    until((tmp_path / "ended").exists, "it hears of it")
    assert not future.stop()
    (tmp_path / "gate").touch()
    assert [each.result(PATIENCE_SECONDS) for each in neighbours] == [pid] * 3
    assert [times_run(tmp_path / f"neighbour-{n}") for n in range(3)] == [1] * 3


def test_neighbours_of_a_coroutine_that_does_not_end_run_again(one: Any, tmp_path: Path) -> None:
    future, neighbours, pid = with_neighbours(one, tmp_path, neighbour, stubborn)
    assert future.stop()
    assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    until((tmp_path / "ended").exists, "it hears of it")
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its process ends")
    until(lambda: all(times_run(tmp_path / f"neighbour-{n}") == 2 for n in range(3)), "run again")
    (tmp_path / "gate").touch()
    assert pid not in {each.result(PATIENCE_SECONDS) for each in neighbours}


async def third(place: Path, x: int) -> int:
    ran_before(place / str(x))
    if x % 3 == 0:
        await asyncio.Event().wait()
    await asyncio.sleep(0.001)
    return x


def test_neighbours_of_many_stopped_coroutines_have_their_results(one: Any, tmp_path: Path) -> None:
    futures = [one.submit(third, tmp_path, x) for x in range(60)]
    until(lambda: all((tmp_path / str(x)).exists() for x in range(60)), "all run")
    for future in futures[::3]:
        future.stop()
    for x, future in enumerate(futures):
        if x % 3:
            assert future.result(PATIENCE_SECONDS) == x
        elif not future.cancelled():  # the program may not know yet that it runs
            assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    assert one.submit(third, tmp_path, 1).result(PATIENCE_SECONDS) == 1


def test_a_map_of_coroutines_is_stopped(one: Any, tmp_path: Path) -> None:
    job = one.map(functools.partial(third, tmp_path), [0, 3, 6])
    until(lambda: (tmp_path / "6").exists(), "they run")
    job.stop()
    assert one.submit(third, tmp_path, 1).result(PATIENCE_SECONDS) == 1


# ---------------------------------------------------------------- threads


def neighbour_thread(place: Path, n: int) -> int:
    ran_before(place / f"neighbour-{n}")
    while not (place / "gate").exists():
        time.sleep(0.01)
    return os.getpid()


def computing(place: Path) -> None:
    (place / "began").write_text(str(os.getpid()))
    try:
        while True:
            stealmesh.report(1)
    except stealmesh.TaskStopped:
        (place / "ended").touch()
        raise


def asleep(place: Path) -> None:
    (place / "began").write_text(str(os.getpid()))
    time.sleep(10**6)


def test_a_stopped_thread_ends_and_its_neighbours_go_on(threaded: Any, tmp_path: Path) -> None:
    future, neighbours, pid = with_neighbours(threaded, tmp_path, neighbour_thread, computing)
    assert future.stop()
    assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    until((tmp_path / "ended").exists, "it hears of it")
    (tmp_path / "gate").touch()
    assert [each.result(PATIENCE_SECONDS) for each in neighbours] == [pid] * 3
    assert threaded.submit(os.getpid).result(PATIENCE_SECONDS) == pid


def test_neighbours_of_a_thread_that_sleeps_run_again(threaded: Any, tmp_path: Path) -> None:
    future, neighbours, pid = with_neighbours(threaded, tmp_path, neighbour_thread, asleep)
    assert future.stop()
    assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its process ends")
    until(lambda: all(times_run(tmp_path / f"neighbour-{n}") == 2 for n in range(3)), "run again")
    (tmp_path / "gate").touch()
    assert pid not in {each.result(PATIENCE_SECONDS) for each in neighbours}


def short(x: int) -> int:
    for _ in range(2000):
        pass
    return x


def test_nothing_moves_when_short_tasks_in_threads_are_stopped(threaded: Any) -> None:
    """The exception comes before, in and behind the user's code."""
    futures = [threaded.submit(short, x) for x in range(300)]
    for future in futures[::3]:
        future.stop()
    for x, future in enumerate(futures):
        if x % 3 or not (future.cancelled() or future.exception(PATIENCE_SECONDS)):
            assert future.result(PATIENCE_SECONDS) == x
    assert list(threaded.map(short, range(100))) == list(range(100))


# ---------------------------------------------------------------- another attempt, later


async def flaky(log: Path, failures: int, kind: type[Exception] = ValueError) -> int:
    await asyncio.sleep(0)
    before = ran_before(log)
    if before < failures:
        raise kind(before)
    return before


async def defer_once(log: Path, seconds: float) -> float:
    await asyncio.sleep(0)
    if not ran_before(log):
        raise stealmesh.Defer(seconds)
    return time.time()


def defer_once_thread(log: Path, seconds: float) -> float:
    if not ran_before(log):
        raise stealmesh.Defer(seconds)
    return time.time()


def flaky_thread(log: Path, failures: int, kind: type[Exception] = ValueError) -> int:
    before = ran_before(log)
    if before < failures:
        raise kind(before)
    return before


@pytest.mark.parametrize("name", ["one", "threaded"])
def test_tried_again_and_only_what_retry_on_names(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mesh = request.getfixturevalue(name)
    fn: Any = flaky if name == "one" else flaky_thread
    view = mesh.options(retries=2, retry_on=(KeyError,))
    assert view.submit(fn, tmp_path / "a", 2, KeyError).result(PATIENCE_SECONDS) == 2
    with pytest.raises(ValueError, match="0"):
        view.submit(fn, tmp_path / "b", 2).result(PATIENCE_SECONDS)
    assert times_run(tmp_path / "b") == 1
    logs = [tmp_path / f"log-{n}" for n in range(30)]
    each = functools.partial(fn, failures=1)
    assert list(mesh.options(retries=1).map(each, logs)) == [1] * 30


@pytest.fixture(scope="module")
def narrow() -> Iterator[Any]:
    """One place for coroutines."""
    with Mesh(workers=1, concurrency=1) as mesh:
        yield mesh


@pytest.mark.parametrize("name", ["narrow", "threaded"])
def test_what_is_put_off_holds_no_place(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The only place of the job is free while an item waits for its day."""
    view = request.getfixturevalue(name)
    fn: Any = defer_once if name == "narrow" else defer_once_thread
    long = [view.submit(fn, tmp_path / f"long-{n}", 3600.0) for n in range(5)]
    until(lambda: all(times_run(tmp_path / f"long-{n}") for n in range(5)), "they run once")
    begun = time.time()
    assert view.submit(fn, tmp_path / "short", 0.2).result(PATIENCE_SECONDS) >= begun + 0.2
    assert all(each.cancel() for each in long)
    logs = [tmp_path / f"map-{n}" for n in range(20)]
    assert len(list(view.map(functools.partial(fn, seconds=0.05), logs))) == 20
