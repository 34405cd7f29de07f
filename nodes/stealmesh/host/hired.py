"""A program's ways to the workers that it has hired: sockets that lead past the node to the worker itself.

Does FetchHired, OrderHired and DropHired for the driver, and makes HiredAnswers of what comes. Refuses to know which
item a worker gets and what its answer is worth (the core), and who waits for it.

Only the thread that holds the driver's turn reads and writes here. Only the fetching has a thread of its own.

The thread that waits for an answer sleeps on the socket itself (`Driver.attend`): no other thread wakes up in between.
While no thread does, the driver's loop watches it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable

import msgspec

from stealmesh.values.neighbours import Neighbours
from stealmesh.workers.hired import ANSWER, ANSWER_OCTETS_MAX, ORDER
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.effects import DropHired, FetchHired, OrderHired
from stealmesh_engine.events import Event, HireCame, HiredAnswer, HireReadOut
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Part


class Way(msgspec.Struct, eq=False):
    """To one hired worker."""

    hire: int
    job: JobId
    node: PeerId
    sock: socket.socket
    fd: int
    sleeper: select.poll
    item: int = -1
    """What is out; -1: nothing."""
    attended: bool = False
    """A thread of the program's sleeps on it."""
    closed: bool = False


class HiredWays:
    """Of one program."""

    def __init__(
        self,
        neighbours: Neighbours,
        epoll: select.epoll,
        post: Callable[[Event], None],
        counters: Counters,
    ) -> None:
        self._neighbours = neighbours
        self._epoll = epoll
        self._post = post
        self._counters = counters
        self.by_fd: dict[int, Way] = {}
        self.by_job: dict[JobId, Way] = {}
        self._by_hire: dict[int, Way] = {}
        self._fetching: set[int] = set()
        """Hires to which the way is sought. One that is dropped meanwhile is not among them any more."""
        self._lock = threading.Lock()

    # ------------------------------------------------------------ effects

    def fetch(self, effect: FetchHired) -> None:
        def told(sock: socket.socket | None) -> None:
            here = self._has_come(effect, sock)
            self._post(HireCame(effect.hire, effect.job, here))

        self._fetching.add(effect.hire)
        self._neighbours.fetch_hired(effect.node, effect.hire, told)

    def _has_come(self, effect: FetchHired, sock: socket.socket | None) -> bool:
        with self._lock:
            wanted = effect.hire in self._fetching
            self._fetching.discard(effect.hire)
            if sock is None:
                return False
            try:
                if wanted:
                    self._epoll.register(sock, 0)
            except OSError:  # the kernel watches no more for this user
                wanted = False
            if not wanted:
                sock.close()
                return False
            sock.setblocking(False)
            sleeper = select.poll()
            sleeper.register(sock, select.POLLIN)
            way = Way(effect.hire, effect.job, effect.node, sock, sock.fileno(), sleeper)
            self._by_hire[effect.hire] = self.by_fd[way.fd] = self.by_job[effect.job] = way
        return True

    def order(self, effect: OrderHired) -> None:
        """An order that cannot be sent is one that the worker does not begin: its hire is over."""
        way, lease, block = self._by_hire.get(effect.hire), effect.lease, effect.block
        if way is None:
            return
        way.item = lease.lo
        self.watch(way)
        head = ORDER.pack(lease.lid, lease.lo, lease.hi, block.lo, block.hi, block.codec)
        with contextlib.suppress(OSError):
            way.sock.send(head + effect.blob, socket.MSG_NOSIGNAL)

    def drop(self, effect: DropHired) -> list[Event]:
        """All that it has said, and that this is all."""
        events: list[Event] = []
        with self._lock:
            self._fetching.discard(effect.hire)
            way = self._by_hire.pop(effect.hire, None)
            if way is not None:
                del self.by_fd[way.fd]
                if self.by_job.get(way.job) is way:
                    del self.by_job[way.job]
        if way is not None:
            while (answer := self._read(way)) is not None:
                events.append(answer)
            self._end(way)
        return [*events, HireReadOut(effect.hire, effect.job)]

    def _end(self, way: Way) -> None:
        """A thread that sleeps on it wakes up."""
        with self._lock:
            way.closed, way.item = True, -1
            with contextlib.suppress(OSError):
                self._epoll.unregister(way.fd)
            with contextlib.suppress(OSError):
                way.sock.shutdown(socket.SHUT_RDWR)
            way.sock.close()

    # ------------------------------------------------------------ what comes

    def watch(self, way: Way) -> None:
        """The driver's loop looks after it, once."""
        self._arm(way, select.EPOLLIN | select.EPOLLONESHOT)

    def unwatch(self, way: Way) -> None:
        self._arm(way, 0)

    def _arm(self, way: Way, events: int) -> None:
        with self._lock:  # the number of a closed descriptor may be another file's
            if not way.closed:
                self._epoll.modify(way.fd, events)

    def ready(self, fd: int) -> list[Event]:
        return self.look(self.by_fd[fd])

    def look(self, way: Way) -> list[Event]:
        answer = None if way.closed else self._read(way)
        return [] if answer is None else [answer]

    def _read(self, way: Way) -> HiredAnswer | None:
        while True:
            try:
                packet = way.sock.recv(ANSWER_OCTETS_MAX)
            except BlockingIOError:
                return None
            except OSError:
                packet = b""
            if not packet:
                way.item = -1  # its node will say that it is over
                return None
            if len(packet) >= ANSWER.size:
                break
            self._counters.count("answers-garbled")
        lid, item, codec, seconds, failed = ANSWER.unpack_from(packet)
        way.item = -1
        part = Part(lid, item, item + 1, codec, seconds, failed)
        return HiredAnswer(way.hire, way.job, way.node, part, packet[ANSWER.size :])

    def disown(self) -> None:
        """In a forked child: these are copies, and the parent's."""
        for way in self._by_hire.values():
            way.closed, way.item = True, -1
            way.sock.close()
        self._by_hire, self.by_fd = {}, {}
        self.by_job.clear()
        self._fetching.clear()
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._fetching.clear()
        for way in self._by_hire.values():
            self._end(way)
        self.by_job.clear()
