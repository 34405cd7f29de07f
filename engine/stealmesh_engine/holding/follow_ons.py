"""Items that a node has before their inputs have results: they wait here, and run with what is made here.

Decides whether an input of such a follow-on is here, and when all of them have results. Then the item is
completed, octets beside octets, and may run like any other. Refuses to know what results are, and why its owner
leased it to us (`ledger/graph.py`). An input that fails, moves or is given back needs no word here: its owner
hears of it, as ever, and withdraws what followed it.

Invariant: what waits here is in the bags of its job, under a lease, and has no worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.holding.stock import Stock
from stealmesh_engine.links.links import Links
from stealmesh_protocol.given import Result, filled, places_in
from stealmesh_protocol.ids import JobId, LeaseId
from stealmesh_protocol.messages import Block, Grant, Lease, Part, Report, Returned
from stealmesh_protocol.values import good_in

Name = tuple[JobId, int]
Input = tuple[JobId, int, LeaseId]
"""An item under a lease: with what is made of it under another one, its ledger does nothing."""


@dataclass(slots=True)
class FollowOn:
    """One item that waits."""

    block: Block
    blob: bytes
    places: int
    """How many results go into it in all."""
    results: dict[Input, Result] = field(default_factory=dict)
    """Of the inputs that have one."""

    def lacks(self) -> Iterator[Input]:
        return (name for name in self.block.inputs if name not in self.results)

    def complete(self) -> bytes | None:
        """The item with all that goes into it; None: something is still to come."""
        if len(self.results) < len(self.block.inputs):
            return None
        return filled(self.blob, [self.results[name] for name in self.block.inputs])


class FollowOns:
    """All follow-ons of a node."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        slots: Slots,
        stock: Stock,
        reports: Reports,
    ) -> None:
        self._links = links
        self._jobs = jobs
        self._slots = slots
        self._stock = stock
        self._reports = reports
        self._counters = context.counters
        self.waiting: dict[JobId, dict[int, FollowOn]] = {}
        self.awaited: dict[Input, list[Name]] = {}
        """What waits for each input. Empty as long as nothing does: the only question then."""

    def came_in(self, held: HeldJob, grant: Grant, now: float) -> None:
        """These are in the bags. Those with inputs wait."""
        job, back = held.spec.job, []
        entered: dict[int, FollowOn] = {}
        for block, blob in zip(grant.blocks, grant.blobs, strict=True):
            if block.inputs and held.bags.is_waiting(block.lo):
                places = places_in(blob, len(block.inputs))
                entered[block.lo] = FollowOn(block, blob, places)
                if not places:
                    self._counters.count("grants-refused")
                    back.append(block.lo)
        for item in entered.keys() & self.waiting.get(job, {}).keys():
            self._drop(job, item)
        self.waiting.setdefault(job, {}).update(entered)
        said = dict[JobId, list[tuple[Part, bytes]]]()
        for item, follow_on in entered.items():
            for name in follow_on.block.inputs:
                result = None if self._is_here(name) else self._said(name, held, said)
                if result is not None:
                    follow_on.results[name] = result
                elif self._is_here(name):
                    self.awaited.setdefault(name, []).append((job, item))
                else:
                    back.append(item)
                    break
        for item in entered:
            if item not in back:
                self._go_on(held, item)
        if back:
            self._give_back(held, grant.leases, back, now)
            self.tidy(held)

    def came(self, job: JobId, part: Part, blob: bytes) -> bool:
        """Items of a job have been run here. True: for each of them one of the same job runs now that
        waited for it alone."""
        followed = True
        for item in range(part.lo, part.hi):
            waiting = self.awaited.get((job, item, part.lid))
            if waiting is None:
                followed = False
                continue
            result = good_in(part.codec, blob, item - part.lo)
            if result is None or (part.stays and any(item == each for each, _ in part.stays)):
                followed = False
                continue  # its owner will withdraw what waits for it
            del self.awaited[job, item, part.lid]
            for other, at in waiting:
                if other == job and item < at < part.hi:
                    self._ran_behind(job, at)
                    continue
                # One report has them in their order; those of two jobs could overtake each other.
                followed = followed and other == job and self.waiting[other][at].places == 1
                self.waiting[other][at].results[job, item, part.lid] = result
                self._go_on(self._jobs[other], at)
        return followed

    def _ran_behind(self, job: JobId, item: int) -> None:
        """A worker had it behind the only one that it lacked, and has done both."""
        self.waiting[job].pop(item)
        if not self.waiting[job]:
            del self.waiting[job]
        self._counters.count("follow-ons-run")
        self._counters.count("follow-ons-handed-on")

    def tidy(self, held: HeldJob) -> None:
        """Some of this job's items may not wait any more, as they are not ours."""
        waiting = self.waiting.get(held.spec.job)
        if waiting is not None:
            for item in [item for item in waiting if not held.bags.is_waiting(item)]:
                self._drop(held.spec.job, item)

    def job_over(self, job: JobId) -> None:
        for item in list(self.waiting.get(job, ())):
            self._drop(job, item)

    # ------------------------------------------------------------ inside

    def _go_on(self, held: HeldJob, item: int) -> None:
        """It has one more result. Perhaps it may run now."""
        whole = self.waiting[held.spec.job][item].complete()
        if whole is not None:
            self._drop(held.spec.job, item)
            held.bags.complete(item, whole)
            self._counters.count("follow-ons-run")
            self._stock.restock(held)

    def _is_here(self, name: Input) -> bool:
        """Is this item leased to us, and not done?"""
        job, item, lid = name
        held = self._jobs.get(job)
        return held is not None and (
            held.bags.has(item, lid)
            or any(
                chunk.lo <= item < chunk.hi and chunk.lid == lid and not chunk.void
                for chunk in self._slots.chunks_of(job)
            )
        )

    def _said(
        self, name: Input, held: HeldJob, said: dict[JobId, list[tuple[Part, bytes]]]
    ) -> Result | None:
        """The result of an item that we have done, if its owner has not heard of it yet. (Else it would not
        have named it.)"""
        job, item, lid = name
        if job not in said:
            said[job] = list(self._reports.unsaid_of(job))
            for message in self._links.unheard(held.spec.owner):
                if isinstance(message, Report) and message.job == job:
                    said[job] += zip(message.parts, message.blobs, strict=True)
        for part, blob in said[job]:
            if part.lid == lid and part.lo <= item < part.hi:
                if any(item == each for each, _ in part.stays):
                    return None
                return good_in(part.codec, blob, item - part.lo)
        return None

    def _give_back(self, held: HeldJob, leases: list[Lease], items: list[int], now: float) -> None:
        """Their inputs are not here: their ledger is to say where they run."""
        parts = []
        for item in items:
            lid = next(lease.lid for lease in leases if lease.lo <= item < lease.hi)
            parts.append(Lease(lid, item, item + 1))
            held.bags.withdraw(item, item + 1)
        if parts:
            self._counters.count("follow-ons-returned", len(parts))
            self._links.send(held.spec.owner, Returned(held.spec.job, parts), now)

    def _drop(self, job: JobId, item: int) -> None:
        """It does not wait here any more."""
        follow_on = self.waiting[job].pop(item)
        if not self.waiting[job]:
            del self.waiting[job]
        for name in follow_on.lacks():
            others = self.awaited.get(name)
            if others is not None and (job, item) in others:
                others.remove((job, item))
                if not others:
                    del self.awaited[name]

    def audit(self) -> None:
        for job, waiting in self.waiting.items():
            held = self._jobs[job]
            for item, follow_on in waiting.items():
                assert held.bags.is_waiting(item), "a follow-on waits that is not here"
                for name in follow_on.lacks():
                    assert (job, item) in self.awaited[name], "a follow-on waits for nothing"
        count = sum(
            len(list(one.lacks())) for some in self.waiting.values() for one in some.values()
        )
        assert count == sum(map(len, self.awaited.values())), "something waits that is not here"
