"""Judges the reports of holders: which results are delivered.

Decides, with the ledger's verdict, what is delivered, which leases are revoked, and whether another node is
asked for what one could not run. Refuses to know who is granted what (placement.py).

Invariant: an item is delivered once, when the ledger credits it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import Deliver, ItemsRunning, ItemWaits
from stealmesh_engine.ledger.candidates import Candidates
from stealmesh_engine.ledger.early_reports import EarlyReport
from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.explore import CommittedStep
from stealmesh_engine.ledger.owned_job import ExploreJob, IndexedJob, OwnedJob
from stealmesh_engine.ledger.passed_over import cannot_load, reason_in
from stealmesh_engine.ledger.put_off import Again, Alarms
from stealmesh_engine.ledger.staying import Staying
from stealmesh_engine.ledger.verdicts import Credited, Stale, Stepped, Verdict
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import Commit, JobLoad, Lease, Part, Report, Revoked
from stealmesh_protocol.values import AGAIN, LACKING, OUTCOMES, good_in

DROPPED_AT_ONCE_MAX = 1 << 32
"""A report may claim to be about more items than there are."""


class Crediting:
    """Turns reports into deliveries."""

    def __init__(
        self,
        context: Context,
        links: Links,
        candidates: Candidates,
        alarms: Alarms,
        staying: Staying,
    ) -> None:
        self.config = context.config
        self.links = links
        self.journal = context.journal
        self.effects = context.effects
        self.counters = context.counters
        self.rng = context.rng
        self.candidates = candidates
        self.alarms = alarms
        self.staying = staying

    def revoke(self, holder: PeerId, job: JobId, lids: list[LeaseId], now: float) -> None:
        """Tell the holder to let go of these leases."""
        self.journal.tell(now, "revoked", job, lids[0] if lids else 0, holder)
        self.links.send(holder, Revoked(job, lids), now)

    def lease_over(
        self, what: str, job: OwnedJob, lid: LeaseId, holder: PeerId, now: float
    ) -> None:
        """A holder has lost what it had of this job, or one lease of it."""
        self.journal.tell(now, what, job.spec.job, lid, holder)
        name = self.links.view.name_of(holder)
        self.journal.rings.note(
            now, RingKind.LEASE, what, name=name, about=job.spec.job, peer=holder, count=1
        )

    # ------------------------------------------------------------ results

    def too_late(self, holder: PeerId, message: Report, now: float) -> None:
        """These are results of a job that is over."""
        self.staying.too_late(message.job, holder, message.parts, now)
        self.revoke(holder, message.job, [part.lid for part in message.parts], now)

    def report(self, job: IndexedJob, holder: PeerId, message: Report, now: float) -> None:
        for part, blob in zip(message.parts, message.blobs, strict=True):
            intervals = [(part.lo, part.hi)]
            if job.edges is not None and job.edges.follows:
                intervals = self._without_early(job, job.edges, holder, part, blob)
            for lo, hi in intervals:
                self._judge(job, holder, part, blob, lo, hi, now)

    def early(self, job: IndexedJob, item: int, report: EarlyReport, now: float) -> None:
        """This was said before all that went into the item counted."""
        holder, part, blob = report
        self._judge(job, holder, part, blob, item, item + 1, now)

    def _without_early(
        self, job: IndexedJob, edges: JobEdges, holder: PeerId, part: Part, blob: bytes
    ) -> list[tuple[int, int]]:
        """What of this part may be judged now. Of the rest not all that goes into it counts, so it waits. If it cannot
        have run, or there is no room, it is out of its lease, and does not count."""
        early, impossible = edges.not_yet(holder, part, blob)
        if not (early or impossible):
            return [(part.lo, part.hi)]
        intervals = IntervalSet.of(part.lo, part.hi)
        for item in early:
            if edges.early.keep(item, (holder, part, blob)):
                self.counters.count("results-early")
                intervals.remove(item, item + 1)
            else:
                impossible.append(item)
        for item in impossible:
            self.counters.count("results-premature")
            job.ledger.split(holder, part.lid, item, item + 1)
        return list(intervals)

    def _judge(
        self,
        job: IndexedJob,
        holder: PeerId,
        part: Part,
        blob: bytes,
        lo: int,
        hi: int,
        now: float,
    ) -> None:
        """The blob covers all of [lo, hi) of this part: does it count?"""
        if (lo, hi) != (part.lo, part.hi):
            part = _only(part, blob, lo, hi)
        lacked = part.codec == LACKING
        if lacked and job.ledger.is_second(holder, part.lid, lo, hi):
            self._lacks_second(job, holder, part, blob)
            return
        if lacked:
            movable = job.lives is None or job.lives.may_move()
            if movable and self._passed_over(job, holder, part, blob, now):
                return
            part, blob = (
                replace(part, codec=OUTCOMES),
                self.candidates.told_by_all(job, part, blob, now),
            )
        elif part.codec == AGAIN:
            outcome = self._put_off(job, holder, part, blob, now)
            if outcome is None:
                return
            part, blob = outcome
        told = fed = None
        if part.stays or job.ledger.again:
            fed = job.ledger.inputs.within(lo, hi)
            if job.edges is not None:
                fed = job.edges.recipes(fed, part, blob)
        verdict = job.ledger.credit(holder, part.lid, lo, hi)
        if fed is not None:
            told = self.staying.judged(job, holder, part, verdict, fed, now)
        if not self._counts(job, holder, verdict, hi - lo, now):
            if job.keeping is not None:
                job.keeping.dismissed(holder, part)
            return
        assert isinstance(verdict, Credited)
        if job.lapsed:
            job.has_reported(holder)
        if job.item_seconds is not None:
            job.took(hi - lo, part.seconds)
        if part.failed:
            job.count_failed(min(part.failed, sum(high - low for low, high in verdict.intervals)))
            job.has_failed(part.lo, part.codec, blob)
        for low, high in verdict.intervals if told is None else told:
            self._credited(job, holder, part, blob, low, high)
            if job.passed is not None:
                job.passed.settled(low, high)
                if not lacked:
                    job.passed.able(holder)
            if job.edges is not None:
                job.edges.credited(low, high, part, blob)

    def _credited(
        self, job: IndexedJob, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int
    ) -> None:
        if job.keeping is not None:
            job.keeping.credited(holder, part, blob, lo, hi)
            return
        deliver = Deliver(job.spec.job, part, blob, lo, hi)
        if part.stays and job.edges is not None:
            deliver.into = job.edges.fed_by(part, lo, hi)
        self.effects.append(deliver)

    def alone(self, job: IndexedJob, holder: PeerId, part: Part, blob: bytes, now: float) -> None:
        """A report of one item that is done, of a job whose items stand alone. The shortest way."""
        verdict = job.ledger.credit(holder, part.lid, part.lo, part.hi)
        if self._counts(job, holder, verdict, 1, now):
            if job.lapsed:
                job.lapsed.pop(holder, None)
            self.effects.append(Deliver(job.spec.job, part, blob, part.lo, part.hi))

    def commit(self, job: ExploreJob, holder: PeerId, message: Commit, now: float) -> None:
        partial = message.blobs[0]
        if message.failed and partial[:1] == bytes([LACKING]):
            if self._bag_passed_over(job, holder, message, now):
                return
            part = Part(message.lid, 0, 1, LACKING, 0.0)
            partial = bytes([OUTCOMES]) + self.candidates.told_by_all(job, part, partial[1:], now)
        step = CommittedStep(
            message.seq,
            message.items,
            message.remaining,
            message.blobs[1],
            list(zip(message.children, message.blobs[2:], strict=False)),
            now + self.config.lease_seconds,
            kept=job.lanes is None,
        )
        verdict = job.ledger.commit(holder, message.lid, step)
        if not self._counts(job, holder, verdict, 1, now):
            return
        if message.failed:
            job.has_failed(0, partial[0] if partial else 0, partial[1:])
        if job.keeping is not None:
            assert isinstance(verdict, Stepped)
            job.count_failed(message.failed)
            job.keeping.stepped(holder, message, partial, verdict)
        elif partial:
            lo, hi = message.seq, message.seq + 1
            part = Part(message.lid, lo, hi, 0, message.seconds, message.failed)
            job.count_failed(message.failed)
            self.effects.append(Deliver(message.job, part, partial, lo, hi))

    def _counts(
        self, job: OwnedJob, holder: PeerId, verdict: Verdict, items: int, now: float
    ) -> bool:
        """Does the contribution count? If not, count it as dropped, and tell a stale holder."""
        if isinstance(verdict, Credited):
            return True
        job.count_dropped(min(items, DROPPED_AT_ONCE_MAX))
        self.counters.count("results-dropped", items)
        if isinstance(verdict, Stale):
            self.revoke(holder, job.spec.job, verdict.lids, now)
        return False

    # ------------------------------------------------------------ leases

    def hand_back(
        self, job: OwnedJob, holder: PeerId, parts: list[Lease], now: float, thief: PeerId = b""
    ) -> bool:
        """A holder gives up parts of its leases. Returns whether any was its own to give."""
        given = False
        for part in parts:
            verdict = job.ledger.split(holder, part.lid, part.lo, part.hi)
            if isinstance(verdict, Stale):
                self.revoke(holder, job.spec.job, verdict.lids, now)
                continue
            given = True
            if thief:
                self.journal.tell(now, "split", job.spec.job, part.lid, thief)
        return given

    def renew(self, job: OwnedJob, holder: PeerId, load: JobLoad, now: float) -> None:
        """A holder names its leases of a job: renew what is its own, revoke what is not."""
        until = now + self.config.lease_seconds
        stale = job.ledger.renew(holder, load.lids, until)
        if job.lanes is not None:
            job.lanes.named(holder, load.lids, until)
            stale = [lid for lid in stale if not job.lanes.lingers(holder, lid)]
        if job.lives is not None:
            stale = [lid for lid in stale if not job.lives.is_seat(holder, lid)]
        if load.running and job.ledger.held_by(holder):
            most = job.ledger.items_max
            running = [(lo, min(hi, most)) for lo, hi in load.running if lo < most]
            self.effects.append(ItemsRunning(load.job, running))
        if stale:
            self.revoke(holder, load.job, stale, now)

    # ------------------------------------------------------------ what runs again later

    def _put_off(
        self, job: IndexedJob, holder: PeerId, part: Part, blob: bytes, now: float
    ) -> tuple[Part, bytes] | None:
        """A worker says that this item is to run again. None: it will. Otherwise it has run often enough:
        the result that counts."""
        ledger, item = job.ledger, part.lo
        outcome = replace(part, codec=OUTCOMES, failed=part.hi - item)
        if part.hi - item != 1 or not ledger.is_open(holder, part.lid, item):
            return outcome, blob
        judged = ledger.putting_off().judge(job.spec, item, blob, self.rng)
        if not isinstance(judged, Again):
            return outcome, judged.blob
        job.has_reported(holder)
        if not ledger.wait(part.lid, item, now + judged.seconds):
            return None
        self.alarms.set(job.spec.job, ledger.putting_off().next_at)
        self.journal.tell(now, "put off", job.spec.job, part.lid, f"{item}: {judged.seconds:.3f} s")
        if job.keeping is None:
            self.effects.append(ItemWaits(job.spec.job, item))
        return None

    # ------------------------------------------------------------ what a node cannot run

    def _passed_over(
        self, job: IndexedJob, holder: PeerId, part: Part, blob: bytes, now: float
    ) -> bool:
        """The holder lacked something that these items need. Is there another node to ask?"""
        passed, ledger = job.passing(), job.ledger
        lent = ledger.lent(holder, part.lid)
        if lent is None or not lent.open.overlap(part.lo, part.hi):
            return False
        passed.declined(holder, part.lo, part.hi, reason_in(blob))
        if not any(self.candidates.is_open(job, at, now) for at in passed.starts(part.lo, part.hi)):
            passed.failed_everywhere(holder, part.lo, part.hi)
            return False
        self.counters.count("items-passed-over", part.hi - part.lo)
        self.journal.tell(now, "passed over", job.spec.job, part.lid, (part.lo, part.hi))
        ledger.split(holder, part.lid, part.lo, part.hi)
        return True

    def _lacks_second(self, job: IndexedJob, holder: PeerId, part: Part, blob: bytes) -> None:
        """It cannot run what another is at as well: that one goes on alone."""
        job.passing().declined(holder, part.lo, part.hi, reason_in(blob))
        self.counters.count("items-passed-over", part.hi - part.lo)
        job.ledger.split(holder, part.lid, part.lo, part.hi)

    def _bag_passed_over(
        self, job: ExploreJob, holder: PeerId, message: Commit, now: float
    ) -> bool:
        """The same of an explore bag, which goes on from its last step."""
        passed = job.passing()
        passed.unfit(holder, reason_in(message.blobs[0][1:]), now)
        passed.has_tried(holder)
        if not self.candidates.is_open(job, 0, now) or isinstance(
            job.ledger.split(holder, message.lid), Stale
        ):
            return False
        self.counters.count("bags-passed-over", 1)
        return True

    def give_up(
        self, job: OwnedJob, why: str, kind: str, attempts: Sequence[str] = (), now: float = 0.0
    ) -> None:
        """What is free fails: no node is left to run it."""
        ledger = job.ledger
        while ledger.has_free:
            part = ledger.give_up(self.links.view.me.id)
            part, blob = ledger.delivered_as(part, *cannot_load(why, part.failed, kind, attempts))
            job.count_failed(part.failed)
            job.has_failed(part.lo, OUTCOMES, blob[1:] if isinstance(job, ExploreJob) else blob)
            if job.keeping is not None:
                job.keeping.credited(self.links.view.me.id, part, blob, part.lo, part.hi)
                continue
            fresh = [(part.lo, part.hi)]
            if isinstance(job, IndexedJob) and job.ledger.again:
                me = self.links.view.me.id
                fresh = self.staying.judged(job, me, part, Credited(fresh), [], now)
            self.effects += [Deliver(job.spec.job, part, blob, lo, hi) for lo, hi in fresh]
            if isinstance(job, IndexedJob) and job.edges is not None:
                job.edges.credited(part.lo, part.hi, part, blob)


def _only(part: Part, blob: bytes, lo: int, hi: int) -> Part:
    """What the part says of [lo, hi) alone. A blob with results still covers all of it, so its bounds stay."""
    if part.codec == LACKING:
        return replace(part, lo=lo, hi=hi)
    failed = part.failed and sum(
        good_in(part.codec, blob, item - part.lo) is None for item in range(lo, hi)
    )
    stays = tuple(each for each in part.stays if lo <= each[0] < hi)
    seconds = part.seconds * (hi - lo) / (part.hi - part.lo)
    return replace(part, failed=failed, stays=stays, seconds=seconds)
