"""All links of one process with their descriptors, and how a link ends.

State below the transport: which links there are, which sockets were touched since the last look, and
which links broke. Refuses to know what is sent and heard (transport.py, outbox.py).
"""

from __future__ import annotations

import select
from collections import Counter
from collections.abc import Callable

import zmq

from stealmesh.transport.accepted import AcceptedLinks
from stealmesh.transport.links import Link, LinkPhase, Port, is_unreachable
from stealmesh.transport.sockets import fd_of
from stealmesh_engine.events import Event, LinkDown, LinkId

LINGER_MILLISECONDS = 500
"""How long libzmq may go on sending what it has when we close a socket."""


class LinkTable:
    def __init__(self, epoll: select.epoll) -> None:
        self.epoll = epoll
        self.counts: Counter[str] = Counter()
        self.fds: dict[int, Callable[[list[Event]], None]] = {}
        self.links: dict[LinkId, Link] = {}
        self.touched: dict[Port, None] = {}
        """Ports to look at again: a send or a receive may have swallowed their only signal."""
        self.accepted: AcceptedLinks | None = None

    # ------------------------------------------------------------ descriptors

    def watch(self, fd: int, handler: Callable[[list[Event]], None]) -> None:
        self.fds[fd] = handler
        self.epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Before the descriptor is closed: libzmq closes its own later, when the number may be another's."""
        if self.fds.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    # ------------------------------------------------------------ endings

    def failed(self, link: Link, error: zmq.ZMQError) -> None:
        """A send has failed. Raises it again unless it says that the peer is gone."""
        if not is_unreachable(error):
            raise error
        self.break_link(link, "connection closed")

    def give_up_dialling(self, link: Link) -> None:
        if link.state is LinkPhase.DIALLING:
            self.break_link(link, "no answer")

    def break_link(self, link: Link, reason: str) -> None:
        """The connection is gone. `tell_downs` says so when everything that came before has been read."""
        if link.state in (LinkPhase.BROKEN, LinkPhase.GONE):
            return
        if link.state is not LinkPhase.ENDING:
            link.state = LinkPhase.BROKEN
        self.drop_queue(link)
        link.port.downs.append((link, reason))
        self.touched[link.port] = None

    def tell_downs(self, port: Port, events: list[Event]) -> None:
        downs, port.downs = port.downs, []
        for link, reason in downs:
            if link.state is LinkPhase.BROKEN:
                events.append(LinkDown(link.number, reason))
            if link.state is not LinkPhase.GONE:
                self._forget(link, linger=0)

    def end(self, link: Link) -> None:
        """A hung-up link has said everything, or had its time to."""
        self.drop_queue(link)
        if link.port.link is link:
            self._forget(link, linger=LINGER_MILLISECONDS if link.sent else 0)
        else:
            self.links.pop(link.number, None)  # stays known by its routing id, as one to ignore

    def drop_queue(self, link: Link) -> None:
        unsent = len(link.control) + len(link.custody)
        if unsent:
            self.counts["dropped:unsent"] += unsent
        link.clear()
        link.port.blocked.pop(link.number, None)

    def _forget(self, link: Link, linger: int) -> None:
        link.state = LinkPhase.GONE
        self.drop_queue(link)
        self.links.pop(link.number, None)
        if link.port.link is link:
            self.close_port(link.port, linger)
        elif self.accepted is not None:
            self.accepted.forget(link)

    def close_port(self, port: Port, linger: int) -> None:
        self.touched.pop(port, None)
        self.unwatch(port.fd)
        if port.monitor is not None:
            self.unwatch(fd_of(port.monitor))
        port.close(linger)
