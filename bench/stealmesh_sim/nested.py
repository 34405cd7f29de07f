"""Tasks inside tasks in virtual time: workers with children, which they give away and take back.

Does what `stealmesh.nested` does in a real worker. An item is a tree of tasks: a task takes its time, then its
children are on the worker's pile. If the node asks, the oldest goes to the mesh as a job of a client that lives
as long as the worker's process. A worker without anything else waits for what is away, and takes back what has
not begun. Decides nothing about work.

It checks that a task counts each of its descendants once, however often their workers and nodes died.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stealmesh_engine.effects import Deliver, Export, ItemsRunning, Relieve, RunChunk
from stealmesh_engine.events import (
    CancelItems,
    ChunkDone,
    Drain,
    TaskNests,
    TaskWaits,
    WorkerReady,
)
from stealmesh_protocol.ids import JobId, whole_of
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CODEC, PRIME, CostLaw, VirtualTree
from stealmesh_sim.workers import PIPE_SECONDS, VirtualWorker
from stealmesh_sim.world import World

LATE_SECONDS = 0.05
LOOK_AGAIN_SECONDS = 0.02
IDLE_SECONDS = 5.0

Task = tuple[int, int]
"""A node of the tree."""


@dataclass
class Nest:
    """The jobs of a world whose items are trees of tasks."""

    world: World
    tree: VirtualTree
    seconds: float = 0.005
    """What a task takes, without its children."""
    late_seconds: float = LATE_SECONDS
    """What has not begun elsewhere for so long, as far as is known, comes back. These workers do not ask the nodes
    what they run, so that children that run come back, too, and run again. As late as real workers that do not
    ask (0.3 s) it does not happen."""
    roots: dict[JobId, list[Task]] = field(default_factory=dict)
    spoiled: set[JobId] = field(default_factory=set)
    """Items that killed too many workers failed, and nothing is known of their trees."""
    given: int = 0
    came: int = 0
    relieved: int = 0
    ran: int = 0
    """How many tasks have run."""

    def settle(self, process: Process) -> Process:
        """The workers of this node have children from now on. Called before it starts."""
        count = len(process.workers)
        for other in process.workers:
            other.ready = True  # so that it does not start
        process.workers = [NestingWorker(self, process, n, own=count) for n in range(3 * count)]
        for worker in process.workers[:count]:
            self.world.after(0.0, worker.start)
        return process

    def submit(self, client: Process, roots: list[Task], *, max_parallel: int = 0) -> NestedProgram:
        law = CostLaw("const", self.seconds)
        now, kind = self.world.now, JobKind.SUBMIT
        wish = Wish(kind, len(roots), law, now, chunk_items=1, max_parallel=max_parallel)
        return NestedProgram(self, client, wish, roots)

    def crash(self, process: Process, *, silent: bool = False) -> None:
        """Its workers go with it, and what they were clients with."""
        for worker in process.workers:
            if isinstance(worker, NestingWorker):
                worker.life += 1
                worker.gone(silent=silent)
        self.world.crash(process, silent=silent)

    def worth(self, task: Task) -> tuple[int, int]:
        """Number and sum of a task and its descendants."""
        count, total, stack = 0, 0, [task]
        while stack:
            each = stack.pop()
            count += 1
            total += each[0]
            stack.extend(self.tree.children(each))
        return count, total % PRIME


class NestedProgram(VirtualProgram):
    """A job whose items are trees of tasks."""

    def __init__(self, nest: Nest, owner: Process, wish: Wish, roots: list[Task]) -> None:
        self.hears: Callable[[Any], None] = lambda effect: None
        super().__init__(nest.world, owner, wish)
        nest.roots[self.job] = roots

    def shown(self, effect: Any) -> None:
        super().shown(effect)
        self.hears(effect)


class VirtualChild:
    """A task that is away."""

    def __init__(self, worker: NestingWorker, task: Task, client: Process) -> None:
        self.worker = worker
        self.life = worker.life
        self.task = task
        self.client = client
        self.since = worker.nest.world.now
        self.runs = False
        self.over = False
        self.program = worker.nest.submit(client, [task])
        self.program.hears = self.hears

    def hears(self, effect: Any) -> None:
        if isinstance(effect, ItemsRunning):
            self.runs = True
        elif isinstance(effect, Deliver):
            self.worker.nest.world.checkers.that(not self.over, "nested", "a child came twice")
            self.over = True
            if self.life == self.worker.life:
                spoiled = effect.part.codec != CODEC or self.program.job in self.worker.nest.spoiled
                self.worker.child_came(self, spoiled=spoiled)

    def is_late(self) -> bool:
        return (
            not self.runs
            and self.worker.nest.world.now - self.since >= self.worker.nest.late_seconds
        )

    def withdraw(self) -> None:
        self.over = True
        self.client.hear(CancelItems(self.program.job, [(0, 1)]))


class NestingWorker(VirtualWorker):
    """A worker whose tasks have children."""

    def __init__(self, nest: Nest, process: Process, number: int, *, own: int) -> None:
        super().__init__(process, number)
        self.nest = nest
        self.relief = number >= own
        self.wanted = False
        self.pile: list[Task] = []
        self.stay: set[Task] = set()
        self.away: list[VirtualChild] = []
        self.client: Process | None = None
        self.used_at = 0.0
        self.count = self.total = 0
        self.spoiled = self.waiting = False

    # ------------------------------------------------------------ lives

    def start(self) -> None:
        if self.relief and not self.wanted:
            return
        if self.process.alive and not self.ready:
            self.ready = True
            self.process.hear(WorkerReady(self.number, self.relief))

    def relieve(self, effect: Relieve) -> None:
        world = self.nest.world
        self.wanted = effect.wanted
        if effect.wanted:
            self.nest.relieved += 1
            world.after(world.respawn_seconds, self.start)
            return
        world.checkers.that(self.running is None, "worker", "a busy worker is dismissed")
        self.life += 1
        self.ready = False
        self.gone()

    def gone(self, *, silent: bool = False) -> None:
        """Its process has ended."""
        client, self.client = self.client, None
        if client is not None:
            self.nest.world.crash(client, silent=silent)
        self.pile, self.away = [], []

    def _end(self, life: int, reason: str, blame: bool) -> None:
        if life != self.life or not self.process.alive:
            return
        self.wanted = False
        self.gone()
        super()._end(life, reason, blame)

    # ------------------------------------------------------------ a tree of tasks

    def _begin(self, chunk: RunChunk) -> None:
        roots = self.nest.roots.get(whole_of(chunk.spec.job))
        if roots is None:
            super()._begin(chunk)
            return
        check = self.nest.world.checkers
        check.that(chunk.hi - chunk.lo == 1, "worker", "tasks with children are not alone")
        self.lo, self.hi = chunk.lo, chunk.hi
        self.running, self.since, self.told = chunk, self.nest.world.now, 0.0
        self.pile, self.stay, self.away = [roots[chunk.lo]], {roots[chunk.lo]}, []
        self.count = self.total = 0
        self.spoiled = self.waiting = False
        self.process.hear(TaskNests(self.number, chunk.chunk))
        self._toil(self.life, chunk)

    def _toil(self, life: int, chunk: RunChunk) -> None:
        """Run the newest task, or wait for what is away, or be done."""
        if life != self.life or self.running is not chunk:
            return
        world = self.nest.world
        if self.pile:
            self._wait(chunk, waits=False)
            world.after(self.nest.seconds, self._ran, life, chunk, self.pile.pop())
        elif self.away:
            late = [child for child in self.away if child.is_late()]
            for child in late:
                self.away.remove(child)
                child.withdraw()
                self.stay.add(child.task)
                self.pile.append(child.task)
            if not late:
                self._wait(chunk, waits=True)
            world.after(0.0 if late else LOOK_AGAIN_SECONDS, self._toil, life, chunk)
        else:
            self._conclude(chunk)

    def _wait(self, chunk: RunChunk, *, waits: bool) -> None:
        if waits != self.waiting:
            self.waiting = waits
            self.process.hear(TaskWaits(self.number, chunk.chunk, waits))

    def _ran(self, life: int, chunk: RunChunk, task: Task) -> None:
        if life == self.life and self.running is chunk:
            self.nest.ran += 1
            self._count(1, task[0])
            self.pile.extend(self.nest.tree.children(task))
            self._toil(life, chunk)

    def _count(self, count: int, total: int) -> None:
        self.count += count
        self.total = (self.total + total) % PRIME

    def _conclude(self, chunk: RunChunk) -> None:
        nest, world = self.nest, self.nest.world
        self._wait(chunk, waits=False)
        job = whole_of(chunk.spec.job)
        right = nest.worth(nest.roots[job][chunk.lo])
        if self.spoiled:
            nest.spoiled.add(job)
        else:
            found = (self.count, self.total)
            world.checkers.that(found == right, "nested", f"a task came to {found}, not {right}")
        work, base = world.work_behind(chunk.spec.job)
        codec, blob, failed = self._finish(work, base, self.hi)
        self.running = None
        took = world.now - self.since
        self.process.hear(ChunkDone(self.number, chunk.chunk, codec, blob, took, failed, self.hi))
        self._read(self.life)

    # ------------------------------------------------------------ children elsewhere

    def export(self, effect: Export) -> None:
        self.nest.world.after(PIPE_SECONDS, self._give, self.life, effect.chunk)

    def _give(self, life: int, number: int) -> None:
        chunk = self.running
        if life != self.life or chunk is None or chunk.chunk != number:
            return
        task = next((each for each in self.pile if each not in self.stay), None)
        if task is None:
            return
        world = self.nest.world
        if self.client is None:
            name = f"{self.process.member.name}/{self.number}.{self.life}"
            self.client = world.client(name, seeds=[self.process.member.endpoints[0]])
            world.after(IDLE_SECONDS, self._look_after, self.client)
        self.used_at = world.now
        self.pile.remove(task)
        self.nest.given += 1
        self.away.append(VirtualChild(self, task, self.client))

    def child_came(self, child: VirtualChild, *, spoiled: bool) -> None:
        if child in self.away:
            self.nest.came += 1
            self.used_at = self.nest.world.now
            self.away.remove(child)
            self.spoiled |= spoiled
            self._count(*self.nest.worth(child.task))

    def _look_after(self, client: Process) -> None:
        """A client that is not used leaves."""
        if client is not self.client or not client.alive:
            return
        if not self.away and self.nest.world.now - self.used_at >= IDLE_SECONDS:
            self.client = None
            client.hear(Drain())
        else:
            self.nest.world.after(1.0, self._look_after, client)
