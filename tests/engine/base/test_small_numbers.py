"""Small numbers against a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.base.small_numbers import PAGE, SmallNumbers

items = st.integers(0, 3 * PAGE)
words = st.lists(st.tuples(items, st.integers(0, 2**31)), max_size=60)


@given(words)
def test_counts_are_what_was_said_last(said: list[tuple[int, int]]) -> None:
    counts, plain = SmallNumbers(), dict[int, int]()
    for item, count in said:
        counts[item] = count
        plain[item] = count
        left = {each for each, number in plain.items() if number}
        assert set(counts) == left
        assert bool(counts) == bool(left)
        assert counts[item] == count
        assert (item in counts) == bool(count)
    for item in plain:
        counts[item] = 0
    assert not counts._pages, "a page without any goes"
