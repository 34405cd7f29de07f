"""The jobs that this peer owns: their ledgers, their inputs, and who gets what is free.

Decides to whom free work is leased, turns what holders say into verdicts of the ledger, and
delivers every credited contribution once. Refuses to know how work is stolen (it hears of a
steal as a SPLIT and answers with a GRANT to the thief) and what the program does with results.

The owner keeps every input block until its items are credited, so whatever dies, the work
can be leased again. Free work is not held back for anyone: it goes to the reachable node
that holds least of the job, and the mesh's stealing does the rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.functions import needed
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Deliver, Effect, ItemsRunning, JobDone, NobodyCan
from stealmesh_engine.events import CancelItems, CancelJob, CloseInput, Feed, OpenJob, Release
from stealmesh_engine.ledger.declined import (
    NOBODY_REMEDY,
    NOBODY_SAID_SECONDS,
    NOBODY_SECONDS,
    PassedOver,
    cannot_load,
    nobody_can,
    reason_in,
)
from stealmesh_engine.ledger.ledger import (
    Credited,
    ExploreLedger,
    IndexedLedger,
    LentBag,
    Stale,
    Verdict,
)
from stealmesh_engine.ledger.partition_guard import Side
from stealmesh_engine.ledger.placement import Candidates, first_free, passing
from stealmesh_engine.links.deliveries import Deliveries
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.unsayable import failed
from stealmesh_protocol.ids import Digest, JobId, LeaseId, PeerId
from stealmesh_protocol.limits import NAME_CHARS_MAX
from stealmesh_protocol.messages import (
    CAME_BACK,
    Closed,
    Commit,
    Declined,
    FnPut,
    Grant,
    JobKind,
    JobLine,
    JobLoad,
    JobSpec,
    Lease,
    Message,
    Part,
    Report,
    Returned,
    Revoked,
    Split,
    Withdraw,
)
from stealmesh_protocol.values import LACKING, OUTCOMES

ENDED_JOBS_REMEMBERED = 64
FAILED_TOGETHER = 1024
"""Items whose failure is told at once when nobody can run them."""


class Keeping(Protocol):
    """What a durable job's home (primary.py) wants to be asked and told."""

    def credited(self, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int) -> None:
        """The items [lo, hi) count, for the first and only time."""

    def dismissed(self, holder: PeerId, part: Part) -> None:
        """This result does not count; the holder need not keep it."""

    def may_lease(self) -> bool:
        """Is it known by now what others hold, and is there room for results?"""

    def may_end(self) -> bool:
        """Is everything that was credited held safely?"""


class Kept(Protocol):
    """What this peer keeps for others (election.py)."""

    def took(self, holder: PeerId, message: Report | Split | Returned, now: float) -> bool:
        """Was this said of a job that is kept here without a ledger, and has it been dealt with?"""

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        """The same, of a job that a holder names in its beat."""


class NothingKept:
    def took(self, holder: PeerId, message: Report | Split | Returned, now: float) -> bool:
        return False

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        return False


@dataclass(slots=True)
class OwnedJob:
    """A job, its account and what is needed to lease any part of it again."""

    spec: JobSpec
    ledger: IndexedLedger | ExploreLedger
    open_ended: bool
    inputs: Blocks = field(default_factory=Blocks)
    told: dict[PeerId, None] = field(default_factory=dict)
    """Nodes that have heard of the job and must hear of its end."""
    lapsed: dict[PeerId, None] = field(default_factory=dict)
    """Nodes that beat, and yet let a lease of this job expire: others come first until one reports."""
    failed: int = 0
    duplicates_dropped: int = 0
    done: bool = False
    keeping: Keeping | None = None
    """Of a durable job: who sees to it that it outlives this process."""
    submitter: str = ""
    """Of an ordinary job, whose spec does not say it with every grant."""
    submitted: float = 0.0
    ended: float = 0.0
    """Like `submitted`, in seconds since 1970."""
    passed: PassedOver | None = None
    """Nodes that cannot run it; None as long as nobody has declined."""
    stuck_since: float | None = None
    """Since when there are nodes, and none that has its Python."""
    why_stuck: str = ""
    said_stuck: bool = False


class Owner:
    """All jobs of this peer."""

    def __init__(
        self,
        config: Config,
        links: Links,
        journal: Journal,
        effects: list[Effect],
        counters: Counters,
    ) -> None:
        self.config = config
        self.links = links
        self.journal = journal
        self.effects = effects
        self.counters = counters
        self.jobs: dict[JobId, OwnedJob] = {}
        self.ended: deque[JobLine] = deque(maxlen=ENDED_JOBS_REMEMBERED)
        """How the last jobs ended, for status."""
        self.functions: dict[Digest, bytes] = {}
        self.unsayable_functions: dict[Digest, str] = {}
        """Those that could not be sent, and why."""
        self.unplaced: dict[JobId, None] = {}
        """Jobs with free work that no reachable node could be given yet."""
        self.side = Side(config, links)
        self.wall_offset = 0.0
        """What our host's clock on the wall is ahead of the times that we are told: for people only."""
        self.submitter = ""
        self.candidates = Candidates(config, links)
        self.deliveries = Deliveries(config, links)
        self.kept: Kept = NothingKept()
        """Who answers for jobs that this peer keeps without (yet, or any longer) having their ledger."""

    # ------------------------------------------------------------ the program's wishes

    def open(self, event: OpenJob, now: float) -> None:
        spec = event.spec
        ledger: IndexedLedger | ExploreLedger
        if spec.kind is JobKind.EXPLORE:
            ledger = ExploreLedger()
        else:
            ledger = IndexedLedger(
                event.total, event.released, whole_parts=spec.kind is JobKind.REDUCE
            )
        self.functions.update(event.functions)
        job = OwnedJob(spec, ledger, event.open_ended)
        job.submitter, job.submitted = self.submitter, now + self.wall_offset
        self.jobs[spec.job] = job
        self.journal.tell(now, "opened", spec.job, 0, spec.kind.name)
        self._work_changed(self.jobs[spec.job], now)

    def lead(self, job: OwnedJob, functions: dict[Digest, bytes], now: float) -> None:
        """This peer is the home of a durable job from now on."""
        self.functions.update(functions)
        self.jobs[job.spec.job] = job
        self.journal.tell(now, "leads", job.spec.job, job.spec.term)
        self._work_changed(job, now)

    def resign(self, job_id: JobId) -> None:
        """Somebody else is the home: its leases are no longer ours to judge, so nobody is told."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            job.done = True
            self.unplaced.pop(job_id, None)
            self._trim_functions(job.spec)

    def abandon(self, job: OwnedJob, now: float) -> None:
        """Nobody wants a durable job any more: whoever works on it is told."""
        self.journal.tell(now, "cancelled", job.spec.job)
        self._end(job, now)

    def take_note(self, job: OwnedJob, lo: int, hi: int, now: float) -> None:
        """[lo, hi) was done under another home: whoever is at it can stop."""
        assert isinstance(job.ledger, IndexedLedger)
        for peer, intervals in job.ledger.settle(lo, hi).items():
            self.links.send(peer, Withdraw(job.spec.job, intervals), now)
        self._forget_blocks(job, [(lo, hi)])

    def work_changed(self, job_id: JobId, now: float) -> None:
        """What kept a durable job from being leased out or from ending may be over."""
        job = self._open_job(job_id)
        if job is not None:
            self._work_changed(job, now)

    def feed(self, event: Feed, now: float) -> None:
        job = self._open_job(event.job)
        if job is None:
            return
        if isinstance(job.ledger, ExploreLedger):
            job.ledger.put(event.block.hi - event.block.lo, event.blob)
        else:
            assert event.block.lo == job.ledger.total, "blocks follow each other without gaps"
            job.inputs.add(event.block, event.blob)
            job.ledger.extend(event.block.hi)
        self._work_changed(job, now)

    def release(self, event: Release, now: float) -> None:
        job = self._open_job(event.job)
        if job is not None and isinstance(job.ledger, IndexedLedger):
            job.ledger.release(event.upto)
            self._work_changed(job, now)

    def close_input(self, event: CloseInput, now: float) -> None:
        job = self._open_job(event.job)
        if job is not None:
            job.open_ended = False
            self._work_changed(job, now)

    def cancel_items(self, event: CancelItems, now: float) -> None:
        job = self._open_job(event.job)
        if job is None or not isinstance(job.ledger, IndexedLedger):
            return
        told: dict[PeerId, list[tuple[int, int]]] = {}
        for lo, hi in event.intervals:
            for peer, intervals in job.ledger.cancel(lo, hi).items():
                told.setdefault(peer, []).extend(intervals)
            if job.passed is not None:
                job.passed.settled(lo, hi)
        for peer, intervals in told.items():
            self.links.send(peer, Withdraw(event.job, intervals), now)
        self._forget_blocks(job, event.intervals)
        self._work_changed(job, now)

    def cancel_job(self, event: CancelJob, now: float) -> None:
        job = self._open_job(event.job)
        if job is not None:
            self.journal.tell(now, "cancelled", event.job)
            self._end(job, now)

    # ------------------------------------------------------------ what holders say

    def split(self, victim: PeerId, message: Split, now: float) -> None:
        """A victim gives parts away: write it down, then grant them to the thief."""
        job = self._open_job(message.job)
        if job is None:
            if not self.kept.took(victim, message, now):
                self._stale(victim, message.job, [part.lid for part in message.parts], now)
            return
        thief = message.thief
        given = False
        for part in message.parts:
            if isinstance(job.ledger, ExploreLedger):
                verdict = job.ledger.split(victim, part.lid)
            else:
                verdict = job.ledger.split(victim, part.lid, part.lo, part.hi)
            if isinstance(verdict, Stale):
                self._stale(victim, message.job, verdict.lids, now)
                continue
            given = True
            self.journal.tell(now, "split", message.job, part.lid, thief)
        if not given:
            return
        alive = thief not in self.links.mute and self.links.view.is_alive(thief)
        if alive and not self.side.withholds(now):
            self._grant_all(job, victim, thief, message.nonce, now)
        self._work_changed(job, now)

    def report(self, holder: PeerId, message: Report, now: float) -> None:
        job = self._open_job(message.job)
        if job is None or isinstance(job.ledger, ExploreLedger):
            if not self.kept.took(holder, message, now):
                self._stale(holder, message.job, [part.lid for part in message.parts], now)
            return
        for part, blob in zip(message.parts, message.blobs, strict=True):
            lacked = part.codec == LACKING
            if lacked:
                if self._passed_over(job, job.ledger, holder, part, blob, now):
                    continue
                part, blob = (
                    replace(part, codec=OUTCOMES),
                    self.candidates.told_by_all(job, part, blob, now),
                )
            verdict = job.ledger.credit(holder, part.lid, part.lo, part.hi)
            if not self._counts(job, holder, verdict, part.hi - part.lo, now):
                if job.keeping is not None:
                    job.keeping.dismissed(holder, part)
            else:
                assert isinstance(verdict, Credited)
                job.lapsed.pop(holder, None)
                job.failed += part.failed
                for lo, hi in verdict.intervals:
                    if job.keeping is None:
                        self.effects.append(Deliver(message.job, part, blob, lo, hi))
                    else:
                        job.keeping.credited(holder, part, blob, lo, hi)
                    if job.passed is not None:
                        job.passed.settled(lo, hi)
                        if not lacked:
                            job.passed.able(holder)
                self._forget_blocks(job, verdict.intervals)
        self._work_changed(job, now)

    def commit(self, holder: PeerId, message: Commit, now: float) -> None:
        job = self._open_job(message.job)
        children = list(zip(message.children, message.blobs[2:], strict=False))
        if job is None or not isinstance(job.ledger, ExploreLedger):
            lids = [message.lid, *(child.lid for child, _ in children)]
            self._stale(holder, message.job, lids, now)
            return
        partial = message.blobs[0]
        if message.failed and partial[:1] == bytes([LACKING]):
            if self._bag_passed_over(job, job.ledger, holder, message, now):
                return
            part = Part(message.lid, 0, 1, LACKING, 0.0)
            partial = bytes([OUTCOMES]) + self.candidates.told_by_all(job, part, partial[1:], now)
        verdict = job.ledger.commit(
            holder,
            message.lid,
            message.seq,
            gained=message.items,
            remaining=message.remaining,
            rest=message.blobs[1],
            children=children,
            deadline=now + self.config.lease_seconds,
        )
        if self._counts(job, holder, verdict, 1, now) and partial:
            part = Part(
                message.lid, message.seq, message.seq + 1, 0, message.seconds, message.failed
            )
            job.failed += message.failed
            self.effects.append(Deliver(message.job, part, partial, message.seq, message.seq + 1))
        self._work_changed(job, now)

    def returned(self, holder: PeerId, message: Returned, now: float) -> None:
        """A holder hands parts back untouched."""
        job = self._open_job(message.job)
        if job is None:
            self.kept.took(holder, message, now)
            return
        for part in message.parts:
            if isinstance(job.ledger, ExploreLedger):
                verdict = job.ledger.split(holder, part.lid)
            else:
                verdict = job.ledger.split(holder, part.lid, part.lo, part.hi)
            if isinstance(verdict, Stale):
                self._stale(holder, message.job, verdict.lids, now)
        self._work_changed(job, now)

    def declined(self, holder: PeerId, message: Declined, now: float) -> None:
        """A holder cannot run the job: somebody else is to have these parts, and all others."""
        self.counters.count("leases-declined", len(message.parts))
        job = self._open_job(message.job)
        if job is not None:
            self.journal.tell(now, "declined", message.job, detail=(holder, message.reason))
            passing(job).unfit(holder, message.reason, now)
        self.returned(holder, Returned(message.job, message.parts), now)

    def renew(self, holder: PeerId, loads: list[JobLoad], now: float) -> None:
        """A holder names what it holds: renew what is its own, revoke what is not."""
        for load in loads:
            job = self._open_job(load.job)
            stale = load.lids
            if job is not None:
                stale = job.ledger.renew(holder, load.lids, now + self.config.lease_seconds)
                if load.running:
                    self.effects.append(ItemsRunning(load.job, load.running))
            elif self.kept.named(holder, load.job, now):
                continue
            if stale:
                self._stale(holder, load.job, stale, now)

    def unsayable(self, peer: PeerId, message: Message, why: str, now: float) -> None:
        """The peer will never hear this: the items that it is about fail."""
        if isinstance(message, FnPut):
            self.unsayable_functions[message.digest] = why
            self._fail_all_with(message.digest, peer, now)
        elif isinstance(message, Grant):
            for lease in message.leases:
                self._fail_lease(message.spec.job, peer, lease.lid, why, now)

    def _fail_all_with(self, digest: Digest, peer: PeerId, now: float) -> None:
        """The peer cannot run what it holds of the jobs with this function."""
        for job in list(self.jobs.values()):
            if digest in needed(job.spec):
                for lid in job.ledger.held_by(peer):
                    why = self.unsayable_functions[digest]
                    self._fail_lease(job.spec.job, peer, lid, why, now)

    def _fail_lease(self, job_id: JobId, peer: PeerId, lid: LeaseId, why: str, now: float) -> None:
        job = self._open_job(job_id)
        lent = None if job is None else job.ledger.leases.get(lid)
        if job is None or lent is None or lent.holder != peer:
            return
        self.journal.tell(now, "cannot be said", job_id, lid, peer)
        if isinstance(lent, LentBag):
            codec, blob = failed(1, why)
            blobs = [bytes([codec]) + blob, b""]
            self.commit(peer, Commit(job_id, lid, lent.seq + 1, 0, failed=1, blobs=blobs), now)
        else:
            for lo, hi in list(lent.open):
                codec, blob = failed(hi - lo, why)
                part = Part(lid, lo, hi, codec, 0.0, hi - lo)
                self.report(peer, Report(job_id, [part], [blob]), now)
        self._stale(peer, job_id, [lid], now)

    def function_wanted(self, peer: PeerId, digest: Digest, now: float) -> None:
        if digest in self.unsayable_functions:
            self._fail_all_with(digest, peer, now)
            return
        if any(
            isinstance(said, FnPut) and said.digest == digest for said in self.links.unheard(peer)
        ):
            return  # a large one takes longer than the peer's patience: it is on its way
        blob = self.functions.get(digest)
        self.links.send(peer, FnPut(digest, [] if blob is None else [blob]), now)

    # ------------------------------------------------------------ what happens to holders

    def fence(self, holder: PeerId, now: float) -> None:
        """The holder is dead, gone or has forgotten us: what it held is free."""
        self.side.lost(now)
        for job in list(self.jobs.values()):
            freed = job.ledger.fence(holder)
            if freed:
                self.journal.tell(now, "fenced", job.spec.job, 0, holder)
                self._work_changed(job, now)

    def holders(self) -> dict[PeerId, None]:
        """Everybody else who has something of ours."""
        me = self.links.view.me.id
        held = (holder for job in self.jobs.values() for holder in job.ledger.holders())
        return {holder: None for holder in held if holder != me}

    def expire(self, now: float) -> None:
        """Leases that their holder did not name for too long are over."""
        for job in list(self.jobs.values()):
            for lid, holder in job.ledger.expired(now):
                if self.deliveries.get_on(holder, now):
                    job.ledger.leases[lid].deadline = now + self.config.lease_seconds / 2
                    continue
                job.ledger.revoke(lid)
                self.counters.count("leases-expired")
                job.lapsed[holder] = None
                self.journal.tell(now, "expired", job.spec.job, lid, holder)
                self._stale(holder, job.spec.job, [lid], now)
                self._work_changed(job, now)

    def forgive(self, seconds: float) -> None:
        """We were not running for so long: no lease ages by that."""
        for job in self.jobs.values():
            for lent in job.ledger.leases.values():
                lent.deadline += seconds

    def mind_side(self, now: float) -> None:
        """Are we on the lesser side of a cut (if that is to matter)?"""
        if self.side.look(now):
            self.journal.tell(now, "leases nothing" if self.side.lesser else "leases again")
        if self.side.lesser:
            name = "beats-on-the-lesser-side"
            self.counters.count(name)

    def place(self, now: float) -> None:
        """Lease out what could not be leased before (a node came within reach, a cut has healed)."""
        for job_id in list(self.unplaced):
            job = self.jobs.get(job_id)
            if job is None or job.done:
                del self.unplaced[job_id]
            else:
                self._work_changed(job, now)

    def mind_stuck(self, now: float) -> None:
        """There may be nodes, and none that can run a job: say so, and in the end give it up. A
        durable job waits: its program may be gone, and nodes with its Python may come."""
        for job_id in list(self.unplaced):
            job = self.jobs[job_id]
            nodes = [] if self.side.withholds(now) else self.candidates.strangers(job)
            if not nodes:
                job.stuck_since, job.why_stuck = None, ""
                continue
            job.why_stuck = nobody_can(job.spec, nodes)
            if job.stuck_since is None:
                job.stuck_since = now
                continue
            stuck_seconds = now - job.stuck_since
            if stuck_seconds >= NOBODY_SAID_SECONDS and not job.said_stuck:
                job.said_stuck = True
                self.effects.append(NobodyCan(job_id, f"{job.why_stuck}: {NOBODY_REMEDY}"))
            if stuck_seconds >= NOBODY_SECONDS and job.keeping is None:
                self._give_up(job, f"{job.why_stuck}: {NOBODY_REMEDY}", now)

    def lines(self) -> list[JobLine]:
        """Every open job in figures, then those that ended last."""
        return [*map(line_of, self.jobs.values()), *self.ended]

    def audit(self) -> None:
        for job in self.jobs.values():
            job.ledger.audit()

    # ------------------------------------------------------------ inside

    def _open_job(self, job_id: JobId) -> OwnedJob | None:
        job = self.jobs.get(job_id)
        return job if job is not None and not job.done else None

    def _work_changed(self, job: OwnedJob, now: float) -> None:
        """After every transition: lease out what is free, and notice the end."""
        if job.keeping is not None and not job.keeping.may_lease():
            self.unplaced[job.spec.job] = None
            return
        while job.ledger.has_free:
            node = None if self.side.withholds(now) else self.candidates.whom_to_ask(job, now)
            if node is None:
                self.unplaced[job.spec.job] = None
                return
            self._grant_one(job, node, 0, now)
        self.unplaced.pop(job.spec.job, None)
        if (
            job.ledger.complete
            and not job.open_ended
            and (job.keeping is None or job.keeping.may_end())
        ):
            self.journal.tell(now, "complete", job.spec.job)
            self._end(job, now)

    def _grant_all(
        self, job: OwnedJob, victim: PeerId, thief: PeerId, nonce: int, now: float
    ) -> None:
        """All that is free goes to one thief (the victim has just given it up for it), but what it
        cannot run: that stays where it was."""
        alike = self.candidates.has_runtime(job, thief)
        while job.ledger.has_free:
            passed = job.passed
            barred = {} if passed is None else passed.barred(first_free(job), now)
            if alike and thief not in barred:
                self._grant_one(job, thief, nonce, now)
            elif victim not in barred and self.candidates.may_run(job, victim):
                useless = not alike or (passed is not None and thief in passed.nodes)
                self._grant_one(job, victim, CAME_BACK if useless else 0, now)
            else:
                return

    def _grant_one(self, job: OwnedJob, holder: PeerId, nonce: int, now: float) -> None:
        deadline = now + self.config.lease_seconds
        spec = job.spec
        lease: Lease | None
        if isinstance(job.ledger, ExploreLedger):
            taken = job.ledger.lease(holder, deadline)
            assert taken is not None
            lease, items = taken
            grant = Grant(spec, [lease], [], nonce, [items])
        else:
            free_lo = job.ledger.free.first
            block = None if spec.step else job.inputs.at(free_lo)
            items_max = None if block is None else block[0].hi - free_lo
            if job.passed is not None:
                items_max = _less(items_max, job.passed.reach(free_lo), free_lo)
            lease = job.ledger.lease(holder, deadline, items_max=items_max)
            assert lease is not None
            if block is None:
                grant = Grant(spec, [lease], [], nonce)
            else:
                grant = Grant(spec, [lease], [block[0]], nonce, [block[1]])
        job.told[holder] = None
        self.journal.tell(now, "granted", spec.job, lease.lid, holder)
        self.links.send(holder, grant, now)

    def _forget_blocks(self, job: OwnedJob, intervals: list[tuple[int, int]]) -> None:
        """Inputs whose items are all credited are not needed any more."""
        if job.inputs and isinstance(job.ledger, IndexedLedger):
            job.inputs.drop_covered(intervals, job.ledger.credited)

    def _counts(
        self, job: OwnedJob, holder: PeerId, verdict: Verdict, items: int, now: float
    ) -> bool:
        """Does the contribution count? If not, say why: to the counters, and to a stale holder."""
        if isinstance(verdict, Credited):
            return True
        job.duplicates_dropped += items
        self.counters.count("results-dropped", items)
        if isinstance(verdict, Stale):
            self._stale(holder, job.spec.job, verdict.lids, now)
        return False

    # ------------------------------------------------------------ who cannot

    def _passed_over(
        self,
        job: OwnedJob,
        ledger: IndexedLedger,
        holder: PeerId,
        part: Part,
        blob: bytes,
        now: float,
    ) -> bool:
        """The holder lacked something that these items need. Is there somebody else to be asked?"""
        passed = passing(job)
        held = ledger.leases.get(part.lid)
        if held is None or held.holder != holder:
            return False
        passed.declined(holder, part.lo, part.hi, reason_in(blob))
        if not any(self.candidates.is_open(job, at, now) for at in passed.starts(part.lo, part.hi)):
            passed.failed_everywhere(holder, part.lo, part.hi)
            return False
        self.counters.count("items-passed-over", part.hi - part.lo)
        self.journal.tell(now, "passed over", job.spec.job, part.lid, (part.lo, part.hi))
        ledger.split(holder, part.lid, part.lo, part.hi)
        return True

    def _bag_passed_over(
        self, job: OwnedJob, ledger: ExploreLedger, holder: PeerId, message: Commit, now: float
    ) -> bool:
        """The same of an explore bag, which goes on from its last step."""
        passed = passing(job)
        passed.unfit(holder, reason_in(message.blobs[0][1:]), now)
        passed.nodes[holder].tried = True
        if not self.candidates.is_open(job, 0, now) or isinstance(
            ledger.split(holder, message.lid), Stale
        ):
            return False
        self.counters.count("bags-passed-over", 1)
        self._work_changed(job, now)
        return True

    def _give_up(self, job: OwnedJob, why: str, now: float) -> None:
        """What is free fails: nobody is left to run it."""
        me = self.links.view.me.id
        ledger, job_id = job.ledger, job.spec.job
        while ledger.has_free:
            if isinstance(ledger, ExploreLedger):
                taken = ledger.lease(me, inf)
                assert taken is not None
                lid = taken[0].lid
                ledger.commit(
                    me, lid, 1, gained=0, remaining=0, rest=b"", children=[], deadline=inf
                )
                codec, blob = cannot_load(why, 1)
                self.effects.append(
                    Deliver(job_id, Part(lid, 1, 2, 0, 0.0, 1), bytes([codec]) + blob, 1, 2)
                )
                job.failed += 1
                continue
            folds = job.spec.kind is JobKind.REDUCE
            lease = ledger.lease(me, inf, items_max=None if folds else FAILED_TOGETHER)
            assert lease is not None
            lid, lo, hi = lease.lid, lease.lo, lease.hi
            failed = 1 if folds else hi - lo
            codec, blob = cannot_load(why, failed)
            ledger.credit(me, lid, lo, hi)
            job.failed += failed
            self.effects.append(
                Deliver(job_id, Part(lid, lo, hi, codec, 0.0, failed), blob, lo, hi)
            )
            self._forget_blocks(job, [(lo, hi)])
        self._work_changed(job, now)

    # ------------------------------------------------------------ ends

    def _stale(self, holder: PeerId, job: JobId, lids: list[int], now: float) -> None:
        self.journal.tell(now, "revoked", job, lids[0] if lids else 0, holder)
        self.links.send(holder, Revoked(job, lids), now)

    def _end(self, job: OwnedJob, now: float) -> None:
        job.done = True
        job.ended = now + self.wall_offset
        if job.keeping is None:
            self.ended.append(line_of(job))
        job.inputs.clear()
        self.unplaced.pop(job.spec.job, None)
        for peer in job.told:
            if self.links.view.is_alive(peer):
                self.links.send(peer, Closed(job.spec.job), now)
        del self.jobs[job.spec.job]
        self._trim_functions(job.spec)
        if job.keeping is None:
            self.effects.append(JobDone(job.spec.job))

    def _trim_functions(self, spec: JobSpec) -> None:
        for digest in needed(spec):
            if not any(digest in needed(other.spec) for other in self.jobs.values()):
                self.functions.pop(digest, None)
                self.unsayable_functions.pop(digest, None)


def _less(items_max: int | None, reach: int | None, lo: int) -> int | None:
    """The smaller of two bounds, either of which there may not be."""
    if reach is None:
        return items_max
    return reach - lo if items_max is None else min(items_max, reach - lo)


def line_of(job: OwnedJob) -> JobLine:
    figures = job.ledger.figures()
    state = "running" if job.ledger.leases else "waiting"
    if job.why_stuck and not job.ledger.leases:
        state = f"waiting: {job.why_stuck}"[:NAME_CHARS_MAX]
    if job.done:
        state = "done" if job.ledger.complete else "cancelled"
    return JobLine(
        job.spec.job,
        job.spec.kind,
        job.spec.name,
        state,
        figures.total,
        figures.done,
        job.failed,
        figures.leased,
        figures.free,
        job.ledger.rerun,
        job.duplicates_dropped,
        job.keeping is not None,
        job.submitter or job.spec.submitter,
        job.submitted or job.spec.submitted,
        job.ended,
    )
