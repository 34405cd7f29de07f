"""The jobs that this peer owns, and everything that is said about them.

Decides when a job begins and ends, and which part acts on an event or a message: the ledger accounts,
crediting.py judges what holders say, placement.py leases out what is free. Refuses to know how work is
stolen (it hears of a steal as a SPLIT and answers with a GRANT to the thief) and what the program does
with results.

Invariant: after every step, what is free of a job is leased out or the job waits in `placement.unplaced`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.functions import needed
from stealmesh_engine.base.rude import unless
from stealmesh_engine.effects import JobDone
from stealmesh_engine.events import (
    CancelItems,
    CancelJob,
    CloseInput,
    Feed,
    OpenJob,
    Release,
)
from stealmesh_engine.ledger.candidates import Candidates
from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.graph import Graph
from stealmesh_engine.ledger.hires import Hires
from stealmesh_engine.ledger.lacking import Lacking
from stealmesh_engine.ledger.life_ends import GONE, LifeEnds
from stealmesh_engine.ledger.output import PrintoutsHere
from stealmesh_engine.ledger.owned_job import (
    ExploreJob,
    IndexedJob,
    OwnedJob,
    opened,
    words_that_count,
)
from stealmesh_engine.ledger.placement import Placement, kind_of_lack
from stealmesh_engine.ledger.put_off import Alarms
from stealmesh_engine.ledger.speculation import Speculation
from stealmesh_engine.ledger.staying import Staying
from stealmesh_engine.ledger.unheard import Unheard
from stealmesh_engine.links.deliveries import Deliveries
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import Digest, JobId, PeerId
from stealmesh_protocol.messages import (
    Beat,
    Closed,
    Commit,
    Declined,
    FnGet,
    FnPut,
    JobLine,
    JobLoad,
    JobSpec,
    Message,
    Report,
    Returned,
    Split,
    Withdraw,
)

ENDED_JOBS_REMEMBERED = 64
J = TypeVar("J", bound=OwnedJob)


class Replicas(Protocol):
    """The durable jobs that this peer has replicas of, without (yet, or any longer) their ledger."""

    def took(self, holder: PeerId, message: Report | Commit | Split | Returned, now: float) -> bool:
        """A holder says this. Was it about such a job, and has it been dealt with?"""

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        """A holder names this job in its beat. The same question."""


class NoReplicas:
    def took(self, holder: PeerId, message: Report | Commit | Split | Returned, now: float) -> bool:
        return False

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        return False


class Owner:
    """All jobs of this peer.

    `wall_offset` (seconds) leads from the times that the engine is told to the time of day; `submitter`
    names the user of this program. Both are for people to read.
    """

    def __init__(
        self, context: Context, links: Links, *, wall_offset: float = 0.0, submitter: str = ""
    ) -> None:
        self.config = context.config
        self.links = links
        self.journal = context.journal
        self.effects = context.effects
        self.counters = context.counters
        self.wall_offset = wall_offset
        self.submitter = submitter
        self.jobs: dict[JobId, OwnedJob] = {}
        self.ended: deque[JobLine] = deque(maxlen=ENDED_JOBS_REMEMBERED)
        """How the last jobs ended, for status."""
        self.functions: dict[Digest, bytes] = {}
        self.deliveries = Deliveries(self.config, links)
        candidates = self.candidates = Candidates(self.config, links)
        self.alarms = Alarms()
        self.placement = Placement(context, links, candidates, Lacking(self.jobs, self.alarms))
        self.staying = Staying(self.jobs, self._work_changed, self.placement.lacking)
        self.crediting = Crediting(context, links, candidates, self.alarms, self.staying)
        self.speculation = Speculation(self.config, links, self.placement)
        self.actors = LifeEnds(context, self.crediting)
        self.unheard = Unheard(context, self.jobs, self.crediting, self.actors, self._hear)
        self.graph = Graph(context, links, candidates, self.jobs)
        self.printouts = PrintoutsHere(context, links)
        self.hires = Hires(context, links, self)
        self._replicas: Replicas = NoReplicas()

    def ask_replicas(self, replicas: Replicas) -> None:
        """From now on, ask these about a job that has no ledger here."""
        self._replicas = replicas

    # ------------------------------------------------------------ the program's wishes

    def open(self, event: OpenJob, now: float) -> None:
        spec = event.spec
        self.add_functions(event.functions)
        job = opened(event, self.candidates.homes)
        job.submitted_by(self.submitter, now, self.wall_offset)
        self.jobs[spec.job] = job
        self.placement.priorities.opened(spec.priority)
        self.journal.tell(now, "opened", spec.job, 0, spec.kind.name)
        self._work_changed(job, now)

    def feed(self, event: Feed, now: float) -> None:
        job = self.jobs.get(event.job)
        if job is None or not job.open_ended:
            return  # the program has cancelled it meanwhile
        if job.hire is not None and self.hires.hand(job, job.hire, event, now):
            return
        if event.inputs:
            self.graph.feed(job, event)
        else:
            job.comes(event.block)
            job.ledger.feed(event.block, event.blob)
        self._work_changed(job, now)

    def release(self, event: Release, now: float) -> None:
        job = self.job(event.job, IndexedJob)
        if job is not None:
            job.ledger.release(event.upto)
            self._work_changed(job, now)

    def close_input(self, event: CloseInput, now: float) -> None:
        job = self.jobs.get(event.job)
        if job is not None:
            job.close_input()
            self._work_changed(job, now)

    def cancel_items(self, event: CancelItems, now: float) -> None:
        job = self.job(event.job, IndexedJob)
        if job is None:
            return
        told: dict[PeerId, list[tuple[int, int]]] = {}
        for lo, hi in event.intervals:
            for peer, intervals in job.cancel(lo, hi, now + self.config.lease_seconds).items():
                told.setdefault(peer, []).extend(intervals)
            if job.edges is not None:
                self.graph.cancelled(job, lo, hi, fail=event.fail)
        for peer, intervals in told.items():
            self.links.send(peer, Withdraw(event.job, intervals, event.stop), now)
        self._work_changed(job, now)

    def cancel_job(self, event: CancelJob, now: float) -> None:
        job = self.jobs.get(event.job)
        if isinstance(job, IndexedJob) and job.ledger.recipes:
            self.cancel_items(CancelItems(event.job, job.keeps_results(), event.stop), now)
        elif job is not None:
            self.abandon(job, now, stop=event.stop)

    def cancel_ordinary(self, now: float) -> None:
        """This peer leaves: only durable jobs outlive it. Others are not done: a fold must not take them for whole."""
        for job in list(self.jobs.values()):
            if job.keeping is None:
                self.journal.tell(now, "cancelled", job.spec.job)
                self._drop(job, now)

    def add_functions(self, functions: dict[Digest, bytes]) -> None:
        """Functions of our jobs, by digest: holders ask us for them."""
        self.functions.update(functions)

    # ------------------------------------------------------------ durable jobs

    def lead(self, job: OwnedJob, functions: dict[Digest, bytes], now: float) -> None:
        """This peer is the primary of a durable job from now on."""
        self.add_functions(functions)
        self.jobs[job.spec.job] = job
        self.placement.priorities.opened(job.spec.priority)
        self.journal.tell(now, "leads", job.spec.job, job.spec.term)
        self._work_changed(job, now)

    def wake_up(self, now: float) -> None:
        """Items that were put off may have waited long enough."""
        ringing = set(self.alarms.ringing(now))
        for job in self._in_order() if ringing else ():
            if job.spec.job in ringing:
                assert isinstance(job, IndexedJob), "a bag was put off"
                self.alarms.set(job.spec.job, job.ledger.end_waits(now))
                self._work_changed(job, now)

    def resign(self, job_id: JobId) -> None:
        """Another peer is the primary: the leases are no longer ours to judge, so no holder is told."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            job.is_led_elsewhere()
            self.placement.forget(job_id)
            self.placement.priorities.closed(job.spec.priority)
            self.alarms.set(job_id, None)
            self._trim_functions(job.spec)

    def abandon(self, job: OwnedJob, now: float, *, stop: bool = False) -> None:
        """The job is not wanted any more: the nodes that work on it are told, and `stop` what runs."""
        self.journal.tell(now, "cancelled", job.spec.job)
        self._end(job, now, stop=stop)

    def take_note(self, job: IndexedJob, lo: int, hi: int, now: float) -> None:
        """[lo, hi) was done under another primary: a holder that is at it can stop."""
        job.linger(lo, hi, now + self.config.lease_seconds)
        for peer, intervals in job.ledger.settle(lo, hi).items():
            self.links.send(peer, Withdraw(job.spec.job, intervals), now)

    def work_changed(self, job_id: JobId, now: float) -> None:
        """What kept a durable job from being leased out or from ending may be over."""
        job = self.jobs.get(job_id)
        if job is not None:
            self._work_changed(job, now)

    # ------------------------------------------------------------ what holders say

    def split(self, victim: PeerId, message: Split, now: float) -> None:
        """A victim gives parts away: write it down, then grant them to the thief."""
        job, thief = self.jobs.get(message.job), message.thief
        if job is None:
            if not self._replicas.took(victim, message, now):
                lids = [part.lid for part in message.parts]
                self.crediting.revoke(victim, message.job, lids, now)
            return
        parts = message.parts
        if job.lanes is not None:
            parts = job.lanes.returned(victim, parts, job.ledger.lids)
        if self.crediting.hand_back(job, victim, parts, now, thief):
            self.placement.grant_stolen(job, victim, thief, message.nonce, parts, now)
            self._work_changed(job, now)

    def report(self, holder: PeerId, message: Report, now: float) -> None:
        job = self.job(message.job, IndexedJob)
        if job is not None:
            if job.lanes is not None:
                job.lanes.reported(holder, message.parts)
            if job.lives is not None:
                self.actors.reported(job, holder, message, now)
            self.crediting.report(job, holder, message, now)
            if job.ledger.copies is not None:
                self.speculation.reported(job, job.ledger.copies, holder, message.parts, now)
            self._work_changed(job, now)
            if job.lone >= self.config.hire_after_calls and job.hire is None and now >= job.hire_at:
                self.hires.may_ask(job, holder, now)
        elif not self._replicas.took(holder, message, now):
            self.crediting.too_late(holder, message, now)

    def commit(self, holder: PeerId, message: Commit, now: float) -> None:
        job = self.job(message.job, ExploreJob)
        if job is not None:
            self.crediting.commit(job, holder, message, now)
            self._work_changed(job, now)
        elif not self._replicas.took(holder, message, now):
            lids = [message.lid, *(child.lid for child in message.children)]
            self.crediting.revoke(holder, message.job, lids, now)

    def returned(self, holder: PeerId, message: Returned, now: float) -> None:
        """A holder hands parts back untouched."""
        job = self.jobs.get(message.job)
        if job is None:
            self._replicas.took(holder, message, now)
        else:
            parts = message.parts
            if job.lanes is not None:
                parts = job.lanes.returned(holder, parts, job.ledger.lids)
            if job.lives is not None:
                self.actors.returned(job, holder, now)
            self.crediting.hand_back(job, holder, parts, now)
            self._work_changed(job, now)

    def declined(self, holder: PeerId, message: Declined, now: float) -> None:
        """A holder cannot run the job: another node is to have these parts, and all others."""
        self.counters.count("leases-declined", len(message.parts))
        job = self.jobs.get(message.job)
        if job is not None:
            self.journal.tell(now, "declined", message.job, detail=(holder, message.reason))
            if job.lives is not None and self.actors.declined(job, holder, message, now):
                self._work_changed(job, now)
                return
            job.passing().unfit(holder, message.reason, now)
        self.returned(holder, Returned(message.job, message.parts), now)

    def beat_heard(self, peer: PeerId, message: Beat, now: float) -> None:
        """A node says what it has of ours, and how much waits there in all."""
        if message.loads:
            self.renew(peer, message.loads, now)
        self.candidates.beat(peer, message.queued_seconds)

    def renew(self, holder: PeerId, loads: list[JobLoad], now: float) -> None:
        """A holder names what it holds, job by job."""
        for load in loads:
            job = self.jobs.get(load.job)
            if job is not None:
                self.crediting.renew(job, holder, load, now)
            elif not self._replicas.named(holder, load.job, now) and load.lids:
                self.crediting.revoke(holder, load.job, load.lids, now)

    def hear_progress(self, holder: PeerId, message: Beat) -> None:
        self.effects += words_that_count(self.jobs, holder, message.told, self.counters)

    def function_wanted(self, peer: PeerId, message: FnGet, now: float) -> None:
        digest = message.digest
        if digest in self.unheard.functions:
            self.unheard.fail_all_with(digest, peer, now)
            return
        if any(
            isinstance(said, FnPut) and said.digest == digest for said in self.links.unheard(peer)
        ):
            return  # a large one takes longer than the peer's patience: it is on its way
        blob = self.functions.get(digest)
        self.links.send(peer, FnPut(digest, [] if blob is None else [blob]), now)

    # ------------------------------------------------------------ what holders never hear

    def unsayable(self, peer: PeerId, message: Message, why: str, now: float) -> None:
        self.unheard.unsayable(peer, message, why, now)

    def _hear(self, peer: PeerId, message: Message, now: float) -> None:
        MESSAGES[type(message)](self, peer, message, now)

    # ------------------------------------------------------------ what happens to holders

    def fence(self, holder: PeerId, now: float) -> None:
        """The holder is dead, gone or has forgotten us: what it held is free."""
        self.placement.side.lost(now)
        self.placement.nodes_changed(now)
        self.candidates.soonest.forget(holder)
        for job in self._in_order():
            hired = self.hires.fenced(job, holder)
            if job.lanes is not None:
                job.lanes.gone(holder, job.ledger.held_by(holder), now)
            if self.actors.gone(job, holder, GONE, now) or job.ledger.fence(holder) or hired:
                self.crediting.lease_over("fenced", job, 0, holder, now)
                self._work_changed(job, now)

    def holders(self) -> dict[PeerId, None]:
        """Every other peer that has something of ours."""
        return self.candidates.holders(self.jobs.values())

    def expire(self, now: float) -> None:
        """Leases that their holder did not name for too long are over."""
        for job in self._in_order():
            if job.lanes is not None and job.lanes.expire(now):
                self._work_changed(job, now)
            for lid, holder in job.ledger.expired(now):
                if self.deliveries.get_on(holder, now):
                    job.ledger.postpone(lid, now + self.config.lease_seconds / 2)
                    continue
                if job.lives is not None:
                    self.actors.expired(job, lid, holder, now)
                    self._work_changed(job, now)
                    continue
                job.ledger.revoke(lid)
                self.counters.count("leases-expired")
                job.let_lapse(holder)
                self.crediting.lease_over("expired", job, lid, holder, now)
                self.crediting.revoke(holder, job.spec.job, [lid], now)
                self._work_changed(job, now)
        self.speculation.look(self.jobs, now)

    def forgive(self, seconds: float) -> None:
        """This process did not run for some seconds: no lease ages by them."""
        self.speculation.forgive(seconds)
        for job in self.jobs.values():
            job.ledger.forgive(seconds)

    # ------------------------------------------------------------ jobs that wait

    def arrived(self, now: float) -> None:
        """A node has come."""
        self.placement.nodes_changed(now)
        self.place(now)

    def place(self, now: float) -> None:
        """Lease out what could not be leased before (a node came within reach, a cut has healed)."""
        if not self.placement.unplaced:
            return
        for job in self._in_order():
            if job.spec.job in self.placement.unplaced:
                self._work_changed(job, now)

    def watch_stuck(self, now: float) -> None:
        """Give up what no node can run."""
        for job_id in list(self.placement.unplaced):
            self._watch_stuck(self.jobs[job_id], now)

    def _watch_stuck(self, job: OwnedJob, now: float) -> None:
        why = self.placement.watch_stuck(job, now)
        if why:
            kind = kind_of_lack(job.spec, self.candidates.strangers(job))
            self.crediting.give_up(job, why, kind, now=now)
            self._work_changed(job, now)

    # ------------------------------------------------------------ looks and ends

    def job(self, job_id: JobId, kind: type[J]) -> J | None:
        """The open job with this id, if it is of this kind."""
        job = self.jobs.get(job_id)
        return job if isinstance(job, kind) else None

    def lines(self, now: float | None = None) -> list[JobLine]:
        """Every open job in figures, then those that ended last."""
        return [*(job.line(now) for job in self.jobs.values()), *self.ended]

    def audit(self) -> None:
        for job in self.jobs.values():
            job.ledger.audit()
        self.graph.audit()

    def _work_changed(self, job: OwnedJob, now: float) -> None:
        """After every transition: lease out what is free, and notice the end. Of a graph, when all transitions
        of this step are known."""
        if job.edges is not None and not self.graph.settling:
            self.graph.changed(job.spec.job)
            return
        if job.lives is not None:
            self.actors.fail_what_is_free(job)
        if job.hire is not None and self.hires.takes(job, job.hire, now):
            return
        if not self.placement.lease_out(job, now):
            if job.spec.resources and job.ledger.has_free:
                self._watch_stuck(job, now)
        elif job.may_end():
            self.journal.tell(now, "complete", job.spec.job)
            self._end(job, now)

    def settle(self, now: float) -> None:
        """The last of a step: what waits may follow, or may not any more."""
        self.graph.settle(self._work_changed, self.crediting.early, now)

    def _in_order(self) -> list[OwnedJob]:
        """All jobs, the most urgent first."""
        return sorted(self.jobs.values(), key=lambda job: -job.spec.priority)

    def _end(self, job: OwnedJob, now: float, *, stop: bool = False) -> None:
        """The job is complete, or the program has cancelled it."""
        self._drop(job, now, stop=stop)
        if job.keeping is None:
            self.effects.append(JobDone(job.spec.job))

    def _drop(self, job: OwnedJob, now: float, *, stop: bool = False) -> None:
        self.hires.job_over(job)
        job.end(now + self.wall_offset)
        if job.keeping is None:
            self.ended.append(job.line())
        self.placement.forget(job.spec.job)
        self.placement.priorities.closed(job.spec.priority)
        self.alarms.set(job.spec.job, None)
        for peer in job.told:
            if self.links.view.is_alive(peer):
                self.links.send(peer, Closed(job.spec.job, stop), now)
        del self.jobs[job.spec.job]
        self.graph.job_over(job)
        self._trim_functions(job.spec)

    def _trim_functions(self, spec: JobSpec) -> None:
        for digest in needed(spec):
            if not any(digest in needed(other.spec) for other in self.jobs.values()):
                self.functions.pop(digest, None)
                self.unheard.functions.pop(digest, None)


EVENTS: dict[type, Callable[[Owner, Any, float], None]] = {
    OpenJob: Owner.open,
    Feed: Owner.feed,
    Release: Owner.release,
    CloseInput: Owner.close_input,
    CancelItems: Owner.cancel_items,
    CancelJob: Owner.cancel_job,
}


def _split(owner: Owner, victim: PeerId, message: Split, now: float) -> None:
    """Thieves see nothing of actors: their calls stay in one place."""
    job = owner.jobs.get(message.job)
    unless(job is None or job.lives is None, "actors-are-not-split")
    owner.split(victim, message, now)


MESSAGES: dict[type[Message], Callable[[Owner, PeerId, Any, float], None]] = {
    Split: _split,
    Report: Owner.report,
    Commit: Owner.commit,
    Returned: Owner.returned,
    Declined: Owner.declined,
    FnGet: Owner.function_wanted,
}
