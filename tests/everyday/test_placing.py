"""max_parallel, resources and priority with real nodes, real workers and real SIGKILL.

How many tasks run at once is counted with file locks: a task takes the first free one of a row, and the
kernel frees it when the task's process ends, however it ends. So a lock number of N means that N others ran
at this very moment.
"""

from __future__ import annotations

import fcntl
import operator
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.running import killed

import stealmesh

SLOW = pytest.mark.slow
pytestmark = pytest.mark.real

PATIENCE_SECONDS = 120.0
ROW = 16
TASK_SECONDS = 0.02


def rank(row: str, seconds: float) -> int:
    """Run for a while. Returns how many others ran when this began, as far as they use the same row."""
    for number in range(ROW):
        fd = os.open(f"{row}/{number}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        Path(row, f"used-{number}").touch()
        time.sleep(seconds)
        os.close(fd)
        return number
    raise AssertionError("more tasks than locks")


class Row:
    """A row of locks, and tasks that take one."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path

    def most(self) -> int:
        """How many tasks ever ran at once, also those that were killed."""
        return 1 + max(int(each.name[5:]) for each in self.path.glob("used-*"))

    def task(self, seconds: float = TASK_SECONDS) -> Callable[[int], int]:
        row = str(self.path)
        return lambda item: rank(row, seconds) * 0 + item


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row(tmp_path / "row")


@pytest.fixture
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=3, workers=2) as mesh:
        yield mesh


class Killer:
    """Kills a worker or a node again and again, when there is something to lose, until it has killed enough."""

    def __init__(self, mesh: stealmesh.Mesh, row: Row, kills: int) -> None:
        self.killed = 0
        self._mesh, self._row, self._kills = mesh, row, kills
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while self.killed < self._kills and not self._over.wait(0.4):
            try:
                nodes = self._mesh.status()["nodes"]
            except TimeoutError:
                continue
            nodes = [node for node in nodes if node["role"] != "client" and node["worker_pids"]]
            if len(nodes) < 3:
                continue  # the dead one is not replaced yet
            victim = nodes[self.killed % len(nodes)]
            pid = victim["pid"] if self.killed % 2 else victim["worker_pids"][0]
            self.killed += killed(pid)


# ---------------------------------------------------------------- max_parallel


@pytest.mark.parametrize(
    "kind",
    ["map", "explore", *(pytest.param(kind, marks=SLOW) for kind in ("submit", "map_reduce"))],
)
def test_max_parallel_holds_while_workers_and_nodes_are_killed(
    kind: str, mesh: stealmesh.Mesh, row: Row
) -> None:
    view, items = mesh.options(max_parallel=3), 500
    task = row.task()
    path = str(row.path)

    def expand(depth: int) -> tuple[int, list[int]]:
        rank(path, TASK_SECONDS)
        return 1, [depth - 1] * 2 if depth else []

    def play() -> None:
        if kind == "map":
            assert list(view.map(task, range(items))) == list(range(items))
        elif kind == "submit":
            futures = [view.submit(task, item) for item in range(items)]
            assert [future.result(PATIENCE_SECONDS) for future in futures] == list(range(items))
        elif kind == "map_reduce":
            told = view.map_reduce(task, range(items), operator.add)
            assert told.result(PATIENCE_SECONDS) == sum(range(items))
        else:
            found = view.explore(stealmesh.each(expand), [7], operator.add)
            assert found.result(PATIENCE_SECONDS) == 255

    with Killer(mesh, row, kills=6) as killer:
        play()
        while killer.killed < 3:  # a busy machine lets the job end before enough has died
            play()
    while (
        row.most() < 3
    ):  # of a short search on a busy machine there may be fewer at once, while some die
        play()
    assert row.most() == 3, "three at once, not more, and not fewer either"


def test_max_parallel_holds_while_idle_nodes_steal(mesh: stealmesh.Mesh, row: Row) -> None:
    """One job is everywhere and short, so nodes run dry again and again; the other has two lanes."""
    busy = mesh.map(lambda _: time.sleep(0.005), range(600))
    view = mesh.options(max_parallel=2)
    results = list(view.map(row.task(0.005), range(400)))
    list(busy)
    assert results == list(range(400))
    assert row.most() == 2


def test_two_functions_with_a_bound_do_not_share_it(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """Also when there are more functions than streams of their own."""
    view = mesh.options(max_parallel=1)
    rows = [Row(tmp_path / str(number)) for number in range(20)]
    tasks = [each.task(0.01) for each in rows]
    futures = [view.submit(task, 0) for _ in range(3) for task in tasks]
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert [each.most() for each in rows] == [1] * 20


# ---------------------------------------------------------------- resources


def test_a_node_never_runs_more_than_it_declares(row: Row) -> None:
    with stealmesh.Mesh(nodes=1, workers=4, resources={"GPU": 2}) as mesh:
        view = mesh.options(resources={"GPU": 1})
        assert list(view.map(row.task(), range(60))) == list(range(60))
        assert row.most() == 2
        (node,) = [each for each in mesh.status()["nodes"] if each["role"] != "client"]
        assert node["resources"] == {"GPU": 2}


def test_what_takes_all_of_it_runs_alone(row: Row) -> None:
    with stealmesh.Mesh(nodes=1, workers=4, resources={"GPU": 2}) as mesh:
        whole = mesh.options(resources={"GPU": 2}).map(row.task(), range(20))
        half = mesh.options(resources={"GPU": 1}).map(row.task(), range(20))
        assert len(list(whole)) + len(list(half)) == 40
    assert row.most() <= 2


def test_a_gpu_that_nobody_has_is_an_error_that_says_who_has_what(mesh: stealmesh.Mesh) -> None:
    view = mesh.options(resources={"GPU": 1})
    with pytest.raises(stealmesh.ResourcesMissing) as raised:
        view.submit(abs, -1).result(PATIENCE_SECONDS)
    text = str(raised.value)
    assert re.match(r"an item of abs takes GPU=1; local-\d has no resources; local-\d", text)
    assert "--resources" in text
    with pytest.raises(stealmesh.ResourcesMissing):
        list(view.map(abs, range(3)))
    with pytest.raises(stealmesh.ResourcesMissing):
        view.map_reduce(abs, range(3), operator.add).result(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_parallel": 0}, ValueError),
        ({"max_parallel": -1}, ValueError),
        ({"max_parallel": 2.0}, TypeError),
        ({"resources": ["GPU"]}, TypeError),
        ({"resources": {"GPU": 0.5}}, TypeError),
        ({"resources": {"GPU": -1}}, ValueError),
        ({"resources": {"GPU": True}}, TypeError),
        ({"resources": {"": 1}}, ValueError),
        ({"resources": {"a=b": 1}}, ValueError),
        ({"resources": {1: 1}}, TypeError),
        ({"resources": {"n" * 300: 1}}, ValueError),
        ({"resources": {str(number): 1 for number in range(40)}}, ValueError),
        ({"priority": 1.5}, TypeError),
    ],
)
def test_settings_without_sense_raise_at_the_call(
    settings: dict[str, Any], error: type[Exception], one_node: stealmesh.Mesh
) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        one_node.options(**settings)


@pytest.fixture(scope="module")
def one_node() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=1, workers=1) as mesh:
        yield mesh


# ---------------------------------------------------------------- priority


def stamp(path: str, seconds: float) -> None:
    """Leave a mark in the order of beginning: one octet in a file that grows."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b".")
    os.close(fd)
    time.sleep(seconds)


def test_urgent_calls_overtake_a_crowd_of_others_on_all_nodes(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    """How many others begin between the first urgent call and the last: each of the six workers has at most
    its chunk and the one queued behind it in the way."""
    crowd = str(tmp_path / "crowd")
    others = mesh.map(lambda _: stamp(crowd, 0.001), range(1_000_000), buffersize=1_000_000)
    while not os.path.exists(crowd) or os.path.getsize(crowd) < 2000:
        time.sleep(0.01)
    before = os.path.getsize(crowd)

    def urgent(_: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    calls = [mesh.options(priority=5).submit(urgent, item) for item in range(100)]
    pids = {call.result(PATIENCE_SECONDS) for call in calls}
    overtook = os.path.getsize(crowd) - before
    others.close()  # type: ignore[attr-defined]
    # All of them take 100 x 20 ms: six workers could begin 2000 others in that time.
    assert overtook < 800, f"{overtook} others began before the last urgent call had ended"
    assert len(pids) >= 5, "one node did all of them"
