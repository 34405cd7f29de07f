"""The leases that a node holds of a job with `max_parallel`: each is a lane, with one chunk at a time.

Decides which lane a worker gets next (the first that no worker has), which ones a thief gets (whole ones that
no worker has), and what goes back to the ledger when a lane is held up. Refuses to know how many lanes there
are in the mesh: the ledger grants no more than N (`ledger/dealing.py`), so nothing here may make two of one.
"""

from __future__ import annotations

from stealmesh_engine.holding.bags import Cut
from stealmesh_engine.holding.indexed_bags import HeldLease, IndexedBags
from stealmesh_protocol.ids import LeaseId
from stealmesh_protocol.messages import Lease


class LaneBags(IndexedBags):
    """The lanes of one job that a node holds."""

    def cut(self, items: int, behind: int = 0) -> Cut | None:
        del behind  # what waits for others has no lane
        for lid, held in self.leases.items():
            if _is_idle(held):
                return self._cut_off(lid, held, items)
        return None

    def give(self, items: int) -> list[Lease]:
        """Whole lanes that no worker has, until `items` items are together (at least one lane)."""
        parts: list[Lease] = []
        for lid in reversed(list(self.leases)):
            if items <= 0:
                break
            if _is_idle(self.leases[lid]):
                items -= self.leases[lid].untouched.size
                parts += self.give_rest(lid)
        return parts

    def give_rest(self, lid: LeaseId) -> list[Lease]:
        """What no worker has of this lane goes back to the ledger."""
        held = self.leases.get(lid)
        if held is None:
            return []
        parts = [Lease(lid, lo, hi) for lo, hi in held.untouched]
        for part in parts:
            held.untouched.remove(part.lo, part.hi)
            self.untouched -= part.hi - part.lo
            self._gone(part.lo, part.hi)
        self._tidy(lid, held)
        return parts

    @property
    def queued_items(self) -> int:
        return sum(held.untouched.size for held in self.leases.values() if _is_idle(held))


def _is_idle(held: HeldLease) -> bool:
    return not held.busy and bool(held.untouched)
