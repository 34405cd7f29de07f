"""All worker processes of a node: their births, their deaths, and the program that each belongs to.

A process belongs to the program whose modules it has imported. When a worker gets an order of another
program, its process is set aside, and one of the other program takes its place. Decides when a process
starts, how long one stays aside, and when a worker that cannot start is given up. Refuses to know what
orders and results say (pool.py), and how a process is forked (fork_client.py).

Ideas: crash-loop back-off from process supervisors (daemontools, Erlang/OTP); names that
outlive processes from the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stealmesh.host.restarts import Restarts
from stealmesh.workers import wire
from stealmesh.workers.fork_client import ForkClient
from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.orders import forget_job
from stealmesh.workers.outlets import Outlets
from stealmesh.workers.shared_words import SharedWords, nameless_file
from stealmesh.workers.wire import FrameKind, FrameReader, FrameWriter, Word
from stealmesh_engine.effects import RunChunk
from stealmesh_engine.holding.slots import FIRST_ACTOR
from stealmesh_protocol.ids import JobId, digest_of

BACKOFF_SECONDS_FIRST = 0.1
BACKOFF_SECONDS_MAX = 5.0
ASIDE_MAX = 2
"""Processes that each worker keeps for other programs."""
ASIDE_SECONDS_MAX = 60.0
"""How long it keeps them."""


class State(Enum):
    DOWN = "down"
    """Waits for its next start, or for ever (see `Processes.broken`)."""
    STARTING = "starting"
    READY = "ready"


@dataclass(slots=True)
class Worker:
    """A number that outlives its processes."""

    number: int
    threads: int = 0
    """Its process runs orders side by side, plain functions in this number of threads; 0: one by one."""
    on_demand: bool = False
    """It gets a process when it gets an order."""
    unforked: bool = False
    """The system had no process for it, and that has been said."""
    actor: int = 0
    """The number by which the core knows the actor whose process it is; 0: it is none's."""
    announced: bool = False
    """The core knows that it is ready. If it runs orders side by side it stays so when its process dies."""
    state: State = State.DOWN
    lives: int = 0
    """How many processes it has had."""
    handle: ProcessHandle | None = None
    restarts: Restarts = field(default_factory=lambda: Restarts(time.monotonic()))
    restart_at: float | None = None
    waiting: list[RunChunk] = field(default_factory=list)
    """Orders of another program than that of the present process."""
    changing: bool = False
    """A process of another program starts. The core takes the worker for ready, and soon it is."""
    relief: bool = False
    """It stands in for those that wait (`holding/relief.py`), and runs only while the core wants it."""
    dismissed: bool = False
    """Its process is being ended, as the core does not want it any more."""
    wanted: bool = False
    """The core wants it again."""
    aside: dict[bytes, ProcessHandle] = field(default_factory=dict)
    """Its processes of other programs, by their code; the one used last at the end."""

    def known_as(self, count: int) -> int:
        """Its number as the core knows it: both processes of one of `count` workers have the same; those that
        stand in for others keep theirs."""
        return self.actor or (self.number if self.relief else self.number % count)

    def handles(self) -> list[ProcessHandle]:
        """Of all its processes, the present one first."""
        return [each for each in (self.handle, *self.aside.values()) if each is not None]


class Processes:
    """The processes of `count` workers. `setup` is what each is told first (`wire.FrameKind.SETUP`)."""

    def __init__(
        self,
        count: int,
        threads: int,
        epoll: select.epoll,
        forks: ForkClient,
        words: SharedWords,
        setup: list[Any],
        code: bytes,
    ) -> None:
        # A worker has a process for what it runs one by one, and one for what it runs side by side. With
        # threads, nearly all goes to the second. The other one starts when it is needed first.
        self.workers = [Worker(number, on_demand=threads > 1) for number in range(count)]
        self.workers += [Worker(count + at, threads, threads == 1) for at in range(count)]
        """Behind these come those that stand in for others, once they are needed, and those of actors."""
        self._count = count
        self.actors: dict[int, Worker] = {}
        """By the number that the core gives them."""
        self.by_fd: dict[int, Worker] = {}
        self.next_restart: float | None = None
        """The soonest of the workers' `restart_at`."""
        self.broken = ""
        """Why some worker is not started any more; empty while all is well."""
        self.roused = 0
        """How often a worker, or the fork server, had been stopped (SIGSTOP) and was made to go on."""
        self.forks = forks
        self.outlets = Outlets(epoll, count)
        self._spare: list[Worker] = []
        """Places of actors that are gone."""
        self._epoll = epoll
        self._words = words
        self._setup = setup
        self._code = code

    def start_all(self) -> None:
        self.forks.start()
        for worker in self.workers:
            if not worker.on_demand:
                self.start(worker)

    def next_deadline(self) -> float | None:
        """When a worker is to be started, or a pipe to be read."""
        restart, due = self.next_restart, self.outlets.due
        return restart if due is None else due if restart is None else min(restart, due)

    def forget(self, job: JobId) -> None:
        """No process needs the job's blocks and large functions any more."""
        for worker in self.workers:
            for idle in worker.aside.values():
                forget_job(idle, job)  # it hears of it when its turn comes
            handle = worker.handle
            if handle is None or worker.state is not State.READY:
                continue
            if forget_job(handle, job):
                self.push(worker, handle)

    def relieve(self, number: int, *, wanted: bool) -> None:
        """Start a worker that stands in for others, or end it."""
        while len(self.workers) <= number:
            self.workers.append(Worker(len(self.workers), relief=True))
        worker = self.workers[number]
        worker.wanted = wanted
        if wanted and worker.handle is None:
            self.start(worker)
        elif not wanted and worker.handle is not None:
            worker.dismissed = True
            self.kill(worker, worker.handle)
            for handle in list(worker.aside.values()):
                self._end_aside(worker, handle)

    def dismissed(self, worker: Worker) -> bool:
        """Its process has ended. True: because we did not want it any more; it starts again if we do now."""
        was, worker.dismissed = worker.dismissed, False
        if was and worker.wanted:
            self.start(worker)
        return was

    def pids(self) -> list[int]:
        return [each.pid for worker in self.workers for each in worker.handles() if each.pid]

    def close(self) -> None:
        """Kill every worker with all it started, and wait until they are gone."""
        for worker in self.workers:
            self._plan_restart(worker, None)
            self.drop(worker)
            self._drop_aside(worker)
        self.forks.stop()

    def find(self, number: int) -> Worker | None:
        """None: an actor whose process has ended."""
        return self.actors.get(number) if number > FIRST_ACTOR else self.workers[number]

    def both(self, number: int) -> list[Worker]:
        """The process that runs what this worker has been given one by one, and that for the rest."""
        if number > FIRST_ACTOR:
            return [self.actors[number]] if number in self.actors else []
        return self.workers[number :: self._count]

    # ------------------------------------------------------------ actors

    def actor(self, number: int) -> Worker | None:
        """The worker of this actor, which has no process yet if it is new. None: there is no room for one."""
        worker = self.actors.get(number)
        if worker is None:
            worker = next((each for each in self._spare if each.handle is None), None)
            if worker is not None:
                self._spare.remove(worker)
            elif len(self.workers) < self._words.lines:
                while len(self.workers) < 3 * self._count:
                    self.workers.append(Worker(len(self.workers), relief=True))
                worker = Worker(len(self.workers), on_demand=True)
                self.workers.append(worker)
            else:
                return None
            worker.actor = number
            self.actors[number] = worker
        return worker

    def end_actor(self, worker: Worker) -> None:
        """Its process is gone. Another actor may have the place."""
        self._drop_aside(worker)
        del self.actors[worker.actor]
        worker.actor = 0
        self._spare.append(worker)

    # ------------------------------------------------------------ births

    def start(self, worker: Worker, digest: bytes = b"", code: bytes = b"") -> None:
        """Start a process of the program with this code; without code it takes up the first that comes."""
        assert worker.handle is None
        self._plan_restart(worker, None)
        if self.forks.fd < 0:
            return  # there is no fork server, and `broken` says why
        orders, orders_back = wire.packets()
        stream, stream_far = wire.streams()
        questions, questions_far = wire.packets()
        for sock in (orders, stream, questions):
            sock.setblocking(False)
        reader, writer = FrameReader(stream), FrameWriter(stream)
        sheet = nameless_file("stealmesh-stacks")
        sheet_far = open(os.dup(sheet), "wb", buffering=0)  # noqa: SIM115  # closed when it is sent
        handle = ProcessHandle(orders, orders_back, stream, questions, reader, writer, sheet)
        worker.lives += 1
        handle.number = worker.lives
        initializer = self._setup[2]
        if initializer and not code and self._code:
            digest, code = digest_of(self._code), self._code
        handle.code = digest
        handle.beside = worker.threads > 0
        self.outlets.watch(worker, handle)
        worker.handle = handle
        worker.state = State.STARTING
        self._words.share(worker.number, False)
        self._register(worker, handle)
        printed = handle.printed
        ends = (
            orders_back,
            stream_far,
            questions_far,
            printed.far_end,
            sheet_far,
            printed.ring.far_end,
        )
        self.forks.spawn(worker.number, worker.lives, ends)
        *common, tasks_max = self._setup
        if worker.actor:
            tasks_max = wire.NEVER  # with its process it would lose what it is there for
        bundle = [digest, code] if initializer and code else []
        setup = [*common, tasks_max, worker.threads, bundle, printed.sign]
        handle.writer.put(FrameKind.SETUP, wire.pack(setup))
        self.push(worker, handle)

    def change(self, worker: Worker, digest: bytes, code: bytes) -> None:
        """The same, while the core takes the worker for ready."""
        worker.changing = True
        self.start(worker, digest, code)

    def came_up(self, worker: Worker, now: float) -> bool:
        """Its process is ready. True: it changed to this program, and the core need not hear of it."""
        worker.state = State.READY
        worker.unforked = False
        worker.restarts.well(now)
        self.forks.restarts.well(now)
        changed, worker.changing = worker.changing, False
        return changed

    def start_due(self, now: float) -> None:
        """Start each worker that has waited long enough after a failed start."""
        for worker in self.workers:
            if worker.restart_at is not None and worker.restart_at <= now:
                self.start(worker)

    def start_later(self, worker: Worker, reason: str, now: float, *, killed: bool) -> None:
        """It did not come up: start it again after a pause, or give it up after a few failures of its
        own. `killed`: it has no part in its end."""
        restarts = worker.restarts
        if not restarts.died(-signal.SIGKILL if killed else None, now):
            pause = BACKOFF_SECONDS_FIRST * 2 ** max(0, restarts.failed - 1)
            self._plan_restart(worker, now + min(pause, BACKOFF_SECONDS_MAX))
            return
        self.broken = (
            f"worker {worker.number} failed to start {restarts.failed} times in a row and is "
            f"not started again; the last time: {reason}"
        )

    def _plan_restart(self, worker: Worker, at: float | None) -> None:
        worker.restart_at = at
        times = [each.restart_at for each in self.workers if each.restart_at is not None]
        self.next_restart = min(times, default=None)

    # ------------------------------------------------------------ their sockets

    def push(self, worker: Worker, handle: ProcessHandle) -> None:
        """Send what can be sent now, and watch for the rest."""
        if handle.condemned:
            return
        try:
            handle.writer.flush()
            while handle.unsent:
                handle.send_first()
        except BlockingIOError:
            pass
        except (wire.StreamEnded, ConnectionError):
            self.condemn(worker)
            return
        self._watch(handle)

    def _watch(self, handle: ProcessHandle) -> None:
        wanted = int(handle.writer.is_waiting) | int(bool(handle.unsent)) << 1
        if wanted == handle.watched:
            return
        if (wanted ^ handle.watched) & 1:
            mask = select.EPOLLIN | (select.EPOLLOUT if wanted & 1 else 0)
            self._epoll.modify(handle.stream, mask)
        if (wanted ^ handle.watched) & 2:
            self._epoll.modify(handle.orders, select.EPOLLOUT if wanted & 2 else 0)
        handle.watched = wanted

    def _register(self, worker: Worker, handle: ProcessHandle) -> None:
        for sock in (handle.orders, handle.stream):
            self.by_fd[sock.fileno()] = worker
        self._epoll.register(handle.stream, select.EPOLLIN)
        self._epoll.register(handle.orders, 0)

    def _unregister(self, handle: ProcessHandle) -> None:
        for sock in (handle.orders, handle.stream):
            if self.by_fd.pop(sock.fileno(), None) is not None:
                self._epoll.unregister(sock)
        handle.watched = 0

    # ------------------------------------------------------------ one program after another

    def set_aside(self, worker: Worker, handle: ProcessHandle) -> None:
        self._unregister(handle)
        worker.handle = None
        handle.aside_since = time.monotonic()
        older = worker.aside.get(handle.code)
        if older is not None:  # a process died in between, and a new one took up this code
            self._end_aside(worker, older)
        worker.aside[handle.code] = handle
        if len(worker.aside) > ASIDE_MAX:
            self._end_aside(worker, next(iter(worker.aside.values())))

    def take_up(self, worker: Worker, handle: ProcessHandle) -> None:
        worker.handle = handle
        self._words.share(worker.number, False)
        self._register(worker, handle)
        self._watch(handle)

    def end_the_unused(self, now: float) -> None:
        for worker in self.workers:
            for handle in list(worker.aside.values()):
                if now - handle.aside_since > ASIDE_SECONDS_MAX:
                    self._end_aside(worker, handle)

    def _end_aside(self, worker: Worker, handle: ProcessHandle) -> None:
        self.kill(worker, handle)
        self._forget_aside(worker, handle)

    def _forget_aside(self, worker: Worker, handle: ProcessHandle) -> None:
        del worker.aside[handle.code]
        self.outlets.forget(handle)
        handle.close()

    def _drop_aside(self, worker: Worker) -> None:
        for handle in list(worker.aside.values()):
            self._forget_aside(worker, handle)

    # ------------------------------------------------------------ deaths

    def kill(self, worker: Worker, handle: ProcessHandle) -> None:
        self.forks.kill(worker.number, handle.number)

    def condemn(self, worker: Worker) -> None:
        """The stream has ended: the process is dead or useless. The fork server will say what it was."""
        handle = worker.handle
        assert handle is not None
        handle.condemned = True
        self._unregister(handle)
        if handle.sentence is None:
            self.kill(worker, handle)

    def drop(self, worker: Worker) -> None:
        """Let go of the present process."""
        handle, worker.handle = worker.handle, None
        worker.state, worker.changing = State.DOWN, False
        if handle is None:
            return
        self._unregister(handle)
        self.outlets.forget(handle)
        handle.close()

    def next_death(self) -> tuple[Worker, str] | None:
        """Hear the fork server up to the next death of a present process: the worker, and the cause.
        None: it has nothing more to say. Raises StreamEnded when it is gone."""
        while (message := self.forks.read()) is not None:
            word, number, life, text = message
            worker = self.workers[number]
            handle = next((each for each in worker.handles() if each.number == life), None)
            if handle is None:
                continue
            if word == Word.BORN:
                handle.pid = text
            elif word == Word.ROUSED:
                self.roused += 1
            elif handle is worker.handle:
                return worker, text
            else:
                self._forget_aside(worker, handle)
        self.forks.post()
        return None

    def look_after_fork_server(self) -> None:
        self.roused += self.forks.rouse()

    def replace_fork_server(self, now: float) -> list[Worker]:
        """It is gone, and its workers died with it: kill what they had started, and start another server.
        Returns the workers that had a process."""
        lost = [worker for worker in self.workers if worker.handle is not None]
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for worker in self.workers:
            self._drop_aside(worker)
        if self.forks.restarts.died(self.forks.stop(), now):
            self.broken = "the fork server, which starts workers, ended again and again"
        else:
            self.forks.start()
        return lost
