"""A chunk is divided while it runs: every item is run by exactly one of those who may, and told once."""

from __future__ import annotations

import mmap
import operator
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.patience import until

from stealmesh.workers import run as runner
from stealmesh.workers import wire
from stealmesh.workers.division import ChunkRun, Failed, Listener
from stealmesh.workers.failures import Failures
from stealmesh.workers.outcome import ChunkOrder
from stealmesh_engine.effects import Divide
from stealmesh_engine.events import ChunkDone, ChunkPart, Event, WorkerLost, WorkerReady
from stealmesh_protocol import values
from stealmesh_protocol.errors import Defer
from stealmesh_protocol.ids import digest_of
from stealmesh_protocol.messages import JobKind

from .conftest import Gate
from .host import Host, shipped

GATE_AT = 7
ITEMS = 20


def ask(host: Host, chunk: int, *, give: bool = True, worker: int = 0) -> None:
    host.pool.divide(Divide(worker, chunk, give))


def gated(gate: Gate, path: Path) -> Callable[[Any], Any]:
    """Notes each item that it begins, and stays in one of them."""
    wait, log = gate.task(), str(path)

    def task(x: int) -> Any:
        with open(log, "a") as file:
            file.write(f"{x}\n")
        return wait(x) if x == GATE_AT else x

    return task


def begun(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def results(event: ChunkPart | ChunkDone) -> list[Any]:
    """An empty list if earlier parts told them all: the event has no octets then."""
    return values.unpack_list(event.codec, event.blob) if event.blob else []


# ---------------------------------------------------------------- one worker, asked at the right moment


@pytest.mark.parametrize("items", [range(ITEMS), list(range(ITEMS)), range(10**30, 10**30 + ITEMS)])
def test_what_is_not_begun_comes_back_while_an_item_runs(
    host: Host, gate: Gate, tmp_path: Path, items: Any
) -> None:
    first = items[0]
    task = gated(gate, tmp_path / "log")

    def shifted(x: int) -> Any:
        return task(x - first)

    if first:  # such numbers travel as items, not as a range
        items = list(items)
    chunk = host.run(shifted, items)
    gate.wait_until_entered()
    ask(host, chunk)
    part = host.take(ChunkPart)
    assert (part.upto, part.kept, results(part)) == (GATE_AT, GATE_AT + 1, list(range(GATE_AT)))
    gate.let_go()
    done = host.done(chunk)
    assert (done.upto, results(done)) == (GATE_AT + 1, [GATE_AT])
    assert begun(tmp_path / "log") == list(range(GATE_AT + 1))


def test_results_may_be_asked_for_without_giving_anything_back(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    chunk = host.run(gated(gate, tmp_path / "log"), range(ITEMS))
    gate.wait_until_entered()
    for _ in range(3):
        ask(host, chunk, give=False)
    part = host.take(ChunkPart)
    assert (part.upto, part.kept) == (GATE_AT, ITEMS)
    gate.let_go()
    host.take(ChunkDone)
    told = [results(each) for each in host.log if isinstance(each, ChunkPart | ChunkDone)]
    assert [each for part in told for each in part] == list(range(ITEMS)), "nothing is told again"
    assert all(told[:-1]), "nor is nothing told; an answer after the gate may have something"


class LeavesATrace:
    """A result that a worker packs, and then lets go."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return str, ("packed",)

    def __del__(self) -> None:
        with open(self.path, "a") as file:
            file.write("gone\n")


def test_who_was_asked_keeps_no_results_until_it_is_asked_again(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    wait, path = gate.task(), str(tmp_path / "log")
    Path(path).touch()

    def task(x: int) -> Any:
        if x == GATE_AT:
            wait(x)
        return LeavesATrace(path)

    chunk = host.run(task, range(ITEMS))
    gate.wait_until_entered()
    ask(host, chunk, give=False)
    host.take(ChunkPart)
    gate.let_go()
    host.done(chunk)
    until(lambda: Path(path).read_text().count("gone") == ITEMS)


def test_of_a_reduction_only_the_rest_comes_back(host: Host, gate: Gate, tmp_path: Path) -> None:
    task = gated(gate, tmp_path / "log")
    chunk = host.run(task, range(ITEMS), JobKind.REDUCE, combine=operator.add)
    gate.wait_until_entered()
    ask(host, chunk)
    part = host.take(ChunkPart)
    assert (part.upto, part.kept, part.blob) == (0, GATE_AT + 1, b"")
    gate.let_go()
    done = host.done(chunk)
    assert (done.upto, values.unpack(done.codec, done.blob)) == (8, sum(range(8)))


def test_failures_are_counted_from_the_first_item_of_their_part(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    task = gated(gate, tmp_path / "log")

    def odd_fails(x: int) -> Any:
        if x % 2 and x != GATE_AT:
            raise ValueError(x)
        return task(x)

    chunk = host.run(odd_fails, range(ITEMS))
    gate.wait_until_entered()
    ask(host, chunk, give=False)
    part = host.take(ChunkPart)
    assert [f.offset for f in values.unpack_outcomes(part.codec, part.blob)[1]] == [1, 3, 5]
    assert part.failed == 3
    gate.let_go()
    assert [GATE_AT + f.offset for f in host.failures(chunk)] == [9, 11, 13, 15, 17, 19]


def test_an_item_that_is_to_run_again_is_told_at_once(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    """What is finished before it comes first, and the loop goes on behind it."""
    task = gated(gate, tmp_path / "log")

    def two_fail(x: int) -> Any:
        if x in (2, 3):
            raise ValueError(x)
        return task(x)

    chunk = host.run(two_fail, range(ITEMS), retries=2)
    gate.wait_until_entered()
    before, second, third = host.take(ChunkPart), host.take(ChunkPart), host.take(ChunkPart)
    assert (before.upto, results(before)) == (2, [0, 1])
    for part, item in ((second, 2), (third, 3)):
        assert (part.codec, part.upto, part.kept) == (values.AGAIN, item + 1, ITEMS)
        seconds, _, failure = values.again_in(part.blob)
        assert seconds < 0
        assert failure.text == f"ValueError: {item}"
    gate.let_go()
    assert results(host.done(chunk)) == list(range(4, ITEMS))


def test_a_chunk_whose_last_item_is_to_run_again_ends(host: Host) -> None:
    def last_waits(x: int) -> int:
        if x == 9:
            raise Defer(7)
        return x

    chunk = host.run(last_waits, range(10))
    assert results(host.take(ChunkPart)) == list(range(9))
    part = host.take(ChunkPart)
    assert values.again_in(part.blob)[0] == 7
    assert host.done(chunk).upto == 10


def test_what_cannot_be_packed_beside_the_task_is_left_to_the_end(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    task = gated(gate, tmp_path / "log")

    def a_lock(x: int) -> Any:
        return threading.Lock() if x == 2 else task(x)

    chunk = host.run(a_lock, range(ITEMS))
    gate.wait_until_entered()
    ask(host, chunk)
    part = host.take(ChunkPart)
    assert (part.upto, part.kept, part.blob) == (0, GATE_AT + 1, b"")
    gate.let_go()
    assert [failure.offset for failure in host.failures(chunk)] == [2]


def test_a_question_for_another_chunk_hits_nothing(host: Host, gate: Gate, tmp_path: Path) -> None:
    chunk = host.run(gated(gate, tmp_path / "log"), range(ITEMS))
    behind = host.run(gated(gate, tmp_path / "log"), range(100, 103))
    gate.wait_until_entered()
    ask(host, behind)
    ask(host, chunk, give=False)
    host.take(ChunkPart)
    gate.let_go()
    assert host.results(behind) == [100, 101, 102]


def test_what_takes_its_items_at_once_says_nothing(host: Host, gate: Gate) -> None:
    wait = gate.task()
    chunk = host.run(lambda items: [wait(x) for x in items], range(1), vectorized=True)
    gate.wait_until_entered()
    ask(host, chunk)
    gate.let_go()
    assert host.results(chunk) == [0]
    assert not [event for event in host.log if isinstance(event, ChunkPart)]


def test_who_dies_after_a_part_has_only_the_rest_on_its_conscience(
    host: Host, gate: Gate, tmp_path: Path
) -> None:
    chunk = host.run(gated(gate, tmp_path / "log"), range(ITEMS))
    gate.wait_until_entered()
    ask(host, chunk)
    assert host.take(ChunkPart).upto == GATE_AT
    host.pool.stop(0, "enough", blame=True)
    lost = host.take(WorkerLost)
    assert (lost.running, lost.blame) == (chunk, True)
    host.take(WorkerReady)


def test_a_forked_copy_of_a_task_does_not_wait_for_the_listener(host: Host) -> None:
    def fork(x: int) -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert host.results(host.run(fork, range(5))) == [7] * 5


def test_a_worker_that_has_single_items_only_has_one_thread(host: Host) -> None:
    def threads(_: int) -> int:
        return len(os.listdir("/proc/self/task"))

    assert host.results(host.run(threads, range(1))) == [1]
    assert host.results(host.run(threads, range(2))) == [2, 2]


def test_signals_still_go_to_the_task(host: Host) -> None:
    """The listener must not be the thread that a signal is delivered to."""

    def alarmed(_: int) -> str:
        import signal

        def handler(*_: object) -> None:
            raise InterruptedError("rung")

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            time.sleep(60)
        except InterruptedError as error:
            return str(error)
        finally:
            signal.signal(signal.SIGALRM, before)
        return "slept"

    assert host.results(host.run(alarmed, range(2))) == ["rung", "rung"]


# ---------------------------------------------------------------- any moment


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
@pytest.mark.parametrize("fresh", [True, False])
def test_every_item_is_run_once_whenever_the_worker_is_asked(
    host: Host, tmp_path: Path, kind: JobKind, fresh: bool
) -> None:
    """The node's side of it: what comes back is ordered again, and all that is told tiles the whole."""
    items, random = 60_000, Random(f"{kind} {fresh}")
    path = tmp_path / "runs"
    path.write_bytes(bytes(items))
    task = counting(str(path))
    combine = operator.add if kind is JobKind.REDUCE else None
    digest = digest_of(shipped(combine)) if combine else b""
    spec = host.spec(task, kind, step=1, combine=digest)
    for _ in range(8):
        told = tile(host, spec, task, combine, items, random, fresh=fresh)
        assert sorted(told) == list(range(items))
        assert set(path.read_bytes()) == {1}, "an item was run twice, or never"
        path.write_bytes(bytes(items))


def counting(path: str) -> Callable[[int], int]:
    """Counts in shared memory how often each item is run."""
    opened: list[Any] = []

    def task(x: int) -> int:
        if not opened:
            with open(path, "r+b") as file:
                opened.append(mmap.mmap(file.fileno(), 0))
        opened[0][x] += 1
        return x

    return task


def tile(
    host: Host,
    spec: Any,
    task: Any,
    combine: Any,
    items: int,
    random: Random,
    *,
    fresh: bool,
) -> list[int]:
    """Run [0, items) in one chunk, and what comes back of it in others, asking all the time."""
    left, told = [(0, items)], []
    while left:
        lo, hi = left.pop()
        chunk = host.order(spec, lo, hi, [], task, combine)
        at, end, over = lo, hi, False
        pauses = [random.uniform(0, 0.003) for _ in range(3)]
        while not over:
            if pauses:
                time.sleep(pauses.pop())
                ask(host, chunk, give=not fresh or not pauses)
            event: Event = host.wait(lambda e: isinstance(e, ChunkPart | ChunkDone))
            assert isinstance(event, ChunkPart | ChunkDone)
            assert event.chunk == chunk
            over = isinstance(event, ChunkDone)
            upto = end if event.upto is None else event.upto
            kept = upto if isinstance(event, ChunkDone) else event.kept
            assert at <= upto <= kept <= end
            if combine is None:
                told += results(event) if event.blob else []
            elif upto > at:
                assert values.unpack(event.codec, event.blob) == sum(range(at, upto))
                told += range(at, upto)
            if kept < end:
                left.append((kept, end))
            at, end = upto, kept
    return told


# ---------------------------------------------------------------- the loop and the listener


def a_run(count: int, results: list[Any], kept: int | None = None) -> ChunkRun:
    return ChunkRun(1, 0, True, results, Failures(), 0.0, count if kept is None else kept)


def test_a_loop_in_several_goes_stops_before_the_next() -> None:
    run = a_run(10, [0, 1, 2])
    source = iter(range(5))
    assert run.goes_on(source)
    assert run.give_back() == 4
    assert list(source) == []
    assert not run.goes_on(iter(range(5, 10)))


def test_the_last_item_is_never_taken_from_its_worker() -> None:
    run = a_run(4, [0, 1, 2])
    source = iter(range(3, 4))
    assert run.goes_on(source)
    assert run.give_back() == 4
    assert list(source) == [3]


def test_an_iterator_that_cannot_be_emptied_is_left_alone() -> None:
    run = a_run(10, [])
    assert run.goes_on(x for x in range(10))
    assert run.give_back() == 10


def test_a_listener_that_comes_too_late_says_nothing() -> None:
    said: list[tuple[Any, ...]] = []
    run = a_run(10, [0, 1, 2])
    run.goes_on(iter(range(10)))
    near, far = wire.packets()
    with near, far:
        listener = Listener(near, lambda *pieces: said.append(pieces))
        listener.ends(run)
        listener._answer(run, give=True)
    assert said == []


def test_a_divided_loop_that_ends_at_once_gives_the_next_item_back_as_well() -> None:
    """It was kept because it might have been begun, and was not: the last word says so."""
    stopped: list[ChunkRun] = []

    def begins(count: int, results: list[Any], failures: Failed, now: float) -> ChunkRun:
        run = ChunkRun(1, 0, True, results, failures, now, count)
        stopped.append(run)
        return run

    def task(x: int) -> int:
        if x == 3:
            stopped[0].give_back()
        return x

    chunk = ChunkOrder(wire.MAP, b"f", b"", 0, 1, False, 0, 0, 10, [])
    watch = (begins, lambda run: None, lambda *told: True)
    outcome = runner.run(chunk, task, None, range(10), lambda lo, hi: range(lo, hi), watch)
    assert outcome.done == 4
    assert values.unpack_list(outcome.codec, outcome.blob) == [0, 1, 2, 3]
