"""The calls of an actor that a node holds: they leave in order, or all at once.

Decides that a call which waits for a value holds up those behind it, in its own lease and in later ones, and
that everything goes back together when a life is over. Refuses to know lives and processes (`actors.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from stealmesh_engine.holding.bags import Cut
from stealmesh_engine.holding.indexed_bags import HeldLease, IndexedBags
from stealmesh_protocol.ids import LeaseId
from stealmesh_protocol.messages import Lease


class ActorBags(IndexedBags):
    """The leases of one actor."""

    def cut(self, items: int, behind: int = 0) -> Cut | None:
        del behind  # its calls follow none
        for lid, held, ready in self._in_order():
            if ready:
                return self._cut_off(lid, held, min(items, ready))
        return None

    @property
    def queued_items(self) -> int:
        """Those that may run now."""
        return sum(ready for _, _, ready in self._in_order())

    def give(self, items: int) -> list[Lease]:
        """All that no worker has, no matter how many."""
        for held in self.leases.values():
            self.untouched += held.go_on()
        return super().give(self.untouched)

    def _in_order(self) -> Iterator[tuple[LeaseId, HeldLease, int]]:
        """Each lease, with how many of its untouched calls come before the first that waits."""
        for lid, held in self.leases.items():
            if not held.waiting:
                yield lid, held, held.untouched.size
                continue
            first = held.waiting.first
            yield lid, held, sum(hi - lo for lo, hi in held.untouched.overlap(0, first))
            return
