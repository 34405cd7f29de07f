"""Everything that may die here dies here, for real."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from stealmesh.host.restarts import FAILED_STARTS_MAX
from stealmesh.workers import wire
from stealmesh.workers.fork_server import cause_of_death
from stealmesh.workers.wire import FrameKind
from stealmesh_engine.events import ChunkDone, WorkerLost, WorkerReady

from .conftest import Gate
from .host import PATIENCE_SECONDS, Host

pytestmark = pytest.mark.real
Hosts = Callable[..., Host]


def pid(host: Host, worker: int = 0) -> int:
    (found,) = host.results(host.run(lambda _: os.getpid(), range(1), worker=worker))
    assert isinstance(found, int)
    return found


def gone(number: int, patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Waits for the end of a process that need not be our child."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], patience_seconds)[0])
    finally:
        os.close(handle)


def stat_of(number: int) -> list[str]:
    """State, parent and more of a process."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()


def with_grandchild(_: int) -> tuple[int, int]:
    """A worker's pid, and that of a program it started and left running."""
    child = subprocess.Popen(["sleep", "1000"])
    return os.getpid(), child.pid


def stop(number: int) -> None:
    os.kill(number, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while stat_of(number)[0] != "T":
        assert time.monotonic() < deadline


def fork_server_of(worker: int) -> int:
    return int(stat_of(worker)[1])


# ---------------------------------------------------------------- of a worker


def leave(x: int) -> None:
    os._exit(x)


def crash(_: int) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fault(_: int) -> None:
    import ctypes

    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (leave, "exit status 3"),
        (crash, "signal 11 (SIGSEGV)"),
        (fault, "signal 11 (SIGSEGV)"),
    ],
)
def test_a_death_names_its_chunk_and_only_that(host: Host, task: Any, reason: str) -> None:
    first = host.run(str, [1])
    deadly = host.run(task, [3])
    host.run(str, [2])
    lost = host.take(WorkerLost)
    assert lost == WorkerLost(0, deadly, reason, blame=True)
    assert any(isinstance(e, ChunkDone) and e.chunk == first for e in host.log)
    host.take(WorkerReady)
    assert host.results(host.run(str, [4])) == ["4"]


def test_an_idle_worker_that_is_killed_blames_nobody(host: Host) -> None:
    os.kill(pid(host), signal.SIGKILL)
    assert host.take(WorkerLost) == WorkerLost(0, None, "signal 9 (SIGKILL)", blame=False)
    host.take(WorkerReady)


def test_orders_left_by_the_dead_do_not_run(host: Host, gate: Gate, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    victim = pid(host)
    running = host.run(gate.task(), [1])
    gate.wait_until_entered()
    host.run(lambda x: Path(trace).write_text("ran"), [1])
    os.kill(victim, signal.SIGKILL)
    assert host.take(WorkerLost).running == running
    host.take(WorkerReady)
    assert pid(host) != victim
    assert not Path(trace).exists()


def test_an_idle_workers_orders_are_nobodys_fault(host: Host) -> None:
    """It is dead before it has read any."""
    victim = pid(host)
    stop(fork_server_of(victim))  # which would have it go on
    stop(victim)
    host.run(str, [1])
    host.run(str, [2])
    os.kill(victim, signal.SIGKILL)
    assert host.take(WorkerLost) == WorkerLost(0, None, "signal 9 (SIGKILL)", blame=False)


def test_results_sent_before_the_death_are_not_lost(host: Host) -> None:
    """They wait unread in the stream, behind one that is half read, while their worker dies."""
    victim = pid(host)
    sizes = [1_000_000, 20_000, 20_000]
    chunks = [host.run(lambda n: bytes(n), [size]) for size in sizes]
    deadly = host.run(leave, [3])
    while not gone(victim, patience_seconds=0.05):
        host.log += host.pool.collect(time.monotonic())
    control = (
        host.pool._processes.forks._control
    )  # which has the news of the death by now, or is about to
    assert control is not None
    assert select.select([control], [], [], PATIENCE_SECONDS)[0]
    assert host.take(WorkerLost).running == deadly
    assert [len(host.results(chunk)[0]) for chunk in chunks] == sizes


def test_a_death_amid_a_large_result_is_of_that_chunk(host: Host) -> None:
    """The stream is not read while the worker is killed, so its result is never whole."""
    victim = pid(host)
    chunk = host.run(lambda n: bytes(n), [32 << 20])
    assert select.select([host.pool.fileno()], [], [], PATIENCE_SECONDS)[0]
    os.kill(victim, signal.SIGKILL)
    assert gone(victim)
    lost = host.take(WorkerLost)
    assert (lost.running, lost.blame) == (chunk, True)
    assert not any(isinstance(e, ChunkDone) and e.chunk == chunk for e in host.log)


def test_a_stopped_worker_dies_of_the_reason_given(host: Host, gate: Gate) -> None:
    running = host.run(gate.task(), [1])
    gate.wait_until_entered()
    host.pool.stop(0, "timeout of 3 s", blame=True)
    late = host.run(str, [1])
    assert host.take(WorkerLost) == WorkerLost(0, running, "timeout of 3 s", blame=True)
    assert host.pool.orders_dropped == 1
    host.take(WorkerReady)
    assert all(getattr(e, "chunk", None) != late for e in host.log)


def test_only_the_chunk_that_was_meant_is_blamed(host: Host, gate: Gate) -> None:
    """The stop was meant for a chunk that has just been finished."""
    first = host.run(str, [1])
    second = host.run(gate.task(), [2])
    gate.wait_until_entered()  # so the first is done, although we have not looked
    host.pool.stop(0, "timeout", blame=True)
    assert host.take(WorkerLost) == WorkerLost(0, second, "timeout", blame=False)
    assert host.results(first) == ["1"]


def test_what_a_task_started_dies_with_its_worker(host: Host) -> None:
    (found,) = host.results(host.run(with_grandchild, range(1)))
    os.kill(found[0], signal.SIGKILL)
    assert gone(found[1])  # without a word from us
    assert host.take(WorkerLost).running is None


def test_a_task_that_closes_everything_costs_its_worker(host: Host) -> None:
    chunk = host.run(lambda _: os.closerange(3, 1000), range(1))
    assert host.take(WorkerLost).running == chunk
    host.take(WorkerReady)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x05\x00\x00\x00\xffhello",
        b"\xff\xff\xff\xff\xff" + bytes(100),
        wire.frame(FrameKind.RESULT, b"short")[0],
        wire.frame(FrameKind.RESULT, wire.RESULT_HEAD.pack(77, 0, 0, 0.0, 1, 1))[0],
        wire.frame(FrameKind.PART, wire.RESULT_HEAD.pack(1, 0, 0, 0.0, 0, 9))[0],
        wire.frame(FrameKind.STEP, wire.pack([1, 2]))[0],
        wire.frame(FrameKind.STEP, b"\xc1")[0],
    ],
)
def test_a_task_that_writes_into_our_stream_costs_its_worker(host: Host, garbage: bytes) -> None:
    def scribble(_: int) -> None:
        for fd in range(3, 50):
            try:
                os.write(fd, garbage)
            except OSError:
                continue

    host.run(scribble, range(1))
    lost = host.take(WorkerLost)
    assert lost.reason.startswith("sent its node garbage")
    host.take(WorkerReady)


def test_a_task_that_forks_and_returns_twice_answers_once(host: Host) -> None:
    def split(_: int) -> int:
        if os.fork() == 0:
            return 0
        os.wait()
        return 1

    chunk = host.run(split, range(1))
    assert host.results(chunk) == [1]
    after = host.run(str, [5])
    assert host.results(after) == ["5"]
    assert [e.chunk for e in host.log if isinstance(e, ChunkDone)] == [chunk, after]


def test_a_child_that_lives_on_does_not_hide_the_death(host: Host, tmp_path: Path) -> None:
    """It left its worker's group, and holds copies of all its descriptors under other numbers."""
    note = str(tmp_path / "note")

    def die_before_the_child(_: int) -> None:
        copies = [os.dup(int(fd)) for fd in os.listdir("/proc/self/fd") if int(fd) < 3 + 20]
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            time.sleep(1000)
        Path(note).write_text(f"{child} {len(copies)}")
        os._exit(9)

    chunk = host.run(die_before_the_child, range(1))
    try:
        assert host.take(WorkerLost) == WorkerLost(0, chunk, "exit status 9", blame=True)
    finally:
        os.kill(int(Path(note).read_text().split()[0]), signal.SIGKILL)


def test_an_interrupt_from_the_keyboard_is_not_for_workers(host: Host) -> None:
    """A terminal sends it to its foreground group. A worker has another one, and needs to ignore nothing."""

    def habits(_: int) -> tuple[bool, bool, bool]:
        return (
            os.getpgrp() == os.getpid(),
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.getsignal(signal.SIGINT) == signal.default_int_handler,
        )

    assert host.results(host.run(habits, range(1))) == [(True, True, True)]


@pytest.mark.parametrize(
    ("status", "words"),
    [(3 << 8, "exit status 3"), (9, "signal 9 (SIGKILL)"), (40, "signal 40")],
)
def test_causes_of_death_in_words(status: int, words: str) -> None:
    assert cause_of_death(status) == words


# ---------------------------------------------------------------- before the first order


def test_a_worker_that_cannot_start_is_given_up_with_a_reason(hosts: Hosts) -> None:
    def fail() -> None:
        raise ValueError("no lamp oil")

    host = hosts(1, start=False, initializer=cloudpickle.dumps((fail, ())))
    now = 1000.0  # the test's own clock, so it need not wait for the back-off
    host.pool.start(now)
    pauses = []
    lost: list[Any] = []
    for attempt in range(1, FAILED_STARTS_MAX + 1):
        while not lost:
            assert select.select([host.pool.fileno()], [], [], PATIENCE_SECONDS)[0]
            lost = host.pool.collect(now)
        assert [type(e) for e in lost] == [WorkerLost]
        assert (lost[0].running, lost[0].blame) == (None, False)
        assert "no lamp oil" in lost[0].reason
        due = host.pool.next_deadline()
        if attempt < FAILED_STARTS_MAX:
            assert due is not None
            assert not host.pool.broken
            pauses.append(due - now)
            assert host.pool.collect(due - 0.01) == []
            assert not host.pool.worker_pids()
            now = due
            lost = host.pool.collect(now)  # starts it, and may see it fail at once
    assert host.pool.next_deadline() is None
    assert "no lamp oil" in host.pool.broken
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_a_good_start_wipes_out_the_bad_ones(hosts: Hosts, tmp_path: Path) -> None:
    dark = tmp_path / "dark"
    path = str(dark)

    def fail_in_the_dark() -> None:
        if os.path.exists(path):
            raise ValueError("dark")

    dark.touch()
    host = hosts(1, start=False, initializer=cloudpickle.dumps((fail_in_the_dark, ())))
    host.pool.start(time.monotonic())
    for _ in range(FAILED_STARTS_MAX - 1):
        assert "dark" in host.take(WorkerLost).reason
    dark.unlink()
    host.take(WorkerReady)
    host.until(
        host.pool.worker_pids
    )  # its nursery says the number, perhaps later than it says that it is ready
    dark.touch()
    os.kill(host.pool.worker_pids()[0], signal.SIGKILL)
    assert host.take(WorkerLost).reason == "signal 9 (SIGKILL)"
    assert "dark" in host.take(WorkerLost).reason
    assert not host.pool.broken
    dark.unlink()
    host.take(WorkerReady)


# ---------------------------------------------------------------- standing still


def test_a_stopped_worker_goes_on(host: Host, gate: Gate, tmp_path: Path) -> None:
    """With all that its task has started. Its item is neither lost nor begun again."""
    ((victim, child),) = host.results(host.run(with_grandchild, range(1)))
    running = host.run(gate.task(), [1])
    gate.wait_until_entered()
    os.killpg(victim, signal.SIGSTOP)
    gate.let_go()
    assert host.results(running) == [1]
    host.until(lambda: host.pool.counters)  # the worker may be quicker than the fork server's word
    assert host.pool.counters == {"roused:stopped": 1}
    assert pid(host) == victim
    assert stat_of(child)[0] != "T"


def test_a_stopped_fork_server_goes_on(host: Host) -> None:
    """Otherwise the node would never hear of its workers' ends."""
    victim = pid(host)
    stop(fork_server_of(victim))
    os.kill(victim, signal.SIGKILL)
    assert host.take(WorkerLost) == WorkerLost(0, None, "signal 9 (SIGKILL)", blame=False)
    host.take(WorkerReady)
    assert host.pool.counters == {"roused:stopped": 1}


# ---------------------------------------------------------------- of the fork server and the node


def test_a_dead_fork_server_is_replaced(hosts: Hosts, gate: Gate) -> None:
    host = hosts(2)
    (found,) = host.results(host.run(with_grandchild, range(1)))
    running = host.run(gate.task(), [1], worker=1)
    gate.wait_until_entered()
    host.run(str, [2], worker=1)
    victims = host.pool.worker_pids()
    os.kill(fork_server_of(victims[0]), signal.SIGKILL)
    assert all(gone(process) for process in victims)  # the busy one too, without a word from us
    losses = [host.take(WorkerLost) for _ in victims]
    assert [(lost.worker, lost.running, lost.blame) for lost in losses] == [
        (0, None, False),
        (1, running, False),
    ]
    assert all(gone(process) for process in (*victims, *found))
    for _ in victims:
        host.take(WorkerReady)
    assert host.results(host.run(str, [3], worker=1)) == ["3"]


def test_closing_leaves_nobody(hosts: Hosts, gate: Gate) -> None:
    host = hosts(2)
    (found,) = host.results(host.run(with_grandchild, range(1)))
    host.run(gate.task(), [1], worker=1)
    gate.wait_until_entered()
    everyone = [*host.pool.worker_pids(), fork_server_of(found[0]), found[1]]
    host.close()
    assert all(gone(process) for process in everyone)
    assert host.pool.collect(0.0) == []
    host.close()


NODE = """
import sys, time
sys.path[:] = {path!r}
import cloudpickle
from tests_host import Host

def with_grandchild(busy):
    import os, subprocess
    child = subprocess.Popen(["sleep", "1000"])
    # One write: two workers share this pipe, and print may cut a line into pieces.
    os.write(1, b"%d %d %d\\n" % (os.getpid(), os.getppid(), child.pid))
    while busy:
        pass

host = Host(2)
first = host.run(with_grandchild, [False])
host.run(with_grandchild, [True], worker=1)
host.results(first)
time.sleep(1000)
"""


def test_a_killed_node_leaves_nobody(tmp_path: Path) -> None:
    (tmp_path / "tests_host.py").write_text(Path(__file__).with_name("host.py").read_text())
    program = NODE.format(path=[str(tmp_path), *sys.path])
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        everyone = [int(n) for _ in range(2) for n in node.stdout.readline().split()]
        assert len(everyone) == 6
    finally:
        node.kill()
        node.wait()
        assert node.stdout is not None
        node.stdout.close()
    assert all(gone(process) for process in everyone)
