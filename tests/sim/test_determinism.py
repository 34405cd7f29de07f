"""Same seed, same trace: under any hash seed, twice in one process, and whether or not messages
are encoded on their way (so no core keeps and changes what it has sent)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stealmesh_sim.random_worlds import RandomWorld, draw, run
from stealmesh_sim.work import CostLaw, VirtualTree, mix

from .scenes import scene

LAWS_OF_ITEM_7 = [0.01, 0.011555687, 0.007201951, 0.005]

SEEDS = (1, 4, 17, 29)
ONE_LINE = (
    f"from stealmesh_sim.random_worlds import run; print([run(seed).trace for seed in {SEEDS}])"
)


CUT_IN_TWO = (
    "from stealmesh_bench.chaos import simulated; from stealmesh_bench.chaos.named import Wanted, draw; "
    "print(simulated.play(draw(Wanted('partition', 1, 20)), '').trace)"
)


def traces_under(hash_seed: str, program: str = ONE_LINE) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout


def test_the_trace_does_not_depend_on_the_hash_seed() -> None:
    traces = traces_under("0")
    assert traces == traces_under("4242")
    assert len(set(traces.split(","))) == len(SEEDS)


@pytest.mark.slow
def test_nor_does_it_when_leaves_forget_many_peers_at_once() -> None:
    """What a home no longer names was told to its leaves in the order of hashes."""
    assert traces_under("0", CUT_IN_TWO) == traces_under("1", CUT_IN_TWO)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    assert run(seed).trace == run(seed).trace


@pytest.mark.parametrize("seed", [2, 5, 8, 13])
def test_what_is_sent_is_not_changed_afterwards(seed: int) -> None:
    traces = []
    for carry in (False, True):
        plan = draw(seed)
        plan.carry = carry
        drawn = RandomWorld(plan)
        drawn.world.run(plan.faults_until)
        traces.append(drawn.world.trace.hash())
    assert traces[0] == traces[1]


def test_another_seed_gives_another_trace() -> None:
    assert len({run(seed).trace for seed in SEEDS}) == len(SEEDS)


def test_the_trace_says_when_who_and_what() -> None:
    told = scene(2)
    lines: list[str] = []
    told.world.trace.on_event = lines.append
    told.map(3)
    told.finish()
    assert any("Report" in line and "client" in line for line in lines)


def test_costs_and_trees_are_the_same_everywhere() -> None:
    assert mix(1, 2) == 1376828615835101238
    assert VirtualTree(5, 8, 4).totals() == (2492, 1926028669974021319)
    laws = [CostLaw(name, 0.01, 3) for name in ("const", "exponential", "pareto", "skewed")]
    assert [round(law.seconds(7), 9) for law in laws] == LAWS_OF_ITEM_7
