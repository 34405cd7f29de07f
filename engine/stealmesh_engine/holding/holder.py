"""The work that this node holds for others: which jobs it has, and what their owners say about them.

Decides what a grant, a revocation and the end of a job mean here, when a job without news is over, and which
primary of a durable job is obeyed. Refuses to know which worker gets which chunk (`dispatcher.py`), what
workers make of it (`answers.py`), what is reported when (`reports.py`), where the work came from
(`stealing`) and what a ledger does with a report (`ledger/owner.py`).

Invariant: a node that hears that a lease is not its own lets go of it in the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.functions import ShippedFunctions, needed
from stealmesh_engine.base.rude import unless
from stealmesh_engine.data.values import Values
from stealmesh_engine.effects import ForgetJob
from stealmesh_engine.holding.actors import Actors
from stealmesh_engine.holding.answers import Answers
from stealmesh_engine.holding.belief import believable
from stealmesh_engine.holding.children import Children
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.follow_ons import FollowOns
from stealmesh_engine.holding.handover import Handover
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.hired_out import HiredOut
from stealmesh_engine.holding.made_here import MadeHere
from stealmesh_engine.holding.needed_here import NeededHere
from stealmesh_engine.holding.output import Printouts
from stealmesh_engine.holding.progress import Progress
from stealmesh_engine.holding.relief import Relief
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.holding.retained import Retained
from stealmesh_engine.holding.shortage import Shortage
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.ledger.requirements import lacked, suits
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, owner_of
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.limits import INDEX_MAX
from stealmesh_protocol.messages import (
    Claim,
    Closed,
    Declined,
    FnGet,
    FnPut,
    Grant,
    Here,
    InputGet,
    InputPut,
    Launch,
    Lease,
    Message,
    Reign,
    Revoked,
    Settled,
    Standing,
    Withdraw,
)


class Holder:
    """All held work of a node."""

    def __init__(self, context: Context, links: Links, values: Values, threads: int = 1) -> None:
        self.config = config = context.config
        self.threads = threads
        """Tasks that each worker runs side by side."""
        self.links = links
        self.journal = context.journal
        self.effects = context.effects
        self.counters = counters = context.counters
        self.jobs = HeldJobs()
        self.slots = Slots()
        self.retained = Retained(config, counters)
        self.functions = ShippedFunctions(config, counters)
        self.values = values
        self.dispatcher = Dispatcher(context, links, self.jobs, self.slots, self.functions, values)
        lives: dict[JobId, int] = {}
        made = MadeHere(context, values)
        progress = Progress(context, links, self.jobs, self.slots)
        self.printouts = Printouts(context, links, self.jobs, self.slots)
        self.reports = Reports(
            links, self.jobs, self.slots, progress, self.printouts, lives, made.unsaid
        )
        self.actors = Actors(context, links, self.jobs, self.slots, lives)
        self.handover = Handover(context, links, self.jobs, self.dispatcher, self.actors)
        self.shortage = Shortage(
            context, links, self.jobs, self.dispatcher.stock, self.reports, values
        )
        values.needed_by(NeededHere(self.jobs, self.slots, self.dispatcher))
        self.relief = Relief(context, links, self.slots)
        self.hired_out = HiredOut(
            context, links, self.jobs, self.dispatcher, self.functions, threads
        )
        self.children = Children(context, self.dispatcher)
        self.follow_ons = FollowOns(
            context, links, self.jobs, self.slots, self.dispatcher.stock, self.reports
        )
        self.answers = Answers(
            context,
            links,
            self.dispatcher,
            self.reports,
            self.handover,
            self.relief,
            made,
            self.follow_ons,
            self.hired_out,
        )

    def look_for_values(self, now: float) -> None:
        """Values have come or gone, or some wait for room."""
        self.shortage.look(now)
        for held in self.jobs.values():
            if held.bags.some_follow:  # some of it may have failed, as a value is lost
                self.follow_ons.tidy(held)

    def dispatch(self, now: float) -> None:
        """See who works, and that they have something to do."""
        self.relief.tend(now)
        self.dispatcher.dispatch(now)
        if self.slots.hired:
            self.hired_out.tend(now)

    # ------------------------------------------------------------ what owners say

    def granted(self, peer: PeerId, message: Grant, now: float) -> None:
        """Leases of a job that this peer owns or leads; others may not grant them."""
        spec = message.spec
        believable(message, peer, self.jobs.get(spec.job))
        if self.corrects(peer, spec.job, spec.term, now):
            self.counters.count("grants-refused")
            return
        if (spec.runtime or spec.resources) and not suits(spec, self.links.view.me):
            reason = lacked(spec, self.links.view.me)
            declined = Declined(spec.job, _parts_of(message), reason)
            self.links.send(spec.owner, declined, now)
            return
        if spec.life and not self.actors.belongs(message, now, leaving=self.dispatcher.draining):
            return
        held = self.jobs.get(spec.job)
        if held is not None and spec.life:
            held.lives_as(spec.life)
        if held is None:
            held = self.jobs.begin(spec, self.threads)
            for digest in self.functions.want(spec, now):
                self.links.send(spec.owner, FnGet(digest), now)
        elif spec.term:
            self.primary_found(spec.job, spec.term, spec.owner, now)
            held.counted(spec.count)
        held.granted_by(spec.owner, spec.term)
        self.shortage.before(held, message)
        taken = held.bags.take(message)
        if spec.term:
            for block, blob in zip(message.blocks, message.blobs, strict=False):
                self.retained.add(spec.job, block, blob)
        if not all(taken):
            self.counters.count("grants-refused", taken.count(False))
        if held.bags.some_follow:
            self.follow_ons.came_in(held, message, now)
        for lease in message.leases:
            self.journal.tell(now, "received", spec.job, lease.lid, (lease.lo, lease.hi))
        self.handover.restock(held, now)
        if spec.needs or held.bags.waits:
            self.values.start(now)

    def corrects(self, primary: PeerId, job: JobId, term: int, now: float) -> bool:
        """Is this a former primary that does not know that it is one? Then it hears of the later one."""
        later = self.jobs.outranks(job, term, primary)
        if later is None:
            return False
        reign = Reign(later.term, 0, later.owner, [])
        self.links.send(primary, Here(later.job, Standing.KEEPS, reign), now)
        return True

    def revoked(self, message: Revoked, now: float) -> None:
        """These leases are not ours: what is done under them is dropped."""
        held = self.jobs.get(message.job)
        if held is not None:
            if held.spec.life:
                self.actors.revoked(message.job, message.lids)
            self._let_go(held, message.lids, now)
            self.dispatcher.stock.restock(held)

    def _let_go(self, held: HeldJob, lids: list[LeaseId], now: float) -> None:
        job = held.spec.job
        for lid in lids:
            if held.bags.drop(lid):
                self.journal.tell(now, "let go", job, lid)
                self.journal.rings.note(
                    now, RingKind.LEASE, "revoked", name=held.spec.name, about=job, count=1
                )
            self.dispatcher.lease_over(job, lid)
        self.follow_ons.tidy(held)

    def withdrawn(self, message: Withdraw, now: float) -> None:
        held = self.jobs.get(message.job)
        if held is not None:
            for lo, hi in message.intervals:
                self.handover.drop_cancelled(held, lo, hi, now)
            if self.slots.beside:
                self.dispatcher.side.cancelled(message.job, message.intervals, now)
            for lo, hi in message.intervals if message.stop else ():
                self.dispatcher.stop_items(message.job, lo, hi, now)
            self.hired_out.withdrawn(message, now)
            self.follow_ons.tidy(held)
            self.dispatcher.stock.restock(held)

    def ended(self, message: Closed, now: float) -> None:
        """Its owner says so. What is to stop is told so first; explore bags end at once in any case."""
        if message.stop and message.job in self.jobs:
            self.dispatcher.side.cancelled(message.job, [(0, INDEX_MAX)], now)
            self.dispatcher.stop_items(message.job, 0, INDEX_MAX, now)
        self.closed(message.job, now, stop=False)

    def closed(self, job: JobId, now: float, *, stop: bool) -> None:
        """The job is over. Running chunks finish for nothing, or are stopped with their workers."""
        held = self.jobs.pop(job, None)
        if held is None:
            return
        self.reports.drop(job)
        self.follow_ons.job_over(job)
        self.retained.drop(job)
        self.journal.tell(now, "closed", job)
        self.dispatcher.job_over(job, stop=stop)
        self.hired_out.job_over(job, stop=stop, now=now)
        if held.spec.life:
            self.actors.end(job, "its job is over")
        self.functions.tidy(held.spec for held in self.jobs.values())
        self.effects.append(ForgetJob(job))

    def owner_gone(self, owner: PeerId, now: float) -> None:
        """No one wants the results of its jobs any more; a durable one gets another primary."""
        for job, held in self.jobs.items():
            if self.jobs.follows(job, owner):
                held.primary_gone(now)
        for job in self.jobs.ending_with(owner):
            self._orphaned(job, now)

    def forget_unreached(self, now: float) -> None:
        """Leases that could not be renewed are over, here as at their owner, which may have hung up
        because it had nothing to say, and died then: no link was left to break. Regression:
        test_unreached."""
        me = self.links.view.me.id
        for job, held in list(self.jobs.items()):
            owner = held.spec.owner
            reached = bool(held.spec.term) or self.links.is_ready(owner) or owner == me
            if held.reached(reached, now) >= self.config.lease_seconds:
                self._orphaned(job, now)

    def forget_empty(self, now: float) -> None:
        """A job without anything here for long may be over without our having heard of it (its owner
        took us for dead at the end). If it is not, the next grant brings it back."""
        busy = self.slots.busy_jobs()
        for job, held in list(self.jobs.items()):
            used = (
                bool(held.bags.leases)
                or job in busy
                or job in self.actors.lives
                or held.primary_gone_since is not None
                or self.reports.owes(job)
                or job in self.reports.under_way(held.spec.owner)
            )
            if held.used(used, now) < self.config.lease_seconds:
                continue
            if held.unsettled or held.asked:
                held.primary_gone(now)  # its present primary must hear of these results
            elif self.retained.has(job):
                # What we still have may be needed, unless the job is over.
                held.ask(now)
                self.links.send(held.spec.owner, Claim(job), now)
            else:
                self.closed(job, now, stop=False)

    def _orphaned(self, job: JobId, now: float) -> None:
        self.counters.count("jobs-orphaned")
        self.closed(job, now, stop=True)

    def function_came(self, message: FnPut) -> None:
        if self.functions.came(message):
            for held in self.jobs.values():
                self.dispatcher.stock.restock(held)

    def ask_for_functions(self, now: float) -> None:
        """A request or its answer may have been lost with a link: ask again."""
        for held in self.jobs.values():
            for digest in needed(held.spec):
                if digest in self.functions.awaited and held.primary_gone_since is None:
                    self.links.send(held.spec.owner, FnGet(digest), now)

    # ------------------------------------------------------------ primaries of durable jobs

    def settled(self, message: Settled) -> None:
        """The primary holds these results safely. We keep them, too, until the job is over, if we can."""
        held = self.jobs.get(message.job)
        if held is not None:
            held.counted(message.count)
            for part, blob in held.settled(message.intervals):
                self.retained.add(message.job, part, blob)

    def primary_found(
        self, job: JobId, term: int, primary: PeerId, now: float, *, rebuilt: bool = False
    ) -> None:
        """This peer leads a durable job. If that is news, tell it what we have."""
        held = self.jobs.get(job)
        if held is None or not held.spec.term:
            return
        known = (held.spec.term, held.spec.owner)
        if (term, primary) < known or (
            (term, primary) == known and held.primary_gone_since is None
        ):
            return
        self._let_go(held, held.follow(primary, term), now)
        self.journal.tell(now, "claims from", job, 0, primary)
        if rebuilt:
            for keep in held.pages(self.retained):
                self.links.send(primary, keep, now)
        self.reports.claim(held, now)
        self.dispatcher.stock.restock(held)

    def without_primary(self, now: float) -> list[JobId]:
        """Durable jobs that look for their primary. If none speaks for too long, the job is given up."""
        found = []
        for job, held in list(self.jobs.items()):
            since = held.primary_gone_since
            if since is None:
                continue
            if now - since < self.config.primary_patience_seconds:
                found.append(job)
            else:
                self._orphaned(job, now)
        return found

    def launch_again(self, job: JobId, now: float) -> Launch | None:
        """What to say to the node that is to be the primary of a job that has lost all replicas."""
        held = self.jobs[job]
        assert held.primary_gone_since is not None
        heard_at = max(held.primary_gone_since, held.replica_spoke_at)
        if now - heard_at < self.config.rebuild_after_seconds:
            return None
        return Launch(held.spec, held.spec.count, self.functions.of(held.spec))

    def audit(self) -> None:
        for held in self.jobs.values():
            running = self.reports.running_of(held)
            held.bags.audit(sum(chunk.hi - chunk.lo for chunk in running))
        self.follow_ons.audit()


def _parts_of(grant: Grant) -> list[Lease]:
    """All of it, to go back."""
    return [Lease(lease.lid, lease.lo, lease.hi) for lease in grant.leases]


Handler = Callable[[Holder, PeerId, Any, float], None]


def _if_obeyed(act: Callable[[Holder, Any, float], None]) -> Handler:
    """Former primaries of a durable job have no say."""

    def handler(holder: Holder, peer: PeerId, message: Any, now: float) -> None:
        if holder.jobs.obeys(message.job, peer):
            act(holder, message, now)
        else:
            unless(
                owner_of(message.job) == peer or holder.jobs.is_durable(message.job),
                "not-its-owner",
            )

    return handler


MESSAGES: dict[type[Message], Handler] = {
    Revoked: _if_obeyed(lambda holder, message, now: holder.revoked(message, now)),
    Withdraw: _if_obeyed(lambda holder, message, now: holder.withdrawn(message, now)),
    Closed: _if_obeyed(lambda holder, message, now: holder.ended(message, now)),
    Settled: _if_obeyed(lambda holder, message, now: holder.settled(message)),
    InputGet: lambda holder, peer, message, now: holder.follow_ons.wanted(peer, message, now),
    InputPut: lambda holder, peer, message, now: holder.follow_ons.put(peer, message, now),
    FnPut: lambda holder, peer, message, now: holder.function_came(message),
}
