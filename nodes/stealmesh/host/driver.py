"""The real host of a core: turns the world into events, effects into deeds, and keeps time.

::

    sockets ─┐                          ┌─ Dial, Hangup, Send, Probe   → transport
    workers ─┼→ events → NodeCore.steps ┼─ RunChunk, Retract, Share …  → worker pool
    program ─┤      (now, [...])        ├─ Write, Rewrite              → log (its own thread)
    log ─────┤                          └─ Deliver, JobDone, Joined …  → program
    clock ───┘

One thread runs `run()`. Only the thread that holds the turn (a lock) touches core, transport and
pool: the loop whenever it is awake, or a thread of the program for a moment while the loop sleeps
(`act`), which spares a lone task two thread switches. All other threads use `post()`. No user
code runs here.

The core hears events in the order in which they were read. So they have one place, `_unheard`: they go
there in the turn that reads them, and the next step tells all of them, in the thread that runs it.
(Two threads with a list each told custody messages of one peer out of order. The later one passed
for a repeat and was dropped, and with it all that this peer said from then on.)

Inbox first, timers second: the core hears all that has arrived before time passes, so it finds no
peer silent while its beat lies unread.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stealmesh.host.attending import AttendsHired
from stealmesh.host.hired import HiredWays
from stealmesh.host.interrupts import no_interrupts
from stealmesh.host.machine import Machine
from stealmesh.host.saying import say
from stealmesh.host.strangers import Strangers
from stealmesh.transport import Transport
from stealmesh.values.neighbours import Neighbours
from stealmesh.values.shelf import Shelf
from stealmesh.workers.memory import own_octets
from stealmesh.workers.pool import WorkerPool
from stealmesh_engine import effects as fx
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import Adopted, CannotSay, Event, HireEnded, NoRoom, PieceRead, Tick
from stealmesh_engine.links.unsayable import instead_of
from stealmesh_protocol.errors import LocalProtocolError, MeshClosed, StoreFull
from stealmesh_protocol.messages import Role

T = TypeVar("T")

if TYPE_CHECKING:
    from stealmesh.store import Log

LOOK_AGAIN_SECONDS = 0.25
GATHERS_MAX = 16
"""Rounds of reading before time may pass: an endless stream must not stop the clock."""


class EmbeddingProgram(Protocol):
    """The program around the driver: the driver asks it and tells it."""

    fds: frozenset[int]
    """Descriptors that it has registered itself."""

    def has_wishes(self) -> bool:
        """Would `pull` return anything?"""

    def pull(self) -> list[Event]:
        """What the program wants by now. The driver's thread calls it once a round."""

    def ready(self, fd: int) -> None:
        """A descriptor of the program's own is readable."""

    def workers_broken(self, why: str) -> None:
        """Some worker cannot be started; told at every tick."""

    def perform(self, effect: Any) -> None:
        """Deliver, ItemsRunning, JobDone, StatusReady, Joined, JoinFailed, Left."""


class Driver(AttendsHired):
    def __init__(
        self,
        core: NodeCore,
        transport: Transport,
        epoll: select.epoll,
        program: EmbeddingProgram,
        pool: WorkerPool | None = None,
        log: Log | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """`shelf`: the octets of values; a node's are those that its workers get."""
        self.core = core
        self.transport = transport
        self.pool = pool
        self.program = program
        self._epoll = epoll
        self._posted: deque[Event] = deque()
        """From other threads, which do not hold the turn."""
        self._unheard: list[Event] = []
        """Events read and not told to the core yet, in order. Only for the thread that holds the turn."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._awake = False
        """True while the loop will look at what was posted without being woken."""
        self._stopped = False
        self._ended = False
        """The loop is over: there is no thread to wake, and the descriptor may be another file's."""
        self._waking = threading.RLock()  # a signal's handler wakes the loop from inside of `wake`
        self._torn: BaseException | None = None
        """What broke into a decision half-way. The core can no longer be trusted with work, so the loop ends
        with an error."""
        self._turn = threading.Lock()
        self._sleeps_until = 0.0
        self._look_again_at = 0.0
        self._strangers = Strangers(transport)
        self.keep_barred: Callable[[list[str]], None] = lambda names: None
        """A node that has a disk sets it: remembers the names of revoked tokens."""
        self.remembers = False
        self.page = ""
        """Where browsers find the page of this node."""
        self.machine = Machine()
        core.host_facts = self._facts
        epoll.register(self._wake_fd, select.EPOLLIN)
        self._performers: dict[type, Callable[[Any], None]] = {
            fx.Send: self._send,
            fx.Dial: lambda e: transport.dial(e.link, e.endpoint),
            fx.Hangup: lambda e: transport.hangup(e.link),
            fx.Probe: lambda e: transport.probe(e.endpoint),
            fx.KeepBarred: lambda e: self.keep_barred(e.names),
        }
        if shelf is None:
            shelf = Shelf() if pool is None else pool.shelf
        self.shelf = shelf
        self.neighbours = Neighbours(core.me.id, shelf)
        self.hired = HiredWays(self.neighbours, epoll, self.post, core.counters)
        self._performers |= {
            fx.FetchHired: self.hired.fetch,
            fx.OrderHired: self._order_hired,
            fx.DropHired: lambda e: self._unheard.extend(self.hired.drop(e)),
            fx.KeepRoom: self._keep_room,
            fx.Adopt: self._adopt,
            fx.WritePiece: self._write_piece,
            fx.ReadPiece: self._read_piece,
            fx.ForgetValue: lambda e: self.shelf.forget(e.value),
        }
        if log is not None:
            log.on_written = self.post
            self._performers |= {fx.Write: log.perform, fx.Rewrite: log.perform}
        self._pool_fd = -1
        if pool is not None:
            self._pool_fd = pool.fileno()
            epoll.register(self._pool_fd, select.EPOLLIN)
            self._performers |= {
                fx.RunChunk: pool.run,
                fx.HireOut: self._hire_out,
                fx.EndHire: lambda e: pool.hires.end(e),
                fx.Retract: lambda e: self._unheard.append(pool.retract(e.worker)),
                fx.RetractSide: lambda e: self._unheard.extend(pool.retract_side(e.worker)),
                fx.Divide: pool.divide,
                fx.Export: lambda e: pool.inside.export(e),
                fx.Relieve: lambda e: pool.inside.relieve(e),
                fx.Share: lambda e: pool.share(e.worker, e.wanted),
                fx.StopItem: pool.stop_item,
                fx.StopWorker: lambda e: pool.stop(e.worker, e.reason, e.blame, e.side),
                fx.TakeStacks: lambda e: pool.stack_takers.take(e, time.monotonic()),
                fx.ForgetJob: lambda e: pool.forget(e.job),
                fx.KeepMade: self._keep_made,
            }

    # ------------------------------------------------------------ other threads

    def post(self, event: Event) -> None:
        """Tell the core something, from any thread."""
        self._posted.append(event)
        self.wake()

    def wake(self) -> None:
        """Make the loop look at the program's wishes, from any thread."""
        if self._awake:
            return
        with self._waking:
            if not self._ended:
                self._awake = True
                os.eventfd_write(self._wake_fd, 1)

    def act(self) -> None:
        """Carry out the program's wishes here and now if the loop sleeps; otherwise the loop does it."""
        with no_interrupts() as allowed:
            if not allowed or self._awake or not self._turn.acquire(blocking=False):
                self.wake()
                return
            try:
                self._tell(self._step())
            except BaseException as error:
                self._torn = error
                self.wake()
                raise
            finally:
                self._turn.release()
            self._wake_if_due()

    def consult(self, look: Callable[[NodeCore], T]) -> T:
        """Let another thread look at the core between two steps; it must be quick."""
        with self._turn:
            return look(self.core)

    def stop(self) -> None:
        """Let `run` return, from any thread."""
        self._stopped = True
        self.wake()

    def disown(self) -> None:
        """In a forked child: let go of our descriptors, which are copies, and wake no thread. The sets
        that they stand for are the parent's, so we take nothing out of them."""
        if not self._ended:  # otherwise it is closed already, and its number may be another file's
            os.close(self._wake_fd)
        self._ended = self._stopped = self._awake = True
        self._epoll.close()
        self.hired.disown()

    # ------------------------------------------------------------ the loop

    def run(self) -> None:
        """Drive the core until it has left or `stop` is called."""
        try:
            timeout = 0.0
            while not self._stopped:
                timeout = self._round(self._sleep(timeout))
        finally:
            self.neighbours.close()
            self.hired.close()
            with self._waking:
                self._ended = True
                self._epoll.unregister(self._wake_fd)
                os.close(self._wake_fd)

    def _round(self, fired: list[tuple[int, int]]) -> float:
        """One turn: read, step once, act. Returns how long the loop may sleep."""
        with self._turn:
            self._take(fired)
            due = self.core.next_deadline()
            now = time.monotonic()
            pool = self.pool
            if pool is not None and (at := pool.next_deadline()) is not None and at <= now:
                self._unheard += pool.collect(now)
            if due is None or due <= now:
                self._look_again(now)
                self._read_all()
                self._hear_wishes()
                self._unheard.append(Tick())
                if self.pool is not None and self.pool.broken:
                    self.program.workers_broken(self.pool.broken)
            told = self._step()
            now = time.monotonic()
            timeout = self._patience(now)
            self._sleeps_until = now + timeout
            # Last, because a thread that wakes up to its result needs the interpreter lock, which
            # this one gives up when it goes back to sleep.
            self._tell(told)
        return timeout

    def _look_again(self, now: float) -> None:
        """Now and then, look at sockets and workers that have not asked for it: one that was overlooked
        may have nothing else to say, and its item would be lost."""
        if now >= self._look_again_at:
            self._look_again_at = now + LOOK_AGAIN_SECONDS
            self.transport.look_again()
            self.shelf.tidy()
            self._unheard += self._strangers.look()
            self._unheard += self.transport.settle()
            if self.pool is not None:
                self._unheard += self.pool.collect(now)

    def _step(self) -> list[Effect]:
        """Tell the core all events by now, and perform its effects (holding the turn). Returns those that
        are for the program."""
        if self._torn is not None:
            raise MeshClosed(f"a decision was broken off half-way by {self._torn!r}")
        self._hear_wishes()
        events, self._unheard = self._unheard, []
        return self._perform(events)

    def _perform(self, events: list[Event]) -> list[Effect]:
        """The same for these events, when there are no others."""
        for_the_program: list[Effect] = []
        if not events:
            self._unheard += self.transport.settle()
            return for_the_program
        for effect in self.core.steps(time.monotonic(), events):
            performer = self._performers.get(type(effect))
            if performer is None:
                for_the_program.append(effect)
            else:
                performer(effect)
        self._unheard += self.transport.settle()
        return for_the_program

    def _tell(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.program.perform(effect)

    def _read_all(self) -> None:
        """Inbox first: read all that has arrived before time passes."""
        for _ in range(GATHERS_MAX):
            before = len(self._unheard)
            self._take(self._epoll.poll(0))
            if len(self._unheard) == before:
                return

    def _patience(self, now: float) -> float:
        """How long the loop may sleep."""
        if self._unheard or self._posted:
            return 0.0
        wait = self.transport.wait_seconds()
        due = self.core.next_deadline()
        if due is not None and due < now + wait:
            wait = due - now
        restart_at = None if self.pool is None else self.pool.next_deadline()
        if restart_at is not None and restart_at < now + wait:
            wait = restart_at - now
        return max(0.0, wait)

    def _sleep(self, timeout: float) -> list[tuple[int, int]]:
        """Sleep until a descriptor fires or a deadline comes. Returns what fired."""
        if timeout > 0:
            # From here on a thread that posts must wake us; what was posted before is seen right here.
            self._awake = False
            if self._unheard or self._posted or self.program.has_wishes():
                timeout = 0.0
        fired = self._epoll.poll(-1 if timeout == inf else timeout)
        self._awake = True
        return fired

    def _take(self, fired: list[tuple[int, int]]) -> None:
        """Read every descriptor that fired. One that nobody has any more was closed since: by what was read before
        it, or by a thread of the program's that had the turn."""
        transport, pool = self.transport, self.pool
        for fd, _ in fired:
            if fd in transport.fds:
                self._unheard += transport.ready(fd)
            elif fd in self.hired.by_fd:
                self._unheard += self.hired.ready(fd)
            elif fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
            elif fd == self._pool_fd and pool is not None:
                self._unheard += pool.collect(time.monotonic())
            elif fd in self.program.fds:
                self.program.ready(fd)

    def _hear_wishes(self) -> None:
        """What the program's threads have asked for."""
        while self._posted:
            self._unheard.append(self._posted.popleft())
        self._unheard += self.program.pull()

    def _send(self, effect: fx.Send) -> None:
        try:
            self.transport.send(effect.link, effect.message, effect.seq, effect.ack)
        except LocalProtocolError as error:
            self._unsayable(effect, error)

    def _unsayable(self, effect: fx.Send, error: LocalProtocolError) -> None:
        """A defect of ours must not end the loop, nor come again. Say something else under the same number,
        here and in the core's memory; the work that the message was about fails."""
        self.core.counters.count("unsayable")
        say(f"cannot say {type(effect.message).__name__}: {error}")
        if effect.seq:
            by_client = self.core.me.role is Role.CLIENT
            instead = instead_of(effect.message, str(error), by_client=by_client)
            self.transport.send(effect.link, instead, effect.seq, effect.ack)
            self._unheard.append(
                CannotSay(effect.link, effect.message, effect.seq, instead, str(error))
            )

    def _order_hired(self, effect: fx.OrderHired) -> None:
        self.hired.order(effect)
        self.program.perform(effect)

    def _hire_out(self, effect: fx.HireOut) -> None:
        assert self.pool is not None, "a peer without workers hires none out"
        sock = self.pool.hires.out(effect)
        if sock is None:
            self._unheard.append(HireEnded(effect.worker, effect.chunk))
        else:
            self.neighbours.offer(effect.owner, effect.hire, sock)

    # ------------------------------------------------------------ values

    def _keep_room(self, effect: fx.KeepRoom) -> None:
        try:
            self.shelf.keep_room(effect.value, effect.octets)
            self.neighbours.serve()
        except (OSError, StoreFull) as error:
            self._unheard.append(NoRoom(effect.value, str(error)))

    def _adopt(self, effect: fx.Adopt) -> None:
        value, peer = effect.value, effect.peer
        self.neighbours.serve()

        def told(whole: bool) -> None:
            self.post(Adopted(value, peer, whole))

        self.neighbours.take(value, effect.octets, peer, told)

    def _keep_made(self, effect: fx.KeepMade) -> None:
        assert self.pool is not None, "a peer without workers makes nothing"
        self.neighbours.serve()
        self.pool.made.keep(effect)

    def _write_piece(self, effect: fx.WritePiece) -> None:
        try:
            self.shelf.write(effect.value, effect.at, effect.blob)
        except OSError as error:
            self._unheard.append(NoRoom(effect.value, str(error)))

    def _read_piece(self, effect: fx.ReadPiece) -> None:
        blob = self.shelf.read(effect.value, effect.at, effect.octets)
        self._unheard.append(PieceRead(effect.value, effect.at, blob, effect.peer))

    def _facts(self) -> dict[str, Any]:
        """Facts for `status` that only the host knows."""
        facts: dict[str, Any] = {
            "counters": self.transport.counters | self.shelf.counters(),
            "traffic": self.transport.traffic.facts(),
            "values": self.shelf.facts(),
        }
        facts["machine"] = self.machine.facts()
        if self.core.links.guests.barred:
            facts["remembers"] = self.remembers
        if self.page:
            facts["page"] = self.page
        if self.pool is not None:
            facts["counters"] |= self.pool.counters
            facts["worker_pids"] = pids = self.pool.worker_pids()
            facts["memory"] = own_octets()
            facts["worker_memory"] = [own_octets(pid) for pid in pids]
            facts["links"] = sum(1 for _ in self.core.links.ready())
            if self.pool.broken:
                facts["state"] = f"workers cannot start: {self.pool.broken}"
        return facts
