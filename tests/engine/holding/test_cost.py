"""How large a chunk is, as tables of numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.holding.cost import Cost

BOUNDS: dict[str, Any] = {
    "chunk_seconds_min": 0.001,
    "chunk_seconds_max": 0.020,
    "chunk_octets_max": 192 * 1024,
}


def test_one_item_while_nothing_is_known() -> None:
    cost = Cost()
    assert not cost.known
    assert cost.chunk_items(1_000_000, 4, **BOUNDS) == 1
    assert cost.seconds(1_000_000) == 0.0


@pytest.mark.parametrize(
    ("item_seconds", "queued", "workers", "items"),
    [
        (0.001, 1_000_000, 1, 20),  # plenty to do: the longest chunk
        (0.001, 1_000_000, 64, 20),
        (0.001, 40, 1, 10),  # towards the end a quarter of what is left for each worker
        (0.001, 16, 4, 1),
        (0.00001, 1_000_000, 1, 2000),
        (0.00001, 40, 1, 40),  # never less than the shortest chunk, if there is as much
        (0.00001, 4000, 4, 250),
        (0.5, 1_000_000, 1, 1),  # a slow item goes alone
        (0.020, 1_000_000, 1, 1),
        (0.0, 5000, 3, 5000),  # too fast to be measured: all of it
        (0.001, 1, 8, 1),
    ],
)
def test_items_a_chunk(item_seconds: float, queued: int, workers: int, items: int) -> None:
    assert Cost(item_seconds).chunk_items(queued, workers, **BOUNDS) == pytest.approx(items, abs=1)


@pytest.mark.parametrize(
    ("octets_an_item", "items"), [(0, 2000), (96, 2000), (1024, 192), (192 * 1024, 1), (1 << 24, 1)]
)
def test_results_bound_the_chunk(octets_an_item: float, items: int) -> None:
    cost = Cost(0.00001, octets_an_item)
    assert cost.chunk_items(1_000_000, 1, **BOUNDS) == pytest.approx(items, abs=1)


@given(st.floats(1e-9, 1e4), st.integers(1, 10**9), st.integers(1, 1000), st.floats(0, 1e7))
def test_a_chunk_is_never_empty_and_never_more_than_there_is(
    seconds: float, queued: int, workers: int, octets: float
) -> None:
    assert 1 <= Cost(seconds, octets).chunk_items(queued, workers, **BOUNDS) <= queued


def test_the_first_measurement_counts_whole_later_ones_by_size() -> None:
    cost = Cost()
    cost.learn(1, 0.1, 10)
    assert (cost.seconds_per_item, cost.octets_per_item) == (0.1, 10)
    cost.learn(1, 0.2, 20)
    assert cost.seconds_per_item == pytest.approx(0.13)
    cost.learn(100, 1.0, 0)  # 0.01 each: a large chunk says more than one cold item
    assert cost.seconds_per_item == pytest.approx(0.13 - 0.7 * 0.12)
