"""Worlds in which one peer holds the key and misbehaves, and the honest others must not care.

Does: draws a small world from a number (two to four honest peers, jobs of each kind), lets one more peer join
and say lies (`lies`), a few at a time, ends it, and waits for the jobs. The verdict: no step of an honest
core raised, none did more than a bound of work, nothing grew without bound, and each honest job ended with the
right values, each once. Refuses to know how lies are made, and how often and which worlds are played
(`stealmesh_bench.insider`).

What the insider may do by design is excused: what it reports of work that it was leased may be wrong, and so
may be what it keeps of a durable job whose home chose it as a keeper. SECURITY.md has the whole table.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any, SupportsIndex

from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Deliver, Dial, Effect, Send
from stealmesh_engine.events import (
    AskJournals,
    AskLook,
    Event,
    Heard,
    Tick,
)
from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.conversation import LinkState, kinds_heard
from stealmesh_protocol.errors import RemoteProtocolError
from stealmesh_protocol.ids import JobId, LeaseId, ValueId, job_id, root_of, whole_of
from stealmesh_protocol.messages import (
    Abolish,
    Claim,
    Commit,
    Grant,
    Hello,
    Here,
    JobKind,
    JobSpec,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Message,
    Offer,
    Report,
    Role,
    Standing,
    Topic,
    ValueGet,
    Welcome,
)
from stealmesh_sim.checkers import Checkers, DeliveredJob
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.durable_programs import Launcher
from stealmesh_sim.kernel import Breach
from stealmesh_sim.later import LaterItems
from stealmesh_sim.lies import Liar, Overheard
from stealmesh_sim.network import Latency, Network, Station
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.value_checks import ValueChecks
from stealmesh_sim.wary_workers import WaryActor, WarySide, WaryWorker
from stealmesh_sim.work import CostLaw, VirtualTree, Work
from stealmesh_sim.world import World

RECIPES = 192
"""Lies in one world."""
SEQUENCE = 6
"""Lies that count as one sequence."""
SETTLED_SECONDS = 0.4
"""Until the peers know each other."""
PATIENCE_SECONDS = 120.0
"""Virtual, from the insider's end to that of the last job: beyond all that an owner waits for, and lease_seconds."""
EFFECTS_MAX = 600
"""Of one step. Honest ones have up to about a hundred in these small worlds."""
MESSAGES_MAX = 20_000
"""Between honest peers, in a whole world of RECIPES lies. About 3,000 is what is usual."""
STORED_MAX = 20_000
"""Things that one honest core remembers, in all its tables."""
STEP_SECONDS = 0.05
LOOK_SECONDS = 0.01
"""Of processor time, from one look at how long a step has run to the next: a look at each step was a tenth of a world."""
STEP_SECONDS_MAX = 60
"""Of processor time and a whole world, as a last resort: a step that does not return is a finding, not a hang. (By the
clock on the wall, worlds on a busy machine were found guilty.)"""


class Harm(Breach):
    """An honest peer or job came to harm."""


def is_claim(message: Message) -> bool:
    """Does it claim, of a durable job, what no honest peer can check: that the speaker leads it, keeps it, or
    holds some of it? (Or does it cancel the job, as every program that may submit can.)"""
    if isinstance(message, Grant | Launch):
        return bool(message.spec.term)
    if type(message) is Here:
        return message.standing is not Standing.GONE
    return isinstance(message, Keep | Abolish | Offer | Claim | KeptUpto)


class Overhearing(Network):
    """A network that the insider listens to."""

    overheard: Overheard
    insider: Process | None = None
    granted: dict[JobId, set[LeaseId]]
    tainted: dict[JobId, list[tuple[int, int]]]
    kept: set[JobId]
    """Durable jobs that the insider was made a keeper of, or claims to be one."""
    spoilt: set[ValueId]
    """Values that an honest peer fetched from it: its copy may be a wrong one, and travels on."""
    forged: set[JobId]
    """Jobs that it leases out, as if they were its own, or that no program has."""
    works: dict[JobId, Work]
    """Of the jobs that programs have."""
    honest_messages = 0
    welcomes: Callable[[Welcome], Message | None] | None = None
    """What the insider says in place of a WELCOME."""

    def send(self, process: Station, effect: Send) -> None:
        message = effect.message
        self.overheard.hear(message)
        end = process.ends.get(effect.link)
        if process is self.insider:
            self._taint(message)
            self._claims(message)
            if type(message) is Welcome and self.welcomes is not None:
                lie = self.welcomes(message)
                effect = effect if lie is None else Send(effect.link, lie)
        else:
            self.honest_messages += 1
            CHECKS[type(message)](
                message
            )  # nothing that was heard makes an honest peer say nonsense
            if end is not None and end[0].pipes[end[1]].target is self.insider:
                self._entrust(message)
        super().send(process, effect)

    def _entrust(self, message: Message) -> None:
        """What an honest peer gives the insider is the insider's to spoil."""
        if type(message) is Grant:
            lids = self.granted.setdefault(message.spec.job, set())
            lids.update(lease.lid for lease in message.leases)
        elif type(message) is ValueGet:
            self.spoilt.add(message.value)
        elif type(message) is Keep and message.number:
            self.kept.add(message.spec.job)

    def _claims(self, message: Message) -> None:
        spec: JobSpec | None = getattr(message, "spec", None)
        if spec is not None and (isinstance(message, Grant | Launch) or self._is_nobodys(spec.job)):
            self.forged.add(spec.job)
        if is_claim(message):
            self.kept.add(message.job if spec is None else spec.job)  # type: ignore[attr-defined]

    def _is_nobodys(self, job: JobId) -> bool:
        """An honest peer that it made the keeper of such a job may come to lead it, and lease it out."""
        return whole_of(job) not in self.works

    def _taint(self, message: Message) -> None:
        if isinstance(message, Report | Claim):
            lids = self.granted.get(message.job, set())
            spoilt = [(part.lo, part.hi) for part in message.parts if part.lid in lids]
            self.tainted.setdefault(message.job, []).extend(spoilt)
        elif type(message) is Commit:
            roots = {root_of(lid) for lid in self.granted.get(message.job, set())}
            if root_of(message.lid) in roots:
                self.tainted.setdefault(message.job, []).append((0, 1 << 63))


class TolerantValues(ValueChecks):
    """A copy that came from the insider may be a wrong one: nobody but the owner knows the right one."""

    def __init__(self, world: InsiderWorld) -> None:
        super().__init__(world)
        self._wire = world.wire

    def is_right(self, process: Process, value: ValueId) -> bool:
        return value in self._wire.spoilt or super().is_right(process, value)


class TolerantCheckers(Checkers):
    """The checkers, but what the insider was entrusted with may have wrong values."""

    world: InsiderWorld

    def _is_tainted(self, job: JobId, lo: int, hi: int) -> bool:
        if self.world.introduces or (job in self.world.wire.kept and job in self.world.launched):
            return True
        spoilt = self.world.wire.tainted.get(job, ())
        return any(low < hi and lo < high for low, high in spoilt)

    def _check_value(self, work: Work, effect: Deliver) -> None:
        if not self._is_tainted(work.spec.job, effect.part.lo, effect.part.hi):
            super()._check_value(work, effect)

    def fetched(self, work: Work, lo: int, kept: Kept, blob: bytes) -> None:
        if not self._is_tainted(work.spec.job, kept.lo, kept.hi):
            super().fetched(work, lo, kept, blob)

    def that(self, holds: bool, kind: str, text: str) -> None:
        kept = bool(self.world.wire.kept)
        spoilt = kind == "delivery" and text.endswith("items came") and kept
        if kind == "delivery" and " came to " in text:  # a durable search
            world = self.world
            searches = [job for job in world.launched if world.works[job].tree is not None]
            spoilt = any(self._is_tainted(job, 0, 1) for job in searches)
        if not holds and (spoilt or self.world.introduces):
            return  # what the insider may spoil
        super().that(holds, kind, text)

    def _delivered_step(self, account: DeliveredJob, effect: Deliver) -> None:
        if not self._is_tainted(account.work.spec.job, 0, 1):
            super()._delivered_step(account, effect)

    def ended(self, job: JobId) -> None:
        account = self.accounts[job]
        if account.work.spec.kind is JobKind.EXPLORE and self._is_tainted(job, 0, 1):
            account.done = True
            return
        super().ended(job)

    def stepped(
        self, process: Process, events: list[Event], effects: list[Effect], messages: Iterable[int]
    ) -> None:
        self.world.stepped(process, events, effects)


class TolerantLater(LaterItems):
    """What the insider says of items that are to run again may be unreadable, and it leases what is not its own."""

    lies = False
    """The insider speaks now."""

    def heard(self, events: Iterable[Event]) -> None:
        try:
            super().heard(events)
        except RemoteProtocolError:
            return

    def granted(self, grant: Grant) -> None:
        if not self.lies:
            super().granted(grant)


class SaysAgain(list[float]):
    """What an item says each time that it runs: the insider may have it run more often than planned."""

    def pop(self, at: SupportsIndex = -1) -> float:
        return super().pop(at) if self else 0.05


@dataclass(slots=True)
class InsiderOutcome:
    """What became of one world."""

    seed: int
    kind: str = ""
    text: str = ""
    lies: int = 0
    jobs: int = 0
    excused: int = 0
    """Durable jobs that the insider was entrusted with, or claimed to be."""
    steps: int = 0
    effects_most: int = 0
    step_seconds_most: float = 0.0
    slow_steps: int = 0
    """Steps above STEP_SECONDS of processor time: reported, and never judged."""
    virtual_seconds: float = 0.0
    said: list[tuple[int, str, Message]] = field(default_factory=list)
    """(recipe, to whom, what)."""
    found: dict[int, list[str]] = field(default_factory=dict)
    """Recipe → pairs of (message, outcome) that this world had first."""
    rude: dict[str, int] = field(default_factory=dict)


class InsiderWorld(World):
    """A small world with one insider. `known`: outcomes that are no news (written, too)."""

    wire_class: type[Overhearing] = Overhearing

    def __init__(
        self, seed: int, recipes: list[int] | None = None, known: set[str] | None = None
    ) -> None:
        self.rng = rng = Random(f"{seed}/insider")
        super().__init__(
            seed, config=Config(custody_seconds=0.3, lone_replica_seconds=3.0), hashing=False
        )
        self.wire = wire = self.wire_class(self, Latency(), Random(f"{seed}/links"))
        wire.overheard = Overheard()
        wire.granted, wire.tainted, wire.kept, wire.forged = {}, {}, set(), set()
        wire.works = self.works
        wire.spoilt = set()
        self.network = wire
        self.checkers = TolerantCheckers(self)
        self.later = self.checkers.later = TolerantLater(self)
        self.checkers.values = TolerantValues(self)
        self.liar = Liar(wire.overheard)
        self.recipes = recipes_of(seed) if recipes is None else recipes
        self.known = set() if known is None else known
        self.outcome = InsiderOutcome(seed)
        self.watch = StepLooks()
        self._recipe = 0
        self._count = 0
        self._messages_max = MESSAGES_MAX * max(1, len(self.recipes) // RECIPES)
        self._furnish(rng)

    # ------------------------------------------------------------ the honest

    def _start(self, *told: Any, **options: Any) -> Process:
        process = super()._start(*told, **options)
        self._timed(process)
        count = len(process.workers)
        process.workers = [WaryWorker(process, each, self.wire.forged) for each in range(count)]
        process.new_actor = lambda at, number: WaryActor(at, number, self.wire.forged)
        process.sides = [WarySide(each, self.wire.forged) for each in process.sides]
        return process

    def _furnish(self, rng: Random) -> None:
        self.durable = rng.random() < 0.4
        nodes = rng.choice((1, 2, 2, 3))
        seeds = ["tcp://n0:7077"]
        self.nodes = []
        for each in range(nodes):
            disk = (
                VirtualDisk(Random(f"{self.seed}/disk{each}"))
                if self.durable and rng.random() < 0.7
                else None
            )
            self.nodes.append(
                self.node(
                    f"n{each}",
                    seeds=[] if not each else seeds,
                    workers=rng.choice((1, 2)),
                    disk=disk,
                )
            )
        self.owner = self.client("c", seeds=seeds)
        self.honest = [*self.nodes, self.owner]
        self.insider = self._insider(rng, seeds)
        self.wire.insider = self.insider
        self._lies_whenever_it_speaks()
        wishes = [self._wish(rng) for _ in range(rng.choice((1, 2, 2)))]
        self.programs: list[VirtualProgram | Launcher] = [
            Launcher(self, self.owner, wish)
            if self.durable and wish.kind is not JobKind.SUBMIT
            else VirtualProgram(self, self.owner, wish)
            for wish in wishes
        ]
        for program in self.programs:
            again = program.work.again
            program.work.again = {item: SaysAgain(said) for item, said in again.items()}
        self.silent_end = rng.random() < 0.2
        self.introduces = rng.random() < 0.1
        """It says that it is somebody else: with one key for all, no peer can tell. Then jobs may come to harm."""
        self.forgiving = rng.random() < 0.6
        """Its links are not ended for its rudeness, so that more lies are heard."""
        self.claims = rng.random() < 0.4
        """It claims to lead and to keep durable jobs, which may spoil those."""
        self._links = 0
        self.launched = {each.job for each in self.programs if isinstance(each, Launcher)}
        if self.introduces:
            welcome = Random(f"{self.seed}/welcome")
            self.wire.welcomes = lambda said: self.liar.changed(said, welcome)
        at = SETTLED_SECONDS
        denser = min(1.0, RECIPES / max(1, len(self.recipes)))
        for recipe in self.recipes:
            at += (0.0, 0.0, 0.002, 0.02)[recipe % 4] * denser
            self.at(at, self._lie, recipe)
        self.ends_at = at + rng.choice((0.01, 0.5))
        self._look_around(Random(f"{self.seed}/curious"))
        me = self.insider.member.id
        self.liar.mine = [me, *(job_id(me, number) for number in range(3))]

    def _lies_whenever_it_speaks(self) -> None:
        """Also when it says a lie again, on a new connection. Once a false alarm: world 200046 of the guests."""
        step = self.insider._step

        def lying(events: list[Event]) -> None:
            self.later.lies = True
            try:
                step(events)
            finally:
                self.later.lies = False

        self.insider._step = lying  # type: ignore[method-assign]

    def _look_around(self, rng: Random) -> None:
        """Someone at the honest program asks what becomes of its jobs, and what happened, while lies are told."""
        for nonce in range(1, rng.choice((1, 4, 9))):
            job, at = rng.choice(self.programs).job, rng.uniform(SETTLED_SECONDS, self.ends_at)
            asks = (
                AskLook(nonce, Topic.EXPLAIN, job, rng.choice((-1, 0, 7))),
                AskLook(nonce, Topic.STACKS, rng.choice((b"", job))),
                AskJournals(nonce),
            )
            self.at(at, self.owner.hear, rng.choice(asks))

    def _insider(self, rng: Random, seeds: list[str]) -> Process:
        """As a node with workers, one without, or a program."""
        as_what = rng.choice(("node", "node", "idle", "client"))
        if as_what == "client":
            return self.client("x", seeds=seeds)
        return self.node("x", seeds=seeds, workers=int(as_what == "node"))

    def _wish(self, rng: Random) -> Wish:
        kind = rng.choice(
            (JobKind.MAP, JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT, JobKind.EXPLORE)
        )
        law = CostLaw("exponential", rng.choice((0.002, 0.01, 0.03)), rng.getrandbits(20))
        at = rng.uniform(0.1, SETTLED_SECONDS + 0.3)
        if kind is JobKind.EXPLORE:
            return Wish(kind, 0, law, at, tree=VirtualTree(rng.getrandbits(30), 4, 3))
        fed = kind is JobKind.SUBMIT or rng.random() < 0.5
        values = rng.choice((0, 0, 0, 2)) if fed and not self.durable else 0
        items, block_items = rng.randint(10, 80), rng.choice((1, 7, 20))
        wish = Wish(kind, items, law, at, fed=fed, block_items=block_items)
        wish.values, wish.value_octets = values, 3000
        if not self.durable:
            self._peculiar(rng, wish)
        return wish

    def _peculiar(self, rng: Random, wish: Wish) -> None:
        """Bounds on what runs at once, actors, items that run again, second copies."""
        luck = rng.random()
        if luck < 0.2:
            wish.max_parallel = rng.choice((1, 2, 5))
        elif luck < 0.4 and wish.kind is JobKind.SUBMIT:
            wish.actor, wish.restarts, wish.retries = True, rng.choice((0, 9)), rng.choice((0, 9))
        elif luck < 0.5 and wish.kind is not JobKind.REDUCE:
            wish.speculate = True
        elif luck < 0.6 and wish.kind is not JobKind.REDUCE:
            wish.again = {rng.randrange(wish.items): [0.05, -1.0, 0.1] for _ in range(4)}
            wish.retries = 5
        elif luck < 0.7:
            wish.priority = rng.choice((-1, 3))

    def _timed(self, process: Process) -> None:
        """How long do its steps take? Told by the looks that fall into a step."""
        steps, outcome, watch = process.core.steps, self.outcome, self.watch

        def timed(now: float, events: list[Event]) -> list[Effect]:
            begun = watch.looks
            try:
                return steps(now, events)
            finally:
                if watch.looks != begun:
                    took = (watch.looks - begun) * LOOK_SECONDS
                    outcome.step_seconds_most = max(outcome.step_seconds_most, took)
                    outcome.slow_steps += took > STEP_SECONDS

        process.core.steps = timed  # type: ignore[method-assign]

    # ------------------------------------------------------------ the insider

    def _lie(self, recipe: int) -> None:
        insider = self.insider
        if not insider.alive or insider.left:
            return
        rng = Random(recipe)
        if self.introduces and recipe % 5 == 0:
            self._introduce(rng, recipe)
            return
        target = rng.choice(self.honest)
        self.liar.told = target.member.id
        line = target.core.links.peers.get(insider.member.id)
        now, core = self.now, insider.core
        if line is None or line.link is None:
            core.links.renew(target.member.id, now)
        elif self.forgiving:
            line.rude = -RECIPES
        speaks = insider.member.role
        may_say = kinds_heard(LinkState.READY, speaks, target.member.role)
        lie = self.liar.lie(rng, may_say)
        if lie is None or (is_claim(lie) and not self.claims):
            return
        self.outcome.lies += 1
        self.outcome.said.append((recipe, target.name, lie))
        self._recipe = recipe
        self.tell_lie(target, lie, rng)

    def _introduce(self, rng: Random, recipe: int) -> None:
        """The insider comes over a link of its own, and says who it is: anybody."""
        self._links += 1
        link, target = -self._links, rng.choice(self.nodes)
        members = [each.core.me for each in (*self.honest, self.insider)]
        hello = Hello((1, 1), b"", rng.choice(members), rng.choice((b"", target.member.id)), "", 1)
        lie = self.liar.changed(hello, rng)
        if lie is None or not target.alive:
            return
        self.outcome.lies += 1
        self.outcome.said.append((recipe, target.name, lie))
        self.wire.dial(self.insider, Dial(link, target.member.endpoints[0]))
        self.after(0.003, self.wire.send, self.insider, Send(link, lie))
        later = self.liar.lie(rng, kinds_heard(LinkState.READY))
        if later is not None:
            self.outcome.said.append((recipe, target.name, later))
            numbers = rng.choice((0, 1)), 0
            self.after(0.004, self.wire.send, self.insider, Send(link, later, *numbers))

    def tell_lie(self, target: Process, lie: Message, rng: Random | None = None) -> None:
        """The insider says this, mostly under a right number."""
        core = self.insider.core
        peer = core.links.peers.get(target.member.id)
        if rng is not None and rng.random() < 0.03 and peer is not None and peer.link is not None:
            numbers = (0, 1, 2, peer.channel.heard, 1 << 62, (1 << 63) - 1)
            self.wire.send(
                self.insider, Send(peer.link, lie, rng.choice(numbers), rng.choice(numbers))
            )
            return
        core.links.send(target.member.id, lie, self.now)
        self.insider._step([Tick()])

    # ------------------------------------------------------------ the verdict

    def stepped(self, process: Process, events: list[Event], effects: list[Effect]) -> None:
        self._count += 1
        if process is self.insider:
            return
        outcome = self.outcome
        outcome.effects_most = max(outcome.effects_most, len(effects))
        if len(effects) > EFFECTS_MAX:
            raise Harm("work", f"a step of {process.name} had {len(effects)} effects")
        if self.wire.honest_messages > self._messages_max:
            raise Harm("storm", f"honest peers said {self.wire.honest_messages} messages")
        event = events[0]
        if type(event) is Heard and self._recipe:
            kinds = sorted({_name_of(effect) for effect in effects})
            news = f"{type(event.message).__name__}: {' '.join(kinds)}"
            if news not in self.known:
                self.known.add(news)
                outcome.found.setdefault(self._recipe, []).append(news)

    def play(self) -> InsiderOutcome:
        outcome = self.outcome
        try:
            with self.watch.watching():
                self._play()
        except Breach as breach:
            outcome.kind, outcome.text = breach.kind, str(breach)
        except Hangs as error:
            outcome.kind, outcome.text = "hangs", str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            outcome.kind, outcome.text = "raised", _where(error)
        outcome.virtual_seconds = self.now
        outcome.steps = self._count
        for process in self.honest:
            for name, count in process.core.counters.items():
                if name.startswith("rude"):
                    outcome.rude[name] = outcome.rude.get(name, 0) + count
        return outcome

    def _play(self) -> None:
        self.run(self.ends_at)
        for process in self.honest:
            size = _size_of(process.core)
            if size > STORED_MAX:
                raise Harm("memory", f"{process.name} remembers {size} things")
        self.crash(self.insider, silent=self.silent_end)
        self.run(self.ends_at + PATIENCE_SECONDS, unless=self._all_done)
        for process in self.honest:
            if not process.alive or process.left:
                raise Harm("node", f"{process.name} has ended")
            until = process.core.looks.until, process.core.journals.until
            if any(each is not None and each < self.now for each in until):
                raise Harm("looks", f"{process.name} never answers a question")
        for program in self.programs:
            self._judge(program)

    def _all_done(self) -> bool:
        return all(p.done or self._is_excused(p) for p in self.programs)

    def _is_excused(self, program: VirtualProgram | Launcher) -> bool:
        spoilt = isinstance(program, Launcher) and program.job in self.wire.kept
        return spoilt or self.introduces

    def _judge(self, program: VirtualProgram | Launcher) -> None:
        self.outcome.jobs += 1
        number = program.work.number
        if self._is_excused(program):
            self.outcome.excused += 1
            return
        if not program.done:
            raise Harm("lost", f"job {number} ({program.work.spec.kind.name}) never ended")
        if isinstance(program, Launcher):
            is_search = program.work.spec.kind is JobKind.EXPLORE
            fate = program.gone or program.refusal or program.missing or program.state
            if (
                program.gone
                or program.refusal
                or program.missing
                or (program.position != program.work.total and not is_search)
            ):
                raise Harm(
                    "lost", f"durable job {number} ended with {fate!r}, {program.position} items"
                )


def _name_of(effect: Effect) -> str:
    return type(effect.message if isinstance(effect, Send) else effect).__name__


def _size_of(core: NodeCore) -> int:
    """How many things a core remembers, in the tables that messages can fill."""
    tables: list[Sized] = [
        core.view.members, core.links.peers, core.links.lines, core.holder.jobs, core.holder.slots.beside,
        core.durable.state.replicas, core.durable.state.gone, core.durable.state.moved,
        core.durable.state.candidacies, core.durable.takeover._offers, core.around.lines(),
        core.detector.watches, core.membership.suspicions.__dict__,
    ]  # fmt: skip
    held = sum(len(job.bags.leases) + len(job.unsettled) for job in core.holder.jobs.values())
    copies = sum(len(copy.covered) + copy.entries for copy in core.durable.state.replicas.values())
    unsent = sum(len(peer.channel.unacked) for peer in core.links.peers.values())
    return sum(len(table) for table in tables) + held + copies + unsent


def _where(error: Exception) -> str:
    trace, places = error.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} at {' < '.join(reversed(places[-4:]))}"


class Hangs(Exception):
    """A step did not return."""


class StepLooks:
    """Looks now and then, in processor time, at what runs; ends what has not ended after STEP_SECONDS_MAX."""

    def __init__(self) -> None:
        self.looks = 0

    def _look(self, number: int, frame: FrameType | None) -> None:
        self.looks += 1
        if self.looks * LOOK_SECONDS > STEP_SECONDS_MAX:
            code = None if frame is None else frame.f_code
            raise Hangs(f"no end after {STEP_SECONDS_MAX} s in {code}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, LOOK_SECONDS, LOOK_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


def recipes_of(seed: int, count: int = RECIPES) -> list[int]:
    """The lies of a world that nobody has chosen. More of them are told in the same time."""
    rng = Random(f"{seed}/recipes")
    return [rng.getrandbits(40) for _ in range(count)]


def play(
    seed: int, recipes: list[int] | None = None, known: set[str] | None = None
) -> InsiderOutcome:
    """One world to its end."""
    return InsiderWorld(seed, recipes, known).play()


def minimised(
    seed: int, recipes: list[int], kind: str, play: Callable[..., InsiderOutcome] = play
) -> list[int]:
    """A shorter list of recipes that harms this world in the same way (delta debugging after Zeller)."""
    size = max(1, len(recipes) // 2)
    while True:
        at = 0
        while at < len(recipes):
            fewer = recipes[:at] + recipes[at + size :]
            if play(seed, fewer).kind == kind:
                recipes = fewer
            else:
                at += size
        if size == 1:
            return recipes
        size //= 2


__all__ = ["SEQUENCE", "Harm", "InsiderOutcome", "InsiderWorld", "Role", "minimised", "play"]
