"""The values that are whole at a peer: how many octets they are, and which copy goes first to make room.

Decides that beyond the bound a copy goes that nothing here needs, the one that was least recently needed
first, and only if its owner is at hand: the owner has a copy of its own, so the last one never goes. Refuses
to know where the octets lie: what is needed and does not fit into memory, the host puts on disk.

Idea: a cache's least recently used entry goes first; what is pinned stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from stealmesh_protocol.ids import LeaseId, ValueId


class Needed(Protocol):
    """What the work that is here needs (`holding` knows it)."""

    def in_use(self) -> set[ValueId]:
        """These must stay: items that are here need them."""

    def will_end(self) -> bool:
        """Does something run, or can it run, whose values will be free then?"""

    def is_idle(self) -> bool:
        """Has a worker nothing to do, or are there none?"""


class NothingNeeded:
    """Of a peer that has no work."""

    def in_use(self) -> set[ValueId]:
        return set()

    def will_end(self) -> bool:
        return False

    def is_idle(self) -> bool:
        return True


class Stored:
    """Values that are whole here."""

    def __init__(self, octets_max: int) -> None:
        self._octets_max = octets_max
        """0: no bound."""
        self.whole: dict[ValueId, int] = {}
        """Value → octets; the least recently needed first."""
        self.made: dict[ValueId, tuple[int, LeaseId]] = {}
        """Results that were made here → octets and making. Others may take them, and work here may not, before
        their owner has said that it was this making that counted."""
        self.makings: dict[ValueId, LeaseId] = {}
        """Of the results that are whole here."""
        self.octets = 0
        self.fetched_octets = 0
        """Of all copies that ever came."""
        self.lost_octets = 0
        """Of values that were needed here and are gone for good."""
        self.dropped_octets = 0
        """Of copies that went to make room."""
        self.needed: Needed = NothingNeeded()

    def add(self, value: ValueId, octets: int, making: LeaseId = 0) -> None:
        self.remove(value)
        self.whole[value] = octets
        self.octets += octets
        if making:
            self.makings[value] = making

    def remove(self, value: ValueId) -> bool:
        """False: it was not here."""
        octets = self.whole.pop(value, None)
        self.octets -= octets or 0
        self.makings.pop(value, None)
        return octets is not None

    def make(self, value: ValueId, octets: int, making: LeaseId) -> None:
        """A worker here has made this. It takes the place of what there was under this name."""
        if value in self.whole:
            self.add(value, octets, making)
            return
        self.unmake(value)
        self.made[value] = octets, making
        self.octets += octets

    def unmake(self, value: ValueId) -> bool:
        octets, _ = self.made.pop(value, (0, 0))
        self.octets -= octets
        return octets > 0

    def confirm(self, value: ValueId, making: LeaseId) -> int:
        """This making counts. Returns how large it is; 0: it is not here."""
        octets, made = self.made.get(value, (0, 0))
        if made != making:
            return 0
        self.unmake(value)
        self.add(value, octets, making)
        return octets

    def served(self, value: ValueId, making: LeaseId) -> int:
        """How many octets of this making others can take here."""
        if value in self.whole:
            return self.whole[value] if self.makings.get(value, 0) == making else 0
        octets, made = self.made.get(value, (0, 0))
        return octets if made == making else 0

    def used(self, value: ValueId) -> None:
        """Something needs it now."""
        self.whole[value] = self.whole.pop(value)

    def exceeds(self, coming: int) -> bool:
        """Is there no room for so much more?"""
        return 0 < self._octets_max < self.octets + coming

    def to_drop(self, coming: int, spared: Callable[[ValueId], bool]) -> Iterator[ValueId]:
        """Copies that go so that this has room; they are not here any more."""
        if not self.exceeds(coming):
            return
        in_use = self.needed.in_use()
        for value in [each for each in self.whole if each not in in_use]:
            if not self.exceeds(coming):
                return
            if not spared(value):
                self.dropped_octets += self.whole[value]
                self.remove(value)
                yield value

    def audit(self) -> None:
        made = sum(octets for octets, _ in self.made.values())
        assert self.octets == sum(self.whole.values()) + made, "octets are counted wrongly"
        assert not self.whole.keys() & self.made.keys(), "a value is here twice"
        assert self.makings.keys() <= self.whole.keys(), "a making without a value"
