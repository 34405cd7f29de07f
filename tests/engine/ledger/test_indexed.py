"""The indexed ledger against a model so naive that it is plainly right, and the rules one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.verdicts import Credited, Repeated, Stale
from stealmesh_protocol.ids import granted_lease
from stealmesh_protocol.messages import Block, Lease

A, B, C = b"node-a", b"node-b", b"node-c"
HOLDERS = [A, B, C]
holders = st.sampled_from(HOLDERS)
SPAN = 12
indices = st.integers(0, SPAN)


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


def test_what_is_cancelled_when_it_is_done_keeps_the_input_of_its_recipe() -> None:
    ledger = IndexedLedger(0, 0)
    block = Block(0, 2, 1)
    ledger.feed(block, b"two items")
    lid = leased(ledger)
    fed = ledger.inputs.within(0, 2)
    assert ledger.credit(A, lid, 0, 2) == Credited([(0, 2)])
    ledger.keep_recipe(1, fed)
    ledger.cancel(0, 2)
    assert ledger.lose(1)
    assert ledger.grant(A, 1.0) == (Lease(granted_lease(2), 1, 2), [block], [b"two items"])
    ledger.credit(A, granted_lease(2), 1, 2)
    ledger.made_again(1)
    ledger.cancel(0, 2)
    assert not ledger.inputs


def test_the_audit_notices_what_is_missing_and_what_is_double() -> None:
    missing, double = IndexedLedger(3, 3), IndexedLedger(3, 3)
    missing.free.remove(1, 2)
    double.credited.add(1, 2)
    for ledger in (missing, double):
        with pytest.raises(AssertionError):
            ledger.audit()
