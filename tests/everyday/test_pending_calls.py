"""A program that submits sooner than its mesh runs waits, and nothing that has to go on does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh
from stealmesh.client.pending_calls import PendingCalls

PATIENCE = 20
BOUND = 64


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    config = {"pending_calls_max": BOUND}
    with stealmesh.Mesh(nodes=1, workers=1, config=config) as running:
        yield running


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """A file that calls wait for. It is there in the end, so that no failure leaves calls behind."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


def behind(gate: str, *before: object) -> int:
    """Waits until the gate is there."""
    while not Path(gate).exists():
        time.sleep(0.005)
    return 1


def plus(a: int, b: int = 0) -> int:
    return a + b


def family(count: int) -> int:
    here = stealmesh.here()
    return sum(each.result() for each in [here.submit(plus, 1) for _ in range(count)])


class Submits:
    """A thread that submits many calls."""

    def __init__(self, submit: Callable[[], Any], count: int) -> None:
        self.futures: list[Any] = []
        self.error: BaseException | None = None
        self._submit, self._count = submit, count
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for _ in range(self._count):
                self.futures.append(self._submit())
        except BaseException as error:  # noqa: BLE001  the test looks at it
            self.error = error


def calls_of(mesh: stealmesh.Mesh) -> PendingCalls:
    return mesh._submitted.pending_calls


def test_submit_waits_beyond_the_bound(mesh: stealmesh.Mesh, gate: str) -> None:
    submits = Submits(lambda: mesh.submit(behind, gate), 3 * BOUND)
    until(lambda: calls_of(mesh).waiting == 1)
    assert BOUND // 2 < len(submits.futures) <= BOUND
    Path(gate).touch()
    submits.thread.join(PATIENCE)
    assert sum(each.result(PATIENCE) for each in submits.futures) == 3 * BOUND
    assert calls_of(mesh).waiting == 0


def test_a_chain_longer_than_the_bound_ends(mesh: stealmesh.Mesh) -> None:
    last = mesh.submit(plus, 0)
    for _ in range(10 * BOUND):
        last = mesh.submit(plus, last, 1)
    assert last.result(PATIENCE) == 10 * BOUND


def test_a_callback_submits_beyond_the_bound(
    mesh: stealmesh.Mesh, gate: str, tmp_path: Path
) -> None:
    """It is in one of the mesh's own threads: what waits for others needs these to go on."""
    first_gate, more = tmp_path / "first", list[Any]()
    told = threading.Event()

    def submit_more(_: object) -> None:
        more.extend(mesh.submit(behind, gate) for _ in range(BOUND))
        told.set()

    first = mesh.submit(behind, str(first_gate))
    first.add_done_callback(submit_more)
    submits = Submits(lambda: mesh.submit(behind, gate), 2 * BOUND)
    until(lambda: calls_of(mesh).waiting == 1)
    first_gate.touch()
    assert told.wait(PATIENCE)
    assert calls_of(mesh).waiting == 1
    Path(gate).touch()
    submits.thread.join(PATIENCE)
    assert sum(each.result(PATIENCE) for each in submits.futures + more) == 3 * BOUND


def test_an_iterator_submits_beyond_the_bound(mesh: stealmesh.Mesh, gate: str) -> None:
    """A map reads it in a thread of the mesh's. The calls that wait need what the map makes of it."""
    more = list[Any]()

    def items() -> Iterator[int]:
        for number in range(2 * BOUND):
            more.append(mesh.submit(behind, gate))
            yield number

    total = mesh.map_reduce(plus, items(), plus)
    until(lambda: len(more) == 2 * BOUND)
    Path(gate).touch()
    assert total.result(PATIENCE) == sum(range(2 * BOUND))
    assert sum(each.result(PATIENCE) for each in more) == 2 * BOUND


def test_tasks_inside_tasks_do_not_wait(mesh: stealmesh.Mesh) -> None:
    assert mesh.submit(family, 3 * BOUND).result(PATIENCE) == 3 * BOUND


def test_who_waits_hears_of_the_end(gate: str) -> None:
    """At once, while the calls before it run on."""
    mesh = stealmesh.Mesh(nodes=1, workers=1, config={"pending_calls_max": 8})
    submits = Submits(lambda: mesh.submit(behind, gate), 100)
    until(lambda: calls_of(mesh).waiting == 1)
    begun = len(submits.futures)
    ends = threading.Thread(target=mesh.shutdown, daemon=True)
    ends.start()
    submits.thread.join(PATIENCE)
    assert isinstance(submits.error, RuntimeError)
    assert len(submits.futures) == begun
    assert not any(each.done() for each in submits.futures)
    Path(gate).touch()
    ends.join(PATIENCE)
    assert all(each.result(PATIENCE) == 1 for each in submits.futures)
