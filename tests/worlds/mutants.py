"""Protocols that are wrong in one place each: the search must find every one of them out.

A search that finds nothing wrong proves something only if it finds what is wrong.
"""

from __future__ import annotations

from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.ledger.explore import CommittedStep, ExploreLedger
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.verdicts import Credited, Repeated, Verdict
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_protocol.messages import Lease

from .exploring import ExploreNode, ExploreOwner
from .indexed import IndexedNode, IndexedOwner
from .sides import OWNER, PEERS

# ---------------------------------------------------------------- telling the stale


class SilentOwner(IndexedOwner):
    """Does not tell a holder that a lease is not its own."""

    revokes = False


class SilentExploreOwner(ExploreOwner):
    revokes = False


class DeafNode(IndexedNode):
    """Lets nothing go."""

    forgets_revocations = True


class DeafExploreNode(ExploreNode):
    forgets_revocations = True


# ---------------------------------------------------------------- the fencing token


class ReusingLedger(IndexedLedger):
    """Names a lease after its first item: leased again, it has its old name again."""

    def lease(
        self, holder: PeerId, deadline: float, *, items_max: int | None = None
    ) -> Lease | None:
        self._grants = self.free.first
        return super().lease(holder, deadline, items_max=items_max)


# ---------------------------------------------------------------- what counts


class CreditingTheStale(IndexedLedger):
    """Credits a result under any lease and from any holder."""

    def credit(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        if self.lent(holder, lid) is None and not self.credited.overlap(lo, hi):
            self.credited.add(lo, hi)
            return Credited([(lo, hi)])
        return super().credit(holder, lid, lo, hi)


class CreditingCounts(IndexedLedger):
    """Credits a number of items: the next ones of the lease, not the ones that are named."""

    def credit(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        lent = self.lent(holder, lid)
        if lent is None:
            return super().credit(holder, lid, lo, hi)
        first = lent.open.first
        return super().credit(holder, lid, first, first + hi - lo)


# ---------------------------------------------------------------- stealing


class GenerousBags(IndexedBags):
    """Gives, and keeps what it gave."""

    def give(self, items: int) -> list[Lease]:
        parts = super().give(items)
        for part in parts:
            if part.lid in self.leases:
                self.leases[part.lid].untouched.add(part.lo, part.hi)
                self.untouched += part.hi - part.lo
        return parts


class TirelessNode(IndexedNode):
    """A worker gives back what it has not begun, and runs it as well."""

    def do_divide(self, at: int, upto: int, kept: int) -> None:
        lid, _, hi, void = self.chunks[at]
        super().do_divide(at, upto, kept)
        self.chunks[at] = (lid, upto, hi, void)


class RepetitiveNode(IndexedNode):
    """What is reported in the middle of a chunk is reported with the rest again."""

    def do_divide(self, at: int, upto: int, kept: int) -> None:
        lid, lo, _, void = self.chunks[at]
        super().do_divide(at, upto, kept)
        self.chunks[at] = (lid, lo, kept, void)


class DirectNode(IndexedNode):
    """Grants to the thief at once, under a name of its own, and tells the ledger as well."""

    def do_give(self, thief: int) -> None:
        for part in self.bags.give((self.bags.queued_items + 1) // 2):
            name = part.lid | 1 + self.number
            self.posts.append((thief, ("grant", name, part.lo, part.hi)))
            self.posts.append((OWNER, ("gave", part.lid, part.lo, part.hi, thief, name)))


class RecordingOwner(IndexedOwner):
    """Writes down what a victim has granted."""

    def told_gave(self, node: int, lid: int, lo: int, hi: int, thief: int, name: int) -> None:
        if self.done:
            return
        verdict = self.ledger.split(PEERS[node], lid, lo, hi)
        if isinstance(verdict, Credited) and verdict.intervals and self.may_be_granted(thief):
            grants, self.ledger._grants = self.ledger._grants, 1 << 20
            lease = self.ledger.lease(PEERS[thief], 0.0)
            lent = self.ledger.leases.pop(lease.lid)
            self.ledger.leases[name] = lent
            holds = self.ledger._by_holder[PEERS[thief]]
            del holds[lease.lid]
            holds[name] = None
            self.ledger._grants = grants


class UntoldNode(IndexedNode):
    """Passes its lease on to the thief and never mentions it."""

    def do_give(self, thief: int) -> None:
        for part in self.bags.give((self.bags.queued_items + 1) // 2):
            self.posts.append((thief, ("grant", part.lid, part.lo, part.hi)))


class ForgetfulLedger(IndexedLedger):
    """Loses what is split off and cannot be granted."""

    def split(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        verdict = super().split(holder, lid, lo, hi)
        if isinstance(verdict, Credited):
            for part in verdict.intervals:
                self.free.remove(*part)
        return verdict

    def _balanced(self) -> None:
        """It does not even notice."""


class ForgetfulOwner(IndexedOwner):
    """Drops what is split off when the thief is dead."""

    def told_split(self, node: int, parts: tuple[tuple[int, int, int], ...], thief: int) -> None:
        kept = self.ledger
        if not self.done and not self.may_be_granted(thief):
            kept.__class__ = ForgetfulLedger
        super().told_split(node, parts, thief)
        kept.__class__ = self.ledger_type


class OwnerTrustingTheDead(IndexedOwner):
    """Grants to a thief that it knows to be dead."""

    def may_be_granted(self, node: int) -> bool:
        return True


# ---------------------------------------------------------------- commits


class DisorderlyLedger(ExploreLedger):
    """Takes commits in any order."""

    def commit(self, holder: PeerId, lid: LeaseId, step: CommittedStep) -> Verdict:
        bag = self.lent(holder, lid)
        if bag is not None:
            bag.seq = step.seq - 1
        return super().commit(holder, lid, step)


class PartialOnlyLedger(ExploreLedger):
    """Counts what was gained and keeps the bag as it was."""

    def commit(self, holder: PeerId, lid: LeaseId, step: CommittedStep) -> Verdict:
        bag = self.lent(holder, lid)
        kept = bag.items if bag is not None else b""
        verdict = super().commit(holder, lid, step)
        if bag is not None and lid in self.leases:
            bag.items, bag.size = kept, len(kept)
        return verdict


class OrphanageLedger(ExploreLedger):
    """Takes the children in though their parent's commit was refused."""

    def commit(self, holder: PeerId, lid: LeaseId, step: CommittedStep) -> Verdict:
        verdict = super().commit(holder, lid, step)
        if not isinstance(verdict, Credited | Repeated):
            for child, items in step.children:
                self.put(child.hi, items)
        return verdict


class RepeatingExploreNode(ExploreNode):
    """Acts on every grant, also under a lease that it has long finished. A channel prevents that."""

    def first_time(self, lid: int) -> bool:
        super().first_time(lid)
        return lid not in self.bags.leases


class HastyLedger(ExploreLedger):
    """Revokes what no commit has told it of yet."""

    def renew(self, holder: PeerId, lids: list[LeaseId], deadline: float) -> list[LeaseId]:
        super().renew(holder, lids, deadline)
        return [lid for lid in lids if self.lent(holder, lid) is None]
