"""The account of an indexed job: the items are the integers [0, total).

Decides which part of a report counts. Refuses to know what an item computes. It has the inputs of all items
that are not credited yet, so that they can be leased again when a holder dies.

Invariant: credited, free, leased, waiting (put_off.py) and withheld intervals are disjoint and cover [0, total)
at every moment. Withheld is what lies beyond `released`, and what lacks results of others (edges.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from typing import ClassVar, Protocol

import msgspec
from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.ledger.job_ledger import Grantable
from stealmesh_engine.ledger.recipes import LedgerOfRecipes
from stealmesh_engine.ledger.second_copies import LentPiece, SecondCopies
from stealmesh_engine.ledger.verdicts import Credited, Figures, Repeated, Stale, Verdict
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId, granted_lease, root_of
from stealmesh_protocol.messages import Block, Commit, Lease, Part, Report

GIVEN_UP_TOGETHER = 1024
"""Items that fail together when no node can run them."""


class LedgerEdges(Protocol):
    """Is told where items are that others wait for (edges.py)."""

    def lent(self, lo: int, hi: int, holder: PeerId, lid: LeaseId) -> None: ...

    def left(self, lo: int, hi: int, holder: PeerId) -> None: ...

    def lost(self, lo: int, hi: int) -> list[int]: ...

    def reach(self, lo: int, hi: int) -> int: ...

    def audit(self) -> None: ...

    def completed(self, lo: int, hi: int) -> tuple[list[Block], list[bytes]]: ...

    def values_into(self, item: int) -> set[ValueId]: ...

    def awaited(self, item: int) -> list[JobId]: ...


class Lent(msgspec.Struct):
    """An indexed lease: the items that its holder has not accounted for yet."""

    holder: PeerId
    open: IntervalSet
    deadline: float
    born: float = 0.0
    """Its first deadline: it was given a `lease_seconds` before that."""


class IndexedLedger(LedgerOfRecipes[Lent]):
    """The account of the items [0, total). Those below `released` may be leased."""

    lasting_refusals: ClassVar[bool] = False
    free: IntervalSet
    copies: SecondCopies | None = None
    """Items that two holders have (lent_twice.py); None: it is not that kind of job."""

    def __init__(
        self,
        total: int = 0,
        released: int = 0,
        *,
        whole_parts: bool = False,
        name: Callable[[int], LeaseId] = granted_lease,
    ) -> None:
        assert 0 <= released <= total
        super().__init__()
        self._name = name
        """Maps the n-th grant (from 1) to its lease id."""
        self.total = total
        self.released = released
        self.whole_parts = whole_parts
        """Partials of a reduction cannot be cut: a report counts whole or not at all."""
        self.credited = IntervalSet()
        self.free = IntervalSet([(0, released)])
        self.inputs = Blocks()
        """Of the items that are not credited. Empty, if the job's items are computed from their numbers."""
        self.leased = 0
        """Items under lease: the sum of the leases' open parts."""
        self.edges: LedgerEdges | None = None
        """None as long as no item waits for another one."""
        self.withheld: IntervalSet | None = None
        """Items that lack results of others; None until there is one."""

    # -- growing

    def extend(self, total: int) -> None:
        """More items exist; they are free at once."""
        assert total >= self.total == self.released, "block-fed jobs are released as they are fed"
        self.free.add(self.total, total)
        self.total = self.released = total

    def feed(self, block: Block, blob: bytes) -> None:
        assert block.lo <= self.total, "blocks follow each other without gaps"
        self.inputs.add(block, blob)
        if block.needs:
            self.needy = True
        self.extend(block.hi)

    def provide(self, inputs: Iterable[tuple[Block, bytes]]) -> None:
        """The inputs of the items that there are."""
        self.inputs = Blocks(inputs)
        self.needy = any(block.needs for block, _ in self.inputs)

    def feed_withheld(self, block: Block, blob: bytes) -> None:
        """The same for an item that lacks results of others."""
        self.feed(block, blob)
        self.withhold(block.lo)

    def withhold(self, item: int) -> None:
        """It is free, and lacks results of others."""
        if self.withheld is None:
            self.withheld = IntervalSet()
        self.free.remove(item, item + 1)
        self.withheld.add(item, item + 1)

    def release(self, upto: int) -> None:
        """Items below `upto` may be leased from now on."""
        upto = min(upto, self.total)
        if upto > self.released:
            self.free.add(self.released, upto)
            self.released = upto

    # -- leasing

    @property
    def items_max(self) -> int:
        return self.total

    @property
    def first_free(self) -> int:
        return self.free.first

    @property
    def has_free(self) -> bool:
        return self.free.size > 0

    @property
    def free_items(self) -> int:
        return self.free.size

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
        self._enter(lid, Lent(holder, IntervalSet.of(*taken), deadline))
        self.leased += taken[1] - taken[0]
        if self.edges is not None:
            self.edges.lent(*taken, holder, lid)
        self._balanced()
        return Lease(lid, *taken)

    def grant(self, holder: PeerId, deadline: float, reach: int | None = None) -> Grantable:
        """A lease ends with its block at the latest."""
        lo = self.free.first
        fed = self.inputs.at(lo)
        together = 0 if self.edges is None else self.edges.reach(lo, self.free.first_end)
        end = together if fed is None else max(together, fed[0].hi)
        if fed is not None and (reach is None or end < reach):
            reach = end
        lease = self.lease(holder, deadline, items_max=None if reach is None else reach - lo)
        assert lease is not None
        if self.edges is not None and together > lo:
            return (lease, *self.edges.completed(lease.lo, lease.hi))
        return (lease, [], []) if fed is None else (lease, [fed[0]], [fed[1]])

    def split(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        lent = self.lent(holder, lid)
        if lent is None:
            return Stale([lid])
        given = lent.open.overlap(lo, hi)
        for part in given:
            self._close(lid, lent, *part)
            self._lost(*part)
        self._balanced()
        return Credited(given)

    # -- items that lack results of others

    def end_withholding(self, item: int) -> None:
        """It lacks nothing any more."""
        assert self.withheld is not None
        assert self.withheld.covers(item, item + 1), "it is not withheld"
        self.withheld.remove(item, item + 1)
        self.free.add(item, item + 1)

    def lease_withheld(self, holder: PeerId, deadline: float, lo: int, hi: int) -> Lease:
        """The holder gets these before they can run."""
        assert self.withheld is not None
        assert self.withheld.covers(lo, hi), "they are not withheld"
        self.withheld.remove(lo, hi)
        self._grants += 1
        lid = self._name(self._grants)
        self._enter(lid, Lent(holder, IntervalSet.of(lo, hi), deadline))
        self.leased += hi - lo
        assert self.edges is not None
        self.edges.lent(lo, hi, holder, lid)
        self._balanced()
        return Lease(lid, lo, hi)

    def withhold_again(self, lid: LeaseId, item: int) -> None:
        """The item leaves its lease before it could run."""
        assert self.withheld is not None
        self._close(lid, self.leases[lid], item, item + 1)
        self.withheld.add(item, item + 1)
        self._balanced()

    # -- accounting

    def credit(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        """The holder has done [lo, hi): which of it counts?"""
        if lo >= hi:
            return Repeated()  # it says nothing
        lent = self.lent(holder, lid)
        if lent is None:
            # A lease that is used up is forgotten. If all that the report names is credited, it is a
            # repeat and not a dispute; otherwise the holder must let go.
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
            if self.put_off is not None:
                self.put_off.credited(*part)
        self._balanced()
        if self._spent is not None:
            for part in counts:
                self._spent.add(*part)
        self.inputs.drop_covered(counts, self.spent)
        return Credited(counts)

    # -- items that run again later

    def wait(self, lid: LeaseId, item: int, until: float) -> bool:
        """The item, which is open in this lease, is not leased again before that time. (False: it does not
        wait, since another holder goes on with it.)"""
        self._close(lid, self.leases[lid], item, item + 1)
        self.putting_off().add(item, until)
        if self.edges is not None:
            self.edges.lost(item, item + 1)
        self._balanced()
        return True

    def settle(self, lo: int, hi: int) -> dict[PeerId, list[tuple[int, int]]]:
        """[lo, hi) is done, as another account of the same job says; the caller has made sure that
        none of it is credited here. Returns which of it was leased, by holder."""
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
        if self.withheld is not None:  # it has what they lack
            for part in self.withheld.overlap(lo, hi):
                self.withheld.remove(*part)
                self.free.add(*part)
        adopted = self.free.overlap(lo, hi)
        if not adopted:
            return []
        if lent is None:
            lent = Lent(holder, IntervalSet(), deadline)
            self._enter(lid, lent)
        for part in adopted:
            self.free.remove(*part)
            lent.open.add(*part)
            self.leased += part[1] - part[0]
        self._balanced()
        return adopted

    def cancel(self, lo: int, hi: int) -> dict[PeerId, list[tuple[int, int]]]:
        """[lo, hi) is not wanted any more and counts as done. Returns which of it was leased, by holder."""
        told: dict[PeerId, list[tuple[int, int]]] = {}
        for some in (self.free, self.withheld):
            for part in () if some is None else some.overlap(lo, hi):
                some.remove(*part)  # type: ignore[union-attr]
                self.credited.add(*part)
        leases = () if self.credited.covers(lo, hi) else list(self.leases.items())
        for lid, lent in leases:
            for part in lent.open.overlap(lo, hi):
                told.setdefault(lent.holder, []).append(part)
                self._close(lid, lent, *part)
                self.credited.add(*part)
        if self.put_off is not None:
            for part in self.put_off.credited(lo, hi):
                self.credited.add(*part)
        self._balanced()
        if self._spent is not None:
            self._spend(lo, hi)
        self.inputs.drop_covered([(lo, hi)], self.spent)
        return told

    def failing(
        self, job: JobId, lid: LeaseId, outcome: Callable[[int], tuple[int, bytes]]
    ) -> list[Report | Commit]:
        told: list[Report | Commit] = []
        for lo, hi in self.leases[lid].open:
            codec, blob = outcome(hi - lo)
            told.append(Report(job, [Part(lid, lo, hi, codec, 0.0, hi - lo)], [blob]))
        return told

    def give_up(self, holder: PeerId) -> Part:
        most = None if self.whole_parts else GIVEN_UP_TOGETHER
        lease = self.lease(holder, inf, items_max=most)
        assert lease is not None
        lid, lo, hi = lease.lid, lease.lo, lease.hi
        self.credit(holder, lid, lo, hi)
        return Part(lid, lo, hi, 0, 0.0, 1 if self.whole_parts else hi - lo)

    @staticmethod
    def delivered_as(part: Part, codec: int, blob: bytes) -> tuple[Part, bytes]:
        return replace(part, codec=codec), blob

    # -- holders

    def revoke(self, lid: LeaseId) -> int:
        lent = self.leases[lid]
        parts = list(lent.open)
        before = self.free.size
        for part in parts:
            self._close(lid, lent, *part)
            self._lost(*part)
        freed = self.free.size - before
        self.rerun += freed
        self._balanced()
        return freed

    def is_open(self, holder: PeerId, lid: LeaseId, item: int) -> bool:
        lent = self.lent(holder, lid)
        return lent is not None and lent.open.covers(item, item + 1)

    def out(self) -> Counter[PeerId]:
        out: Counter[PeerId] = Counter()
        for lent in self.leases.values():
            out[lent.holder] += lent.open.size
        return out

    def pieces(self, lo: int, hi: int) -> list[LentPiece]:
        """Who has what of [lo, hi)."""
        return [
            LentPiece(lent.holder, lid, *part)
            for lid, lent in self.leases.items()
            for part in lent.open.overlap(lo, hi)
        ]

    def is_second(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> bool:
        """Has this holder something of [lo, hi) under this lease that another has as well?"""
        return False

    @property
    def complete(self) -> bool:
        return self.credited.size == self.total and not self.recipes

    def figures(self) -> Figures:
        return Figures(
            self.total, self.credited.size, self.leased, self.free.size, len(self.leases)
        )

    # -- inside

    def _lost(self, lo: int, hi: int) -> None:
        self.free.add(lo, hi)
        if self.edges is not None:
            for item in self.edges.lost(lo, hi):
                self.withhold(item)

    def _is_to_come(self, lid: LeaseId) -> bool:
        """Will a later grant have this id?"""
        following = self._name(self._grants + 1)
        return root_of(lid) == root_of(following) and lid >= following

    def _close(self, lid: LeaseId, lent: Lent, lo: int, hi: int) -> None:
        """[lo, hi) leaves the lease; a lease with nothing open ends."""
        lent.open.remove(lo, hi)
        self.leased -= hi - lo
        if self.edges is not None:
            self.edges.left(lo, hi, lent.holder)
        if not lent.open.size:
            self._leave(lid)

    def _balanced(self) -> None:
        """The cheap half of the invariant, after every transition; `audit` is the whole of it."""
        waiting = 0 if self.put_off is None else self.put_off.size
        if self.withheld is not None:
            waiting += self.withheld.size
        assert self.credited.size + self.free.size + self.leased + waiting == self.released, (
            "items were lost or doubled in the ledger"
        )

    def audit(self) -> None:
        super().audit()
        everything = IntervalSet([(self.released, self.total)])
        waiting = IntervalSet() if self.put_off is None else self.put_off.items
        if self.put_off is not None:
            self.put_off.audit()
        leased = (lent.open for lent in self.leases.values())
        withheld = self.withheld or ()
        for some in (self.credited, self.free, waiting, withheld, *leased):
            for lo, hi in some:
                assert not everything.overlap(lo, hi), f"[{lo}, {hi}) is accounted for twice"
                everything.add(lo, hi)
        assert everything == IntervalSet([(0, self.total)]), "an item is in no account"
        if self.edges is not None:
            self.edges.audit()
        self._balanced()
