"""The actors that live at this node: each is a job whose calls run in order, in a process of its own.

Decides whether a grant belongs to a life that is here, which process runs it, and what a node says when a
life ends: what had begun, and what had not. Refuses to know whether there is a next life, and where
(ledger/lives.py), how a process keeps the object (stealmesh/workers), and how large a chunk is
(`dispatcher.py`).

A process gets two chunks like any worker, one that it runs and one behind it. Nothing of them goes back out of
order: the running chunk is asked to give up its rest only while there is no chunk behind it, and then gets
none. Thieves see nothing of actors, as these are not in stock.

Invariant: a process runs calls of one life of one job, and a life has one process.
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import StopWorker
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, seat_of
from stealmesh_protocol.messages import BEGINS, Declined, Grant, Lease

LOST = "its node does not have it any more"
LEAVING = "its node is leaving"


class Actors:
    """The lives at this node, and their processes."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        slots: Slots,
        lives: dict[JobId, int],
    ) -> None:
        self._links = links
        self._journal = context.journal
        self._effects = context.effects
        self._jobs = jobs
        self._slots = slots
        self.lives = lives
        """Job → the number of its present life here."""

    # ------------------------------------------------------------ what owners say

    def belongs(self, grant: Grant, now: float, *, leaving: bool) -> bool:
        """Is this grant for a life that is here, or that begins here now? If not, its owner hears it."""
        spec = grant.spec
        begins = grant.nonce == BEGINS
        if begins and not leaving:
            self.end(spec.job, "another life of it begins")
            self.lives[spec.job] = spec.life
            self._slots.begin_actor(spec.job)
            return True
        if self.lives.get(spec.job) == spec.life:
            return True
        parts = [Lease(lease.lid, lease.lo, lease.hi) for lease in grant.leases]
        # What has not begun here is nobody's death.
        life, why = (0, LEAVING) if begins else (spec.life, LEAVING if leaving else LOST)
        self._links.send(spec.owner, Declined(spec.job, parts, why, life), now)
        return False

    def revoked(self, job: JobId, lids: list[int]) -> None:
        """The owner knows nothing of this life any more."""
        life = self.lives.get(job)
        if life is not None and seat_of(life) in lids:
            self.end(job, "its owner has given it up")

    def end(self, job: JobId, reason: str) -> None:
        """What is left of a life goes, with its process. What that was at counts for nothing."""
        self.lives.pop(job, None)
        for slot in self._slots.actors_of(job):
            for chunk in (slot.running, slot.queued):
                if chunk is not None:
                    chunk.void = True
            self._slots.end_actor(slot.worker)
            self._effects.append(StopWorker(slot.worker, reason, False))
        held = self._jobs.get(job)
        if held is not None:
            for lid in list(held.bags.leases):
                held.bags.drop(lid)

    # ------------------------------------------------------------ the end of a life

    def over(self, held: HeldJob, reason: str, begun: list[Lease], now: float) -> None:
        """No call of this life begins any more: tell its owner which ones have, and which ones have not.
        The process may be at some, whose results still count."""
        job = held.spec.job
        life = self.lives.pop(job, 0) or held.spec.life
        parts = held.bags.give(held.bags.queued_items)
        self._journal.tell(now, "life over", job, 0, reason)
        self._links.send(held.spec.owner, Declined(job, parts, reason, life, begun), now)

    def give_back(self, held: HeldJob, now: float) -> None:
        """We leave, and something of an actor has come back from its process, or has just come."""
        parts = held.bags.give(held.bags.queued_items)
        if parts:
            declined = Declined(held.spec.job, parts, LEAVING, held.spec.life)
            self._links.send(held.spec.owner, declined, now)

    def leave(self, now: float) -> None:
        """This node leaves: what runs is finished, and the rest goes back."""
        for job in list(self.lives):
            self.over(self._jobs[job], LEAVING, [], now)
