"""Refs in results of `map`: made by its tasks, or given to them closed. Used, lost with a node, and gone in the end."""

from __future__ import annotations

import functools
import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.test_kept import nothing_is_left
from tests.everyday.test_scattered import size
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 60
LARGE = 1 << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as running:
        yield running


def data(filler: int) -> bytearray:
    return bytearray([filler]) * LARGE


def makes(number: int) -> dict[str, Any]:
    here = stealmesh.here()
    return {"number": number, "refs": [here.scatter(data(number)), here.scatter(number)]}


@stealmesh.vectorized
def makes_all(numbers: Any) -> Any:
    return [makes(number) for number in numbers]


def make_two(one: int, other: int) -> list[dict[str, Any]]:
    return [makes(one), makes(other)]


def total(of: dict[str, Any]) -> tuple[int, int]:
    return sum(of["refs"][0]) // LARGE, of["refs"][1]


def same(given: Any) -> Any:
    return [given]


def right(found: list[dict[str, Any]], numbers: range) -> bool:
    return [each["number"] for each in found] == list(numbers) and all(
        (sum(each["refs"][0].result(PATIENCE)), each["refs"][1].result(PATIENCE))
        == (LARGE * each["number"], each["number"])
        for each in found
    )


def items_of(kind: str) -> Any:
    return range(12) if kind == "range" else list(range(12))


@pytest.mark.parametrize("kind", ["range", "list"])
def test_what_tasks_of_a_map_make_is_the_programs(mesh: stealmesh.Mesh, kind: str) -> None:
    """They outlive the map, go into other calls, and each goes when the program drops it."""
    found = list(mesh.map(makes, items_of(kind), chunksize=3))
    assert right(found, range(12))
    assert list(mesh.map(total, found)) == [(number, number) for number in range(12)]
    assert mesh.submit(total, found[5]).result(PATIENCE) == (5, 5)
    assert mesh.gather(found[2])["refs"] == [data(2), 2]
    last = found.pop()
    del found
    gc.collect()
    until(lambda: sum(node["values"]["owned"] for node in mesh.status()["nodes"]) == 1)
    assert sum(last["refs"][0].result(PATIENCE)) == 11 * LARGE
    del last
    nothing_is_left(mesh)


def test_all_ways_to_map(mesh: stealmesh.Mesh) -> None:
    loose = sorted(mesh.map(makes, range(6), ordered=False), key=lambda each: int(each["number"]))
    assert right(loose, range(6))
    assert right(list(mesh.map(makes_all, range(6))), range(6))
    assert right(list(mesh.map(makes, range(6), buffersize=2)), range(6))
    assert right(list(mesh.map(makes, [mesh.submit(int, n) for n in range(3)])), range(3))
    assert right(list(mesh.options(retries=1).map(makes, range(3))), range(3))
    assert right(list(mesh.options(speculate=True).map(makes, range(3))), range(3))
    (pair,) = mesh.map(make_two, [1], [2])
    assert right(pair, range(1, 3))
    del loose, pair
    nothing_is_left(mesh)


def test_what_nobody_reads_goes(mesh: stealmesh.Mesh) -> None:
    """Of a map that is left early, of one that nobody began to read, and of one that is read no further."""
    reading = mesh.map(makes, range(40))
    first = next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert right([first], range(1))
    del first
    nothing_is_left(mesh)
    reading = mesh.map(makes, range(10))
    del reading
    nothing_is_left(mesh)
    reading = mesh.map(makes, range(10), chunksize=1)
    assert right([next(reading)], range(1))
    until(lambda: sum(node["values"]["owned"] for node in mesh.status()["nodes"]) >= 9)
    del reading
    nothing_is_left(mesh)


def test_closed_refs_come_back(mesh: stealmesh.Mesh) -> None:
    """Also when the program has dropped them, and the map as well, before it reads the results."""
    ref = mesh.scatter(data(1))
    reading = mesh.map(same, [ref.closed()] * 6, chunksize=2)
    whole = mesh.map(functools.partial(lambda it, n: [it, n], ref.closed()), range(3))
    del ref
    gc.collect()
    until(lambda: sorted(job["done"] for job in mesh.status()["jobs"][-2:]) == [3, 6])
    for number in range(20):  # what would let the value go has its turn
        assert mesh.submit(abs, number).result(PATIENCE) == number
    found = list(reading)
    assert [sum(each.result(PATIENCE)) for (each,) in found] == [LARGE] * 6
    del found, reading
    assert [(size(it.result(PATIENCE)), n) for it, n in whole] == [(LARGE, n) for n in range(3)]
    del whole
    nothing_is_left(mesh)


class LeavesATrace:
    """A result that a worker packs, and then lets go."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return str, ("packed",)

    def __del__(self) -> None:
        self.place.touch()


def traced(place: Path, number: int) -> LeavesATrace:
    time.sleep(0.02)  # others have the time to steal, so that this worker is asked meanwhile
    return LeavesATrace(place / str(number))


def test_a_worker_lets_go_of_results_without_another_chunk(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    task = functools.partial(traced, tmp_path)
    assert [str(each) for each in mesh.map(task, range(60))] == ["packed"] * 60
    until(lambda: len(list(tmp_path.iterdir())) == 60)


def test_a_map_is_read_when_the_mesh_is_left() -> None:
    with stealmesh.Mesh(nodes=1, workers=1) as mesh:
        reading = mesh.map(makes, range(4))
    assert right(list(reading), range(4))


def noted(place: Path, number: int) -> dict[str, Any]:
    (place / f"{number}-{os.getpid()}-{len(list(place.iterdir()))}").touch()
    return makes(number)


@pytest.mark.parametrize("reads", ["all", pytest.param("some", marks=pytest.mark.slow)])
def test_the_node_with_the_values_is_killed(tmp_path: Path, reads: str) -> None:
    """Its tasks run again, and only they."""
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        numbers = range(8) if reads == "all" else range(60)
        reading = mesh.map(functools.partial(noted, tmp_path), numbers, chunksize=1)
        found = [next(reading) for _ in range(8)]
        if reads == "some":
            reading.close()  # type: ignore[attr-defined]
        else:
            assert list(reading) == []
        pids = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
        nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
        (victim, *_) = [node for node in nodes if pids & set(node["worker_pids"])]
        ran = {
            number
            for number, pid, _ in (map(int, path.name.split("-")) for path in tmp_path.iterdir())
            if pid in victim["worker_pids"]
        } & set(range(8))
        before = len(list(tmp_path.iterdir()))
        os.kill(victim["pid"], signal.SIGKILL)
        assert right(found, range(8))
        assert mesh.submit(total, found[min(ran)]).result(PATIENCE) == (min(ran), min(ran))
        if reads == "all":
            assert len(list(tmp_path.iterdir())) == before + len(ran)
        del found, reading
        nothing_is_left(mesh)
