"""Guards against herds: with each of them taken away, the herd does what it did to Skype.

Every newcomer knows one address, as after a mass restart with all caches wiped. An introduction costs
the node that is asked more than it does on an idle machine (`Toil.hello_seconds`), and he reads as many
fewer at once: so a herd that a test can afford weighs as much as one of twenty thousand.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.links import dialling
from stealmesh_engine.links.dialling import Dialling
from stealmesh_sim.membership_scale import is_super, mesh, until
from stealmesh_sim.process import Process, Toil
from stealmesh_sim.world import World

with_and_without = pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])

BASE = 16
"""Nodes of the mesh to which the herd comes."""


def burdened(times: int) -> Toil:
    """Introductions cost this many times as much."""
    usual = Toil()
    return replace(
        usual.dearer(hello=times), taken_at_once=max(1, 2 * usual.taken_at_once // times)
    )


def herd(world: World, size: int, door: Process) -> list[Process]:
    """`newcomers` start at one instant, and all knock at one door."""
    at = door.member.endpoints[0]
    return [world.node(f"late{number}", seeds=[at], workers=0) for number in range(size)]


def are_in(newcomers: list[Process]) -> int:
    return sum(each.core.links.joined for each in newcomers)


# ---------------------------------------------------------------- deadlines


def who_has_gone_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "_still_asked", lambda self, events: events)


@with_and_without
def test_who_has_given_up_is_not_served(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard the door is so busy with those who have gone that those who wait go, too, and come back, as
    long as one looks: wasted service is what keeps the herd out."""
    if not guarded:
        who_has_gone_is_served(monkeypatch)
    world, members = mesh(BASE)
    world.toil = burdened(133)
    newcomers = herd(world, 160, next(p for p in members if not is_super(p)))

    def all_are_in() -> bool:
        return are_in(newcomers) == len(newcomers) and not world.checkers.disagreement()

    took = until(world, all_are_in, 22.0)
    assert (took < 16.0) is guarded, f"{are_in(newcomers)} of {len(newcomers)} are in"
    assert (are_in(newcomers) == len(newcomers)) is guarded
    if guarded:
        assert sum(p.asked_and_gone for p in members) > 100, "or else this was no herd"


# ---------------------------------------------------------------- jitter


def all_redial_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libzmq does by itself: 50, 100, 200 … milliseconds to the letter."""

    def jitter(self: Dialling, attempts: int) -> float:
        seconds: float = dialling.BACKOFF_SECONDS_MIN * 2.0 ** min(attempts, 16)
        return min(seconds, self._context.config.dial_backoff_seconds_max)

    monkeypatch.setattr(Dialling, "_jitter", jitter)


@with_and_without
def test_a_door_that_opens_again_is_not_run_over(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away for a while; without jitter all who have waited for it knock in the same instant,
    and what its homes say to it waits behind them."""
    if not guarded:
        all_redial_in_step(monkeypatch)
    world, members = mesh(BASE)
    door, other = (next(p for p in members if is_super(p) is what) for what in (False, True))
    world.crash(door)
    world.toil = burdened(24)
    newcomers = herd(world, 120, door)
    world.run(world.now + 10.0)
    door = world.restart(door, seeds=[other.member.endpoints[0]])
    unread = 0.0
    limit = world.now + 10.0
    while are_in(newcomers) < len(newcomers):
        assert world.now < limit
        world.run(world.now + 0.02)
        unread = max(unread, door.unread_seconds())
    assert (unread < 0.25) is guarded, f"what was said to it lay unread for {unread:.2f} s"


# ---------------------------------------------------------------- admission


@pytest.mark.slow
@with_and_without
def test_the_supernodes_that_are_left_are_not_run_over(guarded: bool) -> None:
    """Two of five go off, and their leaves come to the others, where all that is heard costs forty times as
    much: as if ten thousand came to three. Let in all at once they keep their new homes so busy that
    these hear no one for seconds; let in bit by bit (200 a second, forty times less), some wait, and
    others begin to serve."""
    weary, config = Toil().dearer(hello=40, message=40), Config()
    rate = config.attach_a_second / 40 if guarded else 1e9
    world, members = mesh(256, config=replace(config, attach_a_second=rate))
    world.toil = weary
    world.run(world.now + 3.0)
    supers = [p for p in members if is_super(p)]
    for process in supers[3:]:
        world.crash(process, silent=True)
    begun, unread = world.now, 0.0
    world.run(begun + 3.0)
    while world.checkers.disagreement() and world.now < begun + 30.0:
        world.run(world.now + 0.1)
        unread = max(unread, *(p.unread_seconds() for p in supers[:3]))
    assert (unread < config.silence_seconds) is guarded, f"unread for {unread:.2f} s"
    assert not world.checkers.disagreement() or not guarded
