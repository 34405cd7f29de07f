"""Results that stay on the nodes that made them: losses, what is made again, and the end of need.

Each story is told in a virtual mesh, and each rule has a mutant that a story notices.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.data import directory
from stealmesh_engine.data.copies import FETCHES_MAX, Copies, Fetching
from stealmesh_engine.data.directory import Directory
from stealmesh_engine.data.results import StayingResults
from stealmesh_engine.events import CancelItems, WantValue
from stealmesh_engine.ledger import staying
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.staying import Staying
from stealmesh_protocol.ids import item_of
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_sim.pipelines import VirtualPipeline
from stealmesh_sim.work import CostLaw

from .scenes import Scene, must_notice, scene

SLOW = pytest.mark.slow


def pipeline(told: Scene, lines: int = 12, **more: object) -> VirtualPipeline:
    return VirtualPipeline(told.world, told.client, lines, **more)  # type: ignore[arg-type]


def all_is_right(told: Scene, *pipelines: VirtualPipeline, within: float = 60.0) -> None:
    """Every result arrives once, none fails, and nothing is left anywhere."""
    told.until(lambda: all(each.done for each in pipelines), within=within)
    assert not sum(each.failed for each in pipelines)
    keeping = told.world.checkers.values.still_keeping
    told.until(lambda: not keeping(told.client.member.id), within=30.0)
    jobs = [stage.job for each in pipelines for stage in each.stages]
    check = told.world.checkers
    told.until(lambda: not any(check.still_holding(job) for job in jobs), within=20.0)


def test_a_result_stays_and_the_next_call_gets_it() -> None:
    told = scene(3)
    run = pipeline(told)
    all_is_right(told, run)
    assert told.world.checkers.values.needed >= 24
    assert not told.counted("values-made-again")
    assert not told.client.shelf.values


def test_only_what_is_lost_and_needed_is_made_again() -> None:
    """All results are there, and the first ones are let go of, when one node of four dies."""
    told = scene(4)
    run = pipeline(told, 24, stages=3, releases=False)
    told.until(lambda: len(run.results_of(1)) == 24)
    for line in range(24):
        run.release(0, line)
    told.run(0.2)
    victim = told.nodes[1]
    lost = [
        value
        for value, account in told.client.core.values.directory.accounts.items()
        if list(account.copies) == [victim.member.id]
    ]
    assert lost
    told.world.crash(victim)
    told.until(lambda: told.counted("values-made-again") >= 2 * len(lost))
    told.until(lambda: len(run.results_of(2)) == 24)
    told.run(1.0)
    assert told.counted("values-made-again") == 2 * len(lost)  # each, and what it was made of
    run.let_go()
    all_is_right(told, run)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=SLOW) for seed in range(2, 40))])
def test_deaths_and_broken_links(seed: int) -> None:
    """Nodes die, are started anew, stand still and lose their links, at any moment."""
    rng = Random(seed)
    told = scene(rng.randint(3, 6), seed=seed, one_host=rng.random() < 0.3)
    law = CostLaw("exponential", rng.choice((0.005, 0.05)), seed)
    octets = rng.choice((1000, 50_000, 2_000_000))
    runs = [
        pipeline(told, rng.randint(5, 25), stages=rng.randint(2, 5), octets=octets, law=law)
        for _ in range(rng.randint(1, 2))
    ]
    crash(told, rng, 8)
    all_is_right(told, *runs, within=120.0)


def crash(told: Scene, rng: Random, times: int) -> None:
    crashes = 0
    for _ in range(times):
        told.run(rng.expovariate(4.0))
        alive = [node for node in told.nodes if node.alive]
        what = rng.random()
        if what < 0.4 and len(alive) > 2 and crashes < 3:
            victim = rng.choice(alive)
            told.world.crash(victim)
            crashes += 1
            name = f"{victim.name}+"
            seeds = [node.member.endpoints[0] for node in alive if node is not victim]
            told.nodes.append(told.world.node(name, seeds=seeds, workers=2))
        elif what < 0.7:
            for connection in told.world.network.open_connections():
                if rng.random() < 0.3:
                    told.world.network.reset(connection)
        elif what < 0.8:
            worker = rng.choice([each for node in alive for each in node.workers])
            worker.kill()
        else:
            victim = rng.choice(alive)
            told.world.pause(victim)
            told.run(rng.uniform(0.1, 4.0))
            told.world.resume(victim)


def test_octets_of_two_makings_are_never_mixed() -> None:
    """The node that made a large result dies while the program takes it: what has come is worth nothing."""
    told = scene(3)
    run = pipeline(told, 1, stages=2, octets=20_000_000, releases=False)
    told.until(lambda: bool(run.results_of(1)))
    value = run.stages[0].value(0)
    account = told.client.core.values.directory.accounts[value]
    taken = told.client.core.values.copies
    told.client.hear(WantValue(value))
    told.until(
        lambda: value in taken.fetches and 0 < taken.fetches[value].missing.size < 15_000_000
    )
    for node in told.nodes:
        if node.member.id in account.copies:
            told.world.crash(node)
    told.until(lambda: value in taken.whole)
    assert told.counted("values-made-again") == 1
    assert told.client.shelf.is_right(value, 20_000_000)
    run.let_go()
    all_is_right(told, run)


def test_what_does_not_count_goes() -> None:
    """The program cancels a call when its result is just on the way to it."""
    told = scene(3)
    run = pipeline(told, 6, stages=2, releases=False)
    told.until(lambda: any(node.core.values.copies.stored.made for node in told.nodes))
    (maker,) = [node for node in told.nodes if node.core.values.copies.stored.made]
    (value,) = maker.core.values.copies.stored.made
    found = item_of(value)
    assert found is not None
    told.client.hear(CancelItems(found[0], [(found[1], found[1] + 1)]))
    told.until(lambda: len(run.results_of(1)) == 5)
    told.until(lambda: value not in maker.shelf.values, within=2.0)
    assert value not in told.client.core.values.results.recipes


def test_room_is_not_made_of_results() -> None:
    """Each node may hold two of thirty results. None is dropped, since it may be the last copy."""
    told = scene(2, config=Config(store_memory_octets=120_000))
    run = pipeline(told, 15, octets=50_000, releases=False)
    told.until(lambda: len(run.results_of(2)) == 15, within=60.0)
    assert not told.counted("values-made-again")
    for node in told.nodes:
        copies = node.core.values.copies
        assert len(copies.whole) > 2
        assert not list(copies.stored.to_drop(1, copies._is_last))
    run.let_go()
    all_is_right(told, run)


def test_what_is_made_again_waits_for_nothing_that_is_lost() -> None:
    """More is lost than a node fetches at once, and to make it again it has to fetch something else."""
    told = scene(2)
    run = pipeline(told, 120, octets=1000, last_law=CostLaw("const", 0.2))
    told.until(lambda: len(run.results_of(1)) == 120)
    told.world.crash(told.nodes[1])
    all_is_right(told, run, within=100.0)
    assert told.counted("values-made-again") > 2 * FETCHES_MAX


def made_again(told: Scene, before: int, value: bytes) -> Callable[[], bool]:
    accounts = told.client.core.values.directory.accounts
    return lambda: told.counted("values-made-again") > before or value not in accounts


def test_what_is_lost_too_often_fails_by_name() -> None:
    told = scene(2)
    run = pipeline(told, 1, stages=2, releases=False)
    told.until(lambda: bool(run.results_of(1)))
    value = run.stages[0].value(0)
    accounts = told.client.core.values.directory.accounts
    for times in range(4):
        told.until(lambda: value in accounts and bool(accounts[value].copies))
        told.nodes.append(told.world.node(f"more{times}", seeds=["tcp://n0:7077"], workers=2))
        told.nodes.append(told.world.node(f"yet{times}", seeds=["tcp://n1:7077"], workers=2))
        told.run(2.0)
        for node in told.nodes:
            if node.alive and node.member.id in accounts[value].copies:
                told.world.crash(node)
        told.until(made_again(told, times, value))
    assert told.counted("values-made-again") == 3
    assert told.counted("values-not-made-again") == 1
    told.client.hear(WantValue(value))
    told.until(lambda: told.counted("values-lost") == 1)
    lost, _ = told.client.core.journal.rings.page(0, 1 << RingKind.VALUE, 1 << 30)
    assert lost[-1].what == "lost"
    assert lost[-1].detail == "it was lost 4 times, each time with the last node that had it"
    run.let_go()
    told.until(lambda: run.done)


def test_why_values_are_gone_is_remembered_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "GONE_REMEMBERED", 3)
    accounts = scene(1).client.core.values.directory
    values = [number.to_bytes(24, "big") for number in range(5)]
    for value in values:
        accounts.give_up(value, "its nodes died", 1.0)
    assert [accounts._nowhere(value).why for value in values] == ["", "", *["its nodes died"] * 3]


# ---------------------------------------------------------------- mutants


def forgets_losses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StayingResults, "_lost", lambda self, value, now: None)
    patch.setattr(StayingResults, "audit", lambda self: None)


def makes_only_the_first_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(staying, "_inputs", lambda job, item, fed: ())


def keeps_no_recipes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedLedger, "keep_recipe", lambda self, item, fed: None)


def keeps_all_recipes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedLedger, "forget_recipe", lambda self, item: None)


def lets_no_copy_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Directory, "let_copies_go", lambda self, value, now: None)
    patch.setattr(StayingResults, "audit", lambda self: None)


def delivers_again(patch: pytest.MonkeyPatch) -> None:
    before = Staying.judged

    def judged(self: Staying, job: Any, holder: Any, part: Any, verdict: Any, *more: Any) -> Any:
        before(self, job, holder, part, verdict, *more)
        return getattr(verdict, "intervals", [])

    patch.setattr(Staying, "judged", judged)


def mixes_makings(patch: pytest.MonkeyPatch) -> None:
    def sized(self: Fetching, octets: int, making: int) -> None:
        if not self.octets:
            self.octets = octets
            self.begin_again()
        self.making = making

    patch.setattr(Fetching, "sized", sized)


def keeps_what_does_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StayingResults, "does_not_count", lambda self, value, holder, making, now: None)


def drops_results_for_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "_is_last", lambda self, value: False)


def makes_again_for_ever(patch: pytest.MonkeyPatch) -> None:
    before = Staying.again
    patch.setattr(Staying, "again", lambda self, value, times, now: before(self, value, 1, now))


def counts_what_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fetching, "is_under_way", property(lambda self: self.asked_at is not None))


MUTANTS = [
    pytest.param(
        counts_what_is_lost, test_what_is_made_again_waits_for_nothing_that_is_lost, marks=SLOW
    ),
    (forgets_losses, test_only_what_is_lost_and_needed_is_made_again),
    pytest.param(
        makes_only_the_first_again, test_only_what_is_lost_and_needed_is_made_again, marks=SLOW
    ),
    pytest.param(keeps_no_recipes, test_only_what_is_lost_and_needed_is_made_again, marks=SLOW),
    (keeps_all_recipes, test_a_result_stays_and_the_next_call_gets_it),
    pytest.param(lets_no_copy_go, test_a_result_stays_and_the_next_call_gets_it, marks=SLOW),
    (delivers_again, test_only_what_is_lost_and_needed_is_made_again),
    (mixes_makings, test_octets_of_two_makings_are_never_mixed),
    (keeps_what_does_not_count, test_what_does_not_count_goes),
    (drops_results_for_room, test_room_is_not_made_of_results),
    pytest.param(makes_again_for_ever, test_what_is_lost_too_often_fails_by_name, marks=SLOW),
]


@pytest.mark.parametrize(("mutant", "story"), MUTANTS)
def test_a_story_notices_when_a_rule_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    must_notice(story, mutant, monkeypatch)
