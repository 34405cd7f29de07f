"""Jobs that are leased out in rounds, not at once: those with a bound on what runs at once, and urgent ones.

Decides how many leases such a job may have now, and how many items the next one covers. Refuses to know
which node gets it (candidates.py).

* `max_parallel=N`: N lanes. A lane is a lease. Its holder runs one chunk of it at a time, so no more than N
  items run at once, wherever thieves carry the lanes. A lane covers the items of about LANE_SECONDS: the
  next one comes when its holder reports, and cheap items must not wait for a journey each. What is cancelled
  while a holder has it takes up its lane until the holder has let go of it, and the lanes of a node that is
  gone stay empty for a moment.
* A job that is more urgent than others: if all of it went to one node, no other node would ask for it, as
  they all have work, only less urgent work. So each node has up to LEASES_A_NODE leases of it, each of them
  a share of what is left, and gets the next when it has finished one. Idea: guided self-scheduling
  (Polychronopoulos and Kuck 1987).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_protocol.messages import Lease, Part
from stealmesh_protocol.values import AGAIN

LANE_SECONDS = 0.05
LANE_ITEMS_MAX = 4096
OUTLIVES_SECONDS = 0.5
"""For this long the lanes of a node that is gone are not used again. Its workers are ended by their fork
server, which on a busy machine comes to it later than we hear of the node's death. Shorter: one item more may
run in between; longer: a lane is idle after a death."""
WEIGHT_OF_NEWEST = 0.3
LEASES_A_NODE = 2
SHARE = 2
"""A lease of an urgent job covers one part in SHARE x the number of nodes of what is left of it."""


class Turn(Protocol):
    """What a job that is leased out in rounds may have next."""

    def has_room(self, leases: Collection[LeaseId]) -> bool:
        """May there be one more lease beside these?"""

    def items(self, free: int) -> int:
        """How many of the free items the next lease covers."""


@dataclass(slots=True)
class Lingering:
    """What a holder may still be at, although the ledger counts it as done."""

    rest: IntervalSet
    until: float


@dataclass(slots=True)
class Lanes:
    """What the owner of a job with `max_parallel` remembers beside its ledger."""

    most: int
    _seconds_per_item: float | None = None
    _lingering: dict[tuple[PeerId, LeaseId], Lingering] = field(default_factory=dict)
    _outlived: dict[LeaseId, float] = field(default_factory=dict)
    """What a node had that is gone, and until when its workers may still be at it."""

    def has_room(self, leases: Collection[LeaseId]) -> bool:
        lingering = sum(1 for _, lid in self._lingering if lid not in leases)
        return len(leases) + lingering + len(self._outlived) < self.most

    def items(self, free: int) -> int:
        """At the end less, so that all lanes end together."""
        each = self._seconds_per_item
        if each is None:
            return 1
        most = LANE_ITEMS_MAX if each * LANE_ITEMS_MAX <= LANE_SECONDS else int(LANE_SECONDS / each)
        return max(1, min(most, -(-free // self.most)))

    def _learn(self, items: int, seconds: float) -> None:
        each, known = seconds / items, self._seconds_per_item
        if known is None or each > known:
            self._seconds_per_item = each  # items behind a dear one would wait for it
        else:
            self._seconds_per_item = known + WEIGHT_OF_NEWEST * (each - known)

    # ------------------------------------------------------------ what holders say

    def reported(self, holder: PeerId, parts: Iterable[Part]) -> None:
        for part in parts:
            self._heard(holder, part.lid, part.lo, part.hi)
            if part.lo < part.hi and part.codec != AGAIN:
                self._learn(part.hi - part.lo, part.seconds)

    def returned(
        self, holder: PeerId, parts: Iterable[Lease], leases: Collection[LeaseId]
    ) -> list[Lease]:
        """A holder hands these back. Returns those that are the ledger's business."""
        known = [part for part in parts if part.lid in leases or not self.lingers(holder, part.lid)]
        for part in parts:
            self._heard(holder, part.lid, part.lo, part.hi)
        return known

    # ------------------------------------------------------------ what is cancelled and may still run

    def linger(
        self, holder: PeerId, lid: LeaseId, parts: Iterable[tuple[int, int]], until: float
    ) -> None:
        """These were cancelled, and the holder has not said yet what became of them there."""
        entry = self._lingering.get((holder, lid))
        if entry is None:
            entry = self._lingering[holder, lid] = Lingering(IntervalSet(), until)
        for lo, hi in parts:
            entry.rest.add(lo, hi)

    def lingers(self, holder: PeerId, lid: LeaseId) -> bool:
        return (holder, lid) in self._lingering

    def named(self, holder: PeerId, lids: Iterable[LeaseId], until: float) -> None:
        """The holder says that it still has these."""
        for lid in lids:
            entry = self._lingering.get((holder, lid))
            if entry is not None:
                entry.until = until

    def gone(self, holder: PeerId, lids: Iterable[LeaseId], now: float) -> None:
        """The holder is gone, with these leases. Its workers may outlive it by a moment."""
        cancelled = [lid for peer, lid in self._lingering if peer == holder]
        for lid in cancelled:
            del self._lingering[holder, lid]
        self._outlived.update(dict.fromkeys([*lids, *cancelled], now + OUTLIVES_SECONDS))

    def expire(self, now: float) -> bool:
        """What no holder has named for too long is over. Returns whether that makes room."""
        over = [each for each, entry in self._lingering.items() if entry.until <= now]
        for each in over:
            del self._lingering[each]
        outlived = [lid for lid, until in self._outlived.items() if until <= now]
        for lid in outlived:
            del self._outlived[lid]
        return bool(over or outlived)

    def _heard(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> None:
        entry = self._lingering.get((holder, lid))
        if entry is not None:
            entry.rest.remove(lo, hi)
            if not entry.rest:
                del self._lingering[holder, lid]


@dataclass(slots=True, frozen=True)
class Round:
    """An urgent job in a mesh with this number of nodes that could run it."""

    nodes: int

    def has_room(self, leases: Collection[LeaseId]) -> bool:
        return len(leases) < LEASES_A_NODE * self.nodes

    def items(self, free: int) -> int:
        return -(-free // (SHARE * self.nodes))


@dataclass(slots=True)
class Priorities:
    """Those of the open jobs of one owner."""

    differ: bool = False
    """Is any job more urgent than others may be? The only question while none is."""
    _jobs: Counter[int] = field(default_factory=Counter)

    def opened(self, priority: int) -> None:
        self._jobs[priority] += 1
        self._look()

    def closed(self, priority: int) -> None:
        self._jobs[priority] -= 1
        if not self._jobs[priority]:
            del self._jobs[priority]
            self._look()

    def is_urgent(self, priority: int) -> bool:
        """Is there less urgent work? Other owners' work may be there, and is usually of priority 0."""
        return priority > min(0, *self._jobs)

    def _look(self) -> None:
        self.differ = any(self.is_urgent(priority) for priority in self._jobs)
