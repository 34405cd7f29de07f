"""What workers are given: which chunk, which worker, and when.

Decides the order of jobs, the cut of chunks, what waits behind what is about to end, what is taken
back from behind something unexpectedly slow, and when workers will run dry. Refuses to know where
the work came from and what becomes of results (holder.py).
"""

from __future__ import annotations

from math import inf

from stealmesh_engine.bags import Cut, ExploreBags, IndexedBags
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Effect, Retract, RunChunk, Share, StopWorker
from stealmesh_engine.held import HeldJob
from stealmesh_engine.links import Links
from stealmesh_engine.shipped import ShippedFunctions
from stealmesh_engine.workers import PATROL_SECONDS, Chunk, Slot, Slots
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind, JobSpec

FUNCTION_PATIENCE_SECONDS = 0.25


class Dispatcher:
    """The workers of a node, and what they are given next."""

    def __init__(
        self,
        config: Config,
        links: Links,
        effects: list[Effect],
        jobs: dict[JobId, HeldJob],
        functions: ShippedFunctions,
    ) -> None:
        self.config = config
        self.links = links
        self.effects = effects
        self.jobs = jobs
        self.functions = functions
        self.slots = Slots()
        self.stock: dict[JobId, None] = {}
        """Jobs that have something for a worker; who had its turn goes to the end."""
        self.draining = False
        """This node wants to leave: what runs is finished, nothing is begun."""
        self.turned_long = False
        """A job has turned out to have long items, and nobody has been told yet."""
        self.untold: list[Chunk] = []
        """Single calls that have run for a moment: their owners are to hear of it (holder.py)."""
        self.patrol_at: float | None = None
        self._chunks = 0

    def restock(self, held: HeldJob) -> None:
        job = held.spec.job
        if held.bags.queued_items and not self.functions.lacks(held.spec):
            self.stock.setdefault(job, None)
        else:
            self.stock.pop(job, None)

    def dispatch(self, now: float) -> None:
        """Hand out chunks: first to the idle, then behind what is about to end."""
        if not self.stock or self.draining:
            return
        for slot in self.slots.by_worker.values():
            if slot.running is None and not self._hand_out(slot, now, queue=False):
                return
        if self.config.prefetch_seconds_max:
            for slot in self.slots.by_worker.values():
                if slot.queued is None and not slot.retracting and self._short(slot.running, now):
                    self._hand_out(slot, now, queue=True)

    def room(self) -> int:
        """Workers with nothing to do."""
        return sum(1 for slot in self.slots.by_worker.values() if slot.running is None)

    def queued_seconds(self) -> float:
        return sum(self.jobs[job].bags.queued_seconds for job in self.stock)

    def starves_at(self, now: float) -> float | None:
        """When the first worker is going to have nothing to do: now, later, or nobody can say.

        Busy nodes that rob each other of what neither can start yet only pass it round, so the
        running chunks count as well as the queued ones.
        """
        if self.draining or not self.slots:
            return None
        soonest: float | None = None
        for slot in self.slots.by_worker.values():
            if slot.running is None:
                # Work whose function is on its way here is as good as there, for a moment.
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
        return soonest + self.queued_seconds() / len(self.slots)

    def learn_from_waiting(self, now: float) -> None:
        """What should have ended long ago costs at least as much as it has taken."""
        for chunk in self.slots.running():
            held = self.jobs.get(chunk.job)
            if held is not None and now >= chunk.long_at:
                self.turned_long |= not held.bags.cost.charted
                held.bags.cost.waited(now - chunk.started)

    def patrol(self, now: float) -> None:
        """Stop what has run too long; take back what waits behind something unexpectedly slow; notice
        what turns out to be long."""
        self.patrol_at = None
        self.learn_from_waiting(now)
        for long in [chunk for chunk in self.slots.running() if now >= chunk.tell_at]:
            long.awaited = False
            self.untold.append(long)
        for slot in self.slots.by_worker.values():
            chunk = slot.running
            if chunk is None:
                continue
            if chunk.timeout_at is not None and now >= chunk.timeout_at and not chunk.timed_out:
                chunk.timed_out = True
                self.stop(slot.worker, "the task ran longer than its timeout", blame=False)
            elif slot.queued is not None and not slot.retracting and chunk.is_overdue(now):
                slot.retracting = True
                self.effects.append(Retract(slot.worker))
        self._plan_patrol(now)

    def stop(self, worker: int, reason: str, *, blame: bool) -> None:
        self.effects.append(StopWorker(worker, reason, blame))

    def ask_workers_to_share(self) -> bool:
        """Raise the flag of the explore workers that have not been asked yet. True: somebody may share."""
        asked = False
        for slot in self.slots.by_worker.values():
            chunk = slot.running
            if chunk is None or not chunk.explore or chunk.void:
                continue
            asked = True
            if not slot.sharing:
                slot.sharing = True
                self.effects.append(Share(slot.worker, True))
        return asked

    # ------------------------------------------------------------ inside

    def _next_job(self) -> HeldJob | None:
        """The job with the highest priority that has work, of equals the one that waits longest."""
        best: HeldJob | None = None
        for job in self.stock:
            held = self.jobs[job]
            if best is not None and held.spec.priority <= best.spec.priority:
                continue
            if self.links.unacked_octets(held.spec.owner) > self.config.unacked_octets_max:
                continue
            if held.unsettled_octets > self.config.unacked_octets_max:
                continue
            best = held
        return best

    def _hand_out(self, slot: Slot, now: float, *, queue: bool) -> bool:
        held = self._next_job()
        if held is None or (queue and not self._may_queue(held)):
            return False
        cut = self._cut(held)
        if cut is None:
            self.restock(held)
            return False
        spec, bags = held.spec, held.bags
        explore = isinstance(bags, ExploreBags)
        self._chunks += 1
        chunk = Chunk(
            self._chunks,
            spec.job,
            cut.lid,
            cut.lo,
            cut.hi,
            slot.worker,
            now,
            None if explore or not bags.cost.known else bags.cost.seconds(cut.hi - cut.lo),
            explore,
            now + spec.timeout if spec.timeout and not explore else None,
            awaited=spec.kind is JobKind.SUBMIT,
        )
        if queue:
            slot.queued = chunk
        else:
            slot.running = chunk
        self.effects.append(
            RunChunk(
                slot.worker,
                chunk.number,
                spec,
                cut.lo,
                cut.hi,
                cut.blocks,
                self.functions.blobs[spec.function],
                self.functions.blobs[spec.combine] if spec.combine else b"",
            )
        )
        self.restock(held)
        if spec.job in self.stock and len(self.stock) > 1:
            # Of equals each has its turn: a stream that never runs dry must not starve the others.
            self.stock[spec.job] = self.stock.pop(spec.job)
        self._plan_patrol(now)
        return True

    def _cut(self, held: HeldJob) -> Cut | None:
        bags = held.bags
        if isinstance(bags, ExploreBags):
            return bags.cut(1)
        if held.fragile or held.spec.timeout or held.spec.chunk_items == 1:
            cut = bags.cut(1)
            if cut is not None and held.fragile:
                held.fragile.remove(cut.lo, cut.hi)
            return cut
        return bags.cut(
            bags.cost.chunk_items(
                bags.untouched,
                len(self.slots),
                chunk_seconds_min=self.config.chunk_seconds_min,
                chunk_seconds_max=self._chunk_seconds_max(held.spec),
                chunk_octets_max=self.config.chunk_octets_max,
            )
        )

    def _chunk_seconds_max(self, spec: JobSpec) -> float:
        folds = spec.kind is JobKind.REDUCE
        return self.config.fold_seconds_max if folds else self.config.chunk_seconds_max

    def _may_queue(self, held: HeldJob) -> bool:
        return (
            isinstance(held.bags, IndexedBags)
            and held.bags.cost.known
            and not held.spec.timeout
            and not held.fragile
            and held.bags.cost.seconds(1) <= self.config.prefetch_seconds_max
        )

    def _short(self, chunk: Chunk | None, now: float) -> bool:
        """Is it sure to end soon?"""
        return (
            chunk is not None
            and chunk.expected_seconds is not None
            and chunk.expected_seconds <= 2 * self.config.prefetch_seconds_max
            and not chunk.is_overdue(now)
        )

    def _plan_patrol(self, now: float) -> None:
        times = [
            c.timeout_at
            for c in self.slots.running()
            if c.timeout_at is not None and not c.timed_out
        ]
        times += [c.long_at for c in self.slots.running() if now < c.long_at < inf]
        times += [c.tell_at for c in self.slots.running() if c.tell_at < inf]
        if any(slot.queued is not None for slot in self.slots.by_worker.values()):
            times.append(now + PATROL_SECONDS)
        if times:
            soonest = min(times)
            if self.patrol_at is None or soonest < self.patrol_at:
                self.patrol_at = soonest
