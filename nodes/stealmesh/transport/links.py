"""A link, and the ZeroMQ socket that it runs through.

A link is one connection as the core knows it, with what waits to be said on it. A port is one socket.
A dialled link has a port (a DEALER) to itself; all accepted links share the inbox (a ROUTER). A port
sends what a link has to say while the socket takes it, control before custody, and bounds the frames
of what it reads. This file knows neither events nor time, nor why a message is sent; the transport
tells it and asks it.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice

import zmq

from stealmesh.transport.flow import ReceiveFlow, SendFlow
from stealmesh.transport.keys import CurveWay, LetIn
from stealmesh.transport.probes import is_same_host
from stealmesh.transport.sockets import (
    DONT_WAIT,
    EVENTS,
    MORE_DONT_WAIT,
    READABLE,
    close_monitored,
    fd_of,
    new_dialer,
    open_monitor,
)
from stealmesh.transport.wire import Frames, MessageReader
from stealmesh_protocol.codec import KIND_AT
from stealmesh_protocol.limits import BULK_OCTETS_MIN
from stealmesh_protocol.messages import Taken, ValuePut
from stealmesh_protocol.passes import KeyRole

FRAMES_MAX = 34
"""Header, body and 32 buffers; what has more is no message of ours."""
SKIP_FRAMES_AT_ONCE = 10_000
BIG_FRAME_OCTETS = 64 * 1024
"""From here on libzmq is given the octets themselves and not a copy (measured: 5 µs against 200 µs
for 256 KiB); below, the bookkeeping of a shared frame costs more than the copy."""
PIECE_OF_VALUE = bytes([ValuePut.TAG])
"""The octets of such a message are written to where the value is kept, once, and not looked at. So they are taken from
where libzmq has them."""


OURS = LetIn(KeyRole.PEER)


class LinkPhase(Enum):
    DIALLING = "dialling"
    OPEN = "open"
    ENDING = "ending"
    """Hung up: what was sent still goes out, what comes in is dropped."""
    QUARANTINED = "quarantined"
    """It sent something that is no message: what comes in is dropped, unread."""
    BROKEN = "broken"
    """The connection is gone, but not all that came by it has been read."""
    GONE = "gone"


class SplitMessage:
    """A big message on its way: its parts are made one by one, as the socket takes them."""

    __slots__ = ("octets_left", "parts")

    def __init__(self, parts: Iterator[Frames], octets: int) -> None:
        self.parts = parts
        self.octets_left = octets


class Link:
    """One connection as the core knows it."""

    __slots__ = (
        "connected", "control", "control_octets", "custody", "dialled_at", "endpoint", "fd", "let_in", "number",
        "peer_address", "port", "queued_octets", "reader", "receive_flow", "routing_id", "same_host",
        "send_flow", "sent", "state", "ways",
    )  # fmt: skip

    def __init__(self, number: int, port: Port, reader: MessageReader, endpoint: str) -> None:
        self.number = number
        self.port = port
        self.reader = reader
        self.endpoint = endpoint
        self.routing_id = b""
        self.state = LinkPhase.OPEN
        self.same_host = False
        self.peer_address = ""
        self.fd = -1
        self.let_in = OURS
        """With which key an accepted link was made."""
        self.ways: list[CurveWay] = []
        """Of a dialled link: how else to try, if this way is refused."""
        self.dialled_at = 0.0
        self.connected = False
        self.sent = False
        self.control: deque[Frames | SplitMessage] = deque()
        self.custody: deque[Frames | SplitMessage] = deque()
        self.queued_octets = 0
        self.control_octets = 0
        """The part of them in the lane of control messages."""
        self.send_flow = SendFlow()
        self.receive_flow = ReceiveFlow()

    def is_dialled(self, ways: list[CurveWay]) -> None:
        """It goes out, with the first of these keys; the others are for the case that it is refused."""
        self.ways = ways
        self.state = LinkPhase.DIALLING
        self.dialled_at = time.monotonic()
        self.same_host = is_same_host(self.endpoint)

    def may_try_another_way(self) -> bool:
        """Has a listener answered, and refused the way that we came?"""
        return len(self.ways) > 1 and self.state is LinkPhase.DIALLING and self.connected

    def next_way(self) -> CurveWay:
        del self.ways[0]
        self.connected = False
        return self.ways[0]

    def queue(self, lane: deque[Frames | SplitMessage], item: Frames | SplitMessage) -> None:
        lane.append(item)
        octets = octets_of(item)
        self.queued_octets += octets
        if lane is self.control:
            self.control_octets += octets

    def unqueue(self, lane: deque[Frames | SplitMessage]) -> None:
        """Take off the oldest."""
        octets = octets_of(lane.popleft())
        self.queued_octets -= octets
        if lane is self.control:
            self.control_octets -= octets

    def shed(self) -> None:
        """Drop the oldest control message, but never the last TAKEN: the other side would wait for it
        for ever."""
        if _is_taken(self.control[0]) and not any(map(_is_taken, islice(self.control, 1, None))):
            self.control.rotate(-1)
        self.unqueue(self.control)

    def clear(self) -> None:
        self.control.clear()
        self.custody.clear()
        self.queued_octets = self.control_octets = 0


def _is_taken(item: Frames | SplitMessage) -> bool:
    return isinstance(item, list) and item[0][KIND_AT] == Taken.TAG


Received = tuple[bytes, Frames, zmq.Frame]
"""Routing id (empty on a dialled port), the message's frames, and its first frame, which carries the
facts about the connection. More than FRAMES_MAX frames: it had too many, the rest was thrown away."""


class Port:
    __slots__ = (
        "_option", "blocked", "deaf", "downs", "fd", "link", "monitor", "recv", "send", "skipping",
        "socket",
    )  # fmt: skip

    def __init__(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None) -> None:
        self.socket = socket
        self.monitor = monitor
        self.recv = socket.recv
        self.send: Callable[[bytes, int, bool], object] = super(zmq.Socket, socket).send  # type: ignore[assignment]
        """Without the checks for what we never send: a call less for each frame."""
        self._option = socket.getsockopt
        self.fd = fd_of(socket)
        self.link: Link | None = None
        """The one link of a dialled port; None: this is the inbox."""
        self.blocked: dict[int, Link] = {}
        self.downs: list[tuple[Link, str]] = []
        """Links that broke. Told only when everything that came before has been read."""
        self.deaf: set[bytes] = set()
        """Routing ids that we ignore from now on."""
        self.skipping = False

    def is_readable(self) -> bool:
        """Asking also makes libzmq look at its mailbox, which rearms the descriptor."""
        events: int = self._option(EVENTS)  # type: ignore[assignment]
        return events & READABLE != 0

    # ------------------------------------------------------------ out

    def put(self, link: Link, frames: Frames, octets: int) -> bool:
        """Hand one message to libzmq, whole or not at all; False: no room. Raises when gone."""
        send = self.send
        *before, last = frames
        try:
            if link.routing_id:
                send(link.routing_id, MORE_DONT_WAIT, True)
            for frame in before:
                send(frame, MORE_DONT_WAIT, len(frame) < BIG_FRAME_OCTETS)
            send(last, DONT_WAIT, len(last) < BIG_FRAME_OCTETS)
        except zmq.Again:
            # Also in the middle of a message whose connection broke: libzmq took its frames back.
            return False
        link.sent = True
        if octets >= BULK_OCTETS_MIN:
            link.send_flow.put(octets, time.monotonic())
        else:
            link.send_flow.put_small(octets)
        return True

    def flush(self, link: Link) -> bool:
        """Send what waits, control first, while there is room; False when the socket has none.

        Bulk for which the link has no room yet (see flow.py) is left where it is."""
        while True:
            lane = link.control or link.custody
            if not lane:
                self.blocked.pop(link.number, None)
                return True
            head = lane[0]
            if isinstance(head, SplitMessage):
                draw_part(link, lane, head)
                continue
            octets = octets_of(head)
            if (
                lane is link.custody
                and octets >= BULK_OCTETS_MIN
                and not link.send_flow.has_room(octets)
            ):
                self.blocked.pop(link.number, None)
                return True
            if not self.put(link, head, octets):
                self.blocked[link.number] = link
                return False
            link.unqueue(lane)

    # ------------------------------------------------------------ in

    def receive(self) -> Received | None:
        """The next message; None when there is none at the moment. Never more frames than allowed."""
        if self.skipping and not self.skip():
            return None
        try:
            frame = self.recv(DONT_WAIT, False)
        except zmq.Again:
            return None
        routing_id = b""
        frames: Frames = []
        if self.link is None:
            routing_id = frame.bytes
            if not frame.more:
                return routing_id, frames, frame
            if routing_id in self.deaf:
                self.skip()
                return routing_id, frames, frame
            frame = self.recv(DONT_WAIT, False)
        first = frame
        frames.append(frame.bytes)
        is_piece = frames[0][KIND_AT : KIND_AT + 1] == PIECE_OF_VALUE
        while frame.more:
            if len(frames) > FRAMES_MAX:
                self.skip()
                break
            frame = self.recv(DONT_WAIT, False)
            as_it_lies = is_piece and len(frame) >= BIG_FRAME_OCTETS
            frames.append(frame.buffer if as_it_lies else frame.bytes)  # type: ignore[arg-type]
        return routing_id, frames, first

    def skip(self) -> bool:
        """Throw the rest of an overlong message away, a bounded piece at a time; True at its end."""
        for _ in range(SKIP_FRAMES_AT_ONCE):
            if not self.recv(DONT_WAIT, False).more:
                self.skipping = False
                return True
        self.skipping = True
        return False

    # ------------------------------------------------------------ end

    def close(self, linger_milliseconds: int) -> None:
        if self.monitor is None:
            self.socket.close(linger_milliseconds)
        else:
            close_monitored(self.socket, self.monitor, linger_milliseconds)


def new_port(context: zmq.Context[zmq.Socket[bytes]], way: CurveWay | None, endpoint: str) -> Port:
    """A port that connects there. Raises ZMQError."""
    port = None
    try:
        socket = new_dialer(context, way, endpoint)
        port = Port(socket, None)
        port.monitor = open_monitor(socket, inbox=False)
        socket.connect(endpoint)
    except zmq.ZMQError:
        if port is not None:
            port.close(0)
        raise
    return port


def draw_part(link: Link, lane: deque[Frames | SplitMessage], message: SplitMessage) -> None:
    """Put the next part of a split message in front of it, or take it off the lane at its end."""
    part = next(message.parts, None)
    if part is None:
        lane.popleft()
        link.queued_octets -= message.octets_left
        return
    size = octets_of(part)
    drawn = min(size, message.octets_left)
    message.octets_left -= drawn
    link.queued_octets += size - drawn
    lane.appendleft(part)


def octets_of(item: Frames | SplitMessage) -> int:
    return item.octets_left if isinstance(item, SplitMessage) else sum(map(len, item))


def is_unreachable(error: zmq.ZMQError) -> bool:
    return error.errno == errno.EHOSTUNREACH
