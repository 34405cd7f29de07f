"""Workers of this node that are hired out to programs on its host.

Decides who gets a worker, when it comes back, and what becomes of the item that it is at then. Refuses to know what
orders it gets meanwhile, and from whom it hears them (the host), and what its answers are worth (`ledger/hires.py`).

A hired worker is not among the workers that this node gives work to (`Slots.by_worker`), so nothing else can reach it,
and no thief sees it. It comes back when anything here waits for a worker. An item that it is at goes on, and is from
then on a chunk of this node's like any other, under the lease that the owner gave it: it is shown, stopped, asked
about and buried as all others are. Only its inputs are not here; if it must run again, its owner gets it back.

The process of an actor is hired by the program of the actor alone, and comes back when calls of it come the ordinary
way. Its calls keep their order, as no call goes one way while another is under way the other (`ledger/hires.py`).

Invariant: a worker is hired out, or among those that get work, never both.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.functions import ShippedFunctions
from stealmesh_engine.effects import EndHire, HireOut, StopWorker
from stealmesh_engine.events import Event, HireEnded
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import Chunk, HiredWorker, Slot
from stealmesh_engine.holding.stopped import GRACE_SECONDS
from stealmesh_engine.ledger.requirements import may_be_hired_for
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Dismiss, Hire, Hired, HireOver, Lease, Message, Withdraw

FIRST_HIRE = 1 << 48
"""Above this number are hires, and the chunks that items of theirs become. Numbers are not used again."""


class HiredOut:
    """All workers of a node that are hired out."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        dispatcher: Dispatcher,
        functions: ShippedFunctions,
        threads: int,
    ) -> None:
        self._links = links
        self._journal = context.journal
        self._effects = context.effects
        self._counters = context.counters
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._slots = dispatcher.slots
        self._functions = functions
        self._threads = threads
        self._begun = 0
        self.due: float | None = None
        """When a worker that is to stop its item has had time enough."""

    # ------------------------------------------------------------ what owners say

    def asked(self, peer: PeerId, message: Hire, now: float) -> None:
        """An owner wants a worker for a job that this node knows."""
        held = self._jobs.get(message.job)
        slot = None if held is None else self._spare(held, peer)
        if held is None or slot is None:
            self._links.send(peer, HireOver(message.job, message.hire), now)
            return
        spec, blobs = held.spec, self._functions.blobs
        self._slots.hire_out(slot)
        self._begun += 1
        number = FIRST_HIRE + self._begun
        self._slots.hired[slot.worker] = HiredWorker(
            slot.worker, number, spec.job, peer, message.hire
        )
        self._journal.tell(now, "hired out", spec.job, 0, peer)
        code = blobs[spec.code] if spec.code else b""
        self._effects.append(
            HireOut(slot.worker, number, spec, blobs[spec.function], code, peer, message.hire)
        )
        self._links.send(peer, Hired(message.job, message.hire), now)

    def dismissed(self, peer: PeerId, message: Dismiss, now: float) -> None:
        for hired in self._slots.hired.values():
            if (hired.owner, hired.hire) == (peer, message.hire):
                self._end(hired)

    def withdrawn(self, message: Withdraw, now: float) -> None:
        """Items of a job are not wanted. A hired worker that is to stop one comes back, and is told so then."""
        if not message.stop:
            return  # what comes of them is dropped
        for hired in self._slots.hired.values():
            if hired.job == message.job:
                hired.stops += message.intervals
                self._stop_soon(hired, now)

    # ------------------------------------------------------------ what happens here

    def ended(self, event: HireEnded, now: float) -> None:
        """A worker is ours again, perhaps with an item that goes on."""
        hired = self._slots.hired.get(event.worker)
        if hired is None or hired.number != event.chunk:
            self._counters.count("results-unasked")
            return
        del self._slots.hired[event.worker]
        if not self._slots.hired:
            self.due = None
        slot, taken = self._slots.hire_over(event.worker), list[Lease]()
        if slot is not None and event.item >= 0:
            taken = self._goes_on(hired, slot, event, now)
        self._journal.tell(now, "hire ended", hired.job, event.lid, hired.owner)
        if hired.owner in self._links.peers:
            self._links.send(hired.owner, HireOver(hired.job, hired.hire, taken), now)

    def never_was(self, worker: int, now: float) -> None:
        """The worker had died before it was hired out; the news of it was under way."""
        self.ended(HireEnded(worker, self._slots.hired[worker].number), now)

    def tend(self, now: float) -> None:
        """Something waits for a worker, or this node leaves: have them back, one after the other."""
        dispatcher = self._dispatcher
        if dispatcher.draining:
            for hired in self._slots.hired.values():
                self._end(hired)
        else:
            workers = [each for each in self._slots.hired.values() if not each.of_actor]
            if workers and dispatcher.stock and not any(each.ending for each in workers):
                self._end(workers[0])
            for hired in self._slots.hired.values() if dispatcher.stock.actors else ():
                if hired.of_actor and hired.job in dispatcher.stock.actors:
                    self._end(hired)
        if self.due is not None and now >= self.due:
            self._end_stubborn(now)

    def job_over(self, job: JobId, *, stop: bool, now: float) -> None:
        """Nobody wants what a hired worker makes of it."""
        for hired in self._slots.hired.values():
            if hired.job == job:
                self._end(hired)
                if stop:
                    self._stop_soon(hired, now)

    # ------------------------------------------------------------ inside

    def _spare(self, held: HeldJob, owner: PeerId) -> Slot | None:
        """A worker that has nothing to do, for a program on this host, if nothing here waits for it; of an actor, its
        own process."""
        dispatcher, slots, peer = self._dispatcher, self._slots, self._links.peers.get(owner)
        on_our_host = peer is not None and peer.member.host == self._links.view.me.host
        if not on_our_host or held.spec.owner != owner:
            return None
        if not may_be_hired_for(held.spec) or self._functions.lacks(held.spec):
            return None
        if held.spec.life:
            processes = slots.actors_of(held.spec.job)
            return next((slot for slot in processes if slot.is_idle), None)
        if dispatcher.draining or dispatcher.stock or self._threads > 1:
            return None
        for slot in slots.by_worker.values():
            busy = slot.running is not None or slot.queued is not None or slot.retracting
            if not busy and slot.worker not in slots.relief and slot.worker not in slots.beside:
                return slot
        return None

    def _end(self, hired: HiredWorker) -> None:
        if not hired.ending:
            hired.ending = True
            self._effects.append(EndHire(hired.worker, hired.number))

    def _stop_soon(self, hired: HiredWorker, now: float) -> None:
        """If it does not come back, its process ends. An actor's does not: its call goes on, or ends with the job."""
        self._end(hired)
        if hired.of_actor:
            return
        hired.ends_at = min(hired.ends_at, now + GRACE_SECONDS)
        self.due = hired.ends_at if self.due is None else min(self.due, hired.ends_at)

    def _end_stubborn(self, now: float) -> None:
        self.due = None
        for hired in self._slots.hired.values():
            if now >= hired.ends_at:
                hired.ends_at = inf
                reason = "it ran a task that was stopped"
                self._effects.append(StopWorker(hired.worker, reason, False, False))
            elif hired.ends_at < inf:
                self.due = hired.ends_at if self.due is None else min(self.due, hired.ends_at)

    def _goes_on(self, hired: HiredWorker, slot: Slot, event: HireEnded, now: float) -> list[Lease]:
        """The item that the worker is at is a chunk of ours. Returns it, if anybody wants it."""
        lease = Lease(event.lid, event.item, event.item + 1)
        chunk = Chunk(
            hired.number, hired.job, lease.lid, lease.lo, lease.hi, hired.worker, now, None,
            one_by_one=True, in_parts=True, awaited=True, hired=True,
        )  # fmt: skip
        slot.running = chunk
        held = self._jobs.get(hired.job)
        if held is None or held.spec.owner != hired.owner or not held.bags.take_begun(lease):
            chunk.void = True
            return []
        for lo, hi in hired.stops:
            if lo <= event.item < hi:
                held.bags.withdraw(lease.lo, lease.hi)
                self._dispatcher.stop_items(hired.job, lo, hi, now)
        self._dispatcher.plan_patrol_of(slot, now)
        return [lease]


MESSAGES: dict[type[Message], Callable[[HiredOut, PeerId, Any, float], None]] = {
    Hire: HiredOut.asked,
    Dismiss: HiredOut.dismissed,
}
EVENTS: dict[type[Event], Callable[[HiredOut, Any, float], None]] = {HireEnded: HiredOut.ended}
