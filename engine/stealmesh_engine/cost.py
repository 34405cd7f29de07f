"""What an item costs, as measured so far, and how large a chunk should therefore be.

Decides the grain: how many items a worker is handed at once. One item while nothing is
known; then enough for `chunk_seconds_max`, less towards the end of the local stock so that
all workers finish together, and never more than fits into one result frame. Knows no jobs,
no clock: it is fed (items, seconds, octets) and asked for numbers.

Ideas: grain as a fraction of the remaining time after guided self-scheduling; bounds of 1
and 20 ms from the simulations in DESIGN.md section 3 (a fixed grain between 1 and 20 ms
costs 0.1 points of efficiency; 100 ms costs 0.4).
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_OF_NEWEST = 0.3


@dataclass(slots=True)
class Cost:
    """A moving average of one job's items, as seen by one node."""

    seconds_per_item: float | None = None
    octets_per_item: float = 0.0

    @property
    def known(self) -> bool:
        return self.seconds_per_item is not None

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

    def seconds(self, items: int) -> float:
        """Estimated seconds of one worker for so many items; 0 while nothing is known."""
        return items * (self.seconds_per_item or 0.0)

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
