"""What the calls of a program need of its values, and until when.

Decides that a value stays as long as an item that needs it is not over, or a job whose functions do. Refuses
to know what a value is, and how items end: the session tells it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stealmesh.refs import Grip, grips_of
from stealmesh_protocol import limits
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import JobId, ValueId


@dataclass(slots=True)
class NeededByItems:
    """The items [lo, hi) need these."""

    lo: int
    hi: int
    grips: list[Grip]
    left: int = 0
    """How many of the items are not over."""


@dataclass(slots=True)
class NeededByJob:
    whole: list[Grip] = field(default_factory=list)
    blocks: dict[int, NeededByItems] = field(default_factory=dict)
    lows: list[int] = field(default_factory=list)
    """Of the blocks, sorted: items get their numbers in order."""

    def around(self, lo: int, hi: int) -> list[NeededByItems]:
        """The blocks that overlap [lo, hi)."""
        found = []
        at = max(0, bisect_right(self.lows, lo) - 1)
        while at < len(self.lows) and self.lows[at] < hi:
            block = self.blocks[self.lows[at]]
            if block.hi > lo:
                found.append(block)
            at += 1
        return found

    def remove(self, block: NeededByItems) -> None:
        del self.blocks[block.lo]
        self.lows.remove(block.lo)


BLOCK_NEEDS_MAX = 8
"""A block of several items that need more values is cut: all of them must be at a node before it begins."""


def must_fit_one_order(needs: Sequence[ValueId], what: str) -> None:
    """Raises CannotShip."""
    if len(needs) > limits.NEEDS_MAX:
        raise CannotShip(
            f"a call of {what} needs {len(needs)} values that live on the mesh, and {limits.NEEDS_MAX} is "
            "the most for one: scatter several of them as one list"
        )


def cut_by_needs(
    cuts: Iterable[tuple[int, int]], needs: Sequence[tuple[ValueId, ...]]
) -> list[tuple[int, int]]:
    """The same items, cut wherever one needs other values than the one before it."""
    found = []
    for lo, hi in cuts:
        start = lo
        for at in range(lo + 1, hi):
            if needs[at] != needs[at - 1]:
                found.append((start, at))
                start = at
        found.append((start, hi))
    return found


class Needs:
    """Keeps values for calls that are under way. Items of a job are held by one thread at a time."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, NeededByJob] = {}
        """Empty as long as no call needs any value: the only question then."""
        self._lock = threading.Lock()

    def hold_all(self, job: JobId, needs: tuple[ValueId, ...]) -> None:
        """Every item of the job needs these, until it is over."""
        with self._lock:
            self.jobs.setdefault(job, NeededByJob()).whole += grips_of(needs)

    def hold(self, job: JobId, lo: int, hi: int, needs: tuple[ValueId, ...]) -> None:
        """The items [lo, hi) need these. They are behind all others that were held before."""
        with self._lock:
            needed = self.jobs.setdefault(job, NeededByJob())
            needed.blocks[lo] = NeededByItems(lo, hi, grips_of(needs), hi - lo)
            needed.lows.append(lo)

    def hold_also(self, job: JobId, item: int, grip: Grip) -> None:
        """This item, alone in its block if it needs anything, needs this value as well."""
        with self._lock:
            needed = self.jobs.setdefault(job, NeededByJob())
            block = needed.blocks.get(item)
            if block is None:
                block = needed.blocks[item] = NeededByItems(item, item + 1, [], 1)
                insort(needed.lows, item)
            block.grips.append(grip)

    def of(self, job: JobId, item: int) -> list[Grip]:
        """What keeps the values that this item needs."""
        with self._lock:
            needed = self.jobs.get(job)
            if needed is None:
                return []
            found = list(needed.whole)
            for block in needed.around(item, item + 1):
                found += block.grips
            return found

    def over(self, job: JobId, lo: int, hi: int) -> None:
        """These items are delivered, or not wanted any more; each is told once."""
        gone = []
        with self._lock:
            needed = self.jobs.get(job)
            for block in () if needed is None else needed.around(lo, hi):
                block.left -= min(hi, block.hi) - max(lo, block.lo)
                if block.left <= 0:
                    assert needed is not None
                    needed.remove(block)
                    gone.append(block)
        gone.clear()  # not under the lock: the last grip of a value tells the core

    def job_over(self, job: JobId) -> None:
        with self._lock:
            gone = self.jobs.pop(job, None)
        del gone

    def clear(self) -> None:
        """The mesh is of no use any more."""
        with self._lock:
            gone, self.jobs = self.jobs, {}
        del gone
