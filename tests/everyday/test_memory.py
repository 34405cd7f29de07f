"""A memory limit of each worker: who passes it fails by name, and who keeps too much is replaced."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from typing import Any

import pytest

import stealmesh

MIB = 1 << 20
LIMIT = 512 * MIB


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1, memory_limit="512M") as mesh:
        yield mesh


def take(mib: int) -> int:
    return len(bytearray(mib * MIB))


def test_a_call_that_needs_more_fails_by_name(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.TaskOutOfMemory, match=r"item 0 of .*take: .* 512 MiB") as caught:
        mesh.submit(take, 2000).result()
    assert isinstance(caught.value, MemoryError)
    assert "in take" in caught.value.__cause__.text  # type: ignore[union-attr]
    assert mesh.submit(take, 1).result() == MIB


def test_its_neighbours_have_their_results(mesh: stealmesh.Mesh) -> None:
    """Each of them needs more than half of the limit: what the failed one had is free again."""

    def greedy(x: int) -> int:
        held = bytearray(250 * MIB)
        if x % 3 == 1:
            bytearray(400 * MIB)
        return len(held)

    view = mesh.options(chunksize=9)
    futures = [view.submit(greedy, x) for x in range(9)]
    outcomes = [future.exception() or future.result() for future in futures]
    for x, outcome in enumerate(outcomes):
        if x % 3 == 1:
            assert isinstance(outcome, stealmesh.TaskOutOfMemory)
            assert f"item {x} of " in str(outcome)
        else:
            assert outcome == 250 * MIB


def test_neighbours_of_one_chunk(mesh: stealmesh.Mesh) -> None:
    def greedy(x: int) -> int:
        held = bytearray(250 * MIB)
        if x == 1:
            bytearray(400 * MIB)
        return len(held)

    results = mesh.options(chunksize=4).map(greedy, range(4))
    assert next(results) == 250 * MIB
    with pytest.raises(stealmesh.TaskOutOfMemory, match="item 1 of "):
        next(results)


def test_arrays(mesh: stealmesh.Mesh) -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(stealmesh.TaskOutOfMemory, match="512 MiB"):
        mesh.submit(np.ones, 10**9).result()


def test_a_reduction_names_the_item(mesh: stealmesh.Mesh) -> None:
    def greedy(x: int) -> int:
        return take(2000 if x == 3 else 1)

    with pytest.raises(stealmesh.TaskOutOfMemory, match=r"item 3 of .*greedy"):
        mesh.map_reduce(greedy, range(5), operator.add).result()


def test_a_vectorized_call(mesh: stealmesh.Mesh) -> None:
    @stealmesh.vectorized
    def greedy(items: Any) -> list[int]:
        return [take(2000) for _ in items]

    with pytest.raises(stealmesh.TaskOutOfMemory, match="item 0 of "):
        list(mesh.map(greedy, range(3)))


def test_without_a_limit_the_error_is_the_tasks_own() -> None:
    def fails(x: int) -> None:
        raise MemoryError("mine")

    with stealmesh.Mesh(workers=1) as mesh:
        with pytest.raises(MemoryError, match="mine") as caught:
            mesh.submit(fails, 1).result()
        assert not isinstance(caught.value, stealmesh.TaskOutOfMemory)


def test_a_worker_that_keeps_too_much_is_replaced() -> None:
    """A leak of 100 MiB a task would end the fifth. Every result comes, from more than one process, and
    no worker counts as lost."""

    def leaks(x: int) -> tuple[int, int]:
        import time

        keep = globals().setdefault("_LEAK", [])
        keep.append(b"x" * (100 * MIB))
        time.sleep(0.3)  # a process is replaced once a second at most
        return x, os.getpid()

    with stealmesh.Mesh(workers=1, memory_limit=LIMIT) as mesh:
        results = list(mesh.options(chunksize=1).map(leaks, range(12)))
        assert [x for x, _ in results] == list(range(12))
        assert len({pid for _, pid in results}) > 1
        assert not mesh.status()["counters"].get("workers-lost")


@pytest.mark.parametrize(
    ("value", "error"), [("much", ValueError), (17, ValueError), (1.5, TypeError), (-1, ValueError)]
)
def test_what_is_no_size_raises(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="memory_limit"):
        stealmesh.Mesh(memory_limit=value)


def test_only_a_local_mesh_has_one() -> None:
    with pytest.raises(ValueError, match="local mesh"):
        stealmesh.Mesh("tcp://127.0.0.1:1", memory_limit="1G")
