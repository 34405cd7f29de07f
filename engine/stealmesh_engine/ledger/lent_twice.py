"""The account of a job that lends some items twice: `options(speculate=True)`.

Decides what a report, a loss and a cancellation mean where two holders have an item. Refuses to know which items
are lent twice, and why (speculation.py).

* The first result of an item counts, from either holder. The other holder has nothing any more.
* An item that one of its holders has lost, gives away or puts off is not free: the other one goes on alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.ledger.indexed import IndexedLedger, Lent
from stealmesh_engine.ledger.job_ledger import Grantable
from stealmesh_engine.ledger.second_copies import LentPiece, SecondCopies
from stealmesh_engine.ledger.verdicts import Credited, Stale, Verdict
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_protocol.messages import Lease


class TwiceLentLedger(IndexedLedger):
    """An indexed ledger with second copies beside its leases."""

    def __init__(self, total: int = 0, released: int = 0) -> None:
        super().__init__(total, released)
        self.copies = self._copies = SecondCopies()
        """Other ledgers may have none, and say so under the first name. This one has them, and uses the second."""

    # -- leasing

    def lent_once(self, lid: LeaseId) -> list[tuple[int, int]]:
        """What is open in this lease, and in no other."""
        mine = self.leases[lid].open
        return list(mine.minus(*(self._copies.overlap(lo, hi) for lo, hi in mine)))

    def lend_again(self, holder: PeerId, lo: int, hi: int, deadline: float) -> Grantable:
        """This holder gets [lo, hi), which another has, as well, up to the end of its block."""
        fed = self.inputs.at(lo)
        hi = hi if fed is None else min(hi, fed[0].hi)
        self._grants += 1
        lid = self._name(self._grants)
        self._copies.enter(lid, holder, lo, hi, deadline)
        lease = Lease(lid, lo, hi)
        return (lease, [], []) if fed is None else (lease, [fed[0]], [fed[1]])

    def split(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        gave = self._give_up_copies(holder, lid, lo, hi)
        verdict = super().split(holder, lid, lo, hi)
        return Credited() if gave and isinstance(verdict, Stale) else verdict

    # -- accounting

    def credit(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        for part in self._copies.under(holder, lid, lo, hi):
            self._beat([piece for piece in self.pieces(*part) if piece.holder != holder])
            self._lost(*part)  # by the first holder: now it is the lease of this one
        lent = self.lent(holder, lid)
        for part in () if lent is None else lent.open.overlap(lo, hi):
            self._copies.beat(self._copies.end(*part))
        return super().credit(holder, lid, lo, hi)

    def wait(self, lid: LeaseId, item: int, until: float) -> bool:
        if not self._copies.overlap(item, item + 1):
            return super().wait(lid, item, until)
        copy = self._copies.leases.get(lid)
        if copy is None or not self._give_up_copies(copy.holder, lid, item, item + 1):
            self._close(lid, self.leases[lid], item, item + 1)
            self._lost(item, item + 1)
        self._balanced()
        return False

    def cancel(self, lo: int, hi: int) -> dict[PeerId, list[tuple[int, int]]]:
        seconds = self._copies.end(lo, hi)
        told = super().cancel(lo, hi)
        for piece in seconds:
            told.setdefault(piece.holder, []).append((piece.lo, piece.hi))
        return told

    # -- holders

    def revoke(self, lid: LeaseId) -> int:
        self._copies.drop(lid)
        return super().revoke(lid) if lid in self.leases else 0

    def holds(self, holder: PeerId, lid: LeaseId) -> bool:
        return self._copies.of(holder, lid) is not None or super().holds(holder, lid)

    def is_open(self, holder: PeerId, lid: LeaseId, item: int) -> bool:
        return self.is_second(holder, lid, item, item + 1) or super().is_open(holder, lid, item)

    def is_second(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> bool:
        return bool(self._copies.under(holder, lid, lo, hi))

    @property
    def lids(self) -> Collection[LeaseId]:
        return self.leases.keys() | self._copies.leases.keys()

    def pieces(self, lo: int, hi: int) -> list[LentPiece]:
        return [*super().pieces(lo, hi), *self._copies.pieces(lo, hi)]

    def out(self) -> Counter[PeerId]:
        return super().out() + Counter(copy.holder for copy in self._copies.leases.values())

    def holders(self) -> list[PeerId]:
        seconds = (copy.holder for copy in self._copies.leases.values())
        return list(dict.fromkeys([*super().holders(), *seconds]))

    def held_by(self, holder: PeerId) -> list[LeaseId]:
        return list(dict.fromkeys([*self._copies.held_by(holder), *super().held_by(holder)]))

    def born(self, lid: LeaseId) -> float:
        return super().born(lid) if lid in self.leases else self._copies.leases[lid].born

    def renew(self, holder: PeerId, lids: list[LeaseId], deadline: float) -> list[LeaseId]:
        seconds = {lid for lid in lids if self._copies.renew(holder, lid, deadline)}
        return [lid for lid in super().renew(holder, lids, deadline) if lid not in seconds]

    def expired(self, now: float) -> list[tuple[LeaseId, PeerId]]:
        firsts = super().expired(now)
        return firsts + [each for each in self._copies.expired(now) if each not in firsts]

    def postpone(self, lid: LeaseId, deadline: float) -> None:
        self._copies.postpone(lid, deadline)
        if lid in self.leases:
            super().postpone(lid, deadline)

    def forgive(self, seconds: float) -> None:
        super().forgive(seconds)
        self._copies.forgive(seconds)

    def audit(self) -> None:
        super().audit()
        twice = IntervalSet()
        for lid, copy in self._copies.leases.items():
            assert copy.open, "a second copy of nothing is remembered"
            assert lid not in self.leases or self.leases[lid].holder == copy.holder
            for lo, hi in copy.open:
                assert not twice.overlap(lo, hi), f"[{lo}, {hi}) has three copies"
                twice.add(lo, hi)
                firsts = [each for each in self.pieces(lo, hi) if each.holder != copy.holder]
                first = sum(piece.hi - piece.lo for piece in firsts)
                assert first == hi - lo, f"[{lo}, {hi}) has a second copy and no first one"

    # -- inside

    def _lost(self, lo: int, hi: int) -> None:
        """What has a second copy is not free: that is its lease now."""
        super()._lost(lo, hi)
        for piece in self._copies.end(lo, hi):
            lent = self.leases.get(piece.lid)
            if lent is None:
                lent = Lent(piece.holder, IntervalSet(), piece.deadline)
                self._enter(piece.lid, lent)
            self.free.remove(piece.lo, piece.hi)
            lent.open.add(piece.lo, piece.hi)
            self.leased += piece.hi - piece.lo

    def _beat(self, firsts: list[LentPiece]) -> None:
        """The holder of the second copies was faster."""
        for piece in firsts:
            self._close(piece.lid, self.leases[piece.lid], piece.lo, piece.hi)
        self._copies.beat(firsts)

    def _give_up_copies(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> bool:
        """The holder has no second copies of [lo, hi) any more. False: it had none."""
        given = self._copies.under(holder, lid, lo, hi)
        for part in given:
            self._copies.end(*part)
        return bool(given)
