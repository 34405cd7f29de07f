"""Which deaths show that a process cannot live, and which only that it was killed."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import deque

import pytest

from stealmesh.host.local import LocalNode, _end, _has_died
from stealmesh.host.restarts import FAILED_STARTS_MAX, KILLED_SECONDS_MAX, Restarts
from stealmesh.workers.pool import WorkerPool
from stealmesh.workers.processes import State
from stealmesh_engine.events import WorkerReady


def test_what_dies_by_itself_again_and_again_is_given_up() -> None:
    restarts = Restarts(0.0)
    told = [restarts.died(1, 1.0) for _ in range(FAILED_STARTS_MAX)]
    assert told == [False] * (FAILED_STARTS_MAX - 1) + [True]


def test_one_that_was_of_use_begins_anew() -> None:
    restarts = Restarts(0.0)
    for _ in range(3):
        assert not any(restarts.died(1, 1.0) for _ in range(FAILED_STARTS_MAX - 1))
        restarts.well(2.0)


def test_what_somebody_kills_is_started_again_for_minutes() -> None:
    """The machine was so busy that the next kill came before the node was up: the mesh gave up."""
    restarts = Restarts(0.0)
    assert not any(restarts.died(-signal.SIGKILL, number / 10) for number in range(200))
    assert restarts.died(-signal.SIGKILL, KILLED_SECONDS_MAX + 1.0)
    restarts.well(KILLED_SECONDS_MAX + 2.0)
    assert not restarts.died(-signal.SIGKILL, KILLED_SECONDS_MAX + 3.0)


@pytest.mark.real
@pytest.mark.parametrize(
    ("code", "up", "lived", "given_up"),
    [
        ("os.kill(os.getpid(), 9)", False, 0.1, False),
        ("os.kill(os.getpid(), 9)", True, 0.1, False),
        ("sys.exit(1)", True, 0.1, True),
        ("sys.exit(1)", True, 5.0, False),
        ("sys.exit(1)", False, 5.0, True),
    ],
)
def test_a_local_node(code: str, up: bool, lived: float, given_up: bool) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", f"import os, sys; {code}"])
    process.wait(60)
    restarts = Restarts(0.0)
    node = LocalNode(process, _closed(), 0.0, ["ipc:///x"] if up else [])
    told = [_has_died(node, restarts, lived) for _ in range(2 * FAILED_STARTS_MAX)]
    assert any(told) == given_up


@pytest.mark.real
def test_a_local_node_that_we_end_was_too_slow() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    node = LocalNode(process, _closed(), 0.0, [])
    assert _end(node) == -signal.SIGKILL
    restarts = Restarts(0.0)
    assert any(_has_died(node, restarts, 1.0) for _ in range(FAILED_STARTS_MAX))


@pytest.mark.real
def test_a_fork_server_that_is_killed_before_its_workers_are_up_is_started_again() -> None:
    pool = WorkerPool(2)
    try:
        pool.start(time.monotonic())
        for _ in range(2 * FAILED_STARTS_MAX):
            _kill_fork_server(pool)
            pool.collect(time.monotonic())
            assert not pool.broken
        ready: set[int] = set()
        deadline = time.monotonic() + 60.0
        while ready != {0, 1} and time.monotonic() < deadline:
            found = pool.collect(time.monotonic())
            ready |= {event.worker for event in found if isinstance(event, WorkerReady)}
            time.sleep(0.01)
        assert ready == {0, 1}
    finally:
        pool.close()


@pytest.mark.real
def test_a_fork_server_that_dies_with_letters_unsent_takes_no_sockets_of_ours_along() -> None:
    """Seen with fork servers killed on a busy machine: EBADF, and the node died of it."""
    pool = WorkerPool(1)
    try:
        pool.start(time.monotonic())
        _kill_fork_server(pool)
        worker = pool._workers[0]
        handle = worker.handle
        assert handle is not None
        with handle.orders.dup(), contextlib.closing(socket.socket()) as far:
            # What was to go with the worker's birth had not gone yet.
            pool._processes.forks._letters = deque([(b"spawn", (handle.orders_back, far))])
            pool.collect(time.monotonic())
        assert not pool.broken
    finally:
        pool.close()


def _kill_fork_server(pool: WorkerPool) -> None:
    server = pool._processes.forks._process
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


def _closed() -> socket.socket:
    wire = socket.socket()
    wire.close()
    return wire


@pytest.mark.real
@pytest.mark.parametrize("parent", [False, True])
def test_workers_killed_before_they_are_up_are_started_again(parent: bool) -> None:
    """Seen with workers and fork servers killed every 20 ms: 'worker 0 failed to start 5 times'."""
    slowly = pickle.dumps((time.sleep, (0.3,)))
    pool = WorkerPool(1, initializer=slowly)
    try:
        pool.start(time.monotonic())
        worker = pool._processes.workers[0]
        killed: set[int] = set()
        deadline = time.monotonic() + 60.0
        while len(killed) <= FAILED_STARTS_MAX and time.monotonic() < deadline:
            pool.collect(time.monotonic())
            handle = worker.handle
            if handle is not None and handle.pid not in {0, *killed}:
                killed.add(handle.pid)
                if parent:
                    _kill_fork_server(pool)
                else:
                    os.kill(handle.pid, signal.SIGKILL)
            assert not pool.broken
            time.sleep(0.001)
        assert len(killed) > FAILED_STARTS_MAX
        while worker.state is not State.READY and time.monotonic() < deadline:
            pool.collect(time.monotonic())
            time.sleep(0.01)
        assert worker.state is State.READY
    finally:
        pool.close()


@pytest.mark.real
def test_a_worker_that_cannot_start_is_given_up_all_the_same() -> None:
    pool = WorkerPool(1, initializer=pickle.dumps((sys.exit, (3,))))
    try:
        pool.start(time.monotonic())
        deadline = time.monotonic() + 60.0
        while not pool.broken and time.monotonic() < deadline:
            pool.collect(time.monotonic())
            time.sleep(0.01)
        assert f"failed to start {FAILED_STARTS_MAX} times" in pool.broken
    finally:
        pool.close()
