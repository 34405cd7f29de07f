"""What a program may expect of `stealmesh.Mesh`: the standard library's habits, and a little more."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import itertools
import operator
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from tests.real import tasks

import stealmesh
from stealmesh.examples import primes, uts
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import Event

pytestmark = pytest.mark.real


def test_submit_gives_a_standard_future(mesh: stealmesh.Mesh) -> None:
    future = mesh.submit(pow, 2, 10)
    assert isinstance(mesh, cf.Executor)
    assert isinstance(future, cf.Future)
    assert future.result(timeout=30) == 1024
    assert future.done()
    assert not future.running()
    assert not future.cancel()


def test_tasks_may_have_arguments_of_any_name(mesh: stealmesh.Mesh) -> None:
    future = mesh.submit(tasks.with_keywords, 1, fn=2, key="k")
    assert future.result(timeout=30) == (1, 2, "k")
    assert mesh.submit(tasks.with_keywords, self=4).result(timeout=30) == (4, 0, "")


def test_ten_thousand_submits_come_back_each_to_its_own_future(mesh: stealmesh.Mesh) -> None:
    futures = [mesh.submit(tasks.double, i) for i in range(10_000)]
    assert [future.result(timeout=60) for future in futures] == [2 * i for i in range(10_000)]


def test_equal_submissions_run_twice(mesh: stealmesh.Mesh) -> None:
    a, b = mesh.submit(os.urandom, 8), mesh.submit(os.urandom, 8)
    assert a.result(timeout=30) != b.result(timeout=30)


def test_wait_and_as_completed_work_unchanged(mesh: stealmesh.Mesh) -> None:
    futures = [mesh.submit(tasks.double, i) for i in range(50)]
    done, pending = cf.wait(futures, timeout=30)
    assert not pending
    assert done == set(futures)
    seen = {future.result() for future in cf.as_completed(futures, timeout=30)}
    assert seen == {2 * i for i in range(50)}


async def test_futures_can_be_awaited(mesh: stealmesh.Mesh) -> None:
    assert await mesh.submit(tasks.double, 21) == 42
    assert await asyncio.gather(*(mesh.submit(tasks.double, i) for i in range(5))) == [
        0,
        2,
        4,
        6,
        8,
    ]
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(mesh, tasks.double, 4) == 8


def test_closures_and_what_they_see_now(mesh: stealmesh.Mesh) -> None:
    offset = 1

    def shifted(x: int) -> int:
        return x + offset

    assert mesh.submit(shifted, 1).result(timeout=30) == 2
    offset = 10
    assert mesh.submit(shifted, 1).result(timeout=30) == 11


def test_map_is_ordered_lazy_and_cancellable(mesh: stealmesh.Mesh) -> None:
    assert list(mesh.map(tasks.double, range(1000))) == [2 * i for i in range(1000)]
    assert list(mesh.map(pow, [2, 3], [5, 2])) == [32, 9]
    assert list(mesh.map(tasks.double, [])) == []
    assert list(mesh.map(tasks.double, range(10, 0, -3))) == [20, 14, 8, 2]
    endless = mesh.map(tasks.double, itertools.count())
    assert list(itertools.islice(endless, 3)) == [0, 2, 4]
    endless.close()  # type: ignore[attr-defined]
    assert sorted(mesh.map(tasks.double, range(500), ordered=False)) == [2 * i for i in range(500)]


def test_map_keeps_no_reference_to_what_it_yielded(mesh: stealmesh.Mesh) -> None:
    for item in mesh.map(_Thing, range(20)):
        gone = weakref.ref(item)
        del item
        assert gone() is None


class _Thing:
    def __init__(self, number: int) -> None:
        self.number = number


CHUNK_ITEMS = 20
"""No chunk has more items than there may be under way."""


def test_buffersize_bounds_how_far_the_input_is_read(mesh: stealmesh.Mesh) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        while read < 100_000:
            read += 1
            yield read

    results = mesh.map(tasks.double, numbers(), buffersize=20)
    for taken in range(1, 101):
        assert next(results) == 2 * taken
        assert read <= taken + 20 + CHUNK_ITEMS  # results are taken a chunk at a time
    results.close()  # type: ignore[attr-defined]


def test_an_input_that_raises_halfway(mesh: stealmesh.Mesh) -> None:
    def numbers() -> Iterator[int]:
        yield from range(100)
        raise RuntimeError("the input broke")

    results = mesh.map(tasks.double, numbers())
    assert list(itertools.islice(results, 100)) == [2 * i for i in range(100)]
    with pytest.raises(RuntimeError, match="the input broke"):
        next(results)


def test_map_timeout(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(TimeoutError):
        list(mesh.map(tasks.hold_the_gil, [5.0], timeout=0.2))


def test_map_reduce_in_index_order(mesh: stealmesh.Mesh) -> None:
    text = mesh.map_reduce(str, range(2000), operator.add).result(timeout=30)
    assert text == "".join(map(str, range(2000)))
    fed = mesh.map_reduce(str, iter(range(2000)), operator.add).result(timeout=30)
    assert fed == text
    assert mesh.map_reduce(str, [], operator.add, initial="none").result(timeout=30) == "none"
    with pytest.raises(TypeError, match="no initial value"):
        mesh.map_reduce(str, [], operator.add).result(timeout=30)


def test_vectorized_map_reduce_over_a_range(mesh: stealmesh.Mesh) -> None:
    counting = stealmesh.vectorized(primes.count_primes)
    total = mesh.map_reduce(counting, range(10**6), operator.add)
    assert total.result(timeout=60) == primes.PI[10**6]


@pytest.mark.parametrize("name", sorted(uts.SMALL))
def test_explore_counts_every_small_tree_exactly(mesh: stealmesh.Mesh, name: str) -> None:
    tree = uts.TREES[name]
    found = mesh.explore(uts.visitor(tree), [uts.root(tree)], uts.combine_counts)
    assert found.result(timeout=60) == tree.expected


def test_explore_with_each(mesh: stealmesh.Mesh) -> None:
    def calls(n: int) -> tuple[int, list[int]]:
        return 1, [n - 1, n - 2] if n > 1 else []

    assert mesh.explore(stealmesh.each(calls), [15], operator.add).result(timeout=30) == 1973
    assert mesh.explore(stealmesh.each(calls), [], operator.add, initial=7).result(timeout=30) == 7


def test_retries(mesh: stealmesh.Mesh, tmp_path: object) -> None:
    counted = f"{tmp_path}/runs"
    patient = mesh.options(retries=2)
    assert patient.submit(tasks.fail_twice, counted).result(timeout=30) == "third time lucky"


def test_cancel_before_it_runs(mesh: stealmesh.Mesh) -> None:
    blockers = [mesh.submit(tasks.hold_the_gil, 0.5) for _ in range(2)]
    waiting = mesh.submit(tasks.double, 1)
    if waiting.cancel():  # it may have been quicker
        assert waiting.cancelled()
        with pytest.raises(cf.CancelledError):
            waiting.result(timeout=1)
    assert [blocker.result(timeout=30) for blocker in blockers] == ["held", "held"]


def test_status_names_everything(mesh: stealmesh.Mesh) -> None:
    mesh.submit(tasks.double, 1).result(timeout=30)
    status = mesh.status()
    node = next(each for each in status["nodes"] if each["role"] != "client")
    assert {"name", "pid", "host", "address", "role", "state", "workers", "worker_pids"} <= set(
        node
    )
    assert {"queued_seconds", "steals_in", "steals_out", "build"} <= set(node)
    assert node["workers"] == len(node["worker_pids"]) == 2
    job = status["jobs"][0]
    assert {"id", "kind", "state", "total", "done", "failed", "leased", "free"} <= set(job)
    assert {"rerun", "duplicates_dropped"} <= set(job)


def test_another_program_joins_with_address_and_key_file(mesh: stealmesh.Mesh) -> None:
    with stealmesh.Mesh(mesh.address, key=mesh.key_file) as second:
        assert second.submit(tasks.double, 4).result(timeout=30) == 8
        assert sum(second.map(tasks.double, range(10_000))) == sum(range(10_000)) * 2


def test_shutdown_is_idempotent_and_final() -> None:
    with stealmesh.Mesh(workers=1) as short:
        pending = [short.submit(tasks.doze, i) for i in range(20)]
        unread = short.map(tasks.double, range(100))
    assert [future.result(timeout=0) for future in pending] == list(range(20))
    assert list(unread) == [2 * i for i in range(100)]
    short.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        short.submit(tasks.double, 1)


def test_senseless_arguments() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        stealmesh.Mesh(max_workers=0)
    with pytest.raises(ValueError, match="unknown setting"):
        stealmesh.Mesh(config={"beet_seconds": 1.0})
    with pytest.raises(ValueError, match="not an address"):
        stealmesh.Mesh("localhost:1")


def test_importing_costs_nothing_heavy() -> None:
    script = "import sys, stealmesh; print(sorted({'numpy', 'zmq', 'rich', 'asyncio'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.pure
def test_an_interrupt_in_the_middle_of_a_decision_ends_the_mesh_loudly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C can hit the program's thread while it steps the core itself: what that core believes
    is then half a decision, and nobody's work may hang on it."""
    with stealmesh.Mesh(workers=2) as mesh:
        assert mesh.submit(pow, 2, 3).result(timeout=30) == 8
        waiting = mesh.submit(time.sleep, 60)
        core = mesh._driver.core
        steps, caller = core.steps, threading.current_thread()

        def interrupted(now: float, events: list[Event]) -> list[Effect]:
            if threading.current_thread() is caller:
                raise KeyboardInterrupt
            return steps(now, events)

        monkeypatch.setattr(core, "steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _submit_until_it_raises(mesh)
        with pytest.raises(stealmesh.MeshClosed, match="half-way"):
            waiting.result(timeout=30)
        with pytest.raises(stealmesh.MeshClosed):
            mesh.submit(pow, 2, 3)


def _submit_until_it_raises(mesh: stealmesh.Mesh) -> None:
    """One of them finds the loop asleep, and acts itself."""
    for number in itertools.count():
        mesh.submit(operator.add, number, 1).result(timeout=30)


def test_stopping_a_loop_that_is_just_ending_is_not_blamed() -> None:
    """The loop sees that it is to stop before the one who says so has woken it."""
    mesh = stealmesh.Mesh(workers=1)
    driver = mesh._driver
    wake = driver.wake

    def wake_late() -> None:
        if driver._stopped:
            wake()
            mesh._thread.join()  # it has closed its descriptor
            driver._awake = False
        wake()

    driver.wake = wake_late  # type: ignore[method-assign]
    mesh.shutdown()
