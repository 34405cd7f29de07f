"""Durable `submit` and `explore` over real processes and disks; programs and nodes are killed with SIGKILL."""

from __future__ import annotations

import operator
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from tests.real import tasks
from tests.real.durable_nodes import PATIENCE_SECONDS, Nodes, said_by_the_dead
from tests.real.test_durable import runs_of

import stealmesh
from stealmesh.client.durable_call import DurableFuture

pytestmark = pytest.mark.real
HEIGHT = 7
"""3,280 nodes: some seconds on three workers."""

PROGRAM = """
import operator, sys, stealmesh
from tests.real import tasks
seed, key, log, height, count = sys.argv[1:]
durable = stealmesh.Mesh(seed, key=key).options(durable=True, name="of the dead")
calls = [durable.submit(tasks.log_and_doze, (log, number)) for number in range(int(count))]
search = durable.explore(tasks.visit_slowly, [int(height)], operator.add)
print(search.accepted(), *(call.accepted() for call in calls), flush=True)
sys.stdin.read()
"""


def launched_by_the_dead(nodes: Nodes, log: Path, height: int, count: int) -> list[str]:
    """The ids of a search and of calls whose program is killed as soon as it has them."""
    return said_by_the_dead(PROGRAM, nodes.addresses[0], nodes.key, log, height, count)


def done_so_far(job: stealmesh.Job, wanted: float) -> None:
    """Wait until this many nodes of the tree are visited."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while job.progress().done < wanted:
        assert time.monotonic() < deadline, job.progress()
        time.sleep(0.02)


@pytest.mark.slow
def test_calls_and_a_search_outlive_their_program(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        search, *calls = launched_by_the_dead(nodes, log, HEIGHT, 10)
        job = mesh.attach(search, combine=operator.add)
        assert job.result(PATIENCE_SECONDS) == tasks.nodes_of_tree(HEIGHT)
        assert job.name == "of the dead"
        found = [mesh.attach(each).result(PATIENCE_SECONDS) for each in calls]
        assert found == list(range(10))
        assert runs_of(log) == dict.fromkeys(range(10), 1)
        assert {each.id for each in mesh.jobs()} == {search, *calls}


def test_nodes_die_one_after_the_other_and_the_sum_is_exact(nodes: Nodes, tmp_path: Path) -> None:
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        search, *calls = launched_by_the_dead(nodes, tmp_path / "runs", HEIGHT, 5)
        job = mesh.attach(search, combine=operator.add)
        for share in (0.2, 0.4, 0.6):
            done_so_far(job, share * tasks.nodes_of_tree(HEIGHT))
            home = nodes.home_of(mesh, job)
            nodes.kill(home)
            nodes.start(home)
            nodes.listening()
        assert job.result(PATIENCE_SECONDS) == tasks.nodes_of_tree(HEIGHT)
        found = [mesh.attach(each).result(PATIENCE_SECONDS) for each in calls]
        assert found == list(range(5))


@pytest.mark.slow
def test_every_node_is_killed_and_started_again(nodes: Nodes, tmp_path: Path) -> None:
    total = tasks.nodes_of_tree(HEIGHT)
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        search, *calls = launched_by_the_dead(nodes, tmp_path / "runs", HEIGHT, 5)
        done_so_far(mesh.attach(search), total / 2)
    for number in range(3):
        nodes.kill(number)
    for number in range(3):
        nodes.start(number)
    nodes.listening()
    with nodes.mesh() as mesh:
        job = mesh.attach(search, combine=operator.add)
        # Its first word may be of a copy that waits for the others, so the tree is not at its roots.
        done_so_far(job, total / 5)
        assert job.result(PATIENCE_SECONDS) == total
        found = [mesh.attach(each).result(PATIENCE_SECONDS) for each in calls]
        assert found == list(range(5))


def test_a_call_is_what_a_durable_map_is(nodes: Nodes, tmp_path: Path) -> None:
    """Errors, retries, time limits and names; and inputs, whose values go into the copies."""
    with nodes.mesh() as mesh:
        durable = mesh.options(durable=True)
        failed = durable.submit(tasks.raise_on_five, 5)
        with pytest.raises(ValueError, match="right out"):
            failed.result(PATIENCE_SECONDS)
        assert isinstance(failed, DurableFuture)
        with pytest.raises(ValueError, match="right out"):
            mesh.attach(failed.accepted()).result(PATIENCE_SECONDS)
        patient = mesh.options(durable=True, retries=2).submit(
            tasks.refuse_twice, str(tmp_path / "tries")
        )
        assert patient.result(PATIENCE_SECONDS) == "done"
        late = mesh.options(durable=True, timeout=0.3, name="late").submit(time.sleep, 60)
        with pytest.raises(stealmesh.TaskTimeout):
            late.result(PATIENCE_SECONDS)
        assert isinstance(late, DurableFuture)
        assert mesh.attach(late.job_id).name == "late"

        one = durable.submit(tasks.double, 4)
        two = durable.submit(tasks.double, one)
        three = durable.submit(operator.add, two, mesh.submit(tasks.double, 1).result())
        assert three.result(PATIENCE_SECONDS) == 18
        of_failed = durable.submit(tasks.double, failed)
        assert isinstance(of_failed, DurableFuture)
        with pytest.raises(ValueError, match="right out"):
            of_failed.accepted(PATIENCE_SECONDS)
        with pytest.raises(ValueError, match=r"options\(durable=True\), too"):
            durable.submit(tasks.double, mesh.submit(time.sleep, 3))
        with pytest.raises(stealmesh.CannotShip, match="outlives this program"):
            durable.submit(len, mesh.scatter([1, 2]))
        with pytest.raises(stealmesh.CannotShip, match="outlives this program"):
            durable.explore(tasks.visit_slowly, [mesh.scatter(3)], operator.add)
        with pytest.raises(ValueError, match="report"):
            mesh.options(durable=True, report=print).submit(tasks.double, 1)
        with pytest.raises(ValueError, match="a job of its own"):
            mesh.options(durable=True, max_parallel=1).submit(tasks.double, 1)
        with pytest.raises(ValueError, match="lent twice"):
            mesh.options(durable=True, speculate=True)


def test_a_call_and_a_search_are_cancelled(nodes: Nodes) -> None:
    with nodes.mesh() as mesh:
        durable = mesh.options(durable=True)
        call = durable.submit(time.sleep, 600)
        search = durable.explore(tasks.visit_slowly, [30], operator.add)
        assert isinstance(call, DurableFuture)
        assert isinstance(search, DurableFuture)
        ids = call.accepted(PATIENCE_SECONDS), search.accepted()
        assert call.stop()
        assert not search.cancel(), "it runs"
        assert search.stop()
        for job_id in ids:
            with pytest.raises(CancelledError):
                mesh.attach(job_id, combine=operator.add).result(PATIENCE_SECONDS)
        with pytest.raises(stealmesh.TaskStopped):
            search.result()
        assert durable.submit(tasks.double, 2).result(PATIENCE_SECONDS) == 4
        empty = durable.explore(tasks.visit_slowly, [], operator.add, initial=7)
        assert empty.result(PATIENCE_SECONDS) == 7
        with pytest.raises(TypeError):
            durable.explore(tasks.visit_slowly, [], operator.add).result(PATIENCE_SECONDS)


@pytest.mark.slow
def test_a_program_that_leaves_has_its_calls_accepted_first(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        durable = mesh.options(durable=True)
        calls = [durable.submit(tasks.log_and_doze, (str(log), number)) for number in range(30)]
    with nodes.mesh() as mesh:
        ids = [each.job_id for each in calls if isinstance(each, DurableFuture)]
        found = [mesh.attach(each).result(PATIENCE_SECONDS) for each in ids]
        assert found == list(range(30))
    assert runs_of(log) == dict.fromkeys(range(30), 1)
