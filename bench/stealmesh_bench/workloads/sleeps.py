"""Work of very unequal length that needs no core: skew, on machines of any size.

The lengths follow a Pareto law: most items are short, a few hold a large share of the whole.
They depend on nothing but the item's index, so that every run, on every peer, has the same
total and the same longest item, and a bad split shows as time and not as luck.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import sleep

SCALE_SECONDS = 0.001
"""The shortest sleep."""
ALPHA = 1.2
"""Tail exponent: near 1 a few items dominate, at 3 hardly any do."""
SECONDS_MAX = 0.5
"""Longer sleeps are cut here, so that no single item decides a run."""

_MASK = (1 << 64) - 1


def uniform(index: int) -> float:
    """A number in [0, 1) that looks random and is a function of `index` (SplitMix64)."""
    z = (index + 1) * 0x9E3779B97F4A7C15 & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return ((z ^ z >> 31) >> 11) / (1 << 53)


def sleep_seconds(index: int) -> float:
    """How long item `index` sleeps."""
    seconds: float = SCALE_SECONDS * (1.0 - uniform(index)) ** (-1.0 / ALPHA)
    return min(seconds, SECONDS_MAX)


def skewed_sleep(index: int) -> float:
    """Sleep as long as item `index` does; returns the length that was asked for."""
    seconds = sleep_seconds(index)
    sleep(seconds)
    return seconds


def total_seconds(indices: Iterable[int]) -> float:
    """What these items take one after the other: divided by the workers, the best possible time."""
    return sum(map(sleep_seconds, indices))
