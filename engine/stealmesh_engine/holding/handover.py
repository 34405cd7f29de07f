"""Work that leaves this node undone: for a thief, for other nodes that can run it, or because we leave.

Decides which parts go back to their ledger and when. Refuses to know what a thief's share is (`stealing`)
and what the ledger does with what comes back.
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.actors import Actors
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import Chunk
from stealmesh_engine.ledger.passed_over import reason_in
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import LeaseId
from stealmesh_protocol.messages import Declined, Lease, Returned


class Handover:
    """What a node gives away of the work that it holds."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        dispatcher: Dispatcher,
        actors: Actors,
    ) -> None:
        self.actors = actors
        self.links = links
        self.journal = context.journal
        self.jobs = jobs
        self.dispatcher = dispatcher
        self._leaving: list[Chunk] = []
        """Running explore bags that have taken stock since this node wants to leave."""

    def give(self, held: HeldJob, items: int) -> list[Lease]:
        """Cut parts off for a thief; the caller tells the ledger in this same step."""
        if held.primary_gone_since is not None:
            return []  # there is no ledger to tell
        parts = held.bags.give(items)
        self.dispatcher.stock.restock(held)
        return parts

    def decline(self, held: HeldJob, blob: bytes, now: float) -> None:
        """A worker lacked something. If nothing of the job has ever ended well here, other nodes are to
        have the rest of it. If they cannot run it either, it comes back."""
        if held.bags.cost.known or not held.declines(now):
            return
        parts = self.give(held, held.bags.queued_items)
        self.journal.tell(now, "declined", held.spec.job)
        self.links.send(held.spec.owner, Declined(held.spec.job, parts, reason_in(blob)), now)

    def restock(self, held: HeldJob, now: float) -> None:
        """Something of this job has come that no worker has: a worker gets it or, as we leave, its ledger."""
        self.dispatcher.stock.restock(held)
        if self.dispatcher.draining:
            if held.spec.life:
                self.actors.give_back(held, now)
                self.dispatcher.stock.restock(held)
            self.return_untouched(now)

    def return_held_up(self, now: float) -> None:
        """What waits in a lane behind something dear goes back to its ledger."""
        for chunk in self.dispatcher.slots.running():
            held = self.jobs.get(chunk.job) if chunk.in_lane and not chunk.void else None
            if held is not None and chunk.is_overdue(now):
                self.return_rest(held, chunk.lid, now)

    def return_rest(self, held: HeldJob, lid: LeaseId, now: float) -> None:
        """A lane is held up: its ledger is to have what no worker has of it."""
        if held.primary_gone_since is None:
            parts = held.bags.give_rest(lid)
            self._return(held, parts, now)

    def drop_cancelled(self, held: HeldJob, lo: int, hi: int, now: float) -> None:
        """[lo, hi) is not wanted. Of lanes the ledger must hear what will not run, to use them again."""
        parts = [
            Lease(part.lid, max(part.lo, lo), min(part.hi, hi))
            for part in (held.bags.untouched_parts() if held.spec.max_parallel else ())
            if part.lo < hi and lo < part.hi
        ]
        held.bags.withdraw(lo, hi)
        self._return(held, parts, now)

    def came_back(self, held: HeldJob, chunk: Chunk, lo: int, now: float, *, died: int = 0) -> None:
        """No worker has [lo, hi) of this chunk any more, and it is not done; `died`: how many chunks died
        together there. What was cancelled meanwhile does not run, and a lane's ledger hears of that."""
        bags, lid = held.bags, chunk.lid
        if chunk.hired:
            if bags.finish(lid, lo, chunk.hi):
                self._return(held, [Lease(lid, lo, chunk.hi)], now)  # its inputs are with its owner
            return
        unwanted = bags.unwanted_of(lid, lo, chunk.hi) if held.spec.max_parallel else []
        if died:
            bags.died(lid, lo, chunk.hi, died)
        else:
            bags.put_back(lid, lo, chunk.hi)
        self._return(held, unwanted, now)

    def _return(self, held: HeldJob, parts: list[Lease], now: float) -> None:
        if parts and held.primary_gone_since is None:
            self.links.send(held.spec.owner, Returned(held.spec.job, parts), now)

    def took_stock(self, chunk: Chunk) -> None:
        """This explore bag goes on; if we leave, its rest goes back."""
        if self.dispatcher.draining:
            self._leaving.append(chunk)

    def return_untouched(self, now: float) -> None:
        """Hand everything that no worker has back to its ledger (we are leaving)."""
        self.actors.leave(now)
        for held in self.dispatcher.stock.jobs():
            self._return(held, self.give(held, held.bags.queued_items), now)

    def return_explore(self, now: float) -> None:
        """Running explore bags go back when they take stock, not before: what their workers are at is
        as dear as any other task, and an orderly end must not lose any of it.
        Regression: test_worlds_that_taught_us_something[120198]."""
        if not self._leaving:
            return
        returning, self._leaving = self._leaving, []
        for chunk in returning:
            held = self.jobs.get(chunk.job)
            if held is None or chunk.void or not held.bags.drop(chunk.lid):
                continue
            parts = [Lease(chunk.lid, chunk.lo, chunk.hi)]
            self.links.send(held.spec.owner, Returned(chunk.job, parts), now)
            self.dispatcher.abandon(chunk, "its node is leaving")
        self.return_untouched(now)  # what was split off
