"""The explore ledger against a model so naive that it is plainly right, and the rules one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stealmesh_engine.ledger.explore import CommittedStep, ExploreLedger
from stealmesh_engine.ledger.verdicts import Credited, Repeated, Stale
from stealmesh_protocol.ids import child_lease, granted_lease, root_of
from stealmesh_protocol.messages import Lease

A, B, C = b"node-a", b"node-b", b"node-c"
HOLDERS = [A, B, C]
holders = st.sampled_from(HOLDERS)
SPAN = 12
indices = st.integers(0, SPAN)


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
            CommittedStep(seq, gained, remaining, rest, children, 10.0),
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
    step = CommittedStep(1, 1, 1, b"x", [(child, b"yz")], 1.0)
    assert ledger.commit(A, lid, step) == Credited()
    ledger.fence(A)
    assert sorted(ledger.free) == [(1, b"x"), (2, b"yz")]
    assert ledger.commit(A, lid, replace(step, seq=2, children=[])) == Stale([lid])
    assert ledger.done == 1


def test_a_beat_that_overtakes_a_commit_revokes_nothing() -> None:
    ledger = ExploreLedger()
    ledger.put(1, b"r")
    taken = ledger.lease(A, 1.0)
    assert taken is not None
    lid = taken[0].lid
    child = child_lease(lid, 1)
    assert ledger.renew(A, [lid, child], 2.0) == []
    ledger.commit(A, lid, CommittedStep(1, 1, 0, b"", [(Lease(child, 0, 1), b"x")], 1.0))
    assert ledger.renew(A, [child], 2.0) == []
    ledger.fence(A)
    assert ledger.renew(A, [child], 2.0) == [child]  # now it was known, and is over
