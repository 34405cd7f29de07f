"""Work that depends on work, as chaos judges it: what is right passes, and each kind of wrong is found.

Most of it runs on a mesh of one thread in this process, which breaks its promises on demand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any

import pytest

import stealmesh
from stealmesh_bench.chaos import (
    actor_calls,
    call_graphs,
    durable_work,
    jobs,
    main,
    real,
    real_stage,
    task_trees,
)
from stealmesh_bench.chaos.actor_calls import Folded
from stealmesh_bench.chaos.ledger import run_twice
from stealmesh_bench.chaos.scenario import Bounds, ChaosFault, Scenario
from stealmesh_bench.chaos.workload import RunAccount, Stuck, WorkloadRun

KINDS = ("graph", "nested", "actors")
SLOW = pytest.mark.slow


class PlainMesh:
    """Runs every call at once, in this thread. `spoil` is shown each call, and may spoil it."""

    def __init__(self) -> None:
        self.calls = 0
        self.spoil: Callable[[int, Callable[[], Any]], Any] = lambda number, work: work()
        """Called with the number of the call and what would run it; returns its result."""

    def options(self, **options: Any) -> PlainMesh:
        self.restarts = options.get("restarts", 0)
        return self

    def submit(self, fn: Any, *args: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        number = self.calls
        try:
            future.set_result(self.spoil(number, lambda: fn(*map(given, args))))
        except Lost:
            pass  # as a mesh that has lost the call: the future never ends
        except Exception as error:  # noqa: BLE001 - the future has it
            future.set_exception(error)
        return future

    def map(self, fn: Any, *columns: Any) -> list[Any]:
        return [self.submit(fn, *row).result(0) for row in zip(*columns, strict=True)]

    def actor(self, cls: Any, *args: Any) -> PlainActor:
        return PlainActor(self, cls(*args))


class PlainActor:
    def __init__(self, mesh: PlainMesh, made: Any) -> None:
        self.mesh, self.made, self.deaths = mesh, made, list[str]()

    def add(self, item: int) -> Future[Any]:
        return self.mesh.submit(self.made.add, item)

    def shutdown(self, wait: bool = True) -> None: ...


class Lost(Exception):
    """The mesh forgets the call."""


def given(value: Any) -> Any:
    """The same with results for futures."""
    if isinstance(value, Future):
        return value.result(0)
    if isinstance(value, list | tuple):
        return type(value)(map(given, value))
    if isinstance(value, dict):
        return {name: given(each) for name, each in value.items()}
    return value


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (call_graphs, "CALL_SECONDS"), (task_trees, "TASK_SECONDS"), (actor_calls, "CALL_SECONDS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(actor_calls, "DEATH_TOLD_SECONDS", 0.05)


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> PlainMesh:
    made = PlainMesh()
    monkeypatch.setattr(stealmesh, "here", lambda: made)
    monkeypatch.setattr(actor_calls, "RESTARTS", (0,))  # so that there is one caller
    return made


def judged(kind: str, mesh: Any, log: Path) -> RunAccount:
    """What comes of one round of this job."""

    class OneRound(WorkloadRun):
        """As if the time were over as soon as there is some work."""

        @property
        def lasting(self) -> bool:
            ledger = self.account.ledger
            return self.account.runs + (ledger.accepted if ledger is not None else 0) < 2

    account = RunAccount()
    jobs.find(kind).perform(OneRound(mesh, 1, account, 0.05, 0.05, str(log), 7))
    return account


def found(account: RunAccount) -> tuple[int, int, int]:
    """Lost, duplicated, wrong."""
    ledger = account.ledger
    if ledger is None:
        return account.lost, account.doubled, account.wrong
    return ledger.lost, ledger.duplicated, ledger.wrong


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_right_passes(kind: str, mesh: PlainMesh, tmp_path: Path) -> None:
    account = judged(kind, mesh, tmp_path / "log")
    assert found(account) == (0, 0, 0)
    assert not account.failed
    assert account.goodput.total > 10
    assert run_twice(str(tmp_path / "log")) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_never_ends_is_stuck(kind: str, mesh: PlainMesh, tmp_path: Path) -> None:
    def lose(number: int, work: Callable[[], Any]) -> Any:
        result = work()
        if number == {"nested": 1, "graph": 60, "actors": 20}[kind]:  # no other call needs it
            raise Lost
        return result

    mesh.spoil = lose
    with pytest.raises(Stuck, match="does not end"):
        judged(kind, mesh, tmp_path / "log")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_no_call_raised_is_a_breach(
    kind: str, mesh: PlainMesh, tmp_path: Path
) -> None:
    def fail(number: int, work: Callable[[], Any]) -> Any:
        if number == 1:
            raise LookupError("gone")
        return work()

    mesh.spoil = fail
    account = judged(kind, mesh, tmp_path / "log")
    assert "LookupError" in account.failed[0]
    assert found(account)[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_value_is_found(kind: str, mesh: PlainMesh, tmp_path: Path) -> None:
    def change(number: int, work: Callable[[], Any]) -> Any:
        result = work()
        if number != 3:
            return result
        if kind == "nested":
            return result[0], result[1] + 1
        if kind == "graph":
            return result[0], result[1] + 1, result[2]
        return Folded(result.item, result.life, result.calls, result.fold + 1)

    mesh.spoil = change
    assert found(judged(kind, mesh, tmp_path / "log"))[2] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_counts_twice_is_found(kind: str, mesh: PlainMesh, tmp_path: Path) -> None:
    """It runs twice; of a tree both count, and of a graph the next call is given it as well."""
    last: list[Any] = []

    def double(number: int, work: Callable[[], Any]) -> Any:
        result = work()
        if number == 3:
            again = work()
            return result if kind != "nested" else tuple(map(sum, zip(result, again, strict=True)))
        if kind == "graph" and number == 4:
            return last[-1]
        last.append(result)
        return result

    mesh.spoil = double
    account = judged(kind, mesh, tmp_path / "log")
    assert run_twice(str(tmp_path / "log")) > 0
    lost, doubled, wrong = found(account)
    assert wrong > 0
    assert doubled > 0 or kind == "actors"
    assert lost > 0 or kind != "graph"
    assert account.only_once == (kind == "actors")


def test_a_call_that_an_actor_left_out_is_found(mesh: PlainMesh, tmp_path: Path) -> None:
    """It did not run, and its caller has the value of another one."""
    last: list[Any] = []

    def skip(number: int, work: Callable[[], Any]) -> Any:
        if number == 5:
            return last[-1]
        last.append(work())
        return last[-1]

    mesh.spoil = skip
    account = judged("actors", mesh, tmp_path / "log")
    assert found(account)[:2] == (1, 1)


def test_a_call_that_fails_with_a_living_actor_is_a_breach(mesh: PlainMesh, tmp_path: Path) -> None:
    def fail(number: int, work: Callable[[], Any]) -> Any:
        result = work()
        if number == 19:
            raise stealmesh.ActorDied("so they say")
        return result

    mesh.spoil = fail
    account = judged("actors", mesh, tmp_path / "log")
    assert "has not died" in account.failed[0]
    assert found(account)[2] > 0, "a call that ran and failed is in what the next one returns"


def test_graphs_are_what_they_are_called() -> None:
    graph = call_graphs.draw(Random(1), 500)
    assert all(each < place for place, call in enumerate(graph) for each in call.inputs)
    needed = [sum(place in call.inputs for call in graph) for place in range(500)]
    assert max(needed) >= 3
    assert max(len(call.inputs) for call in graph) == call_graphs.INPUTS_MAX
    assert any(call.stays for call in graph)
    assert any(call.large for call in graph)
    assert call_graphs.draw(Random(1), 500) == graph


# ---------------------------------------------------------------- real processes


def killed_and_back(at: float) -> Scenario:
    """One of three nodes is killed and comes back."""
    faults = (ChaosFault(at, "kill", (1,)), ChaosFault(at + 0.3, "start", (1,)))
    return Scenario("killers", 5, 3, faults, at + 1.0, Bounds(), agreement_from=at + 0.3)


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_dies_and_comes_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # tasks take their time
    monkeypatch.setattr(real_stage, "SETTLE_SECONDS", 0.2)
    report = real.play(killed_and_back(0.7), "again", job=kind)
    assert report.verdict == "pass"
    assert (report.killed, report.workload) == (1, kind)
    assert (report.lost, report.duplicated, report.wrong, report.stuck) == (0, 0, 0, 0)
    assert report.accepted is not None
    assert report.accepted >= 20, "not even one round"
    assert report.run_twice is not None
    if kind == "actors":
        assert report.run_twice == 0
        assert any("failed by name" in note for note in report.notes)


@pytest.mark.real
@SLOW
@pytest.mark.parametrize("name", ["kill-one", "killers", "pauses", "partition"])
@pytest.mark.parametrize("kind", KINDS)
def test_scenarios(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--scenario", name, "--job", kind, "--nodes", "4", "--seed", "3", "--json"])
    said = json.loads(capsys.readouterr().out)
    # The clock of a busy machine is no witness: what must not happen is.
    late = ("recovered", "detection", "agreed")
    assert [each for each in said["verdict"] if not each.startswith(late)] in ([], list("pass"))
    assert (said["lost"], said["duplicated"], said["wrong"], said["stuck"]) == (0, 0, 0, 0)
    assert said["replay"].endswith(f"--job {kind}")


def stopped(everybody: tuple[int, ...] = (0, 1, 2)) -> Scenario:
    """All nodes and the program that submits are killed and come back."""
    faults = [ChaosFault(1.0, "kill-submitter"), ChaosFault(1.0, "kill", everybody)]
    faults += [ChaosFault(1.5, "start", (number,)) for number in everybody]
    return Scenario("full-stop", 1, 3, tuple(faults), 10.0, Bounds(), 1.5, 1.5, work_seconds=3.0)


@pytest.mark.real
@SLOW
@pytest.mark.parametrize("kind", jobs.DURABLE_ALONE)
def test_what_was_accepted_outlives_everybody(kind: str) -> None:
    report = real.play(stopped(), "again", job=kind)
    assert report.verdict == "pass"
    assert (report.killed, report.workload) == (4, kind)
    assert report.accepted
    assert (report.lost, report.duplicated, report.wrong, report.stuck) == (0, 0, 0, 0)
    assert report.flowing_again_s is not None


@pytest.mark.real
@SLOW
def test_a_durable_search_that_comes_to_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = durable_work.right
    monkeypatch.setattr(durable_work, "right", lambda *which: (right(*which)[0] + 1, 0))
    report = real.play(stopped(), "again", job="explore")
    assert report.wrong
    assert report.lost == report.wrong


# ---------------------------------------------------------------- virtual time


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["kill-one", *(pytest.param(each, marks=SLOW) for each in ("killers", "pauses", "partition"))],
)
def test_in_virtual_time(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seconds", "4"] if name == "kill-one" else []
    status = main(
        [
            "--sim",
            "--scenario",
            name,
            "--job",
            kind,
            "--nodes",
            "4",
            "--seed",
            "5",
            "--json",
            *words,
        ]
    )
    said = json.loads(capsys.readouterr().out)
    assert (status, said["verdict"], said["workload"]) == (0, "pass", f"{kind} (virtual)")
    assert said["accepted"] > 50
    assert name == "pauses" or name == "partition" or said["killed"] > 0
    assert (said["lost"], said["duplicated"], said["wrong"], said["stuck"]) == (0, 0, 0, 0)
    assert f"--job {kind}" in said["replay"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sim", "--job", "uts-t1"], "--job uts-t1 runs real code"),
        (["--sim", "--job", "mine:job"], "runs real code"),
        (["--sim", "--scenario", "full-stop", "--job", "graph"], "cannot outlive its submitter"),
        (["--scenario", "full-stop", "--job", "actors"], "cannot outlive its submitter"),
        (["--sim", "--scenario", "random", "--job", "nested"], "draws its own work"),
        (["--job", "explore"], "is for full-stop and for --target durable-submitter"),
        (["--sim", "--scenario", "full-stop", "--job", "submits"], "runs real code"),
        (
            ["--job", "grpah"],
            "write stream, tasks, uts-t1, graph, nested, actors, submits, explore, durable-graph or",
        ),
    ],
)
def test_what_cannot_be_played_says_so(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_the_list_names_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"--job {kind}" in listed for kind in KINDS)
    assert os.linesep in listed
