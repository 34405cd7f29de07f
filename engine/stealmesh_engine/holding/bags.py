"""What a node holds of a job: leases, what of them is untouched, and who works on the rest.

Decides how bags split: which items a local worker gets next (the front) and which part
goes to a thief (the back, about half of the untouched rest). Refuses to know who the thief
is, what a worker is, and whether the ledger agrees: it lowers its own end first, and the
core tells the ledger in the same step.

Nothing is ever divided until a worker or a thief asks. An indexed lease is an interval from
which both ends are cut; an explore bag is opaque, so it is handed over whole, and new bags
come from the worker that unpacks one (it gives up every second item when asked to share).

Ideas: split on steal only, after lazy binary splitting (Tzannes et al.) and rayon; the
victim keeps the part that it reaches first; steal half after Hendler and Shavit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.holding.cost import Cost
from stealmesh_engine.holding.fragile import FragileItems
from stealmesh_protocol.ids import LeaseId, child_lease, root_of
from stealmesh_protocol.messages import Block, JobSpec, Lease


@dataclass(slots=True)
class Cut:
    """A piece for a worker: items [lo, hi) of one lease (explore: the whole bag)."""

    lid: LeaseId
    lo: int
    hi: int
    blocks: list[tuple[Block, bytes]]


@dataclass(slots=True)
class HeldLease:
    """One indexed lease: what of it nobody has started, and how much is with workers."""

    lo: int
    hi: int
    untouched: IntervalSet
    busy: int = 0


class IndexedBags:
    """The leases that a node holds of one indexed job."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.cost = Cost()
        self.leases: dict[LeaseId, HeldLease] = {}
        self.untouched = 0
        """Items that no worker has."""
        self.fragile = FragileItems()
        """Items that are here, of chunks that died with their worker."""
        self.inputs = Blocks()

    # -- receiving

    def receive(self, lease: Lease) -> bool:
        """Take a lease in; False when it is empty or here already (a confused owner)."""
        if lease.lid in self.leases or lease.lo >= lease.hi:
            return False
        self.leases[lease.lid] = HeldLease(lease.lo, lease.hi, IntervalSet([(lease.lo, lease.hi)]))
        self.untouched += lease.hi - lease.lo
        return True

    def put_back(self, lid: LeaseId, lo: int, hi: int) -> bool:
        """A chunk comes back unrun; False when its lease is gone meanwhile."""
        held = self.leases.get(lid)
        if held is None:
            return False
        held.busy -= hi - lo
        held.untouched.add(lo, hi)
        self.untouched += hi - lo
        return True

    def died(self, lid: LeaseId, lo: int, hi: int) -> bool:
        """A chunk comes back because its worker died of it, or beside it: its items are told apart."""
        here = self.put_back(lid, lo, hi)
        if here:
            self.fragile.suspect(lo, hi)
        return here

    # -- giving to workers

    def cut(self, items: int) -> Cut | None:
        """The first `items` untouched items of the first lease that has any; fewer, if some of them
        may have killed a worker and the others not."""
        for lid, held in self.leases.items():
            if not held.untouched:
                continue
            if self.fragile:
                items = self.fragile.together(held.untouched.first, items)
            taken = held.untouched.take_first(items)
            assert taken is not None, "the lease has untouched items"
            held.busy += taken[1] - taken[0]
            self.untouched -= taken[1] - taken[0]
            return Cut(lid, *taken, [] if self.spec.step else self.inputs.within(*taken))
        return None

    def finish(self, lid: LeaseId, lo: int, hi: int) -> bool:
        """A worker has done [lo, hi); False when the lease is gone meanwhile."""
        held = self.leases.get(lid)
        if held is None:
            return False
        held.busy -= hi - lo
        self._gone(lo, hi)
        self._tidy(lid, held)
        return True

    # -- giving to thieves and back to the ledger

    def give(self, items: int) -> list[Lease]:
        """Cut up to `items` untouched items off the back, as parts of the leases they belong to."""
        parts: list[Lease] = []
        for lid in reversed(list(self.leases)):
            held = self.leases[lid]
            while items > 0:
                taken = held.untouched.take_last(items)
                if taken is None:
                    break
                parts.append(Lease(lid, *taken))
                items -= taken[1] - taken[0]
                self.untouched -= taken[1] - taken[0]
                self._gone(*taken)
            self._tidy(lid, held)
            if items <= 0:
                break
        return parts

    def drop(self, lid: LeaseId) -> bool:
        """The lease is not ours any more; False when it was not anyway."""
        held = self.leases.pop(lid, None)
        if held is None:
            return False
        self.untouched -= held.untouched.size
        self._gone(held.lo, held.hi)
        self._tidy_blocks()
        return True

    def withdraw(self, lo: int, hi: int) -> None:
        """Nobody wants [lo, hi): what is untouched of it will not be run."""
        for lid, held in list(self.leases.items()):
            before = held.untouched.size
            held.untouched.remove(lo, hi)
            self.untouched -= before - held.untouched.size
            self._tidy(lid, held)
        self._gone(lo, hi)

    @property
    def queued_items(self) -> int:
        return self.untouched

    @property
    def queued_seconds(self) -> float:
        return self.cost.seconds(self.untouched)

    @property
    def empty(self) -> bool:
        return not self.leases

    def audit(self) -> None:
        assert self.untouched == sum(held.untouched.size for held in self.leases.values())
        assert all(held.untouched or held.busy for held in self.leases.values())

    def _gone(self, lo: int, hi: int) -> None:
        if self.fragile:
            self.fragile.clear(lo, hi)

    def _tidy(self, lid: LeaseId, held: HeldLease) -> None:
        if not held.untouched and not held.busy:
            del self.leases[lid]
            self._tidy_blocks()

    def _tidy_blocks(self) -> None:
        """Blocks that no lease spans can go; with no lease left that is all of them."""
        if not self.leases:
            self.inputs.clear()
        elif len(self.inputs) > 2 * len(self.leases) + 8:
            # Leases end roughly in the order of their blocks, so sweep only when blocks pile up.
            self.inputs.keep_only(IntervalSet((held.lo, held.hi) for held in self.leases.values()))


@dataclass(slots=True)
class HeldBag:
    """One explore bag: as it came (waiting), or with a worker (running)."""

    size: int
    items: bytes
    seq: int = 0
    running: bool = False


@dataclass(slots=True)
class ExploreBags:
    """The bags that a node holds of one explore job."""

    spec: JobSpec
    cost: Cost = field(default_factory=Cost)
    leases: dict[LeaseId, HeldBag] = field(default_factory=dict)
    _children: dict[LeaseId, int] = field(default_factory=dict)

    def receive(self, lease: Lease, items: bytes) -> bool:
        """Take a bag in; False when it is empty or here already (a confused owner)."""
        if lease.lid in self.leases or not lease.hi:
            return False
        self.leases[lease.lid] = HeldBag(lease.hi, items)
        return True

    def spawn(self, parent: LeaseId, size: int, items: bytes) -> Lease:
        """A new waiting bag, split off `parent`, under an id that only we can choose."""
        root = root_of(parent)
        number = self._children.get(root, 0) + 1
        self._children[root] = number
        child = Lease(child_lease(root, number), 0, size)
        self.leases[child.lid] = HeldBag(size, items)
        return child

    def waiting(self) -> Iterator[tuple[LeaseId, HeldBag]]:
        return ((lid, bag) for lid, bag in self.leases.items() if not bag.running)

    def cut(self, items: int) -> Cut | None:
        """The waiting bag that came last: its items are the deepest, so the stock stays shallow."""
        del items  # a bag is opaque: it goes whole
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

    died = put_back  # a bag is opaque: there are no items to tell apart

    def step(self, lid: LeaseId, remaining: int, rest: bytes) -> int:
        """A worker took stock of the bag. Returns the step's number; 0 when the bag is gone meanwhile."""
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

    @property
    def waiting_bags(self) -> int:
        return sum(1 for _ in self.waiting())

    @property
    def queued_seconds(self) -> float:
        """A lower bound: what the items will breed is not known."""
        return self.cost.seconds(self.queued_items)

    @property
    def empty(self) -> bool:
        return not self.leases

    def audit(self) -> None:
        assert all(bag.size > 0 for bag in self.leases.values())


Bags = IndexedBags | ExploreBags
