"""The account of an explore job: bags of items that breed items.

Decides which step of a bag counts. Refuses to know what is in a bag: its holder commits in one step what
is done, what remains and what was split off, and a bag that has lost its holder is redone from its last
commit.

Invariant: every bag that was ever put or split off, and is not used up, is either free or in one lease.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from stealmesh_engine.ledger.job_ledger import Grantable, JobLedger
from stealmesh_engine.ledger.verdicts import Credited, Figures, Repeated, Stale, Verdict
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, granted_lease, root_of
from stealmesh_protocol.messages import Block, Commit, Lease, Part, Report


@dataclass(slots=True)
class LentBag:
    """A leased bag as of its last commit. The next holder starts from there."""

    holder: PeerId
    size: int
    items: bytes
    seq: int
    deadline: float
    born: float = 0.0
    """Its first deadline."""


@dataclass(slots=True, frozen=True)
class CommittedStep:
    """One step of a bag, as its holder commits it. It counts as a whole or not at all."""

    seq: int
    gained: int
    """Items that are done."""
    remaining: int
    rest: bytes
    """What remains of the bag."""
    children: list[tuple[Lease, bytes]]
    """What was split off: bags of their own."""
    deadline: float
    kept: bool = True
    """The holder keeps the children. Otherwise they are free."""


GIVEN_UP = CommittedStep(1, 0, 0, b"", [], inf)
"""Nothing is done, and nothing remains."""


class ExploreLedger(JobLedger[LentBag]):
    """The account of bags. The total is not known before the end."""

    lasting_refusals: ClassVar[bool] = True
    """A bag does not say which of its items were tried where."""
    free: deque[tuple[int, bytes]]
    """Bags without a holder: (items, blob)."""

    def __init__(self) -> None:
        super().__init__()
        self.free = deque()
        self.done = 0
        """Items visited, over all credited steps."""
        self._born: dict[LeaseId, LeaseId] = {}
        """Granted lease → the newest bag split off under it that the ledger has heard of."""

    # -- leasing

    def put(self, size: int, items: bytes) -> None:
        """A new bag (the roots)."""
        self.free.append((size, items))

    def feed(self, block: Block, blob: bytes) -> None:
        self.put(block.hi - block.lo, blob)

    @property
    def first_free(self) -> int:
        return 0

    @property
    def has_free(self) -> bool:
        return bool(self.free)

    @property
    def free_items(self) -> int:
        return len(self.free)

    def lease(self, holder: PeerId, deadline: float) -> tuple[Lease, bytes] | None:
        """Lease the first free bag; None when there is none."""
        if not self.free:
            return None
        size, items = self.free.popleft()
        lid = self._next_lease()
        self._enter(lid, LentBag(holder, size, items, 0, deadline))
        return Lease(lid, 0, size), items

    def _next_lease(self) -> LeaseId:
        self._grants += 1
        return granted_lease(self._grants)

    def grant(self, holder: PeerId, deadline: float, reach: int | None = None) -> Grantable:
        taken = self.lease(holder, deadline)
        assert taken is not None
        return taken[0], [], [taken[1]]

    def split(self, holder: PeerId, lid: LeaseId, lo: int = 0, hi: int = 0) -> Verdict:
        if self.lent(holder, lid) is None:
            return Stale([lid])
        bag = self._leave(lid)
        self.free.appendleft((bag.size, bag.items))
        return Credited()

    # -- accounting

    def commit(self, holder: PeerId, lid: LeaseId, step: CommittedStep) -> Verdict:
        """Take one atomic step.

        A holder's steps arrive in order and without gaps. A step that skips a number, or names a child
        by an id that is taken or not its own to choose, is confused or rude: its holder is told to let
        go, like any other that speaks for a lease which it does not have.
        """
        bag, children = self.lent(holder, lid), step.children
        if bag is not None and step.seq <= bag.seq:
            return Repeated()
        root = root_of(lid)
        names = {child.lid for child, _ in children}
        taken = len(names) < len(children) or any(
            name in self.leases or name == root or root_of(name) != root for name in names
        )
        if bag is None or step.seq != bag.seq + 1 or taken:
            return Stale([lid, *(child.lid for child, _ in children)])
        if names:
            self._born[root] = max(names)
        self.done += step.gained
        bag.seq, bag.size, bag.items, bag.deadline = (
            step.seq,
            step.remaining,
            step.rest,
            step.deadline,
        )
        if not step.remaining:
            self._leave(lid)
        for child, items in children:
            if step.kept:
                self._enter(child.lid, LentBag(holder, child.hi, items, 0, step.deadline))
            else:
                self.put(child.hi, items)
        return Credited()

    def failing(
        self, job: JobId, lid: LeaseId, outcome: Callable[[int], tuple[int, bytes]]
    ) -> list[Report | Commit]:
        codec, blob = outcome(1)
        blobs = [bytes([codec]) + blob, b""]
        return [Commit(job, lid, self.leases[lid].seq + 1, 0, failed=1, blobs=blobs)]

    def give_up(self, holder: PeerId) -> Part:
        lid = self.grant(holder, inf)[0].lid
        self.commit(holder, lid, GIVEN_UP)
        return Part(lid, 1, 2, 0, 0.0, 1)

    @staticmethod
    def delivered_as(part: Part, codec: int, blob: bytes) -> tuple[Part, bytes]:
        return part, bytes([codec]) + blob

    # -- holders

    def revoke(self, lid: LeaseId) -> int:
        bag = self._leave(lid)
        self.free.appendleft((bag.size, bag.items))
        self.rerun += 1
        return 1

    def _may_come(self, lid: LeaseId) -> bool:
        """A beat may overtake the commit that makes its bags known; that commit is answered anyway."""
        return lid > self._born.get(root_of(lid), root_of(lid))

    # -- the whole

    @property
    def complete(self) -> bool:
        return not self.leases and not self.free

    def figures(self) -> Figures:
        leased = sum(bag.size for bag in self.leases.values())
        free = sum(size for size, _ in self.free)
        return Figures(self.done + leased + free, self.done, leased, free, len(self.leases))

    def audit(self) -> None:
        super().audit()
        assert all(bag.size > 0 for bag in self.leases.values())
