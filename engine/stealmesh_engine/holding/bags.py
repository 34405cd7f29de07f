"""What a node holds of one job, as every kind of bags answers it.

Decides which questions a holder, a dispatcher, a thief and a victim may ask, so that none of them asks
what kind of job it is. The answers stand in `indexed_bags.py` and `explore_bags.py`. Refuses to know who
works, who steals and whether the ledger agrees: bags lower their own end first, and the ledger hears of it
in the same step.

Nothing is divided until a worker or a thief asks. A worker gets the front, a thief about half of the
untouched rest from the back.

Ideas: split on steal only, after lazy binary splitting (Tzannes et al.) and rayon; the victim keeps the
part that it reaches first; steal half after Hendler and Shavit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Set
from typing import Any, ClassVar, Protocol

import msgspec

from stealmesh_engine.holding.cost import Cost
from stealmesh_protocol.ids import LeaseId, ValueId
from stealmesh_protocol.messages import Block, Grant, JobSpec, Lease, Needs


class Gate(Protocol):
    """Knows which values are here."""

    def lacks(self, needs: Needs) -> bool: ...

    def want(self, needs: Needs) -> None: ...


class Cut(msgspec.Struct):
    """A piece for a worker: items [lo, hi) of one lease (explore: the whole bag)."""

    lid: LeaseId
    lo: int
    hi: int
    blocks: list[tuple[Block, bytes]]


class Bags(ABC):
    """The leases of one job that a node holds."""

    opaque: ClassVar[bool] = False
    """Each piece goes whole, and what it costs is not known before it is done."""

    some_follow: bool = False
    """Has any block had inputs that it waits for?"""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.cost = Cost()
        self.together = 0
        """How many chunks of this job a worker runs side by side; 0: one after the other, like most."""
        self.leases: dict[LeaseId, Any] = {}

    # -- receiving

    @abstractmethod
    def take(self, grant: Grant) -> list[bool]:
        """Take in what a grant brings. False for a lease that is empty or here already, which
        only a confused owner sends."""

    # -- workers

    @abstractmethod
    def cut(self, items: int, behind: int = 0) -> Cut | None:
        """At most `items` untouched items of one lease for a worker, and behind a single one at most `behind`
        follow-ons that its worker can hand results on to; None: there are none."""

    @abstractmethod
    def put_back(self, lid: LeaseId, lo: int, hi: int) -> bool:
        """A chunk comes back unrun. False: its lease is gone meanwhile."""

    def unwanted_of(self, lid: LeaseId, lo: int, hi: int) -> list[Lease]:
        """What of a chunk was cancelled since a worker has it: it does not run if it comes back."""
        del lid, lo, hi
        return []

    def died(self, lid: LeaseId, lo: int, hi: int, beside: int = 1) -> bool:
        """A chunk comes back because its worker died while it ran, with `beside` chunks in all. False: its
        lease is gone."""
        del beside
        return self.put_back(lid, lo, hi)

    def finish(self, lid: LeaseId, lo: int, hi: int) -> bool:
        """A worker has done [lo, hi). False: the lease is gone meanwhile."""
        del lid, lo, hi
        return False

    def take_begun(self, lease: Lease) -> bool:
        """A worker has this already: it had it from the owner itself. False: there is no such thing here."""
        del lease
        return False

    def step(self, lid: LeaseId, remaining: int, rest: bytes) -> int:
        """A worker took stock of its bag. Returns the number of this step; 0: the bag is gone."""
        del lid, remaining, rest
        return 0

    def spawn(self, parent: LeaseId, spares: list[tuple[int, bytes]]) -> list[Lease]:
        """Take in new bags (items, blob) that a worker split off `parent`, under ids of our own."""
        del parent, spares
        return []

    def cut_any(self) -> Cut | None:
        """The same, no matter what it lacks: it will not run."""
        return self.cut(self.queued_items)

    @property
    def has_suspects(self) -> bool:
        """Are items here of chunks that died with their worker?"""
        return False

    # -- values

    @property
    def waits(self) -> bool:
        """May some of the items lack values?"""
        return False

    def give_lacking(self, values: Set[ValueId]) -> list[Lease]:
        """Parts of leases that wait for any of these values go back to their ledger."""
        return []

    def wait_at(self, gate: Gate) -> None:
        """From now on, items that lack values wait."""
        del gate

    def needed_by(self, parts: Iterable[tuple[int, int]]) -> set[ValueId]:
        """The values that the items [lo, hi) of these parts need, beside what the whole job needs."""
        del parts
        return set()

    def last_parts(self, items: int) -> list[tuple[int, int]]:
        """The items that `give` would give."""
        del items
        return []

    def let_in(self) -> None:
        """Values have come or gone: look again which items lack some."""
        return

    def has(self, item: int, lid: LeaseId) -> bool:
        """Is this item here under this lease, and no worker has it?"""
        del item, lid
        return False

    def is_waiting(self, item: int) -> bool:
        """Is this item here, and lacks something?"""
        del item
        return False

    def complete(self, item: int, blob: bytes) -> None:
        """All that goes into this item, which waits, is in this blob."""
        raise AssertionError("only single calls wait for others")

    def take_lost(self, lost: Container[ValueId]) -> list[tuple[Lease, ValueId]]:
        """Cut out all that needs one of these values, and name it: it will not run."""
        del lost
        return []

    # -- thieves and the ledger

    @abstractmethod
    def give(self, items: int) -> list[Lease]:
        """Cut up to `items` untouched items off the back, as parts of their leases."""

    def give_rest(self, lid: LeaseId) -> list[Lease]:
        """Cut off what no worker has of this lease. (Lanes only: of others the next worker gets it.)"""
        del lid
        return []

    @abstractmethod
    def drop(self, lid: LeaseId) -> bool:
        """The lease is not ours any more. False: it was not ours before."""

    def withdraw(self, lo: int, hi: int) -> None:
        """No one wants [lo, hi): what is untouched of it does not run."""
        del lo, hi

    # -- questions

    @property
    @abstractmethod
    def queued_items(self) -> int:
        """Items that no worker has."""

    @property
    def queued_seconds(self) -> float:
        """What these items take one worker; a lower bound while their cost is unknown."""
        return self.cost.seconds(self.queued_items) / (self.together or 1)

    @property
    def empty(self) -> bool:
        return not self.leases

    @property
    def may_queue(self) -> bool:
        """May a chunk wait behind another at a worker?"""
        return False

    @property
    def company(self) -> int:
        """How many suspects may run in one process with the next piece; 0: it is no suspect."""
        return 0

    @property
    def blocks(self) -> list[tuple[Block, bytes]]:
        """The inputs that are here."""
        return []

    def expected_seconds(self, items: int) -> float | None:
        """What a chunk of `items` items takes one worker; None: not known."""
        return self.cost.seconds(items) if self.cost.known and not self.opaque else None

    def untouched_parts(self) -> list[Lease]:
        """What no worker has, as parts of the leases."""
        return []

    def audit(self, with_workers: int | None = None) -> None:
        """Check the balance; `with_workers` items are known to be with workers."""
        del with_workers
