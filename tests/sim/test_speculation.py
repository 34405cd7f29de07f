"""The last stragglers are lent twice, in virtual time: worlds, stories, and mutants that are noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stealmesh_engine.ledger.lent_twice import TwiceLentLedger
from stealmesh_engine.ledger.second_copies import LentPiece, SecondCopies
from stealmesh_engine.ledger.speculation import Speculation
from stealmesh_sim import random_worlds
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram
from stealmesh_sim.work import CostLaw

from .scenes import SEED_ADDRESS, Scene, scene
from .test_looking import ask

ITEM = CostLaw("const", 0.2)
ITEMS = 20
X, Y, Z = b"x" * 16, b"y" * 16, b"z" * 16


@pytest.mark.parametrize(
    "first", [308, *(pytest.param(first, marks=pytest.mark.slow) for first in range(20, 200, 10))]
)
def test_random_worlds(first: int) -> None:
    """Each item once, however many copies of it run; with pauses, deaths, steals, bounds and retries."""
    lent_twice = 0
    for seed in range(first, first + (4 if first == 308 else 10)):
        outcome = random_worlds.run(
            seed, speculate=True, control=seed % 3 == 1, placed=seed % 3 == 2, side=seed % 5 == 4
        )
        assert not outcome.breach, f"{seed}: {outcome.breach}"
        lent_twice += outcome.counters.get("items-lent-twice", 0)
    assert lent_twice


# ---------------------------------------------------------------- stories


def straggling(nodes: int = 2, **wishes: object) -> tuple[Scene, VirtualProgram, Process]:
    """A node stands still while it has the last item of a map."""
    told = scene(nodes, workers=1)
    items = ITEMS + 1  # of an even number two would be the last
    program = told.map(items, law=ITEM, speculate=True, **wishes)
    account = told.world.checkers.accounts[program.job]
    told.until(lambda: account.delivered.size == items - 1)
    told.until(lambda: len(holders_of(told, program)) == 1)
    (holder,) = holders_of(told, program)
    told.world.pause(holder)
    return told, program, holder


def twice(told: Scene) -> int:
    return told.counted("items-lent-twice")


def test_a_map_ends_although_a_node_stands_still() -> None:
    """The mesh would notice and wait for it for five seconds."""
    told, program, holder = straggling()
    stood_still_at = told.world.now
    told.until(lambda: program.done, within=2.0)
    assert told.world.now - stood_still_at < 2.0
    assert twice(told) == 1
    told.run(1.0)
    told.world.resume(holder)
    told.finish()


def test_one_slow_item_runs_twice_and_no_more() -> None:
    """There is room for more copies, and the item is slow wherever it runs."""
    told = scene(4, workers=1)
    told.map(ITEMS, law=CostLaw("turning", 1.0, turn=ITEMS - 1), speculate=True)
    told.finish()
    assert told.world.checkers.placing.twice


def test_an_item_that_two_nodes_have_is_explained() -> None:
    """Once: the program's core raised, as a second copy is in no lease of the ledger's."""
    told = scene(4, workers=1)
    eye = told.world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    program = told.map(ITEMS, law=CostLaw("turning", 1.0, turn=ITEMS - 1), speculate=True)
    told.until(lambda: twice(told) == 1)
    told.until(lambda: len(holders_of(told, program)) == 2)
    assert ask(told, program.job, ITEMS - 1, by=eye)["why"] == "running"
    assert ask(told, program.job, by=eye)["nodes_answered"]
    told.finish()


def test_without_the_wish_nothing_is_lent_twice() -> None:
    told = scene(2, workers=1)
    told.map(ITEMS, law=ITEM)
    told.finish()
    assert twice(told) == 0


def test_an_only_item_is_never_late() -> None:
    told = scene(2, workers=1)
    told.map(1, law=CostLaw("const", 8.0), speculate=True)
    told.finish()
    assert twice(told) == 0


def test_both_may_die() -> None:
    told, program, _ = straggling(3)
    told.until(lambda: twice(told) == 1)
    told.until(lambda: len(holders_of(told, program)) == 2)
    for node in holders_of(told, program):
        told.world.crash(node)
    told.finish()


@pytest.mark.parametrize("first", [True, False])
def test_one_may_die(first: bool) -> None:
    told, program, holder = straggling()
    told.until(lambda: len(holders_of(told, program)) == 2)
    (other,) = [node for node in told.nodes if node is not holder]
    told.world.crash(holder if first else other)
    told.world.resume(holder)
    told.finish()


def test_what_runs_twice_can_be_cancelled() -> None:
    told, program, holder = straggling(cancels=[])
    told.until(lambda: len(holders_of(told, program)) == 2)
    program._cancel(0, ITEMS + 1)
    told.until(lambda: program.done, within=0.1)
    told.world.resume(holder)
    told.finish()


@pytest.mark.parametrize(("lanes", "expected"), [(1, 0), (2, 1)])
def test_a_second_copy_takes_up_a_lane(lanes: int, expected: int) -> None:
    told, _, holder = straggling(max_parallel=lanes)
    told.run(1.5)
    assert twice(told) == expected
    told.world.resume(holder)
    told.finish()


def holders_of(told: Scene, program: VirtualProgram) -> list[Process]:
    return [node for node in told.nodes if node.alive and told.holds(node, program)]


# ---------------------------------------------------------------- the account


def lent_twice() -> tuple[TwiceLentLedger, int, int]:
    """X has [0, 10), Y has [4, 6) of it as well."""
    ledger = TwiceLentLedger(10, 10)
    first = ledger.lease(X, 100.0)
    assert first is not None
    second = ledger.lend_again(Y, 4, 6, 100.0)[0]
    ledger.audit()
    return ledger, first.lid, second.lid


def intervals(verdict: object) -> list[tuple[int, int]]:
    return getattr(verdict, "intervals", [])


def test_the_first_result_counts() -> None:
    ledger, first, second = lent_twice()
    assert ledger.copies is not None
    assert intervals(ledger.credit(Y, second, 4, 5)) == [(4, 5)]
    assert ledger.copies.take_beaten() == [LentPiece(X, first, 4, 5)]
    assert intervals(ledger.credit(X, first, 3, 8)) == [(3, 4), (5, 8)]
    assert [piece[:4] for piece in ledger.copies.take_beaten()] == [(Y, second, 5, 6)]
    assert intervals(ledger.credit(Y, second, 5, 6)) == []
    ledger.audit()
    assert ledger.credited.size == 5


@pytest.mark.parametrize("how", ["fence", "split", "wait", "revoke"])
def test_the_other_goes_on_alone(how: str) -> None:
    for gone in (X, Y):
        ledger, first, second = lent_twice()
        lid = first if gone == X else second
        match how:
            case "fence":
                ledger.fence(gone)
            case "split":
                ledger.split(gone, lid, 4, 6)
            case "wait":
                assert not ledger.wait(lid, 4, 7.0)
                assert not ledger.wait(lid, 5, 7.0)
            case "revoke":
                ledger.revoke(lid)
        ledger.audit()
        assert not ledger.free.overlap(4, 6)
        other, lid = (Y, second) if gone == X else (X, first)
        assert intervals(ledger.credit(other, lid, 4, 6)) == [(4, 6)]
        ledger.audit()


def test_if_both_are_gone_it_is_free() -> None:
    for order in ((X, Y), (Y, X)):
        ledger, _, _ = lent_twice()
        for holder in order:
            ledger.fence(holder)
            ledger.audit()
        assert ledger.free_items == 10


def test_both_hear_of_a_cancellation() -> None:
    ledger, _, _ = lent_twice()
    assert ledger.cancel(5, 7) == {X: [(5, 7)], Y: [(5, 6)]}
    ledger.audit()


def test_nothing_has_three_copies() -> None:
    ledger, first, _ = lent_twice()
    assert ledger.lent_once(first) == [(0, 4), (6, 10)]
    with pytest.raises(AssertionError, match="three copies"):
        ledger.lend_again(Z, 5, 7, 100.0)


# ---------------------------------------------------------------- each rule has a mutant that is noticed


def nobody_is_beaten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first holder keeps what the second has done."""
    monkeypatch.setattr(TwiceLentLedger, "_beat", lambda *args: None)


def second_copies_outlive_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TwiceLentLedger, "credit", lambda self, *args: _plain(self, *args))


def _plain(ledger: TwiceLentLedger, *args: object) -> object:
    return super(TwiceLentLedger, ledger).credit(*args)  # type: ignore[arg-type]


def what_is_lost_is_free_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TwiceLentLedger, "_lost", lambda self, lo, hi: self.free.add(lo, hi))


def second_copies_outlive_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TwiceLentLedger.__mro__[1].cancel  # type: ignore[attr-defined]
    monkeypatch.setattr(TwiceLentLedger, "cancel", right)


def every_look_lends_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SecondCopies.enter

    def enter(self: SecondCopies, lid: int, *rest: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SecondCopies, "overlap", lambda *args: [])
            right(self, lid, *rest)

    monkeypatch.setattr(SecondCopies, "enter", enter)
    monkeypatch.setattr(TwiceLentLedger, "lent_once", lambda self, lid: list(self.leases[lid].open))
    monkeypatch.setattr(TwiceLentLedger, "audit", lambda *args: None)


def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speculation, "look", lambda *args: None)


def second_copies_take_no_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stealmesh_engine.ledger.speculation.has_lane", lambda job: True)


def second_holders_never_die(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondCopies, "held_by", lambda *args: [])


def dies(first: bool) -> Callable[[], None]:
    return lambda: test_one_may_die(first)


STORIES: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (nobody_is_beaten, test_the_first_result_counts),
    (nobody_is_beaten, test_a_map_ends_although_a_node_stands_still),
    (second_copies_outlive_the_result, test_the_first_result_counts),
    (what_is_lost_is_free_all_the_same, dies(True)),
    (second_copies_outlive_a_cancellation, test_both_hear_of_a_cancellation),
    (every_look_lends_one_more, test_one_slow_item_runs_twice_and_no_more),
    (nobody_looks, test_a_map_ends_although_a_node_stands_still),
    (second_copies_take_no_lane, lambda: test_a_second_copy_takes_up_a_lane(1, 0)),
    (second_holders_never_die, test_if_both_are_gone_it_is_free),
]


@pytest.mark.parametrize(
    ("mutant", "story"), STORIES, ids=[f"{m.__name__}-{n}" for n, (m, _) in enumerate(STORIES)]
)
def test_a_mutant_is_noticed(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  an assertion, a breach, or what a core raises
        story()
