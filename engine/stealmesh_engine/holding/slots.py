"""A node's picture of its worker processes: which are idle, what each runs, and what waits behind it.

Decides nothing. Refuses to know jobs and leases beyond the chunk that it hands in and out.

Invariant: a worker holds at most two chunks, one that it runs and one queued behind it, so that it never
waits for its node. The node can take back the queued one as long as it is unread, and the items of the
running one that are not begun.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import msgspec

from stealmesh_engine.holding.stopped import Stopped
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Resources

TURN_SECONDS = 0.004
"""For this long a job that has nothing at a worker waits for chunks of others to end. Shorter: more chunks
are divided, and each division costs about half a millisecond."""

PATROL_SECONDS = 0.05
"""For this long a worker may be busy before what is behind it counts as waiting."""
OVERRUN_FACTOR = 4.0
WANTED_SECONDS = 0.01
"""The same when another worker has nothing to do, here or at another node."""
WANTED_FACTOR = 2.0
CHILDREN_SECONDS = 0.02
"""A task runs for this long before it is asked for a child, and again between two. Shorter: more children
travel that are not worth the journey; longer: others wait."""
FIRST_ACTOR = 1 << 20
"""Above this number are the processes of actors."""


class Chunk(msgspec.Struct):
    """What is with a worker: items [lo, hi) of a lease (explore: a whole bag).

    It shrinks from both ends while it runs: what is reported in parts leaves in front, what is given
    back leaves behind. So this is always what the worker has not answered for.
    """

    number: int
    job: JobId
    lid: LeaseId
    lo: int
    hi: int
    worker: int
    started: float
    """When it went to the worker or, if it had to queue, when the one before it ended."""
    expected_seconds: float | None
    explore: bool = False
    timeout_at: float | None = None
    timed_out: bool = False
    void: bool = False
    """Its lease is gone: its results are dropped."""
    one_by_one: bool = False
    """Its worker runs the items one after the other, and can be asked in between."""
    in_parts: bool = False
    """Its results may be reported before the end."""
    whole: bool = False
    """The program has fixed the size of chunks: it is not divided for being slow."""
    asked_at: float = -inf
    told_at: float = -inf
    """When a part of it was last reported."""
    carried_seconds: float = 0.0
    """About what the item that was running then had taken already."""
    together: int = 0
    """How many chunks of its job its worker runs side by side; 0: it runs alone, then the next."""
    code: bytes = b""
    """Of those that run side by side: the bundle that it needs."""
    company: int = 0
    """How many suspects may run in its process, itself included; 0: it is no suspect."""
    stopped: Stopped | None = None
    """Items of it that the program has stopped."""
    awaited: bool = False
    """Its owner wants to hear that it runs if it takes long, and has not heard it yet."""
    in_lane: bool = False
    """Its job has a bound on what runs at once: without its lease it must not go on."""
    resources: Resources = ()
    """What it takes up of the node's."""
    in_order: bool = False
    """A call of an actor: what comes after it must not begin before it."""
    waits: bool = False
    """Its task waits for children elsewhere, and needs no core."""
    hired: bool = False
    """Its worker got the item from the owner: its inputs are not here."""
    children_at: float = inf
    """From when on its task is asked for a child; inf: it has none that may leave its worker."""

    @property
    def keeps_children(self) -> bool:
        """It takes up something, has a lane, or runs in a process that nothing stands in for."""
        return bool(self.in_lane or self.resources or self.explore or self.in_order)

    @property
    def nests(self) -> bool:
        """May its task give children away?"""
        return self.children_at < inf and not self.void and not self.waits

    @property
    def tell_at(self) -> float:
        """When its owner is to hear that it runs; inf: never."""
        return self.started + PATROL_SECONDS if self.awaited and not self.void else inf

    def overdue_at(self, *, wanted: bool = False) -> float:
        """When it will have run much longer than expected; just longer, if its work is `wanted`."""
        expected = self.expected_seconds or 0.0
        limit = max(OVERRUN_FACTOR * expected, PATROL_SECONDS)
        if wanted:
            limit = min(limit, max(WANTED_FACTOR * expected, expected + WANTED_SECONDS))
        return self.started + limit

    def is_overdue(self, now: float, *, wanted: bool = False) -> bool:
        return now >= self.overdue_at(wanted=wanted)

    def left_seconds(self, now: float) -> float:
        """Estimated seconds until it ends."""
        return max(0.0, self.started + (self.expected_seconds or 0.0) - now)

    @property
    def results_wait_at(self) -> float:
        """When its finished results have waited long enough for the others."""
        if not (self.in_parts and self.can_be_asked):
            return inf
        return max(self.started, self.told_at) + PATROL_SECONDS

    @property
    def can_be_asked(self) -> bool:
        return self.one_by_one and self.hi - self.lo > 1 and not self.void

    @property
    def long_at(self) -> float:
        """When the first item of a job turns out to be long; inf: another one has ended before."""
        uncharted = self.expected_seconds is None and not (self.explore or self.void)
        return self.started + PATROL_SECONDS if uncharted else inf

    def look_at(self, now: float, *, wanted: bool, behind: bool = False) -> float:
        """When a patrol is to look at it next: what is due now is done, or is tried again later. `behind`:
        another chunk waits for its end."""
        long_at = self.long_at
        soonest = min(long_at if now < long_at else inf, self.tell_at)
        if self.stopped is not None:
            soonest = min(soonest, max(self.stopped.until, now + PATROL_SECONDS))
        if self.timeout_at is not None and not self.timed_out:
            soonest = min(soonest, self.timeout_at)
        if self.in_lane and not self.is_overdue(now):
            soonest = min(soonest, self.overdue_at())
        if behind or self.can_be_asked:
            for at in (self.overdue_at(wanted=wanted), self.results_wait_at):
                soonest = min(soonest, at if at > now else now + PATROL_SECONDS)
        return soonest

    def begins(self, *, awaited: bool, timeout_at: float | None) -> None:
        """It was ordered before the process was up, and begins only now."""
        self.awaited, self.timeout_at = awaited, timeout_at

    def stop(self, lo: int, hi: int, now: float) -> tuple[int, int] | None:
        """The program has stopped these items. Returns what the worker is to be told; None: it has none of
        them."""
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        if lo >= hi or self.explore:
            return None
        if self.stopped is None:
            self.stopped = Stopped()
        self.stopped.add(lo, hi, now)
        return self.stopped.around(lo)

    def must_end(self, now: float) -> str:
        """Why its process is to end now; empty: it is not. Said once."""
        if self.timeout_at is not None and now >= self.timeout_at and not self.timed_out:
            self.timed_out = True
            return "the task ran longer than its timeout"
        if self.stopped is not None and self.stopped.ends_worker(now, self.lo, self.hi):
            return "it ran a task that was stopped"
        return ""

    def shrink(self, lo: int, hi: int, now: float) -> None:
        """What is in front of `lo` is reported, what is behind `hi` is given back."""
        self.lo, self.hi, self.told_at = lo, hi, now

    def ends_soon(self, now: float) -> bool:
        """Is it expected to end in a moment?"""
        ends = self.started + (self.expected_seconds or 0.0)
        return not self.is_overdue(now) and ends <= now + PATROL_SECONDS


@dataclass(slots=True)
class Slot:
    """One worker."""

    worker: int
    running: Chunk | None = None
    queued: Chunk | None = None
    sharing: bool = False
    """It has been asked to give up part of its explore bag and has not done so yet."""
    retracting: bool = False

    def may_give(self, running: Chunk) -> bool:
        """May its running chunk give up what it has not begun? Not if that would run after what is behind it
        and has to run before."""
        behind = running.in_order and (self.queued is not None or self.retracting)
        return not (running.whole or behind)


@dataclass(slots=True)
class HiredWorker:
    """A worker that gets its items from a program on this host, until it comes back."""

    worker: int
    number: int
    """Of the hire, among those of chunks: the item that it is at when it comes back has it from then on."""
    job: JobId
    owner: PeerId
    hire: int
    """The owner's number for it."""
    ending: bool = False
    """It has been told to come back."""
    stops: list[tuple[int, int]] = field(default_factory=list)
    """Items that the program has stopped since."""
    ends_at: float = inf
    """When its process ends, if it is not back by then."""

    @property
    def of_actor(self) -> bool:
        """Is it the process of an actor? That runs nothing else."""
        return self.worker > FIRST_ACTOR


@dataclass(slots=True)
class ActorSlot(Slot):
    """The process of an actor."""

    job: JobId = b""
    up: bool = False
    """Before that the time of no call runs."""
    resources: Resources = ()
    """What it takes up of the node's for as long as it lives, once it has begun."""
    hired: bool = False
    """It gets its calls from its program (`hired_out.py`)."""

    @property
    def is_idle(self) -> bool:
        """Is it up, and has nothing to do?"""
        return self.up and not (self.hired or self.retracting or self.running or self.queued)


@dataclass(slots=True)
class Slots:
    """All workers that are ready, by number, and what each answers."""

    by_worker: dict[int, Slot] = field(default_factory=dict)
    beside: dict[int, dict[int, Chunk]] = field(default_factory=dict)
    """By worker and number: chunks that run side by side, apart from what workers run one by one."""

    relief: set[int] = field(default_factory=set)
    """Workers that stand in for those that wait: they run nothing side by side."""
    side_ready: set[int] = field(default_factory=set)
    """Workers whose process for these is up. Before that no item's time runs."""
    actors: dict[int, ActorSlot] = field(default_factory=dict)
    """The processes of actors, by number. They run nothing else, and no thief gets what waits for them."""
    hired: dict[int, HiredWorker] = field(default_factory=dict)
    """Those that are hired out (`hired_out.py`), and processes of actors. Workers among them are nowhere else here."""
    some_may_share: bool = False
    """An explore bag, or a task with children, may be with a worker (`Victim.keep_spare`)."""
    _actors_begun: int = 0

    def __len__(self) -> int:
        return len(self.by_worker) + self._workers_hired()

    def _workers_hired(self) -> int:
        """Without the processes of actors, which are nobody else's."""
        return sum(not each.of_actor for each in self.hired.values()) if self.hired else 0

    def chunks(self) -> list[Chunk]:
        """Everything that is with workers."""
        chunks = [
            chunk
            for slot in self.by_worker.values()
            for chunk in (slot.running, slot.queued)
            if chunk is not None
        ]
        if self.actors:
            both = ((slot.running, slot.queued) for slot in self.actors.values())
            chunks += [chunk for pair in both for chunk in pair if chunk is not None]
        return chunks + self.all_beside() if self.beside else chunks

    @property
    def busy(self) -> int:
        """How many workers run something."""
        one_by_one = {slot.worker for slot in self.by_worker.values() if slot.running is not None}
        beside = {worker for worker in self.beside if worker in self.by_worker}
        return len(one_by_one | beside) + self._workers_hired()

    def chunks_of(self, job: JobId) -> list[Chunk]:
        return [chunk for chunk in self.chunks() if chunk.job == job]

    def busy_jobs(self) -> set[JobId]:
        return {chunk.job for chunk in self.chunks()} | {each.job for each in self.hired.values()}

    def taken(self, name: str) -> int:
        """How many of this resource the chunks at workers take up."""
        used = [chunk.resources for chunk in self.chunks()]
        used += [slot.resources for slot in self.actors.values()]
        return sum(count for each in used for kind, count in each if kind == name)

    def running(self) -> list[Chunk]:
        chunks = [slot.running for slot in self.all_slots() if slot.running is not None]
        return chunks + self.all_beside() if self.beside else chunks

    def untold(self, now: float) -> list[Chunk]:
        """Chunks that have run so long that their owners are to hear of it. Each comes once."""
        found = [chunk for chunk in self.running() if now >= chunk.tell_at]
        for chunk in found:
            chunk.awaited = False
        return found

    def stop(
        self, job: JobId, lo: int, hi: int, now: float
    ) -> list[tuple[Slot, Chunk, tuple[int, int]]]:
        """The program has stopped these items. Returns the chunks that have some of them, and what their
        workers are to be told; without those side by side."""
        found = []
        for slot in self.by_worker.values():
            for chunk in (slot.running, slot.queued):
                items = None if chunk is None or chunk.job != job else chunk.stop(lo, hi, now)
                if chunk is not None and items is not None:
                    found.append((slot, chunk, items))
        return found

    def turn_at(self, slot: Slot) -> float:
        """When the running chunk has been in the way of a job without any other chunk for long enough."""
        running, queued = slot.running, slot.queued
        if running is None or queued is None or running.job == queued.job or running.whole:
            return inf
        if (queued.expected_seconds or 0.0) > TURN_SECONDS or self.is_running(queued.job):
            return inf
        return max(queued.started, running.started) + TURN_SECONDS

    def all_beside(self) -> list[Chunk]:
        """What runs side by side, at all workers."""
        return [chunk for there in self.beside.values() for chunk in there.values()]

    def is_idle(self, slot: Slot) -> bool:
        """Could this worker begin something?"""
        there = self.beside.get(slot.worker)
        if slot.running is not None or not there:
            return slot.running is None
        return len(there) < min(chunk.company or chunk.together for chunk in there.values())

    def some_free(self) -> bool:
        """Does a worker run nothing one by one?"""
        slots = self.by_worker.values()
        return any(slot.running is None for slot in slots)

    def is_running(self, job: JobId) -> bool:
        slots = self.by_worker.values()
        if any(slot.running is not None and slot.running.job == job for slot in slots):
            return True
        return bool(self.beside) and any(chunk.job == job for chunk in self.all_beside())

    def running_chunk(self, worker: int, number: int) -> Chunk | None:
        """The chunk with this number, if the worker runs it."""
        slot = self.by_worker.get(worker) or self.actors.get(worker)
        chunk = None if slot is None else slot.running
        if chunk is not None and chunk.number == number:
            return chunk
        there = self.beside.get(worker)
        return None if there is None else there.get(number)

    def chunk_at(self, worker: int, number: int) -> Chunk | None:
        """The same, if it runs or is queued there: a worker may have begun it, and we not heard of the end of
        the one before it."""
        slot = self.by_worker.get(worker) or self.actors.get(worker)
        if slot is not None and slot.queued is not None and slot.queued.number == number:
            return slot.queued
        return self.running_chunk(worker, number)

    def soon_free(self, now: float) -> bool:
        """Is one of them free, or about to be?"""
        slots = self.by_worker.values()
        if not self.beside:
            return any(slot.running is None or slot.running.ends_soon(now) for slot in slots)
        return any(map(self.is_idle, slots)) or any(each.ends_soon(now) for each in self.running())

    def busy_seconds(self, now: float) -> float:
        """How long all of them have been at what they run: the one that began last. 0: one is free."""
        slots = self.by_worker.values()
        if not all(slot.running is not None for slot in slots):
            return 0.0
        return min((now - slot.running.started for slot in slots if slot.running), default=0.0)

    # ------------------------------------------------------------ actors

    def all_slots(self) -> list[Slot]:
        """Of the workers, and of actors."""
        slots = list(self.by_worker.values())
        return [*slots, *self.actors.values()] if self.actors else slots

    def begin_actor(self, job: JobId) -> None:
        """A process for this job alone. Numbers are not used again."""
        self._actors_begun += 1
        number = FIRST_ACTOR + self._actors_begun
        self.actors[number] = ActorSlot(number, job=job)

    def actors_of(self, job: JobId) -> list[ActorSlot]:
        return [slot for slot in self.actors.values() if slot.job == job]

    def end_actor(self, worker: int) -> None:
        del self.actors[worker]

    # ------------------------------------------------------------ hires

    def hire_out(self, slot: Slot) -> None:
        """It gets nothing here any more. A worker is in no list; an actor's process is still its actor's."""
        if isinstance(slot, ActorSlot):
            slot.hired = True
        else:
            del self.by_worker[slot.worker]

    def hire_over(self, worker: int) -> Slot | None:
        """It is ours again. None: it was an actor's whose life is over."""
        if worker < FIRST_ACTOR:
            self.ready(worker)
            return self.by_worker[worker]
        slot = self.actors.get(worker)
        if slot is not None:
            slot.hired = False
        return slot

    # ------------------------------------------------------------ what workers say

    def ready(self, worker: int) -> None:
        self.by_worker[worker] = Slot(worker)

    def dismiss(self, worker: int) -> bool:
        """It gets no more work. False: it has some."""
        slot = self.by_worker.get(worker)
        if slot is None or slot.running is not None or slot.queued is not None:
            return False
        del self.by_worker[worker]
        self.relief.discard(worker)
        return True

    def finished(self, worker: int, number: int, now: float) -> Chunk | None:
        """The worker is done with its running chunk, and runs the queued one."""
        chunk = self.running_chunk(worker, number)
        if chunk is not None and chunk.together:
            self._gone_beside(chunk)
        elif chunk is not None:
            slot = self.by_worker.get(worker) or self.actors[worker]
            slot.running, slot.queued = slot.queued, None
            if slot.running is not None:
                slot.running.started = now
            slot.sharing = False
        return chunk

    def begin_now(self, worker: int, now: float) -> list[Chunk]:
        """The process is up: all that was ordered to run there side by side begins."""
        self.side_ready.add(worker)
        begun = list(self.beside.get(worker, {}).values())
        for chunk in begun:
            chunk.started = now
        return begun

    def begins_beside(self, chunk: Chunk) -> None:
        self.beside.setdefault(chunk.worker, {})[chunk.number] = chunk

    def retracted_beside(self, worker: int, numbers: list[int]) -> list[Chunk]:
        """These had not begun, and are not with the worker any more."""
        there = self.beside.get(worker, {})
        chunks = [there[number] for number in numbers if number in there]
        for chunk in chunks:
            self._gone_beside(chunk)
        return chunks

    def _gone_beside(self, chunk: Chunk) -> None:
        there = self.beside[chunk.worker]
        del there[chunk.number]
        if not there:
            del self.beside[chunk.worker]

    def took_stock(self, worker: int, number: int, now: float, *, over: bool) -> Chunk | None:
        """The worker has told of its running bag, and may be asked to share again."""
        if over:
            return self.finished(worker, number, now)
        chunk = self.running_chunk(worker, number)
        if chunk is not None:
            self.by_worker[worker].sharing = False
        return chunk

    def has_children(self, worker: int, number: int, now: float) -> None:
        """The task has children. Those of one that takes up something, or has a lane, stay in its worker."""
        chunk = self.running_chunk(worker, number)
        if chunk is not None and not chunk.keeps_children:
            chunk.children_at = max(now, chunk.started + CHILDREN_SECONDS)
            self.some_may_share = True

    def gets_bag(self) -> None:
        """An explore bag goes to a worker."""
        self.some_may_share = True

    def look_who_may_share(self) -> None:
        """Nothing that runs could be shared: is there anything that could be later?"""
        self.some_may_share = any(
            chunk.explore or chunk.children_at < inf for chunk in self.chunks()
        )

    def retracted(self, worker: int, number: int | None) -> Chunk | None:
        """The worker gives back what it has not read: the queued chunk, or one that has moved up since (a
        worker that got no core has not read that one either). None: the answer came too late."""
        slot = self.by_worker.get(worker) or self.actors.get(worker)
        if slot is None:
            return None
        slot.retracting = False
        if slot.queued is not None and number == slot.queued.number:
            chunk, slot.queued = slot.queued, None
            return chunk
        if slot.running is not None and number == slot.running.number:
            chunk, slot.running, slot.queued = slot.running, slot.queued, None
            return chunk
        return None

    def lost(self, worker: int, number: int | None) -> tuple[list[Chunk], Chunk | None] | None:
        """The worker ended while it ran this chunk. Returns the chunks that it had not begun, and the
        one that it ran, if it had any; None: an unknown worker."""
        assert worker not in self.hired, "a hire ends before its worker"
        slot = self.by_worker.pop(worker, None) or self.actors.pop(worker, None)
        if slot is None:
            return None
        self.relief.discard(worker)
        had = [chunk for chunk in (slot.running, slot.queued) if chunk is not None]
        ran = next((chunk for chunk in had if chunk.number == number), None)
        return [chunk for chunk in had if chunk is not ran], ran

    def lost_beside(self, worker: int, running: list[int]) -> tuple[list[Chunk], list[Chunk]]:
        """The process ended that ran these chunks side by side. Returns those of the worker that it had not
        begun, and those that it ran."""
        self.side_ready.discard(worker)
        had = list(self.beside.pop(worker, {}).values())
        ran = [chunk for chunk in had if chunk.number in running]
        return [chunk for chunk in had if chunk not in ran], ran
