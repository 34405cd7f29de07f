"""Figures from observations: percentiles, goodput over time, and the time to recover.

Pure. Times are seconds since work began to flow.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

BIN_SECONDS = 0.01
WINDOW_SECONDS = 1.0
STEP_SECONDS = 0.05


class Durations:
    """Durations, in seconds. A histogram, because there may be millions."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._bins[int(seconds / BIN_SECONDS)] += 1

    def __len__(self) -> int:
        return self._bins.total()

    def percentile(self, share: float) -> float | None:
        """The upper edge, in seconds, of the bin in which this share (0 to 1) is reached."""
        wanted = share * len(self)
        for place, so_far in _running(self._bins):
            if so_far >= wanted > 0:
                return round((place + 1) * BIN_SECONDS, 3)
        return None


def _running(bins: Counter[int]) -> list[tuple[int, int]]:
    places = sorted(bins)
    return list(zip(places, accumulate(bins[place] for place in places), strict=True))


class Goodput:
    """Useful results over time."""

    def __init__(self) -> None:
        # Arrays, because there may be millions, and the program's own memory is watched.
        self.times = array("d")
        self._sums = array("q", [0])

    def add(self, at_seconds: float, items: int = 1) -> None:
        self.times.append(at_seconds)
        self._sums.append(self._sums[-1] + items)

    @property
    def total(self) -> int:
        return self._sums[-1]

    def rate(self, begin: float, end: float) -> float:
        """Items a second in [begin, end)."""
        lo, hi = bisect_left(self.times, begin), bisect_left(self.times, end)
        return (self._sums[hi] - self._sums[lo]) / (end - begin)

    def bins(self, seconds: float, width: float) -> list[tuple[float, float]]:
        """(when a bin begins, items a second in it), from 0 on."""
        count = max(1, int(seconds / width))
        return [(k * width, self.rate(k * width, (k + 1) * width)) for k in range(count)]

    def recovered(
        self, since: float, until: float, wanted: float, window: float = WINDOW_SECONDS
    ) -> float | None:
        """Seconds until the rate was `wanted` for a whole window; None: not before `until`."""
        begin = since
        while begin + window <= until:
            if self.rate(begin, begin + window) >= wanted:
                return round(begin - since, 3)
            begin += STEP_SECONDS
        return None

    def last(self) -> float:
        return self.times[-1] if self.times else 0.0


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


class Lack:
    """The longest time for which there was too little of something.

    A lack that ends and begins again counts anew from its own beginning.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._lacking_since: float | None = None
        self._longest: float | None = None

    def look(self, now: float, *, enough: bool) -> None:
        if not enough:
            if self._lacking_since is None:
                self._lacking_since = self._since if self._longest is None else now
            return
        lasted = 0.0 if self._lacking_since is None else now - self._lacking_since
        self._longest, self._lacking_since = max(self._longest or 0.0, lasted), None

    @property
    def seconds(self) -> float | None:
        """None while it lasts, or if `look` was never called."""
        return self._longest if self._lacking_since is None else None


__all__ = ["Durations", "Goodput", "Lack", "median"]
