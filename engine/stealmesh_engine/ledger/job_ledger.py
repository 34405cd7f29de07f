"""The account of one job: what is credited, what is leased to which holder, what is free.

Decides whether a contribution counts, which holder may work on what, and whether the job is done. Refuses
to know links, workers and what a result looks like: the caller delivers it when the ledger says so.

Two ledgers have one face. In the *indexed* one (indexed.py) the items are the integers [0, total). In the
*explore* one (explore.py) a lease is a bag of items that breed items, and no one can say in advance what
there is to do.

Three rules make every repetition, delay, death and false alarm harmless:

* A lease id is never used twice: it is the fencing token. A holder that names a lease which it does not
  have (any more) is told so (`Stale`) and never ignored. Otherwise it goes on with work that does not
  count; the exhaustive search in tests/worlds shows it stuck.
* A contribution names exactly what it covers, and is credited only where the lease is still open. So a
  second report of an item changes nothing.
* A split is written here before the thief hears of it. So the deaths of thief and victim are the same
  case: a lease that has lost its holder becomes free.

Ideas: leases as fencing tokens after Chubby and Lamport's bakery of lids in X10's resilient UTS; prefix
reports after the supervision schemes of Posner and Fohry, widened from "prefix" to "any open part",
because workers of one node finish out of order and a slow item must not hold back its neighbours' results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection
from typing import ClassVar, Generic, Protocol, TypeVar

from stealmesh_engine.ledger.verdicts import Figures, Verdict
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.limits import INDEX_MAX
from stealmesh_protocol.messages import Block, Commit, Lease, Part, Report

Grantable = tuple[Lease, list[Block], list[bytes]]
"""A new lease, with the blocks and blobs that its holder needs to run it."""


class Lending(Protocol):
    """What every lease has."""

    holder: PeerId
    deadline: float
    born: float


L = TypeVar("L", bound=Lending)


class JobLedger(ABC, Generic[L]):
    """What an owner asks of either ledger, and the leases with their holders."""

    lasting_refusals: ClassVar[bool]
    """A node that could not run something of the job is never asked again."""

    def __init__(self) -> None:
        self.leases: dict[LeaseId, L] = {}
        self.rerun = 0
        """Items (explore: bags) that had to be leased again because their holder was gone."""
        self._by_holder: dict[PeerId, dict[LeaseId, None]] = {}
        self._grants = 0

    # -- leasing

    @abstractmethod
    def feed(self, block: Block, blob: bytes) -> None:
        """More items come, with their input, and are free at once."""

    @property
    def items_max(self) -> int:
        """No item has this number or a higher one."""
        return INDEX_MAX

    @property
    @abstractmethod
    def has_free(self) -> bool:
        """Is there anything that may be leased?"""

    @property
    @abstractmethod
    def free_items(self) -> int:
        """How much is free."""

    @property
    @abstractmethod
    def first_free(self) -> int:
        """Which item is leased next. Explore: always 0, since a node that cannot run one bag cannot run any."""

    @abstractmethod
    def grant(self, holder: PeerId, deadline: float, reach: int | None = None) -> Grantable:
        """Lease what is free first (there must be some), and no item from `reach` on."""

    @abstractmethod
    def split(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        """The holder gives up what it has of [lo, hi) (explore: the whole bag). It becomes free."""

    # -- the end of leases

    @abstractmethod
    def revoke(self, lid: LeaseId) -> int:
        """End one lease; what is open of it is free again. Returns how many items (explore: bags)."""

    def fence(self, holder: PeerId) -> int:
        """The holder is gone: its leases end. Returns how many items (explore: bags) are free again."""
        return sum(self.revoke(lid) for lid in self.held_by(holder))

    @abstractmethod
    def failing(
        self, job: JobId, lid: LeaseId, outcome: Callable[[int], tuple[int, bytes]]
    ) -> list[Report | Commit]:
        """What the holder would say if all that it has under this lease failed.

        `outcome` makes the codec and the blob for a number of failed items.
        """

    @abstractmethod
    def give_up(self, holder: PeerId) -> Part:
        """Count what is free first as done, since no node is left to run it. Returns it as a part that failed."""

    @staticmethod
    @abstractmethod
    def delivered_as(part: Part, codec: int, blob: bytes) -> tuple[Part, bytes]:
        """The part and the blob that deliver a part with this outcome."""

    # -- holders

    def lent(self, holder: PeerId, lid: LeaseId) -> L | None:
        """The lease, if this holder has it."""
        lent = self.leases.get(lid)
        return lent if lent is not None and lent.holder == holder else None

    def holds(self, holder: PeerId, lid: LeaseId) -> bool:
        """Has this holder this lease?"""
        return self.lent(holder, lid) is not None

    @property
    def lids(self) -> Collection[LeaseId]:
        """All leases that are out."""
        return self.leases

    def out(self) -> Counter[PeerId]:
        """How much each holder has, as far as we know: items (explore: bags)."""
        return Counter(lent.holder for lent in self.leases.values())

    def is_open(self, holder: PeerId, lid: LeaseId, item: int) -> bool:
        """Has this holder the item under this lease? Explore: items have no numbers."""
        return False

    def renew(self, holder: PeerId, lids: list[LeaseId], deadline: float) -> list[LeaseId]:
        """The holder names the leases that it believes to have. Returns those that it does not have."""
        stale = []
        for lid in lids:
            lent = self.lent(holder, lid)
            if lent is not None:
                lent.deadline = deadline
            elif not self._may_come(lid):
                stale.append(lid)
        return stale

    def expired(self, now: float) -> list[tuple[LeaseId, PeerId]]:
        return [(lid, lent.holder) for lid, lent in self.leases.items() if lent.deadline <= now]

    def postpone(self, lid: LeaseId, deadline: float) -> None:
        self.leases[lid].deadline = deadline

    def forgive(self, seconds: float) -> None:
        """This process did not run for some seconds: no lease ages by them."""
        for lent in self.leases.values():
            lent.deadline += seconds

    def holders(self) -> list[PeerId]:
        return list(self._by_holder)

    def held_by(self, holder: PeerId) -> list[LeaseId]:
        return list(self._by_holder.get(holder, ()))

    def born(self, lid: LeaseId) -> float:
        """The first deadline of one of these."""
        return self.leases[lid].born

    def load_of(self, holder: PeerId) -> int:
        """How many leases the holder has."""
        return len(self._by_holder.get(holder, ()))

    # -- the whole

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Is every item that exists so far credited?"""

    @abstractmethod
    def figures(self) -> Figures: ...

    def audit(self) -> None:
        """Check the whole account. It takes as long as the account is large."""
        for holder, lids in self._by_holder.items():
            assert lids, "a holder of nothing is remembered"
            assert all(self.leases[lid].holder == holder for lid in lids)
        assert sum(map(len, self._by_holder.values())) == len(self.leases)

    # -- inside

    def _may_come(self, lid: LeaseId) -> bool:
        """May a message that is still under way make this lease known?"""
        return False

    def _enter(self, lid: LeaseId, lent: L) -> None:
        lent.born = lent.deadline
        self.leases[lid] = lent
        self._by_holder.setdefault(lent.holder, {})[lid] = None

    def _leave(self, lid: LeaseId) -> L:
        lent = self.leases.pop(lid)
        lids = self._by_holder[lent.holder]
        del lids[lid]
        if not lids:
            del self._by_holder[lent.holder]
        return lent
