"""Which peer is behind which accepted connection.

Decides which link a routing id and a descriptor stand for, and why a connection was turned away. It
reads the inbox's monitor; the transport decides what follows from a connection's end.

Each message names the descriptor that it came by (SRCFD), and so does the monitor when that
connection ends. The system uses descriptors again. So at each new routing id we first read the monitor
to its end, which has the end of the connection that had this number before.
"""

from __future__ import annotations

from collections import Counter

import zmq

from stealmesh.transport.keys import LetIn
from stealmesh.transport.links import Link
from stealmesh.transport.probes import is_same_host
from stealmesh.transport.sockets import MECHANISM_MISMATCH, SOURCE_FD, read_monitor
from stealmesh_protocol.passes import KeyRole

_REFUSALS = {
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "refused:wrong-key",
    MECHANISM_MISMATCH: "refused:other-security",
}
_NOTHING_SAID = "refused:ended-before-a-message"
"""A stranger that is no ZeroMQ, a probe, or a peer that left without a word."""


class AcceptedLinks:
    def __init__(self, monitor: zmq.Socket[bytes], counts: Counter[str]) -> None:
        self.by_routing_id: dict[bytes, Link] = {}
        self._monitor = monitor
        self._counts = counts
        self._by_fd: dict[int, Link] = {}
        self._live_fds: set[int] = set()
        self._refusal = _NOTHING_SAID
        """Why the next connection that ends has failed: the failure itself names no descriptor."""

    def read_monitor(self) -> list[Link]:
        """Take in all that has happened. Returns the links with ended connections."""
        ended = []
        while event := read_monitor(self._monitor):
            if event.kind == zmq.EVENT_ACCEPTED:
                self._live_fds.add(event.value)
            elif event.kind == zmq.EVENT_DISCONNECTED:
                self._live_fds.discard(event.value)
                link = self._by_fd.pop(event.value, None)
                if link is not None:
                    ended.append(link)
                else:
                    self._counts[self._refusal] += 1
                self._refusal = _NOTHING_SAID
            else:
                self._refusal = _REFUSALS.get(event.value, "refused:handshake-broken")
        return ended

    def introduce(self, link: Link, first: zmq.Frame) -> list[Link]:
        """A first message from `link.routing_id` has come. Returns the links that have ended meanwhile."""
        ended = self.read_monitor()
        link.fd, link.peer_address = _facts_of(first)
        link.let_in = _let_in(first)
        link.same_host = link.peer_address.startswith("localhost") or is_same_host(
            f"tcp://{link.peer_address}:0"
        )
        self.by_routing_id[link.routing_id] = link
        before = self._by_fd.pop(link.fd, None)
        if before is not None:
            ended.append(before)
        if link.fd in self._live_fds:
            self._by_fd[link.fd] = link
        elif link.fd >= 0:  # otherwise only a failing send will tell
            ended.append(link)  # gone before its first message was read
        return ended

    def forget(self, link: Link) -> None:
        if self.by_routing_id.get(link.routing_id) is link:
            del self.by_routing_id[link.routing_id]
            link.port.deaf.discard(link.routing_id)
        if self._by_fd.get(link.fd) is link:
            del self._by_fd[link.fd]


def _let_in(first: zmq.Frame) -> LetIn:
    """With which key the connection of this frame was made, as the ZAP handler has said."""
    try:
        return LetIn.of(str(first.get("User-Id")))
    except (zmq.ZMQError, ValueError):
        return LetIn(KeyRole.PEER)  # --insecure: nobody has a key


def _facts_of(first: zmq.Frame) -> tuple[int, str]:
    """The descriptor that a frame came by, and the peer's address; (-1, "") if libzmq does not say."""
    try:
        return int(first.get(SOURCE_FD)), str(first.get("Peer-Address"))
    except zmq.ZMQError:
        return -1, ""
