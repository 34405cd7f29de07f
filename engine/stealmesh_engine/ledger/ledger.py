"""The account of one job: what is credited, what is leased to whom, what is free.

Decides whether a contribution counts, who may work on what, and whether the job is done.
Refuses to know messages, links, workers and how anybody's results look: a partial is an
opaque blob that the caller delivers when the ledger says so.

Two ledgers with one face. In the *indexed* one the items are the integers [0, total), and
credited, free, leased and withheld intervals are disjoint and cover them at every
moment. In the *explore* one a lease is a bag of items that breed items; nobody can say in
advance what there is to do, so a holder commits (gained, remaining, split off) in one step,
and a bag whose holder is gone is redone from its last commit.

Three rules make every repetition, delay, death and false alarm harmless:

* a lease id is never used twice; it is the fencing token, and whoever names a lease that is
  not (or no longer) his own is told so (`Stale`), never ignored: a holder who is not told
  goes on with work that no longer counts (the exhaustive check in tests/worlds shows it stuck);
* a contribution names exactly what it covers and is credited only where the lease is still
  open, so a second report of an item changes nothing;
* a split is written here before the thief hears of it, so the deaths of thief and victim
  are one and the same case: a lease whose holder is gone becomes free.

Ideas: leases as fencing tokens after Chubby and Lamport's bakery of lids in X10's resilient
UTS; prefix reports after the supervision schemes of Posner and Fohry, widened from "prefix"
to "any open part", because workers of one node finish out of order and a slow item must
not hold back its neighbours' results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.ids import LeaseId, PeerId, granted_lease, root_of
from stealmesh_protocol.messages import Lease


@dataclass(slots=True)
class Credited:
    """The contribution counts for these intervals (explore: the step counts, `intervals` is empty)."""

    intervals: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Repeated:
    """Heard before, word for word; it changes nothing and nobody need be told."""


@dataclass(slots=True)
class Stale:
    """The speaker does not hold these leases: tell him, so that he lets go."""

    lids: list[LeaseId]


Verdict = Credited | Repeated | Stale


@dataclass(slots=True)
class Figures:
    """A ledger in numbers, for status and for the checkers."""

    total: int
    done: int
    leased: int
    free: int
    leases: int


@dataclass(slots=True)
class Lent:
    """An indexed lease: the items that its holder has not accounted for yet."""

    holder: PeerId
    open: IntervalSet
    deadline: float


@dataclass(slots=True)
class LentBag:
    """An explore lease: the bag as of its last commit, which is what a successor starts from."""

    holder: PeerId
    size: int
    items: bytes
    seq: int
    deadline: float


class IndexedLedger:
    """The account of the items [0, total), of which those below `released` may be leased."""

    def __init__(
        self,
        total: int = 0,
        released: int = 0,
        *,
        whole_parts: bool = False,
        name: Callable[[int], LeaseId] = granted_lease,
    ) -> None:
        assert 0 <= released <= total
        self._name = name
        """The id of the how-manieth grant."""
        self.total = total
        self.released = released
        self.whole_parts = whole_parts
        """Partials of a reduction cannot be cut: a report counts whole or not at all."""
        self.credited = IntervalSet()
        self.free = IntervalSet([(0, released)])
        self.leases: dict[LeaseId, Lent] = {}
        self.leased = 0
        """Items under lease: the sum of the leases' open parts."""
        self.rerun = 0
        """Items that had to be leased again because their holder was gone."""
        self._by_holder: dict[PeerId, dict[LeaseId, None]] = {}
        self._grants = 0

    # -- growing

    def extend(self, total: int) -> None:
        """More items exist; they are free at once."""
        assert total >= self.total == self.released, "block-fed jobs are released as they are fed"
        self.free.add(self.total, total)
        self.total = self.released = total

    def release(self, upto: int) -> None:
        """Items below `upto` may be leased from now on."""
        upto = min(upto, self.total)
        if upto > self.released:
            self.free.add(self.released, upto)
            self.released = upto

    # -- leasing

    def lease(
        self, holder: PeerId, deadline: float, *, items_max: int | None = None
    ) -> Lease | None:
        """Lease the first free interval (at most `items_max` of it); None when nothing is free."""
        taken = self.free.take_first(self.free.size if items_max is None else items_max)
        if taken is None:
            return None
        self._grants += 1
        lid = self._name(self._grants)
        assert lid not in self.leases, "a lease id was given twice"
        self.leases[lid] = Lent(holder, IntervalSet([taken]), deadline)
        self._by_holder.setdefault(holder, {})[lid] = None
        self.leased += taken[1] - taken[0]
        self._balanced()
        return Lease(lid, *taken)

    def split(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        """The holder gives up what is open in [lo, hi): it becomes free (to be leased in this same step)."""
        lent = self._lent(holder, lid)
        if lent is None:
            return Stale([lid])
        given = lent.open.overlap(lo, hi)
        for part in given:
            self._close(lid, lent, *part)
            self.free.add(*part)
        self._balanced()
        return Credited(given)

    # -- accounting

    def credit(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        """The holder has done [lo, hi): which of it counts?"""
        if lo >= hi:
            return Repeated()  # it says nothing
        lent = self._lent(holder, lid)
        if lent is None:
            # A lease that is used up is forgotten. If all that it speaks of is credited, then this
            # is a repeat, not a dispute; otherwise the speaker must let go.
            return Repeated() if self.credited.covers(lo, hi) else Stale([lid])
        counts = lent.open.overlap(lo, hi)
        if not counts:
            return Repeated()
        if self.whole_parts and counts != [(lo, hi)]:
            # What still counts of it has to be done again: the holder believes that it is finished.
            for part in counts:
                self._close(lid, lent, *part)
                self.free.add(*part)
                self.rerun += part[1] - part[0]
            self._balanced()
            return Repeated()
        for part in counts:
            self._close(lid, lent, *part)
            self.credited.add(*part)
        self._balanced()
        return Credited(counts)

    def settle(self, lo: int, hi: int) -> dict[PeerId, list[tuple[int, int]]]:
        """[lo, hi) is done, as another account of the same job says; the caller has made sure that
        none of it is credited here. Returns who was leased which of it."""
        assert not self.credited.overlap(lo, hi), "an item was credited twice"
        return self.cancel(lo, hi)

    def adopt(
        self, holder: PeerId, lid: LeaseId, lo: int, hi: int, deadline: float
    ) -> list[tuple[int, int]]:
        """The holder says that a former ledger leased it [lo, hi): what is free of it is its own.

        Not under an id that another holder has here, or that we have yet to give: two former ledgers that
        did not know of each other may have used it both (terms.py).
        """
        lent = self.leases.get(lid)
        if (lent.holder != holder) if lent is not None else self._is_to_come(lid):
            return []
        adopted = self.free.overlap(lo, hi)
        if not adopted:
            return []
        if lent is None:
            lent = self.leases[lid] = Lent(holder, IntervalSet(), deadline)
            self._by_holder.setdefault(holder, {})[lid] = None
        for part in adopted:
            self.free.remove(*part)
            lent.open.add(*part)
            self.leased += part[1] - part[0]
        self._balanced()
        return adopted

    def cancel(self, lo: int, hi: int) -> dict[PeerId, list[tuple[int, int]]]:
        """Nobody wants [lo, hi) any more: it counts as done. Returns who was leased which of it."""
        told: dict[PeerId, list[tuple[int, int]]] = {}
        for part in self.free.overlap(lo, hi):
            self.free.remove(*part)
            self.credited.add(*part)
        for lid, lent in list(self.leases.items()):
            for part in lent.open.overlap(lo, hi):
                told.setdefault(lent.holder, []).append(part)
                self._close(lid, lent, *part)
                self.credited.add(*part)
        self._balanced()
        return told

    # -- holders

    def fence(self, holder: PeerId) -> int:
        """The holder is gone: its leases end and their open parts are free. Returns how many items."""
        return sum(self.revoke(lid) for lid in list(self._by_holder.get(holder, ())))

    def revoke(self, lid: LeaseId) -> int:
        """End one lease; its open part is free again."""
        lent = self.leases[lid]
        parts = list(lent.open)
        freed = lent.open.size
        for part in parts:
            self._close(lid, lent, *part)
            self.free.add(*part)
        self.rerun += freed
        self._balanced()
        return freed

    def renew(self, holder: PeerId, lids: list[LeaseId], deadline: float) -> list[LeaseId]:
        """The holder names what it believes to hold; returns those that it does not hold."""
        stale = []
        for lid in lids:
            lent = self._lent(holder, lid)
            if lent is None:
                stale.append(lid)
            else:
                lent.deadline = deadline
        return stale

    def expired(self, now: float) -> list[tuple[LeaseId, PeerId]]:
        return [(lid, lent.holder) for lid, lent in self.leases.items() if lent.deadline <= now]

    def holders(self) -> list[PeerId]:
        return [holder for holder, lids in self._by_holder.items() if lids]

    def held_by(self, holder: PeerId) -> list[LeaseId]:
        return list(self._by_holder.get(holder, ()))

    def load_of(self, holder: PeerId) -> int:
        """How many leases the holder has."""
        return len(self._by_holder.get(holder, ()))

    @property
    def has_free(self) -> bool:
        return bool(self.free)

    @property
    def complete(self) -> bool:
        """Every item that exists so far is credited."""
        return self.credited.size == self.total

    def figures(self) -> Figures:
        return Figures(
            self.total, self.credited.size, self.leased, self.free.size, len(self.leases)
        )

    # -- inside

    def _is_to_come(self, lid: LeaseId) -> bool:
        """Will a later grant have this id?"""
        following = self._name(self._grants + 1)
        return root_of(lid) == root_of(following) and lid >= following

    def _lent(self, holder: PeerId, lid: LeaseId) -> Lent | None:
        lent = self.leases.get(lid)
        return lent if lent is not None and lent.holder == holder else None

    def _close(self, lid: LeaseId, lent: Lent, lo: int, hi: int) -> None:
        """[lo, hi) leaves the lease; a lease with nothing open ends."""
        lent.open.remove(lo, hi)
        self.leased -= hi - lo
        if not lent.open:
            del self.leases[lid]
            lids = self._by_holder[lent.holder]
            del lids[lid]
            if not lids:
                del self._by_holder[lent.holder]

    def _balanced(self) -> None:
        """The cheap half of the invariant, after every transition; `audit` is the whole of it."""
        assert (
            self.credited.size + self.free.size + self.leased + self.total - self.released
            == self.total
        ), "items were lost or doubled in the ledger"

    def audit(self) -> None:
        """Free, leased, credited and withheld items are disjoint and cover [0, total)."""
        everything = IntervalSet([(self.released, self.total)])
        for some in (self.credited, self.free, *(lent.open for lent in self.leases.values())):
            for lo, hi in some:
                assert not everything.overlap(lo, hi), f"[{lo}, {hi}) is accounted for twice"
                everything.add(lo, hi)
        assert everything == IntervalSet([(0, self.total)]), "an item is in no account"
        for holder, lids in self._by_holder.items():
            assert lids, "a holder of nothing is remembered"
            assert all(self.leases[lid].holder == holder for lid in lids)
        assert sum(map(len, self._by_holder.values())) == len(self.leases)
        self._balanced()


class ExploreLedger:
    """The account of bags of items that breed items; the total is not known before the end."""

    def __init__(self) -> None:
        self.leases: dict[LeaseId, LentBag] = {}
        self.free: deque[tuple[int, bytes]] = deque()
        """Bags without a holder: (items, blob)."""
        self.done = 0
        """Items visited, over all credited steps."""
        self.rerun = 0
        """Bags that had to be leased again because their holder was gone."""
        self._by_holder: dict[PeerId, dict[LeaseId, None]] = {}
        self._grants = 0
        self._born: dict[LeaseId, LeaseId] = {}
        """Granted lease → the newest bag split off under it that has come to our knowledge."""

    def put(self, size: int, items: bytes) -> None:
        """A new bag (the roots)."""
        self.free.append((size, items))

    def lease(self, holder: PeerId, deadline: float) -> tuple[Lease, bytes] | None:
        """Lease the first free bag; None when there is none."""
        if not self.free:
            return None
        size, items = self.free.popleft()
        self._grants += 1
        lid = granted_lease(self._grants)
        self._enter(lid, LentBag(holder, size, items, 0, deadline))
        return Lease(lid, 0, size), items

    def split(self, holder: PeerId, lid: LeaseId) -> Verdict:
        """The holder gives the whole bag up: it is free (to be leased in this same step)."""
        if self._lent(holder, lid) is None:
            return Stale([lid])
        bag = self._leave(lid)
        self.free.appendleft((bag.size, bag.items))
        return Credited()

    def commit(
        self,
        holder: PeerId,
        lid: LeaseId,
        seq: int,
        *,
        gained: int,
        remaining: int,
        rest: bytes,
        children: list[tuple[Lease, bytes]],
        deadline: float,
    ) -> Verdict:
        """One atomic step: `gained` items are done, `rest` remains, the children are bags of their own.

        A holder's steps arrive in order and without gaps. One that skips a number or names a
        child by an id that is taken or not its own to choose is confused or rude: it is told to
        let go, like any other speaker for a lease that it does not hold.
        """
        bag = self._lent(holder, lid)
        if bag is not None and seq <= bag.seq:
            return Repeated()
        root = root_of(lid)
        names = {child.lid for child, _ in children}
        taken = len(names) < len(children) or any(
            name in self.leases or name == root or root_of(name) != root for name in names
        )
        if bag is None or seq != bag.seq + 1 or taken:
            return Stale([lid, *(child.lid for child, _ in children)])
        if names:
            self._born[root] = max(names)
        self.done += gained
        bag.seq, bag.size, bag.items, bag.deadline = seq, remaining, rest, deadline
        if not remaining:
            self._leave(lid)
        for child, items in children:
            self._enter(child.lid, LentBag(holder, child.hi, items, 0, deadline))
        return Credited()

    def fence(self, holder: PeerId) -> int:
        return sum(self.revoke(lid) for lid in list(self._by_holder.get(holder, ())))

    def revoke(self, lid: LeaseId) -> int:
        bag = self._leave(lid)
        self.free.appendleft((bag.size, bag.items))
        self.rerun += 1
        return 1

    def renew(self, holder: PeerId, lids: list[LeaseId], deadline: float) -> list[LeaseId]:
        """As in the indexed ledger, but for bags of which no commit has told yet: a beat may overtake
        the commit that makes them known, and that commit will be answered in any case."""
        stale = []
        for lid in lids:
            bag = self._lent(holder, lid)
            if bag is not None:
                bag.deadline = deadline
            elif lid <= self._born.get(root_of(lid), root_of(lid)):
                stale.append(lid)
        return stale

    def expired(self, now: float) -> list[tuple[LeaseId, PeerId]]:
        return [(lid, bag.holder) for lid, bag in self.leases.items() if bag.deadline <= now]

    def holders(self) -> list[PeerId]:
        return [holder for holder, lids in self._by_holder.items() if lids]

    def held_by(self, holder: PeerId) -> list[LeaseId]:
        return list(self._by_holder.get(holder, ()))

    def load_of(self, holder: PeerId) -> int:
        """How many leases the holder has."""
        return len(self._by_holder.get(holder, ()))

    @property
    def has_free(self) -> bool:
        return bool(self.free)

    @property
    def complete(self) -> bool:
        return not self.leases and not self.free

    def figures(self) -> Figures:
        leased = sum(bag.size for bag in self.leases.values())
        free = sum(size for size, _ in self.free)
        return Figures(self.done + leased + free, self.done, leased, free, len(self.leases))

    def audit(self) -> None:
        for holder, lids in self._by_holder.items():
            assert lids, "a holder of nothing is remembered"
            assert all(self.leases[lid].holder == holder for lid in lids)
        assert sum(map(len, self._by_holder.values())) == len(self.leases)
        assert all(bag.size > 0 for bag in self.leases.values())

    def _lent(self, holder: PeerId, lid: LeaseId) -> LentBag | None:
        bag = self.leases.get(lid)
        return bag if bag is not None and bag.holder == holder else None

    def _enter(self, lid: LeaseId, bag: LentBag) -> None:
        self.leases[lid] = bag
        self._by_holder.setdefault(bag.holder, {})[lid] = None

    def _leave(self, lid: LeaseId) -> LentBag:
        bag = self.leases.pop(lid)
        lids = self._by_holder[bag.holder]
        del lids[lid]
        if not lids:
            del self._by_holder[bag.holder]
        return bag


Ledger = IndexedLedger | ExploreLedger
