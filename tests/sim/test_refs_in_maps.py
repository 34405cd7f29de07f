"""Refs in results of `map`: their values live as long as the program has them, beyond the map and its end.

Each story is told in a virtual mesh, and each rule has a mutant that a story notices.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from stealmesh_engine.events import CancelItems, Feed
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_protocol.messages import Block
from stealmesh_sim.process import Process
from stealmesh_sim.read_maps import VirtualReader
from stealmesh_sim.work import block_blob

from .scenes import Scene, must_notice, scene

SLOW = pytest.mark.slow
CRASHES_MAX = 3
"""With one more a value may be lost too often (attempts_max), and that is another story (test_kept.py)."""


def reader(told: Scene, items: int = 30, **more: object) -> VirtualReader:
    return VirtualReader(told.world, told.client, items, **more)  # type: ignore[arg-type]


def nothing_is_left(told: Scene, reading: VirtualReader, within: float = 30.0) -> None:
    keeping = told.world.checkers.values.still_keeping
    told.until(lambda: not keeping(told.client.member.id), within=within)
    told.until(lambda: reading.done_at is not None, within=within)
    holding = told.world.checkers.still_holding
    told.until(lambda: not holding(reading.job), within=20.0)


def only_copies(told: Scene, reading: VirtualReader, victim: Process) -> list[bytes]:
    """What the program has and nobody but the victim."""
    accounts = told.client.core.values.directory.accounts
    return [value for value in reading.held if list(accounts[value].copies) == [victim.member.id]]


@pytest.mark.parametrize("fed", [False, True])
def test_values_outlive_the_map_that_made_them(fed: bool) -> None:
    told = scene(3)
    reading = reader(told, fed=fed)
    told.until(lambda: reading.has_left)
    told.run(1.0)
    assert len(reading.held) == 30
    reading.want(reading.held[7])
    told.until(lambda: reading.has(reading.held[7]))
    assert reading.done_at is None
    for value in reading.held[:29]:
        reading.drop(value)
    told.run(1.0)
    assert reading.done_at is None
    assert len(told.client.core.values.directory.accounts) == 1
    reading.drop_all()
    nothing_is_left(told, reading)
    assert not told.counted("values-made-again")


@pytest.mark.parametrize("fed", [False, True])
def test_a_lost_value_of_a_map_that_was_left_is_made_again(fed: bool) -> None:
    """The program has left it half read. What nobody wanted of it does not run because of that."""
    told = scene(3)
    reading = reader(told, 60, reads=20, fed=fed)
    told.until(lambda: reading.has_left)
    told.run(0.5)
    assert 20 <= len(reading.held) < 60
    victim = max(told.nodes[1:], key=lambda node: len(only_copies(told, reading, node)))
    lost = only_copies(told, reading, victim)
    assert lost
    told.world.crash(victim)
    for value in lost:
        reading.want(value)
    told.until(lambda: all(reading.has(value) for value in lost))
    assert told.counted("values-made-again") == len(lost)
    reading.drop_all()
    nothing_is_left(told, reading)


def test_what_is_fed_after_the_end_of_the_reading_is_not_run() -> None:
    """Another thread reads the input, and does not know yet."""
    told = scene(2)
    reading = reader(told, 30, fed=True)
    told.until(lambda: reading.has_left)
    told.run(0.5)
    ran = sum(node.items for node in told.nodes)
    told.client.hear(
        Feed(reading.job, Block(30, 35, 1, ()), block_blob(reading.work.number, 30, 35))
    )
    told.run(1.0)
    assert sum(node.items for node in told.nodes) == ran
    reading.drop_all()
    nothing_is_left(told, reading)


def test_a_map_that_is_left_while_a_value_is_made_again() -> None:
    """The end of the reading does not take back what is under way for a Ref that the program has."""
    told = scene(3)
    reading = reader(told, 30, reads=31)
    told.until(lambda: len(reading.held) == 30)
    lost = only_copies(told, reading, told.nodes[1])
    told.world.crash(told.nodes[1])
    told.until(lambda: bool(told.client.core.owner.jobs[reading.job].ledger.again))  # type: ignore[attr-defined]
    reading.leave()
    for value in lost:
        reading.want(value)
    told.until(lambda: all(reading.has(value) for value in lost))
    reading.drop_all()
    nothing_is_left(told, reading)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=SLOW) for seed in range(2, 40))])
def test_maps_are_left_and_nodes_die_at_any_moment(seed: int) -> None:
    rng = Random(seed)
    told = scene(rng.randint(3, 5), seed=seed)
    items = rng.randint(10, 60)
    reads = rng.choice((items, items + 1, rng.randint(1, items)))
    octets = rng.choice((1000, 50_000, 1_000_000))
    reading = reader(told, items, reads=reads, fed=rng.random() < 0.5, octets=octets)
    crashes = 0
    for _ in range(6):
        told.run(rng.expovariate(4.0))
        alive = [node for node in told.nodes if node.alive]
        if rng.random() < 0.4 and len(alive) > 2 and crashes < CRASHES_MAX:
            crashes += 1
            told.world.crash(rng.choice(alive))
            seeds = [node.member.endpoints[0] for node in told.nodes if node.alive]
            name = f"n{len(told.nodes)}+"
            told.nodes.append(told.world.node(name, seeds=seeds, workers=2))
        elif reading.held:
            value = rng.choice(reading.held)
            rng.choice((reading.want, reading.drop))(value)
    told.until(lambda: reading.has_left or reading.came == items, within=60.0)
    reading.leave()
    wanted = reading.held[:5]
    for value in wanted:
        reading.want(value)
    told.until(lambda: all(reading.has(value) for value in wanted), within=60.0)
    reading.drop_all()
    nothing_is_left(told, reading, within=60.0)


# ---------------------------------------------------------------- mutants


def ends_with_its_map(patch: pytest.MonkeyPatch) -> None:
    def cancel_items(self: Owner, event: CancelItems, now: float) -> None:
        self.abandon(self.jobs[event.job], now)

    patch.setattr(Owner, "cancel_items", cancel_items)


def takes_all_back(patch: pytest.MonkeyPatch) -> None:
    def keeps_results(self: IndexedJob) -> list[tuple[int, int]]:
        self.close_input()
        self.ledger.release(self.ledger.total)
        return [(0, self.ledger.total)]

    patch.setattr(IndexedJob, "keeps_results", keeps_results)


def forgets_what_was_not_released(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedLedger, "keep_recipe", lambda self, item, fed: None)


def runs_what_nobody_reads(patch: pytest.MonkeyPatch) -> None:
    def keeps_results(self: IndexedJob) -> list[tuple[int, int]]:
        return []

    patch.setattr(IndexedJob, "keeps_results", keeps_results)


def fed_a_range() -> None:
    test_a_lost_value_of_a_map_that_was_left_is_made_again(fed=False)


MUTANTS = [
    (ends_with_its_map, fed_a_range),
    (forgets_what_was_not_released, fed_a_range),
    (runs_what_nobody_reads, fed_a_range),
    (takes_all_back, test_a_map_that_is_left_while_a_value_is_made_again),
]


@pytest.mark.parametrize(("mutant", "story"), MUTANTS)
def test_a_story_notices_when_a_rule_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    must_notice(story, mutant, monkeypatch)
