"""A process of a virtual world: a core, its workers, its inbox, and the loop that drives them.

Does what `stealmesh.host.driver` does for one process: tells the core everything that has arrived
before time passes, fires timers when the core said so, and performs effects in the order of the
list. Decides nothing. Refuses to know how messages travel (`network`) or what is right (`Observer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from stealmesh_engine import effects as fx
from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import (
    CancelItems,
    Event,
    Feed,
    Heard,
    HiredAnswer,
    LinkDown,
    LinkId,
    StacksTaken,
    Tick,
)
from stealmesh_engine.holding.slots import FIRST_ACTOR
from stealmesh_protocol.conversation import ON_THE_SPOT
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Commit,
    Grant,
    Hello,
    InputGet,
    InputPut,
    Member,
    Report,
    Role,
)
from stealmesh_protocol.stacks import Stack, WorkerStacks
from stealmesh_sim.actors import VirtualActor
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.hired import OwnLeases, VirtualHires, leases_of
from stealmesh_sim.kernel import TIMERS
from stealmesh_sim.later import LaterItems
from stealmesh_sim.network import Connection, Network
from stealmesh_sim.shelves import VirtualShelf
from stealmesh_sim.side_by_side import VirtualSide
from stealmesh_sim.trace import Trace
from stealmesh_sim.workers import Judge, VirtualWorker, WorkerWorld

LEFT_SECONDS = 0.1
"""From a node's last word to the end of its process."""

Listener = Callable[["Process", Any], None]


class Observer(Judge, Protocol):
    """What a process shows its checkers: all that it hears, does and says."""

    def cancelled(self, event: CancelItems) -> None: ...

    def before_owner_hears(self, owner: Process, event: Heard) -> OwnLeases: ...

    def lacking(self, owner: Process, event: Event) -> tuple[JobId, int, int, bool] | None: ...

    def audit(self, process: Process) -> None: ...

    def gave_up(self, owner: Process, job: JobId, lo: int, hi: int, indexed: bool) -> None: ...

    def runs(self, process: Process, effect: fx.RunChunk) -> None: ...

    @property
    def later(self) -> LaterItems: ...

    def credited(self, effect: fx.Deliver, valid: OwnLeases) -> None: ...

    def delivered(self, effect: fx.Deliver) -> None: ...

    def progress(self, effect: fx.ItemsProgress) -> None: ...

    @property
    def accounts(self) -> Mapping[JobId, Any]: ...

    def ended(self, job: JobId) -> None: ...

    def stepped(
        self,
        process: Process,
        events: list[Event],
        effects: list[fx.Effect],
        messages: Iterable[int],
    ) -> None: ...


class ProcessWorld(WorkerWorld, Protocol):
    """What a process needs of its world."""

    seed: int
    audit: bool
    loop_seconds: float
    toil: Toil | None
    network: Network
    trace: Trace
    hires: VirtualHires

    @property
    def checkers(self) -> Observer: ...

    def end(self, process: Process) -> None: ...

    def disk_failed(self, process: Process) -> None: ...

    def shelf_of(self, peer: PeerId) -> VirtualShelf | None: ...


@dataclass(frozen=True, slots=True)
class Toil:
    """What it costs a process's loop to hear something. It hears one thing after the other, and what
    arrives meanwhile waits. Without toil all processes are infinitely fast, and no herd hurts."""

    message_seconds: float = 0.00006
    hello_seconds: float = 0.0003
    """For a stranger's first words, which need a new connection."""
    taken_at_once: int = 200
    """Messages read before anything is answered, as in the real transport."""
    taken_before_time: int = 3200
    """Messages read before time may pass: an endless stream must not stop the clock."""

    def dearer(self, *, hello: int, message: int = 1) -> Toil:
        """Introductions cost `hello` times as much, other messages `message` times. The process reads
        `hello` times fewer at once. So a small herd, cheap to simulate, weighs as much as one `hello`
        times as large."""
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
    """One life of a process, from its start to its end."""

    def __init__(
        self,
        world: ProcessWorld,
        number: int,
        member: Member,
        place: int,
        config: Config,
        workers: int,
        threads: int = 1,
    ) -> None:
        self.world = world
        self.number = number
        self.member = member
        self.name = member.name
        self.place = place
        self.core = NodeCore(
            member, config=config, rng=Random(f"{world.seed}/core/{number}"), threads=threads
        )
        self.workers: list[VirtualWorker] = [VirtualWorker(self, each) for each in range(workers)]
        self.actors: dict[int, VirtualActor] = {}
        self.new_actor: Callable[[Process, int], VirtualActor] = VirtualActor
        self.sides = [VirtualSide(self, each, threads) for each in range(workers)]
        self.barred: list[str] = []
        """The names of revoked tokens on its disk."""
        self.lacks: frozenset[str] = frozenset()
        """Modules that its workers cannot import."""
        self.alive = True
        self.paused = False
        self.left = False
        self.inbox: list[Event] = []
        self.ends: dict[LinkId, tuple[Connection, int]] = {}
        self.dialling: dict[LinkId, None] = {}
        self.shelf: VirtualShelf = VirtualShelf(self)
        self.disk: VirtualDisk | None = None
        """Where its durable jobs survive the process; None: nowhere."""
        self.listener: Listener | None = None
        """The program that this process embeds: it is shown what the core delivers."""
        self.complaints: list[str] = []
        """What it said about jobs that no node can run."""
        self.items = 0
        self.busy_seconds = 0.0
        self.sent = 0
        self.heard = 0
        self.first_busy_at: float | None = None
        self.fed_in_one_step = False
        """It hears of all inputs of a batch at once: they lead to no delivery."""
        self._accepted = -1
        self._timer_at: float | None = None
        self._awake_at: float | None = None
        self._busy_until = 0.0
        self.asked_and_gone = 0
        """Requests not served because the asker had gone."""

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
                # One by one, so that the checkers know which event led to which delivery.
                together: list[Event] = []
                if self.fed_in_one_step:
                    together += (event for event in events if type(event) is Feed)
                if together:
                    self._step(together)
                for event in events[len(together) :]:
                    self._step([event])
            else:
                self._step(events)
        due = core.next_deadline()
        if due is not None and self.alive and (self._timer_at is None or due < self._timer_at):
            # A timer set too early finds nothing due and is set again.
            self._timer_at = max(due, world.now)
            world.at(self._timer_at, self._timer, self._timer_at, priority=TIMERS)

    def _take(self, events: list[Event], toil: Toil, is_due: bool) -> list[Event]:
        """Takes as much as is read at once; the rest stays in the inbox meanwhile."""
        events = self._still_asked(events)
        count = toil.taken_before_time if is_due else toil.taken_at_once
        taken, self.inbox = events[:count], events[count:]
        seconds = toil.of(taken)
        self._busy_until = self.world.now + seconds
        if self.inbox and self._awake_at is None:
            self._awake_at = self._busy_until
            self.world.at(self._awake_at, self._turn)
        return taken

    def at_work(self) -> list[VirtualWorker]:
        """All that may run a chunk now."""
        return [
            *self.workers,
            *self.actors.values(),
            *(lane for side in self.sides for lane in side.lanes.values()),
        ]

    def unread_seconds(self) -> float:
        """How long it takes until what arrives now is read."""
        toil, busy = self.world.toil, self._busy_until - self.world.now
        return max(0.0, busy) + (0.0 if toil is None else toil.of(self.inbox))

    def _still_asked(self, events: list[Event]) -> list[Event]:
        """Drops requests of peers that have gone since they asked, as the real transport does."""
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
            world.trace.note(world.now, self.name, event)
        valid = None
        event = events[0]
        if type(event) is CancelItems:
            world.checkers.cancelled(event)
        if type(event) is Heard and type(event.message) in (Report, Commit):
            valid = world.checkers.before_owner_hears(self, event)
        elif type(event) is HiredAnswer:
            valid = leases_of(self, event)
        world.checkers.later.heard(events)
        lacking = world.checkers.lacking(self, event) if len(events) == 1 else None
        effects = self.core.steps(world.now, events)
        if world.audit:
            world.checkers.audit(self)
        if lacking is not None:
            world.checkers.gave_up(self, *lacking)
        sent = []
        for effect in effects:
            if isinstance(effect, fx.Send):
                results = type(effect.message) in (InputGet, InputPut)
                sent.append(effect.seq or int(results))  # work, though it has no number
                if type(effect.message) is Grant:
                    world.checkers.later.granted(effect.message)
                world.network.send(self, effect)
            elif isinstance(effect, fx.RunChunk):
                if self.first_busy_at is None:
                    self.first_busy_at = world.now
                world.checkers.runs(self, effect)
                if effect.worker > FIRST_ACTOR and effect.worker not in self.actors:
                    self.actors[effect.worker] = self.new_actor(self, effect.worker)
                self.worker_at(effect.worker, side=effect.side).run(effect)
            elif isinstance(effect, fx.Deliver):
                if valid is not None:
                    world.checkers.credited(effect, valid)
                self._delivered(effect)
            else:
                _PERFORMERS[type(effect)](self, effect)
        self.sent += len(sent)
        world.checkers.stepped(self, events, effects, sent)

    # ------------------------------------------------------------ effects

    def disk_failed(self) -> None:
        """The disk fails for too long: the node ends."""
        self.world.disk_failed(self)

    def _dial(self, effect: fx.Dial) -> None:
        self.world.network.dial(self, effect)

    def _hangup(self, effect: fx.Hangup) -> None:
        self.world.network.hangup(self, effect)

    def _probe(self, effect: fx.Probe) -> None:
        self.world.network.probe(self, effect)

    def worker_at(self, number: int, *, side: bool = False) -> Any:
        """A worker, what runs side by side there, or the process of an actor."""
        if number > FIRST_ACTOR:
            return self.actors[number]
        return (self.sides if side else self.workers)[number]

    def _retract(self, effect: fx.Retract) -> None:
        self.worker_at(effect.worker).retract(effect)

    def _retract_side(self, effect: fx.RetractSide) -> None:
        self.sides[effect.worker].retract()

    def _divide(self, effect: fx.Divide) -> None:
        if effect.worker > FIRST_ACTOR:
            self.actors[effect.worker].divide(effect)
            return
        side = self.sides[effect.worker]
        (side if effect.chunk in side.lanes else self.workers[effect.worker]).divide(effect)

    def _share(self, effect: fx.Share) -> None:
        self.workers[effect.worker].share(effect)

    def _stop_item(self, effect: fx.StopItem) -> None:
        (self.sides if effect.side else self.workers)[effect.worker].stop_item(effect)

    def _export(self, effect: fx.Export) -> None:
        self.workers[effect.worker].export(effect)

    def _relieve(self, effect: fx.Relieve) -> None:
        self.workers[effect.worker].relieve(effect)

    def _items_running(self, effect: fx.ItemsRunning) -> None:
        if self.listener is not None:
            self.listener(self, effect)

    def _stop_worker(self, effect: fx.StopWorker) -> None:
        if (
            effect.worker < FIRST_ACTOR or effect.worker in self.actors
        ):  # else it had no process yet
            self.worker_at(effect.worker, side=effect.side).stop(effect)

    def _delivered(self, effect: fx.Deliver) -> None:
        self.world.checkers.delivered(effect)
        if self.listener is not None:
            self.listener(self, effect)

    def _item_waits(self, effect: fx.ItemWaits) -> None:
        self.world.checkers.later.put_off(effect)

    def _spared(self, effect: fx.InputFailed | fx.InputWithdrawn) -> None:
        self.world.checkers.accounts[effect.job].spared(effect)
        if self.listener is not None:
            self.listener(self, effect)

    def _job_done(self, effect: fx.JobDone) -> None:
        self.world.checkers.ended(effect.job)
        self.world.checkers.actors.ended(effect.job)
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

    def _looked(self, effect: fx.LookReady | fx.StatusReady | fx.CalledOff) -> None:
        if self.listener is not None:
            self.listener(self, effect)

    def _take_stacks(self, effect: fx.TakeStacks) -> None:
        """Virtual workers say what they run, and have no frames."""
        told = [
            WorkerStacks(each.number, self.number, [Stack("MainThread", chunk=each.running.chunk)])
            for each in self.workers
            if each.number in effect.workers and each.running is not None
        ]
        self.world.after(0.0, self.hear, StacksTaken(effect.ticket, told))

    def _keep_barred(self, effect: fx.KeepBarred) -> None:
        self.barred = effect.names

    def _left(self, effect: fx.Left) -> None:
        self.left = True
        self.world.after(LEFT_SECONDS, self.world.end, self)

    def _ignore(self, effect: Any) -> None:
        """Effects that only a real program uses."""


_PERFORMERS: dict[type, Callable[[Process, Any], None]] = {
    fx.Dial: Process._dial,
    fx.Hangup: Process._hangup,
    fx.Probe: Process._probe,
    fx.KeepBarred: Process._keep_barred,
    fx.Retract: Process._retract,
    fx.RetractSide: Process._retract_side,
    fx.Divide: Process._divide,
    fx.Share: Process._share,
    fx.StopItem: Process._stop_item,
    fx.Export: Process._export,
    fx.Relieve: Process._relieve,
    fx.StopWorker: Process._stop_worker,
    fx.ForgetJob: Process._ignore,
    fx.HireOut: lambda process, effect: process.world.hires.hire_out(process, effect),
    fx.EndHire: lambda process, effect: process.world.hires.end(process, effect),
    fx.FetchHired: lambda process, effect: process.world.hires.fetch(process, effect),
    fx.OrderHired: lambda process, effect: process.world.hires.order(process, effect),
    fx.DropHired: lambda process, effect: process.world.hires.drop(process, effect),
    fx.Write: Process._write,
    fx.Rewrite: Process._write,
    fx.KeepRoom: lambda process, effect: process.shelf.keep_room(effect),
    fx.Adopt: lambda process, effect: process.shelf.adopt(effect),
    fx.WritePiece: lambda process, effect: process.shelf.write(effect),
    fx.ReadPiece: lambda process, effect: process.shelf.read(effect),
    fx.ForgetValue: lambda process, effect: process.shelf.forget(effect),
    fx.KeepMade: lambda process, effect: process.shelf.keep_made(effect),
    fx.ValueCame: Process._ignore,
    fx.Accepted: Process._durable,
    fx.Results: Process._durable,
    fx.JobGone: Process._durable,
    fx.JobDone: Process._job_done,
    fx.InputFailed: Process._spared,
    fx.InputWithdrawn: Process._spared,
    fx.ItemsRunning: Process._items_running,
    fx.ItemsProgress: lambda process, effect: process.world.checkers.progress(effect),
    fx.ItemWaits: Process._item_waits,
    fx.LifeEnded: lambda process, effect: process.world.checkers.actors.died(effect.job),
    fx.NobodyCan: Process._nobody_can,
    fx.OtherRuntime: Process._ignore,
    fx.StatusReady: Process._looked,
    fx.LookReady: Process._looked,
    fx.CalledOff: Process._looked,
    fx.TakeStacks: Process._take_stacks,
    fx.WorthSaying: Process._ignore,
    fx.JournalsReady: Process._ignore,
    fx.Joined: Process._ignore,
    fx.JoinFailed: Process._ignore,
    fx.WaitsForNodes: Process._ignore,
    fx.WorksAgain: Process._ignore,
    fx.Left: Process._left,
}
