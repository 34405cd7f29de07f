"""The inputs of one job, by the items that they hold.

Decides nothing. Knows blocks and intervals, not who needs an input: the owner drops those that are
credited, a holder those that no lease spans, a replica those that have results.

Invariant: the blocks do not overlap, and are found by bisection.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.messages import Block

Input = tuple[Block, bytes]
"""A block, and the packed items [lo, hi) that it describes."""


class Blocks:
    """Blocks in the order of their items."""

    __slots__ = ("_at", "_lows", "octets")

    def __init__(self, inputs: Iterable[Input] = ()) -> None:
        self._at: dict[int, Input] = {}
        self._lows: list[int] = []
        self.octets = 0
        """Of all of them."""
        for block, blob in inputs:
            self.add(block, blob)

    def __len__(self) -> int:
        return len(self._lows)

    def __iter__(self) -> Iterator[Input]:
        return (self._at[lo] for lo in self._lows)

    def __contains__(self, lo: int) -> bool:
        """Does a block begin at this item?"""
        return lo in self._at

    @property
    def items(self) -> IntervalSet:
        """The items with an input here."""
        return IntervalSet((block.lo, block.hi) for block, _ in self)

    @property
    def as_they_came(self) -> list[Input]:
        return list(self._at.values())

    def add(self, block: Block, blob: bytes) -> None:
        """A second block that begins at the same item takes the place of the first."""
        if block.lo in self._at:
            self.octets -= len(self._at[block.lo][1])
        else:
            insort(self._lows, block.lo)
        self.octets += len(blob)
        self._at[block.lo] = (block, blob)

    def at(self, item: int) -> Input | None:
        """The block that holds this item."""
        at = bisect_right(self._lows, item) - 1
        if at < 0:
            return None
        found = self._at[self._lows[at]]
        return found if found[0].hi > item else None

    def within(self, lo: int, hi: int) -> list[Input]:
        """The blocks that hold any of [lo, hi)."""
        found = []
        at = max(0, bisect_right(self._lows, lo) - 1)
        while at < len(self._lows) and self._lows[at] < hi:
            some = self._at[self._lows[at]]
            if some[0].hi > lo:
                found.append(some)
            at += 1
        return found

    def drop_covered(self, parts: Iterable[tuple[int, int]], done: IntervalSet) -> int:
        """Drop the blocks around these parts that lie in `done` as a whole. Returns their octets."""
        octets = 0
        lows = self._lows
        for lo, hi in parts:
            at = max(0, bisect_right(lows, lo) - 1)
            while at < len(lows) and lows[at] < hi:
                block, blob = self._at[lows[at]]
                if block.hi > lo and done.covers(block.lo, block.hi):
                    del self._at[lows[at]], lows[at]
                    octets += len(blob)
                else:
                    at += 1
        self.octets -= octets
        return octets

    def keep_only(self, items: IntervalSet) -> None:
        """Drop the blocks that hold none of these items."""
        for block, _ in list(self):
            if not items.overlap(block.lo, block.hi):
                self._drop(block.lo)

    def clear(self) -> None:
        self.octets = 0
        self._at.clear()
        self._lows.clear()

    def _drop(self, lo: int) -> None:
        self.octets -= len(self._at.pop(lo)[1])
        del self._lows[bisect_right(self._lows, lo) - 1]
