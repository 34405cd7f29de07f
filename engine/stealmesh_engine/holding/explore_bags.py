"""The bags that a node holds of an explore job: opaque, handed over whole.

Decides which bag a worker gets (the newest, so that the stock stays shallow) and which ones a thief gets
(the oldest). New bags come from the worker that unpacks one: asked to share, it gives up every second item.
Refuses to know what is in a bag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stealmesh_engine.holding.bags import Bags, Cut
from stealmesh_protocol.ids import LeaseId, child_lease, root_of
from stealmesh_protocol.messages import Block, Grant, JobSpec, Lease


@dataclass(slots=True)
class HeldBag:
    """One explore bag: as it came (waiting), or with a worker (running)."""

    size: int
    items: bytes
    seq: int = 0
    running: bool = False


class ExploreBags(Bags):
    """The bags that a node holds of one explore job."""

    opaque = True
    leases: dict[LeaseId, HeldBag]

    def __init__(self, spec: JobSpec) -> None:
        super().__init__(spec)
        self._children: dict[LeaseId, int] = {}

    def take(self, grant: Grant) -> list[bool]:
        came = zip(grant.leases, grant.blobs, strict=True)
        return [self.receive(lease, items) for lease, items in came]

    def receive(self, lease: Lease, items: bytes) -> bool:
        if lease.lid in self.leases or not lease.hi:
            return False
        self.leases[lease.lid] = HeldBag(lease.hi, items)
        return True

    def spawn(self, parent: LeaseId, spares: list[tuple[int, bytes]]) -> list[Lease]:
        root = root_of(parent)
        children = []
        for size, items in spares:
            number = self._children[root] = self._children.get(root, 0) + 1
            child = Lease(child_lease(root, number), 0, size)
            self.leases[child.lid] = HeldBag(size, items)
            children.append(child)
        return children

    def waiting(self) -> Iterator[tuple[LeaseId, HeldBag]]:
        return ((lid, bag) for lid, bag in self.leases.items() if not bag.running)

    def cut(self, items: int, behind: int = 0) -> Cut | None:
        """The waiting bag that came last, whole."""
        del items, behind
        lid = next((lid for lid in reversed(self.leases) if not self.leases[lid].running), None)
        if lid is None:
            return None
        bag = self.leases[lid]
        bag.running = True
        return Cut(lid, 0, bag.size, [(Block(0, bag.size, 0), bag.items)])

    def put_back(self, lid: LeaseId, lo: int, hi: int) -> bool:
        del lo, hi
        bag = self.leases.get(lid)
        if bag is None:
            return False
        bag.running = False
        return True

    def step(self, lid: LeaseId, remaining: int, rest: bytes) -> int:
        bag = self.leases.get(lid)
        if bag is None:
            return 0
        bag.seq += 1
        bag.size, bag.items = remaining, rest
        if not remaining:
            del self.leases[lid]
        return bag.seq

    def give(self, items: int) -> list[Lease]:
        """Waiting bags, oldest first, until `items` items are together (at least one bag)."""
        parts: list[Lease] = []
        for lid, bag in list(self.waiting()):
            if items <= 0:
                break
            del self.leases[lid]
            parts.append(Lease(lid, 0, bag.size))
            items -= bag.size
        return parts

    def drop(self, lid: LeaseId) -> bool:
        return self.leases.pop(lid, None) is not None

    @property
    def queued_items(self) -> int:
        return sum(bag.size for _, bag in self.waiting())

    def audit(self, with_workers: int | None = None) -> None:
        del with_workers
        assert all(bag.size > 0 for bag in self.leases.values())
