"""What is read is told to the core in the order in which it was read, in whichever thread that happens."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from stealmesh.host.driver import Driver
from stealmesh_engine.effects import DropHired, FetchHired, JobDone
from stealmesh_engine.events import Event, Heard
from stealmesh_protocol.messages import Closed, Member, Role

JOB = b"j" * 20


def heard(number: int) -> Heard:
    return Heard(1, Closed(JOB), number, 0, 64)


class RecordingCore:
    """Notes the numbers of what it is told, and answers each with an effect for the program."""

    def __init__(self) -> None:
        self.me = Member(b"m" * 16, "me", "here", Role.PLAIN, [], 1)
        self.told: list[int] = []
        self.counters: dict[str, int] = {}
        self.host_facts: Any = None
        self.complete = threading.Event()

    def steps(self, now: float, events: list[Event]) -> list[Any]:
        self.told += [event.seq for event in events if isinstance(event, Heard)]
        if len(self.told) == 3:
            self.complete.set()
        return [JobDone(JOB) for event in events if isinstance(event, Heard)]

    def next_deadline(self) -> float | None:
        return inf


class ScriptedTransport:
    """One socket: it says 1 when it is read, 2 when it is looked at again, and then 3 when it is read."""

    def __init__(self, epoll: select.epoll) -> None:
        self.socket = os.eventfd(0, os.EFD_NONBLOCK)
        epoll.register(self.socket, select.EPOLLIN)
        self.fds = {self.socket: None}
        self.readings = [[heard(1)], [heard(3)]]
        self.again = [[heard(2)]]
        self.log: list[str] = []
        """What was done in which order."""

    def ready(self, fd: int) -> list[Event]:
        os.eventfd_read(self.socket)
        return list(self.readings.pop(0)) if self.readings else []

    def settle(self) -> list[Event]:
        return list(self.again.pop(0)) if self.again else []

    def wait_seconds(self) -> float:
        self.log.append("planned")
        return inf

    def look_again(self) -> None: ...


class Quiet:
    """A program without wishes and without descriptors."""

    fds: frozenset[int] = frozenset()

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def perform(self, effect: Any) -> None:
        self.log.append("told")

    def has_wishes(self) -> bool:
        return False

    def pull(self) -> list[Event]:
        return []

    def ready(self, fd: int) -> None:
        raise AssertionError(f"{fd} is not the program's")


@pytest.fixture
def parts() -> Iterator[tuple[Driver, RecordingCore, ScriptedTransport]]:
    epoll = select.epoll()
    core, transport = RecordingCore(), ScriptedTransport(epoll)
    driver = Driver(core, transport, epoll, Quiet(transport.log))  # type: ignore[arg-type]
    yield driver, core, transport
    os.close(transport.socket)
    epoll.close()


def test_what_a_programs_thread_has_read_comes_before_what_is_read_later(
    parts: tuple[Driver, RecordingCore, ScriptedTransport],
) -> None:
    """A program's thread that acts for the sleeping loop looks at the sockets again as well. What it found
    was told behind what the loop read after it: the second custody message came last, and was lost."""
    driver, core, transport = parts
    driver._unheard += transport.readings.pop(0)
    driver.act()  # tells 1, and finds 2 when it looks again
    os.eventfd_write(transport.socket, 1)  # 3 is there when the loop wakes up
    loop = threading.Thread(target=driver.run)
    loop.start()
    try:
        assert core.complete.wait(20.0)
    finally:
        driver.stop()
        loop.join()
    assert core.told == [1, 2, 3]


def test_the_program_is_told_when_the_loop_is_ready_to_sleep(
    parts: tuple[Driver, RecordingCore, ScriptedTransport],
) -> None:
    """The thread that waits for the result needs the interpreter lock, and would wait for it a second time."""
    driver, core, transport = parts
    transport.again.clear()
    os.eventfd_write(transport.socket, 1)
    driver._round(driver._sleep(0.0))
    assert core.told == [1]
    assert transport.log == ["planned", "told"]


def test_the_way_to_a_hired_worker_ends_while_the_loop_wakes_up(
    parts: tuple[Driver, RecordingCore, ScriptedTransport],
) -> None:
    """A thread of the program's heard that the hire is over, between the loop's waking and its turn. The loop took
    the closed descriptor for one of the program's own, and the mesh ended."""
    driver, _, transport = parts
    transport.again.clear()
    ours, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with workers:
        driver.hired._fetching.add(1)
        assert driver.hired._has_come(FetchHired(1, JOB, b"n" * 16), ours)
        driver.hired.watch(driver.hired.by_job[JOB])
        workers.send(bytes(100))
        fired = driver._sleep(0.0)
        assert [fd for fd, _ in fired] == list(driver.hired.by_fd)
        driver.hired.drop(DropHired(1, JOB))
        driver._round(fired)


def test_a_link_that_ends_while_the_loop_wakes_up_is_not_the_programs(
    parts: tuple[Driver, RecordingCore, ScriptedTransport],
) -> None:
    """A node took it for a sign of its parent's end, and ended."""
    driver, core, transport = parts
    transport.again.clear()
    os.eventfd_write(transport.socket, 1)
    fired = driver._sleep(0.0)
    transport.fds.clear()
    driver._round(fired)
    assert not core.told
