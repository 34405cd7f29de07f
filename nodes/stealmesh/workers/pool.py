"""The node's hold on its worker processes: performs effects, reports events, never blocks.

One descriptor for the host's loop: when ``fileno()`` is readable, or ``next_deadline()`` has
come, call ``collect(now)`` and step the core with every event it returned **before** calling the
pool again (a call may return a worker's last results and its end; the next one its successor).

What it decides: how bytes get to workers (inline, cached or already there), what a worker may
forget, when to start a replacement, and what a dead worker had in its hands. That last one is
exact: orders that a worker has not read are still in the kernel and are taken back; results
that it sent are read to the end; what then remains is at most one chunk, the one that it ran.

What it refuses to know: why a chunk is to be run, and what is in a blob. It unpickles nothing,
runs nothing of the user's and imports neither cloudpickle nor NumPy.

A worker belongs to the program whose modules it has imported (`JobSpec.code`). An order for another
one waits until it is free; then that process is set aside, and one of the other program takes its
place, without a word to the core: it may be a process that was set aside before. So two programs,
or two versions of one, run side by side, and none ever runs in what another has imported. Where no
process can be prepared for a program (the initializer fails beside its modules), its orders are
declined after a few tries, so that other nodes have them.

A death is believed when the nursery has buried the worker, not when a socket closes: a task's
own child may hold a socket open, a task may close one.

Whose idea: crash-loop back-off from process supervisors (daemontools, Erlang/OTP); names that
outlive processes from the same.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from stealmesh.host import interpreter
from stealmesh.host.restarts import FAILED_STARTS_MAX, Restarts
from stealmesh.workers import wire
from stealmesh.workers.life import Life, Passing, Sentence
from stealmesh.workers.misfits import Misfits, headline
from stealmesh.workers.otherversions import OtherVersions
from stealmesh.workers.wire import FrameKind, FrameReader, FrameWriter, Word
from stealmesh_engine.effects import Divide, RunChunk
from stealmesh_engine.events import (
    BagStep,
    ChunkDone,
    ChunkPart,
    Event,
    Retracted,
    WorkerLost,
    WorkerReady,
)
from stealmesh_protocol.ids import JobId, digest_of
from stealmesh_protocol.messages import JobKind

BACKOFF_SECONDS_FIRST = 0.1
BACKOFF_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 5.0
LOOK_SECONDS = 1.0
"""How often to see whether the nursery stands still."""
ASIDE_MAX = 2
"""Processes a worker that are kept for programs whose turn it is not."""
ASIDE_SECONDS_MAX = 60.0
"""How long."""

SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""One worker a core, each with as many threads as cores, would be slower than without threads. The only
variables of ours that tasks and what they start can see, and only if the user has not set them: a
library reads them when it is loaded, which may be in a task's own child as well."""

GARBAGE = (ValueError, TypeError, struct.error)
"""What reading raises when a task wrote into descriptors that were not its own."""


class State(Enum):
    DOWN = "down"
    """Waits for its next start, or for ever (see `broken`)."""
    STARTING = "starting"
    READY = "ready"


@dataclass(slots=True)
class Worker:
    """A number that outlives its processes."""

    number: int
    state: State = State.DOWN
    lives: int = 0
    life: Life | None = None
    failed_starts: int = 0
    restart_at: float | None = None
    waiting: list[RunChunk] = field(default_factory=list)
    """Orders for a program that is not the one of its present life."""
    changing: bool = False
    """The core thinks it ready, and it is about to be: its process of another program starts."""
    aside: dict[bytes, Life] = field(default_factory=dict)
    """Its processes of other programs, by their code; the one used last at the end."""


class WorkerPool:
    """`count` worker processes. See the file's docstring for how to drive it."""

    def __init__(
        self,
        count: int,
        *,
        memory_limit_bytes: int | None = None,
        initializer: bytes | None = None,
        import_paths: Iterable[str] = (),
        authkey: bytes | None = None,
        tasks_max: int = 0,
        environment: Mapping[str, str] | None = None,
        hash_seed: int | None = None,
        node_name: str = "",
        code: bytes = b"",
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`initializer` is a pickled pair (function, arguments), run once by every worker; `code` the
        bundle of modules that it needs.

        `import_paths` go in front of the workers' sys.path, `environment` over the node's own;
        `hash_seed` is what their `hash()` starts from, unless the user has chosen one. A worker ends
        itself after `tasks_max` tasks, if that is not 0, and another takes its place. `say` tells
        people what they should know of this node.
        """
        self._workers = [Worker(number) for number in range(count)]
        own_path = interpreter.program_path()
        workers_path = dict.fromkeys([*import_paths, *own_path])
        self._settings = [
            [os.fsencode(path) for path in workers_path],
            memory_limit_bytes or 0,
            initializer or b"",
            node_name,
            authkey or b"",
            tasks_max,
        ]
        self._code = code
        self._other_versions = OtherVersions(say)
        self._start_path = interpreter.start_path(own_path)
        single_threaded = {name: "1" for name in SINGLE_THREADED if name not in os.environ}
        self._surroundings = interpreter.Surroundings.of_this_process(
            single_threaded | dict(environment or {}), hash_seed
        )
        self._tasks_max = tasks_max
        self._epoll = select.epoll()
        self._by_fd: dict[int, Worker] = {}
        self._nursery: subprocess.Popen[bytes] | None = None
        self._nursery_restarts = Restarts(time.monotonic())
        self._control: socket.socket | None = None
        self._letters: deque[tuple[bytes, tuple[socket.socket, ...]]] = deque()
        self._flags_fd = _shared_file(max(1, count) * wire.WORDS_A_WORKER * 8)
        self._flags = mmap.mmap(self._flags_fd, 0)
        self._words = memoryview(self._flags).cast("Q")
        self._events: list[Event] = []
        self._closed = False
        self.misfits = Misfits(node_name)
        self._next_restart: float | None = None
        """The soonest of the workers' `restart_at`."""
        self.broken = ""
        """Why some worker is not started any more; empty while all is well."""
        self.orders_dropped = 0
        """Orders for a worker whose end the core had not heard of yet; WorkerLost covers them."""
        self.roused = 0
        """How often a worker, or the nursery, had been stopped (SIGSTOP) and was made to go on."""
        self._look_at = 0.0

    # ------------------------------------------------------------ for the host's loop

    def start(self, now: float) -> None:
        """Start the nursery and all workers. Each owes a WorkerReady, or a WorkerLost if it fails."""
        assert self._nursery is None
        assert not self._closed
        self._start_nursery()
        for worker in self._workers:
            self._start(worker)

    def fileno(self) -> int:
        """Readable when there is something to collect (an epoll descriptor can itself be polled)."""
        return self._epoll.fileno()

    def next_deadline(self) -> float | None:
        return 0.0 if self._events else self._next_restart  # an order may have been declined

    def collect(self, now: float) -> list[Event]:
        """Whatever has happened since the last call, in order. Never waits."""
        if self._closed:
            return []
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look_after_nursery()
            self._end_the_unused(now)
        for worker in self._workers:
            if worker.restart_at is not None and worker.restart_at <= now:
                self._start(worker)
        control = -1 if self._control is None else self._control.fileno()
        control_ready = False
        for fd, _ in self._epoll.poll(0):
            if fd == control:
                control_ready = True
            else:
                self._visit(self._by_fd.get(fd))
        if control_ready:  # last: a worker's results come before the news of its death
            self._hear_nursery(now)
        events, self._events = self._events, []
        return events

    @property
    def counters(self) -> dict[str, int]:
        """What was dropped, what was put right, and what is not as programs have it."""
        told = {
            "dropped:order-to-a-dead-worker": self.orders_dropped,
            "roused:stopped": self.roused,
        }
        told |= self._other_versions.counters
        return {name: count for name, count in told.items() if count}

    def worker_pids(self) -> list[int]:
        lives = [life for worker in self._workers for life in (worker.life, *worker.aside.values())]
        return [life.pid for life in lives if life is not None and life.pid]

    def close(self) -> None:
        """Kill every worker with all it started, and wait until they are gone."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers:
            self._plan_restart(worker, None)
            self._drop_life(worker)
            self._drop_aside(worker)
        self._stop_nursery()
        self._epoll.close()
        self._words.release()
        self._flags.close()
        os.close(self._flags_fd)

    # ------------------------------------------------------------ effects

    def run(self, effect: RunChunk) -> None:
        worker = self._workers[effect.worker]
        life = worker.life
        ready = worker.state is State.READY or worker.changing
        if life is None or not ready or life.sentence is not None:
            self.orders_dropped += 1
            return
        if worker.waiting or worker.changing or not _suits(life, effect):
            worker.waiting.append(effect)
            self._change_over(worker)
            return
        self._order(worker, life, effect)

    def _order(self, worker: Worker, life: Life, effect: RunChunk) -> None:
        spec, passing = effect.spec, Passing(life)
        if spec.code:
            life.code = spec.code
        passing.functions(
            spec.job,
            (spec.code, effect.code),
            (spec.function, effect.function),
            (spec.combine, effect.combine),
        )
        if spec.kind == JobKind.EXPLORE:
            blocks = [passing.bag(effect.chunk, *effect.blocks[0])]
        else:
            blocks = [
                passing.block(spec.job, block, blob, effect.lo, effect.hi)
                for block, blob in effect.blocks
            ]
        record = [
            int(spec.kind), spec.function, spec.combine, spec.start, spec.step, spec.vectorized,
            spec.retries, effect.lo, effect.hi, blocks, spec.code,
        ]  # fmt: skip
        life.outstanding[effect.chunk] = (effect.lo, effect.hi)
        life.unsent.append((effect.chunk, passing.order(effect.chunk, record)))
        passing.trim()
        self._push(worker, life)

    def retract(self, worker_number: int) -> Retracted:
        """Take back a chunk that the worker has not begun; from then on it will not run there."""
        worker = self._workers[worker_number]
        if worker.waiting:
            return Retracted(worker_number, worker.waiting.pop().chunk)
        chunk = None if worker.life is None else self._take_back(worker.life)
        if chunk is not None:
            assert worker.life is not None
            del worker.life.outstanding[chunk]
            self._push(worker, worker.life)
        return Retracted(worker_number, chunk)

    def divide(self, effect: Divide) -> None:
        """Ask the worker while it is busy. Should it not read so many questions, one is enough."""
        life = self._workers[effect.worker].life
        if life is not None and effect.chunk in life.outstanding:
            # A dead worker has no answer, and its death is told elsewhere.
            with contextlib.suppress(BlockingIOError, ConnectionError):
                life.questions.send(wire.QUESTION.pack(effect.chunk, effect.give))

    def share(self, worker_number: int, wanted: bool) -> None:
        self._words[worker_number * wire.WORDS_A_WORKER + wire.SHARE] = int(wanted)

    def abandon(self, worker_number: int, chunk: int) -> None:
        """The worker stops exploring that bag, if it still is: its next BagStep is the last, and
        has all that is left of the bag as a spare."""
        self._words[worker_number * wire.WORDS_A_WORKER + wire.ABANDON] = chunk + 1

    def stop(self, worker_number: int, reason: str, blame: bool) -> None:
        """Kill the process. Only the chunk that runs now is blamed, not one begun since."""
        life = self._workers[worker_number].life
        if life is None or life.sentence is not None:
            return
        life.sentence = Sentence(reason, blame, _first(life))
        self._kill(self._workers[worker_number], life)

    def forget(self, job: JobId) -> None:
        """Blocks of the job go, and its large functions; small ones may be used again."""
        for worker in self._workers:
            for idle in worker.aside.values():
                idle.forget(job)  # it hears of it when its turn comes
            life = worker.life
            if life is not None and worker.state is State.READY and life.forget(job):
                self._push(worker, life)

    # ------------------------------------------------------------ orders

    def _push(self, worker: Worker, life: Life) -> None:
        """Send what can be sent now, and watch for the rest."""
        if life.condemned:
            return
        try:
            life.writer.flush()
            while life.unsent:
                life.orders.send(life.unsent[0][1])
                life.unsent.popleft()
        except BlockingIOError:
            pass
        except (wire.StreamEnded, ConnectionError):
            self._condemn(worker)
            return
        self._watch(life, worker)

    def _watch(self, life: Life, worker: Worker) -> None:
        wanted = int(life.writer.is_waiting) | int(bool(life.unsent)) << 1
        if wanted == life.watched:
            return
        if (wanted ^ life.watched) & 1:
            mask = select.EPOLLIN | (select.EPOLLOUT if wanted & 1 else 0)
            self._epoll.modify(life.stream, mask)
        if (wanted ^ life.watched) & 2:
            self._epoll.modify(life.orders, select.EPOLLOUT if wanted & 2 else 0)
        life.watched = wanted

    def _take_back(self, life: Life) -> int | None:
        """One chunk that the worker has not read, the newest where we can choose."""
        for index in range(len(life.unsent) - 1, -1, -1):
            chunk = life.unsent[index][0]
            if chunk is not None:
                del life.unsent[index]
                return chunk
        while True:
            try:
                packet = life.orders_back.recv(wire.PACKET_OCTETS_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            chunk = wire.unpack(packet)[0]
            if chunk is not None:
                assert isinstance(chunk, int)
                return chunk
            # An order to catch up: the worker gets it behind the others, which ask for as much.
            life.unsent.append((None, wire.pack([None, life.writer.frames])))

    # ------------------------------------------------------------ what workers say

    def _visit(self, worker: Worker | None) -> None:
        if worker is None or worker.life is None:
            return  # it was lost earlier in this very call
        life = worker.life
        try:
            self._read_once(worker, life)
        except BlockingIOError:
            pass
        except wire.StreamEnded:
            self._condemn(worker)
        except GARBAGE as error:
            self._condemn(worker)
            if life.sentence is None:
                life.sentence = Sentence(f"sent its node garbage: {error}", True, _first(life))
        if life.watched:
            self._push(worker, life)
        if worker.waiting:
            self._change_over(worker)

    def _read_once(self, worker: Worker, life: Life) -> None:
        for kind, payload in life.reader.read():
            if kind == FrameKind.RESULT:
                chunk, codec, failed, seconds, upto, kept = wire.RESULT_HEAD.unpack_from(payload)
                _narrow(life, chunk, upto, kept)
                del life.outstanding[chunk]
                blob = bytes(payload[wire.RESULT_HEAD.size :])
                self._events.append(
                    ChunkDone(worker.number, chunk, codec, blob, seconds, failed, upto)
                )
            elif kind == FrameKind.PART:
                chunk, codec, failed, seconds, upto, kept = wire.RESULT_HEAD.unpack_from(payload)
                _narrow(life, chunk, upto, kept)
                blob = bytes(payload[wire.RESULT_HEAD.size :])
                self._events.append(
                    ChunkPart(worker.number, chunk, codec, blob, seconds, failed, upto, kept)
                )
            elif kind == FrameKind.STEP:
                self._events.append(_bag_step(worker.number, life, payload))
            elif kind == FrameKind.READY:
                worker.state = State.READY
                worker.failed_starts = 0
                self._nursery_restarts.well(time.monotonic())
                if worker.changing:
                    worker.changing = False
                    self.misfits.fits(life.code)
                else:
                    self._events.append(WorkerReady(worker.number))
            elif kind == FrameKind.OTHER_VERSION:
                self._other_versions.met(*wire.unpack(payload))
            elif kind == FrameKind.UNFIT:
                life.unfit = bytes(payload).decode(errors="replace")
            else:
                raise ValueError(f"a frame of kind {kind}")

    def _condemn(self, worker: Worker) -> None:
        """The stream has ended: dead, or as good as dead. The nursery will tell what it was."""
        life = worker.life
        assert life is not None
        life.condemned = True
        self._unregister(life)
        if life.sentence is None:
            self._kill(worker, life)

    # ------------------------------------------------------------ one program after another

    def _change_over(self, worker: Worker) -> None:
        """The present life has nothing to do any more: go on with that of the program whose turn it is."""
        life = worker.life
        if life is None or worker.state is not State.READY or life.sentence is not None:
            return
        while worker.waiting:
            effect = worker.waiting[0]
            if not _suits(life, effect):
                if life.outstanding or life.condemned:
                    return
                other = worker.aside.pop(effect.spec.code, None)
                if other is None and self.misfits.declines(effect.spec.code):
                    self._events.append(self.misfits.answer(worker.waiting.pop(0)))
                    continue
                self._set_aside(worker, life)
                if other is None:
                    worker.changing = True
                    self._start(worker, effect.spec.code, effect.code)
                    return
                self._take_up(worker, other)
                life = other
            worker.waiting.pop(0)
            self._order(worker, life, effect)

    def _set_aside(self, worker: Worker, life: Life) -> None:
        self._unregister(life)
        worker.life = None
        life.aside_since = time.monotonic()
        older = worker.aside.get(life.code)
        if older is not None:  # somebody died in between, and a new one took up this code
            self._end_aside(worker, older)
        worker.aside[life.code] = life
        if len(worker.aside) > ASIDE_MAX:
            self._end_aside(worker, next(iter(worker.aside.values())))

    def _take_up(self, worker: Worker, life: Life) -> None:
        worker.life = life
        self._clear_words(worker)
        self._register(worker, life)
        self._watch(life, worker)

    def _end_aside(self, worker: Worker, life: Life) -> None:
        self._kill(worker, life)
        self._forget_aside(worker, life)

    def _forget_aside(self, worker: Worker, life: Life) -> None:
        del worker.aside[life.code]
        _close(life)

    def _drop_aside(self, worker: Worker) -> None:
        for life in list(worker.aside.values()):
            self._forget_aside(worker, life)

    def _end_the_unused(self, now: float) -> None:
        for worker in self._workers:
            for life in list(worker.aside.values()):
                if now - life.aside_since > ASIDE_SECONDS_MAX:
                    self._end_aside(worker, life)
        self.misfits.forget(now)

    # ------------------------------------------------------------ births and deaths

    def _start(self, worker: Worker, digest: bytes = b"", code: bytes = b"") -> None:
        """Of the program whose code this is; nobody's: it takes up the first one that comes."""
        assert worker.life is None
        self._plan_restart(worker, None)
        if self._control is None:
            return  # there is no nursery, and `broken` says why
        orders, orders_back = wire.packets()
        stream, stream_far = wire.streams()
        questions, questions_far = wire.packets()
        for sock in (orders, stream, questions):
            sock.setblocking(False)
        reader, writer = FrameReader(stream), FrameWriter(stream)
        life = Life(orders, orders_back, stream, questions, reader, writer)
        worker.lives += 1
        life.number = worker.lives
        initializer = self._settings[2]
        if initializer and not code and self._code:
            digest, code = digest_of(self._code), self._code
        life.code = digest
        worker.life = life
        worker.state = State.STARTING
        self._clear_words(worker)
        self._register(worker, life)
        letter = wire.pack([Word.SPAWN, worker.number, worker.lives])
        self._letters.append((letter, (orders_back, stream_far, questions_far)))
        self._post()
        setup = [*self._settings, [digest, code] if initializer and code else []]
        life.writer.put(FrameKind.SETUP, wire.pack(setup))
        self._push(worker, life)

    def _plan_restart(self, worker: Worker, at: float | None) -> None:
        worker.restart_at = at
        times = [each.restart_at for each in self._workers if each.restart_at is not None]
        self._next_restart = min(times, default=None)

    def _register(self, worker: Worker, life: Life) -> None:
        for sock in (life.orders, life.stream):
            self._by_fd[sock.fileno()] = worker
        self._epoll.register(life.stream, select.EPOLLIN)
        self._epoll.register(life.orders, 0)

    def _clear_words(self, worker: Worker) -> None:
        place = worker.number * wire.WORDS_A_WORKER
        self._words[place + wire.SHARE] = 0
        self._words[place + wire.ABANDON] = 0

    def _kill(self, worker: Worker, life: Life) -> None:
        self._letters.append((wire.pack([Word.KILL, worker.number, life.number]), ()))
        self._post()

    def _post(self) -> None:
        """Send letters to the nursery. What does not fit waits; when it is dead they are void."""
        control = self._control
        if control is None:
            return
        while self._letters:
            letter, sockets = self._letters[0]
            try:
                socket.send_fds(control, [letter], [sock.fileno() for sock in sockets])
            except BlockingIOError:
                self._epoll.modify(control, select.EPOLLIN | select.EPOLLOUT)
                return
            except ConnectionError:
                return  # its end of file says so too, and is handled in one place
            self._letters.popleft()
            for sock in sockets[1:]:
                sock.close()  # the worker's ends: only it may hold them, but for that of the orders
        self._epoll.modify(control, select.EPOLLIN)

    def _hear_nursery(self, now: float) -> None:
        control = self._control
        assert control is not None
        while True:
            try:
                packet = control.recv(wire.PACKET_OCTETS_MAX)
            except BlockingIOError:
                break
            except ConnectionError:
                packet = b""
            if not packet:
                self._lose_nursery(now)
                return
            word, number, life_number, text = wire.unpack(packet)
            worker = self._workers[number]
            lives = (worker.life, *worker.aside.values())
            life = next((one for one in lives if one and one.number == life_number), None)
            if life is None:
                continue
            if word == Word.BORN:
                life.pid = text
            elif word == Word.ROUSED:
                self.roused += 1
            elif life is worker.life:
                self._lose(worker, text, now)
            else:
                self._forget_aside(worker, life)
        self._post()

    def _lose(self, worker: Worker, cause: str, now: float) -> None:
        """A worker is dead: settle what it had, say so, and see to a successor."""
        life = worker.life
        assert life is not None
        untouched = set()
        while (chunk := self._take_back(life)) is not None:
            untouched.add(chunk)
        self._read_to_the_end(worker, life)
        running = [chunk for chunk in life.outstanding if chunk not in untouched]
        assert len(running) <= 1, running
        was_ready = worker.state is State.READY
        changing, worker.changing = worker.changing, False
        worker.waiting.clear()  # the core is told of the loss, and puts back what was for this worker
        self._drop_life(worker)
        loss = _loss(worker.number, life, running, cause, was_ready)
        if changing and life.pid and life.sentence is None:
            self.misfits.failed(life.code, headline(life.unfit) or cause, now)
        if self._tasks_max and life.answered >= self._tasks_max and not running:
            loss = WorkerLost(worker.number, None, "has done its share", blame=False, retired=True)
        self._events.append(loss)
        if was_ready or (changing and life.sentence is not None):
            self._start(worker)
        else:
            self._start_later(worker, loss.reason, now)

    def _read_to_the_end(self, worker: Worker, life: Life) -> None:
        try:
            while True:
                self._read_once(worker, life)
        except (BlockingIOError, wire.StreamEnded, *GARBAGE):
            pass

    def _start_later(self, worker: Worker, reason: str, now: float) -> None:
        worker.failed_starts += 1
        if worker.failed_starts < FAILED_STARTS_MAX:
            pause = BACKOFF_SECONDS_FIRST * 2 ** (worker.failed_starts - 1)
            self._plan_restart(worker, now + min(pause, BACKOFF_SECONDS_MAX))
            return
        self.broken = (
            f"worker {worker.number} failed to start {worker.failed_starts} times in a row and is "
            f"not started again; the last time: {reason}"
        )

    def _unregister(self, life: Life) -> None:
        for sock in (life.orders, life.stream):
            if self._by_fd.pop(sock.fileno(), None) is not None:
                self._epoll.unregister(sock)
        life.watched = 0

    def _drop_life(self, worker: Worker) -> None:
        life, worker.life = worker.life, None
        worker.state = State.DOWN
        if life is None:
            return
        self._unregister(life)
        _close(life)

    # ------------------------------------------------------------ the nursery

    def _start_nursery(self) -> None:
        ours, theirs = wire.packets()
        ours.setblocking(False)
        with theirs:
            fds = (theirs.fileno(), self._flags_fd)
            self._nursery = subprocess.Popen(
                interpreter.command(
                    self._start_path,
                    "stealmesh.workers.fork_server:main",
                    *fds,
                    self._surroundings.restored,
                    surroundings=self._surroundings,
                ),
                stdin=subprocess.DEVNULL,
                env=self._surroundings.variables,
                pass_fds=fds,
                start_new_session=True,  # a terminal's Ctrl-C and hang-up are the node's to judge
            )
        self._control = ours
        self._epoll.register(ours, select.EPOLLIN)

    def _stop_nursery(self) -> int | None:
        """Its exit status; None: it did not end by itself."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for _, sockets in self._letters:
            for sock in sockets[1:]:  # the first one is a life's (`orders_back`), which closes it
                sock.close()
        self._letters.clear()
        nursery, self._nursery = self._nursery, None
        if nursery is None:
            return None
        try:
            return nursery.wait(CLOSE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            nursery.kill()  # its workers die with it
            nursery.wait()
            return None

    def _look_after_nursery(self) -> None:
        """Stopped, it would bury and rouse nobody, and its workers' ends would never be known."""
        if self._nursery is None:
            return
        # No child: the embedding program has reaped it, and the end of its socket says so, too.
        with contextlib.suppress(ChildProcessError):
            look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self._nursery.pid, look) is not None:
                self._nursery.send_signal(signal.SIGCONT)
                self.roused += 1

    def _lose_nursery(self, now: float) -> None:
        """Its workers die with it; what they had started is ours to kill. Then begin anew."""
        lives = [worker for worker in self._workers if worker.life is not None]
        for pid in self.worker_pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for worker in self._workers:
            self._drop_aside(worker)
        if self._nursery_restarts.died(self._stop_nursery(), now):
            self.broken = "the nursery, which starts workers, ended again and again"
        else:
            self._start_nursery()
        for worker in lives:
            assert worker.life is not None
            if worker.life.sentence is None:
                worker.life.sentence = Sentence("the nursery, its parent, died", False, None)
            self._lose(worker, "", now)


def _suits(life: Life, effect: RunChunk) -> bool:
    """May this process run it? What needs no bundle runs anywhere."""
    return not effect.spec.code or life.code in (b"", effect.spec.code)


def _close(life: Life) -> None:
    for sock in (life.orders, life.orders_back, life.stream, life.questions):
        sock.close()


def _first(life: Life) -> int | None:
    """The oldest unanswered chunk: the one that runs, unless the worker is just between two."""
    return next(iter(life.outstanding), None)


def _narrow(life: Life, chunk: int, upto: int, kept: int) -> None:
    """Part of the chunk is answered, or given back."""
    lo, hi = life.outstanding.get(chunk, (1, 0))
    if not lo <= upto <= kept <= hi:
        raise ValueError(f"an answer for {upto} and {kept} of chunk {chunk}, not of [{lo}, {hi})")
    life.answered += upto - lo
    life.outstanding[chunk] = (upto, kept)


def _settle(life: Life, chunk: int) -> None:
    if chunk not in life.outstanding:
        raise ValueError(f"an answer for chunk {chunk}, which it was not given")
    del life.outstanding[chunk]


def _bag_step(worker: int, life: Life, payload: memoryview) -> BagStep:
    chunk, remaining, items, seconds, failed, partial, rest, spares = wire.unpack(payload)
    if not remaining:
        _settle(life, chunk)
    given = [(count, blob) for count, blob in spares]
    return BagStep(worker, chunk, partial, rest, remaining, items, seconds, given, failed)


def _loss(worker: int, life: Life, running: list[int], cause: str, was_ready: bool) -> WorkerLost:
    chunk = running[0] if running else None
    if life.sentence is not None:
        blame = life.sentence.blame and chunk is not None and chunk == life.sentence.suspect
        return WorkerLost(worker, chunk, life.sentence.reason, blame)
    if was_ready:
        return WorkerLost(worker, chunk, cause, blame=chunk is not None)
    reason = f"could not start: {life.unfit.strip() or cause}"
    return WorkerLost(worker, None, reason, blame=False)


def _shared_file(octets: int) -> int:
    """Memory without a name that other processes can map."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stealmesh-workers")
    else:
        fd, path = tempfile.mkstemp()
        os.unlink(path)
    os.truncate(fd, octets)
    return fd
