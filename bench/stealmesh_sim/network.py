"""Virtual connections that misbehave as ZeroMQ's do, and no worse.

Does: Dial, Hangup, Send and Probe. Decides how long a message travels and what is left of it when
something breaks. Refuses to know what is said.

A connection is two pipes. Inside a pipe everything arrives once and in order. (`disorder` plays a
defective host, which tells its core the messages in another order.) A pipe may be cut: nothing gets
through, and neither end is told. It may stall. Then messages wait in two lanes, and control overtakes
custody, as in the real transport. When a connection breaks, a prefix of what was under way may still
arrive; the rest is gone, and then each side is told. The kernel's time-out ends a cut that lasts.

An acceptor cannot close one connection of its inbox: after its hang-up it is merely deaf.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from stealmesh_engine.effects import Dial, Hangup, Probe, Send
from stealmesh_engine.events import Event, Heard, LinkDown, LinkId, LinkUp, Probed
from stealmesh_protocol import codec
from stealmesh_protocol.messages import Bye, Member, Message, Steal
from stealmesh_sim.kernel import Clock

CONNECT_SECONDS = 3.0
HANDSHAKE_SECONDS = 5.0
PROBE_SECONDS = 1.0
HANDSHAKE_ROUND_TRIPS = 2
RETRY_SECONDS = 0.05
KERNEL_PATIENCE_SECONDS = (15.0, 25.0)
RETRANSMIT_SECONDS_MAX = 0.5

Parcel = tuple[float, Message | None, int, int]
"""When it arrives, what (None: the connection is gone), its number, its acknowledgement."""


@dataclass(slots=True)
class Latency:
    """How long messages travel while nothing is wrong."""

    seconds: float = 0.00025
    """One way."""
    jitter: float = 0.3
    """Up to this share of the latency is added, message by message."""
    octets_a_second: float = 0.0
    """What a line takes of the blobs of messages, one behind the other; 0: any number at once."""
    lines: dict[tuple[str, str], float] = field(default_factory=dict)
    """The same of single lines, from one process to another, by their names."""

    def line_seconds(self, source: str, target: str, message: Message) -> float:
        """How long the blobs of this message keep the line."""
        speed = self.lines.get((source, target), self.octets_a_second)
        return sum(map(len, getattr(message, "blobs", ()))) / speed if speed else 0.0


class Station(Protocol):
    """A process as the network sees it."""

    number: int
    name: str
    place: int
    """The number of its machine."""
    member: Member
    alive: bool
    paused: bool
    ends: dict[LinkId, tuple[Connection, int]]
    """Link → its connection, and which pipe of it (0 or 1) is ours to write into."""
    dialling: dict[LinkId, None]

    def hear(self, event: Event) -> None: ...

    def next_accepted(self) -> LinkId:
        """A number for a link that another process dialled."""


class Pipe:
    """One direction of a connection."""

    __slots__ = (
        "connection", "control", "custody", "cuts", "deaf", "disorder", "from_place", "held_back", "link",
        "not_before", "source", "target", "to_place", "unsent", "wire",
    )  # fmt: skip

    def __init__(self, connection: Connection, source: Station, target: Station) -> None:
        self.connection = connection
        self.source = source
        self.target = target
        self.from_place, self.to_place = source.place, target.place
        self.link: LinkId = -1
        """The connection's number at the target; -1: the target has not heard of it yet."""
        self.wire: deque[Parcel] = deque()
        self.control: list[Parcel] = []
        self.custody: list[Parcel] = []
        self.cuts = 0
        self.not_before = 0.0
        self.deaf = False
        """The target has stopped listening."""
        self.unsent = False
        """What is sent now goes nowhere."""
        self.disorder = 0
        """Numbered messages still to be swapped with their successor."""
        self.held_back: Parcel | None = None

    @property
    def name(self) -> str:
        return f"{self.source.name}-{self.target.name}"


class Connection:
    """Two pipes; pipes[0] leads from the dialler to the acceptor."""

    __slots__ = ("broken", "number", "pipes")

    def __init__(self, number: int, dialler: Station, acceptor: Station) -> None:
        self.number = number
        self.pipes = (Pipe(self, dialler, acceptor), Pipe(self, acceptor, dialler))
        self.broken = False


class Network:
    """All connections of a world. With `carry` each message is encoded and decoded on its way."""

    def __init__(self, clock: Clock, latency: Latency, rng: Random, *, carry: bool = False) -> None:
        self.clock = clock
        self.latency = latency
        self.rng = rng
        self.carry = carry
        self.listening: dict[str, Station] = {}
        self.connections: dict[int, Connection] = {}
        self._of: dict[int, dict[int, Connection]] = {}
        """The same for each process by its number."""
        self.walls: list[tuple[frozenset[int], frozenset[int]]] = []
        """Nothing gets from the first places to the second. Two faults may set up the same wall."""
        self.silent: dict[str, None] = {}
        """Endpoints of machines that are off: not even a refusal comes back."""
        self.messages = 0
        self.lost = 0
        self.steals = 0
        """How often a node asked another one for work."""
        self._numbers = 0
        self._places: dict[str, int] = {}

    # ------------------------------------------------------------ effects

    def dial(self, dialler: Station, effect: Dial) -> None:
        self._try_dial(dialler, effect, self.clock.now + HANDSHAKE_SECONDS)

    def hangup(self, process: Station, effect: Hangup) -> None:
        end = process.ends.pop(effect.link, None)
        if end is None:
            process.dialling.pop(effect.link, None)
            return
        connection, side = end
        ours, theirs = connection.pipes[side], connection.pipes[1 - side]
        self._deafen(theirs)
        if side == 0 and not ours.unsent:
            ours.custody.append((0.0, None, 0, 0))  # behind all that was said
            self._flush(ours)
        ours.unsent = True

    def send(self, process: Station, effect: Send) -> None:
        end = process.ends.get(effect.link)
        self.messages += 1
        if end is None:
            self.lost += 1
            return
        pipe = end[0].pipes[end[1]]
        if pipe.unsent:
            self.lost += 1
            return
        clock = self.clock
        message = effect.message
        if type(message) is Steal:
            self.steals += 1
        if pipe.cuts or pipe.not_before > clock.now or pipe.control or pipe.custody:
            overtakes = effect.seq == 0 and type(message) is not Bye
            lane = pipe.control if overtakes else pipe.custody
            lane.append((0.0, message, effect.seq, effect.ack))
            return
        latency = self.latency
        at = clock.now + latency.seconds * (1.0 + latency.jitter * self.rng.random())
        wire = pipe.wire
        if wire and wire[-1][0] > at:
            at = wire[-1][0]
        if latency.octets_a_second or latency.lines:
            at += latency.line_seconds(pipe.source.name, pipe.target.name, message)
        wire.append((at, message, effect.seq, effect.ack))
        clock.at(at, self._pump, pipe)

    def probe(self, process: Station, effect: Probe) -> None:
        endpoint = effect.endpoint
        target = self.listening.get(endpoint)
        answer: bool | None = target is not None
        place = self.place_of(endpoint)
        if endpoint in self.silent or self._is_cut(process.place, place):
            answer = None
        delay = PROBE_SECONDS if answer is None else 2 * self._travel_seconds()
        self.clock.after(delay, process.hear, Probed(endpoint, answer))

    # ------------------------------------------------------------ what faults do

    def cut(self, a: int, b: int) -> None:
        """Nothing gets from place `a` to place `b` until it is mended."""
        self.wall_off([a], [b])

    def mend(self, a: int, b: int) -> None:
        self.tear_down([a], [b])

    def wall_off(self, sources: Collection[int], targets: Collection[int]) -> None:
        """The same for many places at once: half of a mesh and the other half."""
        wall = frozenset(sources), frozenset(targets)
        self.walls.append(wall)
        for pipe in self._crossing(*wall):
            self._shut(pipe)

    def tear_down(self, sources: Collection[int], targets: Collection[int]) -> None:
        wall = frozenset(sources), frozenset(targets)
        self.walls.remove(wall)
        for pipe in self._crossing(*wall):
            self._open(pipe)

    def _crossing(self, sources: frozenset[int], targets: frozenset[int]) -> list[Pipe]:
        return [
            pipe
            for each in self.connections.values()
            for pipe in each.pipes
            if pipe.from_place in sources and pipe.to_place in targets
        ]

    def _walls_between(self, a: int, b: int) -> int:
        """How many faults keep this direction shut?"""
        return sum(a in sources and b in targets for sources, targets in self.walls)

    def stall(self, connection: Connection, seconds: float) -> None:
        """Both directions stand still for a while."""
        for pipe in connection.pipes:
            pipe.not_before = max(pipe.not_before, self.clock.now + seconds)
            self.clock.at(pipe.not_before, self._pump, pipe)

    def disorder(self, connection: Connection, messages: int) -> None:
        """The next messages of both pipes are told in another order, as by a defective host."""
        for pipe in connection.pipes:
            pipe.disorder += messages

    def reset(self, connection: Connection) -> None:
        """The connection breaks; both processes live on."""
        if connection.broken:
            return
        connection.broken = True
        for pipe in connection.pipes:
            self._sever(pipe)

    def process_gone(self, process: Station, *, silent: bool) -> None:
        """A process ended. Its kernel closes its connections, unless the machine is off."""
        for endpoint in process.member.endpoints:
            if self.listening.get(endpoint) is process:
                del self.listening[endpoint]
                if silent:
                    self.silent[endpoint] = None
        process.dialling.clear()
        for connection in list(self._of.get(process.number, {}).values()):
            # The acceptor's side counts even if it has not heard a word yet.
            side = 0 if connection.pipes[0].source is process else 1
            self._deafen(connection.pipes[1 - side])
            if not silent:
                self.reset(connection)
            elif not connection.broken:
                ours = connection.pipes[side]
                ours.unsent = True
                self._truncate(ours)
                self._shut(ours)
        process.ends.clear()

    def listen(self, process: Station) -> None:
        """A process starts listening; connections with an earlier life there break at last."""
        for endpoint in process.member.endpoints:
            self.listening[endpoint] = process
            if endpoint in self.silent:
                del self.silent[endpoint]
                for connection in list(self.connections.values()):
                    for pipe in connection.pipes:
                        if pipe.from_place == process.place and not pipe.source.alive:
                            pipe.cuts = self._walls_between(pipe.from_place, pipe.to_place)
                            self.reset(connection)

    def open_connections(self) -> list[Connection]:
        """Connections that are up, in the order in which they were dialled."""
        return [c for c in self.connections.values() if not c.broken]

    def place_of(self, endpoint: str) -> int:
        """The number of the machine behind an address."""
        return self._places.setdefault(endpoint, len(self._places))

    def _travel_seconds(self) -> float:
        """How long the next message travels."""
        latency = self.latency
        return latency.seconds * (1.0 + latency.jitter * self.rng.random())

    # ------------------------------------------------------------ dialling

    def _try_dial(self, dialler: Station, effect: Dial, until: float) -> None:
        dialler.dialling[effect.link] = None
        self.clock.after(self._travel_seconds(), self._knock, dialler, effect, until)

    def _knock(self, dialler: Station, effect: Dial, until: float) -> None:
        """The first packet arrives: who is there?"""
        if not dialler.alive or effect.link not in dialler.dialling:
            return
        clock, endpoint = self.clock, effect.endpoint
        target = self.listening.get(endpoint)
        there = self.place_of(endpoint)
        unreachable = endpoint in self.silent or self._is_cut(dialler.place, there)
        if unreachable or (target is not None and target.paused):
            if clock.now >= until - (HANDSHAKE_SECONDS - CONNECT_SECONDS if unreachable else 0):
                self._not_up(dialler, effect.link, "no answer")
            else:
                clock.after(RETRY_SECONDS, self._knock, dialler, effect, until)
        elif target is None:
            clock.after(
                self._travel_seconds(), self._not_up, dialler, effect.link, "connection refused"
            )
        else:
            delay = sum(self._travel_seconds() for _ in range(2 * HANDSHAKE_ROUND_TRIPS - 1))
            clock.after(delay, self._shake_hands, dialler, target, effect, until)

    def _shake_hands(self, dialler: Station, target: Station, effect: Dial, until: float) -> None:
        if not dialler.alive or effect.link not in dialler.dialling:
            return
        if not target.alive or target.paused or self._is_cut(dialler.place, target.place):
            self._knock(dialler, effect, until)
            return
        del dialler.dialling[effect.link]
        self._numbers += 1
        connection = Connection(self._numbers, dialler, target)
        self.connections[connection.number] = connection
        for process in (dialler, target):
            self._of.setdefault(process.number, {})[connection.number] = connection
        connection.pipes[1].link = effect.link
        dialler.ends[effect.link] = (connection, 0)
        dialler.hear(LinkUp(effect.link))

    def _not_up(self, dialler: Station, link: LinkId, reason: str) -> None:
        if link in dialler.dialling:
            del dialler.dialling[link]
            dialler.hear(LinkDown(link, reason))

    def _is_cut(self, a: int, b: int) -> bool:
        return bool(self.walls) and bool(self._walls_between(a, b) or self._walls_between(b, a))

    # ------------------------------------------------------------ pipes

    def _pump(self, pipe: Pipe) -> None:
        """Deliver what has arrived."""
        now = self.clock.now
        if pipe.cuts or pipe.not_before > now:
            return
        if pipe.control or pipe.custody:
            self._flush(pipe)
        wire = pipe.wire
        while wire and wire[0][0] <= now:
            _, message, seq, ack = wire.popleft()
            if pipe.deaf or not pipe.target.alive:
                if message is not None:
                    self.lost += 1
                continue
            if message is None:
                self._tell_down(pipe, "connection closed")
            elif pipe.disorder and seq and pipe.held_back is None:
                pipe.held_back = now, message, seq, ack
            else:
                self._deliver(pipe, message, seq, ack)
                if pipe.held_back is not None and seq:
                    (_, late, *numbers), pipe.held_back = pipe.held_back, None
                    pipe.disorder -= 1
                    assert late is not None
                    self._deliver(pipe, late, *numbers)

    def _deliver(self, pipe: Pipe, message: Message, seq: int, ack: int) -> None:
        target = pipe.target
        if pipe.link < 0:
            pipe.link = target.next_accepted()
            target.ends[pipe.link] = (pipe.connection, 1)
        octets = 64 + sum(map(len, getattr(message, "blobs", ()))) if seq else 64
        target.hear(Heard(pipe.link, self._carried(message, seq, ack), seq, ack, octets))

    def _carried(self, message: Message, seq: int, ack: int) -> Message:
        """The message as it comes out at the other end."""
        if not self.carry:
            return message
        frames = codec.write(message, seq, ack)
        assert isinstance(frames, list), "virtual messages are small"
        decoded = codec.decode(frames)
        assert (decoded.seq, decoded.ack) == (seq, ack)
        return decoded.message

    def _tell_down(self, pipe: Pipe, reason: str) -> None:
        """Tell the target that the connection is gone; what it sends from now on goes nowhere."""
        ours, theirs = pipe.connection.pipes
        (theirs if pipe is ours else ours).unsent = True
        self._deafen(pipe)
        if pipe.link >= 0:
            pipe.target.ends.pop(pipe.link, None)
            pipe.target.hear(LinkDown(pipe.link, reason))

    def _deafen(self, pipe: Pipe) -> None:
        pipe.deaf = True
        if all(each.deaf for each in pipe.connection.pipes):
            self._drop(pipe.connection)

    def _flush(self, pipe: Pipe) -> None:
        """Put the lanes onto the wire: control first, then custody."""
        if pipe.cuts or pipe.not_before > self.clock.now:
            return
        waiting = pipe.control + pipe.custody
        pipe.control, pipe.custody = [], []
        at = self.clock.now + self._travel_seconds()
        if pipe.wire:
            at = max(at, pipe.wire[-1][0])
        pipe.wire.extend((at, message, seq, ack) for _, message, seq, ack in waiting)
        self.clock.at(at, self._pump, pipe)

    def _shut(self, pipe: Pipe) -> None:
        pipe.cuts += 1
        patience = self.rng.uniform(*KERNEL_PATIENCE_SECONDS)
        self.clock.after(patience, self._time_out, pipe)

    def _open(self, pipe: Pipe) -> None:
        if not pipe.cuts:
            return
        pipe.cuts -= 1
        if not pipe.cuts:
            again = self.clock.now + self.rng.uniform(0.0, RETRANSMIT_SECONDS_MAX)
            pipe.not_before = max(pipe.not_before, again)
            self.clock.at(pipe.not_before, self._pump, pipe)

    def _time_out(self, pipe: Pipe) -> None:
        """The kernel gives a connection up that has been cut for long: both ends are told."""
        connection = pipe.connection
        if connection.number not in self.connections or not pipe.cuts:
            return
        connection.broken = True
        for each in connection.pipes:
            each.wire.clear()
            each.control.clear()
            each.custody.clear()
            each.unsent = True
            if each.target.alive and not each.deaf:
                self._tell_down(each, "timed out")
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.connections.pop(connection.number, None)
        for pipe in connection.pipes:
            self._of.get(pipe.source.number, {}).pop(connection.number, None)

    def _sever(self, pipe: Pipe) -> None:
        """Some of what is under way arrives, the rest is gone, then the target is told."""
        self._truncate(pipe)
        pipe.unsent = True
        at = self.clock.now + self._travel_seconds()
        if pipe.wire:
            at = max(at, pipe.wire[-1][0])
        pipe.wire.append((at, None, 0, 0))
        self.clock.at(at, self._pump, pipe)

    def _truncate(self, pipe: Pipe) -> None:
        pipe.control.clear()
        pipe.custody.clear()
        luck = self.rng.random()
        if luck < 0.4:
            keep = 0
        elif luck < 0.7:
            keep = len(pipe.wire)
        else:
            keep = self.rng.randint(0, len(pipe.wire))
        while len(pipe.wire) > keep:
            pipe.wire.pop()
            self.lost += 1
