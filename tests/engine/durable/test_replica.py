"""Replicas of a durable job are joined like sets: no order, no repetition, no loss, nothing twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable.replica import Replica, quorum
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Keep, Kept, Part, Reign

ME = bytes(16)
CONFIGURATION = Reign(16, 1, ME, [(ME, ME)])
ITEMS = 60


def spec(kind: JobKind = JobKind.MAP) -> JobSpec:
    return JobSpec(ME + b"\0\0\0\1", kind, ME, "job", ME, term=16)


def result(lo: int, hi: int, kind: JobKind = JobKind.MAP) -> Keep:
    part = Part(1, lo, hi, 0, 0.0)
    blob = b"%d-%d" % (lo, hi)
    return Keep(spec(kind), CONFIGURATION, results=[Kept(lo, hi, part)], blobs=[blob], total=ITEMS)


def block(lo: int, hi: int) -> Keep:
    return Keep(spec(), CONFIGURATION, blocks=[Block(lo, hi, 0)], blobs=[b"items"])


intervals = st.tuples(st.integers(0, ITEMS - 1), st.integers(1, 12)).map(
    lambda pair: (pair[0], min(ITEMS, pair[0] + pair[1]))
)
blocks = st.integers(0, ITEMS // 5 - 1).map(lambda number: block(5 * number, 5 * number + 5))
"""A job's blocks follow each other: no two of them ever overlap."""
words = st.lists(st.one_of(intervals.map(lambda i: result(*i)), blocks), max_size=25)


def joined(said: list[Keep], kind: JobKind = JobKind.MAP) -> Replica:
    replica = Replica(spec(kind), CONFIGURATION)
    for keep in said:
        replica.join(keep)
        replica.audit()
    return replica


@given(words, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(said: list[Keep], rng: object) -> None:
    shuffled = [*said, *said[::2]]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = joined(said), joined(shuffled)
    assert one.covered == other.covered
    assert one.total == other.total


@given(words, words)
def test_what_one_lacks_of_the_other_makes_them_equal(mine: list[Keep], theirs: list[Keep]) -> None:
    a, b = joined(mine), joined(theirs)
    fed = IntervalSet((lo.lo, lo.hi) for lo, _ in b.blocks)
    for page in b.pages(*a.lacks(b.covered, fed), functions=False):
        a.join(page)
    a.audit()
    both = joined(mine + theirs)
    assert a.covered == both.covered
    assert a.total >= both.total or a.total == max(a.total, b.total)


@given(st.lists(intervals, max_size=25))
def test_partials_count_whole_or_not_at_all(said: list[tuple[int, int]]) -> None:
    replica = joined([result(*each, JobKind.REDUCE) for each in said], JobKind.REDUCE)
    for lo, hi in replica.covered:
        for kept, _ in replica.following(lo, IntervalSet()):
            assert (kept.lo, kept.hi) == (kept.part.lo, kept.part.hi)
            if kept.hi >= hi:
                break


@given(st.lists(intervals, max_size=25), st.integers(0, ITEMS))
def test_results_follow_each_other_without_gaps(said: list[tuple[int, int]], lo: int) -> None:
    replica = joined([result(*each) for each in said])
    position = lo
    for kept, _ in replica.following(lo, IntervalSet()):
        assert kept.lo <= position < kept.hi
        position = kept.hi
    assert position == ITEMS or not replica.covered.covers(position, position + 1)


def test_what_was_collected_makes_room() -> None:
    replica = joined([result(lo, lo + 10) for lo in range(0, 60, 10)])
    before = replica.octets
    replica.raise_floor(25)
    replica.audit()
    assert replica.octets < before
    assert [kept.lo for kept, _ in replica.following(20, IntervalSet())] == [20, 30, 40, 50]
    assert replica.following(0, IntervalSet()) == []


def test_unsafe_results_are_not_read() -> None:
    replica = joined([result(0, 10), result(10, 20)])
    assert [kept.lo for kept, _ in replica.following(0, IntervalSet([(12, 13)]))] == [0]


def test_items_without_input_and_without_result_are_lost() -> None:
    replica = joined([block(0, 10), block(20, 30), result(30, 35)])
    replica.total = 40
    assert replica.unbacked == [(10, 20), (35, 40)]


def test_any_quorum_meets_any_two_holders() -> None:
    for seats in range(1, 8):
        assert quorum(seats) + min(2, seats) > seats
