"""Guards that keep the living alive and the dead dead: with each of them taken away, a story ends ill.

More of them, told once with and once without the guard: tests/sim/test_supernodes.py (votes, who
stands still is not dead, a supernode that is cut off doubts itself). Which guard is missed where:
tests/chaos/test_skype_bites.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from stealmesh_engine.base.rendezvous import weight
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import Event, Tick
from stealmesh_engine.membership import supernodes
from stealmesh_engine.membership.changes import Change
from stealmesh_engine.membership.membership import Membership
from stealmesh_engine.view import membership_view as membership
from stealmesh_protocol.ids import PeerId
from stealmesh_sim.membership_scale import is_super, mesh
from stealmesh_sim.process import Process, Toil
from stealmesh_sim.world import World

from .scenes import scene

with_and_without = pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])


def counted(world: World, name: str) -> int:
    return sum(process.core.counters.get(name, 0) for process in world.processes)


def told(members: Iterable[Process], what: str) -> int:
    return sum(what in line for process in members for line in process.core.journal.of())


def a_leaf(members: list[Process]) -> Process:
    return next(process for process in members if not is_super(process))


def part(world: World, one: Process, others: list[Process]) -> None:
    here, there = [one.place], [other.place for other in others]
    world.network.wall_off(here, there)
    world.network.wall_off(there, here)


def join(world: World, one: Process, others: list[Process]) -> None:
    here, there = [one.place], [other.place for other in others]
    world.network.tear_down(here, there)
    world.network.tear_down(there, here)


# ---------------------------------------------------------------- inbox first


def timers_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes on the dot, even if messages lie unread."""
    step, take = Process._step, Process._take

    def time_before_events(self: Process, events: list[Event]) -> None:
        ticks = [event for event in events if type(event) is Tick]
        step(self, [*ticks, *(event for event in events if type(event) is not Tick)])

    def some(self: Process, events: list[Event], toil: Toil, is_due: bool) -> list[Event]:
        return take(self, events, toil, False)

    monkeypatch.setattr(Process, "_step", time_before_events)
    monkeypatch.setattr(Process, "_take", some)


@with_and_without
def test_nobody_is_silent_while_his_beat_lies_unread(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A herd keeps all supernodes busy for seconds: they read before they judge."""
    if not guarded:
        timers_first(monkeypatch)
    world, members = mesh(16)
    doors = [p.member.endpoints[0] for p in members if is_super(p)]
    world.toil = Toil(hello_seconds=0.01, taken_at_once=20)
    herd = [world.node(f"late{number}", seeds=doors, workers=0) for number in range(120)]
    world.run(world.now + 3.5)
    assert all(process.core.links.joined for process in herd)
    assert (told(members, "suspects") == 0) is guarded
    assert (counted(world, "peers-declared-dead") == 0) is guarded


# ---------------------------------------------------------------- a chance to answer


def suspects_are_dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Membership.suspect

    def suspect(self: Membership, peer: PeerId, now: float) -> Change:
        if peer in self.charges.peers:
            return self.verdicts.dead(peer, now, "silent")
        return right(self, peer, now)

    monkeypatch.setattr(Membership, "suspect", suspect)


@with_and_without
def test_a_link_that_falters_is_no_death(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guarded:
        suspects_are_dead_at_once(monkeypatch)
    world, members = mesh(24)
    leaf = a_leaf(members)
    for connection in world.network.open_connections():
        if leaf in {pipe.source for pipe in connection.pipes}:
            world.network.stall(connection, 1.8)
    world.run(world.now + 6.0)
    assert (counted(world, "peers-declared-dead") == 0) is guarded


# ---------------------------------------------------------------- self-doubt


def the_late_blame_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeCore, "_forgive_lateness", lambda self, now: None)


@with_and_without
def test_a_program_whose_machine_slept_takes_no_work_back(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network wakes up a second after it: until then no one can be heard, and no one is to blame."""
    if not guarded:
        the_late_blame_others(monkeypatch)
    play = scene(3)
    program = play.map(3000)
    play.until(lambda: all(play.holds(node, program) for node in play.nodes))
    part(play.world, play.client, play.nodes)
    play.world.pause(play.client)
    play.run(6.0)
    play.world.resume(play.client)
    play.run(1.0)
    join(play.world, play.client, play.nodes)
    play.finish(within=60.0)
    busy = sum(node.busy_seconds for node in play.nodes)
    assert (busy < 30.5) is guarded, f"30 s of work took {busy:.1f} s"
    assert (play.counted("results-dropped") == 0) is guarded


# ---------------------------------------------------------------- who comes and goes


def who_flaps_may_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernodes, "FLAPS", 1_000_000)


@with_and_without
def test_who_comes_and_goes_serves_nobody(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first candidate has a loose cable. If it may serve, every leaf that has it as an observer looks for
    another one each time, and comes back each time."""
    if not guarded:
        who_flaps_may_serve(monkeypatch)
    world, members = mesh(24)
    supers = [p for p in members if is_super(p)]
    leaves = [p for p in members if not is_super(p)]
    loose = max(leaves, key=lambda p: weight(supernodes.SERVICE, p.member.id))
    others = [p for p in members if p is not loose]

    def comes_and_goes() -> None:
        for _ in range(3):
            part(world, loose, others)
            world.run(world.now + 3.2)
            join(world, loose, others)
            world.run(world.now + 6.0)

    comes_and_goes()
    assert len(loose.core.membership.supernodes.refuted_at) == 3
    assert not is_super(loose)
    world.crash(supers[0])
    world.run(world.now + 5.0)
    assert len([p for p in world.living() if is_super(p)]) == len(supers), "somebody serves"
    before = supers[1].core.view.supers_changes
    comes_and_goes()
    assert is_super(loose) is not guarded
    assert (supers[1].core.view.supers_changes == before) is guarded


# ---------------------------------------------------------------- the dead stay dead


def the_dead_are_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TOMBSTONE_SECONDS", 0.0)


@with_and_without
def test_an_old_rumour_wakes_nobody(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program was out of reach while a machine went off, and still believes in it: of two views that
    differ, the view that remembers a death is right."""
    if not guarded:
        the_dead_are_forgotten_at_once(monkeypatch)
    world, members = mesh(24)
    client = world.client("client", seeds=[members[0].member.endpoints[0]])
    world.run(world.now + 3.0)
    gone = a_leaf(members)
    part(world, client, members)
    world.crash(gone, silent=True)
    world.run(world.now + 5.0)
    assert client.core.view.is_alive(gone.member.id)
    join(world, client, members)
    believers = 0
    for _ in range(60):
        world.run(world.now + 0.05)
        supers = [p for p in members if is_super(p)]
        believers = max(believers, sum(p.core.view.is_alive(gone.member.id) for p in supers))
    assert believers == (0 if guarded else 5)
