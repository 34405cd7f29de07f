"""What a holder tells the owners of its jobs: results, leases that it holds, claims, and what runs.

Decides which finished parts go together into one report and when, which leases a heartbeat names, and
what a durable job's new primary hears from us. Refuses to know how an item ended, and what a ledger makes of
a report (`ledger/owner.py`).

Invariant: a finished part is unsaid (here), on its way (links) or, in a durable job, unsettled (`HeldJob`)
until its primary holds it safely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from stealmesh_engine.events import ItemsPrinted
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.output import Printouts
from stealmesh_engine.holding.progress import Progress
from stealmesh_engine.holding.slots import Chunk, Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, owner_of, seat_of
from stealmesh_protocol.messages import Beat, Claim, Commit, JobKind, JobLoad, Lease, Part, Report

REPORT_OCTETS_MAX = 512 * 1024
UNDER_WAY_OCTETS_MIN = 1024 * 1024
"""From here on a message to an owner may take seconds to get there."""
LEASES_IN_BEAT_MAX = 8192
JOBS_IN_BEAT_MAX = 512
CLAIMS_MAX = 4096
"""Leases and results in one claim."""
FOLLOWED_SECONDS = 0.001
"""So long a result waits for company if what follows it goes on without its owner: a chain of short items is told of in
few reports."""
FOLLOWED_SECONDS_MAX = 0.004
"""The longest that it waits if nothing else happens here meanwhile: a node does not wake up for it alone."""
RUNNING_WORTH_TELLING_SECONDS = 0.25


def cut_by_size(sizes: Sequence[int], octets_max: int) -> list[tuple[int, int]]:
    """[lo, hi) of neighbours that together stay within `octets_max`. A larger one goes alone: where it was
    made it was decided whether it may travel at all."""
    cuts: list[tuple[int, int]] = []
    lo, octets = 0, 0
    for at, size in enumerate(sizes):
        if at > lo and octets + size > octets_max:
            cuts.append((lo, at))
            lo, octets = at, 0
        octets += size
    if lo < len(sizes):
        cuts.append((lo, len(sizes)))
    return cuts


class UnsaidParts(msgspec.Struct):
    """Finished parts of one job that its owner has not been told of yet."""

    since: float
    parts: list[Part] = []
    blobs: list[bytes] = []
    octets: int = 0
    urgent: int = 0
    """How many of them their owner waits for: with the others an item that follows goes on already."""

    def add(self, part: Part, blob: bytes) -> None:
        self.urgent += 1
        self.parts.append(part)
        self.blobs.append(blob)
        self.octets += len(blob)


class Reports:
    """What is still to be said to the owners of the jobs that a node holds."""

    def __init__(
        self,
        links: Links,
        jobs: HeldJobs,
        slots: Slots,
        progress: Progress,
        printouts: Printouts,
        lives: Mapping[JobId, int] = MappingProxyType({}),
        unsaid: Callable[[JobId, list[Part]], None] = lambda job, parts: None,
    ) -> None:
        self.links = links
        self.progress = progress
        self.printouts = printouts
        self.jobs = jobs
        self.slots = slots
        self.lives = lives
        """Of the actors that live here (`actors.py`)."""
        self.due: float | None = None
        """When the oldest of what waits for company has waited for long enough."""
        self.unsaid: dict[JobId, UnsaidParts] = {}
        """By job: what is finished and waits for the end of the step, or for company."""
        self._never_said = unsaid
        """Hears of finished parts that nobody will be told of."""

    def add(self, job: JobId, part: Part, blob: bytes, now: float) -> None:
        """A part is finished, one way or the other: it goes into the next report."""
        unsaid = self.unsaid.get(job)
        if unsaid is None:
            unsaid = self.unsaid[job] = UnsaidParts(now)
        unsaid.add(part, blob)

    def printed(self, event: ItemsPrinted, now: float) -> None:
        """Tasks have printed something."""
        self.printouts.printed(event, now)
        if self.printouts.unsaid:
            self.due = now  # `flush` finds out when it may go

    def flush(self, now: float, patience: float) -> None:
        """Report what workers have finished.

        An owner has as many reporters as there are nodes, so in a large mesh each collects for
        `patience` seconds while it still has work of the job. The last word never waits.
        """
        self.due = self.progress.flush(now, patience) if self.progress.words else None
        if self.printouts.unsaid:
            due = self.printouts.flush(now, self.unsaid)
            self.due = due if self.due is None or due is None else min(self.due, due)
        for job, unsaid in list(self.unsaid.items()):
            held = self.jobs[job]
            until = unsaid.since + (patience if unsaid.urgent else FOLLOWED_SECONDS)
            if (
                now < until
                and held.bags.leases
                and (held.spec.kind is not JobKind.SUBMIT or not unsaid.urgent)
                and not held.spec.max_parallel  # others wait for its lane
                and unsaid.octets < REPORT_OCTETS_MAX
            ):
                at = until if unsaid.urgent else unsaid.since + FOLLOWED_SECONDS_MAX
                self.due = at if self.due is None else min(self.due, at)
                continue
            del self.unsaid[job]
            if held.spec.term:
                held.keep_unsettled(unsaid.parts, unsaid.blobs)
                if held.primary_gone_since is not None:
                    continue  # it goes to the next primary, with our claim
            cuts = [(0, len(unsaid.parts))]
            if unsaid.octets > REPORT_OCTETS_MAX:
                cuts = cut_by_size(list(map(len, unsaid.blobs)), REPORT_OCTETS_MAX)
            for lo, hi in cuts:
                report = Report(job, unsaid.parts[lo:hi], unsaid.blobs[lo:hi])
                self.links.send(held.spec.owner, report, now)

    def unsaid_of(self, job: JobId) -> Iterator[tuple[Part, bytes]]:
        """What is finished of this job that its owner has not been told of yet."""
        unsaid = self.unsaid.get(job)
        return iter(() if unsaid is None else zip(unsaid.parts, unsaid.blobs, strict=True))

    def followed(self, job: JobId) -> None:
        """The part that has just been added is all that an item here waited for."""
        unsaid = self.unsaid.get(job)
        if unsaid is not None:
            unsaid.urgent -= 1

    def owes(self, job: JobId) -> bool:
        """Is something finished that its owner has not been told of?"""
        return job in self.unsaid

    def drop(self, job: JobId) -> None:
        """The job is over."""
        self.printouts.drop(job)
        unsaid = self.unsaid.pop(job, None)
        if unsaid is not None:
            self._never_said(job, unsaid.parts)

    def claim(self, held: HeldJob, now: float) -> None:
        """Tell a durable job's new primary what we have: what is open of our leases, and results."""
        job = held.spec.job
        unsaid = self.unsaid.pop(job, None)
        if unsaid is not None:
            held.keep_unsettled(unsaid.parts, unsaid.blobs)
        leases = held.bags.untouched_parts()
        leases += [Lease(chunk.lid, chunk.lo, chunk.hi) for chunk in self.running_of(held)]
        parts = [part for part, _ in held.unsettled.values()]
        blobs = [blob for _, blob in held.unsettled.values()]
        for at in range(0, max(len(leases), len(parts), 1), CLAIMS_MAX):
            to = at + CLAIMS_MAX
            claim = Claim(job, leases[at:to], parts[at:to], blobs[at:to])
            self.links.send(held.spec.owner, claim, now)

    def running_of(self, held: HeldJob) -> list[Chunk]:
        """What workers have of its leases."""
        leases = held.bags.leases
        return [
            chunk
            for chunk in self.slots.chunks_of(held.spec.job)
            if not chunk.void and chunk.lid in leases and chunk.lo < chunk.hi
        ]

    # ------------------------------------------------------------ what is not finished yet

    def tell_all_running(self, owner: PeerId, now: float) -> None:
        """The owner asks how things stand: what it has submitted and runs here comes first."""
        running = self.slots.running()
        self.tell_running([chunk for chunk in running if owner_of(chunk.job) == owner], now)

    def tell_running(self, chunks: list[Chunk], now: float) -> None:
        """These calls run. Their submitters may ask for that, and must not cancel them."""
        for chunk in chunks:
            held = self.jobs.get(chunk.job)
            if held is None or chunk.void or held.spec.term:  # a primary does not cancel items
                continue
            if held.spec.kind is JobKind.SUBMIT:
                load = JobLoad(chunk.job, [chunk.lid], [(chunk.lo, chunk.hi)])
                beat = Beat(self.links.view.me.incarnation, 0, 0.0, [load], [])
                self.links.send(held.spec.owner, beat, now)

    def loads_for(self, owner: PeerId, now: float) -> list[list[JobLoad]]:
        """The leases that we hold of this owner's jobs: one list for each heartbeat that they fill."""
        pages: list[list[JobLoad]] = []
        leases = LEASES_IN_BEAT_MAX
        under_way = self.under_way(owner)
        for job, held in self.jobs.items():
            life = self.lives.get(job, 0) if held.spec.life else 0
            if held.spec.owner == owner and (held.bags.leases or job in under_way or life):
                running = [
                    (chunk.lo, chunk.hi)
                    for chunk in self.slots.running()
                    if chunk.job == job
                    and not chunk.explore
                    and now - chunk.started > RUNNING_WORTH_TELLING_SECONDS
                ]
                lids = list(held.bags.leases | under_way.get(job, {}))
                if life:
                    lids.append(seat_of(life))
                for start in range(0, len(lids), LEASES_IN_BEAT_MAX):
                    page = lids[start : start + LEASES_IN_BEAT_MAX]
                    if (
                        leases + len(page) > LEASES_IN_BEAT_MAX
                        or len(pages[-1]) >= JOBS_IN_BEAT_MAX
                    ):
                        pages.append([])
                        leases = 0
                    leases += len(page)
                    pages[-1].append(JobLoad(job, page, running))
        return pages

    def under_way(self, owner: PeerId) -> dict[JobId, dict[LeaseId, None]]:
        """Finished leases, by job, with results on a slow link to this owner. If they expired, another
        node would do all of it again, and report it again."""
        found: dict[JobId, dict[LeaseId, None]] = {}
        if self.links.unacked_octets(owner) >= UNDER_WAY_OCTETS_MIN:
            for message in self.links.unheard(owner):
                if isinstance(message, Report):
                    lids = dict.fromkeys(part.lid for part in message.parts)
                elif isinstance(message, Commit):
                    lids = dict.fromkeys([message.lid, *(child.lid for child in message.children)])
                else:
                    continue
                found.setdefault(message.job, {}).update(lids)
        return found
