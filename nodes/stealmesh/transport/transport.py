"""All sockets of one process, between the effects of the core and the events that it hears.

Does: Dial, Hangup, Send and Probe become socket operations; what happens on the sockets becomes
LinkUp, LinkDown, Heard, Garbled and Probed. Decides nothing else: the core decides which peers to dial,
what to answer and when to give up a peer.

How a driver uses it (one thread owns the transport; there is no asyncio and no thread but the ZAP
handler's)::

    for fd, _ in transport.epoll.poll(min(transport.wait_seconds(), …)):
        events += transport.ready(fd)          # fds in transport.fds
    …  core.step(events) → effects → transport.dial / hangup / send / probe  …
    events += transport.settle()               # always, before the next poll

settle() is not optional. A ZeroMQ descriptor says "look at me" once, and any send or receive can
swallow that; so the transport looks again at each socket touched since its last look. A second thread
may call send() and settle() while the owner sleeps in poll(), if a lock keeps the two apart; it
wakes the owner if settle() returned events or wait_seconds() fell.

Link numbers: the core numbers what it dials (even), the transport what it accepts (odd).

The transport reads all that a peer said before its connection ended, and tells the end after that
(LinkDown). In the other direction it waits a little after a hang-up until the peer has read the last
words (see flow.py): when the peer says anything to a closed socket, the kernel throws away what it has
not delivered yet, and libzmq does so with the rest of an ipc connection if its queue is full. What fits
into the buffers is not waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable
from itertools import count
from math import inf

import zmq

from stealmesh.host.security import AnyKey
from stealmesh.transport import link_table, probes
from stealmesh.transport.accepted import AcceptedLinks
from stealmesh.transport.descriptor_watch import DescriptorWatch
from stealmesh.transport.keys import Ways, keys_of
from stealmesh.transport.link_table import LinkTable
from stealmesh.transport.links import (
    FRAMES_MAX,
    OURS,
    Link,
    LinkPhase,
    Port,
    SplitMessage,
    new_port,
)
from stealmesh.transport.outbox import Outbox
from stealmesh.transport.reasons import refuse_open_doors, why_down, why_undialled
from stealmesh.transport.sockets import (
    HANDSHAKE_SECONDS,
    TransportError,
    bind,
    fd_of,
    new_context,
    new_inbox,
    open_monitor,
    raise_descriptor_limit,
    read_monitor,
)
from stealmesh.transport.timers import Timers
from stealmesh.transport.traffic import Traffic
from stealmesh.transport.wire import Codec, Frames, Unreadable, WireCodec
from stealmesh.transport.zap import ZapHandler
from stealmesh_engine.events import (
    CameBy,
    Event,
    Garbled,
    Heard,
    LinkDown,
    LinkId,
    LinkUp,
    Probed,
)
from stealmesh_protocol.conversation import ON_THE_SPOT
from stealmesh_protocol.limits import BULK_OCTETS_MIN
from stealmesh_protocol.messages import Bye, Message, Taken

MESSAGES_AT_ONCE = 200
CONTROL_QUEUE_MAX = 4096
CONTROL_OCTETS_MAX = 16 << 20
"""Bounds of the control messages that wait on one link. Beyond them the oldest are dropped."""
ANSWERS_OCTETS_MAX = 64 << 20
"""A link with more than this in its queue drops large answers: the peer asks again."""
FLUSH_SECONDS = 1.0

_CLOSED_TO_SENDS = (LinkPhase.ENDING, LinkPhase.BROKEN, LinkPhase.GONE)
_LISTENING = (LinkPhase.OPEN, LinkPhase.BROKEN)
_pid = os.getpid()
"""Kept in a variable, because every message asks for it."""


def _forked() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


class Transport:
    """All links of one process. See the module's text for how a driver uses it."""

    def __init__(
        self,
        key: AnyKey | None,
        listen: Iterable[str] = (),
        *,
        codec: Codec | None = None,
        epoll: select.epoll | None = None,
        insecure_public: bool = False,
    ) -> None:
        """Without a key nothing is encrypted and no peer proves itself (`--insecure`): loopback only,
        unless `insecure_public` says that the network itself is trusted. Raises TransportError."""
        addresses = list(listen)
        if key is None and not insecure_public:
            refuse_open_doors(addresses)
        raise_descriptor_limit()
        self.traffic = Traffic()
        self.endpoints: list[str] = []
        self.epoll = select.epoll() if epoll is None else epoll
        self._table = LinkTable(self.epoll)
        self.counts, self.fds = self._table.counts, self._table.fds
        self._links, self._touched = self._table.links, self._table.touched
        self._descriptors = DescriptorWatch(self.counts)
        self._timers = Timers()
        self._outbox = Outbox(self._table, self._timers)
        self._owns_epoll = epoll is None
        self._codec = WireCodec() if codec is None else codec
        self._pid = _pid
        self._keys = None if key is None else keys_of(key, listens=bool(addresses))
        self._ours = self._keys.says if self._keys else "none, this side is --insecure"
        self._ways = Ways(() if self._keys is None else self._keys.ways)
        self._by_routing_id: dict[bytes, Link] = {}
        self._accepted_numbers = count(1, 2)
        self._told: list[Event] = []
        self._allowance = MESSAGES_AT_ONCE
        self._calls: set[probes.ProbeCall] = set()
        self._inbox: Port | None = None
        self._closed = False
        self._context = new_context()
        self._zap = None
        try:
            if addresses:
                if self._keys is not None:
                    self._zap = ZapHandler(self._context, self._keys.let_in or {})
                self._listen(addresses)
        except BaseException:
            self.close(flush_seconds=0.0)
            raise

    @property
    def counters(self) -> dict[str, int]:
        """What was refused or dropped, by reason."""
        return dict(self.counts) | ({} if self._zap is None else self._zap.counters())

    def queued_octets(self, link: LinkId) -> int:
        """Octets that wait for room on the wire. Custody is never dropped: watch this and send less."""
        known = self._links.get(link)
        return 0 if known is None else known.queued_octets

    def peer_address(self, link: LinkId) -> str:
        """The address that an accepted peer comes from; empty when unknown."""
        known = self._links.get(link)
        return "" if known is None else known.peer_address

    # ------------------------------------------------------------ the driver's loop

    def ready(self, fd: int) -> list[Event]:
        """Look at what fired. An fd that has gone since is no error."""
        if self._pid != _pid:
            raise _made_before_a_fork()
        events: list[Event] = []
        handler = self.fds.get(fd)
        if handler is not None:
            self._allowance = MESSAGES_AT_ONCE
            handler(events)
        return events

    def settle(self) -> list[Event]:
        """Look again at every socket touched, until nothing is left or 200 messages are read."""
        if self._pid != _pid:
            raise _made_before_a_fork()
        if self._timers.heap:
            self._timers.fire()
        if not (self._touched or self._told):
            return []
        events, self._told = self._told, []
        self._allowance = MESSAGES_AT_ONCE
        for _ in range(len(self._touched) + MESSAGES_AT_ONCE):
            if not self._touched or self._allowance <= 0:
                break
            port = next(iter(self._touched))
            del self._touched[port]
            if port.is_readable() or port.skipping:
                self._drain(port, events)
            elif port.downs:
                self._table.tell_downs(port, events)
            if port.blocked:
                self._outbox.flush_blocked(port)
        if self._told:
            events += self._told
            self._told = []
        return events

    def look_again(self) -> None:
        """Have the next settle() look at every socket: one signals once, and some path may miss it."""
        for link in self._links.values():
            self._touched[link.port] = None
        if self._inbox is not None:
            self._touched[self._inbox] = None
            self._descriptors.look()
        if self._zap is not None:
            self._zap.look()

    def wait_seconds(self) -> float:
        """How long the driver may sleep: 0 while more is waiting, infinity when nothing is due."""
        if self._touched or self._told:
            return 0.0
        timers = self._timers.heap
        return max(0.0, timers[0][0] - time.monotonic()) if timers else inf

    # ------------------------------------------------------------ effects

    def dial(self, link: LinkId, endpoint: str) -> None:
        assert link % 2 == 0, "odd numbers are those of accepted links"
        assert link not in self._links, "a link number is never used again"
        if self._pid != _pid:
            raise _made_before_a_fork()
        ways = self._ways.to(endpoint)
        try:
            port = new_port(self._context, ways[0] if ways else None, endpoint)
        except zmq.ZMQError as error:
            self._told.append(LinkDown(link, why_undialled(error)))
            return
        dialled = Link(link, port, self._codec.reader(), endpoint)
        dialled.is_dialled(ways)
        self._links[link] = dialled
        self._goes_through(dialled, port)
        self._timers.after(HANDSHAKE_SECONDS, lambda: self._table.give_up_dialling(dialled))

    def hangup(self, link: LinkId) -> None:
        """Send what is queued, for a second at most; drop and count what comes in."""
        if self._pid != _pid:
            raise _made_before_a_fork()
        known = self._links.get(link)
        if known is None or known.state is LinkPhase.ENDING:
            return
        was, known.state = known.state, LinkPhase.ENDING
        known.send_flow.open()
        if known.routing_id:
            # An inbox cannot cut one peer off, only ignore it.
            known.port.deaf.add(known.routing_id)
        if was is LinkPhase.BROKEN:
            return  # about to be forgotten, now without a LinkDown
        if was is LinkPhase.DIALLING:
            self._table.drop_queue(known)
        self._outbox.flush(known)
        if known.number in self._links:
            self._timers.after(FLUSH_SECONDS, lambda: self._outbox.give_up(known))

    def send(self, link: LinkId, message: Message, seq: int = 0, ack: int = 0) -> None:
        if self._pid != _pid:
            raise _made_before_a_fork()
        known = self._links.get(link)
        if known is None or known.state in _CLOSED_TO_SENDS:
            self.counts["dropped:sent-to-a-gone-link"] += 1
            return
        frames = self._codec.encode(message, seq, ack, not known.same_host)
        octets = sum(map(len, frames if isinstance(frames, list) else _blobs_of(message)))
        self.traffic.said[message.TAG] += 1
        self.traffic.said_octets[message.TAG] += octets
        # BYE ends what was said before it and so never overtakes; nor do large answers.
        large = octets >= BULK_OCTETS_MIN and bool(_blobs_of(message))
        overtakes = not (seq or large or type(message) is Bye)
        if large and not seq and known.queued_octets > ANSWERS_OCTETS_MAX:
            self.counts["dropped:answer-too-much"] += 1
            return
        if not isinstance(frames, list):
            known.queue(known.custody, SplitMessage(frames, octets))
        elif (
            known.queued_octets
            or known.state is LinkPhase.DIALLING
            or not (octets < BULK_OCTETS_MIN or overtakes or known.send_flow.has_room(octets))
        ):
            known.queue(known.control if overtakes else known.custody, frames)
            while (
                len(known.control) > CONTROL_QUEUE_MAX or known.control_octets > CONTROL_OCTETS_MAX
            ):
                known.shed()
                self.counts["dropped:control-queue-full"] += 1
        else:
            self._touched[known.port] = None
            try:
                if known.port.put(known, frames, octets):
                    return
            except zmq.ZMQError as error:
                self._table.failed(known, error)
                return
            known.queue(known.control if overtakes else known.custody, frames)
        if known.state is not LinkPhase.DIALLING and known.number not in known.port.blocked:
            self._outbox.flush(known)

    def probe(self, endpoint: str) -> None:
        if self._pid != _pid:
            raise _made_before_a_fork()
        answer = probes.call(endpoint)
        if not isinstance(answer, probes.ProbeCall):
            self._told.append(Probed(endpoint, answer))
            return
        self._calls.add(answer)
        self.epoll.register(answer.fd, select.EPOLLOUT)
        self.fds[answer.fd] = lambda events: self._end_probe(answer, answer.outcome(), events)
        self._timers.after(probes.PROBE_SECONDS, lambda: self._end_probe(answer, None, self._told))

    def close(self, flush_seconds: float = FLUSH_SECONDS) -> None:
        """Send what is queued, for about a second, and leave no descriptor behind."""
        if self._closed or self._pid != _pid:
            return  # in a forked child the sockets belong to the parent
        self._closed = True
        self._outbox.flush_all(flush_seconds, self._look_everywhere)
        for call in self._calls:
            self._table.unwatch(call.fd)
            call.close()
        linger = link_table.LINGER_MILLISECONDS if flush_seconds else 0
        ports = {link.port for link in self._links.values()}
        for port in ports | ({self._inbox} if self._inbox else set()):
            self._table.close_port(port, linger)
        self._links.clear()
        if self._zap is not None:
            self._zap.close()
        self._context.destroy(0)  # waits for what lingers; after a failed start it also tidies up
        if self._owns_epoll:
            self.epoll.close()

    # ------------------------------------------------------------ listening

    def _listen(self, addresses: list[str]) -> None:
        socket = new_inbox(self._context, self._keys)
        monitor = open_monitor(socket, inbox=True)
        inbox = self._inbox = Port(socket, monitor)
        self._table.accepted = AcceptedLinks(monitor, self.counts)
        self._by_routing_id = self._table.accepted.by_routing_id
        self._table.watch(inbox.fd, lambda events: self._drain(inbox, events))
        self._table.watch(fd_of(monitor), self._read_inbox_monitor)
        self.endpoints = [bind(socket, address) for address in addresses]

    def _accept(self, routing_id: bytes, first: zmq.Frame, events: list[Event]) -> Link:
        assert self._inbox is not None
        assert self._table.accepted is not None
        link = Link(next(self._accepted_numbers), self._inbox, self._codec.reader(), "")
        link.routing_id = routing_id
        self._links[link.number] = link
        for ended in self._table.accepted.introduce(link, first):
            self._table.break_link(ended, "connection closed")
        if link.let_in != OURS:
            events.append(CameBy(link.number, *link.let_in))
        return link

    def _read_inbox_monitor(self, events: list[Event]) -> None:
        assert self._table.accepted is not None
        for link in self._table.accepted.read_monitor():
            self._table.break_link(link, "connection closed")

    # ------------------------------------------------------------ dialled links

    def _goes_through(self, link: Link, port: Port) -> None:
        assert port.monitor is not None
        link.port, port.link = port, link
        self._table.watch(port.fd, lambda events: self._drain(port, events))
        self._table.watch(fd_of(port.monitor), lambda events: self._read_link_monitor(link, events))

    def _redial(self, link: Link) -> None:
        """The listener does not know our key, or has another: try the next pair that we have."""
        if link.state is not LinkPhase.DIALLING:
            return
        try:
            port = new_port(self._context, link.next_way(), link.endpoint)
        except zmq.ZMQError as error:
            self._table.break_link(link, why_undialled(error))
            return
        self._table.close_port(link.port, 0)
        self._goes_through(link, port)

    def _read_link_monitor(self, link: Link, events: list[Event]) -> None:
        assert link.port.monitor is not None
        while link.state is not LinkPhase.GONE and (event := read_monitor(link.port.monitor)):
            if event.kind == zmq.EVENT_CONNECTED:
                link.connected = True
            elif event.kind != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                if link.may_try_another_way():  # later: what fired with this has to find its port
                    self._table.unwatch(fd_of(link.port.monitor))
                    self._timers.after(0.0, lambda: self._redial(link))
                    return
                self._table.break_link(link, why_down(link, event.kind, event.value, self._ours))
            elif link.state is LinkPhase.DIALLING:
                link.state = LinkPhase.OPEN
                self._ways.worked(link.endpoint, link.ways)
                events.append(LinkUp(link.number))
                self._outbox.flush(link)

    # ------------------------------------------------------------ hearing

    def _drain(self, port: Port, events: list[Event]) -> None:
        """Read the port until nothing is left, then tell which of its links broke."""
        self._touched[port] = None  # settle() asks once more, and gives blocked links their turn
        readable = True  # as its descriptor or `settle` says
        while self._allowance > 0:
            # Asking first: receiving from an empty socket raises, which costs three times as much.
            readable = readable or port.is_readable() or port.skipping
            received = port.receive() if readable else None
            readable = False
            if received is None:
                if port.skipping:
                    self._allowance = 0
                elif port.downs:
                    self._table.tell_downs(port, events)
                elif not port.blocked:
                    # What comes after this look fires: settle() need not look, unless we send.
                    self._touched.pop(port, None)
                return
            self._allowance -= 1
            routing_id, frames, first = received
            link = port.link or self._by_routing_id.get(routing_id)
            if link is None:
                link = self._accept(routing_id, first, events)
            if self._closed or link.state is LinkPhase.ENDING:
                self._hear_taken(link, frames)
            elif link.state in _LISTENING:
                self._hear(link, frames, events)
            else:
                self.counts[f"dropped:{link.state.value}"] += 1

    def _hear(self, link: Link, frames: Frames, events: list[Event]) -> None:
        octets = sum(map(len, frames))
        if link.receive_flow.take(octets) and link.state is LinkPhase.OPEN:
            self.send(link.number, Taken(link.receive_flow.octets))
        try:
            if len(frames) > FRAMES_MAX:
                raise Unreadable("too-many-frames")
            heard = link.reader.read(frames)
        except Unreadable as error:
            self.counts[f"garbled:{error.reason}"] += 1
            if not error.quarantine:
                return  # a later minor version may say it: the link goes on
            events.append(Garbled(link.number, error.reason))
            if link.state is LinkPhase.OPEN:
                link.state = LinkPhase.QUARANTINED
                if link.routing_id:
                    link.port.deaf.add(link.routing_id)
            return
        if heard is None:
            return
        message = heard.message
        self.traffic.heard[message.TAG] += 1
        self.traffic.heard_octets[message.TAG] += heard.octets
        if message.TAG in ON_THE_SPOT and self._has_gone(link, events):
            self.counts["dropped:asked-and-gone"] += 1
        elif type(message) is Taken:
            link.send_flow.heard(message.octets, time.monotonic())
            self._outbox.flush(link)
        else:
            events.append(Heard(link.number, message, heard.seq, heard.ack, heard.octets))

    def _hear_taken(self, link: Link, frames: Frames) -> None:
        """On a link that ends we only want to know how much of ours the peer has read."""
        message = None
        with contextlib.suppress(Unreadable):
            heard = link.reader.read(frames) if frames else None
            message = None if heard is None else heard.message
        if type(message) is Taken:
            link.send_flow.heard(message.octets, time.monotonic())
            # Later: it may be the end of the port that is being read.
            self._timers.after(0.0, lambda: self._outbox.flush(link))
        else:
            self.counts["dropped:closing" if self._closed else "dropped:ending"] += 1

    def _has_gone(self, link: Link, events: list[Event]) -> bool:
        """Has the connection ended? Reads all that the monitor has told."""
        if link.routing_id:
            self._read_inbox_monitor(events)
        return link.state is LinkPhase.BROKEN

    # ------------------------------------------------------------ probes, the end, processes

    def _look_everywhere(self) -> None:
        """Also at what did not fire. What is heard now is dropped."""
        for fd in list(self.fds):
            self.ready(fd)
        self.settle()

    def _end_probe(
        self, call: probes.ProbeCall, listening: bool | None, events: list[Event]
    ) -> None:
        if call not in self._calls:
            return
        self._calls.discard(call)
        self._table.unwatch(call.fd)
        call.close()
        events.append(Probed(call.endpoint, listening))


def _blobs_of(message: Message) -> list[bytes]:
    blobs: list[bytes] = getattr(message, "blobs", [])
    return blobs


def _made_before_a_fork() -> TransportError:
    return TransportError(
        "this transport was made before a fork and belongs to the parent process: start "
        "processes with the 'spawn' method, or open a mesh of its own in the child"
    )
