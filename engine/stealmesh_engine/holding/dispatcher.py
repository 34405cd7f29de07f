"""What workers are given: which chunk, which worker, and when.

Decides the size of chunks, which one waits behind another that ends soon, which one is taken back from
behind a slow one, which ones are divided while they run, and when workers will run dry. Refuses to know
where the work came from, which job is next (`stock.py`) and what becomes of results (`answers.py`).

A chunk is divided when it is late, or when a job that has nothing at a worker would have to wait too
long for chunks of others to end. Its worker then gives back what it has not begun: that is untouched
again and goes to the next worker, here or elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.functions import ShippedFunctions
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.effects import (
    Divide,
    Retract,
    RunChunk,
    Share,
    StopItem,
    StopWorker,
)
from stealmesh_engine.holding.actor_turns import ActorTurns, is_short
from stealmesh_engine.holding.bags import Cut
from stealmesh_engine.holding.cost import Cost
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.side_by_side import SideBySide
from stealmesh_engine.holding.slots import (
    PATROL_SECONDS,
    TURN_SECONDS,
    Chunk,
    Slot,
    Slots,
)
from stealmesh_engine.holding.stock import Stock
from stealmesh_engine.links.links import Links
from stealmesh_protocol import limits
from stealmesh_protocol.ids import Digest, JobId, LeaseId
from stealmesh_protocol.limits import SECONDS_MAX
from stealmesh_protocol.messages import JobKind, JobSpec

FUNCTION_PATIENCE_SECONDS = 0.25
LANE_SHARE_SECONDS = 0.25
"""A bag of a job with `max_parallel` is asked to share once in this time."""
HANDED_ON_MAX = 255
"""The most follow-ons in one chunk. They take a worker up to TURN_SECONDS, as what waits for them elsewhere hears of
them together."""
FIXED_OCTETS_MAX = limits.BLOB_OCTETS_MAX // 4
"""Bound of the results of one chunk if the program has fixed its number of items."""


class Dispatcher:
    """The workers of a node, and what they are given next."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        slots: Slots,
        functions: ShippedFunctions,
        values: Values,
    ) -> None:
        self.config = config = context.config
        self.effects = effects = context.effects
        self.jobs = jobs
        self.functions = functions
        self.slots = slots
        self.stock = Stock(config, links, jobs, slots, functions, values)
        self.side = SideBySide(effects, jobs, slots, self.stock)
        self.actors = ActorTurns(config, jobs, slots, self.stock, self)
        self.draining = False
        """This node wants to leave: what runs is finished, nothing new begins."""
        self.turned_long = False
        """A job has long items, or longer ones than before, and the neighbours do not know yet."""
        self.patrol_at: float | None = None
        self._chunks = 0
        self._thieves_wait = False
        """A thief has nothing to do, and we had nothing for it."""
        self._wanted = False
        """The next patrol is early, because a worker has nothing to do, here or elsewhere."""
        self._unserved_since: float | None = None
        """Since when a job has had something in stock and nothing at a worker, and no worker was free."""

    def job_over(self, job: JobId, *, stop: bool) -> None:
        """What workers make of it is void. Explore bags are stopped, other chunks only if asked for."""
        self.stock.job_over(job)
        for chunk in self.slots.chunks_of(job):
            chunk.void = True
            if chunk.explore or stop:
                self.stop(chunk, "its job is over")

    def lease_over(self, job: JobId, lid: LeaseId) -> None:
        """What workers make of this lease is void. Explore bags are stopped, and what must not run beside
        the next holder's."""
        for chunk in self.slots.chunks_of(job):
            if chunk.lid == lid and not chunk.void:
                chunk.void = True
                if chunk.explore or chunk.in_lane:
                    self.stop(chunk, "its lease was revoked")

    def abandon(self, chunk: Chunk, reason: str) -> None:
        chunk.void = True
        self.stop(chunk, reason)

    def stop_items(self, job: JobId, lo: int, hi: int, now: float) -> None:
        """The program has stopped these items: the tasks among them that run are to end, soon."""
        for slot, chunk, items in self.slots.stop(job, lo, hi, now):
            if chunk is slot.queued:
                self._retract(slot)
            elif chunk.can_be_asked:
                self._ask(slot, chunk, now, give=True)
            self.effects.append(StopItem(slot.worker, chunk.number, *items))
        if self.slots.beside:
            self.side.stop_items(job, lo, hi, now)
        self._plan_patrol(now, wanted=self._wanted)

    def dispatch(self, now: float) -> None:
        """Hand out chunks: first to the idle, then behind what is about to end."""
        if self.stock.actors and not self.draining:
            self.actors.hand_out(now)
        if not self.stock or self.draining:
            self._unserved_since = None
            if self.patrol_at is not None and not self._wanted and self.room():
                self._plan_patrol(now, wanted=True)
            return
        if self.stock.beside:
            self._hand_out_beside(now)
        for slot in self.slots.by_worker.values():
            if slot.running is None and not (self.stock and self._hand_out(slot, now, queue=False)):
                return
        most = 2 * self.config.prefetch_seconds_max
        if self.stock and most:
            for slot in self.slots.by_worker.values():
                if (
                    slot.queued is None
                    and not slot.retracting
                    and is_short(slot.running, most, now)
                ):
                    self._hand_out(slot, now, queue=True)
        if self.stock:
            self._make_room(now)

    def room(self) -> int:
        """Workers with nothing to do."""
        return sum(map(self.slots.is_idle, self.slots.by_worker.values()))

    def queued_seconds(self) -> float:
        return min(SECONDS_MAX, sum(held.bags.queued_seconds for held in self.stock.jobs()))

    def starves_at(self, now: float) -> float | None:
        """When the first worker will have nothing to do; None: not known.

        Busy nodes that rob each other of what neither can start yet only pass it round, so the
        running chunks count as well as the queued ones.
        """
        if self.draining or not self.slots.by_worker:
            return None
        soonest: float | None = None
        for slot in self.slots.by_worker.values():
            if slot.running is None and self.slots.beside and not self.slots.is_idle(slot):
                ends = self.side.ends_at(slot.worker)
                if ends >= now and (soonest is None or ends < soonest):
                    soonest = ends
                continue
            if slot.running is None:
                # Work that only waits for its function counts as here, for a moment.
                since = min(self.functions.awaited.values(), default=-1e9)
                return max(now, since + FUNCTION_PATIENCE_SECONDS)
            ends = slot.running.started
            for chunk in (slot.running, slot.queued):
                if chunk is not None:
                    if chunk.expected_seconds is None:
                        break  # an explore bag, or an item like none before
                    ends += chunk.expected_seconds
            else:
                if ends >= now and (soonest is None or ends < soonest):
                    soonest = ends  # what is overdue may take any time
        if soonest is None:
            return None
        return soonest + self.queued_seconds() / len(self.slots) if self.stock else soonest

    def learn_from_waiting(self, now: float) -> None:
        """What should have ended long ago costs at least as much as it has taken."""
        for chunk in self.slots.running():
            held = self.jobs.get(chunk.job)
            if held is not None and now >= chunk.long_at:
                self.turned_long |= not held.bags.cost.charted
                held.bags.cost.waited(now - chunk.started)

    def learn(
        self, chunk: Chunk, cost: Cost, items: int, seconds: float, octets: int, *, late: bool
    ) -> None:
        """A part of this chunk took these seconds: its items are dear or, if it is late, the next one is."""
        if late and cost.known:
            # What its worker's time was not needed for, the item that is running has taken.
            chunk.carried_seconds += max(0.0, seconds - cost.seconds(items))
            cost.stumbled(chunk.carried_seconds)
            chunk.expected_seconds = None
            # Others may have asked for this and found it too little.
            self.turned_long = True
        elif items:
            cost.learn(items, seconds + chunk.carried_seconds, octets)
            chunk.carried_seconds = 0.0
        else:
            chunk.carried_seconds += seconds

    def patrol(self, now: float) -> list[Chunk]:
        """Stop what has run too long, take back what waits behind a slow chunk or is part of it, ask for
        results that wait for others, and notice what turns out to be long.

        Returns the single calls that have run for a moment: their owners are to hear of it."""
        self.patrol_at = None
        self.learn_from_waiting(now)
        wanted = self._thieves_wait or (not self.stock and self.room() > 0)
        self._thieves_wait = False
        untold = self.slots.untold(now)
        if self.slots.beside:
            self.side.patrol(now, wanted=wanted)
        for slot in self.slots.all_slots():
            chunk = slot.running
            if chunk is None:
                continue
            reason = chunk.must_end(now)
            if reason:
                self.stop(chunk, reason)
                continue
            late = chunk.is_overdue(now, wanted=wanted)
            if late:
                self._retract(slot)
            if chunk.can_be_asked and now >= chunk.asked_at + PATROL_SECONDS:
                give = (late or now >= self.slots.turn_at(slot)) and slot.may_give(chunk)
                if give or now >= chunk.results_wait_at:
                    self._ask(slot, chunk, now, give=give)
        self._plan_patrol(now, wanted=wanted)
        return untold

    def long_work_told(self) -> None:
        """Others have been told that items of a job turned out long."""
        self.turned_long = False

    def drain(self) -> None:
        """Finish what runs, and begin nothing."""
        self.draining = True

    def stop(self, chunk: Chunk, reason: str) -> None:
        """End the process that runs it. It is not to blame for that."""
        self.effects.append(StopWorker(chunk.worker, reason, False, chunk.together > 0))

    def thieves_wait(self, now: float) -> None:
        """A thief has nothing to do, and nothing here is worth the journey: from now on we notice sooner
        that a chunk is dear."""
        self._thieves_wait = True
        if self.patrol_at is not None and not self._wanted:
            self._plan_patrol(now, wanted=True)

    def side_ready(self, worker: int, now: float) -> None:
        """What was ordered to run there side by side begins."""
        self.side.ready(worker, now)
        if worker in self.slots.beside:
            self.patrol_by(self.side.look_at(now, wanted=self._wanted))

    def ask_workers_to_share(self, now: float) -> bool:
        """Raise the flag of the explore workers that have not been asked yet. True: one may share."""
        asked = False
        for slot in self.slots.by_worker.values():
            chunk = slot.running
            if chunk is None or not chunk.explore or chunk.void:
                continue
            if chunk.in_lane and not self._may_share(chunk, now):
                continue
            asked = True
            if not slot.sharing:
                slot.sharing = True
                self.effects.append(Share(slot.worker, True))
        return asked

    # ------------------------------------------------------------ inside

    def _may_share(self, chunk: Chunk, now: float) -> bool:
        """What a bag in a lane gives up lies at its owner until there is room, so not all the time."""
        held = self.jobs.get(chunk.job)
        if held is None or held.spec.max_parallel == 1 or now < chunk.asked_at + LANE_SHARE_SECONDS:
            return False
        chunk.asked_at = now
        return True

    def _make_room(self, now: float) -> None:
        """A small job may have nothing at a worker while all workers are busy with others. If that would
        last, let one worker stop between two items, and take back what waits behind it. No chunk is
        asked before it has had a moment itself, or jobs only take each other's turn, as eight jobs
        with one worker did."""
        waiting = self.stock.unserved()
        if not waiting:
            self._unserved_since = None
            return
        if self._unserved_since is None:
            self._unserved_since = now
        until = self._unserved_since + TURN_SECONDS
        best, best_seconds = None, inf
        for slot in self.slots.by_worker.values():
            chunk = slot.running
            if chunk is None or slot.retracting or now < chunk.asked_at + PATROL_SECONDS:
                return  # one is free, or about to be
            if chunk.expected_seconds is None:
                continue
            seconds = chunk.left_seconds(now)
            if slot.queued is not None:
                seconds += slot.queued.expected_seconds or 0.0
            if seconds <= TURN_SECONDS and now < until:
                self.patrol_by(until)
                return
            if seconds < best_seconds and self.stock.rank(chunk) <= max(waiting):
                best, best_seconds = slot, seconds
        if best is None or best.running is None:
            return
        chunk = best.running
        if best.queued is not None and self.slots.is_running(best.queued.job):
            self._retract(best)
        if not chunk.can_be_asked or chunk.whole:
            return
        if now >= chunk.started + TURN_SECONDS:
            self._ask(best, chunk, now, give=True)
        else:
            self.patrol_by(chunk.started + TURN_SECONDS)

    def patrol_by(self, at: float) -> None:
        if at == inf:
            return
        self.patrol_at = at if self.patrol_at is None else min(at, self.patrol_at)

    def _retract(self, slot: Slot) -> None:
        if slot.queued is not None and not slot.retracting:
            slot.retracting = True
            self.effects.append(Retract(slot.worker))

    def _ask(self, slot: Slot, chunk: Chunk, now: float, *, give: bool) -> None:
        chunk.asked_at = now
        self.effects.append(Divide(slot.worker, chunk.number, give))

    def _hand_out(self, slot: Slot, now: float, *, queue: bool) -> bool:
        held = self.stock.next_job()
        if held is None or (queue and not self.may_queue(held)):
            return False
        chunk = self.order(held, slot.worker, now)
        if chunk is None:
            return False
        if queue:
            slot.queued = chunk
        else:
            slot.running = chunk
        self.plan_patrol_of(slot, now)
        return True

    def _hand_out_beside(self, now: float) -> None:
        """Chunks of jobs that run side by side, to every worker with room for them."""
        self.side.plan_places()
        while (found := self.side.next()) is not None:
            chunk = self.order(*found, now)
            if chunk is not None:
                self.slots.begins_beside(chunk)
                self.patrol_by(chunk.look_at(now, wanted=self._wanted))

    def order(self, held: HeldJob, worker: int, now: float) -> Chunk | None:
        """Order a chunk of this job to run there. None: nothing of it is untouched."""
        spec, bags = held.spec, held.bags
        company = bags.company if bags.together else 0
        cut = self._cut(held)
        if cut is None:
            self.stock.restock(held)
            return None
        self._chunks += 1
        starts = spec.life > 0 and not self.slots.actors[worker].up
        chunk = Chunk(
            self._chunks,
            spec.job,
            cut.lid,
            cut.lo,
            cut.hi,
            worker,
            now,
            bags.expected_seconds(cut.hi - cut.lo),
            bags.opaque,
            self.side.timeout_at(spec, worker, now)
            if bags.together
            else _timeout_at(spec, now, starts=starts),
            one_by_one=not (bags.opaque or spec.vectorized),
            in_parts=spec.kind is not JobKind.REDUCE,
            whole=spec.chunk_items > 0,
            together=bags.together,
            code=spec.code,
            company=company,
            awaited=spec.kind is JobKind.SUBMIT
            and not starts
            and not (bags.together and worker not in self.slots.side_ready),
            in_lane=spec.max_parallel > 0,
            in_order=spec.life > 0,
            resources=() if spec.life else spec.resources,
        )
        self.effects.append(_order_of(chunk, spec, cut, self.functions.blobs))
        self.stock.handed_out(held, chunk.number)
        return chunk

    def _cut(self, held: HeldJob) -> Cut | None:
        bags = held.bags
        if bags.opaque or held.spec.timeout or held.spec.chunk_items == 1:
            return bags.cut(1)
        if held.spec.chunk_items:
            each = bags.cost.octets_per_item
            most = max(1, int(FIXED_OCTETS_MAX / each)) if each else held.spec.chunk_items
            return bags.cut(min(held.spec.chunk_items, most))
        return bags.cut(
            bags.cost.chunk_items(
                bags.queued_items,
                1 if held.spec.life else len(self.slots.by_worker) * (bags.together or 1),
                chunk_seconds_min=self.config.chunk_seconds_min,
                chunk_seconds_max=_chunk_seconds_max(held.spec, self.config),
                chunk_octets_max=self.config.chunk_octets_max,
            ),
            _behind(held, self.config) if bags.some_follow else 0,
        )

    def may_queue(self, held: HeldJob) -> bool:
        return (
            held.bags.may_queue
            and not held.spec.timeout
            and (held.spec.life > 0 or not held.spec.resources)  # taken up while it waits
            and held.bags.cost.seconds(held.spec.chunk_items or 1)
            <= self.config.prefetch_seconds_max
        )

    def _plan_patrol(self, now: float, *, wanted: bool = False) -> None:
        """Plan the next moment with something to do. What is due now is done, or is tried again later."""
        self._wanted = wanted
        for slot in self.slots.all_slots():
            self.plan_patrol_of(slot, now)
        if self.slots.beside:
            self.patrol_by(self.side.look_at(now, wanted=wanted))

    def plan_patrol_of(self, slot: Slot, now: float) -> None:
        chunk = slot.running
        if chunk is None:
            return
        behind = slot.queued is not None
        soonest = chunk.look_at(now, wanted=self._wanted, behind=behind)
        if behind:
            turn_at = self.slots.turn_at(slot)
            soonest = min(soonest, turn_at if turn_at > now else now + PATROL_SECONDS)
        self.patrol_by(soonest)


def _chunk_seconds_max(spec: JobSpec, config: Config) -> float:
    return config.fold_seconds_max if spec.kind is JobKind.REDUCE else config.chunk_seconds_max


def _behind(held: HeldJob, config: Config) -> int:
    """How many follow-ons may go behind a single item, whose worker hands results on from one to the next:
    no other could run any of them earlier."""
    cost = held.bags.cost
    if held.bags.together or not cost.seconds_per_item:
        return 0
    if held.spec.vectorized or held.spec.life or held.spec.resources:
        return 0
    most = min(HANDED_ON_MAX, int(TURN_SECONDS / cost.seconds_per_item))
    if cost.octets_per_item:
        most = min(most, int(config.chunk_octets_max / cost.octets_per_item))
    return most


def _timeout_at(spec: JobSpec, now: float, *, starts: bool) -> float | None:
    """When the process is ended that begins an item now, or would if it were up."""
    return (
        now + spec.timeout
        if spec.timeout and spec.kind is not JobKind.EXPLORE and not starts
        else None
    )


def _order_of(chunk: Chunk, spec: JobSpec, cut: Cut, blobs: Mapping[Digest, bytes]) -> RunChunk:
    return RunChunk(
        chunk.worker,
        chunk.number,
        spec,
        cut.lo,
        cut.hi,
        cut.blocks,
        blobs[spec.function],
        blobs[spec.combine] if spec.combine else b"",
        blobs[spec.code] if spec.code else b"",
        chunk.together > 0,
    )
