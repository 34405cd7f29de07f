"""What a worker is at: it says so itself, whatever its task does, and without root."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from stealmesh.workers import stack_takers
from stealmesh.workers.stack_takers import stacks_in
from stealmesh_engine.effects import TakeStacks
from stealmesh_engine.events import StacksTaken
from stealmesh_protocol.stacks import SIGNAL, SILENT, WorkerStacks

from .host import Host

pytestmark = pytest.mark.real


def waits_for_a_lock(entered: str) -> None:
    import threading

    lock = threading.Lock()
    lock.acquire()
    open(entered, "w").close()
    lock.acquire()


def computes(entered: str) -> None:
    open(entered, "w").close()
    while True:
        pass


def sleeps_in_c(entered: str) -> None:
    """Without the interpreter, and it heeds no signal."""
    import ctypes

    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(128)
    lock(mutex)
    open(entered, "w").close()
    lock(mutex)


def holds_the_interpreter(entered: str) -> None:
    import ctypes

    lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(128)
    lock(mutex)
    open(entered, "w").close()
    lock(mutex)


def closes_everything(entered: str) -> None:
    import contextlib
    import ctypes
    import os

    lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(128)
    lock(mutex)
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links[os.readlink(f"/proc/self/fd/{fd}")] = int(fd)
    sheet = next(fd for name, fd in links.items() if "stealmesh-stacks" in name)
    os.dup2(os.open(entered + ".mine", os.O_WRONLY | os.O_CREAT), sheet)
    open(entered, "w").close()
    lock(mutex)


def look(host: Host, *workers: int) -> dict[int, WorkerStacks]:
    host.pool.stack_takers.take(TakeStacks(1, list(workers)), time.monotonic())
    taken = host.take(StacksTaken)
    assert taken.ticket == 1
    return {each.worker: each for each in taken.workers}


STUCK = [waits_for_a_lock, computes, sleeps_in_c, holds_the_interpreter, closes_everything]


def test_workers_say_what_they_are_at(
    hosts: Callable[..., Host], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = hosts(len(STUCK))
    entered = {task: tmp_path / task.__name__ for task in STUCK}
    chunks = [host.run(t, [str(entered[t])], worker=at) for at, t in enumerate(STUCK)]
    host.until(lambda: all(each.exists() for each in entered.values()))
    told = look(host, *range(len(STUCK)))
    assert [told[at].how for at in range(len(STUCK))] == ["", "", SIGNAL, SIGNAL, SILENT]
    for at, task in enumerate(STUCK[:4]):
        assert told[at].pid in host.pool.worker_pids()
        assert told[at].stacks[0].chunk == chunks[at]
        assert [each.function for each in told[at].stacks[0].frames] == [task.__name__]
    assert "closed the file" in told[4].why
    assert (tmp_path / "closes_everything.mine").read_bytes() == b"", (
        "stacks end in no file of a task"
    )
    monkeypatch.setattr(stack_takers, "AGAIN_SECONDS", 1000.0)
    first = look(host, 0)[0]
    assert look(host, 0)[0] is first, "a moment later the same is told, and no worker is asked"
    monkeypatch.setattr(stack_takers, "AGAIN_SECONDS", 0.0)
    again = look(host, 0)[0]
    assert again is not first
    assert again.stacks[0].frames == told[0].stacks[0].frames
    host.pool.stack_takers.take(TakeStacks(2, [3]), time.monotonic())
    host.pool.stop(3, "the test says so", blame=False)
    (last,) = host.take(StacksTaken).workers
    assert (last.how, last.stacks) == (SILENT, [])
    assert last.why == "its process has ended", "a worker that dies is no reason to wait"


def test_a_worker_that_waits_for_work_has_no_stack(host: Host) -> None:
    told = look(host, 0)[0]
    assert (told.stacks, told.how) == ([], "")
    assert host.done(host.run(lambda x: x, [3])).failed == 0


def test_what_faulthandler_writes_is_read() -> None:
    text = (
        'Thread 0x00007f (most recent call first):\n  File "/a/threading.py", line 3 in wait\n'
        '  File "/home/me/job.py", line 12 in helper\n  File "/home/me/job.py", line 30 in run\n'
        "\nCurrent thread 0x00008f [MainThread] (most recent call first):\n"
        '  File "/home/me/job.py", line ??? in <lambda>\n  <garbage\n'
    )
    one, main = stacks_in(text, 7)
    assert [each.line for each in one.frames] == [30, 12, 3]
    assert (one.chunk, main.chunk) == (-1, 7)
    assert (main.name, main.frames[0].line) == ("MainThread", 0)
