"""What a job may ask of the mesh: is it kept, at every moment and at every node?

Decides whether bounds hold, whatever is stolen, killed or cancelled: how many items of a job run at once in
the whole mesh, how much of its resources a node uses, and whether the most urgent job comes first. Refuses
to know how a core keeps them: it counts what virtual workers really run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import Effect, RunChunk, Send
from stealmesh_engine.events import Event, Heard
from stealmesh_engine.ledger.lent_twice import TwiceLentLedger
from stealmesh_engine.ledger.requirements import suits
from stealmesh_engine.stealing.shares import worth_moving_seconds
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import (
    Grant,
    JobKind,
    JobSpec,
    Report,
    Returned,
    Split,
    Steal,
)
from stealmesh_sim.kernel import Breach

if TYPE_CHECKING:
    from stealmesh_engine.holding.held_job import HeldJob
    from stealmesh_sim.process import Process
    from stealmesh_sim.workers import VirtualWorker


class PlacedWorld(Protocol):
    @property
    def now(self) -> float: ...

    def living(self) -> Iterator[Process]: ...


class PlacingChecks:
    """The bounds of all jobs of a world."""

    def __init__(self, world: PlacedWorld) -> None:
        self.world = world
        self.strict = False
        """Nobody is ever taken for dead who lives, so what an owner has fenced does not run."""
        self.begun = 0
        """Chunks of jobs with `max_parallel`, or with resources, that began."""
        self.at_once: dict[JobId, int] = {}
        """The most workers that a job with `max_parallel` ever had at once."""
        self.items_wait = False
        """Items wait for others, so the more urgent may have to wait for the less urgent."""
        self.lent_twice: set[JobId] = set()
        """Jobs that may run their last stragglers twice."""
        self.twice = 0
        """How often a chunk began, and some items ran in two copies."""
        self._nodes: dict[int, tuple[frozenset[PeerId], frozenset[PeerId]]] = {}
        """By process, as of the step before: the nodes that it knows, and those that hold work of it."""
        self._waiting: set[int] = set()
        """Processes where something waited for a node after their last step."""
        self._changes: dict[int, int] = {}
        self._granted: set[tuple[JobId, LeaseId]] = set()
        self.urgent = 0
        """Chunks that were handed out while less urgent work waited."""

    # ------------------------------------------------------------ what runs

    def began(self, process: Process, spec: JobSpec) -> None:
        """A worker of this process begins a chunk."""
        if spec.max_parallel:
            self.begun += 1
            self._within_bound(spec)
        if spec.resources:
            self.begun += 1
            self._within_resources(process, spec)
        for owner in self.world.living() if spec.job in self.lent_twice else ():
            owned = owner.core.owner.jobs.get(spec.job)
            if owned is not None and isinstance(owned.ledger, TwiceLentLedger):
                self._within_two(spec.job, owned.ledger)

    def _within_two(self, job: JobId, ledger: TwiceLentLedger) -> None:
        """Of an item run two copies at most that count (one that was beaten runs to its end)."""
        once, twice = IntervalSet(), IntervalSet()
        for process in self.world.living():
            for worker in process.at_work():
                running = worker.running
                if running is None or running.spec.job != job:
                    continue
                chunk = process.core.dispatcher.slots.running_chunk(worker.number, running.chunk)
                if chunk is None or chunk.void:
                    continue
                for piece in ledger.pieces(chunk.lo, chunk.hi):
                    if (piece.holder, piece.lid) != (process.member.id, chunk.lid):
                        continue
                    if twice.overlap(piece.lo, piece.hi):
                        raise Breach("copies", f"three copies of [{piece.lo}, {piece.hi}) run")
                    for part in once.overlap(piece.lo, piece.hi):
                        twice.add(*part)
                        self.twice += 1
                    once.add(piece.lo, piece.hi)

    def _within_bound(self, spec: JobSpec) -> None:
        running = [
            (process, worker)
            for process in self.world.living()
            for worker in process.at_work()
            if worker.running is not None and worker.running.spec.job == spec.job
        ]
        counted = [each for each in running if self.strict or self._is_counted(*each)]
        self.at_once[spec.job] = max(self.at_once.get(spec.job, 0), len(counted))
        if len(counted) > spec.max_parallel:
            where = sorted(f"{process.name}/{worker.number}" for process, worker in counted)
            text = f"{len(counted)} items of {spec.name} run at once, at most {spec.max_parallel} may: {where}"
            raise Breach("parallel", text)

    def _is_counted(self, process: Process, worker: VirtualWorker) -> bool:
        """Does the job's owner know that this runs? What it has fenced, or never heard of, it does not."""
        assert worker.running is not None
        slots = process.core.dispatcher.slots
        chunk = slots.running_chunk(worker.number, worker.running.chunk)
        if chunk is None or chunk.void:
            return False
        me = process.member.id
        for owner in self.world.living():
            owned = owner.core.owner.jobs.get(chunk.job)
            if owned is not None and (
                owned.ledger.holds(me, chunk.lid)
                or (owned.lanes is not None and owned.lanes.lingers(me, chunk.lid))
            ):
                return True
        return False

    def _within_resources(self, process: Process, spec: JobSpec) -> None:
        taken: dict[str, int] = {}
        for worker in process.at_work():
            if worker.running is not None:
                for name, count in worker.running.spec.resources:
                    taken[name] = taken.get(name, 0) + count
        declared = dict(process.member.resources)
        for name, count in taken.items():
            if count > declared.get(name, 0):
                text = f"{process.name} uses {count} of {name} for {spec.name}, it has {declared.get(name, 0)}"
                raise Breach("resources", text)

    # ------------------------------------------------------------ what comes first

    def stepped(self, process: Process, events: Iterable[Event], effects: Iterable[Effect]) -> None:
        """A process has decided this in one step."""
        granted: int | None = None
        told = [e.message for e in events if isinstance(e, Heard)]
        freed = {m.job for m in told if isinstance(m, Split | Returned | Report)}
        # One after the other: what the second set free was not when that of the first was leased. (Items of
        # durable jobs may also become safe one job after the other.)
        in_turn = len(freed) > 1
        if process.core.owner.placement.priorities.differ:
            self._look(process)
        only_asked = all(type(e) is Heard and type(e.message) is Steal for e in events)
        for effect in effects:
            if isinstance(effect, RunChunk):
                self._handed_out(process, effect)
            elif isinstance(effect, Send) and isinstance(effect.message, Grant):
                spec = effect.message.spec
                is_later = (in_turn and spec.job in freed) or (spec.term and len(told) > 1)
                before = None if is_later else granted
                granted = self._leased(process, effect.message, before)
            elif isinstance(effect, Send) and isinstance(effect.message, Split) and only_asked:
                self._gave(process, effect.message)

    def _look(self, process: Process) -> None:
        """How many nodes have come or gone since the step before, or cannot be reached any more? Each leads
        to a round of leases. So does a beat, for what waited for a node."""
        core, number = process.core, process.number
        nodes, holders = frozenset(core.view.nodes()), frozenset(core.owner.holders())
        before, held = self._nodes.get(number, (nodes, holders))
        self._nodes[number] = nodes, holders
        waited = number in self._waiting
        (self._waiting.add if core.owner.placement.unplaced else self._waiting.discard)(number)
        cut_off = {each for each in held - holders if not core.links.is_ready(each)}
        self._changes[number] = len((before ^ nodes) | cut_off) + (waited and bool(cut_off))

    def _leased(self, process: Process, grant: Grant, before: int | None) -> int | None:
        """Returns the priority of the last new lease of this step. A thief gets what it was promised, and
        a new link repeats what was said before."""
        new = [lease for lease in grant.leases if (grant.spec.job, lease.lid) not in self._granted]
        self._granted.update((grant.spec.job, lease.lid) for lease in new)
        priority = grant.spec.priority
        if grant.nonce or not new or self.items_wait:
            return before
        if before is not None and priority > before and self._changes.get(process.number, 0) <= 1:
            raise Breach("priority", f"{process.name} leased priority {before} before {priority}")
        return priority

    def _handed_out(self, process: Process, effect: RunChunk) -> None:
        if process.core.owner.jobs or effect.spec.life:
            return  # it may have leased itself something since, in the same step
        stock, priority = process.core.dispatcher.stock, effect.spec.priority
        for held in stock.jobs():
            if held.spec.priority > priority and self._could_begin(process, held, effect):
                text = f"{process.name} runs {effect.spec.name} before {held.spec.name}, which is more urgent"
                raise Breach("priority", text)
            self.urgent += held.spec.priority < priority

    def _could_begin(self, process: Process, held: HeldJob, effect: RunChunk) -> bool:
        """Could something of this job run instead of that chunk? What runs side by side has a process of its
        own beside each worker, so it takes no place of what runs one by one, nor that of it."""
        dispatcher = process.core.dispatcher
        if dispatcher.stock.is_held_up(held) or bool(held.bags.together) != effect.side:
            return False
        there = dispatcher.slots.beside.get(effect.worker, {})
        others = [chunk for chunk in there.values() if chunk.number != effect.chunk]
        return not effect.side or dispatcher.side.has_room(held, others)

    def _gave(self, process: Process, split: Split) -> None:
        """Nothing more urgent with long items stays where it is when a thief comes that could run it."""
        jobs, core = process.core.holder.jobs, process.core
        given = jobs.get(split.job)
        thief = core.view.members.get(split.thief)
        if given is None or thief is None:
            return
        for held in core.dispatcher.stock.jobs():
            urgent = held.spec.priority > given.spec.priority
            worth_it = held.bags.queued_seconds >= 2 * worth_moving_seconds(held.bags, core.config)
            plain = held.spec.kind is not JobKind.EXPLORE and not held.spec.resources
            if urgent and worth_it and plain and suits(held.spec, thief):
                late = core.victim._is_late(held.spec.owner, self.world.now)
                if not late and held.may_go_to(split.thief, self.world.now):
                    text = f"{process.name} gave away {given.spec.name} and kept {held.spec.name}, which is more urgent"
                    raise Breach("priority", text)
