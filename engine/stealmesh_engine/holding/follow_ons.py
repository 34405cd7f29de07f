"""Items that a node has before their inputs have results: they wait here, and run with what is made here or comes.

Decides whether an input of such a follow-on is here, and when all of them have results. Then the item is
completed, octets beside octets, and may run like any other. Refuses to know what results are, how they come from other
nodes (handed_across.py), and why its owner leased it to us (`ledger/graph.py`). An input that fails, moves or is given
back needs no word here: its owner hears of it, as ever, and withdraws what followed it.

Invariant: what waits here is in the bags of its job, under a lease, and has no worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.handed_across import HandedAcross, Input
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.holding.stock import Stock
from stealmesh_engine.links.links import Links
from stealmesh_protocol.given import Result, filled, places_in
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Block,
    Grant,
    InputGet,
    InputPut,
    Lease,
    Part,
    Report,
    Returned,
)
from stealmesh_protocol.values import good_in

Name = tuple[JobId, int]
Said = dict[JobId, list[tuple[Part, bytes]]]
"""By job: what is done here, and its owner may not have heard of."""


@dataclass(slots=True)
class FollowOn:
    """One item that waits."""

    block: Block
    blob: bytes
    results: dict[Input, Result] = field(default_factory=dict)
    """Of the inputs that have one."""

    def makers(self) -> Iterator[tuple[Input, PeerId]]:
        """What it waits for, and who makes that; an empty id: this node."""
        makers = self.block.makers or (b"",) * len(self.block.inputs)
        return zip(self.block.inputs, makers, strict=True)

    def lacking_makers(self) -> Iterator[tuple[Input, PeerId]]:
        return ((name, maker) for name, maker in self.makers() if name not in self.results)

    def lacks(self) -> Iterator[Input]:
        return (name for name, _ in self.lacking_makers())

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
        """What waits for each input. The only question, with what others want, as long as nothing does."""
        self.across = HandedAcross(context, links)

    def came_in(self, held: HeldJob, grant: Grant, now: float) -> None:
        """These are in the bags. Those with inputs wait, and those that waited and come without are complete."""
        back: list[int] = []
        said: Said = {}
        entered = self._entered(held, grant, back)
        from_others: list[tuple[Input, PeerId]] = []
        for item, follow_on in entered.items():
            for name, maker in follow_on.makers() if item not in back else ():
                if maker:
                    from_others.append((name, maker))
                elif not self._is_here(name):
                    result = self._said(name, held.spec.owner, said)
                    if result is None:
                        back.append(item)
                        break
                    follow_on.results[name] = result
                    continue
                self.awaited.setdefault(name, []).append((held.spec.job, item))
        for item in entered:
            if item not in back:
                self._go_on(held, item)
        if back:
            self._give_back(held, grant.leases, back, now)
            self.tidy(held)
        self.across.ask([each for each in from_others if each[0] in self.awaited], now)

    def _entered(self, held: HeldJob, grant: Grant, back: list[int]) -> dict[int, FollowOn]:
        """Those that wait from now on. Into `back`: those that are no item with places for their inputs."""
        job, entered = held.spec.job, dict[int, FollowOn]()
        known = self.waiting.get(job, {})
        for block, blob in zip(grant.blocks, grant.blobs, strict=True):
            item, waits = block.lo, held.bags.is_waiting(block.lo)
            if not block.inputs:
                if item in known:
                    self._drop(job, item)
                    held.bags.complete(item, blob)
            elif waits and any(lease.lo <= item < lease.hi for lease in grant.leases):
                if item in known:
                    self._drop(job, item)
                entered[item] = FollowOn(block, blob)
                if not places_in(blob, len(block.inputs)):
                    self._counters.count("grants-refused")
                    back.append(item)
        if entered:
            self.waiting.setdefault(job, {}).update(entered)
        return entered

    def came(self, held: HeldJob, part: Part, blob: bytes, now: float) -> bool:
        """Items of a job have been run here. True: what follows them goes on without their owner, here or elsewhere."""
        job, followed = held.spec.job, True
        peers: dict[PeerId, None] = {}
        for item in range(part.lo, part.hi):
            name = (job, item, part.lid)
            waiting = self.awaited.get(name)
            elsewhere = self.across.is_made(name) if self.across.wanted else ()
            result = _good(part, blob, item)
            if result is None or not (waiting or elsewhere):
                followed = False
                continue  # if something waits for it, its owner will withdraw that
            peers.update(dict.fromkeys(elsewhere))
            if waiting:
                # One report has them in their order; those of two jobs could overtake each other.
                followed = followed and all(other == job for other, _ in waiting)
                self._has(name, result, upto=part.hi)
        self.across.give(peers, job, part, blob, now)
        return followed

    def _has(self, name: Input, result: Result, upto: int = 0) -> None:
        """What waits for this one has it. `upto`: its worker has done the items up to here as well."""
        job, item, _ = name
        self.across.needs_no_more(name)
        for other, at in self.awaited.pop(name):
            if other == job and item < at < upto:
                self._ran_behind(job, at)
                continue
            self.waiting[other][at].results[name] = result
            self._go_on(self._jobs[other], at)

    # ------------------------------------------------------------ what other nodes make, or wait for

    def wanted(self, peer: PeerId, message: InputGet, now: float) -> None:
        """A peer has items that wait for these, which we have, had, or are going to have."""
        held = self._jobs.get(message.job)
        said: Said = {}
        for item, lid in message.items:
            name = (message.job, item, lid)
            done = None
            if held is not None and not self._is_here(name):
                done = self._report_of(name, held.spec.owner, said)
            if done is None:
                self.across.wants(peer, name)
            else:
                self.across.give([peer], message.job, *done, now)

    def put(self, peer: PeerId, message: InputPut, now: float) -> None:
        """A peer has made results that items here wait for."""
        for name, part, blob in self.across.came(peer, message):
            result = _good(part, blob, name[1])
            if result is not None and name in self.awaited:
                self._counters.count("inputs-from-others")
                self._has(name, result)

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
        self.across.job_over(job)

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

    def _said(self, name: Input, owner: PeerId, said: Said) -> Result | None:
        """The result of an item that we have done, if its owner has not heard of it yet. (Else it would not
        have named it.)"""
        done = self._report_of(name, owner, said)
        return None if done is None else _good(*done, name[1])

    def _report_of(self, name: Input, owner: PeerId, said: Said) -> tuple[Part, bytes] | None:
        job, item, lid = name
        if job not in said:
            said[job] = list(self._reports.unsaid_of(job))
            for message in self._links.unheard(owner):
                if isinstance(message, Report) and message.job == job:
                    said[job] += zip(message.parts, message.blobs, strict=True)
        for part, blob in said[job]:
            if part.lid == lid and part.lo <= item < part.hi:
                return part, blob
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
                    self.across.needs_no_more(name)

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
        self.across.audit(self.awaited)


def _good(part: Part, blob: bytes, item: int) -> Result | None:
    """The result of this item, if it has one that travels."""
    if any(item == each for each, _ in part.stays):
        return None
    return good_in(part.codec, blob, item - part.lo)
