"""A virtual world: processes with cores, a heap of what is going to happen, one clock.

Does what a driver does, for all processes at once: everything that has arrived is told before
time passes, timers fire when the core said so, effects are performed in the order of the list.
Decides nothing. What happens at one moment happens in the order in which it was planned, so a
world is a function of its seed; the trace hash says in one number what happened.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any

from stealmesh_engine import effects as fx
from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import CancelItems, Event, Heard, Join, LinkDown, LinkId, Tick
from stealmesh_engine.links.introductions import SUPERS_IN_WELCOME
from stealmesh_engine.view.observers import supers_wanted, table_of
from stealmesh_engine.view.view import View
from stealmesh_protocol import codec
from stealmesh_protocol.conversation import ON_THE_SPOT
from stealmesh_protocol.ids import JobId, slice_of, whole_of
from stealmesh_protocol.messages import (
    Ack,
    Beat,
    Commit,
    Hello,
    Member,
    Message,
    Nothing,
    Report,
    Role,
    Sated,
    Steal,
)
from stealmesh_sim.checkers import Breach, Checkers
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.links import Connection, Network, VirtualLinks
from stealmesh_sim.work import Work
from stealmesh_sim.workers import VirtualWorker

ARRIVALS, TIMERS = 0, 1
"""At one moment what arrives comes before the timers."""
TRACE_LINES_KEPT = 200
TRACE_HASHED_TOGETHER = 512
RESPAWN_SECONDS = 0.1
STANDSTILL_ACTIONS = 100_000
"""So many things at one and the same moment are a loop."""

_CHATTER = (Ack, Beat, Nothing, Sated, Steal)

Listener = Callable[["Process", Any], None]


@dataclass(frozen=True, slots=True)
class Toil:
    """What it costs a process's one loop to hear something: all is heard in turn, and what comes
    meanwhile waits. Without it a world has infinitely fast processes, and no herd hurts."""

    message_seconds: float = 0.00006
    hello_seconds: float = 0.0003
    """A stranger's first words: a connection is set up for them."""
    taken_at_once: int = 200
    """So many messages are read before anything is answered, as in the real transport."""
    taken_before_time: int = 3200
    """And so many before time may pass: an endless stream must not stop the clock."""

    def dearer(self, *, hello: int, message: int = 1) -> Toil:
        """So many times as dear, and as many times fewer are read at once as introductions are dearer: so
        a herd that one can afford to simulate weighs as much as one that many times as large."""
        return Toil(
            message * self.message_seconds,
            hello * self.hello_seconds,
            max(1, self.taken_at_once // hello),
            max(1, self.taken_before_time // hello),
        )

    def of(self, events: list[Event]) -> float:
        hellos = sum(type(e) is Heard and type(e.message) is Hello for e in events)
        return hellos * self.hello_seconds + (len(events) - hellos) * self.message_seconds


class Process:
    """One process life: a core, its workers, and what lies unread in its inbox."""

    def __init__(
        self, world: World, number: int, member: Member, place: int, config: Config, workers: int
    ) -> None:
        self.world = world
        self.number = number
        self.member = member
        self.name = member.name
        self.place = place
        self.core = NodeCore(member, config=config, rng=Random(f"{world.seed}/core/{number}"))
        self.workers = [VirtualWorker(self, each) for each in range(workers)]
        self.lacks: frozenset[str] = frozenset()
        """Modules that its workers cannot import."""
        self.alive = True
        self.paused = False
        self.left = False
        self.inbox: list[Event] = []
        self.ends: dict[LinkId, tuple[Connection, int]] = {}
        self.dialling: dict[LinkId, None] = {}
        self.disk: VirtualDisk | None = None
        """Where its durable jobs survive it; None: nowhere."""
        self.listener: Listener | None = None
        """The program that this process embeds: it is shown what the core delivers."""
        self.complaints: list[str] = []
        """What it had to say of jobs that nobody can run."""
        self.items = 0
        self.busy_seconds = 0.0
        self.sent = 0
        self.heard = 0
        self.first_busy_at: float | None = None
        self._accepted = -1
        self._timer_at: float | None = None
        self._awake_at: float | None = None
        self._busy_until = 0.0
        self.toiled_seconds = 0.0
        """How long its loop has been at work."""
        self.asked_and_gone = 0
        """Requests that were not served, for nobody waited for the answer any more."""

    def next_accepted(self) -> LinkId:
        self._accepted += 2
        return self._accepted

    # ------------------------------------------------------------ being told

    def hear(self, event: Event) -> None:
        """Something arrives. A process that stands still finds it later."""
        if not self.alive:
            return
        self.inbox.append(event)
        if self.paused:
            return
        world = self.world
        at = max(world.now + world.loop_seconds, self._busy_until)
        if at <= world.now:
            self.wake()
        elif self._awake_at is None:
            self._awake_at = at
            world.at(at, self._turn)

    def _turn(self) -> None:
        self._awake_at = None
        if self.alive and not self.paused:
            self.wake()

    def _timer(self, at: float) -> None:
        if self._timer_at != at:
            return
        self._timer_at = None
        if not self.alive or self.paused:
            return
        if self._busy_until > self.world.now:
            self._timer_at = self._busy_until
            self.world.at(self._timer_at, self._timer, self._timer_at, priority=TIMERS)
        else:
            self.wake()

    def wake(self) -> None:
        """One turn of the driver's loop: the inbox first, then time."""
        world, core = self.world, self.core
        events, self.inbox = self.inbox, []
        due = core.next_deadline()
        is_due = due is None or due <= world.now
        if world.toil is not None:
            events = self._take(events, world.toil, is_due)
        if is_due:
            events.append(Tick())
        if events:
            if self.member.role is Role.CLIENT:
                # One by one, so that it can be said of each delivery what led to it.
                for event in events:
                    self._step([event])
            else:
                self._step(events)
        due = core.next_deadline()
        if due is not None and self.alive and (self._timer_at is None or due < self._timer_at):
            # One that is set too early finds nothing due and is set again.
            self._timer_at = max(due, world.now)
            world.at(self._timer_at, self._timer, self._timer_at, priority=TIMERS)

    def _take(self, events: list[Event], toil: Toil, is_due: bool) -> list[Event]:
        """As much as is read at once; the rest stays where it is while we are busy with that."""
        events = self._still_asked(events)
        count = toil.taken_before_time if is_due else toil.taken_at_once
        taken, self.inbox = events[:count], events[count:]
        seconds = toil.of(taken)
        self.toiled_seconds += seconds
        self._busy_until = self.world.now + seconds
        if self.inbox and self._awake_at is None:
            self._awake_at = self._busy_until
            self.world.at(self._awake_at, self._turn)
        return taken

    def unread_seconds(self) -> float:
        """How long it takes until what arrives now is read."""
        toil, busy = self.world.toil, self._busy_until - self.world.now
        return max(0.0, busy) + (0.0 if toil is None else toil.of(self.inbox))

    def _still_asked(self, events: list[Event]) -> list[Event]:
        """As in the real transport: who has gone while its request lay unread is not served."""
        gone = {event.link for event in events if type(event) is LinkDown}
        if not gone:
            return events
        kept = [
            event
            for event in events
            if not (
                type(event) is Heard and event.message.TAG in ON_THE_SPOT and event.link in gone
            )
        ]
        self.asked_and_gone += len(events) - len(kept)
        return kept

    def _step(self, events: list[Event]) -> None:
        world = self.world
        self.heard += len(events)
        for event in events:
            world.trace(self, event)
        valid = None
        event = events[0]
        if type(event) is CancelItems:
            world.checkers.cancelled(event)
        if type(event) is Heard and type(event.message) in (Report, Commit):
            valid = world.checkers.before_owner_hears(self, event)
        lacking = world.checkers.lacking(self, event) if len(events) == 1 else None
        effects = self.core.steps(world.now, events)
        if world.audit:
            world.checkers.audit(self)
        if lacking is not None:
            world.checkers.gave_up(self, *lacking)
        sent = []
        for effect in effects:
            if isinstance(effect, fx.Send):
                sent.append(effect.seq)
                world.links.send(self, effect)
            elif isinstance(effect, fx.RunChunk):
                if self.first_busy_at is None:
                    self.first_busy_at = world.now
                world.checkers.runs(effect)
                self.workers[effect.worker].run(effect)
            elif isinstance(effect, fx.Deliver):
                if valid is not None:
                    world.checkers.credited(effect, valid)
                self._delivered(effect)
            else:
                _PERFORMERS[type(effect)](self, effect)
        self.sent += len(sent)
        world.checkers.stepped(self, events, sent)

    # ------------------------------------------------------------ effects

    def _dial(self, effect: fx.Dial) -> None:
        self.world.links.dial(self, effect)

    def _hangup(self, effect: fx.Hangup) -> None:
        self.world.links.hangup(self, effect)

    def _probe(self, effect: fx.Probe) -> None:
        self.world.links.probe(self, effect)

    def _retract(self, effect: fx.Retract) -> None:
        self.workers[effect.worker].retract(effect)

    def _divide(self, effect: fx.Divide) -> None:
        self.workers[effect.worker].divide(effect)

    def _share(self, effect: fx.Share) -> None:
        self.workers[effect.worker].share(effect)

    def _stop_worker(self, effect: fx.StopWorker) -> None:
        self.workers[effect.worker].stop(effect)

    def _delivered(self, effect: fx.Deliver) -> None:
        self.world.checkers.delivered(effect)
        if self.listener is not None:
            self.listener(self, effect)

    def _job_done(self, effect: fx.JobDone) -> None:
        self.world.checkers.ended(effect.job)
        if self.listener is not None:
            self.listener(self, effect)

    def _write(self, effect: fx.Write | fx.Rewrite) -> None:
        assert self.disk is not None
        self.disk.perform(effect)

    def _durable(self, effect: fx.Accepted | fx.Results | fx.JobGone) -> None:
        if self.listener is not None:
            self.listener(self, effect)

    def _nobody_can(self, effect: fx.NobodyCan) -> None:
        self.complaints.append(effect.why)

    def _left(self, effect: fx.Left) -> None:
        self.left = True
        self.world.after(0.1, self.world.end, self)

    def _ignore(self, effect: Any) -> None:
        """Only a program would care."""


_PERFORMERS: dict[type, Callable[[Process, Any], None]] = {
    fx.Dial: Process._dial,
    fx.Hangup: Process._hangup,
    fx.Probe: Process._probe,
    fx.Retract: Process._retract,
    fx.Divide: Process._divide,
    fx.Share: Process._share,
    fx.StopWorker: Process._stop_worker,
    fx.ForgetJob: Process._ignore,
    fx.Write: Process._write,
    fx.Rewrite: Process._write,
    fx.Accepted: Process._durable,
    fx.Results: Process._durable,
    fx.JobGone: Process._durable,
    fx.JobDone: Process._job_done,
    fx.ItemsRunning: Process._ignore,
    fx.NobodyCan: Process._nobody_can,
    fx.OtherRuntime: Process._ignore,
    fx.StatusReady: Process._ignore,
    fx.Joined: Process._ignore,
    fx.JoinFailed: Process._ignore,
    fx.WaitsForNodes: Process._ignore,
    fx.WorksAgain: Process._ignore,
    fx.Left: Process._left,
}


class World:
    """One heap, one clock, one seed.

    With `audit` the whole of every account is checked after every step. With `carry` each
    message is encoded and decoded on its way. `loop_seconds` is how long a process takes to come
    round: what arrives meanwhile is told together. With `toil` it takes its time to hear.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        network: Network | None = None,
        config: Config | None = None,
        audit: bool = True,
        carry: bool = False,
        hashing: bool = True,
        loop_seconds: float = 0.0,
        toil: Toil | None = None,
        messages_a_second_max: float | None = None,
    ) -> None:
        self.seed = seed
        self.now = 0.0
        self.audit = audit
        self.carry = carry
        self.loop_seconds = loop_seconds
        self.toil = toil
        self.respawn_seconds = RESPAWN_SECONDS
        self.config = config or Config()
        self.links = VirtualLinks(self, network or Network(), Random(f"{seed}/links"))
        self.checkers = Checkers(self, messages_a_second_max=messages_a_second_max)
        self.processes: list[Process] = []
        self.works: dict[JobId, Work] = {}
        self.changed_at = 0.0
        """When a process last started or ended."""
        self.happened = 0
        """Events told to cores."""
        self.recent: deque[tuple[float, str, Event]] = deque(maxlen=TRACE_LINES_KEPT)
        self.on_event: Callable[[str], None] | None = None
        """Shown every line of the trace, for somebody who wants to read along."""
        self._ids = Random(f"{seed}/ids")
        self._heap: list[tuple[float, int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._standing = 0
        self._places: dict[str, int] = {}
        self._hashing = hashing
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: list[str] = []

    def work_behind(self, job: JobId) -> tuple[Work, int]:
        """The work that this job, or slice of a job, is about; and which item its first one is."""
        cut = slice_of(job)
        return self.works[whole_of(job)], 0 if cut is None else cut[0] * cut[1]

    def is_unlike(self, process: Process) -> bool:
        """Is there work here that this process cannot do?"""
        return any(
            work.module in process.lacks or work.spec.runtime not in ("", process.member.runtime)
            for work in self.works.values()
        )

    # ------------------------------------------------------------ time

    def at(
        self, when: float, action: Callable[..., None], *args: Any, priority: int = ARRIVALS
    ) -> None:
        self._planned += 1
        heappush(self._heap, (when, priority, self._planned, action, args))

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self._planned += 1
        heappush(self._heap, (self.now + seconds, ARRIVALS, self._planned, action, args))

    def run(self, until: float, *, unless: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then; ends early, with True, once `unless` holds (asked now and then)."""
        heap = self._heap
        asked = 0
        while heap and heap[0][0] <= until:
            self.step()
            asked += 1
            if unless is not None and asked % 16 == 0 and unless():
                return True
        if unless is not None and unless():
            return True
        self.now = max(self.now, until)
        return False

    def step(self) -> bool:
        """Let the next thing happen; False when nothing will."""
        if not self._heap:
            return False
        when, _, _, action, args = heappop(self._heap)
        if when > self.now:
            self.now = when
            self._standing = 0
        self._standing += 1
        if self._standing > STANDSTILL_ACTIONS:
            raise Breach("load", f"time stands still at {self.now:.6f} for {args}")
        action(*args)
        return True

    # ------------------------------------------------------------ processes

    def place_of(self, endpoint: str) -> int:
        """The machine behind an address."""
        return self._places.setdefault(endpoint, len(self._places))

    def node(
        self,
        name: str,
        *,
        seeds: list[str] | None = None,
        workers: int = 1,
        endpoint: str = "",
        ready_seconds: float = 0.0,
        config: Config | None = None,
        disk: VirtualDisk | None = None,
        role: str = "auto",
        runtime: str = "",
        lacks: frozenset[str] = frozenset(),
    ) -> Process:
        """A node starts and joins. Its `role`: auto, super or plain, as for `stealmesh node`."""
        endpoint = endpoint or f"tcp://{name}:7077"
        kind = Role.SUPER if role == "super" else Role.PLAIN
        eligible = role == "auto"
        process = self._start(
            name, kind, [endpoint], workers, config, eligible=eligible, runtime=runtime
        )
        process.lacks = lacks
        self.links.listen(process)
        if disk is not None:
            process.disk = disk
            self.after(0.0, process.hear, disk.attach(process))
        for worker in process.workers:
            self.after(ready_seconds, worker.start)
        self._join(process, seeds)
        return process

    def client(self, name: str, *, seeds: list[str], config: Config | None = None) -> Process:
        """A peer in a user's program starts and joins."""
        process = self._start(name, Role.CLIENT, [], 0, config)
        self._join(process, seeds)
        return process

    def living(self) -> Iterator[Process]:
        return (process for process in self.processes if process.alive)

    def crash(self, process: Process, *, silent: bool = False) -> None:
        """The process ends at once; `silent`: its machine with it, so that nobody is told."""
        if process.alive:
            process.alive = False
            self.changed_at = self.now
            if process.disk is not None:
                process.disk.crash()
            self.links.process_gone(process, silent=silent)

    def end(self, process: Process) -> None:
        """The process ends in order: what it has said still goes out."""
        if process.alive:
            self.crash(process)

    def restart(
        self, process: Process, *, seeds: list[str] | None = None, role: str = "auto"
    ) -> Process:
        """A new life at the same address."""
        assert not process.alive
        return self.node(
            f"{process.name}'",
            seeds=seeds,
            workers=len(process.workers),
            endpoint=process.member.endpoints[0],
            ready_seconds=0.05,
            disk=process.disk,
            role=role,
            runtime=process.member.runtime,
            lacks=process.lacks,
        )

    def pause(self, process: Process) -> None:
        """The process stands still (SIGSTOP); its connections and its workers do not."""
        process.paused = True

    def resume(self, process: Process) -> None:
        if process.paused:
            process.paused = False
            if process.alive:
                process.wake()

    def tell(self, process: Process, event: Event) -> None:
        """The embedding program tells its core something."""
        process.hear(event)

    def preset_views(self) -> None:
        """Everybody knows whom it should from the start (for large worlds): the supernodes are
        chosen and know everybody, so do the clients, and every leaf knows its homes and some other
        supernodes, as if it had been welcomed."""
        nodes = [p for p in self.living() if p.member.role is not Role.CLIENT]
        wanted = supers_wanted(len(nodes)) - sum(p.member.role is Role.SUPER for p in nodes)
        for process in nodes:
            core = process.core
            if wanted > 0 and core.me.role is Role.PLAIN and core.me.eligible:
                core.view.renew(role=Role.SUPER)
                wanted -= 1
        members = [p.core.me for p in nodes]
        supers = [m for m in members if m.role is Role.SUPER]
        by_id = {m.id: m for m in members}
        table = table_of(sorted(m.id for m in supers))
        everybody = View(Member(b"\xff" * 16, "", "", Role.CLIENT, [], 1))
        for member in members:
            everybody.join(member, self.now)
        for process in self.living():
            view = process.core.view
            known = list(by_id)
            if supers and view.me.role is Role.PLAIN:
                near = everybody.supers_near(view.me.id, SUPERS_IN_WELCOME)
                known = [*table.of(view.me.id), *near]
            for peer in known:
                if peer != view.me.id:
                    view.join(by_id[peer], self.now)

    def _start(
        self,
        name: str,
        role: Role,
        endpoints: list[str],
        workers: int,
        config: Config | None,
        *,
        eligible: bool = True,
        runtime: str = "",
    ) -> Process:
        number = len(self.processes)
        place = self.place_of(endpoints[0] if endpoints else f"client {number}")
        member = Member(
            self._ids.randbytes(16), name, f"host{place}", role, endpoints, 1,
            workers=workers, pid=number, eligible=eligible, runtime=runtime,
        )  # fmt: skip
        process = Process(self, number, member, place, config or self.config, workers)
        self.processes.append(process)
        self.changed_at = self.now
        return process

    def _join(self, process: Process, seeds: list[str] | None) -> None:
        if seeds is not None:
            self.after(0.0, process.hear, Join(seeds))

    # ------------------------------------------------------------ messages and the trace

    def carried(self, message: Message, seq: int, ack: int) -> Message:
        """The message as it comes out at the other end."""
        if not self.carry:
            return message
        frames = codec.write(message, seq, ack)
        assert isinstance(frames, list), "virtual messages are small"
        decoded = codec.decode(frames)
        assert (decoded.seq, decoded.ack) == (seq, ack)
        return decoded.message

    def trace(self, process: Process, event: Event) -> None:
        self.happened += 1
        if not (type(event) is Tick or (type(event) is Heard and type(event.message) in _CHATTER)):
            self.recent.append((self.now, process.name, event))
        if self._hashing:
            self._lines.append(_line(self.now, process.name, event))
            if len(self._lines) >= TRACE_HASHED_TOGETHER:
                self._hash_lines()
        if self.on_event is not None:
            self.on_event(told(self.now, process.name, event))

    def trace_hash(self) -> str:
        """One number for all that happened so far."""
        self._hash_lines()
        return self._hash.hexdigest()

    def _hash_lines(self) -> None:
        self._hash.update("\n".join(self._lines).encode())
        self._lines.clear()


def _line(now: float, name: str, event: Event) -> str:
    if type(event) is Heard:
        kind = type(event.message).__name__
        return f"{now!r} {name} {event.link} {kind} {event.seq} {event.ack}"
    if type(event) is Tick:
        return f"{now!r} {name}"
    return f"{now!r} {name} {event!r}"


def told(now: float, name: str, event: Event) -> str:
    """One line of the trace for people."""
    if isinstance(event, Heard):
        text = repr(event.message)
        return (
            f"{now:10.5f} {name:>8} link {event.link} seq {event.seq} ack {event.ack} {text[:160]}"
        )
    return f"{now:10.5f} {name:>8} {repr(event)[:200]}"
