"""Guards for the hour after most supernodes have gone off at once: with each of them taken away, the mesh
is without enough supernodes for longer than the ten seconds that it may take.

Machines go off without a word, and there are more supernodes than in a real mesh of this size, so that a
test can afford as many as ten thousand nodes have.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.membership import supernodes, verdicts
from stealmesh_engine.membership.charges import Charges
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.suspicion import Suspicions
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.view import observers as homes
from stealmesh_engine.view.observers import Table, supers_wanted
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Vote
from stealmesh_sim.membership_scale import is_super, mesh, until
from stealmesh_sim.process import Process
from stealmesh_sim.world import World

with_and_without = pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])

RESTORED_SECONDS_MAX = 10.0
DOUBTLESS_SECONDS_MAX = 4.0
"""Silence, and the chance to answer, are two seconds; a doubt would be five more."""


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


# ---------------------------------------------------------------- orphans


def orphans_are_awaited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "orphan_seconds", property(lambda self: 3.0))


def who_was_awaited_before_is_awaited_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "hurry", lambda self, peer, seconds, now: None)


VOTED_SECONDS_MAX = 3.0
NEWCOMERS_SECONDS_MAX = 4.6
ORPHANED_SECONDS_MAX = 4.2
"""The observers are found after two seconds, the orphan 1.5 s later. It was three seconds later."""


def burial_of_an_orphan(
    monkeypatch: pytest.MonkeyPatch,
    *,
    promoted: int,
    after_seconds: float = 1.4,
    alone: bool = False,
) -> float:
    """A leaf goes off, with all of its observers or `alone`, and a moment later this many others begin to serve that
    are to observe it then. How long it takes until it is known to be dead."""
    monkeypatch.setattr(homes, "LEAVES_A_SUPERNODE", 8)
    world, members = mesh(160)
    supers = tuple(p.member.id for p in members if is_super(p))
    leaves = [p for p in members if not is_super(p)]
    pairs = permutations(leaves, 2 + promoted)
    orphan, chosen = next(
        (orphan, new)
        for orphan, _, *new in pairs
        if {p.member.id for p in new} <= {*after(supers, new).of(orphan.member.id)}
    )
    observers = () if alone else Table(supers).of(orphan.member.id)
    for process in members:
        if process is orphan or process.member.id in observers:
            world.crash(process, silent=True)
    began = world.now
    world.run(world.now + after_seconds)
    for process in chosen:
        process.core.membership.supernodes._serve(world.now, "a test")
    living = [p for p in world.living() if is_super(p)]

    def is_buried() -> bool:
        return all(p.core.view.is_dead(orphan.member.id) for p in living)

    until(world, is_buried, 12.0)
    return world.now - began


def after(supers: tuple[PeerId, ...], new: list[Process]) -> Table:
    return Table((*supers, *(p.member.id for p in new)))


@with_and_without
def test_orphans_are_found_soon(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guarded:
        orphans_are_awaited_for_long(monkeypatch)
    took = burial_of_an_orphan(monkeypatch, promoted=0)
    assert (took < ORPHANED_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"


@with_and_without
def test_new_supernodes_do_not_wait_longer_for_orphans(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had just begun to wait for a leaf that they observe when its other observers were found dead."""
    if not guarded:
        who_was_awaited_before_is_awaited_on(monkeypatch)
    took = burial_of_an_orphan(monkeypatch, promoted=2)
    assert (took < ORPHANED_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"


def newcomers_know_no_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Charges, "_with_lately_dead", lambda self, now: self.news.table)


@with_and_without
def test_who_serves_after_the_deaths_knows_whose_observers_died(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three observers of a leaf are found dead with others, and all three that follow have just begun to serve."""
    if not guarded:
        newcomers_know_no_orphans(monkeypatch)
    took = burial_of_an_orphan(monkeypatch, promoted=3, after_seconds=2.3)
    assert (took < NEWCOMERS_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"


def test_a_supernode_that_died_long_ago_leaves_no_orphans() -> None:
    """Charges that come later for another reason get their whole time."""
    world, members = mesh(40)
    last, gone, *_ = [p for p in members if is_super(p)]
    charges, leaf = last.core.membership.charges, next(p for p in members if not is_super(p))
    dead = [gone.member.id, leaf.member.id]
    for process in (gone, leaf):
        world.crash(process, silent=True)
    until(world, lambda: all(map(last.core.view.is_dead, dead)), RESTORED_SECONDS_MAX)
    found = charges._with_lately_dead(world.now).supers
    assert gone.member.id in found
    assert leaf.member.id not in found, "it has never observed anybody"
    assert charges._with_lately_dead(world.now + 5.0) is last.core.membership.news.table


def nobody_hurries_for_a_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Suspicions.voted

    def voted(self: Suspicions, voter: PeerId, message: Vote, now: float) -> None:
        with monkeypatch.context() as patch:
            who_was_awaited_before_is_awaited_on(patch)
            right(self, voter, message, now)

    monkeypatch.setattr(Suspicions, "voted", voted)


@with_and_without
def test_a_new_supernode_votes_soon(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the three that observe a leaf have just begun to serve when it goes off. The third waits for a vote."""
    if not guarded:
        nobody_hurries_for_a_vote(monkeypatch)
    took = burial_of_an_orphan(monkeypatch, promoted=2, after_seconds=0.2, alone=True)
    assert (took < VOTED_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"


def test_an_orphan_that_lives_is_not_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three observers of a leaf go off at once. It looks for others, and is heard in time. Only who is awaited is
    hurried."""
    hurry = Detector.hurry

    def watched(self: Detector, peer: PeerId, seconds: float, now: float) -> None:
        assert self.is_awaited(peer, Config().silence_seconds)
        hurry(self, peer, seconds, now)

    monkeypatch.setattr(Detector, "hurry", watched)
    monkeypatch.setattr(homes, "LEAVES_A_SUPERNODE", 8)
    world, members = mesh(160)
    supers = tuple(p.member.id for p in members if is_super(p))
    orphan = next(p for p in members if not is_super(p))
    observers = Table(supers).of(orphan.member.id)
    for process in members:
        if process.member.id in observers:
            world.crash(process, silent=True)
    world.run(world.now + 10.0)
    assert all(not p.core.view.is_dead(orphan.member.id) for p in world.living())
    assert not any(p.core.membership.supernodes.refuted_at for p in world.living())


# ---------------------------------------------------------------- self-doubt


@with_and_without
def test_who_hears_a_part_of_its_charges_is_not_cut_off(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One supernode is left, with half of its leaves. It need not ask itself whether all the others are alive."""
    if not guarded:
        monkeypatch.setattr(verdicts, "HEARD_SHARE", 1.1)
    world, members = mesh(40)
    last, *supers = [p for p in members if is_super(p)]
    leaves = [p for p in members if not is_super(p)]
    gone = [*supers, *leaves[::2]]
    for process in gone:
        world.crash(process, silent=True)
    observed = [p for p in gone if p.member.id in last.core.membership.charges.peers]
    assert 2 * len(observed) > len(last.core.membership.charges.peers)

    def are_buried() -> bool:
        return all(last.core.view.is_dead(p.member.id) for p in observed)

    took = until(world, are_buried, RESTORED_SECONDS_MAX)
    assert (took < DOUBTLESS_SECONDS_MAX) is guarded, f"buried after {took:.1f} s"
    assert ("doubts" in last.core.counters) is not guarded
    assert not any(p.core.membership.supernodes.refuted_at for p in world.living())


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
