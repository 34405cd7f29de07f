"""Calls that depend on each other are cancelled, stopped, timed out and tried again, in each state they can be in.

What comes of a call, and of what waits for it, is the same wherever it waits: in the program, in the account, or at
a node behind its inputs. tests/sim/test_graphs.py has the rules.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real
PATIENCE_SECONDS = 60.0
"""Only ever reached by a defect."""


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def two() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        yield mesh


def gated(gate: Path, *inputs: Any) -> int:
    """Runs until the gate is open. Beside the gate lies a file that says that it runs."""
    gate.with_suffix(".runs").touch()
    while not gate.exists():
        time.sleep(0.01)
    return len(inputs)


def sleeping(mark: Path, *inputs: Any) -> None:
    mark.touch()
    time.sleep(10**6)


def holding_the_interpreter(mark: Path, *inputs: Any) -> int:
    mark.touch()
    return sum(itertools.repeat(1, 10**15))


def flaky(log: Path, failures: int, *inputs: Any) -> int:
    with open(log, "a") as file:
        file.write("x")
    before = log.stat().st_size - 1
    if before < failures:
        raise ValueError(before)
    return before


def one_more(value: int) -> int:
    return value + 1


def ending(future: stealmesh.Future[Any]) -> type[BaseException] | None:
    """How it ended; None: with a result."""
    try:
        error = future.exception(PATIENCE_SECONDS)
    except CancelledError:
        return CancelledError
    return None if error is None else type(error)


def behind(mesh: stealmesh.Mesh, future: Any, length: int = 3) -> list[stealmesh.Future[int]]:
    """A chain that waits for it."""
    chain = [future]
    for _ in range(length):
        chain.append(mesh.submit(one_more, chain[-1]))
    return chain[1:]


def runs(mesh: stealmesh.Mesh) -> None:
    assert mesh.submit(pow, 2, 10).result(PATIENCE_SECONDS) == 1024, "the only worker is free"


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_while_its_input_runs(mesh: stealmesh.Mesh, tmp_path: Path, end: str) -> None:
    """It waits at the node, or in the account: it is cancelled, and so is what waits for it."""
    first = mesh.submit(gated, tmp_path / "gate")
    second = mesh.submit(one_more, first)
    third = behind(mesh, second)
    until((tmp_path / "gate.runs").exists, "its input runs")
    assert not second.running()
    assert getattr(second, end)()
    assert ending(second) is CancelledError
    assert {ending(each) for each in third} == {CancelledError}
    (tmp_path / "gate").touch()
    assert first.result(PATIENCE_SECONDS) == 0
    runs(mesh)


def test_while_one_of_its_inputs_is_there(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """The other one runs on another node, perhaps."""
    done, gate = two.submit(abs, -3), tmp_path / "gate"
    second = two.submit(max, [done, two.submit(gated, gate), two.submit(gated, gate)])
    third = behind(two, second)
    until((tmp_path / "gate.runs").exists, "its input runs")
    done.result(PATIENCE_SECONDS)
    assert second.cancel()
    assert {ending(each) for each in [second, *third]} == {CancelledError}
    gate.touch()


@pytest.mark.parametrize("task", [sleeping, holding_the_interpreter])
def test_an_input_that_runs_is_stopped(
    mesh: stealmesh.Mesh, tmp_path: Path, task: Callable[..., Any]
) -> None:
    """All that waits for it, also at its node, fails with it, and says so."""
    first = mesh.submit(task, tmp_path / "mark")
    second = behind(mesh, first)
    beside = mesh.submit(task, tmp_path / "never", first)
    until((tmp_path / "mark").exists, "it runs")
    until(first.running, "it is known to run")
    assert not first.cancel()
    assert first.stop()
    for each in [*second, beside]:
        error = each.exception(PATIENCE_SECONDS)
        assert isinstance(error, stealmesh.TaskStopped)
        assert "was stopped by the program" in str(error)
        assert [note for note in error.__notes__ if "error of item" in note]
    assert not (tmp_path / "never").exists()
    runs(mesh)


@pytest.mark.parametrize("task", [sleeping, holding_the_interpreter])
def test_an_input_takes_too_long(
    mesh: stealmesh.Mesh, tmp_path: Path, task: Callable[..., Any]
) -> None:
    first = mesh.submit(abs, -1)
    second = mesh.options(timeout=0.2).submit(task, tmp_path / "mark", first)
    third = behind(mesh, second)
    assert {ending(each) for each in [second, *third]} == {stealmesh.TaskTimeout}
    assert [note for note in third[0].exception(0).__notes__ if "error of item" in note]  # type: ignore[union-attr]
    runs(mesh)


def test_a_call_on_another_node_is_stopped(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """Two calls run, one on each node. What waits for one fails, what waits for the other does not."""
    gate = tmp_path / "gate"
    ones = [two.submit(gated, gate.with_name(f"{n}.gate"), two.submit(abs, n)) for n in range(2)]
    behind_each = [behind(two, one) for one in ones]
    both = two.submit(max, ones)
    for one in ones:
        until(one.running, "it is known to run")
    assert ones[1].stop()
    assert {ending(each) for each in [*behind_each[1], both]} == {stealmesh.TaskStopped}
    gate.with_name("0.gate").touch()
    assert [each.result(PATIENCE_SECONDS) for each in behind_each[0]] == [2, 3, 4]


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_a_call_that_is_to_be_tried_again(
    mesh: stealmesh.Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """It has failed once, so it waits, and may be cancelled."""
    monkeypatch.setattr("stealmesh_engine.ledger.put_off.back_off", lambda failed, rng: 3600.0)
    first = mesh.submit(abs, -1)
    second = mesh.options(retries=3).submit(flaky, tmp_path / "log", 2, first)
    third = behind(mesh, second)
    until((tmp_path / "log").exists, "the first attempt")
    until(lambda: not second.running(), "it waits")
    assert getattr(second, end)()
    assert ending(second) in (CancelledError, stealmesh.TaskStopped)
    assert {ending(each) for each in third} == {ending(second)}
    runs(mesh)


def test_what_waits_for_a_call_that_is_tried_again(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    view = mesh.options(retries=2)
    good = behind(mesh, view.submit(flaky, tmp_path / "good", 2, mesh.submit(abs, -1)))
    bad = behind(mesh, view.submit(flaky, tmp_path / "bad", 3, mesh.submit(abs, -1)))
    assert [each.result(PATIENCE_SECONDS) for each in good] == [3, 4, 5]
    assert {ending(each) for each in bad} == {ValueError}


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_an_input_whose_result_is_on_its_way(
    mesh: stealmesh.Mesh, tmp_path: Path, end: str
) -> None:
    """The result comes in the moment in which the program ends the call: it is dropped, and nothing that waits
    has a result that is made of it."""
    link, gate = mesh._link, tmp_path / "gate"
    first = mesh.submit(gated, gate)
    second = mesh.submit(gated, tmp_path / "late", first)
    third = behind(mesh, second)
    if end == "stop":
        until(first.running, "it is known to run")
    else:
        until((tmp_path / "gate.runs").exists, "it runs")
        if first.running():
            pytest.skip("it is known to run already")
    reports: list[bool] = []
    stream: Any = type(first._submission)
    right = stream.deliver

    def deliver(self: Any, effect: Any) -> None:
        """In the driver's thread: the program's thread is a moment ahead of it."""
        if self is first._submission and effect.lo <= first.index < effect.hi and not reports:
            reports.append(getattr(first, end)())
        right(self, effect)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "deliver", deliver)
        gate.touch()
        until(lambda: reports, "the result comes")
    assert reports == [True]
    expected = CancelledError if end == "cancel" else stealmesh.TaskStopped
    assert {ending(each) for each in [first, second, *third]} == {expected}
    (tmp_path / "late").touch()
    assert link.failure is None
    runs(mesh)
