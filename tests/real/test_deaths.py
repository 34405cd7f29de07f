"""SIGKILL in the middle: every result still arrives, once."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.real import tasks
from tests.real.conftest import kill_node, node_pids

import stealmesh
from stealmesh.examples import primes, uts

pytestmark = pytest.mark.real

TREE = uts.TREES["T1"]


def test_a_node_dies_while_a_tree_is_searched(four_nodes: stealmesh.Mesh) -> None:
    found = four_nodes.explore(uts.visitor(TREE), [uts.root(TREE)], uts.combine_counts)
    kill_node(four_nodes, 1)
    assert found.result(timeout=60) == TREE.expected


def test_three_of_four_nodes_die_one_after_the_other(four_nodes: stealmesh.Mesh) -> None:
    victims = node_pids(four_nodes)[:3]
    counting = stealmesh.vectorized(primes.count_primes)
    found = four_nodes.explore(uts.visitor(TREE), [uts.root(TREE)], uts.combine_counts)
    total = four_nodes.map_reduce(counting, range(10**7), operator.add)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert found.result(timeout=60) == TREE.expected
    assert total.result(timeout=60) == primes.PI[10**7]


def test_few_tasks_run_twice(four_nodes: stealmesh.Mesh, tmp_path: Path) -> None:
    """Only what the dead nodes had begun is run again."""
    log = str(tmp_path / "runs")
    futures = [four_nodes.submit(tasks.log_and_doze, (log, i)) for i in range(200)]
    futures[40].result(timeout=60)
    kill_node(four_nodes, 0)
    assert [future.result(timeout=60) for future in futures] == list(range(200))
    runs = Counter(int(line) for line in Path(log).read_text().split())
    assert set(runs) == set(range(200))
    twice = sum(count - 1 for count in runs.values())
    assert twice <= 40, f"{twice} tasks ran again after the death of one node"


def test_the_only_node_dies_and_is_replaced() -> None:
    with stealmesh.Mesh(workers=2) as mesh:
        futures = [mesh.submit(tasks.doze, i) for i in range(60)]
        kill_node(mesh)
        assert [future.result(timeout=60) for future in futures] == list(range(60))


def test_nothing_outlives_the_program(tmp_path: Path) -> None:
    """A program that is killed takes its local mesh with it."""
    import subprocess
    import sys

    script = (
        "import stealmesh, json, sys\n"
        "mesh = stealmesh.Mesh(nodes=2, workers=1)\n"
        "mesh.submit(pow, 2, 3).result()\n"
        "found = [[n['pid'], *n['worker_pids']] for n in mesh.status()['nodes'] if n['worker_pids']]\n"
        "print(json.dumps(sum(found, [])), flush=True)\n"
        "sys.stdin.read()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdin is not None
    import json

    pids = json.loads(program.stdout.readline())
    assert len(pids) >= 2
    program.kill()
    program.wait()
    program.stdout.close()
    program.stdin.close()
    deadline = time.monotonic() + 30
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {[p for p in pids if _is_alive(p)]}"
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
