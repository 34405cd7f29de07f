"""What workers say of their chunks: done, partly done, shared, given back unread, or died.

Decides what an answer or a death means for the items that the worker had, and what is learned from it
about their cost. Refuses to know which worker gets what next (`dispatcher.py`) and what is reported when
(`reports.py`).

Invariant: each item that a worker had is finished, or untouched again, or not wanted any more. A chunk that
dies with its worker runs again in ever smaller pieces (`poison.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.events import (
    BagStep,
    ChunkDone,
    ChunkPart,
    Event,
    ItemsPrinted,
    ItemTold,
    Retracted,
    SideLost,
    SideReady,
    SideRetracted,
    TaskNests,
    TaskWaits,
    WorkerLost,
    WorkerReady,
)
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.follow_ons import FollowOns
from stealmesh_engine.holding.handover import Handover
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.hired_out import HiredOut
from stealmesh_engine.holding.made_here import MadeHere
from stealmesh_engine.holding.poison import timed_out
from stealmesh_engine.holding.relief import Relief
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.holding.slots import FIRST_ACTOR, Chunk
from stealmesh_engine.links.links import Links
from stealmesh_protocol.failed_words import line_of
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.journal_messages import BESIDE, BESIDE_AND, RingKind
from stealmesh_protocol.limits import ENTRY_DETAIL_CHARS_MAX
from stealmesh_protocol.messages import Commit, Lease, Part
from stealmesh_protocol.values import AGAIN, LACKING


class Answers:
    """What becomes of chunks once their workers have spoken."""

    def __init__(
        self,
        context: Context,
        links: Links,
        dispatcher: Dispatcher,
        reports: Reports,
        handover: Handover,
        relief: Relief,
        made: MadeHere,
        follow_ons: FollowOns,
        hired_out: HiredOut,
    ) -> None:
        self.links = links
        self.journal = context.journal
        self.rings = self.journal.rings
        self.counters = context.counters
        self.dispatcher = dispatcher
        self.jobs = dispatcher.jobs
        self.slots = dispatcher.slots
        self.reports = reports
        self.handover = handover
        self.relief = relief
        self.hired_out = hired_out
        self.made = made
        self.follow_ons = follow_ons
        self.executed = 0
        """Items that workers of this node have finished."""
        self.run_seconds = 0.0
        """For how long workers of this node have run items, as they say."""

    def worker_ready(self, worker: int) -> None:
        self.slots.ready(worker)

    def process_ready(self, worker: int, now: float) -> None:
        """Of a worker, or of an actor."""
        if worker > FIRST_ACTOR:
            self.dispatcher.actors.ready(worker, now)
        else:
            self.worker_ready(worker)

    def chunk_done(self, event: ChunkDone, now: float) -> None:
        chunk = self.slots.finished(event.worker, event.chunk, now)
        if chunk is None:
            self.counters.count("results-unasked")
            self.made.drop(event)
            return
        upto = chunk.hi if event.upto is None else event.upto
        held = self._part_came(chunk, event, upto, upto, now)
        if held is None or upto == chunk.lo:
            return
        if event.codec == LACKING:
            self.handover.decline(held, event.blob, now)
            return
        if event.codec == AGAIN:
            return  # how long it took to put itself off says nothing of the others
        seconds = event.seconds + chunk.carried_seconds
        held.bags.cost.learn(upto - chunk.lo, seconds, len(event.blob))

    def chunk_part(self, event: ChunkPart, now: float) -> None:
        """A worker was asked: it has finished this much, and gives back what it has not begun."""
        chunk = self.slots.running_chunk(event.worker, event.chunk)
        if chunk is None:
            self.counters.count("results-unasked")
            self.made.drop(event)
            return
        items, late = event.upto - chunk.lo, chunk.is_overdue(now, wanted=True)
        held = self._part_came(chunk, event, event.upto, event.kept, now)
        chunk.shrink(event.upto, event.kept, now)
        if held is None:
            return
        if event.codec == LACKING:
            # A worker keeps this for its last word; but if one says it now it means the same.
            if items:
                self.handover.decline(held, event.blob, now)
            return
        if event.codec == AGAIN:
            return
        cost = held.bags.cost
        self.dispatcher.learn(chunk, cost, items, event.seconds, len(event.blob), late=late)

    def bag_step(self, event: BagStep, now: float) -> None:
        """A worker took stock of its explore bag; some of it may be new bags."""
        over = not event.remaining
        chunk = self.slots.took_stock(event.worker, event.chunk, now, over=over)
        if chunk is None:
            return
        self.executed += event.items
        self.run_seconds += event.seconds
        held = self.jobs.get(chunk.job)
        name = "" if held is None else held.spec.name
        self.rings.ran(
            now, "step", chunk.job, name, chunk.worker, 0, event.items,
            max(0.0, now - event.seconds), event.failed,
            line_of(event.partial[0], event.partial[1:]) if event.failed and event.partial else "",
        )  # fmt: skip
        if held is None or chunk.void or not chunk.explore:
            self._wasted(event.items)
            return
        bags = held.bags
        if event.items:
            bags.cost.learn(event.items, event.seconds, len(event.rest))
        seq = bags.step(chunk.lid, event.remaining, event.rest)
        if not seq:
            self._wasted(event.items)
            return
        children = bags.spawn(chunk.lid, event.spares)
        if chunk.in_lane:
            for child in children:
                bags.drop(child.lid)  # their ledger says when they run, and where
        blobs = [event.partial, event.rest, *(items for _, items in event.spares)]
        commit = Commit(
            chunk.job, chunk.lid, seq, event.remaining, children,
            event.seconds, event.items, event.failed, blobs,
        )  # fmt: skip
        if self.reports.printouts.unsaid:
            self.reports.printouts.flush(now, (chunk.job,))
        self.links.send(held.spec.owner, commit, now)
        self.dispatcher.stock.restock(held)
        if event.failed and event.partial[:1] == bytes([LACKING]):
            self.handover.decline(held, event.partial[1:], now)
        if event.remaining:
            self.handover.took_stock(chunk)

    def worker_lost(self, event: WorkerLost, now: float) -> None:
        self.relief.lost(event.worker, now)
        if event.worker in self.slots.hired:
            self.hired_out.never_was(event.worker, now)
        actor = self.slots.actors.get(event.worker) if self.slots.actors else None
        lost = self.slots.lost(event.worker, event.running)
        if lost is None:
            return
        unread, ran = lost
        if not event.retired:
            self.counters.count("workers-lost")
            self._note_death(event, ran, now)
        for chunk in unread:
            self._put_back(chunk, now)
        if actor is not None:
            self._actor_died(actor.job, ran, event.reason, now)
        elif ran is not None:
            self._died(ran, event, now)

    def task_nests(self, event: TaskNests, now: float) -> None:
        self.slots.has_children(event.worker, event.chunk, now)

    def side_lost(self, event: SideLost, now: float) -> None:
        """Chunks that ran side by side died together. Only one that was alone is blamed for it."""
        unread, ran = self.slots.lost_beside(event.worker, event.running)
        if not event.retired:
            self.counters.count("workers-lost")
            self._note_death(event, ran[0] if ran else None, now)
        for chunk in unread:
            self._put_back(chunk, now)
        for chunk in ran:
            self._died(chunk, event, now, beside=len(ran))

    def retracted(self, event: Retracted, now: float) -> None:
        chunk = self.slots.retracted(event.worker, event.chunk)
        if chunk is not None:
            self._put_back(chunk, now)

    def side_retracted(self, event: SideRetracted, now: float) -> None:
        """Something of these chunks was cancelled before they began: the rest of them runs some other time."""
        for chunk in self.slots.retracted_beside(event.worker, event.chunks):
            self._put_back(chunk, now)

    # ------------------------------------------------------------ inside

    def _part_came(
        self, chunk: Chunk, event: ChunkDone | ChunkPart, upto: int, kept: int, now: float
    ) -> HeldJob | None:
        """A worker has finished [lo, upto) of its chunk and has not begun [kept, hi). None: no one wants
        it."""
        assert chunk.lo <= upto <= kept <= chunk.hi, "a worker answers for what it does not have"
        items = upto - chunk.lo
        if event.codec != LACKING:
            self.executed += items
            self.run_seconds += event.seconds
        held = self.jobs.get(chunk.job)
        if items:
            wanted = held is not None and not chunk.void
            self.rings.ran(
                now,
                "done" if wanted else "unwanted",
                chunk.job,
                "" if held is None else held.spec.name,
                chunk.worker,
                chunk.lo,
                upto,
                max(0.0, now - event.seconds),
                event.failed,
                _detail(chunk, event) if chunk.together or event.failed else "",
            )
        if held is None or chunk.void or chunk.explore:
            self._wasted(items)
            self.made.drop(event)
            return None
        if kept < chunk.hi:
            self.journal.tell(now, "got back", chunk.job, chunk.lid, (kept, chunk.hi))
            self.handover.came_back(held, chunk, kept, now)
            if chunk.in_lane:
                self.handover.return_rest(held, chunk.lid, now)
            self.handover.restock(held, now)
        if items:
            part = Part(
                chunk.lid, chunk.lo, upto, event.codec, event.seconds, event.failed, event.stays
            )
            self._settle(held, part, event.blob, now, event)
        return held

    def _settle(
        self,
        held: HeldJob,
        part: Part,
        blob: bytes,
        now: float,
        event: ChunkDone | ChunkPart | None = None,
    ) -> None:
        """Items are done, one way or the other: out of the bag, into the next report."""
        if held.bags.finish(part.lid, part.lo, part.hi):
            if event is not None and part.stays:
                self.made.keep(held.spec.job, event.chunk, part, now)
            self.reports.add(held.spec.job, part, blob, now)
            follow_ons = self.follow_ons
            if (follow_ons.awaited or follow_ons.across.wanted) and follow_ons.came(
                held, part, blob, now
            ):
                self.reports.followed(held.spec.job)
        else:
            self._wasted(part.hi - part.lo)
            if event is not None:
                self.made.drop(event)
        if held.spec.max_parallel:
            self.handover.restock(held, now)  # the rest of its lane may run

    def _put_back(self, chunk: Chunk, now: float) -> None:
        """No worker has started this chunk: it is untouched again."""
        held = self.jobs.get(chunk.job)
        if held is not None and not chunk.void:
            self.handover.came_back(held, chunk, chunk.lo, now)
            self.dispatcher.stock.restock(held)

    def _died(
        self, chunk: Chunk, event: WorkerLost | SideLost, now: float, beside: int = 1
    ) -> None:
        """The worker died while it ran this chunk (of `beside` chunks in all): run it again, or say how
        its one item failed."""
        held = self.jobs.get(chunk.job)
        if held is None or chunk.void or chunk.lo == chunk.hi:
            return  # if it is empty, its worker has answered for all of it
        spec, failure = held.spec, None
        self._note_end(chunk, spec.name, event.reason, now, blame=event.blame)
        if chunk.timed_out:
            failure = timed_out(spec, chunk.lo, event.output)
        elif not event.blame:
            self._put_back(chunk, now)
            return
        else:
            self.journal.tell(now, "worker died", chunk.job, chunk.lid, (chunk.lo, chunk.hi))
            if beside == 1 and (chunk.explore or chunk.hi - chunk.lo == 1):
                suspect = chunk.lid if chunk.explore else chunk.lo
                failure = held.attempts.condemn(spec, suspect, chunk.lo, event.reason, event.output)
        if failure is None:
            self.handover.came_back(held, chunk, chunk.lo, now, died=beside)
            self.dispatcher.stock.restock(held)
            return
        codec, blob = failure
        if not chunk.explore:
            part = Part(chunk.lid, chunk.lo, chunk.hi, codec, now - chunk.started, 1)
            self._settle(held, part, blob, now)
            return
        seq = held.bags.step(chunk.lid, 0, b"")
        if seq:
            blobs = [bytes([codec]) + blob, b""]
            commit = Commit(chunk.job, chunk.lid, seq, 0, [], 0.0, 0, 1, blobs)
            self.links.send(spec.owner, commit, now)

    def _actor_died(self, job: JobId, ran: Chunk | None, reason: str, now: float) -> None:
        """The process of an actor died while it ran this chunk: any call of it may have run."""
        held = self.jobs.get(job)
        if held is None:
            return
        begun: list[Lease] = []
        if ran is not None and not ran.void and ran.lo < ran.hi:
            self._note_end(ran, held.spec.name, reason, now, blame=True)
            if ran.timed_out:
                codec, blob = timed_out(held.spec, ran.lo)
                part = Part(ran.lid, ran.lo, ran.hi, codec, now - ran.started, 1)
                self._settle(held, part, blob, now)
            elif held.bags.finish(ran.lid, ran.lo, ran.hi):
                begun.append(Lease(ran.lid, ran.lo, ran.hi))
        self.handover.actors.over(held, reason, begun, now)
        self.dispatcher.stock.restock(held)

    def _note_death(self, event: WorkerLost | SideLost, ran: Chunk | None, now: float) -> None:
        """A person wants to know of a death that we did not order."""
        held = None if ran is None else self.jobs.get(ran.job)
        self.rings.note(
            now,
            RingKind.DEATH,
            "worker died" if event.blame else "worker ended",
            name="" if held is None else held.spec.name,
            about=b"" if ran is None else ran.job,
            worker=event.worker,
            items=(0, 0) if ran is None else (ran.lo, ran.hi),
            count=1,
            detail=event.reason,
            aloud=event.blame,
        )

    def _note_end(self, chunk: Chunk, name: str, reason: str, now: float, *, blame: bool) -> None:
        """This chunk ended with its process."""
        what = "timed out" if chunk.timed_out else "died" if blame else "stopped"
        self.rings.ran(
            now, what, chunk.job, name, chunk.worker, chunk.lo, chunk.hi, min(chunk.started, now),
            detail=reason[:ENTRY_DETAIL_CHARS_MAX],
        )  # fmt: skip

    def _wasted(self, items: int) -> None:
        self.counters.count("items-run-for-nothing", items)


def _detail(chunk: Chunk, event: ChunkDone | ChunkPart) -> str:
    """What is not said of most chunks: that others ran beside it, and how items of it failed."""
    failed = line_of(event.codec, event.blob, chunk.lo) if event.failed else ""
    beside = BESIDE if chunk.together else ""
    return f"{beside}{BESIDE_AND if beside and failed else ''}{failed}"[:ENTRY_DETAIL_CHARS_MAX]


EVENTS: dict[type[Event], Callable[[Answers, Any, float], None]] = {
    WorkerReady: lambda answers, event, now: (
        answers.relief.ready(event.worker)
        if event.relief
        else answers.process_ready(event.worker, now)
    ),
    ChunkDone: lambda answers, event, now: answers.chunk_done(event, now),
    ChunkPart: lambda answers, event, now: answers.chunk_part(event, now),
    BagStep: lambda answers, event, now: answers.bag_step(event, now),
    WorkerLost: lambda answers, event, now: answers.worker_lost(event, now),
    SideReady: lambda answers, event, now: answers.dispatcher.side_ready(event.worker, now),
    SideLost: lambda answers, event, now: answers.side_lost(event, now),
    Retracted: lambda answers, event, now: answers.retracted(event, now),
    SideRetracted: lambda answers, event, now: answers.side_retracted(event, now),
    TaskWaits: lambda answers, event, now: answers.relief.task_waits(
        event.worker, event.chunk, waits=event.waits
    ),
    TaskNests: lambda answers, event, now: answers.task_nests(event, now),
    ItemTold: lambda answers, event, now: answers.reports.progress.told(event, now),
    ItemsPrinted: lambda answers, event, now: answers.reports.printed(event, now),
}
