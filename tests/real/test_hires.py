"""Programs that wait for each call hire workers: SIGKILL of all three parties at random moments, and all that a task
can do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.everyday import running
from tests.real.calls_alone import double, right
from tests.real.conftest import node_pids

import stealmesh

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


def hired_items(mesh: stealmesh.Mesh) -> int:
    """How many items went to hired workers by now. Counted when a hire is over, which idleness ends."""
    hires = mesh._life.driver.core.hires  # type: ignore[union-attr]
    until = time.monotonic() + PATIENCE_SECONDS
    while hires._hired and time.monotonic() < until:
        time.sleep(0.01)
    counters: Counter[str] = mesh._life.driver.core.counters  # type: ignore[union-attr, assignment]
    return counters.get("hired-items", 0)


def until_hired(mesh: stealmesh.Mesh) -> None:
    """Until a hired worker has had an item: the kernel decides how long that takes."""
    before, until = hired_items(mesh), time.monotonic() + PATIENCE_SECONDS
    while hired_items(mesh) == before:
        assert right(mesh, 60) == 60
        assert time.monotonic() < until, "nobody is hired"


def worker_pids(mesh: stealmesh.Mesh) -> list[int]:
    return [pid for node in mesh.status()["nodes"] for pid in node["worker_pids"]]


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


# ---------------------------------------------------------------- what a task can do


def test_calls_that_come_alone_go_to_a_hired_worker(mesh: stealmesh.Mesh) -> None:
    until_hired(mesh)


PRINTS = """
import os
import stealmesh

def says(number):
    print(f"call {number}")
    return number

def has_said(number):
    os.system(f"echo call {number}")
    return number

with stealmesh.Mesh(workers=2) as mesh:
    view = mesh.options(output="caller")
    for task in (says, has_said):
        for at in range(40):
            assert view.submit(task, at).result() == at
"""


def calls_said(directory: Path, program: str) -> list[str]:
    """The numbers that calls of this program have printed, as they came."""
    running.write(directory, program=program)
    done = subprocess.run(
        [sys.executable, str(directory / "program.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return [line.rpartition("call ")[2] for line in done.stdout.splitlines() if "call " in line]


def test_what_a_task_prints_comes_home_in_order(tmp_path: Path) -> None:
    """Also what C code and child processes print."""
    assert calls_said(tmp_path, PRINTS) == 2 * [str(at) for at in range(40)]


def raises(number: int) -> int:
    raise LookupError(number)


def large(number: int) -> bytes:
    return bytes(100_000 + number)


def nested(number: int) -> int:
    return stealmesh.here().submit(double, number).result()


def reports(number: int) -> int:
    stealmesh.report(number, 100)
    return number


def test_tasks_that_need_more_than_an_answer(mesh: stealmesh.Mesh) -> None:
    for at in range(20):
        with pytest.raises(LookupError, match=str(at)):
            mesh.submit(raises, at).result()
    assert [len(mesh.submit(large, at).result()) for at in range(20)] == list(
        range(100_000, 100_020)
    )
    assert [mesh.submit(nested, at).result() for at in range(20)] == list(range(0, 40, 2))
    assert [mesh.submit(reports, at).result() for at in range(20)] == list(range(20))
    assert right(mesh, 50) == 50


def fails_at_first(log: str, number: int) -> int:
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{number}\n")
    if number == 9 and Path(log).read_text().split().count("9") < 3:
        raise ValueError("not yet")
    return number


def test_retries(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    patient = mesh.options(retries=3)
    assert [patient.submit(fails_at_first, log, at).result() for at in range(15)] == list(range(15))
    ran = Counter(Path(log).read_text().split())
    assert ran == {**{str(at): 1 for at in range(15)}, "9": 3}


def ends_its_worker(log: str, number: int) -> int:
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{number}\n")
    if number == 30:
        os._exit(5)
    return number


def test_the_item_that_kills_its_worker_is_named_after_three_deaths(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    for at in range(40):
        future = mesh.submit(ends_its_worker, log, at)
        if at == 30:
            with pytest.raises(
                stealmesh.WorkerDied,
                match=r"item 30 of .*ends_its_worker ended its worker process 3 times",
            ):
                future.result(timeout=PATIENCE_SECONDS)
        else:
            assert future.result(timeout=PATIENCE_SECONDS) == at
    ran = Counter(Path(log).read_text().split())
    assert ran == {**{str(at): 1 for at in range(40)}, "30": 3}


def dozes(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_task_that_takes_long_is_shown_and_can_be_stopped(mesh: stealmesh.Mesh) -> None:
    for _ in range(20):
        assert mesh.submit(dozes, 0.0).result() == 0.0
    future = mesh.submit(dozes, 600.0)
    until = time.monotonic() + PATIENCE_SECONDS
    while not future.running():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert future.stop()
    with pytest.raises(stealmesh.TaskStopped):
        future.result(timeout=PATIENCE_SECONDS)
    assert right(mesh, 50) == 50


def test_a_task_is_stopped_by_another_thread_while_one_waits_for_it(mesh: stealmesh.Mesh) -> None:
    for at in range(30):
        future = mesh.submit(dozes, 0.0 if at < 29 else 600.0)
        if at == 29:
            threading.Timer(0.005, future.stop).start()
            with pytest.raises((stealmesh.TaskStopped, stealmesh.futures.CancelledError)):
                future.result(timeout=PATIENCE_SECONDS)
        else:
            future.result()
    assert right(mesh, 50) == 50


def test_two_threads_call(mesh: stealmesh.Mesh) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda first=first: found.append(right(mesh, 300, first)))
        for first in (0, 1000)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert found == [300, 300]


def test_others_get_the_worker(mesh: stealmesh.Mesh) -> None:
    """A program that calls without end keeps no worker from a map."""
    over = threading.Event()

    def calls() -> None:
        while not over.is_set():
            assert right(mesh, 20) == 20

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        assert list(mesh.map(double, range(50_000))) == list(range(0, 100_000, 2))
    finally:
        over.set()
        thread.join(PATIENCE_SECONDS)


# ---------------------------------------------------------------- deaths


def deaths_of_workers(kills: int, chance: random.Random) -> None:
    with stealmesh.Mesh(workers=2) as mesh:
        until_hired(mesh)
        over = threading.Event()

        def kill() -> None:
            for _ in range(kills):
                time.sleep(chance.uniform(0.0, 0.05))
                pids = worker_pids(mesh)
                kill_all(pids[: chance.choice((1, 1, 2))])
            over.set()

        killer = threading.Thread(target=kill)
        killer.start()
        calls = 0
        while not over.is_set():
            future = mesh.submit(double, calls)
            error = future.exception(timeout=PATIENCE_SECONDS)
            # An item at which workers were killed from outside three times in a row is taken for the cause.
            assert error is None or "signal 9 (SIGKILL)" in str(error)
            assert error is not None or future.result() == 2 * calls
            calls += 1
        killer.join(PATIENCE_SECONDS)
        assert right(mesh, 100) == 100


def deaths_of_nodes(kills: int, chance: random.Random) -> None:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        until_hired(mesh)
        for _ in range(kills):
            pids = node_pids(mesh)
            timer = threading.Timer(
                chance.uniform(0.0, 0.02), kill_all, [pids[: chance.choice((1, 1, 2))]]
            )
            timer.start()
            while timer.is_alive():
                assert right(mesh, 10, chance.randrange(1000)) == 10
            timer.join()
        assert right(mesh, 100) == 100


DESCRIPTORS_A_PROCESS = 7
"""What a node has open for each worker process, also for one that is set aside while another program has the worker."""
FIRST_KILLS = 4
"""After these all that a process opens once is open."""


def deaths_of_programs(kills: int, chance: random.Random) -> None:
    """At any moment: as it joins, before it asks for a worker, while that is on its way, and with a call under way."""
    with stealmesh.Mesh(workers=2) as mesh:
        until_hired(mesh)
        opened: dict[int, int] = {}
        with subprocess.Popen(
            [sys.executable, "-m", "tests.real.calls_alone", "programs", mesh.address],
            env={**os.environ, "STEALMESH_KEY_FILE": mesh.key_file},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as starter:
            assert starter.stdin is not None
            assert starter.stdout is not None
            killed = 0
            while killed < kills:
                if killed >= FIRST_KILLS and not opened:
                    opened = open_descriptors(mesh)
                several = chance.choice((1, 1, 2))
                starter.stdin.write(several * "\n")
                starter.stdin.flush()
                pids = [int(starter.stdout.readline()) for _ in range(several)]
                time.sleep(chance.uniform(0.0, 0.4))
                kill_all(pids)
                killed += several
            starter.stdin.close()
        left = open_descriptors(mesh)
        # Processes change, as each serves one program only. Ways for which nobody asked may wait for the next hire: one
        # of each program that was killed last.
        more = {pid: count - opened.get(pid, count) for pid, count in left.items()}
        assert all(count <= several for count in more.values()), (more, opened)
        until_hired(mesh)


def open_descriptors(mesh: stealmesh.Mesh) -> dict[int, int]:
    """How many the node and each worker has, once the node has heard of all deaths and knows only us. Of a node without
    those of its worker processes: how many of these there are depends on who has called last."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        status = mesh.status()
        node = next(each for each in status["nodes"] if each["role"] != "client")
        if node["links"] == 1 and not node["busy"] and node["workers"] == 2:
            pids = [node["pid"], *node["worker_pids"]]
            counts = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}
            counts[node["pid"]] -= DESCRIPTORS_A_PROCESS * len(node["worker_pids"])
            return counts
        assert time.monotonic() < until, status
        time.sleep(0.05)


KINDS: dict[str, Callable[[int, random.Random], None]] = {
    "workers": deaths_of_workers,
    "nodes": deaths_of_nodes,
    "programs": deaths_of_programs,
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_doubled_by_deaths(kind: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    KINDS[kind](8, random.Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("workers", 140), ("nodes", 60), ("programs", 100)])
def test_many_deaths(kind: str, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    KINDS[kind](kills, random.Random(seed))
