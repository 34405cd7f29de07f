"""Small print of the Executor contract: types of errors, managers, worn-out workers, cycles, threads of inputs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sqlite3
from collections import Counter
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.programs import run

import stealmesh

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def mesh() -> Any:
    with stealmesh.Mesh(workers=2) as running:
        yield running


def same(value: Any) -> Any:
    return value


def my_pid(_: int) -> int:
    return os.getpid()


def fill(event: Any, queue: Any, value: Any) -> bool:
    queue.put(value)
    event.set()
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def read_all(value: Any) -> list[Any]:
    return list(value)


# ---------------------------------------------------------------- managers


def test_proxies_of_a_manager_work_in_tasks() -> None:
    """Row 42b: AuthenticationError, as workers had a key of their own."""
    with multiprocessing.Manager() as manager, stealmesh.Mesh(workers=2) as mesh:
        event, queue = manager.Event(), manager.Queue()
        assert mesh.submit(fill, event, queue, [1, 2]).result()
        assert event.is_set()
        assert queue.get() == [1, 2]


def test_so_do_lists_and_dictionaries_in_maps_and_after_a_worker_has_died() -> None:
    with multiprocessing.Manager() as manager, stealmesh.Mesh(workers=1) as mesh:
        shared = manager.dict()
        with pytest.raises(stealmesh.WorkerDied):
            mesh.submit(die).result()
        assert list(mesh.map(shared.setdefault, "abc", [1, 2, 3])) == [1, 2, 3]
        assert dict(shared) == {"a": 1, "b": 2, "c": 3}
        assert mesh.submit(read_all, manager.list([4, 5])).result() == [4, 5]


# ---------------------------------------------------------------- errors


def test_a_dead_worker_is_a_broken_executor(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(BrokenExecutor) as raised:
        mesh.submit(die).result()
    assert isinstance(raised.value, stealmesh.WorkerDied)
    assert pickle.loads(pickle.dumps(raised.value)).attempts == raised.value.attempts


def test_what_cannot_be_sent_is_a_pickling_error(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(pickle.PicklingError):
        mesh.submit(same, (line for line in "abc")).result()
    with pytest.raises(pickle.PicklingError):
        mesh.submit(lambda: (line for line in "abc")).result()


def test_a_map_over_nothing_at_all_is_empty(mesh: stealmesh.Mesh) -> None:
    assert list(mesh.map(same)) == []
    assert list(mesh.map(same, timeout=1, chunksize=3, buffersize=2)) == []
    assert list(mesh.options(name="none").map(same)) == []


# ---------------------------------------------------------------- worn-out workers


@pytest.mark.parametrize("most", [1, 3])
def test_a_worker_makes_room_after_so_many_tasks(most: int) -> None:
    with stealmesh.Mesh(workers=2, max_tasks_per_child=most) as mesh:
        pids = [mesh.submit(my_pid, 0).result() for _ in range(3)]
        pids += [call.result() for call in [mesh.submit(my_pid, number) for number in range(12)]]
        pids += mesh.map(my_pid, range(12))
        assert max(Counter(pids).values()) <= most
        assert mesh.status()["counters"].get("workers-lost", 0) == 0


def test_of_every_kind_of_work_and_a_death_still_counts() -> None:
    with stealmesh.Mesh(workers=1, max_tasks_per_child=2) as mesh:
        assert mesh.map_reduce(same, range(10), max).result() == 9
        with pytest.raises(stealmesh.WorkerDied):
            mesh.submit(die).result()
        assert mesh.status()["counters"]["workers-lost"] >= 1
        assert mesh.submit(same, 5).result() == 5


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_senseless_numbers_of_tasks_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_tasks_per_child"):
        stealmesh.Mesh(max_tasks_per_child=value)


# ---------------------------------------------------------------- cycles


def test_futures_maps_and_their_exceptions_leave_no_cycles(tmp_path: Path) -> None:
    """Else everything that a failed task's frames refer to stays until the collector comes by.

    In a process of its own: here a mesh of an earlier test may still be ending in its thread."""
    source = """
        import gc

        import stealmesh

        def same(value):
            return value

        def work(mesh):
            assert mesh.submit(same, 1).result() == 1
            failures = 0
            try:  # no name for the future: this frame would be part of a cycle itself
                mesh.submit(divmod, 1, 0).result()
            except ZeroDivisionError:
                failures += 1
            mesh.submit(same, 2).cancel()
            assert list(mesh.map(same, [1, 2, 3])) == [1, 2, 3]
            try:
                list(mesh.map(divmod, [1, 1], [1, 0]))
            except ZeroDivisionError:
                failures += 1
            assert failures == 2

        if __name__ == "__main__":
            with stealmesh.Mesh(workers=2) as mesh:
                work(mesh)
                gc.collect()
                gc.disable()
                gc.set_debug(gc.DEBUG_SAVEALL)
                for _ in range(3):
                    work(mesh)
                gc.collect()
                gc.set_debug(0)
                ours = [each for each in gc.garbage if type(each).__module__.startswith("stealmesh")]
                errors = [each for each in gc.garbage if isinstance(each, ZeroDivisionError)]
                print(ours, errors)
    """
    assert run(source, tmp_path).stdout.strip() == "[] []"


# ---------------------------------------------------------------- inputs


def test_a_cursor_as_input_of_a_map_says_what_to_do(mesh: stealmesh.Mesh) -> None:
    """Row 42: a bare ProgrammingError. The remedies that it names are tried."""
    own = sqlite3.connect(":memory:")
    rows = "select 1 union select 2 order by 1"
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        list(mesh.map(same, own.execute(rows)))
    assert "list(cursor)" in "".join(raised.value.__notes__)
    assert list(mesh.map(same, list(own.execute(rows)))) == [(1,), (2,)]
    any_thread = sqlite3.connect(":memory:", check_same_thread=False)
    assert list(mesh.map(same, any_thread.execute(rows))) == [(1,), (2,)]
    own.close()
    any_thread.close()
