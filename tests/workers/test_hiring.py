"""Hired workers where something is short: a program or a node without descriptors or threads goes on, and such calls go
the ordinary way."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from stealmesh.host.hired import HiredWays
from stealmesh.values import neighbours as module
from stealmesh.values import parts
from stealmesh.values.descriptors import received
from stealmesh.values.neighbours import Neighbours
from stealmesh.values.shelf import Shelf
from stealmesh.workers import wire
from stealmesh.workers.hired import ANSWER
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.effects import DropHired, FetchHired, HireOut, OrderHired
from stealmesh_engine.events import Event, HireCame, HiredAnswer, HireReadOut
from stealmesh_protocol.messages import Block, JobKind, Lease

from .host import Host, shipped

VALUE = bytes(range(24))
JOB = b"j" * 20
NODE = b"n" * 16
OWNER = b"o" * 16


def refuse(*given: object, **named: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


def no_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def giver() -> Iterator[Neighbours]:
    shelf = Shelf()
    packed = parts.packed(b"value")
    shelf.put(VALUE, packed.octets, packed)
    one = Neighbours(os.urandom(16), shelf)
    yield one
    one.close()
    shelf.close()


def can_be_asked(giver: Neighbours) -> bool:
    shelf = Shelf()
    taken = Neighbours(os.urandom(16), shelf)._take(VALUE, giver._shelf.octets(VALUE), giver._me)
    shelf.close()
    return taken


# ---------------------------------------------------------------- the node


def double(number: int) -> int:
    return 2 * number


def test_a_node_without_descriptors_hires_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    try:
        spec = host.spec(double, JobKind.SUBMIT)
        hire = HireOut(0, 1 << 48, spec, shipped(double), b"", spec.owner, 1)
        with monkeypatch.context() as without:
            without.setattr(wire, "packets", refuse)
            assert host.pool.hires.out(hire) is None
        assert host.results(host.run(double, [1, 2])) == [2, 4]
        way = host.pool.hires.out(hire)
        assert way is not None, "the worker is as it was before"
        way.close()
    finally:
        host.pool.close()


def test_it_listens_once_it_has_a_descriptor(
    giver: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(socket, "socket", refuse)
        giver.serve()
    assert not can_be_asked(giver)
    giver.serve()
    assert can_be_asked(giver)


def test_it_listens_once_it_has_a_thread(
    giver: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files()
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", no_threads)
        giver.serve()
    assert files() == before
    giver.serve()
    assert can_be_asked(giver)


def test_a_way_that_cannot_be_offered_is_closed(
    giver: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = wire.packets()
    far.setblocking(False)
    monkeypatch.setattr(threading.Thread, "start", no_threads)
    assert not giver.offer(OWNER, 1, near)
    assert far.recv(1) == b"", "the worker reads the end"
    far.close()


def test_a_way_for_which_nobody_asked_goes_when_its_worker_has_left_it(giver: Neighbours) -> None:
    """The program died before it asked, and its node has the worker again."""
    near, far = wire.packets()
    assert giver.offer(OWNER, 1, near)
    far.shutdown(socket.SHUT_RDWR)
    other, waits = wire.packets()
    third, also_waits = wire.packets()
    assert giver.offer(OWNER, 2, other)
    assert near.fileno() < 0
    assert giver.offer(OWNER, 3, third)
    assert other.fileno() >= 0, "its worker waits"
    for sock in (far, waits, also_waits):
        sock.close()


class Listener(socket.socket):
    """Its callers come as they are told to."""

    def come(self, *callers: Callable[[], socket.socket]) -> None:
        self.callers = deque(callers)

    def accept(self) -> tuple[socket.socket, str]:
        return self.callers.popleft()(), ""


def test_a_caller_for_whom_there_was_no_descriptor_does_not_end_the_thread(
    giver: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACCEPTS_AGAIN_SECONDS", 0.0)
    near, far = wire.packets()
    far.send(VALUE)

    def ends() -> socket.socket:
        giver.close()
        raise OSError(errno.EBADF, "Bad file descriptor")

    with Listener() as listener, far:
        listener.come(refuse, lambda: near, refuse, ends)  # type: ignore[arg-type]
        giver._accept(listener)
        assert not listener.callers
        octets, descriptors = received(far, 1, 1)
    assert octets == b"\1"
    for each in descriptors:
        os.close(each)


def test_without_threads_nothing_is_fetched(
    giver: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_threads)
    told: list[object] = []
    giver.fetch_hired(NODE, 1, told.append)
    giver.take(VALUE, 10, NODE, told.append)
    assert told == [None, False]


# ---------------------------------------------------------------- the program


class Found(Neighbours):
    """The way to a worker is found when the test says so."""

    def __init__(self) -> None:
        self.told: Callable[[socket.socket | None], None] = lambda sock: None

    def fetch_hired(
        self, node: bytes, hire: int, told: Callable[[socket.socket | None], None]
    ) -> None:
        self.told = told


class WatchesNoMore:
    """The kernel's bound of watched descriptors is reached."""

    def register(self, *given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class Program:
    def __init__(self, epoll: object = None) -> None:
        self.found = Found()
        self.events: list[Event] = []
        self.counters = Counters()
        self.epoll = select.epoll() if epoll is None else epoll
        self.ways = HiredWays(self.found, self.epoll, self.events.append, self.counters)  # type: ignore[arg-type]
        self.ours, self.workers = wire.packets()
        self.workers.setblocking(False)
        self.ways.fetch(FetchHired(7, JOB, NODE))

    def end(self) -> None:
        self.ways.close()
        self.workers.close()
        if isinstance(self.epoll, select.epoll):
            self.epoll.close()


def test_a_way_that_cannot_be_watched_is_told_of_and_closed() -> None:
    """The thread that had fetched it ended with an error: nobody heard of the hire, and the worker stayed away."""
    program = Program(WatchesNoMore())
    program.found.told(program.ours)
    assert program.events == [HireCame(7, JOB, False)]
    assert not program.ways.by_job
    assert program.workers.recv(1) == b"", "the worker reads the end"
    program.end()


@pytest.mark.parametrize("end", ["dropped", "closed"])
def test_a_way_that_comes_after_the_end_of_its_hire_is_closed(end: str) -> None:
    program = Program()
    if end == "dropped":
        assert program.ways.drop(DropHired(7, JOB)) == [HireReadOut(7, JOB)]
    else:
        program.ways.close()
    program.found.told(program.ours)
    assert program.events == [HireCame(7, JOB, False)]
    assert program.workers.recv(1) == b"", "the worker reads the end"
    program.end()


def test_nothing_is_remembered_of_hires_to_which_no_way_was_found() -> None:
    program = Program()
    program.found.told(None)
    assert program.events == [HireCame(7, JOB, False)]
    assert not program.ways._fetching
    program.ways.drop(DropHired(7, JOB))
    assert not program.ways._fetching
    program.ours.close()
    program.end()


def test_what_a_task_writes_into_its_workers_descriptors_is_no_answer() -> None:
    """It ended the program's mesh."""
    program = Program()
    program.found.told(program.ours)
    way = program.ways.by_job[JOB]
    program.ways.order(OrderHired(7, JOB, Lease(3, 0, 1), Block(0, 1, 0), b"argument"))
    for _ in range(3):
        program.workers.send(b"garbage")
    assert program.ways.look(way) == []
    assert way.item == 0, "its answer is still to come"
    program.workers.send(b"garbage")
    program.workers.send(ANSWER.pack(3, 0, 0, 0.001, 0) + b"result")
    (answer, over) = program.ways.drop(DropHired(7, JOB))
    assert isinstance(answer, HiredAnswer)
    assert (answer.part.lid, answer.blob) == (3, b"result")
    assert over == HireReadOut(7, JOB)
    assert program.counters == {"answers-garbled": 4}
    program.end()
