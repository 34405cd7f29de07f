"""Durable calls that go into others, over real processes and disks; programs and nodes are killed with SIGKILL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.real import tasks
from tests.real.durable_nodes import PATIENCE_SECONDS, Nodes, said_by_the_dead
from tests.real.test_durable import runs_of

import stealmesh
from stealmesh.client.durable_call import DurableFuture

pytestmark = pytest.mark.real
CALLS = 24
PROGRAM = """
import sys, stealmesh
from tests.real import tasks
from tests.real.test_durable_graphs import drawn
seed, key, log, number, seconds = sys.argv[1:]
durable = stealmesh.Mesh(seed, key=key).options(durable=True)
calls = []
for at, inputs in enumerate(drawn(int(number))):
    calls.append(
        durable.submit(tasks.log_and_mix, log, at, float(seconds), *[calls[each] for each in inputs])
    )
print(*(call.accepted() for call in calls), flush=True)
sys.stdin.read()
"""


def drawn(number: int) -> list[list[int]]:
    """A random graph: which earlier calls go into each call."""
    rng = Random(number)
    return [
        rng.sample(range(max(0, at - 6), at), min(at, rng.choice((0, 1, 1, 2, 3))))
        for at in range(CALLS)
    ]


def evaluated(graph: list[list[int]], log: str) -> list[int]:
    """What a program without a mesh comes to."""
    values: list[int] = []
    for at, inputs in enumerate(graph):
        values.append(tasks.log_and_mix(log, at, 0.0, *[values[each] for each in inputs]))
    return values


def submitted_by_the_dead(nodes: Nodes, log: Path, number: int, seconds: float) -> list[str]:
    """The ids of the calls of a graph whose program is killed as soon as it has them."""
    return said_by_the_dead(PROGRAM, nodes.addresses[0], nodes.key, log, number, seconds)


def runs_so_far(log: Path, wanted: int) -> None:
    """Wait until so many calls have begun."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not log.exists() or len(log.read_text().split()) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def collected(mesh: stealmesh.Mesh, ids: list[str]) -> list[Any]:
    return [mesh.attach(each).result(PATIENCE_SECONDS) for each in ids]


def test_a_graph_runs_to_its_end_without_its_program(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        ids = submitted_by_the_dead(nodes, log, 1, 0.2)
        assert len(runs_of(log)) < CALLS, "it was not dead before the end"
        wanted = evaluated(drawn(1), str(tmp_path / "evaluated"))
        assert collected(mesh, ids) == wanted
        assert runs_of(log) == dict.fromkeys(range(CALLS), 1)
        assert collected(mesh, ids[-1:]) == wanted[-1:], "another reader"


@pytest.mark.parametrize("number", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_nodes_die_one_after_the_other(nodes: Nodes, tmp_path: Path, number: int) -> None:
    log = tmp_path / "runs"
    rng = Random(number)
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        ids = submitted_by_the_dead(nodes, log, number, 0.3)
        for share in (4, 10):
            runs_so_far(log, share)
            victim = rng.randrange(3)
            nodes.kill(victim)
            nodes.start(victim)
            nodes.listening()
        assert collected(mesh, ids) == evaluated(drawn(number), str(tmp_path / "evaluated"))


@pytest.mark.slow
def test_every_node_is_killed_and_started_again(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        ids = submitted_by_the_dead(nodes, log, 5, 0.3)
        runs_so_far(log, 6)
    for number in range(3):
        nodes.kill(number)
    for number in range(3):
        nodes.start(number)
    nodes.listening()
    with nodes.mesh() as mesh:
        assert collected(mesh, ids) == evaluated(drawn(5), str(tmp_path / "evaluated"))


def test_what_goes_into_a_durable_call(nodes: Nodes, tmp_path: Path) -> None:
    """Calls, by name or as values; failures and cancellations go on; other futures are waited for or refused."""
    log = str(tmp_path / "runs")

    def mixed(*given: Any) -> DurableFuture[Any]:
        call: Any = durable.submit(tasks.log_and_mix, log, 0, 0.0, *given)
        assert isinstance(call, DurableFuture)
        return call

    with nodes.mesh() as mesh:
        durable = mesh.options(durable=True)
        slow: Any = durable.submit(tasks.log_and_mix, log, 1, 2.0)
        in_a_list = durable.submit(sum, [slow, slow, 3])
        last = mixed(slow, in_a_list, mixed())
        last.accepted(PATIENCE_SECONDS)
        assert not slow.done(), "it was accepted when its inputs were there"
        assert in_a_list.result(PATIENCE_SECONDS) == 7
        own = mixed().result(PATIENCE_SECONDS)
        assert last.result(PATIENCE_SECONDS) == ((1 * 31 + 2) * 31 + 7) * 31 + own

        later: Any = durable.submit(five_later)
        failed: Any = durable.submit(tasks.raise_on_five, later)
        behind = mixed(mixed(failed))
        behind.accepted(PATIENCE_SECONDS)
        for reader in (behind, mesh.attach(behind.job_id)):
            with pytest.raises(ValueError, match="right out") as error:
                reader.result(PATIENCE_SECONDS)
            (note,) = error.value.__notes__
            name = f"{failed.job_id[:8]}..{failed.job_id[-4:]}"
            assert (
                f"this is the error of durable call tests.real.tasks.raise_on_five ({name})" in note
            )

        waits: Any = durable.submit(time.sleep, 600)
        behind = mixed(waits)
        name = behind.accepted(PATIENCE_SECONDS)
        assert waits.stop()
        for reader in (behind, mesh.attach(name)):
            with pytest.raises(CancelledError):
                reader.result(PATIENCE_SECONDS)

        total: Future[Any] = durable.map_reduce(tasks.double, range(10), max)
        assert mixed(total).result(PATIENCE_SECONDS) == 31 + 18
        with pytest.raises(ValueError, match=r"options\(durable=True\), too"):
            mixed(mesh.submit(time.sleep, 3))


def test_an_input_that_fails_before_the_call_is_said(nodes: Nodes) -> None:
    """Once: the call waited for the input that was not safe yet, and its error had no name then."""
    with nodes.mesh() as mesh:
        durable = mesh.options(durable=True)
        later: Any = durable.submit(five_later)
        failed: Any = durable.submit(tasks.raise_on_five, later)
        unsafe: Any = durable.map_reduce(time.sleep, [600], max)
        call: Any = durable.submit(max, failed, unsafe)
        with pytest.raises(ValueError, match="right out") as error:
            call.result(PATIENCE_SECONDS)
        (note,) = error.value.__notes__
        assert "this is the error of" in note
        assert not unsafe.done()
        assert unsafe.stop()


def test_a_call_of_another_mesh_is_waited_for(nodes: Nodes) -> None:
    """Once: it was taken for one that goes by name, and a thread of the program's slept until it was over."""
    with nodes.mesh() as mesh, nodes.mesh() as other:
        slow: Any = other.options(durable=True).submit(time.sleep, 8)
        slow.accepted(PATIENCE_SECONDS)
        call: Any = mesh.options(durable=True).submit(str, slow)
        told = threading.Event()
        mesh.submit(abs, 5).add_done_callback(lambda one: told.set())
        assert told.wait(PATIENCE_SECONDS)
        assert not slow.done(), "the callback came when the other mesh's call was over"
        assert call.result(PATIENCE_SECONDS) == "None"


def five_later() -> int:
    time.sleep(1.0)
    return 5
