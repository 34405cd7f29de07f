from __future__ import annotations

import operator
import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from stealmesh.workers import explore as exploring
from stealmesh.workers import orders
from stealmesh_engine.effects import Divide
from stealmesh_engine.events import BagStep, ChunkDone, ChunkPart, WorkerLost, WorkerReady
from stealmesh_protocol import values
from stealmesh_protocol.messages import Block, JobKind

from .conftest import Gate
from .host import PATIENCE_SECONDS, Host, block

pytestmark = pytest.mark.real
Hosts = Callable[..., Host]


# ---------------------------------------------------------------- work


def test_each_kind_of_job(host: Host) -> None:
    assert host.results(host.run(lambda x: x + 1, range(3, 9, 2))) == [4, 6, 8]
    assert host.results(host.run(str, ["a", 1])) == ["a", "1"]
    calls = [((1,), {"b": 2}), ((3, 4), {})]
    assert host.results(host.run(lambda a, b: a * b, calls, JobKind.SUBMIT)) == [2, 12]
    total = host.run(lambda x: x, range(100), JobKind.REDUCE, combine=operator.add)
    assert host.value(total) == 4950
    assert host.results(host.run(lambda r: [len(r)] * len(r), range(3), vectorized=True)) == [3] * 3


def test_a_chunk_takes_its_items_from_several_blocks(host: Host) -> None:
    spec = host.spec(str)
    blocks = [block(lo, list(range(lo, lo + 10))) for lo in (0, 10, 20)]
    cut = host.order(spec, 5, 25, blocks, str)
    assert host.results(cut) == [str(x) for x in range(5, 25)]
    again = host.order(spec, 0, 30, blocks, str)
    assert host.results(again) == [str(x) for x in range(30)]


def test_items_changed_by_a_task_are_fresh_when_asked_for_again(host: Host) -> None:
    def take(item: list[int]) -> int:
        return item.pop()

    spec = host.spec(take)
    blocks = [block(0, [[n] for n in range(10)])]
    for lo, hi in ((0, 4), (4, 8), (2, 6), (0, 9)):
        assert host.results(host.order(spec, lo, hi, blocks, take)) == list(range(lo, hi))


def test_another_attempt_in_a_worker_gets_a_fresh_item(host: Host) -> None:
    def take(item: list[int]) -> int:
        return 1 // (item.pop() % 2) + len(item)

    spec = host.spec(take, retries=1)
    blocks = [block(0, [[1, 1], [1, 2], [3, 3]])]
    chunk = host.order(spec, 0, 2, blocks, take)  # a part: the block is kept opened
    parts = host.take(ChunkPart), host.take(ChunkPart)
    assert [(part.codec, part.upto) for part in parts] == [(values.PLAIN, 1), (values.AGAIN, 2)]
    assert host.done(chunk).upto == 2
    again = host.done(host.order(spec, 1, 2, blocks, take))  # fails as it did the first time
    assert values.again_in(again.blob)[2].text.startswith("ZeroDivisionError")
    assert host.results(host.order(spec, 2, 3, blocks, take)) == [2]


def test_an_order_longer_than_a_packet(host: Host) -> None:
    """Thousands of one-item blocks: cached, because each is used whole, or inline."""
    spec = host.spec(len)
    blocks = [block(n, ["x" * (n % 50)]) for n in range(4000)]
    expected = [n % 50 for n in range(4000)]
    assert host.results(host.order(spec, 0, 4000, blocks, len)) == expected
    assert host.results(host.order(spec, 0, 4000, blocks, len)) == expected


def test_a_worker_forgets_and_is_told_again(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "CACHE_OCTETS_MAX", 300_000)
    host = hosts()
    rng = random.Random(7)
    spec = host.spec(len)
    blocks = [block(n, [bytes(100_000)]) for n in range(8)]
    wanted = [sorted(rng.sample(range(8), rng.randint(1, 6))) for _ in range(60)]
    chunks = []
    for numbers in wanted:
        lo, hi = numbers[0], numbers[-1] + 1
        chunks.append((host.order(spec, lo, hi, blocks[lo:hi], len), hi - lo))
    for chunk, count in chunks:
        assert host.results(chunk) == [100_000] * count


def test_the_function_of_a_job_outlives_its_blocks(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used longest ago only by the look of it: orders of one job name it once."""
    monkeypatch.setattr(orders, "CACHE_OCTETS_MAX", 250_000)
    spec = host.spec(len)
    halves = [block(2 * n, [bytes(50_000), bytes(50_000)]) for n in range(8)]
    for n in range(8):
        for lo in (2 * n, 2 * n + 1):
            assert host.results(host.order(spec, lo, lo + 1, [halves[n]], len)) == [50_000]


def test_a_forgotten_job_with_a_large_function_can_come_back(host: Host) -> None:
    function = partial(operator.add, bytes(100_000))
    spec = host.spec(function)
    for _ in range(2):
        done = host.order(spec, 0, 1, [block(0, [b"!"])], function)
        assert host.results(done) == [bytes(100_000) + b"!"]
        host.pool.forget(spec.job)


def test_a_forgotten_job_can_come_back(host: Host) -> None:
    spec = host.spec(len)
    blocks = [block(0, [bytes(50_000)] * 2)]
    assert host.results(host.order(spec, 0, 1, blocks, len)) == [50_000]
    host.pool.forget(spec.job)
    assert host.results(host.order(spec, 0, 2, blocks, len)) == [50_000] * 2


def test_blobs_of_64_mib_pass_each_other(host: Host) -> None:
    """Both sides write far more than the sockets hold before either has read it all."""
    size = 64 << 20
    first = host.run(lambda x: bytes(x), [size])
    second = host.run(lambda x: len(x), [bytes(size)])
    third = host.run(lambda x: bytes(x), [size])
    assert host.results(first) == [bytes(size)]
    assert host.results(second) == [size]
    assert len(host.results(third)[0]) == size


def test_signals_in_the_middle_of_sending_lose_nothing(host: Host) -> None:
    def alarmed(_: int) -> bytes:
        import signal

        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        return bytes(range(256)) * (1 << 17)

    assert host.results(host.run(alarmed, range(1))) == [bytes(range(256)) * (1 << 17)]


def test_what_a_task_prints_is_out_before_its_result(
    hosts: Hosts, capfd: pytest.CaptureFixture[str]
) -> None:
    host = hosts(environment={"PYTHONUNBUFFERED": ""})

    def speak(_: int) -> None:
        print("whole line")
        print("part of one", end="")

    host.results(host.run(speak, range(1)))
    assert capfd.readouterr().out == "whole line\npart of one"


# ---------------------------------------------------------------- the worker's world


def test_a_worker_starts_with_nothing_it_does_not_need(host: Host) -> None:
    def loaded(_: int) -> list[str]:
        import sys

        return sorted({"numpy", "zmq", "asyncio", "rich", "lz4"} & set(sys.modules))

    assert host.results(host.run(loaded, range(1))) == [[]]


def test_the_environment_and_the_import_paths(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "lamps.py").write_text("def lit(x): return x * 10")
    host = hosts(import_paths=[str(tmp_path)], environment={"MKL_NUM_THREADS": "7"})

    def look(_: int) -> list[str | None]:
        import os

        return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]

    assert host.results(host.run(look, range(1))) == [[os.getenv("OMP_NUM_THREADS", "1"), "7"]]
    assert host.results(host.run(b"clamps\nlit\n.", range(2))) == [0, 10]


def test_a_module_that_appears_later_is_found(hosts: Hosts, tmp_path: Path) -> None:
    host = hosts(import_paths=[str(tmp_path)])
    missing = b"clate_lamps\nlit\n."
    (failure,) = host.failures(host.run(missing, range(1)))
    assert failure.kind == values.UNLOADABLE
    assert "module 'late_lamps' is not importable on node here" in failure.text
    (tmp_path / "late_lamps.py").write_text("def lit(x): return x * 10")
    assert host.results(host.run(missing, range(2))) == [0, 10]


def test_items_that_cannot_be_opened_are_unloadable(host: Host) -> None:
    blob = b"(cno_such_lamps\nLamp\nl."  # a list of that class, in pickle
    chunk = host.order(host.spec(len), 0, 1, [(Block(0, 1, values.PICKLE), blob)], len)
    (failure,) = host.failures(chunk)
    assert failure.kind == values.UNLOADABLE
    assert "no_such_lamps" in failure.text


def test_the_initializer_runs_once_in_every_worker(hosts: Hosts) -> None:
    def light(name: str) -> None:
        import builtins

        builtins.lamps = [*getattr(builtins, "lamps", []), name]  # type: ignore[attr-defined]

    def look(_: int) -> Any:
        import builtins

        return builtins.lamps  # type: ignore[attr-defined]

    host = hosts(2, initializer=cloudpickle.dumps((light, ("red",))))
    for worker in (0, 1):
        assert host.results(host.run(look, range(1), worker=worker)) == [["red"]]


def test_workers_do_not_share_their_dice(hosts: Hosts) -> None:
    def roll(_: int) -> float:
        import random

        return random.random()

    host = hosts(2)
    first, second = (host.run(roll, range(1), worker=worker) for worker in (0, 1))
    assert host.results(first) != host.results(second)


def test_memory_past_the_limit_is_the_tasks_error(hosts: Hosts) -> None:
    host = hosts(memory_limit_bytes=256 << 20)
    results = host.run(lambda mib: len(bytearray(mib << 20)), [1, 1024, 2])
    (failure,) = host.failures(results)
    assert (failure.offset, failure.kind) == (1, "out-of-memory")
    assert "256 MiB" in failure.text
    assert "in <lambda>" in failure.traceback
    assert host.results(host.run(lambda x: x, range(1))) == [0]


# ---------------------------------------------------------------- taking back


def test_a_retracted_chunk_does_not_run(host: Host, gate: Gate, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def leave_a_trace(x: int) -> None:
        with open(trace, "a") as file:
            file.write(str(x))

    running = host.run(gate.task(), ["a"])
    gate.wait_until_entered()
    waiting = host.run(leave_a_trace, [1])
    assert host.pool.retract(0).chunk == waiting
    assert host.pool.retract(0).chunk is None
    after = host.run(leave_a_trace, [2])
    gate.let_go()
    assert host.results(running) == ["a"]
    host.done(after)
    assert Path(trace).read_text() == "2"


def octets_of(worker: int) -> int:
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_an_idle_worker_lets_go_of_a_forgotten_job(host: Host, gate: Gate) -> None:
    """The order to catch up waits in the same queue as a chunk that is taken back."""
    spec = host.spec(len)
    blocks = [block(0, [bytes([n]) * (20 << 20) for n in (1, 2)])]
    (worker,) = host.pool.worker_pids()
    before = octets_of(worker)
    assert host.results(host.order(spec, 0, 1, blocks, len)) == [20 << 20]
    assert octets_of(worker) > before + (40 << 20)
    running = host.run(gate.task(), ["a"])
    gate.wait_until_entered()
    host.pool.forget(spec.job)
    waiting = host.run(str, [1])
    assert host.pool.retract(0).chunk == waiting
    gate.let_go()
    assert host.results(running) == ["a"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while octets_of(worker) > before + (10 << 20):
        assert time.monotonic() < deadline, octets_of(worker) - before
    assert host.results(host.order(spec, 0, 2, blocks, len)) == [20 << 20] * 2


def test_every_chunk_is_either_done_or_retracted(host: Host) -> None:
    """Worker and node reach for the same orders, thousands of times."""
    rng = random.Random(5)
    spec = host.spec(abs, step=1)
    ordered: set[int] = set()
    retracted: list[int] = []
    done: list[int] = []
    for _ in range(1500):
        for _ in range(rng.randint(1, 4)):
            ordered.add(host.order(spec, 0, 1, [], abs))
        for _ in range(rng.randint(0, 3)):
            chunk = host.pool.retract(0).chunk
            retracted += [] if chunk is None else [chunk]
        while len(ordered) - len(retracted) - len(done) > 20:
            done.append(host.take(ChunkDone).chunk)
    while len(done) + len(retracted) < len(ordered):
        done.append(host.take(ChunkDone).chunk)
    assert sorted(done + retracted) == sorted(ordered)
    assert done
    assert retracted


def test_hundreds_of_orders_may_wait(host: Host, gate: Gate) -> None:
    running = host.run(gate.task(), ["a"])
    gate.wait_until_entered()
    waiting = [host.run(str, [n]) for n in range(600)]
    taken = {host.pool.retract(0).chunk for _ in range(5)}  # some of those the kernel did not take
    gate.let_go()
    assert host.results(running) == ["a"]
    for number, chunk in enumerate(waiting):
        if chunk not in taken:
            assert host.results(chunk) == [str(number)]
    assert taken == set(waiting[-5:])
    assert not any(getattr(event, "chunk", None) in taken for event in host.log)


# ---------------------------------------------------------------- bags


def burst(bag: list[int], limit: int) -> tuple[int, list[int]]:
    """Every n breeds n-1 and n-2; all count one."""
    visited = 0
    while bag and visited < limit:
        n = bag.pop()
        visited += 1
        bag += range(max(0, n - 2), n)
    return visited, bag


def test_bags_are_shared_at_random_and_the_total_is_exact(hosts: Hosts) -> None:
    host = hosts(2)
    rng = random.Random(3)
    idle = [0, 1]
    bags = [(1, exploring.pack_bag([24]))]
    running = 0
    total = shared = 0
    while bags or running:
        while idle and bags:
            items, blob = bags.pop()
            host.explore(burst, operator.add, blob, items, worker=idle.pop())
            running += 1
        for worker in (0, 1):
            host.pool.share(worker, rng.random() < 0.7)
        step = host.take(BagStep)
        assert not step.failed
        total += values.unpack(step.partial[0], step.partial[1:]) if step.partial else 0
        bags += step.spares
        shared += len(step.spares)
        if not step.remaining:
            idle.append(step.worker)
            running -= 1
    assert total == burst([24], 10**9)[0]
    assert shared > 3


def linger(bag: list[int], limit: int) -> tuple[int, list[int]]:
    return 0, bag


def test_one_wish_is_granted_once(host: Host) -> None:
    chunk = host.explore(linger, operator.add, exploring.pack_bag(list(range(8))), 8)
    host.pool.share(0, True)
    first = host.take(BagStep)
    assert (first.chunk, first.remaining) == (chunk, 4)
    assert [(items, exploring.open_bag(blob)) for items, blob in first.spares] == [
        (4, [1, 3, 5, 7])
    ]
    second = host.take(BagStep)
    assert (second.remaining, second.spares) == (4, [])


def test_a_bag_larger_than_a_packet(host: Host) -> None:
    bag = exploring.pack_bag([0] * 200_000 + [2**40])
    visit = host.explore(lambda bag, limit: (len(bag), []), operator.add, bag, 200_001)
    step = host.take(BagStep)
    assert (step.chunk, step.remaining) == (visit, 0)
    assert values.unpack(step.partial[0], step.partial[1:]) == 200_001


def test_a_large_function_that_made_room_for_others_is_forgotten_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its job forgot it a second time, and that ended the node."""
    monkeypatch.setattr("stealmesh.workers.orders.CACHE_OCTETS_MAX", 300_000)
    specs = []
    for number in range(4):
        function = partial(operator.add, bytes([number]) * 100_000)
        specs.append(host.spec(function))
        done = host.order(specs[-1], 0, 1, [block(0, [b"!"])], function)
        assert host.results(done) == [bytes([number]) * 100_000 + b"!"]
    for spec in specs:
        host.pool.forget(spec.job)
    assert host.results(host.run(abs, [-3])) == [3]


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
def test_a_worker_has_done_its_share_by_items(hosts: Hosts, kind: JobKind) -> None:
    """By items, not by chunks: or its orderly end would count as a death."""
    host = hosts(tasks_max=5)
    combine = operator.add if kind is JobKind.REDUCE else None
    for _ in range(2):
        host.done(host.run(abs, range(4), kind, combine=combine))
    loss = host.take(WorkerLost)
    assert loss.retired, loss
    host.take(WorkerReady)
    assert host.results(host.run(abs, range(2))) == [0, 1]


def test_what_a_worker_has_given_back_is_not_of_its_share(hosts: Hosts, gate: Gate) -> None:
    host = hosts(tasks_max=5)
    chunk = host.run(gate.task(), range(100))
    gate.wait_until_entered()
    host.pool.divide(Divide(0, chunk, give=True))
    part = host.take(ChunkPart)
    assert (part.upto, part.kept) == (0, 1)
    gate.let_go()
    assert host.results(chunk) == [0]
    assert host.results(host.run(abs, range(3))) == [0, 1, 2]
    assert not [event for event in host.log if isinstance(event, WorkerLost)]
