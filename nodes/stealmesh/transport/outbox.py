"""What waits to be sent on links, and when it is tried again.

Decides when queues are flushed: when the socket has room, when the peer has read enough, and once more
after a pause, for libzmq may have swallowed its signal. Refuses to know what the messages are.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq

from stealmesh.transport.link_table import LinkTable
from stealmesh.transport.links import Link, LinkPhase, Port
from stealmesh.transport.timers import Timers

RETRY_SECONDS_MIN = 0.005
RETRY_SECONDS_MAX = 0.1


class Outbox:
    def __init__(self, table: LinkTable, timers: Timers) -> None:
        self._table = table
        self._timers = timers
        self._retry_armed = False
        self._retry_seconds = RETRY_SECONDS_MIN

    def flush(self, link: Link) -> None:
        """Send what waits while there is room, and look at the port again if anything went out."""
        before = link.queued_octets
        try:
            done = link.port.flush(link)
        except zmq.ZMQError as error:
            self._table.failed(link, error)
            return
        if link.queued_octets != before:
            self._table.touched[link.port] = None
            self._retry_seconds = RETRY_SECONDS_MIN
        if not done:
            self._arm_retry()
        elif link.state is LinkPhase.ENDING and (link.routing_id or link.send_flow.is_read()):
            self._table.end(link)

    def flush_blocked(self, port: Port) -> None:
        for link in list(port.blocked.values()):
            self.flush(link)

    def give_up(self, link: Link) -> None:
        """A hung-up link has had its time."""
        if link.state is LinkPhase.ENDING:
            self._table.end(link)

    def _arm_retry(self) -> None:
        """libzmq signals room on the descriptor. Another call may have swallowed that, so we try again."""
        if not self._retry_armed:
            self._retry_armed = True
            self._timers.after(self._retry_seconds, self._retry)

    def _retry(self) -> None:
        self._retry_armed = False
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
        links = self._table.links.values()
        self._table.touched.update((link.port, None) for link in links if link.port.blocked)

    def flush_all(self, seconds: float, look: Callable[[], None]) -> None:
        """Send all that waits, for at most `seconds`. `look` reads every socket in between: that makes
        libzmq notice room, and tells which peers have gone."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            waiting = [link for link in self._table.links.values() if _has_last_words(link)]
            if not waiting:
                return
            for link in waiting:
                link.send_flow.open()
                self.flush(link)
            look()
            time.sleep(0.002)


def _has_last_words(link: Link) -> bool:
    """Is there anything still to go out, or more out than the peer has read?"""
    return bool(link.queued_octets) or not link.send_flow.is_read()
