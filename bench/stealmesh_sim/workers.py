"""Virtual workers: they take as long as the work says, and answer as real ones would.

Does: RunChunk, Retract, Divide, Share, StopItem, StopWorker. Decides nothing about work. Checks its orders: the
right function, the right blocks, never a third chunk.

A worker reads a message of its node after `PIPE_SECONDS`, runs one chunk at a time and lets one more
wait. An item may kill it, fail, or never end. If asked while it runs, it reports what is finished and
gives back what it has not begun. It visits an explore bag for a few milliseconds at a time; between
two visits it looks at its share flag and, every half second, takes stock.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any, ClassVar, Protocol

from msgspec import msgpack

from stealmesh_engine.effects import (
    Divide,
    Export,
    Relieve,
    Retract,
    RunChunk,
    Share,
    StopItem,
    StopWorker,
)
from stealmesh_engine.events import (
    BagStep,
    ChunkDone,
    ChunkPart,
    Event,
    ItemTold,
    Retracted,
    WorkerLost,
    WorkerReady,
)
from stealmesh_protocol.ids import JobId, digest_of, value_of_item
from stealmesh_protocol.messages import JobKind, JobSpec, Member
from stealmesh_protocol.values import AGAIN, LACKING
from stealmesh_sim.hired import VirtualHire
from stealmesh_sim.kernel import Clock
from stealmesh_sim.shelves import VirtualShelf
from stealmesh_sim.work import CODEC, PRIME, Work, again_part, lacking_blob

PIPE_SECONDS = 0.00003
STEP_SECONDS = 0.5
VISIT_SECONDS = 0.01
LOAD_SECONDS = 0.001
"""How long it takes to find out that a module is missing."""


class Judge(Protocol):
    """Raises Breach, or notes it, when something does not hold."""

    def that(self, holds: bool, kind: str, text: str) -> None: ...

    @property
    def actors(self) -> Any:
        """Is told which calls run in which life (`actors.py`)."""

    def began(self, process: Any, spec: JobSpec) -> None:
        """A worker of this process begins a chunk of this job."""


class WorkerWorld(Clock, Protocol):
    """What a worker needs of its world."""

    respawn_seconds: float
    """From a worker's death to its successor's start."""

    @property
    def checkers(self) -> Judge: ...

    def work_behind(self, job: JobId) -> tuple[Work, int]: ...


class WorkerHost(Protocol):
    """A process as its workers see it."""

    member: Member
    lacks: frozenset[str]
    alive: bool
    items: int
    busy_seconds: float
    number: int
    shelf: VirtualShelf

    @property
    def world(self) -> WorkerWorld: ...

    def hear(self, event: Event) -> None: ...


def hands_on(chunk: RunChunk) -> bool:
    """Does each of its items but the first need the result of the one before it?"""
    return any(block.inputs for block, _ in chunk.blocks)


RESULT_OCTETS_MAX = 1 << 26
"""No virtual task makes more, whatever a liar's job says of what stays."""


def hand_over(
    process: WorkerHost, chunk: RunChunk, lo: int, hi: int
) -> tuple[tuple[int, int], ...]:
    """The results of these items stay here, if the job is such a one. Returns them with their octets."""
    octets = chunk.spec.stays_from
    if not 0 < octets <= RESULT_OCTETS_MAX:
        return ()
    for item in range(lo, hi):
        value = value_of_item(chunk.spec.job, item)
        process.shelf.make(chunk.chunk, item, value, octets, process.number)
    return tuple((item, octets) for item in range(lo, hi))


class Bag:
    """An explore bag while a worker unpacks it."""

    __slots__ = ("count", "items", "seconds", "stocktaking", "total", "visited")

    def __init__(self, items: list[tuple[int, int]], now: float) -> None:
        self.items = items
        self.stocktaking = now
        self.count = 0
        self.total = 0
        self.visited = 0
        self.seconds = 0.0


class VirtualWorker:
    """One worker process."""

    tells: ClassVar[bool] = False
    """Tasks say how far they are: when they begin and, late, of the last item, when they end."""

    __slots__ = (
        "bag",
        "hi",
        "hire",
        "life",
        "lo",
        "number",
        "plans",
        "process",
        "queue",
        "ready",
        "running",
        "sharing",
        "since",
        "told",
    )

    def __init__(self, process: WorkerHost, number: int) -> None:
        self.process = process
        self.number = number
        self.ready = False
        self.life = 0
        """Raised when it dies: what was planned for an earlier life does not happen."""
        self.running: RunChunk | None = None
        self.since = 0.0
        self.lo = self.hi = 0
        """The items of the running chunk that are not reported yet."""
        self.told = 0.0
        """Seconds of the running chunk that are reported."""
        self.plans = 0
        """Raised when the chunk turns out shorter: what was planned for the longer one does not happen."""
        self.queue: deque[RunChunk] = deque()
        self.bag: Bag | None = None
        self.sharing = False
        self.hire: VirtualHire | None = None  # who gives it orders; None: its node

    def start(self) -> None:
        if self.process.alive and not self.ready:
            self.ready = True
            self.process.hear(WorkerReady(self.number))

    # ------------------------------------------------------------ what the node wants

    def run(self, effect: RunChunk) -> None:
        check = self.process.world.checkers
        check.that(self.ready, "worker", f"worker {self.number} is not there")
        check.that(self.hire is None or self.hire.handing, "hire", "a hired worker has other work")
        check.that(len(self.queue) < 2, "worker", "a third chunk")
        runtime = self.process.member.runtime
        alike = not effect.spec.runtime or effect.spec.runtime == runtime
        check.that(alike, "runtime", f"{runtime} was handed byte code of {effect.spec.runtime}")
        self._check_order(effect)
        self.queue.append(effect)
        self.process.world.after(PIPE_SECONDS, self._read, self.life)

    def retract(self, effect: Retract) -> None:
        self.process.world.after(PIPE_SECONDS, self._retract, self.life)

    def divide(self, effect: Divide) -> None:
        self.process.world.after(PIPE_SECONDS, self._answer, self.life, effect.chunk, effect.give)

    def share(self, effect: Share) -> None:
        self.process.world.after(PIPE_SECONDS, self._share, self.life, effect.wanted)

    def export(self, effect: Export) -> None:
        raise AssertionError("its tasks have no children (nested.py)")

    def relieve(self, effect: Relieve) -> None:
        raise AssertionError("its tasks do not wait (nested.py)")

    def stop(self, effect: StopWorker) -> None:
        self.process.world.after(PIPE_SECONDS, self._end, self.life, effect.reason, effect.blame)

    def stop_item(self, effect: StopItem) -> None:
        self.process.world.after(PIPE_SECONDS, self._interrupt, self.life, effect)

    def kill(self) -> None:
        """The worker process is killed from outside. No item is to blame, but the node cannot know that."""
        self.suspect_all()
        self._end(self.life, "killed by signal 9", True)

    def suspect_all(self) -> None:
        """What runs here may be blamed for a death from outside."""
        chunk = self.running
        if chunk is not None:
            work, base = self.process.world.work_behind(chunk.spec.job)
            for item in range(base + self.lo, base + self.hi):
                work.killers.setdefault(item, 0)

    # ------------------------------------------------------------ inside

    def _check_order(self, effect: RunChunk) -> None:
        world = self.process.world
        check = world.checkers
        work, base = world.work_behind(effect.spec.job)
        check.that(effect.function == work.function, "worker", "was sent the wrong function")
        check.that(effect.combine == work.combine, "worker", "was sent the wrong combine")
        check.that(digest_of(effect.function) == effect.spec.function, "worker", "digest differs")
        check.that(effect.lo < effect.hi, "worker", "was sent an empty chunk")
        if effect.spec.kind is JobKind.EXPLORE or effect.spec.step:
            return
        fault = work.fault_of_inputs(effect, base)
        check.that(not fault, "worker", fault)

    def _read(self, life: int) -> None:
        if life == self.life and self.running is None and self.queue:
            self._begin(self.queue.popleft())

    def _begin(self, chunk: RunChunk) -> None:
        world = self.process.world
        work, base = world.work_behind(chunk.spec.job)
        self.lo, self.hi = chunk.lo, chunk.hi
        self.running, self.since, self.told, self.sharing = chunk, world.now, 0.0, False
        if chunk.spec.max_parallel or chunk.spec.resources or work.lent_twice:
            world.checkers.began(self.process, chunk.spec)
        if chunk.spec.kind is JobKind.EXPLORE:
            items = [(int(name), int(depth)) for name, depth in msgpack.decode(chunk.blocks[0][1])]
            right = len(items) == chunk.hi
            world.checkers.that(right, "worker", "a bag has other items than its lease says")
            self.bag = Bag(items, world.now)
            if work.needy is None and work.lacked(self.process.lacks, 0, 1):
                world.after(LOAD_SECONDS, self._lack_bag, self.life, work)
            else:
                self._visit(self.life, work)
            return
        lo, hi = base + chunk.lo, base + chunk.hi
        lacked = work.lacked(self.process.lacks, lo, hi)
        if lacked:
            if hands_on(chunk):
                lacked, self.hi = 1, chunk.lo + 1
            seconds = LOAD_SECONDS if work.needy is None else min(work.seconds(lo, hi), 1.0)
            world.after(seconds, self._lack, self.life, work, lacked)
            return
        if self.tells:
            self._tell(chunk.chunk, chunk.lo, 0.0)
        self.hi = work.goes_to(chunk, chunk.lo, chunk.hi)
        self._plan(work, base)

    def _tell(self, chunk: int, item: int, done: float) -> None:
        say(self, ItemTold(self.number, chunk, item, done, 1.0))

    def _plan(self, work: Work, base: int) -> None:
        """Plan when and how the running chunk ends, as it is now."""
        chunk, world = self.running, self.process.world
        assert chunk is not None
        self.plans += 1
        first = base + chunk.lo
        again = self._next_again(work, base)
        if again < base + self.hi:
            seconds = work.seconds(first, again + 1)
            if seconds < inf:
                ends = max(world.now, self.since + seconds)
                world.at(ends, self._says_again, self.life, self.plans, work, base, again)
        for item, times in work.killers.items():
            if times and base + self.lo <= item < min(base + self.hi, again + 1):
                seconds = work.seconds(first, item + 1)
                if seconds < inf:
                    world.at(self.since + seconds, self._killed, self.life, self.plans, work, item)
                    return
        if again < base + self.hi:
            return
        seconds = work.seconds(first, base + self.hi)
        if seconds < inf:
            ends = max(world.now, self.since + seconds)
            world.at(ends, self._done, self.life, self.plans, work, base, seconds)

    def _next_again(self, work: Work, base: int) -> int:
        """The first of the items left that is to run again; beyond them: there is none."""
        items = (i for i, said in work.again.items() if said and self.lo <= i - base < self.hi)
        return min(items, default=base + self.hi)

    def _says_again(self, life: int, plan: int, work: Work, base: int, item: int) -> None:
        """Tell what is finished before this item, then that it is to run again; go on behind it."""
        chunk = self.running
        if life != self.life or plan != self.plans or chunk is None:
            return
        if not work.again[item]:  # another, with a lease that is over, has said the last of it
            self._plan(work, base)
            return
        world, at = self.process.world, item - base
        seconds = world.now - self.since
        took, self.told = seconds - self.told, seconds
        self.process.busy_seconds += took
        if chunk.hi - chunk.lo == 1:
            self.running, said = None, again_part(work, item)
            say(self, ChunkDone(self.number, chunk.chunk, AGAIN, said, took, 0, chunk.hi))
            self._read(life)
            return
        told = []
        if at > self.lo:
            codec, blob, failed = self._finish(work, base, at)
            told.append(ChunkPart(self.number, chunk.chunk, codec, blob, took, failed, at, self.hi))
        self.lo = at + 1
        if hands_on(chunk):
            self.hi = self.lo  # what is behind it lacks its result
        said = again_part(work, item)
        told.append(ChunkPart(self.number, chunk.chunk, AGAIN, said, 0.0, 0, self.lo, self.hi))
        if self.lo < self.hi:
            self._plan(work, base)
        else:
            self.running = None
        for part in told:
            self.process.hear(part)
        if self.running is None:
            self.process.hear(ChunkDone(self.number, chunk.chunk, CODEC, b"", 0.0, 0, self.hi))
            self._read(life)

    def _interrupt(self, life: int, effect: StopItem) -> None:
        """The task that runs ends now, if it is meant. One that never ends takes no notice."""
        chunk = self.running
        if life != self.life or chunk is None or chunk.chunk != effect.chunk:
            return
        world = self.process.world
        work, base = world.work_behind(chunk.spec.job)
        ends, item = self.since + work.seconds(base + chunk.lo, base + self.lo), self.lo
        while item < self.hi:
            ends += work.seconds(base + item, base + item + 1)
            if ends > world.now:
                break
            item += 1
        if effect.lo <= item < min(effect.hi, self.hi) and ends < inf:
            self.since -= ends - world.now
            self._plan(work, base)

    def _killed(self, life: int, plan: int, work: Work, item: int) -> None:
        if life == self.life and plan == self.plans and self.running is not None:
            work.killers[item] -= 1
            self._end(life, "killed by signal 11", True)

    def _done(self, life: int, plan: int, work: Work, base: int, seconds: float) -> None:
        chunk = self.running
        if life != self.life or plan != self.plans or chunk is None:
            return
        took = max(0.0, seconds - self.told)  # numbers are rounded
        self.process.busy_seconds += took
        stays = hand_over(self.process, chunk, self.lo, self.hi)
        codec, blob, failed = self._finish(work, base, self.hi)
        self.running = None
        if self.tells:
            self._tell(chunk.chunk, self.hi - 1, 1.0)
        done = ChunkDone(self.number, chunk.chunk, codec, blob, took, failed, self.hi, stays)
        say(self, done)
        if self.tells:
            self._tell(chunk.chunk, self.hi - 1, 1.0)
        self._read(life)

    def _finish(self, work: Work, base: int, upto: int) -> tuple[int, bytes, int]:
        """The codec, the result and the number of failures of the items not yet reported, below `upto`."""
        self.process.items += upto - self.lo
        assert self.running is not None
        return work.outcome(self.running, base + self.lo, base + upto)

    def _answer(self, life: int, number: int, give: bool) -> None:
        """Report what is finished of the running chunk, and give back what is not begun."""
        chunk = self.running
        if life != self.life or chunk is None or chunk.chunk != number:
            return
        world = self.process.world
        work, base = world.work_behind(chunk.spec.job)
        if work.lacked(self.process.lacks, base + chunk.lo, base + chunk.hi):
            return  # the whole chunk is going to fail, and to report that
        check = world.checkers
        check.that(chunk.spec.kind is not JobKind.EXPLORE, "worker", "a bag cannot be divided")
        check.that(not chunk.spec.vectorized, "worker", "was asked in the middle of a call")
        finished, ends = self.lo, self.since + work.seconds(base + chunk.lo, base + self.lo)
        while finished + 1 < self.hi:
            ends += work.seconds(base + finished, base + finished + 1)
            if ends > world.now or work.again.get(base + finished):
                break
            finished += 1
        kept = finished + 1 if give else self.hi
        if chunk.spec.kind is JobKind.REDUCE:
            finished = self.lo
        if finished == self.lo and kept == self.hi:
            return
        codec, blob, failed = CODEC, b"", 0
        seconds = world.now - self.since
        took = seconds - self.told
        stays = hand_over(self.process, chunk, self.lo, finished)
        if finished > self.lo:
            codec, blob, failed = self._finish(work, base, finished)
        self.told = seconds
        self.process.busy_seconds += took
        self.lo, self.hi = finished, kept
        self._plan(work, base)
        process = self.process
        process.hear(
            ChunkPart(self.number, number, codec, blob, took, failed, finished, kept, stays)
        )

    def _lack(self, life: int, work: Work, failed: int) -> None:
        """The chunk fails: this machine lacks a module that some of its items need."""
        chunk = self.running
        if life == self.life and chunk is not None:
            self.running = None
            blob = lacking_blob(work.module, failed)
            done = ChunkDone(self.number, chunk.chunk, LACKING, blob, 0.0, failed, self.hi)
            say(self, done)
            self._read(life)

    def _lack_bag(self, life: int, work: Work) -> None:
        chunk = self.running
        if life == self.life and chunk is not None:
            self.running, self.bag = None, None
            partial = bytes([LACKING]) + lacking_blob(work.module, 1)
            step = BagStep(self.number, chunk.chunk, partial, b"", 0, 0, 0.0, failed=1)
            self.process.hear(step)
            self._read(life)

    def _retract(self, life: int) -> None:
        if life == self.life:
            chunk = self.queue.pop().chunk if self.queue else None
            self.process.hear(Retracted(self.number, chunk))

    def _share(self, life: int, wanted: bool) -> None:
        if life == self.life:
            self.sharing = wanted

    def _end(self, life: int, reason: str, blame: bool) -> None:
        """The worker's process ends; another takes its place after a while."""
        if life != self.life or not self.process.alive:
            return
        self.life += 1
        self.ready = False
        running = had(self)
        self.queue.clear()
        self.bag = None
        number = running.chunk if running is not None else None
        world = self.process.world
        world.after(world.respawn_seconds, self.start)
        self.process.hear(WorkerLost(self.number, number, reason, blame))

    # ------------------------------------------------------------ explore bags

    def _visit(self, life: int, work: Work) -> None:
        """Visit some items, or find that the bag is empty."""
        if life != self.life or self.bag is None or work.tree is None:
            return
        bag = self.bag
        work.visits += 1
        if work.killers.get(work.visits, 0):
            work.killers[work.visits] -= 1
            self._end(life, "killed by signal 11", True)
            return
        limit = max(1, int(VISIT_SECONDS / work.law.mean_seconds))
        begun = bag.visited
        while bag.items and bag.visited - begun < limit:
            node = bag.items.pop()
            bag.visited += 1
            bag.count += 1
            bag.total += node[0]
            bag.items.extend(work.tree.children(node))
        seconds = (bag.visited - begun) * work.law.mean_seconds
        bag.seconds += seconds
        self.process.items += bag.visited - begun
        self.process.busy_seconds += seconds
        self.process.world.after(seconds, self._look_up, life, work)

    def _look_up(self, life: int, work: Work) -> None:
        """Between two visits: is anything wanted, or anything due?"""
        if life != self.life or self.bag is None or self.running is None:
            return
        bag, world = self.bag, self.process.world
        if work.lacked(self.process.lacks, 0, 1) or (
            work.needy is not None and work.module in self.process.lacks
        ):
            self._lack_bag(life, work)
            return
        spares: list[tuple[int, bytes]] = []
        if self.sharing and len(bag.items) > 1:
            spare = bag.items[1::2]
            bag.items = bag.items[0::2]
            spares.append((len(spare), msgpack.encode(spare)))
            self.sharing = False
        if not bag.items or spares or world.now - bag.stocktaking >= STEP_SECONDS:
            self._take_stock(bag, spares)
        if bag.items:
            self._visit(life, work)
        else:
            self.running, self.bag = None, None
            self._read(life)

    def _take_stock(self, bag: Bag, spares: list[tuple[int, bytes]]) -> None:
        assert self.running is not None
        partial = msgpack.encode((bag.count, bag.total % PRIME)) if bag.visited else b""
        rest = msgpack.encode(bag.items) if bag.items else b""
        step = BagStep(
            self.number, self.running.chunk, partial, rest, len(bag.items),
            bag.visited, bag.seconds, spares,
        )  # fmt: skip
        bag.count = bag.total = bag.visited = 0
        bag.seconds = 0.0
        bag.stocktaking = self.process.world.now
        self.process.hear(step)


def say(worker: VirtualWorker, event: Event) -> None:
    """To its node, or to the program that has hired it."""
    if worker.hire is None or not worker.hire.hears(event):
        worker.process.hear(event)


def had(worker: VirtualWorker) -> RunChunk | None:
    """What a worker ran that has died. If it was hired, its node hears first what that was."""
    if worker.hire is not None:
        worker.hire.end(worker.hire.number)
    running, worker.running = worker.running, None
    return running
