"""Sets of integers as sorted, disjoint, half-open intervals: the arithmetic of every account.

Decides nothing. Knows nothing of jobs or leases. Two parallel lists with bisection: an insert costs under a
microsecond at the sizes that occur (as many intervals as there are pieces of work under way). The lists are
their own canonical form: two equal sets look alike, however they came about.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class IntervalSet:
    """A set of integers; `add` and `remove` take [lo, hi) and are idempotent."""

    __slots__ = ("_highs", "_lows", "size")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.size = 0
        """How many integers are in the set."""
        for lo, hi in intervals:
            self.add(lo, hi)

    @classmethod
    def of(cls, lo: int, hi: int) -> IntervalSet:
        """The integers in [lo, hi). There is at least one."""
        one = _blank(cls)
        one._lows, one._highs, one.size = [lo], [hi], hi - lo
        return one

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._lows, self._highs, strict=True))

    def __len__(self) -> int:
        return len(self._lows)

    def __bool__(self) -> bool:
        return bool(self._lows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._lows == other._lows and self._highs == other._highs

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return "{" + ", ".join(f"[{lo}, {hi})" for lo, hi in self) + "}"

    @property
    def first(self) -> int:
        """The smallest member; the set must not be empty."""
        return self._lows[0]

    @property
    def first_end(self) -> int:
        """Where the first interval ends; the set must not be empty."""
        return self._highs[0]

    @property
    def end(self) -> int:
        """One more than the largest member; the set must not be empty."""
        return self._highs[-1]

    def copy(self) -> IntervalSet:
        twin = IntervalSet()
        twin._lows, twin._highs, twin.size = self._lows[:], self._highs[:], self.size
        return twin

    def covers(self, lo: int, hi: int) -> bool:
        """Is all of [lo, hi) in the set?"""
        if lo >= hi:
            return True
        at = bisect_right(self._lows, lo) - 1
        return at >= 0 and hi <= self._highs[at]

    def overlap(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The members in [lo, hi), as intervals."""
        found: list[tuple[int, int]] = []
        if lo >= hi:
            return found
        lows, highs = self._lows, self._highs
        at = bisect_right(highs, lo)
        # The common case by far: all of it is in one interval.
        if at < len(lows) and lows[at] <= lo and hi <= highs[at]:
            return [(lo, hi)]
        while at < len(lows) and lows[at] < hi:
            found.append((max(lo, lows[at]), min(hi, highs[at])))
            at += 1
        return found

    def minus(self, *others: Iterable[tuple[int, int]]) -> IntervalSet:
        """A new set: the members that are in none of the others."""
        rest = self.copy()
        for other in others:
            for lo, hi in other:
                rest.remove(lo, hi)
        return rest

    def add(self, lo: int, hi: int) -> None:
        if lo >= hi:
            return
        lows, highs = self._lows, self._highs
        # The common case by far: the new interval touches nothing, or only the last one.
        if not lows or lo > highs[-1]:
            lows.append(lo)
            highs.append(hi)
            self.size += hi - lo
            return
        if lo == highs[-1]:
            highs[-1] = hi
            self.size += hi - lo
            return
        left = bisect_left(highs, lo)
        right = bisect_right(lows, hi)
        if left + 1 == right:
            # Nearly always, then: one interval grows.
            self.size -= highs[left] - lows[left]
            if lo < lows[left]:
                lows[left] = lo
            if hi > highs[left]:
                highs[left] = hi
            self.size += highs[left] - lows[left]
            return
        if left < right:
            lo = min(lo, lows[left])
            hi = max(hi, highs[right - 1])
            self.size -= sum(highs[left:right]) - sum(lows[left:right])
        lows[left:right] = [lo]
        highs[left:right] = [hi]
        self.size += hi - lo

    def remove(self, lo: int, hi: int) -> None:
        if lo >= hi or not self._lows:
            return
        lows, highs = self._lows, self._highs
        # The common case by far: the rest of one interval, or the beginning of it.
        if lows[0] == lo and hi <= highs[0]:
            self._shorten(0, hi)
            return
        left = bisect_right(highs, lo)
        right = bisect_left(lows, hi)
        if left >= right:
            return
        if left + 1 == right and lo <= lows[left]:
            self._shorten(left, min(hi, highs[left]))
            return
        kept_lows: list[int] = []
        kept_highs: list[int] = []
        if lows[left] < lo:
            kept_lows.append(lows[left])
            kept_highs.append(lo)
        if highs[right - 1] > hi:
            kept_lows.append(hi)
            kept_highs.append(highs[right - 1])
        self.size -= sum(highs[left:right]) - sum(lows[left:right])
        self.size += sum(kept_highs) - sum(kept_lows)
        lows[left:right] = kept_lows
        highs[left:right] = kept_highs

    def take_first(self, count: int) -> tuple[int, int] | None:
        """Remove and return up to `count` members from the front, as one interval."""
        if not self._lows:
            return None
        lo, hi = self._lows[0], self._highs[0]
        if lo + count < hi:
            hi = lo + count
        if lo < hi:
            self._shorten(0, hi)
        return lo, hi

    def _shorten(self, at: int, lo: int) -> None:
        """The interval at this place begins at `lo` from now on; if it ends there, it goes."""
        lows, highs = self._lows, self._highs
        self.size -= lo - lows[at]
        if lo < highs[at]:
            lows[at] = lo
        else:
            del lows[at], highs[at]

    def take_last(self, count: int) -> tuple[int, int] | None:
        """Remove and return up to `count` members from the back, as one interval."""
        if not self._lows:
            return None
        hi = self._highs[-1]
        lo = max(hi - count, self._lows[-1])
        self.remove(lo, hi)
        return lo, hi


_blank = IntervalSet.__new__
"""Makes one without a call of `__init__`."""
