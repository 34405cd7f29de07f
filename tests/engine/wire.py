"""Real cores on a fake wire: messages arrive at once and in order, and links break on command.

Does what a host does and nothing more: it keeps a clock that only tests move, connects what
is dialled, and hands work to workers that finish when they are told to. Everything said and
everything told to programs is kept until a test takes it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import (
    Deliver,
    Dial,
    Effect,
    Hangup,
    JobDone,
    Probe,
    Retract,
    RunChunk,
    Send,
    Share,
    StopWorker,
)
from stealmesh_engine.events import (
    BagStep,
    CameBy,
    ChunkDone,
    Event,
    Feed,
    Heard,
    Join,
    LinkDown,
    LinkId,
    LinkUp,
    OpenJob,
    Probed,
    Retracted,
    Tick,
    WorkerLost,
    WorkerReady,
)
from stealmesh_protocol.ids import JobId, PeerId, digest_of, job_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Member, Message, Role
from stealmesh_protocol.passes import KeyRole
from stealmesh_protocol.values import Failure, unpack_outcomes

M = TypeVar("M", bound=Message)
F = TypeVar("F")

CODE = b"code"
FUNCTION = digest_of(CODE)


@dataclass(frozen=True)
class Said:
    """A message on the wire."""

    by: str
    to: str
    message: Message


@dataclass
class Host:
    """One peer: its core, its workers, and what it told its program."""

    wire: Wire
    name: str
    core: NodeCore
    endpoint: str
    alive: bool = True
    inbox: deque[Event] = field(default_factory=deque)
    far: dict[LinkId, tuple[Host, LinkId]] = field(default_factory=dict)
    """Our end of a connection → the other peer and its end."""
    work: dict[int, deque[RunChunk]] = field(default_factory=dict)
    """Worker → its chunks; it runs the first."""
    sharing: set[int] = field(default_factory=set)
    told: list[Effect] = field(default_factory=list)
    """Effects that are for the program."""
    accepted: int = -1
    explores: set[JobId] = field(default_factory=set)

    @property
    def id(self) -> PeerId:
        return self.core.me.id

    def step(self, *events: Event) -> None:
        """Tell the core something, perform what it answers, and let the others react."""
        self._perform(self.core.steps(self.wire.now, list(events)))
        self.wire.settle()

    # -- the program's side

    def take_told(self, kind: type[F]) -> list[F]:
        told: list[object] = list(self.told)
        self.told = [effect for effect in self.told if not isinstance(effect, kind)]
        return [effect for effect in told if isinstance(effect, kind)]

    def open(
        self, items: int, kind: JobKind = JobKind.MAP, *, number: int = 1, **more: object
    ) -> JobId:
        """Open a job over a range (of an explore job: with one root bag of that many items)."""
        job = job_id(self.id, number)
        spec = JobSpec(
            job, kind, self.id, f"job-{number}", FUNCTION, step=1, **more,  # type: ignore[arg-type]
        )  # fmt: skip
        total = 0 if kind is JobKind.EXPLORE else items
        self.step(OpenJob(spec, total, total, kind is JobKind.EXPLORE, {FUNCTION: CODE}))
        if kind is JobKind.EXPLORE:
            self.explores.add(job)
            self.step(Feed(job, Block(0, items, 0), bytes(items)))
        return job

    def delivered(self, job: JobId) -> Counter[int]:
        """How often each item was delivered so far."""
        return Counter(
            item
            for effect in self.told
            if isinstance(effect, Deliver) and effect.job == job
            for item in range(effect.lo, effect.hi)
        )

    def is_done(self, job: JobId) -> bool:
        return JobDone(job) in self.told

    def failures(self) -> list[Failure]:
        found = []
        for effect in self.told:
            if isinstance(effect, Deliver) and effect.part.failed:
                codec, blob = effect.part.codec, effect.blob
                if effect.job in self.explores:
                    codec, blob = blob[0], blob[1:]
                found += unpack_outcomes(codec, blob)[1]
        return found

    # -- the workers' side

    def running(self, worker: int = 0) -> RunChunk | None:
        chunks = self.work.get(worker)
        return chunks[0] if chunks else None

    def finish(self, worker: int = 0, seconds: float = 0.01) -> RunChunk:
        """The worker is done with its chunk."""
        chunk = self.work[worker].popleft()
        blob = f"{chunk.lo}-{chunk.hi}".encode()
        self.step(ChunkDone(worker, chunk.chunk, 0, blob, seconds))
        return chunk

    def visit(
        self, worker: int, rest: bytes, *, spares: Iterable[bytes] = (), items: int = 1
    ) -> None:
        """The worker takes stock of its explore bag."""
        chunk = self.work[worker][0]
        if not rest:
            self.work[worker].popleft()
        self.sharing.discard(worker)
        given = [(len(spare), spare) for spare in spares]
        partial = b"p" if items else b""
        self.step(BagStep(worker, chunk.chunk, partial, rest, len(rest), items, 0.01, given))

    def lose_worker(
        self, worker: int, reason: str = "killed by signal 9", *, blame: bool = True
    ) -> None:
        chunks = self.work.pop(worker, deque())
        running = chunks[0].chunk if chunks else None
        self.step(WorkerLost(worker, running, reason, blame), WorkerReady(worker))

    # -- performing

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            handler = _PERFORM.get(type(effect))
            if handler is None:
                self.told.append(effect)
            else:
                handler(self, effect)

    def _dial(self, effect: Dial) -> None:
        other = self.wire.listening(effect.endpoint)
        if other is None or frozenset((self.name, other.name)) in self.wire.apart:
            self.inbox.append(LinkDown(effect.link, "connection refused"))
            return
        other.accepted += 2
        role = self.wire.came_by.get(self.id)
        if role is not None:
            other.inbox.append(CameBy(other.accepted, role))
        self.far[effect.link] = other, other.accepted
        other.far[other.accepted] = self, effect.link
        self.inbox.append(LinkUp(effect.link))

    def _send(self, effect: Send) -> None:
        far = self.far.get(effect.link)
        if far is None:
            return
        other, link = far
        said = Said(self.name, other.name, effect.message)
        self.wire.said.append(said)
        if not any(lost(said) for lost in self.wire.losing):
            other.inbox.append(Heard(link, effect.message, effect.seq, effect.ack, 100))

    def _hangup(self, effect: Hangup) -> None:
        far = self.far.pop(effect.link, None)
        if far is not None:
            other, link = far
            other.far.pop(link, None)
            other.inbox.append(LinkDown(link, "closed by the peer"))

    def _probe(self, effect: Probe) -> None:
        listening = self.wire.listening(effect.endpoint) is not None
        self.inbox.append(Probed(effect.endpoint, listening))

    def _run_chunk(self, effect: RunChunk) -> None:
        queue = self.work.setdefault(effect.worker, deque())
        assert len(queue) < 2, "a worker holds at most two chunks"
        queue.append(effect)

    def _retract(self, effect: Retract) -> None:
        queue = self.work[effect.worker]
        chunk = queue.pop().chunk if len(queue) > 1 else None
        self.inbox.append(Retracted(effect.worker, chunk))

    def _share(self, effect: Share) -> None:
        (self.sharing.add if effect.wanted else self.sharing.discard)(effect.worker)

    def _stop_worker(self, effect: StopWorker) -> None:
        chunks = self.work.pop(effect.worker, deque())
        running = chunks[0].chunk if chunks else None
        self.sharing.discard(effect.worker)
        lost = WorkerLost(effect.worker, running, effect.reason, effect.blame)
        self.inbox.extend([lost, WorkerReady(effect.worker)])


_PERFORM: dict[type, Callable[[Host, Any], None]] = {
    Dial: Host._dial,
    Send: Host._send,
    Hangup: Host._hangup,
    Probe: Host._probe,
    RunChunk: Host._run_chunk,
    Retract: Host._retract,
    Share: Host._share,
    StopWorker: Host._stop_worker,
}


class Wire:
    """All peers of a test, one clock, and what was said."""

    def __init__(self, config: Config | None = None, *, order: int | None = None) -> None:
        self.config = config or Config()
        self.order = None if order is None else Random(order)
        """With a seed: whose turn it is to hear something is left to chance."""
        self.now = 100.0
        self.hosts: list[Host] = []
        self.said: list[Said] = []
        self.apart: set[frozenset[str]] = set()
        """Pairs that cannot reach each other."""
        self.losing: list[Callable[[Said], bool]] = []
        """Messages for which one of these is true never arrive."""
        self._settling = False
        self.came_by: dict[PeerId, KeyRole] = {}
        """Peers that do not come with the mesh key."""

    # -- building

    def add(
        self, name: str, *, workers: int = 1, role: Role = Role.PLAIN, seeds: Iterable[str] = (), seed: int = 0,
        identity: bytes | None = None, endpoints: Iterable[str] = (), **more: Any,
    ) -> Host:  # fmt: skip
        """`endpoints`: what it tells others, if not the one where it listens."""
        endpoint = "" if role is Role.CLIENT else f"tcp://{name}:1"
        member = Member(
            identity or name.encode().ljust(16, b"\0"), name, name, role,
            [*endpoints] or ([endpoint] if endpoint else []), 0, workers=workers,
        )  # fmt: skip
        core = NodeCore(
            member, config=self.config, rng=Random(f"{seed}-{name}"), audit=True, **more
        )
        host = Host(self, name, core, endpoint)
        self.hosts.append(host)
        host.step(Join(list(seeds)))
        for worker in range(workers):
            host.step(WorkerReady(worker))
        return host

    def listening(self, endpoint: str) -> Host | None:
        return next((h for h in self.hosts if h.alive and h.endpoint == endpoint), None)

    def host(self, peer: PeerId) -> Host:
        return next(host for host in self.hosts if host.id == peer)

    # -- time

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing arrives until the end of the block: what happens in it happens at once."""
        self._settling = True
        try:
            yield
        finally:
            self._settling = False
            self.settle()

    def settle(self) -> None:
        """Deliver everything that is under way, and what comes of it."""
        if self._settling:
            return
        self._settling = True
        try:
            for _ in range(10_000):
                busy = [host for host in self.hosts if host.inbox]
                if not busy:
                    return
                if self.order is not None:
                    busy = [self.order.choice(busy)]
                for host in busy:
                    event = host.inbox.popleft() if host.inbox else None
                    if event is not None and host.alive:
                        host._perform(host.core.steps(self.now, [event]))
            raise AssertionError("the peers talk to each other without end")
        finally:
            self._settling = False

    def advance(self, seconds: float) -> None:
        """Let time pass, with every tick at its moment."""
        until = self.now + seconds
        self.settle()
        for _ in range(100_000):
            due = [(h.core.next_deadline(), at) for at, h in enumerate(self.hosts) if h.alive]
            soonest = min(((d, at) for d, at in due if d is not None), default=None)
            if soonest is None or soonest[0] > until:
                self.now = until
                return
            self.now = max(self.now, soonest[0])
            self.hosts[soonest[1]].step(Tick())
        raise AssertionError("a core ticks without end")

    def until(self, truth: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let time pass until something is true."""
        give_up = self.now + seconds
        while not truth():
            assert self.now < give_up, "it did not come true"
            self.advance(0.01)

    def work(
        self, truth: Callable[[], bool], seconds: float = 60.0, item_seconds: float = 0.001
    ) -> None:
        """Let time pass and all workers of indexed jobs finish what they have, until it is true."""
        give_up = self.now + seconds
        while not truth():
            assert self.now < give_up, "it did not come true"
            for host in self.hosts:
                for worker in list(host.work):
                    chunk = host.running(worker)
                    if host.alive and chunk is not None and chunk.spec.kind is not JobKind.EXPLORE:
                        host.finish(worker, item_seconds * (chunk.hi - chunk.lo))
            self.advance(0.01)

    # -- trouble

    def kill(self, host: Host) -> None:
        """The process is gone; its connections break, what it had heard and not said is lost."""
        host.alive = False
        host.inbox.clear()
        self._break(lambda one, other: one is host or other is host)

    def part(self, *groups: Iterable[Host]) -> None:
        """These groups cannot reach each other from now on (what is under way is lost)."""
        sides = [list(group) for group in groups]
        for at, side in enumerate(sides):
            for other in sides[at + 1 :]:
                self.apart |= {frozenset((a.name, b.name)) for a in side for b in other}
        self._break(lambda a, b: frozenset((a.name, b.name)) in self.apart)

    def mend(self) -> None:
        self.apart.clear()

    def cut(self, a: Host, b: Host) -> None:
        """The connections between the two break; they may dial again at once."""
        self._break(lambda one, other: {one.name, other.name} == {a.name, b.name})

    def _break(self, which: Callable[[Host, Host], bool]) -> None:
        for host in self.hosts:
            for link, (other, _) in list(host.far.items()):
                if which(host, other):
                    del host.far[link]
                    lost = [e for e in host.inbox if not (isinstance(e, Heard) and e.link == link)]
                    host.inbox = deque(lost)
                    if host.alive:
                        host.inbox.append(LinkDown(link, "connection reset"))
        self.settle()

    # -- looking

    def take(self, kind: type[M], by: Host | None = None) -> list[M]:
        """The messages of this kind that were said since they were last taken."""

        def wanted(said: Said) -> bool:
            return isinstance(said.message, kind) and (by is None or said.by == by.name)

        taken = [said.message for said in self.said if wanted(said)]
        self.said = [said for said in self.said if not wanted(said)]
        return taken  # type: ignore[return-value]

    def hush(self) -> None:
        """What was said so far is of no interest."""
        self.said.clear()

    def custody_said(self) -> list[str]:
        """The kinds of custody messages that nobody has taken."""
        return [type(said.message).__name__ for said in self.said if said.message.CUSTODY]


def pair(**more: object) -> tuple[Wire, Host, Host]:
    """A client and a node that know each other."""
    wire = Wire(**more)  # type: ignore[arg-type]
    node = wire.add("node")
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    wire.advance(0.1)
    wire.hush()
    return wire, client, node


def ring(count: int, *, workers: int = 1, **more: object) -> tuple[Wire, Host, list[Host]]:
    """A client and that many nodes that have all found each other."""
    wire = Wire(**more)  # type: ignore[arg-type]
    nodes = [wire.add("node-0", workers=workers)]
    for number in range(1, count):
        nodes.append(wire.add(f"node-{number}", workers=workers, seeds=[nodes[0].endpoint]))
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=[nodes[0].endpoint])
    wire.advance(2.0)
    wire.hush()
    return wire, client, nodes
