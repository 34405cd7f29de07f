"""The node's hold on its workers: performs effects, reports events, never blocks.

One descriptor for the host's loop: when ``fileno()`` is readable, or ``next_deadline()`` has
come, call ``collect(now)`` and step the core with every event it returned **before** calling the
pool again (a call may return a worker's last results and its end; the next one its successor).

It decides what a dead worker had in its hands, and that is exact: orders that a worker has not read
are still in the kernel, and the pool takes them back; results that it sent are read to the end; what
then remains is at most one chunk, the one that it ran. It also decides when a worker changes to
another program's process. An order for another program waits until the worker is free; the core is
told nothing. So two programs, or two versions of one, run side by side, and none ever runs in what
another has imported. Where no process can be prepared for a program (the initializer fails beside its
modules), the pool declines its orders after a few tries, so that other nodes have them.

It refuses to know why a chunk is to be run, and what is in a blob. It unpickles nothing, runs nothing
of the user's and imports neither cloudpickle nor NumPy.

Start reading here; then `processes` (births and deaths), `handle` (one process), `orders` (what an
order needs), `fork_client` (who forks). The pool believes a death when the fork server has buried the
worker, not when a socket closes: a task's own child may hold a socket open, a task may close one.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterable, Mapping

from stealmesh.host import interpreter
from stealmesh.values.made import MadeResults
from stealmesh.values.room import Room
from stealmesh.values.shelf import Shelf
from stealmesh.workers import wire
from stealmesh.workers.actor_process import ACTORS_MAX, run_actor
from stealmesh.workers.fork_client import ForkClient
from stealmesh.workers.fork_server import NOT_FORKED, cause_of_death
from stealmesh.workers.handle import ProcessHandle, Sentence
from stealmesh.workers.hiring import HiringOut
from stealmesh.workers.inside import TASK_WORDS, TasksInside
from stealmesh.workers.misfits import Misfits, headline
from stealmesh.workers.orders import OrderPacker
from stealmesh.workers.other_versions import OtherVersions
from stealmesh.workers.processes import Processes, State, Worker
from stealmesh.workers.shared_words import SharedWords
from stealmesh.workers.stack_takers import StackTakers
from stealmesh.workers.wire import FrameKind
from stealmesh_engine.effects import Divide, RunChunk, StopItem
from stealmesh_engine.events import (
    BagStep,
    ChunkDone,
    ChunkPart,
    Event,
    HostNoted,
    ItemTold,
    Retracted,
    SideLost,
    SideReady,
    SideRetracted,
    WorkerLost,
    WorkerReady,
)
from stealmesh_engine.holding.slots import FIRST_ACTOR
from stealmesh_protocol.ids import JobId, ValueId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import JobKind, JobSpec

LOOK_SECONDS = 1.0
"""How often to see whether the fork server stands still, and whether processes are unused."""

SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""One worker a core, each with as many threads as cores, would be slower than without threads. These are
the only variables of ours that tasks and their children see, and only where the user has not set them:
a library reads them when it is loaded, perhaps in a task's own child."""

GARBAGE = (ValueError, TypeError, struct.error)
"""What reading raises when a task has written into the worker's own descriptors."""
PARENT_DIED = "the fork server, its parent, died"
KILLED = cause_of_death(signal.SIGKILL)
PROCESSES_REMEDY = "raise the limit of processes (`ulimit -u`, or of the container), or start fewer"


class WorkerPool:
    """`count` workers. See the file's docstring for how to drive it."""

    def __init__(
        self,
        count: int,
        *,
        threads: int = 1,
        memory_limit_bytes: int | None = None,
        initializer: bytes | None = None,
        import_paths: Iterable[str] = (),
        authkey: bytes | None = None,
        tasks_max: int = 0,
        environment: Mapping[str, str] | None = None,
        hash_seed: int | None = None,
        node_name: str = "",
        code: bytes = b"",
        functions: Iterable[str] = (),
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`initializer` is a pickled pair (function, arguments), run once by every worker process;
        `code` is the bundle of modules that it needs. With `functions` (modules) workers are in data-only
        mode. Plain functions run in `threads` threads of a worker. `import_paths` go in front of the
        workers' sys.path, `environment` over the node's own; `hash_seed` is what their `hash()` starts
        from, unless the user has chosen one. A process ends itself after `tasks_max` tasks, if that is not
        0, and another takes its place. `say` tells people what they should know. Raises OSError.
        """
        own_path = interpreter.program_path()
        setup = [
            [os.fsencode(path) for path in dict.fromkeys([*import_paths, *own_path])],
            memory_limit_bytes or 0,
            initializer or b"",
            node_name,
            authkey or b"",
            list(functions),
            tasks_max,
        ]
        single_threaded = {name: "1" for name in SINGLE_THREADED if name not in os.environ}
        surroundings = interpreter.Surroundings.of_this_process(
            single_threaded | dict(environment or {}), hash_seed
        )
        self.shelf = Shelf()
        """The values that orders need; its node's driver fills it."""
        self.made = MadeResults(self.shelf)
        self._tasks_max = tasks_max
        self._epoll = select.epoll()
        self._count = count
        self._words = SharedWords(3 * count + ACTORS_MAX)
        forks = ForkClient(
            self._epoll, self._words.fd, interpreter.start_path(own_path), surroundings
        )
        self._processes = Processes(count, threads, self._epoll, forks, self._words, setup, code)
        self._workers = self._processes.workers
        self.inside = TasksInside(self._processes)
        self.hires = HiringOut(self._processes, self._words, self.shelf, count, tasks_max)
        self.stack_takers = StackTakers(self._processes, self._words, count)
        self._other_versions = OtherVersions(say)
        self._say = say
        self._events: list[Event] = []
        self.misfits = Misfits(node_name)
        self.orders_dropped = 0
        """Orders for a worker that had ended before the core heard of it; WorkerLost covers them."""
        self._look_at, self._closed = 0.0, False

    # ------------------------------------------------------------ for the host's loop

    def start(self, now: float) -> None:
        """Start the fork server and all workers. Each owes a WorkerReady, or a WorkerLost if it fails.
        Raises OSError."""
        assert not self._closed
        self._processes.start_all()

    def fileno(self) -> int:
        """Readable when there is something to collect (an epoll descriptor can itself be polled)."""
        return self._epoll.fileno()

    def next_deadline(self) -> float | None:
        if self._events:
            return 0.0  # an order was declined
        due = self._processes.next_deadline()
        return self.stack_takers.sooner(due) if self.stack_takers.takings else due

    @property
    def broken(self) -> str:
        """Why some worker is not started any more; empty while all is well."""
        return self._processes.broken

    def collect(self, now: float) -> list[Event]:
        """What has happened since the last call, in order. Never waits."""
        if self._closed:
            return []
        processes, outlets = self._processes, self._processes.outlets
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            processes.look_after_fork_server()
            processes.end_the_unused(now)
            self.misfits.forget(now)
        if processes.next_restart is not None:
            processes.start_due(now)
        control = processes.forks.fd
        control_ready = False
        for fd, _ in self._epoll.poll(0):
            if fd == control:
                control_ready = True
            elif fd in outlets:
                self._visit(outlets.hired(fd))  # it may have said that an item is ours
                self._events += outlets.ready(fd, now)
            else:
                self._visit(processes.by_fd.get(fd))
        if outlets.due is not None and outlets.due <= now:
            self._events += outlets.look(now)
        if control_ready:  # last: a worker's results come before the news of its death
            self._hear_fork_server(now)
        events, self._events = self._events, []
        return events + self.stack_takers.collect(now) if self.stack_takers.takings else events

    @property
    def counters(self) -> dict[str, int]:
        """What was dropped, what was put right, and which packages are not as programs have them."""
        told = {
            "dropped:order-to-a-dead-worker": self.orders_dropped,
            "roused:stopped": self._processes.roused,
        } | self._other_versions.counters
        return {name: count for name, count in told.items() if count}

    def worker_pids(self) -> list[int]:
        return self._processes.pids()

    def close(self) -> None:
        """Kill every worker with all it started, and wait until they are gone."""
        if self._closed:
            return
        self._closed = True
        self._processes.close()
        self._epoll.close()
        self._words.close()
        self.made.close()
        self.shelf.close()

    # ------------------------------------------------------------ effects

    def run(self, effect: RunChunk) -> None:
        if effect.worker > FIRST_ACTOR:
            self._events += run_actor(self._processes, effect, self._order)
            return
        worker = self._workers[effect.worker + self._count if effect.side else effect.worker]
        if worker.state is State.DOWN and worker.on_demand and worker.restart_at is None:
            self._processes.change(worker, b"", b"")
        handle = worker.handle
        if (effect.side or worker.on_demand) and worker.state is not State.READY:
            worker.waiting.append(effect)  # the core counts on it, whether it has a process or not
            return
        ready = worker.state is State.READY or worker.changing
        if handle is None or not ready or handle.sentence is not None:
            self.orders_dropped += 1
            return
        if worker.waiting or worker.changing or not _suits(handle, effect):
            worker.waiting.append(effect)
            self._change_over(worker)
            return
        self._order(worker, handle, effect)

    def _order(self, worker: Worker, handle: ProcessHandle, effect: RunChunk) -> None:
        spec, packer = effect.spec, OrderPacker(handle)
        if spec.code:
            handle.code = spec.code
        packer.functions(
            spec,
            (spec.code, effect.code),
            (spec.function, effect.function),
            (spec.combine, effect.combine),
        )
        if spec.kind == JobKind.EXPLORE:
            blocks = [packer.bag(effect.chunk, *effect.blocks[0])]
        else:
            blocks = [
                packer.block(spec.job, block, blob, effect.lo, effect.hi)
                for block, blob in effect.blocks
            ]
        values = values_of(effect)
        record = _record(effect, blocks, values)
        if spec.stays_from:
            record += _where_results_go(spec, self.shelf.room, 2 * self._count)
        if values:
            handle.announce(effect.chunk, [self.shelf.given(value) for value in values])
        handle.outstanding[effect.chunk] = (effect.lo, effect.hi)
        handle.unsent.append((effect.chunk, packer.order(effect.chunk, record)))
        packer.trim()
        self._processes.push(worker, handle)

    def retract(self, worker_number: int) -> Retracted:
        """Take back a chunk that the worker has not begun; from then on it will not run there."""
        worker = self._processes.find(worker_number)
        if worker is not None and worker.waiting:
            return Retracted(worker_number, worker.waiting.pop().chunk)
        if worker is None or worker.handle is None:
            return Retracted(worker_number, None)
        chunk = worker.handle.retract(last=worker.actor > 0)
        self._processes.push(worker, worker.handle)
        return Retracted(worker_number, chunk)

    def retract_side(self, worker_number: int) -> list[Event]:
        """The same for all that has not begun in the process for orders that run side by side."""
        worker = self._workers[self._count + worker_number]
        chunks = [effect.chunk for effect in worker.waiting]
        worker.waiting.clear()
        handle = worker.handle
        while handle is not None and (chunk := handle.take_back()) is not None:
            del handle.outstanding[chunk]
            chunks.append(chunk)
        if handle is not None:
            self._processes.push(worker, handle)
        return [SideRetracted(worker_number, chunks)] if chunks else []

    def divide(self, effect: Divide) -> None:
        """Ask the worker while it is busy. If it reads none of several questions, one is enough."""
        for worker in self._processes.both(effect.worker):
            handle = worker.handle
            if handle is not None and effect.chunk in handle.outstanding:
                handle.ask(wire.QUESTION.pack(effect.chunk, effect.give))

    def share(self, worker_number: int, wanted: bool) -> None:
        self._words.share(worker_number, wanted)

    def stop_item(self, effect: StopItem) -> None:
        """Have TaskStopped raised in the task that runs, if it is meant. A worker that has ended needs none."""
        handle = self._workers[effect.worker + self._count * effect.side].handle
        if handle is None or effect.chunk not in handle.outstanding:
            return
        if effect.side:  # what gets no word of it ends with its process a moment later
            handle.ask(wire.STOP.pack(effect.chunk, effect.lo, effect.hi))
        else:
            self._words.stop(effect.worker, effect.chunk, effect.lo, effect.hi)
            handle.interrupt()

    def stop(self, worker_number: int, reason: str, blame: bool, side: bool = False) -> None:
        """Kill the process. Only the chunk that runs now is blamed, not one begun since."""
        worker = self._processes.find(worker_number + self._count if side else worker_number)
        handle = None if worker is None else worker.handle
        if worker is None or handle is None or handle.sentence is not None:
            return
        handle.sentence = Sentence(reason, blame, handle.running())
        self._processes.kill(worker, handle)

    def forget(self, job: JobId) -> None:
        """Forget the job's blocks and its large functions. Small ones stay, as they may be used again."""
        self._processes.forget(job)

    # ------------------------------------------------------------ what workers say

    def _visit(self, worker: Worker | None) -> None:
        if worker is None or worker.handle is None:
            return  # it was lost earlier in this very call
        handle = worker.handle
        try:
            self._read_once(worker, handle)
        except BlockingIOError:
            pass
        except wire.StreamEnded:
            self._processes.condemn(worker)
        except GARBAGE as error:
            self._processes.condemn(worker)
            if handle.sentence is None:
                handle.sentence = Sentence(
                    f"sent its node garbage: {error}", True, handle.running()
                )
        if handle.watched:
            self._processes.push(worker, handle)
        if worker.waiting:
            self._change_over(worker)

    def _read_once(self, worker: Worker, handle: ProcessHandle) -> None:
        number = worker.known_as(self._count)
        for kind, payload in handle.reader.read():
            if kind in (FrameKind.RESULT, FrameKind.PART):
                answer = _answer(kind, number, handle, payload, self.made)
                if answer.failed or handle.printed.spoken:
                    self._processes.outlets.before_answer(worker, handle, answer, self._events)
                self._events.append(answer)
            elif kind == FrameKind.SPOKE:
                handle.printed.chunk_spoke(payload)
            elif kind == FrameKind.STAYS:
                self.made.came(payload, handle.orders)
            elif kind == FrameKind.STEP:
                step = _bag_step(worker.number, handle, payload)
                if handle.printed.spoken:
                    self._processes.outlets.before_answer(worker, handle, step, self._events)
                self._events.append(step)
            elif kind == FrameKind.TOLD:
                self._events.append(ItemTold(number, *wire.WORD.unpack(payload)))
            elif kind in TASK_WORDS:
                self._events += self.inside.heard(kind, number, handle, payload)
            elif kind == FrameKind.HIRE_ENDS:
                self._events.append(self.hires.ended(worker, handle, payload))
            elif kind == FrameKind.RETIRES:
                handle.retires = True
            elif kind == FrameKind.READY:
                if worker.threads:
                    self._events.append(SideReady(number))
                if worker.actor:
                    self._events.append(WorkerReady(worker.actor))
                if self._processes.came_up(worker, time.monotonic()):
                    self.misfits.fits(handle.code)
                elif not (worker.on_demand or (worker.threads and worker.announced)):
                    worker.announced = True
                    self._events.append(WorkerReady(number, worker.relief))
            elif kind == FrameKind.STACKS:
                self.stack_takers.came(worker, handle, payload, time.monotonic())
            elif kind == FrameKind.OTHER_VERSION:
                self._other_versions.met(*wire.unpack(payload))
            elif kind == FrameKind.UNFIT:
                handle.unfit = bytes(payload).decode(errors="replace")
            else:
                raise ValueError(f"a frame of kind {kind}")

    # ------------------------------------------------------------ one program after another

    def _change_over(self, worker: Worker) -> None:
        """The present process has nothing to do any more: go on with the program that is next."""
        handle = worker.handle
        if handle is None or worker.state is not State.READY or handle.sentence is not None:
            return
        while worker.waiting:
            effect = worker.waiting[0]
            if not _suits(handle, effect):
                if handle.outstanding or handle.condemned:
                    return
                other = worker.aside.pop(effect.spec.code, None)
                if other is None and self.misfits.declines(effect.spec.code):
                    self._events.append(self.misfits.answer(worker.waiting.pop(0)))
                    continue
                self._processes.set_aside(worker, handle)
                if other is None:
                    self._processes.change(worker, effect.spec.code, effect.code)
                    return
                self._processes.take_up(worker, other)
                handle = other
            worker.waiting.pop(0)
            self._order(worker, handle, effect)

    # ------------------------------------------------------------ deaths

    def _hear_fork_server(self, now: float) -> None:
        try:
            while (died := self._processes.next_death()) is not None:
                self._lose(*died, now)
        except wire.StreamEnded:
            self._events.append(HostNoted(RingKind.DEATH, "the fork server died"))
            for worker in self._processes.replace_fork_server(now):
                assert worker.handle is not None
                if worker.handle.sentence is None:
                    worker.handle.sentence = Sentence(PARENT_DIED, False, None)
                self._lose(worker, "", now, innocent=True)

    def _lose(self, worker: Worker, cause: str, now: float, *, innocent: bool = False) -> None:
        """A worker is dead: settle what it had, say so, and see to a successor. `innocent`: it died
        because its parent did."""
        handle = worker.handle
        assert handle is not None
        untouched = set(iter(handle.take_back, None))
        self._read_to_the_end(worker, handle)
        if handle.hire:
            self._events.append(self.hires.died(worker, handle))
        running = [chunk for chunk in handle.outstanding if chunk not in untouched]
        assert len(running) <= 1 or worker.threads, running
        output = self._processes.outlets.died(worker, handle, running, self._events)
        was_ready, changing = worker.state is State.READY, worker.changing
        for chunk in running:
            self.made.lost(chunk)
        worker.waiting.clear()  # the core is told of the loss, and puts back what was for this worker
        self._processes.drop(worker)
        if worker.relief and self._processes.dismissed(worker):
            return
        loss = _loss(worker.known_as(self._count), handle, running, cause, was_ready, output)
        if changing and handle.pid and handle.sentence is None:
            self.misfits.failed(handle.code, headline(handle.unfit) or cause, now)
        done_its_share = self._tasks_max and handle.answered >= self._tasks_max
        if (done_its_share or handle.retires) and not running and not worker.actor:
            loss = WorkerLost(loss.worker, None, "has done its share", blame=False, retired=True)
        if worker.actor:
            self._events.append(loss)
            self._processes.end_actor(worker)
            return
        self._events += _told(worker, loss, running)
        if worker.relief or (worker.on_demand and (was_ready or handle.sentence is not None)):
            return  # the next order starts another, or the core asks for one
        if was_ready or (changing and handle.sentence is not None):
            self._processes.start(worker)
        else:
            killed = cause == KILLED and handle.sentence is None and not handle.unfit
            blameless = killed or innocent or _was_not_forked(worker, cause, self._say)
            self._processes.start_later(worker, loss.reason, now, killed=blameless)

    def _read_to_the_end(self, worker: Worker, handle: ProcessHandle) -> None:
        self._processes.outlets.read_out(worker, handle, self._events)
        try:
            while True:
                self._read_once(worker, handle)
        except (BlockingIOError, wire.StreamEnded, *GARBAGE):
            pass


def values_of(effect: RunChunk) -> list[ValueId]:
    """The values that the chunk is made of, each once."""
    if not effect.spec.needs and not any(block.needs for block, _ in effect.blocks):
        return []
    found = dict.fromkeys(effect.spec.needs)
    for block, _ in effect.blocks:
        if block.needs:
            found |= dict.fromkeys(block.needs)
    return list(found)


def _record(effect: RunChunk, blocks: list[list[object]], values: list[bytes]) -> list[object]:
    """What a worker is told of an order (`ChunkOrder`)."""
    spec, awaits = effect.spec, bool(effect.spec.together and effect.side)
    record = [
        int(spec.kind), spec.function, spec.combine, spec.start, spec.step, spec.vectorized,
        0 if spec.life else spec.retries, effect.lo, effect.hi, blocks, spec.code,
    ]  # fmt: skip
    if awaits or values or spec.life or spec.stays_from or spec.output:
        record += [awaits, spec.timeout if awaits else 0.0, spec.name if awaits else ""]
        record += [values, spec.life > 0, int(spec.output)]
    return record


def _suits(handle: ProcessHandle, effect: RunChunk) -> bool:
    """May this process run it? Work without a bundle runs anywhere."""
    return not effect.spec.code or handle.code in (b"", effect.spec.code)


def _where_results_go(spec: JobSpec, room: Room, shares: int) -> list[object]:
    """What an order says of results that stay here. No more than `shares` orders are out at once."""
    return [spec.job, spec.stays_from, room.left() // shares, room.directory]


def _answer(
    kind: int, number: int, handle: ProcessHandle, payload: memoryview, made: MadeResults
) -> ChunkDone | ChunkPart:
    """Of a RESULT or a PART."""
    chunk, codec, failed, seconds, upto, kept = wire.RESULT_HEAD.unpack_from(payload)
    handle.narrow(chunk, upto, kept)
    blob = bytes(payload[wire.RESULT_HEAD.size :])
    stays = made.answered(chunk, upto)
    if kind == FrameKind.PART:
        return ChunkPart(number, chunk, codec, blob, seconds, failed, upto, kept, stays)
    del handle.outstanding[chunk]
    return ChunkDone(number, chunk, codec, blob, seconds, failed, upto, stays)


def _bag_step(worker: int, handle: ProcessHandle, payload: memoryview) -> BagStep:
    chunk, remaining, items, seconds, failed, partial, rest, spares = wire.unpack(payload)
    if not remaining:
        handle.settle(chunk)
    given = [(count, blob) for count, blob in spares]
    return BagStep(worker, chunk, partial, rest, remaining, items, seconds, given, failed)


def _told(worker: Worker, loss: WorkerLost, running: list[int]) -> list[Event]:
    """What the core hears of this loss."""
    if worker.threads:
        told = loss.reason, loss.blame, loss.retired, loss.output
        return [SideLost(loss.worker, running, *told)]
    return [loss, WorkerReady(loss.worker)] if worker.on_demand else [loss]


def _was_not_forked(worker: Worker, cause: str, say: Callable[[str], None]) -> bool:
    """The system had no process for it, which says nothing about the worker. Said once for each shortage."""
    if not cause.startswith(NOT_FORKED):
        return False
    if not worker.unforked:
        worker.unforked = True
        say(f"worker {worker.number} {cause}; trying again: {PROCESSES_REMEDY}")
    return True


def _loss(
    worker: int,
    handle: ProcessHandle,
    running: list[int],
    cause: str,
    was_ready: bool,
    output: str,
) -> WorkerLost:
    chunk = running[0] if running else None
    if handle.sentence is not None:
        blame = handle.sentence.blame and chunk is not None and chunk == handle.sentence.suspect
        return WorkerLost(worker, chunk, handle.sentence.reason, blame, output=output)
    if was_ready:
        return WorkerLost(worker, chunk, cause, blame=chunk is not None, output=output)
    reason = f"could not start: {handle.unfit.strip() or cause}"
    return WorkerLost(worker, None, reason, blame=False)
