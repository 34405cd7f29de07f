"""A worker that is hired out: it takes items from a program on its host, and answers to it.

The node says so in an order, which comes with a socket. From then on the worker reads that socket and not its
orders, so nothing else can reach it. Decides when a hire ends, and who hears of the item that runs then:

* The node wants the worker back (a question that the listener reads, also while a task runs), or is gone.
* The program lets go of its end.
* The item needs the node: it prints, reports, has children, a result that stays, or one too large for a packet.

In each case an item that runs is from that moment on an item like any other: its node hears its number and its
lease (HIRE_ENDS) before it hears anything else of it, and gets its answer. An item is answered to the program, or to the
node, never to both and never to neither: one lock stands between the answer and the end.

A worker that dies says nothing. So the item is written into the shared words before it begins, and taken out once it
is answered: its node reads there what a dead worker was at.

Refuses to know leases and ledgers.
"""

from __future__ import annotations

import _thread
import socket
import struct
from collections.abc import Callable
from typing import Any

from stealmesh.workers import wire
from stealmesh.workers.wire import FrameKind

ORDER = struct.Struct("<QQQQQB")
"""From the program: lease, item, its end, the first item of its block, the end of that, the codec of it; the blob
follows."""
ANSWER = struct.Struct("<QQBdi")
"""To the program: lease, item, codec, seconds, failed; the blob follows."""
ORDER_OCTETS_MAX = 48 * 1024
ANSWER_OCTETS_MAX = 60 * 1024
"""A larger answer goes by the node."""

SPEAKS_OF_ITS_ITEM = frozenset({
    FrameKind.SPOKE, FrameKind.TOLD, FrameKind.NESTS, FrameKind.WAITS, FrameKind.GOES_ON, FrameKind.SEEKS_DOOR,
    FrameKind.STAYS,
})  # fmt: skip
"""What a node hears of an item that is its own only."""


class PresentHire:
    """The present hire of this process, if there is one."""

    def __init__(self) -> None:
        self.item: int | None = None
        """What runs for the program. Read before each frame."""
        self._lid = 0
        self._number = 0
        """Of the hire; 0: there is none, or it has ended."""
        self._ended_before = 0
        """The node wants the worker of this hire back, or of an earlier one."""
        self._lock: Any = _thread.allocate_lock()
        self._sock: socket.socket | None = None
        self._line: memoryview
        self._send: Callable[..., None]

    def settle_in(self, line: memoryview, send: Callable[..., None]) -> None:
        self._line, self._send = line, send

    # ------------------------------------------------------------ the loop's thread

    def begins(self, number: int, sock: socket.socket) -> bool:
        """False: the node wants it back already."""
        with self._lock:
            if number <= self._ended_before:
                sock.close()
                self._send(FrameKind.HIRE_ENDS, wire.HIRE_ENDS.pack(number, 0, -1))
                return False
            self._number, self._sock = number, sock
            return True

    def takes(self, lid: int, item: int) -> bool:
        """An item begins. False: the hire has ended, and this is not ours."""
        with self._lock:
            if not self._number:
                return False
            self._line[wire.HIRED_LID], self._line[wire.HIRED_ITEM] = lid, item + 1
            self._lid, self.item = lid, item
            return True

    def answers(self, packet: bytes) -> bool:
        """The item is done. False: its node is to hear so."""
        if len(packet) > ANSWER_OCTETS_MAX:
            self.yields()
        with self._lock:
            if self.item is None or self._sock is None:
                return False
            try:
                self._sock.send(packet, socket.MSG_NOSIGNAL)
            except OSError:  # the program is gone, or has let go
                self._end()
                return False
            self.item = None
            self._line[wire.HIRED_ITEM] = 0
            return True

    def over(self) -> None:
        """No more items are read."""
        with self._lock:
            if self._number:
                self._end()
            sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    # ------------------------------------------------------------ any thread

    def yields(self) -> None:
        """The node is going to hear of the item that runs."""
        if self.item is None:
            return
        with self._lock:
            if self.item is not None:
                self._end()

    def wanted_back(self, number: int) -> None:
        """By the node."""
        with self._lock:
            self._ended_before = max(self._ended_before, number)
            if self._number == number:
                self._end()

    def node_gone(self) -> None:
        """The loop must not wait for ever for the next item."""
        with self._lock:
            self._ended_before = 1 << 63
            if self._number:
                try:
                    self._end()
                except OSError:
                    pass  # nobody is there to hear it

    def forget(self) -> None:
        """In a forked child: it is no worker, and holds nobody's socket."""
        self._lock = _thread.allocate_lock()
        self.item, self._number = None, 0
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _end(self) -> None:
        """With the lock held: the node hears of it, and the loop's thread wakes up."""
        item = -1 if self.item is None else self.item
        number, self._number, self.item = self._number, 0, None
        self._line[wire.HIRED_ITEM] = 0
        assert self._sock is not None, "a hire has a socket"
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is gone
        self._send(FrameKind.HIRE_ENDS, wire.HIRE_ENDS.pack(number, self._lid, item))


NOW = PresentHire()
