"""Tasks that misbehave: each fails by name, everything else is finished, nothing is left running."""

from __future__ import annotations

import threading

import pytest
from tests.real import tasks

import stealmesh
from stealmesh_protocol.errors import RemoteTraceback

pytestmark = pytest.mark.real


def test_a_task_that_segfaults_is_named_and_its_neighbours_are_saved(mesh: stealmesh.Mesh) -> None:
    futures = [mesh.submit(tasks.segfault_on_seven, i) for i in range(20)]
    with pytest.raises(stealmesh.WorkerDied, match=r"item \d+ .*SIGSEGV") as died:
        futures[7].result(timeout=60)
    assert len(died.value.attempts) == 3
    others = [i for i in range(20) if i != 7]
    assert [futures[i].result(timeout=60) for i in others] == others


def test_a_task_that_exits(mesh: stealmesh.Mesh) -> None:
    results = mesh.map(tasks.exit_on_three, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(stealmesh.WorkerDied, match=r"item 3 .*exit status 5"):
        next(results)


def test_a_task_that_raises_brings_its_own_exception_and_traceback(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(ValueError, match="five is right out") as raised:
        mesh.submit(tasks.raise_on_five, 5).result(timeout=30)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "raise_on_five" in raised.value.__cause__.text
    with pytest.raises(ValueError, match="five is right out"):
        mesh.map_reduce(tasks.raise_on_five, range(10), max).result(timeout=30)


def test_a_result_that_cannot_be_sent(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.CannotShip, match="lock"):
        mesh.submit(tasks.a_lock, 1).result(timeout=30)


def test_a_function_and_an_argument_that_cannot_be_shipped(mesh: stealmesh.Mesh) -> None:
    lock = threading.Lock()
    with pytest.raises(stealmesh.CannotShip, match="cannot be sent to the mesh"):
        mesh.submit(lambda: lock).result(timeout=30)
    bad, good = mesh.submit(tasks.double, lock), mesh.submit(tasks.double, 4)
    with pytest.raises(stealmesh.CannotShip, match="lock"):
        bad.result(timeout=30)
    assert good.result(timeout=30) == 8


def test_a_task_that_holds_the_gil_stops_nobody_else(mesh: stealmesh.Mesh) -> None:
    holder = mesh.submit(tasks.hold_the_gil, 3.0)
    assert mesh.submit(tasks.double, 1).result(timeout=30) == 2
    assert not holder.done()
    assert holder.result(timeout=30) == "held"
    assert mesh.status()["counters"].get("peers-declared-dead", 0) == 0


def test_a_task_that_wants_all_the_memory(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(MemoryError):
        mesh.submit(tasks.too_much_memory, 1).result(timeout=30)


def test_a_task_that_takes_too_long(mesh: stealmesh.Mesh) -> None:
    hurried = mesh.options(timeout=0.3)
    with pytest.raises(stealmesh.TaskTimeout, match=r"timeout of 0\.3 s"):
        hurried.submit(tasks.hold_the_gil, 10.0).result(timeout=30)
    assert mesh.submit(tasks.double, 1).result(timeout=30) == 2


def test_a_seed_that_does_not_answer() -> None:
    key = stealmesh.Key.generate()
    with pytest.raises(stealmesh.JoinRefused, match="connection refused"):
        stealmesh.Mesh("tcp://127.0.0.1:9", key=key)


def test_a_wrong_key(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.JoinRefused, match="key"):
        stealmesh.Mesh(mesh.address, key=stealmesh.Key.generate())


def test_an_initializer_that_raises_breaks_the_mesh_and_says_why() -> None:
    with stealmesh.Mesh(workers=1, initializer=tasks.raise_on_five, initargs=(5,)) as mesh:
        future = mesh.submit(tasks.double, 1)
        with pytest.raises(stealmesh.MeshClosed, match="five is right out"):
            future.result(timeout=60)
