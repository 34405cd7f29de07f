"""The hub: all sockets of one process, between the effects of the core and the events it hears.

Does: Dial, Hangup, Send and Probe become socket operations; what happens on the sockets becomes
LinkUp, LinkDown, Heard, Garbled and Probed. Decides nothing else: whom to dial, what to answer and
when to give up a peer is the core's business.

How a driver uses it (one thread owns the hub; there is no asyncio and no thread but the doorman)::

    for fd, _ in hub.epoll.poll(min(hub.wait_seconds(), …)):
        events += hub.ready(fd)          # fds in hub.fds
    …  core.step(events) → effects → hub.dial / hangup / send / probe  …
    events += hub.settle()               # always, before the next poll

settle() is not a nicety. A ZeroMQ descriptor says "look at me" once, and any send or receive can
swallow that; so each socket touched since it was last looked at is looked at again. A second thread
may call send() and settle() while the owner sleeps in poll(), if a lock keeps the two apart; it
wakes the owner if settle() returned events or wait_seconds() fell.

Link numbers: the core numbers what it dials (even), the hub what it accepts (odd).

What a peer said before its connection ended is read before the end is told (LinkDown). And the
other way round: who hangs up waits a little until its last words are read (see flow.py), because
anything the other side says to a closed socket makes the kernel throw away what it has not
delivered yet, and libzmq does so with the rest of an ipc connection if its queue is full. What fits
into the buffers is not waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from math import inf

import zmq

from stealmesh.host.security import MeshKey
from stealmesh.transport import probes
from stealmesh.transport.accepted import AcceptedLinks
from stealmesh.transport.links import (
    FRAMES_MAX,
    Link,
    LinkPhase,
    Port,
    SplitMessage,
    is_unreachable,
)
from stealmesh.transport.sockets import (
    CONNECT_SECONDS,
    FILES_REMEDY,
    HANDSHAKE_SECONDS,
    MECHANISM_MISMATCH,
    TransportError,
    bind,
    curve_keys,
    fd_of,
    new_context,
    new_dialer,
    new_inbox,
    open_monitor,
    raise_descriptor_limit,
    read_monitor,
)
from stealmesh.transport.traffic import Traffic
from stealmesh.transport.wire import Codec, Frames, Unreadable, WireCodec
from stealmesh.transport.zap import ZapHandler
from stealmesh_engine.events import Event, Garbled, Heard, LinkDown, LinkId, LinkUp, Probed
from stealmesh_protocol.conversation import ON_THE_SPOT
from stealmesh_protocol.limits import BULK_OCTETS_MIN
from stealmesh_protocol.messages import Bye, Message, Taken

MESSAGES_AT_ONCE = 200
CONTROL_QUEUE_MAX = 4096
CONTROL_OCTETS_MAX = 16 << 20
"""What a link that takes nothing may keep waiting of what may be lost; the oldest go first."""
ANSWERS_OCTETS_MAX = 64 << 20
"""Large answers are not even queued behind so much."""
FLUSH_SECONDS = 1.0
LINGER_MILLISECONDS = 500
RETRY_SECONDS_MIN = 0.005
RETRY_SECONDS_MAX = 0.1

_MUTE = (LinkPhase.ENDING, LinkPhase.BROKEN, LinkPhase.GONE)
_LISTENING = (LinkPhase.OPEN, LinkPhase.BROKEN)
_OUT_OF_FILES = f"out of file descriptors: {FILES_REMEDY}"
_pid = os.getpid()
"""Kept, because it is asked with every message."""


def _forked() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)

_DIAL_REFUSALS = {
    errno.EMFILE: _OUT_OF_FILES,
    errno.ENFILE: _OUT_OF_FILES,
    errno.EINVAL: "not an address: use tcp://host:port or ipc:///path",
    errno.EPROTONOSUPPORT: "not an address: use tcp://host:port or ipc:///path",
    errno.ENAMETOOLONG: "the path of the ipc address is too long",
}


class Transport:
    """All links of one process. See the module's text for how a driver uses it."""

    def __init__(
        self,
        key: MeshKey | None,
        listen: Iterable[str] = (),
        *,
        codec: Codec | None = None,
        epoll: select.epoll | None = None,
        insecure_public: bool = False,
    ) -> None:
        """Without a key nothing is encrypted and nobody proven (`--insecure`): loopback only, unless
        `insecure_public` says that the network itself is trusted."""
        addresses = list(listen)
        if key is None and not insecure_public:
            _refuse_open_doors(addresses)
        raise_descriptor_limit()
        self.counts: Counter[str] = Counter()
        self.traffic = Traffic()
        self.endpoints: list[str] = []
        self.fds: dict[int, Callable[[list[Event]], None]] = {}
        self.epoll = select.epoll() if epoll is None else epoll
        self._owns_epoll = epoll is None
        self._codec = WireCodec() if codec is None else codec
        self._pid = _pid
        self._ours = (
            "none, this side is --insecure" if key is None else f"ours: {key.fingerprint()}"
        )
        self._keys = None if key is None else curve_keys(key)
        self._links: dict[LinkId, Link] = {}
        self._by_routing_id: dict[bytes, Link] = {}
        self._accepted_numbers = count(1, 2)
        self._touched: dict[Port, None] = {}
        self._told: list[Event] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = count()
        self._retry_armed = False
        self._retry_seconds = RETRY_SECONDS_MIN
        self._allowance = MESSAGES_AT_ONCE
        self._calls: set[probes.ProbeCall] = set()
        self._inbox: Port | None = None
        self._accepted: AcceptedLinks | None = None
        self._closed = False
        self._context = new_context()
        self._zap = None
        try:
            if addresses:
                if self._keys is not None:
                    self._zap = ZapHandler(self._context, self._keys)
                self._listen(addresses)
        except BaseException:
            self.close(flush_seconds=0.0)
            raise

    @property
    def counters(self) -> dict[str, int]:
        """What was refused or dropped, by reason."""
        refused = 0 if self._zap is None else self._zap.refused
        return dict(self.counts) | ({"refused:unknown-client-key": refused} if refused else {})

    def queued_octets(self, link: LinkId) -> int:
        """What waits for room on the wire; nobody drops custody, so watch it and send less."""
        known = self._links.get(link)
        return 0 if known is None else known.queued_octets

    def peer_address(self, link: LinkId) -> str:
        """Where an accepted peer comes from, as seen from here; empty when not known."""
        known = self._links.get(link)
        return "" if known is None else known.peer_address

    # ------------------------------------------------------------ the driver's loop

    def ready(self, fd: int) -> list[Event]:
        """Look at what fired; an fd that has gone since is no mistake."""
        self._check_fork()
        events: list[Event] = []
        handler = self.fds.get(fd)
        if handler is not None:
            self._allowance = MESSAGES_AT_ONCE
            handler(events)
        return events

    def settle(self) -> list[Event]:
        """Look again at every socket touched, until nothing is left or 200 messages are read."""
        self._check_fork()
        events, self._told = self._told, []
        self._allowance = MESSAGES_AT_ONCE
        if self._timers:
            self._fire_timers()
        for _ in range(len(self._touched) + MESSAGES_AT_ONCE):
            if not self._touched or self._allowance <= 0:
                break
            port = next(iter(self._touched))
            del self._touched[port]
            if port.is_readable() or port.skipping:
                self._drain(port, events)
            elif port.downs:
                self._tell_downs(port, events)
            if port.blocked:
                self._flush_blocked(port)
        if self._told:
            events += self._told
            self._told = []
        return events

    def look_again(self) -> None:
        """Have the next settle() look at every socket. The descriptors speak up once, and whether
        every way of missing that is closed cannot be proven; a look costs a microsecond."""
        for link in self._links.values():
            self._touched[link.port] = None
        if self._inbox is not None:
            self._touched[self._inbox] = None

    def wait_seconds(self) -> float:
        """How long the driver may sleep: 0 while more is waiting, infinity when nothing is due."""
        if self._touched or self._told:
            return 0.0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else inf

    # ------------------------------------------------------------ effects

    def dial(self, link: LinkId, endpoint: str) -> None:
        assert link % 2 == 0, "odd numbers are those of accepted links"
        assert link not in self._links, "a link number is never used again"
        self._check_fork()
        port = None
        try:
            socket = new_dialer(self._context, self._keys, endpoint)
            port = Port(socket, None)
            port.monitor = open_monitor(socket, inbox=False)
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            if port is not None:
                port.close(0)
            reason = _DIAL_REFUSALS.get(error.errno or 0, f"cannot be dialled: {error}")
            self._told.append(LinkDown(link, reason))
            return
        dialled = port.link = Link(link, port, self._codec.reader(), endpoint)
        dialled.state = LinkPhase.DIALLING
        dialled.dialled_at = time.monotonic()
        dialled.same_host = probes.is_same_host(endpoint)
        self._links[link] = dialled
        self._watch(port.fd, lambda events: self._drain(port, events))
        self._watch(fd_of(port.monitor), lambda events: self._read_link_monitor(dialled, events))
        self._after(HANDSHAKE_SECONDS, lambda: self._give_up_dialling(dialled))

    def hangup(self, link: LinkId) -> None:
        """What was sent still goes out, for a second at most; what comes in is dropped and counted."""
        self._check_fork()
        known = self._links.get(link)
        if known is None or known.state is LinkPhase.ENDING:
            return
        was, known.state = known.state, LinkPhase.ENDING
        known.send_flow.open()
        if known.routing_id:
            # An inbox cannot cut one peer off, only ignore it.
            known.port.deaf.add(known.routing_id)
        if was is LinkPhase.BROKEN:
            return  # about to be forgotten, now without a word
        if was is LinkPhase.DIALLING:
            self._drop_queue(known)
        self._flush(known)
        if known.number in self._links:
            self._after(FLUSH_SECONDS, lambda: self._give_up_flushing(known))

    def send(self, link: LinkId, message: Message, seq: int = 0, ack: int = 0) -> None:
        self._check_fork()
        known = self._links.get(link)
        if known is None or known.state in _MUTE:
            self.counts["dropped:sent-to-a-gone-link"] += 1
            return
        frames = self._codec.encode(message, seq, ack, not known.same_host)
        blobs: list[bytes] = getattr(message, "blobs", [])
        octets = sum(map(len, frames if isinstance(frames, list) else blobs))
        self.traffic.said[message.TAG] += 1
        self.traffic.said_octets[message.TAG] += octets
        # BYE ends what was said before it and so never overtakes; nor do large answers.
        large = bool(blobs) and octets >= BULK_OCTETS_MIN
        overtakes = not (seq or large or type(message) is Bye)
        if large and not seq and known.queued_octets > ANSWERS_OCTETS_MAX:
            self.counts["dropped:answer-too-much"] += (
                1  # it may be lost, and will be asked for again
            )
            return
        if not isinstance(frames, list):
            known.queue(known.custody, SplitMessage(frames, octets))
        elif (
            known.queued_octets
            or known.state is LinkPhase.DIALLING
            or not (overtakes or octets < BULK_OCTETS_MIN or known.send_flow.has_room(octets))
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
                self._unreachable(known, error)
                return
            known.queue(known.control if overtakes else known.custody, frames)
        if known.state is not LinkPhase.DIALLING and known.number not in known.port.blocked:
            self._flush(known)

    def probe(self, endpoint: str) -> None:
        self._check_fork()
        answer = probes.call(endpoint)
        if not isinstance(answer, probes.ProbeCall):
            self._told.append(Probed(endpoint, answer))
            return
        self._calls.add(answer)
        self.epoll.register(answer.fd, select.EPOLLOUT)
        self.fds[answer.fd] = lambda events: self._end_probe(answer, answer.outcome(), events)
        self._after(probes.PROBE_SECONDS, lambda: self._end_probe(answer, None, self._told))

    def close(self, flush_seconds: float = FLUSH_SECONDS) -> None:
        """Say what was promised, within about a second, and leave no descriptor behind."""
        if self._closed or self._pid != _pid:
            return  # in a forked child the sockets belong to the parent
        self._closed = True
        self._flush_all(flush_seconds)
        for call in self._calls:
            self._unwatch(call.fd)
            call.close()
        linger = LINGER_MILLISECONDS if flush_seconds else 0
        ports = {link.port for link in self._links.values()}
        for port in ports | ({self._inbox} if self._inbox else set()):
            self._close_port(port, linger)
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
        self._accepted = AcceptedLinks(monitor, self.counts)
        self._by_routing_id = self._accepted.by_routing_id
        self._watch(inbox.fd, lambda events: self._drain(inbox, events))
        self._watch(fd_of(monitor), self._read_inbox_monitor)
        self.endpoints = [bind(socket, address) for address in addresses]

    def _accept(self, routing_id: bytes, first: zmq.Frame) -> Link:
        assert self._inbox is not None
        assert self._accepted is not None
        link = Link(next(self._accepted_numbers), self._inbox, self._codec.reader(), "")
        link.routing_id = routing_id
        self._links[link.number] = link
        for ended in self._accepted.introduce(link, first):
            self._break(ended, "connection closed")
        return link

    def _read_inbox_monitor(self, events: list[Event]) -> None:
        assert self._accepted is not None
        for link in self._accepted.read_monitor():
            self._break(link, "connection closed")

    # ------------------------------------------------------------ dialled links

    def _read_link_monitor(self, link: Link, events: list[Event]) -> None:
        assert link.port.monitor is not None
        while link.state is not LinkPhase.GONE and (event := read_monitor(link.port.monitor)):
            if event.kind == zmq.EVENT_CONNECTED:
                link.connected = True
            elif event.kind != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._break(link, self._why_down(link, event.kind, event.value))
            elif link.state is LinkPhase.DIALLING:
                link.state = LinkPhase.OPEN
                events.append(LinkUp(link.number))
                self._flush(link)

    def _why_down(self, link: Link, kind: int, value: int) -> str:
        """What a person should read: the wire itself is silent about a wrong key, on purpose."""
        if link.state is not LinkPhase.DIALLING:
            return "connection closed"
        if not link.connected:
            late = time.monotonic() - link.dialled_at >= CONNECT_SECONDS
            return "no answer" if late else "connection refused"
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISM_MISMATCH:
            return f"is a mesh with other security: one side is --insecure ({self._ours})"
        if kind == zmq.EVENT_DISCONNECTED:
            return "something else than a Stealmesh node listens there"
        if value in (errno.ETIMEDOUT, errno.EAGAIN):
            return "no answer"
        return f"did not accept this mesh key ({self._ours})"

    def _give_up_dialling(self, link: Link) -> None:
        if link.state is LinkPhase.DIALLING:
            self._break(link, "no answer")

    # ------------------------------------------------------------ hearing

    def _drain(self, port: Port, events: list[Event]) -> None:
        """Read the port until nothing is left, then tell which of its links broke."""
        self._touched[port] = None  # settle() asks once more, and gives blocked links their turn
        while self._allowance > 0:
            # Asking first: a receive in vain raises, which costs five times as much.
            received = port.receive() if port.is_readable() or port.skipping else None
            if received is None:
                if port.skipping:
                    self._allowance = 0
                elif port.downs:
                    self._tell_downs(port, events)
                elif not port.blocked:
                    # What comes after this look fires: settle() need not look, unless we send.
                    self._touched.pop(port, None)
                return
            self._allowance -= 1
            routing_id, frames, first = received
            link = port.link or self._by_routing_id.get(routing_id)
            if link is None:
                link = self._accept(routing_id, first)
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
            events.append(Garbled(link.number, error.reason))
            if error.quarantine and link.state is LinkPhase.OPEN:
                link.state = LinkPhase.QUARANTINED
                if link.routing_id:
                    link.port.deaf.add(link.routing_id)
            return
        if heard is None:
            return
        self.traffic.heard[heard.message.TAG] += 1
        self.traffic.heard_octets[heard.message.TAG] += heard.octets
        if heard.message.TAG in ON_THE_SPOT and self._has_gone(link, events):
            self.counts["dropped:asked-and-gone"] += 1
        elif type(heard.message) is Taken:
            link.send_flow.heard(heard.message.octets, time.monotonic())
            self._flush(link)
        else:
            events.append(Heard(link.number, heard.message, heard.seq, heard.ack, heard.octets))

    def _hear_taken(self, link: Link, frames: Frames) -> None:
        """At the end nothing matters any more but how much of ours has been read."""
        message = None
        with contextlib.suppress(Unreadable):
            heard = link.reader.read(frames) if frames else None
            message = None if heard is None else heard.message
        if type(message) is Taken:
            link.send_flow.heard(message.octets, time.monotonic())
            # Later: it may be the end of the port that is being read.
            self._after(0.0, lambda: self._flush(link))
        else:
            self.counts["dropped:closing" if self._closed else "dropped:ending"] += 1

    def _has_gone(self, link: Link, events: list[Event]) -> bool:
        """Is the connection known to have ended, now that all that has been told of it is read?"""
        if link.routing_id:
            self._read_inbox_monitor(events)
        return link.state is LinkPhase.BROKEN

    # ------------------------------------------------------------ saying

    def _flush(self, link: Link) -> None:
        """Send what waits while there is room, and look at the port again if anything went out."""
        before = link.queued_octets
        try:
            done = link.port.flush(link)
        except zmq.ZMQError as error:
            self._unreachable(link, error)
            return
        if link.queued_octets != before:
            self._touched[link.port] = None
            self._retry_seconds = RETRY_SECONDS_MIN
        if not done:
            self._arm_retry()
        elif link.state is LinkPhase.ENDING and (link.routing_id or link.send_flow.is_read()):
            self._end(link)

    def _flush_blocked(self, port: Port) -> None:
        for link in list(port.blocked.values()):
            self._flush(link)

    def _arm_retry(self) -> None:
        """libzmq signals room on the descriptor; should another call have swallowed that, we try again."""
        if not self._retry_armed:
            self._retry_armed = True
            self._after(self._retry_seconds, self._retry)

    def _retry(self) -> None:
        self._retry_armed = False
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
        self._touched.update(
            (link.port, None) for link in self._links.values() if link.port.blocked
        )

    def _give_up_flushing(self, link: Link) -> None:
        if link.state is LinkPhase.ENDING:
            self._end(link)

    def _drop_queue(self, link: Link) -> None:
        unsent = len(link.control) + len(link.custody)
        if unsent:
            self.counts["dropped:unsent"] += unsent
        link.clear()
        link.port.blocked.pop(link.number, None)

    def _flush_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            waiting = [link for link in self._links.values() if _has_last_words(link)]
            if not waiting:
                return
            for link in waiting:
                link.send_flow.open()
                self._flush(link)
            # Also what did not fire: a look makes libzmq notice room, and who has gone.
            for fd in list(self.fds):
                self.ready(fd)
            self.settle()
            time.sleep(0.002)

    # ------------------------------------------------------------ endings

    def _unreachable(self, link: Link, error: zmq.ZMQError) -> None:
        if not is_unreachable(error):
            raise error
        self._break(link, "connection closed")

    def _break(self, link: Link, reason: str) -> None:
        """The connection is gone. Said by settle() when everything that came before has been read."""
        if link.state in (LinkPhase.BROKEN, LinkPhase.GONE):
            return
        if link.state is not LinkPhase.ENDING:
            link.state = LinkPhase.BROKEN
        self._drop_queue(link)
        link.port.downs.append((link, reason))
        self._touched[link.port] = None

    def _tell_downs(self, port: Port, events: list[Event]) -> None:
        downs, port.downs = port.downs, []
        for link, reason in downs:
            if link.state is LinkPhase.BROKEN:
                events.append(LinkDown(link.number, reason))
            if link.state is not LinkPhase.GONE:
                self._forget(link, linger=0)

    def _end(self, link: Link) -> None:
        """A hung-up link has said everything, or had its time to."""
        self._drop_queue(link)
        if link.port.link is link:
            self._forget(link, linger=LINGER_MILLISECONDS if link.sent else 0)
        else:
            self._links.pop(link.number, None)  # stays known by its routing id, as one to ignore

    def _forget(self, link: Link, linger: int) -> None:
        link.state = LinkPhase.GONE
        self._drop_queue(link)
        self._links.pop(link.number, None)
        if link.port.link is link:
            self._close_port(link.port, linger)
            return
        if self._accepted is not None:
            self._accepted.forget(link)

    def _close_port(self, port: Port, linger: int) -> None:
        self._touched.pop(port, None)
        self._unwatch(port.fd)
        if port.monitor is not None:
            self._unwatch(fd_of(port.monitor))
        port.close(linger)

    # ------------------------------------------------------------ descriptors, timers, processes

    def _watch(self, fd: int, handler: Callable[[list[Event]], None]) -> None:
        self.fds[fd] = handler
        self.epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        """Before the descriptor is closed: libzmq closes its own later, when the number may be another's."""
        if self.fds.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def _end_probe(
        self, call: probes.ProbeCall, listening: bool | None, events: list[Event]
    ) -> None:
        if call not in self._calls:
            return
        self._calls.discard(call)
        self._unwatch(call.fd)
        call.close()
        events.append(Probed(call.endpoint, listening))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heappush(self._timers, (due, next(self._timer_numbers), action))

    def _fire_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heappop(self._timers)[2]()

    def _check_fork(self) -> None:
        if self._pid != _pid:
            raise TransportError(
                "this transport was made before a fork and belongs to the parent process: start "
                "processes with the 'spawn' method, or open a mesh of its own in the child"
            )


def _has_last_words(link: Link) -> bool:
    """Is there anything still to go out, or too much out that nobody has read?"""
    return bool(link.queued_octets) or not link.send_flow.is_read()


def _refuse_open_doors(addresses: list[str]) -> None:
    for address in addresses:
        if not probes.is_same_host(address):
            raise TransportError(
                f"without a key anyone who reaches {address} could run code here: use a mesh key, "
                "or listen on 127.0.0.1"
            )
