"""Workers that an owner hires for items that come alone: whom it asks, what they get, and how a hire ends.

A program that waits for each call before it makes the next one asks its mesh for one item at a time. Two Python
processes lie between it and the worker, and they cost more than the item. So the owner hires a worker of a node on
its own host, and hands it such items itself.

Nothing else changes. The item is leased to the node of the worker, under an id of its own, before the order goes out;
the answer is a report of that node that came another way, and the ledger judges it as any other. So a hire that is
over is fenced by what fences every lease, and an item is never out under two leases.

A hire is over when the node has said so *and* the host has told all that the worker said before. What is still out
then was not begun, and is free at once; or the node has taken it over, and it is an ordinary item of an ordinary
lease. The deaths of the worker, and of the node, are these two cases and the fence.

The program of an actor hires the actor's own process. Its calls run in order, so nothing goes the other way while a
call is with it, and it gets none while one that went the other way is open.

Decides when a worker is asked for and dismissed. Refuses to know sockets (the host) and what a result is worth
(crediting.py). Idea: Ray's owners lease workers of their raylet and talk to them directly.

Invariant: a hire has at most one item out, which is open in the ledger under the hire's lease id, or was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import DropHired, FetchHired, OrderHired
from stealmesh_engine.events import Event, Feed, HireCame, HiredAnswer, HireReadOut
from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.hired_hand import AGAIN_SECONDS, AGAIN_SECONDS_MAX, HiredHand
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.placement import Placement
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Block,
    Dismiss,
    Hire,
    Hired,
    HireOver,
    Lease,
    Message,
    Report,
    Role,
)
from stealmesh_protocol.values import AGAIN, LACKING

IDLE_SECONDS = 0.01
"""A hired worker without an item goes back after this time at the latest, or twice that: others may need it."""
ACTOR_IDLE_SECONDS = 1.0
"""The process of an actor goes back after this time: nobody else needs it."""
SLOW_SECONDS = 0.03
"""An item that takes longer becomes an ordinary one, which its node shows and looks after."""
HELD_BACK_SECONDS = 0.004
"""So long an item waits for a worker that is asked for, if its node has no other: there it would only wait for that
worker to come back."""
UNANSWERED_SECONDS = 1.0
"""A node that has not answered by then does not know what a hire is."""
WORTH_ITEMS = 16
ITEM_OCTETS_MAX = 32 * 1024
"""An item with more octets goes the ordinary way: what carries orders to a worker carries small ones."""


class HiringOwner(Protocol):
    """What it needs of its owner."""

    jobs: dict[JobId, OwnedJob]
    crediting: Crediting
    placement: Placement

    def report(self, holder: PeerId, message: Report, now: float) -> None:
        """Hears an answer that is not the usual one, as a report of the worker's node."""

    def work_changed(self, job_id: JobId, now: float) -> None:
        """Something of this job may be free."""


class Hires:
    """All hired workers of one owner."""

    def __init__(self, context: Context, links: Links, owner: HiringOwner) -> None:
        self._config = context.config
        self._links = links
        self._journal = context.journal
        self._effects = context.effects
        self._counters = context.counters
        self._owner = owner
        self._crediting, self._placement = owner.crediting, owner.placement
        self._hired: dict[int, OwnedJob] = {}
        """The jobs with a hire, by the number of that."""
        self._numbers = 0
        self.dealt_with: Event | None = None
        """The call or the answer from which nothing else follows. If the core was told nothing but this, its step ends."""
        self.due: float | None = None
        """When to look after them."""

    # ------------------------------------------------------------ asking, and giving work

    def may_ask(self, job: OwnedJob, node: PeerId, now: float) -> None:
        """This node has just done an item of the job, which has no other. Hire a worker of it, if items keep coming
        alone."""
        view = self._links.view
        member = view.members.get(node)
        if (
            not self._config.hire_after_calls
            or job.done
            or job.ledger.leases
            or job.ledger.has_free
        ):
            return
        here = member is not None and member.host == view.me.host and self._links.is_ready(node)
        if not here or view.me.role is not Role.CLIENT:
            job.hire_at = now + AGAIN_SECONDS_MAX
            return
        self._numbers += 1
        only = (member is not None and member.workers == 1) or job.lives is not None
        job.hire = HiredHand(self._numbers, job.spec.job, node, now, only)
        if job.lives is not None:
            job.hire.life = job.lives.number
        self._hired[self._numbers] = job
        self._journal.tell(now, "hires", job.spec.job, 0, node)
        self._links.send(node, Hire(job.spec.job, self._numbers), now)
        self._wake_by(now + UNANSWERED_SECONDS)

    def hand(self, job: OwnedJob, hire: HiredHand, event: Feed, now: float) -> bool:
        """This comes: hand it to the hired worker, if it is a single small item and nothing else waits."""
        block, blob, ledger = event.block, event.blob, job.ledger
        if block.hi - block.lo != 1 or block.needs or event.inputs or not hire.is_free:
            return False
        if len(blob) > ITEM_OCTETS_MAX or ledger.has_free or not self._may_get(job, hire, now):
            return False
        assert isinstance(ledger, IndexedLedger), "only calls are handed to hired workers"
        ledger.feed(block, blob)
        lease = ledger.lease(hire.node, inf)
        assert lease is not None, "the item that came is free"
        self._gets(job, hire, lease, block, blob, now)
        self.dealt_with = event
        return True

    def takes(self, job: OwnedJob, hire: HiredHand, now: float) -> bool:
        """Does the hired worker get what is free of the job, now or in a moment? An actor's call waits for the one that
        is there."""
        if self.give(job, hire, now) or (job.lives is not None and hire.lid):
            return True
        return hire.only and self._holds_back(hire, now)

    def _holds_back(self, hire: HiredHand, now: float) -> bool:
        """Is a single item to wait for this worker?"""
        pending = not (hire.here or hire.over or hire.dismissed)
        if not (pending and now < hire.used_at + HELD_BACK_SECONDS):
            return False
        self._wake_by(hire.used_at + HELD_BACK_SECONDS)
        return True

    def give(self, job: OwnedJob, hire: HiredHand, now: float) -> bool:
        """Something of the job is free: hand it to the hired worker, if it is a single small item. True: it is."""
        ledger = job.ledger
        if not hire.is_free or ledger.free_items != 1:
            return False
        assert isinstance(job, IndexedJob), "only calls are handed to hired workers"
        fed = job.ledger.inputs.at(job.ledger.first_free)
        if fed is None or fed[0].needs or fed[0].inputs or len(fed[1]) > ITEM_OCTETS_MAX:
            return False
        if not self._may_get(job, hire, now):
            return False
        lease, blocks, blobs = job.ledger.grant(hire.node, inf)
        assert lease.hi - lease.lo == 1, "it was the only free item"
        self._gets(job, hire, lease, blocks[0], blobs[0], now)
        return True

    # ------------------------------------------------------------ what nodes and the host say

    def hired(self, peer: PeerId, message: Hired, now: float) -> None:
        hire = self._known(peer, message.job, message.hire)
        if hire is None:
            self._links.send(peer, Dismiss(message.job, message.hire), now)
            return
        hire.hired = True
        self._effects.append(FetchHired(hire.number, hire.job, peer))

    def came(self, event: HireCame, now: float) -> None:
        job = self._hired.get(event.hire)
        if job is None:
            if event.here:
                self._effects.append(DropHired(event.hire, event.job))
            return
        hire = job.hire
        assert hire is not None
        if hire.over:
            return  # it is being read out
        hire.here, hire.used_at = event.here, now
        if event.here:
            self._wake_by(now + _idle_seconds(hire))
        else:
            self._dismiss(hire, now)
        if hire.only:
            self._owner.work_changed(job.spec.job, now)

    def answered(self, event: HiredAnswer, now: float) -> None:
        """An answer counts, if its lease is still open, as if the node had reported it."""
        job = self._hired.get(event.hire)
        hire = None if job is None else job.hire
        if hire is not None and hire.lid == event.part.lid:
            hire.lid, hire.used_at = 0, now
            hire.served += 1
        part = event.part
        special = part.failed or part.codec in (AGAIN, LACKING)
        if job is None or hire is None or special or not self._stands_alone(job):
            self._owner.report(event.node, Report(event.job, [part], [event.blob]), now)
            return
        assert isinstance(job, IndexedJob), "only calls are handed to hired workers"
        if job.lives is not None:
            job.lives.reported(event.node, [part], LACKING)
        self._crediting.alone(job, event.node, part, event.blob, now)
        if job.open_ended and hire.is_free and not job.ledger.has_free:
            self.dealt_with = event
        else:
            self._owner.work_changed(job.spec.job, now)

    def over(self, peer: PeerId, message: HireOver, now: float) -> None:
        hire = self._known(peer, message.job, message.hire)
        if hire is None or hire.over:
            return
        hire.over, hire.taken = True, message.taken
        if hire.hired:
            self._effects.append(DropHired(hire.number, hire.job))
        else:
            self._ends(hire, now)

    def read_out(self, event: HireReadOut, now: float) -> None:
        job = self._hired.get(event.hire)
        if job is not None and job.hire is not None and job.hire.over:
            self._ends(job.hire, now)

    def fenced(self, job: OwnedJob, node: PeerId) -> bool:
        """The node is gone, and its workers do not count any more. True: the job had one, and what it held back is
        free."""
        had = job.hire is not None and job.hire.node == node
        if had:
            self.job_over(job)
        return had

    def job_over(self, job: OwnedJob) -> None:
        """The node hears of the end of the job, or is gone itself."""
        hire = job.hire
        if hire is not None:
            self._forget(job, hire)
            if hire.hired:
                self._effects.append(DropHired(hire.number, hire.job))

    # ------------------------------------------------------------ time

    def look(self, now: float) -> None:
        """Dismiss those that are idle or slow, and give up those that do not come."""
        self.due = None
        for job in list(self._hired.values()):
            hire = job.hire
            assert hire is not None
            if hire.only and not hire.here:
                self._owner.work_changed(job.spec.job, now)
                if job.hire is not hire:
                    continue
            if not hire.hired and not hire.over:
                if now < hire.used_at + UNANSWERED_SECONDS:
                    self._wake_by(hire.used_at + UNANSWERED_SECONDS)
                    continue
                self._forget(job, hire)
                job.hire_at = now + AGAIN_SECONDS_MAX
            elif hire.here and not hire.dismissed:
                until = hire.used_at + (SLOW_SECONDS if hire.lid else _idle_seconds(hire))
                if now >= until:
                    self._dismiss(hire, now)
                else:
                    self._wake_by(until)

    # ------------------------------------------------------------ inside

    def _stands_alone(self, job: OwnedJob) -> bool:
        """Has its ledger nothing to ask but whether the lease is open?"""
        assert isinstance(job, IndexedJob), "only calls are handed to hired workers"
        return job.passed is None and job.edges is None and not job.ledger.again

    def _may_get(self, job: OwnedJob, hire: HiredHand, now: float) -> bool:
        if job.passed is not None or job.edges is not None or self._placement.priorities.differ:
            return False
        if job.lives is not None and (
            job.ledger.leases or not job.lives.lives_at(hire.node, hire.life)
        ):
            return False
        # A mute node is going to be fenced, perhaps.
        return hire.node not in self._links.mute and not self._placement.side.withholds(now)

    def _gets(
        self, job: OwnedJob, hire: HiredHand, lease: Lease, block: Block, blob: bytes, now: float
    ) -> None:
        hire.lid, hire.item, hire.used_at = lease.lid, lease.lo, now
        job.told[hire.node] = None
        self._effects.append(OrderHired(hire.number, hire.job, lease, block, blob))

    def _known(self, peer: PeerId, job_id: JobId, number: int) -> HiredHand | None:
        job = self._hired.get(number)
        hire = None if job is None else job.hire
        return hire if hire is not None and (hire.node, hire.job) == (peer, job_id) else None

    def _dismiss(self, hire: HiredHand, now: float) -> None:
        hire.dismissed = True
        self._links.send(hire.node, Dismiss(hire.job, hire.number), now)

    def _ends(self, hire: HiredHand, now: float) -> None:
        """The node has it again, and we know all that it said."""
        job = self._hired[hire.number]
        self._forget(job, hire)
        if hire.served >= WORTH_ITEMS:
            job.hire_wait = AGAIN_SECONDS
        else:
            job.hire_wait = min(AGAIN_SECONDS_MAX, 2 * job.hire_wait)
        job.hire_at = now + job.hire_wait
        if not hire.lid:
            if hire.only:
                self._owner.work_changed(job.spec.job, now)
            return
        self._journal.tell(now, "hire over", job.spec.job, hire.lid, hire.node)
        if any(lease.lid == hire.lid for lease in hire.taken):
            if job.ledger.holds(hire.node, hire.lid):
                job.ledger.postpone(hire.lid, now + self._config.lease_seconds)
        elif job.ledger.holds(hire.node, hire.lid):
            job.ledger.split(hire.node, hire.lid, hire.item, hire.item + 1)
        self._owner.work_changed(job.spec.job, now)

    def _forget(self, job: OwnedJob, hire: HiredHand) -> None:
        job.hire, job.lone = None, 0
        if hire.served:
            self._counters.count("hired-items", hire.served)
        del self._hired[hire.number]

    def _wake_by(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def audit(self) -> None:
        """What is out is open under its lease, and nothing else of the hire's."""
        for number, job in self._hired.items():
            hire = job.hire
            assert hire is not None, "a job forgot its hire"
            assert hire.number == number, "a hire is one job's"
            assert job.spec.job in self._owner.jobs, "a job that is over hires nobody"


def _idle_seconds(hire: HiredHand) -> float:
    return ACTOR_IDLE_SECONDS if hire.life else IDLE_SECONDS


MESSAGES: dict[type[Message], Callable[[Hires, PeerId, Any, float], None]] = {
    Hired: Hires.hired,
    HireOver: Hires.over,
}
EVENTS: dict[type[Event], Callable[[Hires, Any, float], None]] = {
    HireCame: Hires.came,
    HiredAnswer: Hires.answered,
    HireReadOut: Hires.read_out,
}
