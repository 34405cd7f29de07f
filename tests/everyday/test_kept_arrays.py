"""Arrays of one size, one after the other: their memory is used again, and who still has one sees it as it was."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tests.everyday.test_scattered import files_of
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 120
LENGTH = 1 << 19
"""4 MiB."""
TIMES = 12
KEPT: list[np.ndarray] = []


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def filled(number: float) -> np.ndarray:
    return np.full(LENGTH, number)


def twice(array: np.ndarray) -> np.ndarray:
    return array * 2


def keeps(array: np.ndarray) -> None:
    KEPT.append(array)


def keeps_part(array: np.ndarray) -> None:
    KEPT.append(array[-10:])


def are_kept() -> list[list[float]]:
    """The different numbers in each."""
    found = [np.unique(array).tolist() for array in KEPT]
    KEPT.clear()
    return found


def changes(array: np.ndarray) -> float:
    array += 1
    return float(array[-1])


def alike(arrays: list[np.ndarray]) -> list[list[float]]:
    return [np.unique(array).tolist() for array in arrays]


def test_results_that_the_program_has_stay_as_they_are(mesh: stealmesh.Mesh) -> None:
    results = [mesh.submit(twice, filled(at)).result(PATIENCE) for at in range(TIMES)]
    assert alike(results) == [[2.0 * at] for at in range(TIMES)]
    del results[::2]
    more = [mesh.submit(twice, filled(100 + at)).result(PATIENCE) for at in range(TIMES)]
    assert alike(results) == [[2.0 * at] for at in range(1, TIMES, 2)]
    assert alike(more) == [[200.0 + 2 * at] for at in range(TIMES)]


@pytest.mark.parametrize("keep", [keeps, keeps_part])
def test_arguments_that_a_task_has_kept_stay_as_they_are(
    mesh: stealmesh.Mesh, keep: Callable[[np.ndarray], None]
) -> None:
    for at in range(TIMES):
        mesh.submit(keep, filled(at)).result(PATIENCE)
        assert mesh.submit(changes, filled(-at)).result(PATIENCE) == 1 - at
    assert mesh.submit(are_kept).result(PATIENCE) == [[float(at)] for at in range(TIMES)]


def test_scattered_ones_too(mesh: stealmesh.Mesh) -> None:
    for at in range(TIMES):
        ref = mesh.scatter(filled(at))
        mesh.submit(keeps, ref).result(PATIENCE)
        del ref
    assert mesh.submit(are_kept).result(PATIENCE) == [[float(at)] for at in range(TIMES)]


def test_what_one_changes_is_not_seen_by_the_next(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(filled(5))
    assert [mesh.submit(changes, ref).result(PATIENCE) for _ in range(4)] == [6.0] * 4
    assert alike([mesh.gather([ref])[0]]) == [[5.0]]


def test_memory_is_given_back_when_nothing_comes(mesh: stealmesh.Mesh) -> None:
    for at in range(TIMES):
        mesh.submit(twice, filled(at)).result(PATIENCE)
    gc.collect()
    (node,) = [each for each in mesh.status()["nodes"] if each["role"] != "client"]
    pids = [os.getpid(), node["pid"], *node["worker_pids"]]
    until(lambda: not any(files_of(pid) for pid in pids))


def test_what_a_program_forgets_after_the_mesh_goes_at_once() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        ref = mesh.scatter(filled(1))
    assert files_of(os.getpid())
    del ref
    gc.collect()
    assert not files_of(os.getpid())
