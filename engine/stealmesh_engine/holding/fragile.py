"""Which items may have killed a worker, and how finely they are told apart next time.

Decides into what pieces a chunk is divided that died with its worker, and how many items from a given
one on may run together. Refuses to know workers, leases and reasons (holder.py), and what a chunk costs
(cost.py).

A worker may die of an item, or of something else: the kernel wants memory, somebody kills it. So the
items of its chunk are not run one by one at once, thousands of turns for one blow from outside. They
run in sixteenths, a sixteenth that dies with its worker in sixteenths again, until an item dies alone.
A guilty one among 20,000 is alone after four deaths; when workers are killed at random, a piece is soon
too short to be hit. Idea: group testing (Dorfman 1943), with a wider split because a death costs more
than a turn.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

PIECES = 16
"""Into how many a piece is divided that died with its worker. More: fewer deaths until the guilty item
is alone, more turns for its neighbours."""


class FragileItems:
    """Disjoint pieces [lo, hi), each to be run apart from its neighbours, until it is done."""

    __slots__ = ("_highs", "_lows")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._lows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._lows, self._highs, strict=True))

    def suspect(self, lo: int, hi: int) -> None:
        """A worker died with [lo, hi): each sixteenth of it runs apart from now on."""
        assert lo < hi, "a chunk has items"
        self.clear(lo, hi)
        size = -(-(hi - lo) // PIECES)
        lows = list(range(lo, hi, size))
        at = bisect_left(self._lows, lo)
        self._lows[at:at] = lows
        self._highs[at:at] = [*lows[1:], hi]

    def clear(self, lo: int, hi: int) -> None:
        """[lo, hi) is done, or is about to be divided anew."""
        first = bisect_right(self._highs, lo)
        end = bisect_left(self._lows, hi)
        if lo >= hi or first >= end:
            return
        ends = [(self._lows[first], lo), (hi, self._highs[end - 1])]
        kept = [(low, high) for low, high in ends if low < high]
        self._lows[first:end] = [low for low, _ in kept]
        self._highs[first:end] = [high for _, high in kept]

    def together(self, lo: int, items: int) -> int:
        """How many of `items` items from `lo` on may run as one chunk."""
        at = bisect_right(self._highs, lo)
        if at == len(self._lows):
            return items
        end = self._highs[at] if self._lows[at] <= lo else self._lows[at]
        return min(items, end - lo)
