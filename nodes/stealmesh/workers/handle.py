"""The node's handle on one worker process: its sockets, and what it has to do.

A worker's number outlives its processes (`processes.Worker`); a handle belongs to one of them.
It knows which chunks the process has not answered, which orders it has not read and what its cache
holds. It refuses to know when a process starts or ends (processes.py), and what an order says
(orders.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from stealmesh.values.descriptors import received
from stealmesh.workers import wire
from stealmesh.workers.printed import OutputPipe
from stealmesh.workers.wire import FrameReader, FrameWriter
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobSpec


@dataclass(slots=True)
class Sentence:
    """Why we kill a process. `suspect` is the chunk that ran when we decided it."""

    reason: str
    blame: bool
    suspect: int | None


@dataclass(slots=True)
class ProcessHandle:
    """One worker process, as its node sees it."""

    orders: socket.socket
    orders_back: socket.socket
    """The worker's own receiving end. Either side may read an order; the first reader has it."""
    stream: socket.socket
    questions: socket.socket
    reader: FrameReader
    writer: FrameWriter
    sheet: int = -1
    """A file that the process writes its stacks into when it can say nothing (stack_takers.py)."""
    pid: int = 0
    unsent: deque[tuple[int | None, bytes]] = field(default_factory=deque)
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    """Of unsent orders: open files that go along, and are closed here then."""
    outstanding: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Chunks ordered and not yet answered, oldest first, with the part of each that is still open."""
    cached: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    """Key → octets, least recently used first: what the worker's cache will be."""
    cached_octets: int = 0
    functions: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """The keys of those that are functions, least recently used first."""
    ready_for: JobSpec | None = None
    """The job of its last order. As long as that is the same, it has its functions."""
    large: dict[JobId, set[bytes]] = field(default_factory=dict)
    """By job: functions too large to keep once no job needs them."""
    behind: bool = False
    """We have not yet told the worker to forget what was for its last order alone."""
    sentence: Sentence | None = None
    answered: int = 0
    """Tasks that it has finished, as it counts them itself (process.py); tasks of bags do not count."""
    retires: bool = False
    """It said that it keeps too much memory, and ends between two tasks."""
    unfit: str = ""
    """Its own words on why it could not start."""
    watched: int = 0
    """1: the stream waits to be written, 2: so do orders."""
    condemned: bool = False
    """Its stream is useless; we wait for the fork server to report its end."""
    number: int = 0
    """Counts the processes of one worker, from 1."""
    code: bytes = b""
    """The digest of the bundle that it imports from; empty: it has not imported from any yet."""
    aside_since: float = 0.0
    printed: OutputPipe = field(default_factory=OutputPipe)
    answered_from: int = 0
    """Where the last answer began."""
    beside: bool = False
    """It runs orders side by side."""
    hire: int = 0
    """The number under which it is hired out; 0: it is not."""

    def running(self) -> int | None:
        """The oldest unanswered chunk: the one that runs, unless the worker is just between two."""
        return next(iter(self.outstanding), None)

    def narrow(self, chunk: int, upto: int, kept: int) -> None:
        """The chunk is answered up to `upto`, and given back from `kept` on. Raises ValueError."""
        lo, hi = self.outstanding.get(chunk, (1, 0))
        self.answered_from = lo
        if not lo <= upto <= kept <= hi:
            raise ValueError(
                f"an answer for {upto} and {kept} of chunk {chunk}, not of [{lo}, {hi})"
            )
        self.answered += upto - lo
        self.outstanding[chunk] = (upto, kept)

    def settle(self, chunk: int) -> None:
        """The chunk has its last answer. Raises ValueError if it was not ordered."""
        if chunk not in self.outstanding:
            raise ValueError(f"an answer for chunk {chunk}, which it was not given")
        del self.outstanding[chunk]

    def take_back(self) -> int | None:
        """Take back one chunk that the worker has not read, the newest where we can choose."""
        for index in range(len(self.unsent) - 1, -1, -1):
            chunk = self.unsent[index][0]
            if chunk is not None:
                del self.unsent[index]
                self.close_descriptors(chunk)
                return chunk
        while True:
            try:
                packet = self.orders_back.recv(wire.PACKET_OCTETS_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            chunk = wire.unpack(packet)[0]
            if chunk is not None:
                assert isinstance(chunk, int)
                return chunk
            # An order to catch up: it goes behind the others, which ask for as much.
            self.order_to_catch_up()

    def retract(self, *, last: bool) -> int | None:
        """Take back one chunk, and have no answer for it; `last`: none but the last."""
        chunk = self.take_back_last() if last else self.take_back()
        if chunk is not None:
            del self.outstanding[chunk]
        return chunk

    def take_back_last(self) -> int | None:
        """Take back the last chunk that the worker has not read; those before it stay where they are, in
        their order."""
        unread: list[tuple[int | None, bytes]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, files = received(
                    self.orders_back,
                    wire.PACKET_OCTETS_MAX,
                    wire.DESCRIPTORS_MAX,
                    socket.MSG_DONTWAIT,
                )
                chunk = wire.unpack(packet)[0]
                unread.append((chunk, packet))
                if files:
                    self.descriptors[chunk] = files
        unread += self.unsent
        last = max((at for at, each in enumerate(unread) if each[0] is not None), default=None)
        taken = None if last is None else unread.pop(last)[0]
        self.unsent = deque(unread)
        if taken is not None:
            self.close_descriptors(taken)
        return taken

    def announce(self, chunk: int, descriptors: list[int]) -> None:
        """The order of this chunk, which is put next, goes with these open files."""
        self.unsent.append((None, wire.pack([None, self.writer.frames, True])))
        self.descriptors[chunk] = descriptors

    def send_first(self) -> None:
        """Send the first of the unsent orders. Raises BlockingIOError, ConnectionError."""
        chunk, packet = self.unsent[0]
        descriptors = self.descriptors.get(chunk) if self.descriptors and chunk else None
        if descriptors is None:
            self.orders.send(packet)
        else:
            assert chunk is not None
            socket.send_fds(self.orders, [packet], descriptors)
            self.close_descriptors(chunk)
        self.unsent.popleft()

    def close_descriptors(self, chunk: int) -> None:
        for descriptor in self.descriptors.pop(chunk, ()):
            os.close(descriptor)

    def ask(self, question: bytes) -> None:
        """Ask while it is busy. A dead worker has no answer, and its death is told elsewhere."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.questions.send(question)

    def interrupt(self) -> None:
        """Have it look at what is to stop (stopping.py)."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGURG)

    def order_to_catch_up(self) -> None:
        """Have the worker read the stream as far as we have written it."""
        self.unsent.append((None, wire.pack([None, self.writer.frames])))

    def close(self) -> None:
        for chunk in list(self.descriptors):
            self.close_descriptors(chunk)
        for sock in (self.orders, self.orders_back, self.stream, self.questions, self.printed):
            sock.close()
        if self.sheet >= 0:
            os.close(self.sheet)
            self.sheet = -1
