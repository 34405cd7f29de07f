"""What a program may ask for one item: another attempt later, a later time, an end while it runs."""

from __future__ import annotations

import itertools
import operator
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh
from stealmesh_engine.ledger.put_off import BACK_OFF_SECONDS, BACK_OFF_SECONDS_MAX
from stealmesh_protocol.errors import TaskFailed

pytestmark = pytest.mark.real
PATIENCE_SECONDS = 60.0
"""Only ever reached by a defect."""


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def two() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as mesh:
        yield mesh


def times_run(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def ran_before(log: Path) -> int:
    """How often this was called before with this file."""
    with open(log, "a") as file:
        file.write("x")
    return log.stat().st_size - 1


def flaky(log: Path, failures: int, kind: type[Exception] = ValueError) -> int:
    before = ran_before(log)
    if before < failures:
        raise kind(before)
    return before


def defer_once(log: Path, seconds: float) -> float:
    if not ran_before(log):
        raise stealmesh.Defer(seconds)
    return time.time()


# ---------------------------------------------------------------- another attempt, later


def test_an_item_is_tried_again_until_it_succeeds(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    view = mesh.options(retries=4)
    assert view.submit(flaky, tmp_path / "a", 3).result(PATIENCE_SECONDS) == 3
    error = view.submit(flaky, tmp_path / "b", 9).exception(PATIENCE_SECONDS)
    assert repr(error) == "ValueError(4)"
    assert times_run(tmp_path / "b") == 5


def test_a_worker_is_free_while_an_item_waits_for_another_attempt(
    mesh: stealmesh.Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only worker does other things, whose number shows that nothing waited in it."""
    monkeypatch.setattr("stealmesh_engine.ledger.put_off.back_off", lambda failed, rng: 3.0)
    stubborn = mesh.options(retries=1).submit(flaky, tmp_path / "log", 1)
    until(lambda: times_run(tmp_path / "log"), "the first attempt")
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024
    assert times_run(tmp_path / "log") == 1, "it did not wait"
    assert stubborn.result(PATIENCE_SECONDS) == 1


def test_only_what_retry_on_names_is_tried_again(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    class Busy(ConnectionError):
        """Of this very program."""

    view = mesh.options(retries=3, retry_on=(ConnectionError, KeyError))
    assert view.submit(flaky, tmp_path / "a", 2, Busy).result(PATIENCE_SECONDS) == 2
    error = view.submit(flaky, tmp_path / "b", 2, ValueError).exception(PATIENCE_SECONDS)
    assert repr(error) == "ValueError(0)"
    assert vars(error) == {}, "our mark travels"
    assert times_run(tmp_path / "b") == 1
    carried = [lambda log=tmp_path / f"c{n}": flaky(log, 2, TypeError) for n in range(20)]
    told = {repr(view.submit(one).exception(PATIENCE_SECONDS)) for one in carried}
    assert told == {"TypeError(0)"}


def test_an_exit_is_no_reason_to_try_again_unless_it_is_named(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    """`retry_on` is (Exception,) by default: SystemExit is none."""

    def leave(log: Path) -> int:
        if not ran_before(log):
            raise SystemExit(3)
        return 5

    error = mesh.options(retries=2).submit(leave, tmp_path / "a").exception(PATIENCE_SECONDS)
    assert isinstance(error, SystemExit)
    assert times_run(tmp_path / "a") == 1
    view = mesh.options(retries=2, retry_on=SystemExit)
    assert view.submit(leave, tmp_path / "b").result(PATIENCE_SECONDS) == 5


@pytest.mark.parametrize(
    ("value", "error"),
    [((), ValueError), ((3,), TypeError), ("Exception", TypeError), (int, TypeError)],
)
def test_retry_on_takes_exception_types(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="retry_on"):
        stealmesh.client.arguments.Options(retry_on=value)


def test_neighbours_in_a_chunk_run_once(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def task(x: int) -> int:
        before = ran_before(tmp_path / str(x))
        if x % 10 == 3 and not before:
            raise OSError(x)
        if x % 10 == 7 and not before:
            raise stealmesh.Defer(0.05)
        return x

    view = mesh.options(retries=1, chunksize=25)
    assert list(view.map(task, range(200), timeout=PATIENCE_SECONDS)) == list(range(200))
    for x in range(200):
        assert times_run(tmp_path / str(x)) == (2 if x % 10 in (3, 7) else 1), x


def test_reductions_repeat_at_once_and_heed_retry_on(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def task(x: int) -> int:
        if x == 5 and not ran_before(tmp_path / "five"):
            raise OSError(x)
        return x

    reduced = mesh.options(retries=1).map_reduce(task, range(10), operator.add)
    assert reduced.result(PATIENCE_SECONDS) == 45
    (tmp_path / "five").unlink()
    choosy = mesh.options(retries=1, retry_on=KeyError).map_reduce(task, range(10), operator.add)
    assert isinstance(choosy.exception(PATIENCE_SECONDS), OSError)


def test_the_wait_grows_and_is_bounded() -> None:
    import random

    from stealmesh_engine.ledger.put_off import back_off

    rng = random.Random(3)
    for failed in (1, 2, 5, 9, 10, 40, 10**6):
        most = min(BACK_OFF_SECONDS_MAX, BACK_OFF_SECONDS * 2.0 ** min(failed - 1, 40))
        waits = [back_off(failed, rng) for _ in range(500)]
        assert 0 <= min(waits) < most / 10
        assert most * 0.9 < max(waits) <= most


# ---------------------------------------------------------------- put off


def test_a_task_puts_itself_off_and_its_worker_is_free(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    """It is no failure: there are no retries."""
    begun = time.time()
    later = mesh.submit(defer_once, tmp_path / "log", 1.5)
    until(lambda: times_run(tmp_path / "log"), "the first run")
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024
    assert later.result(PATIENCE_SECONDS) - begun >= 1.5
    assert times_run(tmp_path / "log") == 2


def test_map_puts_items_off(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    logs = [tmp_path / str(n) for n in range(20)]
    assert len(list(mesh.map(defer_once, logs, [0.2] * 20, timeout=PATIENCE_SECONDS))) == 20
    assert {times_run(log) for log in logs} == {2}


def test_what_is_put_off_can_be_cancelled(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """Also if it was known to run before."""

    def wait_and_defer(log: Path, gate: Path) -> None:
        ran_before(log)
        while not gate.exists():
            time.sleep(0.01)
        raise stealmesh.Defer(3600)

    future = mesh.submit(wait_and_defer, tmp_path / "log", tmp_path / "gate")
    until(future.running, "it is known to run")
    assert not future.cancel()
    (tmp_path / "gate").touch()
    until(lambda: not future.running(), "it waits")
    assert future.cancel()
    assert times_run(tmp_path / "log") == 1
    until(lambda: all(job["free"] == job["leased"] == 0 for job in mesh.status()["jobs"]), "idle")


def test_a_node_that_ran_it_leaves_at_once(tmp_path: Path) -> None:
    """The owner keeps what waits: the mesh ends its nodes in a moment although an hour is left."""
    mesh = stealmesh.Mesh(workers=1)
    future = mesh.submit(defer_once, tmp_path / "log", 3600.0)
    until(lambda: times_run(tmp_path / "log"), "the first run")
    until(lambda: not future.running(), "it waits")
    begun = time.monotonic()
    mesh.shutdown(cancel_futures=True)
    assert time.monotonic() - begun < 30
    with pytest.raises(CancelledError):
        future.result(0)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 10.0**6])
def test_a_time_without_sense_is_an_error_of_the_task(
    mesh: stealmesh.Mesh, tmp_path: Path, seconds: float
) -> None:
    error = mesh.submit(defer_once, tmp_path / "log", seconds).exception(PATIENCE_SECONDS)
    assert isinstance(error, ValueError)
    assert "put off" in str(error)


def test_a_task_that_never_stops_putting_itself_off_fails_in_the_end(
    mesh: stealmesh.Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> None:
        raise stealmesh.Defer(0)

    monkeypatch.setattr("stealmesh_protocol.limits.DEFERS_MAX", 5)
    assert isinstance(mesh.submit(never).exception(PATIENCE_SECONDS), stealmesh.Defer)


def test_where_a_task_cannot_be_put_off_it_says_so(mesh: stealmesh.Mesh) -> None:
    def later(x: Any, limit: int = 0) -> Any:
        raise stealmesh.Defer(1)

    for future in (
        mesh.map_reduce(later, range(3), operator.add),
        mesh.explore(later, [1], operator.add),
    ):
        error = future.exception(PATIENCE_SECONDS)
        assert isinstance(error, TaskFailed)
        assert "cannot be put off" in str(error)
    with pytest.raises(TaskFailed, match="cannot be put off"):
        list(mesh.map(stealmesh.vectorized(later), range(3), timeout=PATIENCE_SECONDS))


def test_nothing_is_lost_when_nodes_die_meanwhile(tmp_path: Path) -> None:
    """Half of the items wait, the other half run, and one node of two is killed."""

    def task(x: int) -> int:
        if x % 2 and not ran_before(tmp_path / str(x)):
            raise stealmesh.Defer(0.5) if x % 4 == 1 else OSError(x)
        time.sleep(0.02)
        return x

    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        futures = [mesh.options(retries=3).submit(task, x) for x in range(60)]
        until(lambda: times_run(tmp_path / "1"), "an item was put off")
        nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
        os.kill(nodes[0]["pid"], signal.SIGKILL)
        assert [future.result(PATIENCE_SECONDS) for future in futures] == list(range(60))


def test_nothing_is_lost_when_workers_die_meanwhile(two: stealmesh.Mesh, tmp_path: Path) -> None:
    def task(x: int) -> int:
        before = ran_before(tmp_path / str(x))
        if x % 20 == 1 and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        if x % 5 == 2 and not before:
            raise stealmesh.Defer(0.1)
        if x % 5 == 3 and before < 2:
            raise OSError(x)
        return x

    view = two.options(retries=2)
    assert list(view.map(task, range(50), timeout=PATIENCE_SECONDS)) == list(range(50))


# ---------------------------------------------------------------- stopped


def sleeping() -> None:
    time.sleep(10**6)


def computing() -> None:
    while True:
        pass


def holding_the_interpreter() -> int:
    return sum(itertools.repeat(1, 10**15))


def swallowing() -> None:
    while True:
        try:
            time.sleep(10**6)
        except stealmesh.TaskStopped:
            pass


def told(path: Path, task: Callable[[], Any]) -> Any:
    try:
        path.with_suffix(".part").write_text(str(os.getpid()))
        path.with_suffix(".part").rename(path)
        return task()
    except stealmesh.TaskStopped:
        path.with_suffix(".said").touch()
        raise


@pytest.mark.parametrize("task", [sleeping, computing, holding_the_interpreter, swallowing])
def test_stop_ends_a_task_that_runs(
    two: stealmesh.Mesh, tmp_path: Path, task: Callable[[], Any]
) -> None:
    future = two.submit(told, tmp_path / "pid", task)
    until(future.running, "it is known to run")
    pid = int(until((tmp_path / "pid").exists, "it runs") and (tmp_path / "pid").read_text())
    beside = [two.submit(pow, n, 2) for n in range(200)]
    begun = time.monotonic()
    assert future.stop()
    assert isinstance(future.exception(PATIENCE_SECONDS), stealmesh.TaskStopped)
    killed = task in (holding_the_interpreter, swallowing)
    if killed:
        until(lambda: not os.path.exists(f"/proc/{pid}"), "its worker ends")
    else:
        until((tmp_path / "pid.said").exists, "it hears of it")
    assert time.monotonic() - begun < 10  # 1 s where nothing else runs
    assert not future.stop()
    assert not future.cancel()
    assert [each.result(PATIENCE_SECONDS) for each in beside] == [n * n for n in range(200)]
    alive = {two.submit(os.getpid).result(PATIENCE_SECONDS) for _ in range(20)}
    assert killed or os.path.exists(f"/proc/{pid}"), "its worker need not end"
    assert not killed or pid not in alive


def test_neighbours_of_a_stopped_task_are_not_lost(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """They are in one chunk, and the worker has to go."""

    def task(x: int) -> int:
        if x == 20:
            (tmp_path / "there").touch()
            return holding_the_interpreter()
        return x

    view = mesh.options(chunksize=50)
    futures = [view.submit(task, x) for x in range(50)]
    until((tmp_path / "there").exists, "it runs")
    assert futures[20].stop()
    results = [future.result(PATIENCE_SECONDS) for x, future in enumerate(futures) if x != 20]
    assert results == [x for x in range(50) if x != 20]
    with pytest.raises((stealmesh.TaskStopped, CancelledError)):
        futures[20].result(PATIENCE_SECONDS)


def test_a_task_that_has_not_begun_is_cancelled(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def wait() -> None:
        while not (tmp_path / "gate").exists():
            time.sleep(0.01)

    first = mesh.submit(wait)
    second = mesh.submit(ran_before, tmp_path / "log")
    assert second.stop()
    assert second.cancelled()
    (tmp_path / "gate").touch()
    first.result(PATIENCE_SECONDS)
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024
    assert times_run(tmp_path / "log") == 0


def test_stop_of_what_is_over_is_false(mesh: stealmesh.Mesh) -> None:
    future = mesh.submit(pow, 2, 10)
    assert future.result(PATIENCE_SECONDS) == 1024
    assert not future.stop()
    assert future.result(0) == 1024


def test_stop_ends_a_reduction_and_a_map(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def task(x: int) -> int:
        return int(told(tmp_path / f"{x}.pid", sleeping) or 0)

    future = mesh.map_reduce(task, range(3), operator.add)
    until((tmp_path / "0.pid").exists, "it runs")
    assert future.stop()
    with pytest.raises((stealmesh.TaskStopped, CancelledError)):
        future.result(PATIENCE_SECONDS)
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024, "the only worker is free"
    results = mesh.map(task, range(10, 13))
    until((tmp_path / "10.pid").exists, "it runs")
    results.stop()  # type: ignore[attr-defined]
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024, "the only worker is free"


def test_what_waits_can_be_stopped(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    future = mesh.submit(defer_once, tmp_path / "log", 3600.0)
    until(lambda: times_run(tmp_path / "log"), "the first run")
    assert future.stop()
    with pytest.raises((stealmesh.TaskStopped, CancelledError)):
        future.result(0)


def test_neighbours_of_many_stopped_tasks_have_their_own_results(two: stealmesh.Mesh) -> None:
    """Signals come at any moment, also between two items of a chunk: no result moves to another."""

    def short(x: int) -> int:
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        return x

    futures = [two.submit(short, x) for x in range(1000)]
    stopped = [future.stop() for future in futures[::7]]
    for x, future in enumerate(futures):
        if x % 7 or not stopped[x // 7]:
            assert future.result(PATIENCE_SECONDS) == x
        else:
            with pytest.raises((stealmesh.TaskStopped, CancelledError)):
                future.result(PATIENCE_SECONDS)
    assert any(stopped)


def test_a_task_that_reports_is_stopped_and_its_worker_lives(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    """The signal may come while a word is written on the stream that results use."""

    def talk(begun: Path) -> None:
        begun.touch()
        for n in itertools.count():
            stealmesh.report(n)

    (pid,) = mesh.map(lambda _: os.getpid(), [0])
    for round_ in range(3):
        future = mesh.submit(talk, tmp_path / str(round_))
        until((tmp_path / str(round_)).exists, "it runs")
        until(future.running, "it is known to run")
        assert future.stop()
        assert mesh.submit(os.getpid).result(PATIENCE_SECONDS) == pid


def test_a_durable_job_is_stopped(tmp_path: Path) -> None:
    def task(x: int) -> int:
        return int(told(tmp_path / f"{x}.pid", sleeping) or 0)

    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        job = mesh.launch(task, range(2))
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, "both run")
        job.stop()
        with pytest.raises(CancelledError):
            job.result(PATIENCE_SECONDS)
        until(lambda: len(list(tmp_path.glob("*.said"))) == 2, "both hear of it")
        value = mesh.options(durable=True).map_reduce(task, range(10, 12), operator.add)
        until(lambda: len(list(tmp_path.glob("1?.pid"))) == 2, "both run")
        assert value.stop()
        assert isinstance(value.exception(0), stealmesh.TaskStopped)
        until(lambda: len(list(tmp_path.glob("1?.said"))) == 2, "both hear of it")
        assert not value.stop()


# ---------------------------------------------------------------- calls that wait for others


def given(log: Path, failures: int, value: Any) -> tuple[int, Any]:
    return flaky(log, failures), value


def gated(gate: Path, value: Any = None) -> Any:
    while not gate.exists():
        time.sleep(0.01)
    return value


def test_a_call_with_inputs_is_tried_again(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """With the same inputs, which do not run again."""
    first = mesh.submit(given, tmp_path / "input", 0, [1, 2])
    view = mesh.options(retries=3)
    second = view.submit(given, tmp_path / "a", 2, {"it": [first]})
    assert second.result(PATIENCE_SECONDS) == (2, {"it": [(0, [1, 2])]})
    assert times_run(tmp_path / "input") == 1
    failing = view.submit(given, tmp_path / "b", 99, second)
    behind = mesh.submit(pow, failing, 2)
    assert repr(behind.exception(PATIENCE_SECONDS)) == "ValueError(3)"
    assert times_run(tmp_path / "b") == 4


def test_an_input_that_is_put_off_is_waited_for(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    begun = time.time()
    later = mesh.submit(defer_once, tmp_path / "log", 1.0)
    behind = mesh.submit(max, [later, 0.0])
    assert behind.result(PATIENCE_SECONDS) >= begun + 1.0
    assert behind.result(0) == later.result(0)


def test_a_call_that_waits_for_its_input_is_stopped(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """At once, and so is what waits for it. Its input goes on."""
    first = mesh.submit(gated, tmp_path / "gate", 7)
    second = mesh.submit(ran_before, first)
    third = mesh.submit(ran_before, second)
    beside = mesh.submit(pow, first, 2)
    assert second.stop()
    assert second.cancelled()
    with pytest.raises(CancelledError):
        third.result(PATIENCE_SECONDS)
    assert not second.stop()
    (tmp_path / "gate").touch()
    assert beside.result(PATIENCE_SECONDS) == 49


@pytest.mark.parametrize("task", [sleeping, holding_the_interpreter])
def test_a_call_whose_input_has_come_is_stopped(
    mesh: stealmesh.Mesh, tmp_path: Path, task: Callable[[], Any]
) -> None:
    """While it runs. What waits for it fails with the same error, which names it."""
    first = mesh.submit(str, tmp_path / "pid")
    second = mesh.submit(lambda path: told(Path(path), task), first)
    third = mesh.submit(pow, second, 2)
    until((tmp_path / "pid").exists, "it runs")
    until(second.running, "it is known to run")
    assert second.stop()
    error = third.exception(PATIENCE_SECONDS)
    assert isinstance(error, stealmesh.TaskStopped)
    assert any("error of item" in note for note in error.__notes__)
    assert first.result(0) == str(tmp_path / "pid")
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024, "the only worker is free"


def test_a_call_that_has_its_input_and_is_put_off_is_stopped(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    first = mesh.submit(float, 3600)
    second = mesh.submit(defer_once, tmp_path / "log", first)
    until(lambda: times_run(tmp_path / "log"), "the first run")
    until(lambda: not second.running(), "it waits")
    assert second.stop()
    with pytest.raises((stealmesh.TaskStopped, CancelledError)):
        second.result(0)


def test_a_map_over_futures_is_stopped(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """What runs, what waits for a worker, and what waits for its input."""
    inputs = [two.submit(int, n) for n in range(3)]
    inputs.append(two.submit(gated, tmp_path / "gate", 3))
    results = two.map(lambda n: told(tmp_path / f"{n}.pid", sleeping), inputs)
    one = until(lambda: next(tmp_path.glob("*.pid"), None), "one runs")
    results.stop()  # type: ignore[attr-defined]
    (tmp_path / "gate").touch()
    assert two.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024, "a worker is free"
    until(one.with_suffix(".said").exists, "it hears of it")
    closed = two.map(lambda n: gated(tmp_path / "other", n), inputs)
    closed.close()  # type: ignore[attr-defined]  # before anything was read; some may have begun
    (tmp_path / "other").touch()
    assert two.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024


# ---------------------------------------------------------------- bounds


def test_what_waits_takes_up_no_lane(
    two: stealmesh.Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stealmesh_engine.ledger.put_off.back_off", lambda failed, rng: 3.0)
    view = two.options(max_parallel=1, retries=1)
    stubborn = view.submit(flaky, tmp_path / "log", 1)
    others = [view.submit(flaky, tmp_path / str(n), 0) for n in range(20)]
    assert [each.result(PATIENCE_SECONDS) for each in others] == [0] * 20
    assert times_run(tmp_path / "log") == 1, "they waited for it"
    assert stubborn.result(PATIENCE_SECONDS) == 1


def test_a_retried_task_over_the_memory_limit_fails_by_name() -> None:
    with stealmesh.Mesh(workers=1, memory_limit="512M") as mesh:
        future = mesh.options(retries=1).submit(bytearray, 2000 << 20)
        error = future.exception(PATIENCE_SECONDS)
        assert isinstance(error, stealmesh.TaskOutOfMemory)
        assert mesh.submit(len, bytes(7)).result(PATIENCE_SECONDS) == 7
