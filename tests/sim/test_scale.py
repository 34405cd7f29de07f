"""Stealing in the large, at a size that a test can afford; bench/scale.py has the full one."""

from __future__ import annotations

import pytest

from stealmesh_engine.holding.cost import Cost
from stealmesh_sim.membership_scale import mesh, until
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.scale import run
from stealmesh_sim.work import CostLaw


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
