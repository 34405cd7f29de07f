"""What an item costs, as measured so far, and how large a chunk should therefore be.

Decides the grain: how many items a worker is handed at once. One item while nothing is
known; then enough for `chunk_seconds_max`, less towards the end of the local stock so that
all workers finish together, and never more than fits into one result frame. Until a first item has
ended, the time that it has run is a lower bound: work of ten minutes an item must not wait ten
minutes until it is shared. Knows no jobs, no clock: it is fed (items, seconds, octets) and asked
for numbers.

Ideas: grain as a fraction of the remaining time after guided self-scheduling; bounds of 1 and 20 ms
from simulations (a fixed grain between 1 and 20 ms costs 0.1 points of efficiency; 100 ms costs 0.4).
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_OF_NEWEST = 0.3


@dataclass(slots=True)
class Cost:
    """A moving average of one job's items, as seen by one node."""

    seconds_per_item: float | None = None
    octets_per_item: float = 0.0
    seconds_per_item_min: float = 0.0
    """What an item that has not ended has taken so far; unused once one has ended."""

    @property
    def known(self) -> bool:
        return self.seconds_per_item is not None

    @property
    def charted(self) -> bool:
        """Is anything known, if only that items are long?"""
        return self.known or self.seconds_per_item_min > 0.0

    def learn(self, items: int, seconds: float, octets: int) -> None:
        """A chunk of `items` took `seconds` and its result is `octets` long."""
        each = seconds / items
        if self.seconds_per_item is None:
            self.seconds_per_item = each
            self.octets_per_item = octets / items
            return
        # A large chunk says more than one item does: the single first item of a fast function
        # mostly measures the call of a cold function.
        weight = WEIGHT_OF_NEWEST if items < 16 else max(WEIGHT_OF_NEWEST, 0.7)
        self.seconds_per_item += weight * (each - self.seconds_per_item)
        self.octets_per_item += weight * (octets / items - self.octets_per_item)

    def stumbled(self, seconds: float) -> None:
        """One item has taken at least these seconds, in a chunk that was expected to be cheaper.

        The items behind it may be alike, so they are handed out as if they were. If they are not, a
        few of them say so: a small chunk counts for three tenths, so an estimate that is a thousand
        times too high is right again after twenty small chunks.
        """
        if self.seconds_per_item is not None and seconds > self.seconds_per_item:
            self.seconds_per_item = seconds

    def waited(self, seconds: float) -> None:
        """An item has run for these seconds, and has not ended."""
        self.seconds_per_item_min = max(self.seconds_per_item_min, seconds)

    def seconds(self, items: int) -> float:
        """Seconds that these items take one worker; a lower bound while no item has ended."""
        each = self.seconds_per_item
        return items * (self.seconds_per_item_min if each is None else each)

    def chunk_items(
        self,
        queued: int,
        workers: int,
        *,
        chunk_seconds_min: float,
        chunk_seconds_max: float,
        chunk_octets_max: int,
    ) -> int:
        """How many of `queued` items to hand to one of `workers` workers now (at least 1)."""
        if self.seconds_per_item is None:
            return 1
        share = self.seconds(queued) / (4 * workers)
        target = min(max(share, chunk_seconds_min), chunk_seconds_max)
        items = int(target / self.seconds_per_item) if self.seconds_per_item > 0 else queued
        if self.octets_per_item * items > chunk_octets_max:
            items = int(chunk_octets_max / self.octets_per_item)
        return max(1, min(items, queued))
