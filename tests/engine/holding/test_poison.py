"""Items that may have killed a worker are told apart in few deaths and few turns."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.poison import PIECES, FragileItems
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease

OWNER = b"o" * 16
SPEC = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
LID = granted_lease(1)
SPAN = 400
ends = st.integers(0, SPAN)


def bags_of(count: int) -> IndexedBags:
    bags = IndexedBags(SPEC)
    bags.receive(Lease(LID, 0, count))
    return bags


@given(st.lists(st.tuples(st.booleans(), ends, ends)))
@example([(True, 0, 17), (False, 1, 1)])  # an empty interval clears nothing
def test_pieces_stay_apart_and_never_overlap(changes: list[tuple[bool, int, int]]) -> None:
    fragile = FragileItems()
    model: list[int | None] = [None] * SPAN
    """The number of the piece that each item is in."""
    pieces = 0
    for suspect, lo, hi in changes:
        if suspect and lo < hi:
            fragile.suspect(lo, hi)
            size = -(-(hi - lo) // PIECES)
            for at in range(lo, hi):
                model[at] = pieces + (at - lo) // size
            pieces += PIECES
        else:
            fragile.clear(lo, hi)
            for at in range(lo, hi):
                model[at] = None
        found: list[int | None] = [None] * SPAN
        for piece, (low, high) in enumerate(fragile):
            assert low < high
            assert found[low:high] == [None] * (high - low), "two pieces overlap"
            found[low:high] = [piece] * (high - low)
        assert [at is None for at in found] == [at is None for at in model]
        for lo in range(SPAN):
            together = fragile.together(lo, SPAN - lo)
            assert len(set(model[lo : lo + together])) == 1
            assert lo + together == SPAN or model[lo + together] != model[lo]


@pytest.mark.parametrize("guilty", [0, 1, 777, 19_999])
def test_a_guilty_item_is_alone_after_few_deaths(guilty: int) -> None:
    bags = bags_of(20_000)
    deaths = turns = 0
    while (cut := bags.cut(20_000)) is not None:
        turns += 1
        if cut.lo <= guilty < cut.hi and cut.hi - cut.lo > 1:
            deaths += 1
            bags.died(cut.lid, cut.lo, cut.hi)
        else:
            bags.finish(cut.lid, cut.lo, cut.hi)
    assert deaths <= 4
    assert turns <= 4 * PIECES + 1
    assert not bags.fragile


def test_workers_that_are_killed_from_outside_cost_few_turns() -> None:
    """A kill hits whatever runs, so a long piece sooner than a short one: one kill for every 100,000
    items that are run, over and over. Run one by one after a death, most turns were of one item."""
    chance = Random(1)
    bags = bags_of(1_000_000)
    ran = turns = 0
    next_kill = chance.randrange(200_000)
    while (cut := bags.cut(20_000)) is not None:
        turns += 1
        ran += cut.hi - cut.lo
        if ran > next_kill:
            next_kill = ran + chance.randrange(200_000)
            bags.died(cut.lid, cut.lo, cut.hi)
        else:
            bags.finish(cut.lid, cut.lo, cut.hi)
    assert turns < 1_000_000 / 20_000 * 10


def test_what_a_thief_has_taken_does_not_slow_down_who_is_left() -> None:
    bags = bags_of(1_000)
    cut = bags.cut(500)
    assert cut is not None
    bags.died(cut.lid, cut.lo, cut.hi)
    bags.give(1_000 - 10)
    assert list(bags.fragile) == [(0, 10)]
    bags.give(10)
    assert not bags.fragile


def test_pieces_of_a_lease_that_is_gone_are_forgotten() -> None:
    bags = bags_of(1_000)
    cut = bags.cut(500)
    assert cut is not None
    bags.died(cut.lid, cut.lo, cut.hi)
    bags.withdraw(0, 250)
    assert all(lo >= 250 for lo, _ in bags.fragile)
    bags.drop(LID)
    assert not bags.fragile


def test_a_chunk_whose_lease_is_gone_is_not_suspected() -> None:
    bags = bags_of(10)
    bags.cut(10)
    bags.drop(LID)
    assert not bags.died(LID, 0, 10)
    assert not bags.fragile
