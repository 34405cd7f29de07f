"""Stealing in the large, at a size that a test can afford; bench/scale.py has the full one."""

from __future__ import annotations

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.holding.cost import Cost
from stealmesh_engine.membership.rates import Rates
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.membership_scale import mesh, until
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.scale import run
from stealmesh_sim.work import CostLaw

from .scenes import scene


def test_forty_nodes_are_busy_at_once_and_stay_so() -> None:
    found = run(40, seconds_a_node=3.0)
    assert found.efficiency > 0.985
    assert found.all_busy_seconds < 0.02
    assert found.success > 0.7
    assert found.leases_max < 40 * 10
    assert found.messages_a_node < 1500


def test_uneven_work_is_evened_out() -> None:
    found = run(20, seconds_a_node=3.0, law="skewed")
    assert found.efficiency > 0.95


@pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])
def test_long_items_are_spread_before_the_first_has_ended(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand items of ten seconds for a hundred nodes. As long as no one knew what an item costs,
    one after the other gave a two-hundredth of what it had: 25 nodes were busy, and the others waited
    until the first item had ended."""
    if not guarded:
        monkeypatch.setattr(Cost, "waited", lambda self, seconds: None)
    world, members = mesh(100, workers=1)
    client = world.client("client", seeds=[members[0].member.endpoints[0]])
    world.run(world.now + 3.0)
    law = CostLaw("const", 10.0, 1)
    program = VirtualProgram(world, client, Wish(items=1000, law=law, at=world.now))

    def busy() -> int:
        return sum(any(worker.running for worker in process.workers) for process in members)

    until(world, lambda: busy() >= 80, 1.0, every=0.05)
    assert (busy() >= 80) is guarded, f"{busy()} of 100 nodes are busy"
    assert not program.done


def test_who_holds_work_of_a_program_keeps_its_link_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program closes idle links beyond a bound, and no node can dial a program. Once, nodes that computed for more
    than a second could not report until the program asked after them: 2.5 s with 4,096 nodes."""
    monkeypatch.setattr(
        Rates, "owners_wait", lambda self, size, now: False
    )  # as often in large ones
    told = scene(6, config=Config(links_max=2))
    program = told.submit(Wish(JobKind.MAP, 12, CostLaw("const", 2.0), told.world.now))
    begun = told.world.now
    told.until(lambda: program.done)
    assert told.world.now - begun < 4.2
    told.finish()
