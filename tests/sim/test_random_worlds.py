"""Random worlds. A failure's message is the command that repeats it."""

from __future__ import annotations

import pytest
from tests.marks import later

from stealmesh_bench.seeds import replay
from stealmesh_sim.random_worlds import run

TOGETHER = 10


@pytest.mark.parametrize("first", [1, 11, 21, 31, 41, *later(51, 61, 71, 81, 91)])
def test_random_worlds(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        outcome = run(seed)
        assert not outcome.breach, f"{outcome.breach}\n    {replay(seed)}"


@pytest.mark.parametrize(
    ("seed", "lesson"),
    [
        (100650, "who takes a leaf for one who serves is told who does"),
        (101075, "a program that hears no supernode any more beats to any that comes"),
        (101880, "and tells it of those that it misses"),
        (120201, "a leaf that holds somebody for dead tells a home that does not"),
        (150596, "an owner that only hung up, and died before it was back, is dead"),
        (120198, "a node that leaves lets its explore bags take stock first"),
    ],
)
def test_worlds_that_taught_us_something(seed: int, lesson: str) -> None:
    outcome = run(seed)
    assert not outcome.breach, f"{lesson}: {outcome.breach}\n    {replay(seed)}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_random_worlds() -> None:
    for seed in range(100_001, 101_001):
        outcome = run(seed)
        assert not outcome.breach, f"{outcome.breach}\n    {replay(seed)}"
