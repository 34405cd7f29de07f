"""Both ledgers against models so naive that they are plainly right, and the rules one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stealmesh_engine.ledger.explore import ExploreLedger
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.verdicts import Credited, Repeated, Stale
from stealmesh_protocol.ids import child_lease, granted_lease, root_of
from stealmesh_protocol.messages import Lease

A, B, C = b"node-a", b"node-b", b"node-c"
HOLDERS = [A, B, C]
holders = st.sampled_from(HOLDERS)
SPAN = 12
indices = st.integers(0, SPAN)

# ---------------------------------------------------------------- indexed


class IndexedAgainstItems(RuleBasedStateMachine):
    """The model knows for each item alone where it is: that is all there is to know."""

    @initialize(
        total=st.integers(0, SPAN), released=st.integers(0, SPAN), whole_parts=st.booleans()
    )
    def begin(self, total: int, released: int, whole_parts: bool) -> None:
        released = min(total, released)
        self.ledger = IndexedLedger(total, released, whole_parts=whole_parts)
        self.where: list[Any] = ["free"] * released + ["withheld"] * (total - released)
        """An item is "free", "withheld", "credited", or leased: then its lease id stands here."""
        self.holder: dict[int, bytes] = {}
        """Of every lease that ever was."""
        self.deadline: dict[int, float] = {}
        self.rerun = 0

    # -- what the model can say

    def live(self) -> list[int]:
        return sorted({lid for lid in self.where if isinstance(lid, int)})

    def owns(self, holder: bytes, lid: int) -> bool:
        return lid in self.live() and self.holder[lid] == holder

    def some_lid(self, data: Any) -> int:
        known = sorted(self.holder) or [granted_lease(1)]
        return int(data.draw(st.sampled_from([*known, granted_lease(999)])))

    def move(self, lid: int, lo: int, hi: int, to: str) -> list[int]:
        moved = [i for i in range(lo, min(hi, len(self.where))) if self.where[i] == lid]
        for item in moved:
            self.where[item] = to
        return moved

    # -- rules

    @rule(holder=holders, items_max=st.one_of(st.none(), st.integers(1, 5)))
    def lease(self, holder: bytes, items_max: int | None) -> None:
        lease = self.ledger.lease(holder, 10.0, items_max=items_max)
        free = [i for i, where in enumerate(self.where) if where == "free"]
        if not free:
            assert lease is None
            return
        assert lease is not None
        end = free[0]
        while end < len(self.where) and self.where[end] == "free":
            end += 1
        assert (lease.lo, lease.hi) == (free[0], min(end, free[0] + (items_max or SPAN)))
        assert lease.lid not in self.holder, "a lease id is never used twice"
        self.holder[lease.lid] = holder
        self.deadline[lease.lid] = 10.0
        for item in range(lease.lo, lease.hi):
            self.where[item] = lease.lid

    @rule(data=st.data(), holder=holders, lo=indices, hi=indices)
    def split(self, data: Any, holder: bytes, lo: int, hi: int) -> None:
        lid = self.some_lid(data)
        owned = self.owns(holder, lid)
        verdict = self.ledger.split(holder, lid, lo, hi)
        if not owned:
            assert verdict == Stale([lid])
            return
        moved = self.move(lid, lo, hi, "free")
        assert isinstance(verdict, Credited)
        assert [i for part in verdict.intervals for i in range(*part)] == moved

    @rule(data=st.data(), holder=holders, lo=indices, hi=indices)
    def credit(self, data: Any, holder: bytes, lo: int, hi: int) -> None:
        lid = self.some_lid(data)
        owned = self.owns(holder, lid)
        verdict = self.ledger.credit(holder, lid, lo, hi)
        if lo >= hi:
            assert verdict == Repeated()
        elif not owned:
            known = all(i < len(self.where) and self.where[i] == "credited" for i in range(lo, hi))
            assert verdict == (Repeated() if known else Stale([lid]))
        elif self.ledger.whole_parts and any(
            i >= len(self.where) or self.where[i] != lid for i in range(lo, hi)
        ):
            assert verdict == Repeated()
            self.rerun += len(self.move(lid, lo, hi, "free"))
        else:
            moved = self.move(lid, lo, hi, "credited")
            if not moved:
                assert verdict == Repeated()
                return
            assert isinstance(verdict, Credited)
            assert [i for part in verdict.intervals for i in range(*part)] == moved

    @rule(lo=indices, hi=indices)
    def cancel(self, lo: int, hi: int) -> None:
        told = self.ledger.cancel(lo, hi)
        expected: dict[bytes, set[int]] = {}
        for item in range(lo, min(hi, len(self.where))):
            where = self.where[item]
            if isinstance(where, int):
                expected.setdefault(self.holder[where], set()).add(item)
            if where not in ("withheld", "credited"):
                self.where[item] = "credited"
        found = {h: {i for part in parts for i in range(*part)} for h, parts in told.items()}
        assert found == expected

    @rule(holder=holders)
    def fence(self, holder: bytes) -> None:
        freed = self.ledger.fence(holder)
        gone = [i for i, lid in enumerate(self.where) if self.owns(holder, lid)]
        for item in gone:
            self.where[item] = "free"
        self.rerun += len(gone)
        assert freed == len(gone)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def revoke(self, data: Any) -> None:
        lid = data.draw(st.sampled_from(self.live()))
        self.ledger.revoke(lid)
        self.rerun += len(self.move(lid, 0, SPAN, "free"))

    @rule(data=st.data(), holder=holders, deadline=st.sampled_from([5.0, 20.0]))
    def renew(self, data: Any, holder: bytes, deadline: float) -> None:
        lids = [self.some_lid(data), self.some_lid(data)]
        stale = self.ledger.renew(holder, lids, deadline)
        assert stale == [lid for lid in lids if not self.owns(holder, lid)]
        self.deadline.update({lid: deadline for lid in lids if self.owns(holder, lid)})

    @rule(upto=indices)
    def release(self, upto: int) -> None:
        self.ledger.release(upto)
        for item in range(min(upto, len(self.where))):
            if self.where[item] == "withheld":
                self.where[item] = "free"

    @precondition(lambda self: len(self.where) < SPAN and "withheld" not in self.where)
    @rule(more=st.integers(1, 4))
    def extend(self, more: int) -> None:
        total = min(SPAN, len(self.where) + more)
        self.ledger.extend(total)
        self.where += ["free"] * (total - len(self.where))

    # -- what must agree

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.audit()
        found: list[Any] = ["withheld"] * self.ledger.total
        for where, some in (("free", self.ledger.free), ("credited", self.ledger.credited)):
            for part in some:
                for item in range(*part):
                    found[item] = where
        for lid, lent in self.ledger.leases.items():
            assert lent.holder == self.holder[lid]
            assert lent.deadline == self.deadline[lid]
            for part in lent.open:
                for item in range(*part):
                    found[item] = lid
        assert found == self.where
        assert self.ledger.complete == all(where == "credited" for where in self.where)
        assert self.ledger.has_free == ("free" in self.where)
        assert self.ledger.rerun == self.rerun
        figures = self.ledger.figures()
        assert (figures.total, figures.done, figures.free, figures.leased, figures.leases) == (
            len(self.where), self.where.count("credited"), self.where.count("free"),
            sum(isinstance(where, int) for where in self.where), len(self.live()),
        )  # fmt: skip
        for holder in HOLDERS:
            mine = [lid for lid in self.live() if self.holder[lid] == holder]
            assert sorted(self.ledger.held_by(holder)) == mine
            assert (holder in self.ledger.holders()) == bool(mine)
        late = [(lid, self.holder[lid]) for lid in self.live() if self.deadline[lid] <= 15.0]
        assert sorted(self.ledger.expired(15.0)) == late


TestIndexedAgainstItems = IndexedAgainstItems.TestCase
TestIndexedAgainstItems.settings = settings(max_examples=150, stateful_step_count=40)


def leased(ledger: IndexedLedger, holder: bytes = A) -> int:
    lease = ledger.lease(holder, 1.0)
    assert lease is not None
    return lease.lid


def test_the_first_report_of_an_item_counts_and_no_other() -> None:
    ledger = IndexedLedger(10, 10)
    lid = leased(ledger)
    assert ledger.credit(A, lid, 2, 5) == Credited([(2, 5)])
    assert ledger.credit(A, lid, 2, 5) == Repeated()
    assert ledger.credit(A, lid, 0, 7) == Credited([(0, 2), (5, 7)])


def test_reports_may_come_in_any_order() -> None:
    ledger = IndexedLedger(3, 3)
    lid = leased(ledger)
    for item in (2, 0, 1):
        assert ledger.credit(A, lid, item, item + 1) == Credited([(item, item + 1)])
    assert ledger.complete


def test_a_stranger_under_a_good_name_is_stale() -> None:
    ledger = IndexedLedger(3, 3)
    lid = leased(ledger, A)
    assert ledger.credit(B, lid, 0, 3) == Stale([lid])
    assert ledger.split(B, lid, 0, 3) == Stale([lid])
    assert ledger.renew(B, [lid], 9.0) == [lid]


def test_a_late_repeat_of_a_finished_lease_is_no_dispute() -> None:
    ledger = IndexedLedger(3, 3)
    lid = leased(ledger)
    ledger.credit(A, lid, 0, 3)
    assert ledger.credit(A, lid, 0, 3) == Repeated()


def test_a_fenced_holder_is_told_and_its_work_does_not_count() -> None:
    ledger = IndexedLedger(4, 4)
    lid = leased(ledger, A)
    ledger.credit(A, lid, 0, 1)
    assert ledger.fence(A) == 3
    assert ledger.credit(A, lid, 1, 2) == Stale([lid])
    again = ledger.lease(B, 1.0)
    assert again == Lease(granted_lease(2), 1, 4)
    assert ledger.rerun == 3


def test_what_is_fenced_goes_to_the_front() -> None:
    ledger = IndexedLedger(9, 9)
    ledger.lease(A, 1.0, items_max=3)
    ledger.fence(A)
    lease = ledger.lease(B, 1.0, items_max=3)
    assert lease is not None
    assert lease.lo == 0


def test_parts_of_a_reduction_count_whole_or_not_at_all() -> None:
    """And what still counts of a part that does not is leased again at once."""
    ledger = IndexedLedger(3, 3, whole_parts=True)
    lid = leased(ledger)
    ledger.cancel(0, 1)
    assert ledger.credit(A, lid, 0, 2) == Repeated()
    assert list(ledger.free) == [(1, 2)]
    assert ledger.credit(A, lid, 2, 3) == Credited([(2, 3)])
    assert list(ledger.credited) == [(0, 1), (2, 3)]


@pytest.mark.parametrize(("lo", "hi"), [(1, 1), (2, 1), (9, 9), (7, 3)])
def test_an_empty_interval_changes_nothing(lo: int, hi: int) -> None:
    ledger = IndexedLedger(3, 3)
    lid = leased(ledger)
    assert ledger.credit(A, lid, lo, hi) == Repeated()
    assert ledger.split(A, lid, lo, hi) == Credited([])
    assert ledger.cancel(lo, hi) == {}
    ledger.audit()
    assert list(ledger.leases[lid].open) == [(0, 3)]


def test_the_audit_notices_what_is_missing_and_what_is_double() -> None:
    missing, double = IndexedLedger(3, 3), IndexedLedger(3, 3)
    missing.free.remove(1, 2)
    double.credited.add(1, 2)
    for ledger in (missing, double):
        with pytest.raises(AssertionError):
            ledger.audit()


# ---------------------------------------------------------------- explore


class ExploreAgainstBags(RuleBasedStateMachine):
    """The model is a dictionary of bags; items are distinct, so each can be followed."""

    @initialize(roots=st.lists(st.integers(1, 4), max_size=3))
    def begin(self, roots: list[int]) -> None:
        self.ledger = ExploreLedger()
        self.fresh = 0
        self.bags: dict[int, tuple[bytes, int, bytes]] = {}
        """Lease → (holder, seq, items)."""
        self.free: list[bytes] = []
        self.gone: set[int] = set()
        self.newest: dict[int, int] = {}
        self.done = 0
        self.rerun = 0
        for size in roots:
            items = self.items(size)
            self.ledger.put(size, items)
            self.free.append(items)

    def items(self, count: int) -> bytes:
        self.fresh += count
        return bytes(n % 256 for n in range(self.fresh - count, self.fresh))

    def some_lid(self, data: Any) -> int:
        return int(
            data.draw(st.sampled_from([*sorted(self.bags), *sorted(self.gone), granted_lease(999)]))
        )

    def owns(self, holder: bytes, lid: int) -> bool:
        return lid in self.bags and self.bags[lid][0] == holder

    def leave(self, lid: int) -> bytes:
        self.gone.add(lid)
        return self.bags.pop(lid)[2]

    @rule(holder=holders)
    def lease(self, holder: bytes) -> None:
        taken = self.ledger.lease(holder, 10.0)
        if not self.free:
            assert taken is None
            return
        assert taken is not None
        lease, items = taken
        assert items == self.free.pop(0)
        assert (lease.lo, lease.hi) == (0, len(items))
        assert lease.lid not in self.bags
        assert lease.lid not in self.gone
        self.bags[lease.lid] = (holder, 0, items)

    @rule(data=st.data(), holder=holders)
    def split(self, data: Any, holder: bytes) -> None:
        lid = self.some_lid(data)
        verdict = self.ledger.split(holder, lid)
        if not self.owns(holder, lid):
            assert verdict == Stale([lid])
            return
        assert verdict == Credited()
        self.free.insert(0, self.leave(lid))

    @rule(
        data=st.data(), holder=holders, skip=st.sampled_from([0, 0, 0, -1, 1]),
        gained=st.integers(0, 3), remaining=st.integers(0, 3), spares=st.lists(st.integers(1, 3), max_size=2),
        rude=st.sampled_from(["", "", "", "taken", "twice", "foreign", "granted"]),
    )  # fmt: skip
    def commit(
        self,
        data: Any,
        holder: bytes,
        skip: int,
        gained: int,
        remaining: int,
        spares: list[int],
        rude: str,
    ) -> None:
        lid = self.some_lid(data)
        root = root_of(lid)
        seq = (self.bags[lid][1] if lid in self.bags else 0) + 1 + skip
        first = self.newest.get(root, 0)
        children = [
            (Lease(child_lease(root, first + 1 + at), 0, size), self.items(size))
            for at, size in enumerate(spares)
        ]
        if rude == "taken":
            children.append((Lease(lid, 0, 1), b"?"))
        elif rude == "twice" and children:
            children.append(children[0])
        elif rude == "foreign":
            children.append((Lease(child_lease(granted_lease(500), 1), 0, 1), b"?"))
        elif rude == "granted":
            children.append((Lease(granted_lease(self.ledger._grants + 1), 0, 1), b"?"))
        else:
            rude = ""
        rest = self.items(remaining)
        verdict = self.ledger.commit(
            holder,
            lid,
            seq,
            gained=gained,
            remaining=remaining,
            rest=rest,
            children=children,
            deadline=10.0,
        )
        if self.owns(holder, lid) and skip < 0:
            assert verdict == Repeated()
            return
        if not self.owns(holder, lid) or skip or rude:
            assert verdict == Stale([lid, *(child.lid for child, _ in children)])
            return
        assert verdict == Credited()
        self.done += gained
        self.newest[root] = first + len(spares)
        self.bags[lid] = (holder, seq, rest)
        if not remaining:
            self.leave(lid)
        for child, items in children:
            self.bags[child.lid] = (holder, 0, items)

    @rule(holder=holders)
    def fence(self, holder: bytes) -> None:
        mine = self.ledger.held_by(holder)
        assert sorted(mine) == sorted(lid for lid in self.bags if self.owns(holder, lid))
        assert self.ledger.fence(holder) == len(mine)
        for lid in mine:
            self.free.insert(0, self.leave(lid))
        self.rerun += len(mine)

    @rule(data=st.data(), holder=holders)
    def renew(self, data: Any, holder: bytes) -> None:
        """Bags that no commit has told of yet are neither renewed nor revoked."""
        lid = self.some_lid(data)
        unborn = child_lease(root_of(lid), self.newest.get(root_of(lid), 0) + 1)
        stale = self.ledger.renew(holder, [lid, unborn], 20.0)
        assert stale == ([] if self.owns(holder, lid) else [lid])

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.audit()
        found = {lid: (b.holder, b.seq, b.items) for lid, b in self.ledger.leases.items()}
        assert found == self.bags
        assert [items for _, items in self.ledger.free] == self.free
        assert self.ledger.complete == (not self.bags and not self.free)
        assert (self.ledger.done, self.ledger.rerun) == (self.done, self.rerun)
        figures = self.ledger.figures()
        assert figures.leased == sum(len(items) for _, _, items in self.bags.values())
        assert figures.free == sum(map(len, self.free))
        assert figures.total == figures.done + figures.leased + figures.free


TestExploreAgainstBags = ExploreAgainstBags.TestCase
TestExploreAgainstBags.settings = settings(max_examples=150, stateful_step_count=40)


def test_a_bag_is_redone_from_its_last_commit() -> None:
    ledger = ExploreLedger()
    ledger.put(1, b"r")
    taken = ledger.lease(A, 1.0)
    assert taken is not None
    lid = taken[0].lid
    child = Lease(child_lease(lid, 1), 0, 2)
    step: dict[str, Any] = {"gained": 1, "remaining": 1, "rest": b"x", "deadline": 1.0}
    assert ledger.commit(A, lid, 1, children=[(child, b"yz")], **step) == Credited()
    ledger.fence(A)
    assert sorted(ledger.free) == [(1, b"x"), (2, b"yz")]
    assert ledger.commit(A, lid, 2, children=[], **step) == Stale([lid])
    assert ledger.done == 1


def test_a_beat_that_overtakes_a_commit_revokes_nothing() -> None:
    ledger = ExploreLedger()
    ledger.put(1, b"r")
    taken = ledger.lease(A, 1.0)
    assert taken is not None
    lid = taken[0].lid
    child = child_lease(lid, 1)
    assert ledger.renew(A, [lid, child], 2.0) == []
    step: dict[str, Any] = {"gained": 1, "remaining": 0, "rest": b"", "deadline": 1.0}
    ledger.commit(A, lid, 1, children=[(Lease(child, 0, 1), b"x")], **step)
    assert ledger.renew(A, [child], 2.0) == []
    ledger.fence(A)
    assert ledger.renew(A, [child], 2.0) == [child]  # now it was known, and is over
