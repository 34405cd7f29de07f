"""Guards for the hour after most supernodes have gone off at once: with each of them taken away, the mesh
is without enough supernodes for longer than the ten seconds that it may take.

Machines go off without a word, and there are more supernodes than in a real mesh of this size, so that a
test can afford as many as ten thousand nodes have.
"""

from __future__ import annotations

import pytest

from stealmesh_engine.membership import supernodes
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.view import observers as homes
from stealmesh_engine.view.observers import supers_wanted
from stealmesh_protocol.ids import PeerId
from stealmesh_sim.membership_scale import is_super, mesh, until
from stealmesh_sim.process import Process
from stealmesh_sim.world import World

with_and_without = pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])

RESTORED_SECONDS_MAX = 10.0


def lose_supernodes(
    monkeypatch: pytest.MonkeyPatch, nodes: int, *, leaves_each: int, lost: int
) -> tuple[World, list[Process], list[Process]]:
    """This many of the supernodes go off. Returns those that are left, and those that are gone."""
    monkeypatch.setattr(homes, "LEAVES_A_SUPERNODE", leaves_each)
    world, members = mesh(nodes)
    supers = [p for p in members if is_super(p)]
    assert len(supers) == -(-nodes // leaves_each)
    for process in supers[:lost]:
        world.crash(process, silent=True)
    return world, supers[lost:], supers[:lost]


# ---------------------------------------------------------------- verdicts


def the_word_of_the_dead_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = Verdicts._hearing_observers

    def patient(self: Verdicts, peer: PeerId, asked_at: float, now: float) -> list[PeerId]:
        del asked_at
        return bounded(self, peer, now, now)

    monkeypatch.setattr(Verdicts, "_hearing_observers", patient)


@with_and_without
def test_the_dead_are_no_witnesses(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the ten who observe a supernode eight are as dead; who waits for a majority of those that have not
    been declared dead yet buries no one."""
    if not guarded:
        the_word_of_the_dead_is_waited_for(monkeypatch)
    world, left, gone = lose_supernodes(monkeypatch, 160, leaves_each=4, lost=33)

    def all_are_buried() -> bool:
        return all(p.core.view.is_dead(dead.member.id) for p in left for dead in gone)

    took = until(world, all_are_buried, RESTORED_SECONDS_MAX)
    assert (took < RESTORED_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"


# ---------------------------------------------------------------- promotion


@pytest.mark.slow
@with_and_without
def test_supernodes_are_asked_for_in_doubling_waves(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked one by one, those who are to fill the gap come too late."""
    if not guarded:
        monkeypatch.setattr(supernodes, "WAVE_SECONDS", 1e9)
    world, left, gone = lose_supernodes(monkeypatch, 480, leaves_each=3, lost=110)
    wanted = supers_wanted(480 - len(gone))

    def are_enough() -> bool:
        return sum(map(is_super, world.living())) >= wanted

    assert len(left) < wanted / 2
    took = until(world, are_enough, RESTORED_SECONDS_MAX)
    assert (took < RESTORED_SECONDS_MAX) is guarded, f"restored after {took:.1f} s"
