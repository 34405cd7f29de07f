"""Work is divided while it runs: in virtual time, where late means late, as the machine is not busy with other things.

The items are told apart by what they cost: next to nothing, and from a certain one on a lot. So a
node that goes by what items have cost so far hands the dear ones to one worker, and has to notice.
"""

from __future__ import annotations

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.effects import Divide
from stealmesh_engine.events import Drain
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw

from .scenes import FINE, Scene, scene

CHEAP = CostLaw("const", 0.000002)


def dear_tail(cheap: int, seconds: float) -> CostLaw:
    return CostLaw("turning", seconds / 5, turn=cheap)


def took(told: Scene, program: VirtualProgram) -> float:
    told.finish()
    assert program.done_at is not None
    assert program.opened_at is not None
    return program.done_at - program.opened_at


def first_delivery(told: Scene, program: VirtualProgram, item: int) -> float:
    """When the item came, from the opening of its job."""
    account = told.world.checkers.accounts[program.job]
    told.until(lambda: bool(account.delivered.overlap(item, item + 1)))
    assert program.opened_at is not None
    return told.world.now - program.opened_at


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT])
@pytest.mark.parametrize(("nodes", "workers"), [(1, 8), (4, 2)])
@pytest.mark.parametrize(("cheap", "dear", "seconds"), [(20_000, 40, 0.1), (2_000, 160, 0.025)])
def test_dear_items_behind_cheap_ones_are_shared(
    kind: JobKind, nodes: int, workers: int, cheap: int, dear: int, seconds: float
) -> None:
    """Row 40 of the everyday cases, for each kind of job. No schedule is quicker than 0.5 s."""
    told = scene(nodes, workers=workers)
    law = dear_tail(cheap, seconds)
    wish = Wish(kind, cheap + dear, law, told.world.now, block_items=4000)
    assert took(told, told.submit(wish)) < 0.6


def test_one_huge_item_in_the_middle_holds_up_nobody() -> None:
    """What is behind it is done by the other worker, and what is before it has long been reported."""
    told = scene(1, workers=2)
    law = CostLaw("turning", 0.4, turn=10_000)  # one of 2 s behind 10,000 of 40 microseconds
    program = told.map(10_001, law=law)
    assert first_delivery(told, program, 9_999) < 0.35
    assert took(told, program) > 2.0


def test_what_is_finished_is_reported_while_the_next_item_runs() -> None:
    """Row 41: one worker, so no other can take anything over."""
    told = scene(1, workers=1)
    program = told.map(9, law=CostLaw("turning", 0.4, turn=8))
    assert first_delivery(told, program, 7) < 0.1
    assert took(told, program) > 2.0


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_small_submit_has_its_turn_beside_a_large_job(kind: JobKind, workers: int) -> None:
    told = scene(1, workers=workers)
    told.submit(Wish(kind, 5_000_000, CHEAP, told.world.now))
    told.run(0.3)
    for _ in range(5):
        small = Wish(JobKind.SUBMIT, 1, CHEAP, told.world.now)
        program = told.submit(small)
        assert first_delivery(told, program, 0) < 0.012
        told.run(0.02)


def test_of_two_large_jobs_each_has_its_turn() -> None:
    told = scene(1, workers=2)
    one = told.map(2_000_000, law=CHEAP)
    told.run(0.3)
    other = told.map(2_000_000, law=CHEAP)
    told.run(0.5)
    checkers = told.world.checkers
    before = checkers.accounts[one.job].delivered.size
    told.run(0.5)
    done = checkers.accounts[one.job].delivered.size - before
    assert 0.4 < done * CHEAP.mean_seconds / 1.0 < 0.6, "half of two workers for half a second"
    assert checkers.accounts[other.job].delivered.size > 100_000


@pytest.mark.parametrize("workers", [1, 2])
def test_many_jobs_do_not_take_each_others_turn(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more jobs than places at workers, each took back what the one before it had been given: a
    thousand orders a second, and next to nothing was done. (tests/everyday/test_mixed_threads.py)"""
    told = scene(1, workers=workers)
    orders: list[object] = []
    kind = type(told.nodes[0].workers[0])
    run = kind.run

    def running(self: object, effect: object) -> None:
        orders.append(effect)
        run(self, effect)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "run", running)
    kinds = (JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT)
    for number in range(12):
        items = (2_000, 200_000)[number % 2]
        told.submit(Wish(kinds[number % 3], items, CHEAP, told.world.now, block_items=500))
    begun = told.world.now
    told.finish()
    busy = sum(worker.process.busy_seconds for worker in told.nodes[0].workers[:1])
    assert busy == pytest.approx(12 * 101_000 * CHEAP.mean_seconds)
    assert told.world.now - begun < 2.0 + busy / workers
    assert len(orders) < 60 + 12 * (5 + 2 * busy / 0.02)


def test_a_job_of_lower_rank_divides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scene(1, workers=1)
    asked = watch(told, monkeypatch)
    told.submit(Wish(JobKind.MAP, 5_000_000, CHEAP, told.world.now, priority=5))
    told.run(0.3)
    told.submit(Wish(JobKind.SUBMIT, 1, CHEAP, told.world.now))
    told.run(0.3)
    assert not asked


def watch(told: Scene, monkeypatch: pytest.MonkeyPatch) -> list[Divide]:
    """Every question that a node asks. (Workers have slots: their class is changed.)"""
    asked: list[Divide] = []
    kind = type(told.nodes[0].workers[0])
    divide = kind.divide

    def asking(self: object, effect: Divide) -> None:
        asked.append(effect)
        divide(self, effect)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "divide", asking)
    return asked


@pytest.mark.parametrize("law", [FINE, CHEAP])
def test_nobody_is_asked_while_all_goes_as_expected(
    law: CostLaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions cost something, so a job of even items is never asked about, not at its end either."""
    told = scene(2, workers=2)
    asked = watch(told, monkeypatch)
    told.map(int(4.0 / law.mean_seconds), law=law)
    told.finish()
    assert not asked


def test_a_chunk_of_a_fixed_size_is_not_divided_and_reports_all_the_same() -> None:
    told = scene(1, workers=2)
    wish = Wish(JobKind.MAP, 30, CostLaw("const", 0.04), told.world.now, chunk_items=30)
    program = told.submit(wish)
    assert first_delivery(told, program, 0) < 0.15
    assert took(told, program) == pytest.approx(1.2, abs=0.1)


def test_a_chunk_of_one_is_a_chunk_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scene(1, workers=2)
    sizes: list[int] = []
    kind = type(told.nodes[0].workers[0])
    run = kind.run

    def running(self: object, effect: object) -> None:
        sizes.append(effect.hi - effect.lo)  # type: ignore[attr-defined]
        run(self, effect)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "run", running)
    told.submit(Wish(JobKind.MAP, 200, CHEAP, told.world.now, chunk_items=1))
    told.finish()
    assert sizes == [1] * 200


def test_a_node_that_leaves_returns_what_it_gets_back() -> None:
    told = scene(2, workers=1)
    program = told.map(20_040, law=dear_tail(20_000, 0.1))
    told.run(0.05)
    told.world.tell(told.nodes[0], Drain())
    assert took(told, program) < 5.0
    assert told.nodes[0].left


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_dies_after_a_part_loses_only_what_it_had_not_reported(seed: int) -> None:
    """The suspects are the items without a result: here the culprit alone."""
    told = scene(1, workers=2, seed=seed)
    killers = {20_000: 1}
    wish = Wish(JobKind.MAP, 20_003, dear_tail(20_000, 0.2), told.world.now, killers=killers)
    program = told.submit(wish)
    told.finish()
    counters = told.nodes[0].core.counters
    assert counters["workers-lost"] == 1
    assert told.nodes[0].items == 20_003, "nothing but the culprit was run again"
    assert program.done


def test_prefetching_may_be_off() -> None:
    told = scene(4, workers=2, config=Config(prefetch_seconds_max=0.0))
    assert took(told, told.map(20_040, law=dear_tail(20_000, 0.1))) < 0.65
