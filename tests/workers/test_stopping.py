"""An exception in a task, from outside: in what runs, once, and never in the middle of a word to the node."""

from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import sys
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from stealmesh.workers import run, wire
from stealmesh.workers import stopping as stopping_module
from stealmesh.workers.outcome import ChunkOrder
from stealmesh.workers.reporting import Here
from stealmesh.workers.reporting_beside import Speaker
from stealmesh.workers.stopping import SIGNAL, FromOutside, Stopping
from stealmesh.workers.stopping_beside import StoppingBeside
from stealmesh_protocol import values
from stealmesh_protocol.errors import TaskStopped

CHUNK, FIRST = 7, 100


@pytest.fixture
def line() -> memoryview:
    return memoryview(array("q", [0] * wire.WORDS_A_WORKER))


@pytest.fixture
def stopping(line: memoryview, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopping]:
    """Item 102 runs."""
    before = signal.getsignal(SIGNAL)
    stopping = Stopping()
    monkeypatch.setattr(stopping_module, "NOW", stopping)
    here = Here()
    here.number, here.lo, here.results = CHUNK, FIRST, [0, 1]
    stopping.listen(line, here)
    stopping.inside = True
    yield stopping
    signal.signal(SIGNAL, before)


def order(line: memoryview, chunk: int, lo: int, hi: int) -> None:
    line[wire.STOP_CHUNK], line[wire.STOP_LO], line[wire.STOP_HI] = chunk, lo, hi


@pytest.mark.parametrize(
    ("chunk", "lo", "hi"), [(6, 102, 103), (7, 100, 102), (7, 103, 110), (0, 0, 0)]
)
def test_what_is_not_meant_goes_on(
    stopping: Stopping, line: memoryview, chunk: int, lo: int, hi: int
) -> None:
    order(line, chunk, lo, hi)
    signal.raise_signal(SIGNAL)


def test_an_order_is_obeyed_once(stopping: Stopping, line: memoryview) -> None:
    order(line, CHUNK, 102, 103)
    with pytest.raises(TaskStopped) as caught:
        signal.raise_signal(SIGNAL)
    assert type(caught.value) is FromOutside
    assert type(pickle.loads(pickle.dumps(caught.value))) is TaskStopped
    signal.raise_signal(SIGNAL)


def test_nothing_is_raised_outside_of_the_user_s_code(stopping: Stopping, line: memoryview) -> None:
    order(line, CHUNK, 102, 103)
    stopping.inside = False
    signal.raise_signal(SIGNAL)


def test_a_word_to_the_node_goes_out_whole(stopping: Stopping, line: memoryview) -> None:
    """The signal comes in the middle of it, and counts after it."""
    sent: list[str] = []

    def send(*pieces: Any) -> None:
        sent.append("half")
        signal.raise_signal(SIGNAL)
        sent.append("whole")

    order(line, CHUNK, 102, 103)
    here, lock = Here(), threading.Lock()
    here.settle_in(lock, send)
    here.number, here.lo, here.results = CHUNK, FIRST, [0, 1]
    with pytest.raises(TaskStopped):
        here.tell(1.0, 2.0)
    assert sent == ["half", "whole"]
    assert not lock.locked()


def test_a_thread_is_stopped_only_in_the_user_s_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders come without end, at every moment, while tasks of many lengths run: each ends once, well or
    stopped, and nothing is raised anywhere else."""
    loop = asyncio.new_event_loop()
    now = StoppingBeside(loop)
    monkeypatch.setattr(stopping_module, "NOW", now)
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00001)
    ended: list[int] = []
    over = threading.Event()

    def task(x: int) -> int:
        for _ in range(x % 50):
            if x % 7 == 0:
                with now.holds_back():
                    x += 0
        return x

    def work() -> None:
        for x in range(3000):
            speaker = Speaker(x, 0)
            now.begins(speaker)
            order = ChunkOrder(wire.MAP, b"f", b"", 0, 1, False, 5, x, x + 1, [])
            outcome = run.run(order, task, None, [x], lambda lo, hi: [])
            now.ends(speaker)
            results, failed = values.unpack_outcomes(outcome.codec, outcome.blob)
            assert failed or results == [x]
            ended.append(len(failed))
        over.set()

    # What a test library hangs into the collector runs inside of tasks: Python would print what is raised there.
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    thread = threading.Thread(target=work)
    thread.start()
    while not over.is_set() and thread.is_alive():
        for number in list(now._runs):
            now._stop(number, 0, 1, False)
    thread.join()
    loop.close()
    gc.callbacks[:] = callbacks
    sys.setswitchinterval(before)
    assert len(ended) == 3000
    assert 0 < sum(ended) < 3000
