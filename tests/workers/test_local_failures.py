"""Which deaths of a local node say that it cannot live, and which only that somebody kills it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from stealmesh.local import KILLED_SECONDS_MAX, QUICK_DEATHS_MAX, Failures, LocalNode, _end

pytestmark = pytest.mark.real


def ended(status: int, *, up: bool, started: float) -> LocalNode:
    """A node that has ended with this status."""
    code = (
        f"import os, sys; os.kill(os.getpid(), {-status}) if {status} < 0 else sys.exit({status})"
    )
    process = subprocess.Popen([sys.executable, "-S", "-c", code])
    process.wait(60)
    return LocalNode(process, closed(), started, ["ipc:///x"] if up else [])


def closed() -> socket.socket:
    wire = socket.socket()
    wire.close()
    return wire


def test_a_node_that_dies_by_itself_at_once_is_given_up() -> None:
    failures = Failures(0.0)
    node = ended(1, up=False, started=1.0)
    told = [failures.count(node, 1.1) for _ in range(QUICK_DEATHS_MAX)]
    assert told == [False] * (QUICK_DEATHS_MAX - 1) + [True]


def test_one_that_has_lived_for_a_while_begins_anew() -> None:
    failures = Failures(0.0)
    quick, slow = ended(1, up=True, started=1.0), ended(1, up=True, started=1.0)
    told = [failures.count(quick, 1.1) for _ in range(QUICK_DEATHS_MAX - 1)]
    told += [failures.count(slow, 100.0)]
    told += [failures.count(quick, 1.1) for _ in range(QUICK_DEATHS_MAX - 1)]
    assert not any(told)


@pytest.mark.parametrize("up", [True, False])
def test_one_that_somebody_kills_is_started_again(up: bool) -> None:
    """The machine was so busy that the next kill came before the node was up: the mesh gave up."""
    failures = Failures(0.0)
    killed = ended(-signal.SIGKILL, up=up, started=1.0)
    assert not any(failures.count(killed, 1.0 + number * 0.1) for number in range(50))


def test_one_that_is_killed_before_it_is_up_for_minutes_is_given_up() -> None:
    failures = Failures(0.0)
    killed = ended(-signal.SIGKILL, up=False, started=1.0)
    assert not failures.count(killed, KILLED_SECONDS_MAX)
    assert failures.count(killed, KILLED_SECONDS_MAX + 1.0)


def test_what_we_kill_ourselves_was_too_slow() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    node = LocalNode(process, closed(), 1.0, [])
    assert _end(node) == -signal.SIGKILL
    assert not node.was_killed
