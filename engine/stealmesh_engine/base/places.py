"""Maps intervals of integers to places.

Decides nothing. Knows nothing of jobs or leases. Parallel lists with bisection, as in `intervals.py`: a look costs
under a microsecond however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

P = TypeVar("P")


class Places(Generic[P]):
    """Disjoint intervals [lo, hi), each with its place."""

    __slots__ = ("_highs", "_lows", "_places")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._places: list[P] = []

    def __iter__(self) -> Iterator[tuple[int, int, P]]:
        return iter(zip(self._lows, self._highs, self._places, strict=True))

    def at(self, item: int) -> P | None:
        """Where it is; None: nowhere."""
        at = bisect_right(self._lows, item) - 1
        return self._places[at] if at >= 0 and item < self._highs[at] else None

    def put(self, lo: int, hi: int, place: P) -> None:
        """[lo, hi) is there from now on, and nowhere else."""
        self.remove(lo, hi)
        at = bisect_left(self._lows, lo)
        self._lows.insert(at, lo)
        self._highs.insert(at, hi)
        self._places.insert(at, place)

    def remove(self, lo: int, hi: int) -> None:
        """[lo, hi) is nowhere."""
        at = bisect_right(self._highs, lo)
        while at < len(self._lows) and self._lows[at] < hi:
            low, high, place = self._lows[at], self._highs[at], self._places[at]
            left = [(low, lo, place)] if low < lo else []
            left += [(hi, high, place)] if hi < high else []
            self._lows[at : at + 1] = [each[0] for each in left]
            self._highs[at : at + 1] = [each[1] for each in left]
            self._places[at : at + 1] = [each[2] for each in left]
            at += len(left)
