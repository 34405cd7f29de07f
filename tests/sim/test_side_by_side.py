"""Workers that run many items at once, in virtual time: stories and random worlds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.marks import later

from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.side_by_side import SideBySide
from stealmesh_engine.holding.stock import Stock
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.kernel import Breach
from stealmesh_sim.programs import Wish
from stealmesh_sim.random_worlds import run
from stealmesh_sim.work import CostLaw

from .scenes import scene

WORLDS = 40
TOGETHER = 5
WAIT = CostLaw("const", 0.2)


@pytest.mark.parametrize("first", [1, *later(*range(1 + TOGETHER, WORLDS, TOGETHER))])
def test_random_worlds(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        outcome = run(seed, side=True, placed=seed % 2 == 0)
        assert not outcome.breach, f"{outcome.breach}, in the world {seed} side by side"


@pytest.mark.parametrize("kind", [JobKind.SUBMIT, JobKind.MAP, JobKind.REDUCE])
def test_two_thousand_waits_take_two_seconds(kind: JobKind) -> None:
    told = scene(2)
    begun = told.world.now
    told.submit(Wish(kind, 2000, WAIT, begun, together=100))
    told.finish()
    workers = sum(len(node.workers) for node in told.nodes)
    assert told.programs[0].done_at is not None
    took = told.programs[0].done_at - begun
    assert took < 2000 * 0.2 / (workers * 100) + 1.0
    assert all(side.most <= 100 for node in told.nodes for side in node.sides)


def test_a_slow_item_holds_up_nothing() -> None:
    told = scene(1)
    slow = told.submit(
        Wish(
            JobKind.MAP,
            1000,
            WAIT,
            told.world.now,
            together=50,
            endless=frozenset({3}),
            timeout=60.0,
        )
    )
    account = told.world.checkers.accounts[slow.job]
    told.until(lambda: account.delivered.size == 999, within=10.0)


def test_one_that_kills_its_process_is_the_only_one_that_fails() -> None:
    told = scene(2)
    program = told.submit(
        Wish(JobKind.MAP, 400, WAIT, told.world.now, together=100, killers={123: 99})
    )
    told.finish()
    account = told.world.checkers.accounts[program.job]
    assert account.failed == 1
    assert account.delivered.size == 400
    assert 3 <= 99 - program.work.killers[123] <= 6


def test_processes_that_are_killed_from_outside_lose_nothing() -> None:
    told = scene(2)
    program = told.submit(Wish(JobKind.MAP, 3000, WAIT, told.world.now, together=100))
    for _ in range(4):
        told.run(0.35)
        for node in told.nodes:
            node.sides[0].kill()
    told.finish(within=60.0)
    assert told.world.checkers.accounts[program.job].failed == 0


def cancelled_before_they_begin() -> int:
    """How many of 300 items run if the first 250 are cancelled while their process starts."""
    told = scene(1)
    wish = Wish(JobKind.MAP, 300, WAIT, told.world.now, together=100, cancels=[(0.03, 0, 250)])
    told.submit(wish)
    told.until(lambda: any(side.lanes for node in told.nodes for side in node.sides))
    assert not any(side.up for node in told.nodes for side in node.sides)
    told.finish()
    return sum(node.items for node in told.nodes)


def test_what_is_cancelled_before_its_process_is_up_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cancelled_before_they_begin() == 50
    monkeypatch.setattr(SideBySide, "cancelled", lambda *_: None)
    assert cancelled_before_they_begin() > 50


def test_threads_of_a_node() -> None:
    told = scene(1)
    node = told.world.node("threads", seeds=["tcp://n0:7077"], workers=1, threads=4)
    told.run(1.0)
    told.submit(Wish(JobKind.MAP, 400, CostLaw("const", 0.02), told.world.now))
    told.finish()
    assert node.sides[0].most >= 4
    assert not node.workers[0].running


# ---------------------------------------------------------------- a mutant


def one_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SideBySide,
        "has_room",
        lambda self, held, running: sum(1 for _ in running) <= held.bags.together,
    )


def urgent_beside_others() -> None:
    told = scene(1)
    begun = told.world.now
    told.submit(Wish(JobKind.MAP, 300, WAIT, begun, together=20))
    told.submit(Wish(JobKind.MAP, 300, WAIT, begun, together=20, priority=1))
    told.submit(Wish(JobKind.MAP, 30, WAIT, begun, priority=2))
    told.finish(within=60.0)


def test_the_most_urgent_of_them_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among themselves: what runs one by one takes none of their places."""
    urgent_beside_others()

    def the_last_comes_first(stock: Stock, fits: Any = None) -> HeldJob | None:
        if fits is None:
            return usual(stock)
        beside = [held for held in stock.jobs() if held.bags.together and fits(held)]
        return min(beside, key=lambda held: held.spec.priority, default=None)

    usual = Stock.next_job
    monkeypatch.setattr(Stock, "next_job", the_last_comes_first)
    with pytest.raises(Breach, match="which is more urgent"):
        urgent_beside_others()


def killers(attempts: int) -> None:
    told = scene(2)
    for killer in (123, 250):
        told.submit(
            Wish(JobKind.MAP, 400, WAIT, told.world.now, together=100, killers={killer: attempts})
        )
    told.finish(within=60.0)
    for program in told.programs:
        assert told.world.checkers.accounts[program.job].failed == (attempts > 6)


@pytest.mark.parametrize("attempts", [2, 99])
def test_two_jobs_with_killers(attempts: int) -> None:
    killers(attempts)


def test_one_too_many_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other rules guard is shown in tests/engine/holding/test_side_by_side.py."""
    one_more_than_allowed(monkeypatch)
    with pytest.raises(Breach, match="101 side by side, not 100"):
        killers(99)
