"""In a node: the pipes in which its workers print.

Decides when a pipe is read. One that has brought something is not looked at for a moment: a task that prints a
million lines would wake the node a million times. It is read at the latest then, and before each answer of
its worker, so that what a task printed comes before its result. A pipe that fills is read sooner, because
what writes there waits. One whose lines are too many puts them into a ring instead, which is looked at in the same pauses. Refuses to know what is in a pipe (`printed.py`), and what becomes of a line
(the engine's `holding/output.py`).
"""

from __future__ import annotations

import select
from typing import Any, Protocol

from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.printed import READ_OCTETS_MAX
from stealmesh_engine.events import BagStep, ChunkDone, ChunkPart, Event, ItemsPrinted
from stealmesh_protocol.values import AGAIN, with_output

PAUSE_SECONDS = 0.04
SHORT_PAUSE_SECONDS = 0.004
"""After a read that brought much."""
MUCH_OCTETS = 32 * 1024
"""Half of what a pipe holds."""

Answer = ChunkDone | ChunkPart | BagStep


class KnownWorker(Protocol):
    """One worker of the node."""

    def known_as(self, count: int) -> int: ...


class Outlets:
    """The pipes of all workers of a node."""

    def __init__(self, epoll: select.epoll, count: int) -> None:
        self._epoll = epoll
        self._count = count
        self._by_fd: dict[int, tuple[KnownWorker, ProcessHandle]] = {}
        self._paused: dict[int, float] = {}
        self.due: float | None = None
        """When one is to be read although it has not asked for it."""

    def __contains__(self, fd: int) -> bool:
        return fd in self._by_fd

    def watch(self, worker: KnownWorker, handle: ProcessHandle) -> None:
        fd = handle.printed.fd
        self._by_fd[fd] = (worker, handle)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def forget(self, handle: ProcessHandle) -> None:
        """Before it is closed."""
        fd = handle.printed.fd
        if self._by_fd.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._paused.pop(fd, None)

    def ready(self, fd: int, now: float) -> list[Event]:
        """Something has been printed."""
        worker, handle = self._by_fd[fd]
        handle.printed.spoken = True
        self._pause(fd, handle.printed.read(handle), now)
        return self._events(worker, handle)

    def hired(self, fd: int) -> Any:
        """Whose pipe this is, if the worker is hired out; else None."""
        worker, handle = self._by_fd[fd]
        return worker if handle.hire else None

    def look(self, now: float) -> list[Event]:
        """Read those whose pause is over."""
        events: list[Event] = []
        for fd in [fd for fd, at in self._paused.items() if at <= now]:
            worker, handle = self._by_fd[fd]
            octets = handle.printed.look(handle)
            if octets:
                self._pause(fd, octets, now)
                events += self._events(worker, handle)
            else:
                del self._paused[fd]
                handle.printed.spoken = handle.printed.has_rests
                self._epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
        self._plan()
        return events

    def before_answer(
        self, worker: KnownWorker, handle: ProcessHandle, said: Answer, events: list[Event]
    ) -> None:
        """A worker that has printed something answers: what it printed comes first, and its failures have what
        their items printed last."""
        printed, chunk, lo = handle.printed, said.chunk, handle.answered_from
        after = handle.outstanding
        hi = after[chunk][1] if chunk in after else getattr(said, "upto", 0) or lo + 1
        handle.outstanding = {chunk: (lo, hi)} | {k: v for k, v in after.items() if k != chunk}
        self.read_out(worker, handle, events)  # it was said while the chunk was whole
        if printed.until is not None:
            printed.take(*printed.until, handle)
            events += self._events(worker, handle)
        handle.outstanding = after
        if printed.tails and not isinstance(said, BagStep) and (said.failed or said.codec == AGAIN):
            said.codec, said.blob = with_output(
                said.codec, said.blob, lambda offset: printed.tail(chunk, lo + offset)
            )
        if chunk not in after:
            printed.chunk_over(chunk)
            events += self._events(worker, handle)
        printed.spoken = printed.fd in self._paused or printed.has_rests

    def read_out(self, worker: KnownWorker, handle: ProcessHandle, events: list[Event]) -> None:
        """Read all that is in its pipe."""
        while handle.printed.read(handle) >= READ_OCTETS_MAX:
            pass
        events += self._events(worker, handle)

    def died(
        self, worker: KnownWorker, handle: ProcessHandle, running: list[int], events: list[Event]
    ) -> str:
        """It has died with these chunks. Returns what the item printed last that ran, if one can tell."""
        handle.printed.all_over(handle)
        output = handle.printed.last_of(running[0]) if len(running) == 1 else ""
        events += self._events(worker, handle)
        return output

    def _events(self, worker: KnownWorker, handle: ProcessHandle) -> list[Event]:
        said, handle.printed.said = handle.printed.said, {}
        number = worker.known_as(self._count)
        return [
            ItemsPrinted(number, chunk, lo, hi, b"".join(texts), dropped)
            for (chunk, lo, hi), (texts, dropped) in said.items()
        ]

    def _pause(self, fd: int, octets: int, now: float) -> None:
        if octets < 0:  # no process holds the other end any more
            self._epoll.unregister(fd)
            del self._by_fd[fd]
            self._paused.pop(fd, None)
        else:
            pause = PAUSE_SECONDS
            if octets >= MUCH_OCTETS:
                self._by_fd[fd][1].printed.widen()
                pause = SHORT_PAUSE_SECONDS
            self._paused[fd] = now + pause
        self._plan()

    def _plan(self) -> None:
        self.due = min(self._paused.values(), default=None)
