"""A mesh that starts again finds itself without the machine that everybody was told to ask."""

from __future__ import annotations

import pytest

from stealmesh_engine.effects import Dial
from stealmesh_engine.events import Join
from stealmesh_sim.network import Station
from stealmesh_sim.process import Process

from .scenes import SEED_ADDRESS, Scene, scene

Dials = list[tuple[int, str]]


def all_end(told: Scene) -> list[Process]:
    """The seed's machine for good, everybody else's process; no program is left who would know."""
    told.world.crash(told.nodes[0], silent=True)
    for process in (*told.nodes[1:], told.client):
        told.world.crash(process)
    told.run(1.0)
    return told.nodes[1:]


def reborn(told: Scene, node: Process, remembered: list[str]) -> Process:
    """A new life at the old address, which was given the seed and remembers these."""
    fresh = told.world.restart(node)
    told.world.tell(fresh, Join([SEED_ADDRESS], remembered))
    return fresh


def dials_of(told: Scene) -> Dials:
    """From now on: who dials what, by number and address."""
    dials: Dials = []
    dial = told.world.network.dial

    def noting(dialler: Station, effect: Dial) -> None:
        dials.append((dialler.number, effect.endpoint))
        dial(dialler, effect)

    told.world.network.dial = noting  # type: ignore[method-assign]
    return dials


def addresses(nodes: list[Process]) -> list[str]:
    return [node.member.endpoints[0] for node in nodes]


def test_everybody_starts_again_but_the_seed() -> None:
    told = scene(6)
    told.nodes = [reborn(told, node, addresses(told.nodes)) for node in all_end(told)]
    told.until(lambda: not told.world.checkers.disagreement(), within=10.0)
    assert len(told.nodes[0].core.view.nodes()) == 5


def test_pairs_that_remember_each_other_do_not_stay_pairs() -> None:
    """Each node remembers two: its twin, who answers at once, and one of the next pair, who is
    not there yet when it looks first."""
    told = scene(9)
    others = all_end(told)
    pairs = [others[n : n + 2] for n in (0, 2, 4, 6)]
    told.nodes = []
    for number, pair in enumerate(pairs):
        next_pair = pairs[(number + 1) % len(pairs)]
        for node, twin in (pair, pair[::-1]):
            told.nodes.append(reborn(told, node, addresses([twin, next_pair[0]])))
        told.run(0.7)
    told.until(lambda: not told.world.checkers.disagreement(), within=10.0)
    assert len(told.nodes[0].core.view.nodes()) == 8


def test_a_seed_is_spared_by_those_who_remember_others() -> None:
    told = scene(5)
    node = told.nodes[4]
    told.world.crash(node)
    told.run(1.0)
    dials = dials_of(told)
    fresh = reborn(told, node, addresses(told.nodes[1:4]))
    told.run(5.0)
    assert not told.world.checkers.disagreement()
    asked = [address for number, address in dials if number == fresh.number]
    assert asked
    seed = told.nodes[0].member.id
    peer = fresh.core.links.peers.get(seed)
    as_a_member = 1 if peer is not None and peer.link is not None else 0
    assert asked.count(SEED_ADDRESS) <= as_a_member, "nobody asked the seed to be let in"


def test_what_is_remembered_and_wrong_is_given_up() -> None:
    told = scene(3)
    node = told.nodes[2]
    told.world.crash(node)
    told.run(1.0)
    stale = [f"tcp://gone{n}:7077" for n in range(5)]
    fresh = reborn(told, node, stale)
    told.until(lambda: fresh.core.links.joined, within=4.0)
    told.run(20.0)
    assert not fresh.core.links.dialling.known_addresses
    assert set(fresh.core.links.seeds) == {SEED_ADDRESS}
    assert not told.world.checkers.disagreement()


@pytest.mark.parametrize("remembered", [[], ["tcp://gone:7077"]])
def test_a_first_node_waits_for_nobody(remembered: list[str]) -> None:
    told = scene(1)
    told.world.crash(told.nodes[0])
    fresh = told.world.restart(told.nodes[0])
    told.world.tell(fresh, Join([], remembered))
    told.run(3.0)
    told.nodes = [fresh]
    told.map(20)
    told.finish()
