"""IntervalSet against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stealmesh_engine.base.intervals import IntervalSet

SPAN = 40
ends = st.integers(0, SPAN)
counts = st.integers(1, 10)


def runs(members: set[int]) -> list[tuple[int, int]]:
    """The set as sorted, maximal intervals."""
    found: list[tuple[int, int]] = []
    for member in sorted(members):
        if found and found[-1][1] == member:
            found[-1] = found[-1][0], member + 1
        else:
            found.append((member, member + 1))
    return found


class IntervalsAgainstSets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real = IntervalSet()
        self.model: set[int] = set()

    @rule(lo=ends, hi=ends)
    def add(self, lo: int, hi: int) -> None:
        self.real.add(lo, hi)
        self.model |= set(range(lo, hi))

    @rule(lo=ends, hi=ends)
    def remove(self, lo: int, hi: int) -> None:
        self.real.remove(lo, hi)
        self.model -= set(range(lo, hi))

    @rule(count=counts)
    def take_first(self, count: int) -> None:
        taken = self.real.take_first(count)
        if not self.model:
            assert taken is None
            return
        lo, hi = runs(self.model)[0]
        assert taken == (lo, min(hi, lo + count))
        self.model -= set(range(*taken))

    @rule(count=counts)
    def take_last(self, count: int) -> None:
        taken = self.real.take_last(count)
        if not self.model:
            assert taken is None
            return
        lo, hi = runs(self.model)[-1]
        assert taken == (max(lo, hi - count), hi)
        self.model -= set(range(*taken))

    @rule(lo=ends, hi=ends)
    def overlap(self, lo: int, hi: int) -> None:
        assert self.real.overlap(lo, hi) == runs(self.model & set(range(lo, hi)))

    @rule(lo=ends, hi=ends)
    def covers(self, lo: int, hi: int) -> None:
        assert self.real.covers(lo, hi) == (set(range(lo, hi)) <= self.model)

    @rule(others=st.lists(st.lists(st.tuples(ends, ends), max_size=4), max_size=3))
    def minus(self, others: list[list[tuple[int, int]]]) -> None:
        gone = {item for other in others for part in other for item in range(*part)}
        assert list(self.real.minus(*others)) == runs(self.model - gone)

    @rule()
    def copy(self) -> None:
        twin = self.real.copy()
        assert twin == self.real
        twin.add(0, SPAN + 1)
        assert twin != self.real

    @invariant()
    def looks_the_same(self) -> None:
        assert list(self.real) == runs(self.model)
        assert self.real.size == len(self.model)
        assert len(self.real) == len(runs(self.model))
        assert bool(self.real) == bool(self.model)
        if self.model:
            assert (self.real.first, self.real.end) == (min(self.model), max(self.model) + 1)


TestIntervalsAgainstSets = IntervalsAgainstSets.TestCase
TestIntervalsAgainstSets.settings = settings(max_examples=150, stateful_step_count=40)


@given(st.lists(st.tuples(ends, ends)), st.randoms(use_true_random=False))
def test_equal_sets_look_alike_whatever_the_order(
    parts: list[tuple[int, int]], rng: object
) -> None:
    shuffled = parts[:]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert IntervalSet(parts) == IntervalSet(shuffled)
    assert repr(IntervalSet(parts)) == repr(IntervalSet(shuffled))


def test_intervals_that_touch_are_one() -> None:
    assert list(IntervalSet([(0, 2), (4, 6), (2, 4)])) == [(0, 6)]


def test_a_set_is_not_a_key() -> None:
    with pytest.raises(TypeError):
        hash(IntervalSet())


def test_it_is_unequal_to_other_things() -> None:
    assert IntervalSet() != []


@pytest.mark.parametrize(
    ("lo", "hi", "found"),
    [
        (2, 4, [(2, 4)]),
        (2, 5, [(2, 4)]),
        (0, 4, [(1, 4)]),
        (2, 7, [(2, 4), (6, 7)]),
        (4, 6, []),
        (6, 9, [(6, 9)]),
        (8, 12, [(8, 9)]),
    ],
)
def test_what_of_a_set_lies_in_an_interval(lo: int, hi: int, found: list[tuple[int, int]]) -> None:
    """The cases of the quick way, which random draws may miss."""
    assert IntervalSet([(1, 4), (6, 9)]).overlap(lo, hi) == found
