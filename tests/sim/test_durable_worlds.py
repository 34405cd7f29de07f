"""Random worlds with durable jobs. A failure's message is the command that repeats it."""

from __future__ import annotations

import pytest
from tests.marks import later

from stealmesh_bench.seeds import replay
from stealmesh_sim.durable_worlds import run

FOUND = [
    5,
    38,
    42,
    1066,
    1187,
    1191,
    1196,
    1227,
    1354,
    2009,
    2022,
    4036,
    5205,
    20015,
    23071,
    24168,
    26009,
]
"""Worlds that once broke a promise, before there were durable explore jobs and calls."""
FOUND_SINCE = [5135, 5656, 5751, 5868]
TOGETHER = 5


@pytest.mark.parametrize("first", [1, 11, 21, 31, *later(6, 16, 26, 36)])
def test_random_worlds_with_durable_jobs(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        _holds(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_worlds_that_once_broke_a_promise(seed: int) -> None:
    _holds(seed, all_kinds=False)


@pytest.mark.parametrize("seed", FOUND_SINCE)
def test_worlds_with_searches_and_calls_that_once_broke_a_promise(seed: int) -> None:
    _holds(seed)


@pytest.mark.parametrize("first", [24, *later(20, 28, 32)])
def test_random_worlds_with_durable_jobs_in_slices(first: int) -> None:
    for seed in range(first, first + 4):  # 25 once broke a promise
        _holds(seed, sliced=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_random_worlds_with_durable_jobs() -> None:
    for seed in range(100_001, 101_001):
        _holds(seed)


def _holds(seed: int, *, sliced: bool = False, all_kinds: bool = True) -> None:
    outcome = run(seed, sliced=sliced, all_kinds=all_kinds)
    assert not outcome.breach, (
        f"{outcome.breach}\n    {replay(seed, 'sliced' if sliced else 'durable')}"
    )
