"""Durable jobs over real processes, sockets and disks; every process is killed with SIGKILL."""

from __future__ import annotations

import json
import operator
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.real import tasks
from tests.real.durable_nodes import PATIENCE_SECONDS, Nodes, nodes_of

import stealmesh
from stealmesh.client import durable_job
from stealmesh_engine.durable.slices import cut
from stealmesh_protocol.ids import JOB_ID_OCTETS

pytestmark = pytest.mark.real


def runs_of(log: Path) -> Counter[int]:
    return Counter(int(line) for line in log.read_text().split())


SUBMITTER = """
import sys, stealmesh
from tests.real import tasks
from tests.real.durable_nodes import PATIENCE_SECONDS, Nodes, nodes_of
seed, key, log, count = sys.argv[1:]
mesh = stealmesh.Mesh(seed, key=key)
job = mesh.launch(tasks.log_and_doze, ((log, number) for number in range(int(count))))
print(job.id, flush=True)
sys.stdin.read()
"""


def test_the_submitter_is_killed_and_another_program_collects(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
    root = str(Path(tasks.__file__).parents[2])
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, nodes.addresses[0], str(nodes.key), str(log), "300"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], root])},
    )
    assert submitter.stdout is not None
    assert submitter.stdin is not None
    try:
        job_id = submitter.stdout.readline().strip()
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
    finally:
        submitter.stdout.close()
        submitter.stdin.close()
    with nodes.mesh(2) as mesh:
        job = mesh.attach(job_id)
        assert job.result(timeout=PATIENCE_SECONDS) == list(range(300))
        assert job.wait(5)
        assert job.progress().done == 300
        (line,) = [line for line in mesh.status()["jobs"] if line["id"] == job_id]
        assert (line["kind"], line["state"], line["durable"]) == ("map", "done", True)
        assert [each.id for each in mesh.jobs()] == [job_id]
    assert set(runs_of(log).values()) == {1}


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_home_is_killed(nodes: Nodes, tmp_path: Path, fraction: float) -> None:
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.log_and_doze, [(str(log), number) for number in range(240)])
        results = job.results(timeout=PATIENCE_SECONDS)
        early = [next(results) for _ in range(int(240 * fraction))]
        nodes.kill(nodes.home_of(mesh, job))
        assert early + list(results) == list(range(240))
    runs = runs_of(log)
    assert set(runs) == set(range(240))
    assert all(runs[number] == 1 for number in early)
    assert sum(runs.values()) - 240 <= 40, "only what the dead node had may run again"


def test_everything_is_killed_and_started_again(nodes: Nodes, tmp_path: Path) -> None:
    """A full stop half-way; the job goes on where it was, for a program that knows only its id."""
    log = tmp_path / "runs"
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.log_and_doze, [(str(log), number) for number in range(300)])
        job_id = job.id
        results = job.results(timeout=PATIENCE_SECONDS)
        credited = [next(results) for _ in range(150)]
        nodes.stop()
    for number in (2, 0, 1):
        nodes.start(number)
    nodes.listening()
    with nodes.mesh() as mesh:
        again = mesh.attach(job_id)
        assert again.result(timeout=PATIENCE_SECONDS) == list(range(300))
    runs = runs_of(log)
    assert set(runs) == set(range(300))
    assert [number for number in credited if runs[number] != 1] == []


def test_a_reduction_survives_its_home(nodes: Nodes) -> None:
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.doze, range(200), operator.add)
        while job.progress().done < 60:
            job.wait(0.05)
        nodes.kill(nodes.home_of(mesh, job))
        assert job.result(timeout=PATIENCE_SECONDS) == sum(range(200))


def test_a_cancelled_job_ends(nodes: Nodes) -> None:
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.doze, range(10**6))
        assert not job.done()
        job.cancel()
        assert job.wait(PATIENCE_SECONDS)
        with pytest.raises(CancelledError):
            job.result()


def test_a_task_s_own_exception_reaches_the_collector(nodes: Nodes) -> None:
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.raise_on_five, range(10))
        results = job.results(timeout=PATIENCE_SECONDS)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="five is right out"):
            next(results)
        assert job.wait(PATIENCE_SECONDS)
        assert job.progress().failed == 1


def test_a_client_whose_entry_node_dies_goes_on_through_another(nodes: Nodes) -> None:
    """It was told one address only; attached jobs and new ones both go on."""
    with nodes.mesh(0) as mesh:
        nodes.complete(mesh)
        futures = [mesh.submit(tasks.doze, number) for number in range(100)]
        futures[10].result(timeout=PATIENCE_SECONDS)
        nodes.kill(0)
        assert [future.result(timeout=PATIENCE_SECONDS) for future in futures] == list(range(100))
        assert mesh.submit(tasks.double, 21).result(timeout=PATIENCE_SECONDS) == 42
        assert mesh.launch(tasks.double, range(50)).result(timeout=PATIENCE_SECONDS) == [
            2 * number for number in range(50)
        ]


def test_no_such_job(nodes: Nodes) -> None:
    with nodes.mesh(primary_patience_seconds=2.0) as mesh:
        with pytest.raises(stealmesh.JobLost, match="nobody knows it"):
            mesh.attach("00" * 20).result(timeout=PATIENCE_SECONDS)
        with pytest.raises(ValueError, match="not a job id"):
            mesh.attach("soup")


def test_what_cannot_be_durable_says_so(nodes: Nodes) -> None:
    with nodes.mesh() as mesh:
        nodes.complete(mesh)
        view = mesh.options(durable=True)
        assert list(view.map(operator.add, [1, 2], [3, 4])) == [4, 6]
        assert view.map_reduce(tasks.double, range(10), operator.add).result(30) == 90
        not_durable = mesh.submit(time.sleep, 600)
        with pytest.raises(ValueError, match="durable"):
            view.submit(tasks.double, not_durable)
        assert not_durable.stop()
        with pytest.raises(stealmesh.CannotShip):
            mesh.launch(tasks.double, [1, 2, lambda: os.abort() if json else None, _Unpicklable()])
        assert json.dumps(mesh.status()["jobs"])


def test_a_large_job_is_cut_and_loses_the_home_of_one_slice(nodes: Nodes, tmp_path: Path) -> None:
    """Another program, which knows the id alone, reads on over all slices, in order."""
    log = tmp_path / "runs"
    with nodes.mesh(slice_items=64) as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.log_and_doze, ((str(log), number) for number in range(300)))
        leads = [lead for node in nodes_of(mesh) for lead in node["leads"]]
        assert len({lead for lead in leads if lead[:40] == job.id[:40]}) == 5
        results = job.results(timeout=PATIENCE_SECONDS)
        early = [next(results) for _ in range(100)]
        nodes.kill(nodes.home_of(mesh, job))
        assert early == list(range(100))
    with nodes.mesh() as mesh:
        (again,) = mesh.jobs()
        assert again.id == job.id
        assert again.result(timeout=PATIENCE_SECONDS) == list(range(300))
        assert again.wait(5)
        assert (again.progress().done, again.progress().total) == (300, 300)
        (line,) = mesh.status()["jobs"]
        assert (line["id"], line["state"], line["total"]) == (job.id, "done", 300)
        reduced = mesh.options(durable=True).map_reduce(tasks.double, range(1000), operator.add)
        assert reduced.result(PATIENCE_SECONDS) == 999_000
    runs = runs_of(log)
    assert set(runs) == set(range(300))
    assert all(runs[number] == 1 for number in early)


def test_more_items_than_slices_can_hold(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stealmesh.client.durable_job.SLICES_MAX", 2)
    with nodes.mesh(slice_items=64) as mesh:
        nodes.complete(mesh)
        assert mesh.launch(tasks.double, iter(range(100))).result(PATIENCE_SECONDS)[-1] == 198
        with pytest.raises(ValueError, match="slice_items"):
            mesh.launch(tasks.double, iter(range(300)))
        assert mesh.submit(tasks.double, 1).result(PATIENCE_SECONDS) == 2


def test_many_small_items_are_not_taken_for_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The octets of a block that the mesh had accepted passed for the size of a slice."""
    monkeypatch.setattr(durable_job, "SLICES_MAX", 2)
    monkeypatch.setattr(durable_job, "UNREAD_OCTETS_MAX", 0)
    supplied: list[Any] = []
    link: Any = SimpleNamespace(post=supplied.append)
    handle: Any = SimpleNamespace(await_accepted=lambda upto, whole=False: None)
    job = cut(bytes(JOB_ID_OCTETS), None, 1 << 14)
    durable_job.supply(handle, link, "small", iter([None] * 20_000), job)
    assert supplied[-1].closed
    assert supplied[-2].block.hi == 20_000
    with pytest.raises(ValueError, match="slice_items"):
        durable_job.supply(handle, link, "small", iter([None] * 40_000), job)


def test_a_reduction_in_slices(nodes: Nodes) -> None:
    with nodes.mesh(slice_items=64) as mesh:
        nodes.complete(mesh)
        job = mesh.launch(tasks.double, range(0, 2000, 2), operator.add)
        assert len(bytes.fromhex(job.id)) == 23
        assert job.result(timeout=PATIENCE_SECONDS) == 2 * sum(range(0, 2000, 2))
        cancelled = mesh.launch(tasks.doze, range(10**6))
        cancelled.cancel()
        assert cancelled.wait(PATIENCE_SECONDS)


class _Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError("not me")


def test_all_keepers_are_killed_for_good_and_the_job_is_rebuilt(tmp_path: Path) -> None:
    """Nobody comes back: the one node that is left goes on with what it has, and runs the rest again."""
    four = Nodes(tmp_path, 4)
    for number in range(4):
        four.start(number)
    try:
        four.listening()
        with four.mesh() as mesh:
            four.complete(mesh)
            supers = four.supernodes(mesh, 3)
            job = mesh.launch(tasks.doze, range(400))
            while job.progress().done < 60:
                time.sleep(0.05)
            assert four.home_of(mesh, job) in supers
            for number in supers:
                four.kill(number)
            assert job.result(timeout=120) == list(range(400))
    finally:
        four.stop()
