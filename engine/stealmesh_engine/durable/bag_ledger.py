"""The account of a durable explore job: each state of a bag has a place of its own in the job's numbers.

Decides which numbers a bag gets. A bag of n items takes n numbers, which follow the last ones. A step uses
up the numbers of its bag, and what it leaves and splits off gets new ones: so a step says, like the result
of an indexed job, which numbers it covers, and copies of the account need no other words (bag_replica.py).
Refuses to know copies and when a step is safe.

Invariant: every bag that is free or leased has numbers, and no two bags have one in common.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from stealmesh_engine.ledger.explore import GIVEN_UP, CommittedStep, ExploreLedger
from stealmesh_engine.ledger.verdicts import Credited, Stepped, Verdict
from stealmesh_protocol.ids import LeaseId, PeerId, granted_lease
from stealmesh_protocol.messages import Block, Lease, Part


class NumberedBags(ExploreLedger):
    """The account of bags with numbers.

    `next_grant` gives numbers that this peer has never given to a grant of any durable job. What a holder
    says under a lease of an earlier ledger of the same peer can then never be taken for another's.
    """

    def __init__(
        self,
        bags: list[tuple[Block, bytes]],
        total: int,
        visited: int,
        next_grant: Callable[[], int],
    ) -> None:
        super().__init__()
        self._next_grant = next_grant
        self._numbered = total
        self._free_at: deque[int] = deque()
        """Where each free bag begins."""
        self._at: dict[LeaseId, int] = {}
        """The same of the leased ones."""
        self.done = visited
        for block, blob in bags:
            self.enter(block, blob)

    def enter(self, block: Block, blob: bytes) -> None:
        """A bag that has its numbers already."""
        super().put(block.hi - block.lo, blob)
        self._free_at.append(block.lo)
        self._numbered = max(self._numbered, block.hi)

    def put(self, size: int, items: bytes) -> None:
        self.enter(Block(self._numbered, self._numbered + size, 0), items)

    # -- leasing

    def _next_lease(self) -> LeaseId:
        return granted_lease(self._next_grant())

    def lease(self, holder: PeerId, deadline: float) -> tuple[Lease, bytes] | None:
        taken = super().lease(holder, deadline)
        if taken is not None:
            self._at[taken[0].lid] = self._free_at.popleft()
        return taken

    def split(self, holder: PeerId, lid: LeaseId, lo: int = 0, hi: int = 0) -> Verdict:
        at = self._at.get(lid, 0)
        verdict = super().split(holder, lid, lo, hi)
        if isinstance(verdict, Credited):
            self._free_at.appendleft(at)
            del self._at[lid]
        return verdict

    def revoke(self, lid: LeaseId) -> int:
        freed = super().revoke(lid)
        self._free_at.appendleft(self._at.pop(lid))
        return freed

    # -- accounting

    def commit(self, holder: PeerId, lid: LeaseId, step: CommittedStep) -> Verdict:
        bag = self.lent(holder, lid)
        size, fresh = (0 if bag is None else bag.size), self._numbered
        verdict = super().commit(holder, lid, step)
        if not isinstance(verdict, Credited):
            return verdict
        used = self._at.pop(lid)
        made: list[tuple[Block, bytes]] = []
        for child, items in step.children:
            made.append((Block(fresh, fresh + child.hi, 0), items))
            if step.kept:  # otherwise it is free, and `put` has numbered it
                self._at[child.lid] = fresh
            fresh += child.hi
        if step.remaining:
            made.append((Block(fresh, fresh + step.remaining, 0), step.rest))
            self._at[lid] = fresh
            fresh += step.remaining
        self._numbered = fresh
        return Stepped([(used, used + size)], made)

    def give_up(self, holder: PeerId) -> Part:
        lid = self.grant(holder, inf)[0].lid
        at, size = self._at[lid], self.leases[lid].size
        self.commit(holder, lid, GIVEN_UP)
        return Part(lid, at, at + size, 0, 0.0, 1)

    def audit(self) -> None:
        super().audit()
        assert self._at.keys() == self.leases.keys(), "a leased bag has no numbers"
        assert len(self._free_at) == len(self.free), "a free bag has no numbers"
        bags = [(self._at[lid], bag.size) for lid, bag in self.leases.items()]
        bags += [(at, size) for at, (size, _) in zip(self._free_at, self.free, strict=True)]
        reached = 0
        for at, size in sorted(bags):
            assert reached <= at, "two bags have one number"
            reached = at + size
        assert reached <= self._numbered
