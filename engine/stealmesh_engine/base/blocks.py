"""The inputs of one job, by the items that they hold.

Decides nothing. Knows blocks and intervals, not who needs an input: the owner drops those that are
credited, a holder those that no lease spans, a replica those that have results.

A program may have a million calls that wait, each with a block of its own. So blocks lie in three lists side by side,
without a dictionary and a pair for each, and what goes near the front, as most does, does not move all behind it.

Invariant: the blocks do not overlap, and are found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.messages import Block

Input = tuple[Block, bytes]
"""A block, and the packed items [lo, hi) that it describes."""

NEAR = 1024
"""A block that is this near to the front goes by moving those before it. More: longer moves; fewer: more often all that
is behind it moves."""
TRIM_MIN = 32
_GONE = Block(0, 0, 0)


class Blocks:
    """Blocks in the order of their items."""

    __slots__ = ("_blobs", "_blocks", "_first", "_lows", "octets")

    def __init__(self, inputs: Iterable[Input] = ()) -> None:
        self._lows: list[int] = []
        self._blocks: list[Block] = []
        self._blobs: list[bytes] = []
        self._first = 0
        """What stands before this place in the lists is gone."""
        self.octets = 0
        """Of all of them."""
        for block, blob in inputs:
            self.add(block, blob)

    def __len__(self) -> int:
        return len(self._lows) - self._first

    def __iter__(self) -> Iterator[Input]:
        for at in range(self._first, len(self._lows)):
            yield self._blocks[at], self._blobs[at]

    def __contains__(self, lo: int) -> bool:
        """Does a block begin at this item?"""
        return self._place(lo) is not None

    @property
    def items(self) -> IntervalSet:
        """The items with an input here."""
        return IntervalSet((block.lo, block.hi) for block, _ in self)

    def add(self, block: Block, blob: bytes) -> None:
        """A second block that begins at the same item takes the place of the first."""
        lows, lo = self._lows, block.lo
        at = len(lows) if not lows or lo > lows[-1] else bisect_left(lows, lo, self._first)
        if at < len(lows) and lows[at] == lo:
            self.octets -= len(self._blobs[at])
            self._blocks[at], self._blobs[at] = block, blob
        else:
            lows.insert(at, lo)
            self._blocks.insert(at, block)
            self._blobs.insert(at, blob)
        self.octets += len(blob)

    def at(self, item: int) -> Input | None:
        """The block that holds this item."""
        at = bisect_right(self._lows, item, self._first) - 1
        if at < self._first:
            return None
        block = self._blocks[at]
        return (block, self._blobs[at]) if block.hi > item else None

    def within(self, lo: int, hi: int) -> list[Input]:
        """The blocks that hold any of [lo, hi)."""
        found = []
        first = max(self._first, bisect_right(self._lows, lo, self._first) - 1)
        for at in range(first, len(self._lows)):
            block = self._blocks[at]
            if block.lo >= hi:
                break
            if block.hi > lo:
                found.append((block, self._blobs[at]))
        return found

    def drop_covered(self, parts: Iterable[tuple[int, int]], done: IntervalSet) -> int:
        """Drop the blocks around these parts that lie in `done` as a whole. Returns their octets."""
        before = self.octets
        lows, blocks, blobs = self._lows, self._blocks, self._blobs
        if self._first == len(lows):
            return 0
        for lo, hi in parts:
            at = max(self._first, bisect_right(lows, lo, self._first) - 1)
            while at < len(lows) and lows[at] < hi:
                block = blocks[at]
                if block.hi <= lo or not done.covers(block.lo, block.hi):
                    at += 1
                    continue
                self.octets -= len(blobs[at])
                first = self._first
                if at - first >= min(NEAR, len(lows) - at):
                    del lows[at], blocks[at], blobs[at]
                    continue
                lows[first + 1 : at + 1] = lows[first:at]
                blocks[first + 1 : at + 1] = blocks[first:at]
                blobs[first + 1 : at + 1] = blobs[first:at]
                blocks[first], blobs[first] = _GONE, b""
                self._first, at = first + 1, at + 1
                if self._first >= TRIM_MIN and 2 * self._first >= len(lows):
                    at -= self._first
                    self._trim()
        return before - self.octets

    def keep_only(self, items: IntervalSet) -> None:
        """Drop the blocks that hold none of these items."""
        kept = [each for each in self if items.overlap(each[0].lo, each[0].hi)]
        self.clear()
        for block, blob in kept:
            self.add(block, blob)

    def clear(self) -> None:
        self.octets = self._first = 0
        self._lows.clear()
        self._blocks.clear()
        self._blobs.clear()

    # ------------------------------------------------------------ inside

    def _place(self, lo: int) -> int | None:
        """Where the block is that begins at this item."""
        at = bisect_left(self._lows, lo, self._first)
        return at if at < len(self._lows) and self._lows[at] == lo else None

    def _trim(self) -> None:
        """Half of what is in the lists is gone: take it out."""
        gone, self._first = self._first, 0
        del self._lows[:gone], self._blocks[:gone], self._blobs[:gone]
