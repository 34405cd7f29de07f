"""Names of revoked tokens in a mesh with cuts, deaths and restarts: every node comes to know all of them."""

from __future__ import annotations

from random import Random

import pytest

from stealmesh_engine.events import BarTokens
from stealmesh_protocol.limits import BARRED_MAX
from stealmesh_protocol.messages import Role
from stealmesh_sim.process import Process

from .scenes import Scene, scene


def known(process: Process) -> frozenset[str]:
    return process.core.links.guests.barred


def again(told: Scene, number: int) -> None:
    """The process is killed and started again, with its disk."""
    before = told.nodes[number]
    told.world.crash(before)
    told.run(0.2)
    fresh = told.nodes[number] = told.world.restart(
        before, seeds=[told.nodes[0].member.endpoints[0]]
    )
    if before.barred:
        told.world.tell(fresh, BarTokens(before.barred))


@pytest.mark.parametrize("seed", range(3))
def test_all_that_live_agree_whatever_happened_meanwhile(seed: int) -> None:
    rng, told = Random(seed), scene(7, seed=seed)
    job = told.map(300)
    names: list[str] = []
    for number in range(6):
        sides = rng.sample(range(7), 7)
        one, other = ([told.nodes[at].place for at in each] for each in (sides[:3], sides[3:]))
        walls = [(one, other), (other, one)] if rng.random() < 0.5 else []
        for wall in walls:
            told.world.network.wall_off(*wall)
        names.append(f"t{number}@00000000")
        told.world.tell(rng.choice(told.nodes), BarTokens([names[-1]]))
        told.run(rng.uniform(0.0, 2.0))
        again(told, rng.randrange(1, 7))
        for wall in walls:
            told.world.network.tear_down(*wall)
        told.run(rng.uniform(0.0, 1.0))
    told.until(lambda: all(known(node) == frozenset(names) for node in told.nodes), within=60.0)
    assert not known(told.client), "programs are not told"
    assert all(sorted(names) == node.barred for node in told.nodes), "each has it on its disk"
    told.until(lambda: job.done, within=60.0)


def test_a_flood_of_names_is_bounded_everywhere_in_the_same_way() -> None:
    told = scene(5)
    for number, node in enumerate(told.nodes):
        names = [f"n{number}-{each}@00000000" for each in range(400)]
        told.world.tell(node, BarTokens(names))
    told.until(lambda: len({known(node) for node in told.nodes}) == 1, within=20.0)
    assert len(known(told.nodes[0])) == BARRED_MAX
    assert told.counted("revocations-beyond-bound", told.nodes[0]) > 0


def test_a_leaf_and_a_late_node_hear_of_it() -> None:
    told = scene(20, workers=1)
    leaf = next(node for node in told.nodes if node.core.me.role is Role.PLAIN)
    told.world.tell(leaf, BarTokens(["a@00000000"]))
    told.until(lambda: all(known(node) for node in told.nodes), within=20.0)
    late = told.world.node("late", seeds=[told.nodes[0].member.endpoints[0]], workers=1)
    told.until(lambda: bool(known(late)), within=20.0)
