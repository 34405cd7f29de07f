"""Two homes that cannot hear each other count to the same term; nothing is lost.

In random worlds the terms of primaries mostly differ. Here none do: every peer takes the next number.
"""

from __future__ import annotations

import pytest

from stealmesh_engine.durable import terms
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_sim.durable_worlds import run
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene

WORLDS = [5002, 5205, 1066]
"""5002 lost items in a ledger: a grant took the id of a lease that the ledger had adopted."""


@pytest.fixture(autouse=True)
def one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "TERM_SLOTS", 1)


@pytest.mark.parametrize("seed", WORLDS)
def test_random_worlds_in_which_all_homes_count_alike(seed: int) -> None:
    outcome = run(seed)
    assert not outcome.breach, outcome.breach


def two_homes_meet(seed: int) -> DurableScene:
    """The home dies, a cut parts its two keepers, each leads with nodes of its own; then they meet."""
    scene = durable_scene(7, seed=seed)
    job = scene.launch(6000, law=CostLaw("const", 0.02))
    scene.until(lambda: scene.safe_items(job) >= 600)
    home = scene.at_home(job)
    one, other = (n for n in scene.keepers(job) if n is not home)
    rest = [n for n in scene.nodes if n not in (home, one, other)]
    here, there = [one, *rest[:2]], [other, *rest[2:], scene.client]
    links = scene.world.network
    places = [p.place for p in here], [p.place for p in there]
    links.wall_off(*places)
    links.wall_off(places[1], places[0])
    scene.crash(home)

    def both_lease() -> bool:
        leads = [_lead(each, job.job) for each in (one, other)]
        return all(lead is not None and lead.gathering is None for lead in leads)

    scene.until(both_lease, within=60.0)
    assert (
        scene.lead(one, job).replica.configuration.term
        == scene.lead(other, job).replica.configuration.term
    )
    scene.run(3.0)  # both sides lease, and holders on both sides run
    links.tear_down(*places)
    links.tear_down(places[1], places[0])
    scene.until(lambda: not both_lease(), within=30.0)
    scene.collected(job, within=120.0)
    return scene


def _lead(node: Process, job: bytes) -> Primary | None:
    return node.core.durable.state.primaries.get(job)


@pytest.mark.parametrize("seed", [1, 2])
def test_two_homes_of_one_term_meet(seed: int) -> None:
    scene = two_homes_meet(seed)
    assert sum(scene.counted("primaries-stepped-down", node) for node in scene.nodes) >= 1


def test_it_is_noticed_if_leases_of_both_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    right = HeldJob.follow

    def follow(self: HeldJob, primary: PeerId, term: int) -> list[LeaseId]:
        granters = dict(self.granters)
        right(self, primary, term)
        self.granters = granters
        return []

    monkeypatch.setattr(HeldJob, "follow", follow)
    assert run(5002).breach
