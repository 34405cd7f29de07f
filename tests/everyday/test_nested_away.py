"""Children of tasks that other workers run: they leave for the idle, come back, and survive deaths.

Children wait for each other here, by files, so that no clock decides: a test that says that two workers take
part ends only if two do.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import operator
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.everyday.running import finish, killed, write
from tests.everyday.test_modules_travel import Nodes, nodes
from tests.patience import until

import stealmesh
from stealmesh.host.issuing import WORKERS_NAME, issued
from stealmesh.host.security import MeshKey
from stealmesh.workers import wire
from stealmesh_protocol.passes import KeyRole

__all__ = ["nodes"]

pytestmark = pytest.mark.real

PATIENCE = 100


def meet(place: Path, number: int, wanted: int = 2) -> int:
    """A child that waits until as many processes run such children."""
    (place / str(os.getpid())).touch()
    until(lambda: len(list(place.iterdir())) >= wanted)
    return number


def meeting(place: Path, wanted: int, style: str) -> int:
    mesh = stealmesh.here()
    numbers = range(8)
    children = [mesh.submit(meet, place, number, wanted) for number in numbers]
    if style == "wait":
        concurrent.futures.wait(children)
    if style == "callback":
        got: list[int] = []
        for child in children:
            child.add_done_callback(lambda over: got.append(over.result()))
        until(lambda: len(got) == 8)
    if style == "left":
        return 28
    return sum(child.result() for child in children)


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as running:
        yield running


@pytest.mark.parametrize("style", ["submit", "wait", "callback", "left"])
def test_children_leave_for_a_node_that_has_nothing_to_do(
    mesh: stealmesh.Mesh, tmp_path: Path, style: str
) -> None:
    assert mesh.submit(meeting, tmp_path, 2, style).result(PATIENCE) == 28


def nap(number: int) -> int:
    time.sleep(0.02)
    return number


def test_items_of_a_map_leave_as_well(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def item(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.01)
        return number

    def rounds() -> int:
        count = 0
        while len(list(tmp_path.iterdir())) < 2:
            assert sum(stealmesh.here().map(item, range(60))) == 1770
            count += 1
            assert count < 200, "no item has left"
        return count

    assert mesh.submit(rounds).result(PATIENCE) > 0


def fails(place: Path) -> None:
    meet(place, 0)
    raise ZeroDivisionError("elsewhere")


def failing(place: Path) -> list[str]:
    mesh = stealmesh.here()
    children = [mesh.submit(fails, place) for _ in range(6)]
    return [type(child.exception()).__name__ for child in children]


def test_an_error_elsewhere_is_the_childs(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    assert mesh.submit(failing, tmp_path).result(PATIENCE) == ["ZeroDivisionError"] * 6


def test_what_cannot_be_packed_stays(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    def parent() -> int:
        here = stealmesh.here()
        with open(os.devnull) as file:
            kept = [here.submit(lambda n, held: (nap(n), held.name)[0], n, file) for n in range(30)]
            return sum(child.result() for child in kept) + meeting(tmp_path, 2, "submit")

    assert mesh.submit(parent).result(PATIENCE) == 435 + 28


# ---------------------------------------------------------------- every level is away


def away(depth: int, door: bytes, late: float) -> int:
    """Each level gives its only child away, whether or not anybody wants it."""
    from stealmesh.nested import away as module
    from stealmesh.nested.mesh import here
    from stealmesh.workers.nesting import GATE

    if not depth:
        return 0
    module.LATE_SECONDS = late
    mesh = here()
    child: Any = mesh.submit(away, depth - 1, door, late)
    assert GATE._open is not None
    luggage = GATE._open[1]

    def has_left() -> bool:
        if child.away is None and not child.stays:
            module.AWAY.wanted(mesh._family, luggage, door)
        return child.away is not None or child.stays

    until(has_left)
    return 1 + int(child.result())


def door_of(mesh: stealmesh.Mesh) -> bytes:
    assert mesh._local is not None
    (endpoints,) = mesh._local.endpoints()
    assert isinstance(mesh._key, MeshKey)
    token = issued(mesh._key, KeyRole.SUBMIT, WORKERS_NAME)
    return wire.pack([endpoints[:1], token.packed()])


def test_every_level_is_given_away_and_one_worker_is_enough() -> None:
    with stealmesh.Mesh(workers=1) as lone:
        assert lone.submit(away, 20, door_of(lone), 0.0).result(PATIENCE) == 20
        assert lone.submit(away, 10, door_of(lone), 0.05).result(PATIENCE) == 10
        pids = lone.status()["nodes"][1]["worker_pids"]
        assert len(pids) <= 2
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


@pytest.mark.slow
def test_a_thousand_levels_are_given_away_and_one_worker_is_enough() -> None:
    with stealmesh.Mesh(workers=1) as lone:
        assert lone.submit(away, 1000, door_of(lone), 0.0).result(PATIENCE) == 1000


# ---------------------------------------------------------------- deaths


def gated(place: Path, number: int) -> int:
    """Runs until the gate is open, if it is not in its parent's process."""
    (place / f"{number}-{os.getpid()}").touch()
    until((place / "gate").exists)
    return number


def parent_of_gated(place: Path) -> int:
    mesh = stealmesh.here()
    (place / f"parent-{os.getpid()}").touch()
    children = [mesh.submit(gated, place, number) for number in range(6)]
    return sum(child.result() for child in children)


@pytest.mark.parametrize("victim", ["child", "parent"])
def test_a_node_is_killed_while_a_child_is_away(tmp_path: Path, victim: str) -> None:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        future = mesh.submit(parent_of_gated, tmp_path)

        def pids(kind: str) -> set[int]:
            return {int(path.name.split("-")[1]) for path in tmp_path.glob(f"{kind}-*")}

        until(lambda: pids("[0-9]") - pids("parent"))
        wanted = pids("parent") if victim == "parent" else pids("[0-9]") - pids("parent")
        (holder,) = [
            node["pid"] for node in mesh.status()["nodes"] if wanted & set(node["worker_pids"])
        ]
        os.kill(holder, signal.SIGKILL)
        (tmp_path / "gate").touch()
        assert future.result(PATIENCE) == 15


def tree(size: int, seed: int, pause: float) -> int:
    """A random tree of tasks of this size, in all styles of waiting."""
    random = Random(seed)
    time.sleep(pause * random.random())
    sizes: list[int] = []
    while sum(sizes) < size - 1:
        sizes.append(random.randint(1, size - 1 - sum(sizes)))
    seeds = [seed * 31 + number for number in range(len(sizes))]
    mesh, style = (
        stealmesh.here(),
        random.choice(["submit", "reversed", "wait", "map", "reduce", "timeout"]),
    )
    if style == "map":
        return 1 + sum(mesh.map(tree, sizes, seeds, [pause] * len(sizes)))
    if style == "reduce":
        pairs = list(zip(sizes, seeds, strict=True))
        return int(
            mesh.map_reduce(
                lambda pair: tree(pair[0], pair[1], pause), pairs, operator.add, initial=1
            ).result()
        )
    children = [mesh.submit(tree, each, its, pause) for each, its in zip(sizes, seeds, strict=True)]
    if style == "wait":
        concurrent.futures.wait(children)
    if style == "reversed":
        children.reverse()
    return 1 + sum(child.result(PATIENCE if style == "timeout" else None) for child in children)


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "workers", "seed"), [(2, 1, 1), (2, 2, 2), (4, 1, 3), (4, 1, 4)])
def test_random_trees_under_kills(nodes: int, workers: int, seed: int) -> None:
    random, hits = Random(seed), 0
    with stealmesh.Mesh(nodes=nodes, workers=workers) as mesh:
        for turn in range(4):
            sizes = [random.randint(1, 200) for _ in range(4)]
            futures = [
                mesh.submit(tree, size, 100 * seed + 10 * turn + at, 0.02)
                for at, size in enumerate(sizes)
            ]
            for _ in range(3):
                time.sleep(0.3 + random.random())
                status = mesh.status()["nodes"]
                pids = [node["pid"] for node in status if node["role"] != "client"]
                if random.random() < 0.5:
                    pids = [pid for node in status for pid in node["worker_pids"]]
                if pids and not all(future.done() for future in futures):
                    hits += killed(random.choice(pids))
            assert [future.result(PATIENCE) for future in futures] == sizes
        # Clients of workers leave when they have nothing away, and take their jobs with them.
        ours = f":{os.getpid()}"
        until(lambda: all(job["owner"].endswith(ours) for job in mesh.status()["jobs"]))
    assert hits > 0


def holds_the_interpreter(place: Path, seconds: int) -> int:
    mesh = stealmesh.here()
    children = [mesh.submit(meet, place, number) for number in range(6)]
    until(lambda: any(child.away is not None for child in children))  # type: ignore[attr-defined]
    ctypes.PyDLL(None).sleep(seconds)
    return sum(child.result() for child in children)


@pytest.mark.slow
def test_a_parent_that_holds_the_interpreter_is_not_taken_for_dead(tmp_path: Path) -> None:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        assert mesh.submit(holds_the_interpreter, tmp_path, 20).result(PATIENCE) == 15
        counters = mesh.status()["counters"]
        assert "peers-declared-dead" not in counters
        assert "workers-lost" not in counters


# ---------------------------------------------------------------- code


HELPER = """
    import os, time
    import stealmesh

    START = 0

    class Pair:
        def __init__(self, one, two):
            self.one, self.two = one, two

    def child(place, pair):
        open(os.path.join(place, str(os.getpid())), "w").close()
        while len(os.listdir(place)) < 2:
            time.sleep(0.01)
        return Pair(pair.one + START, os.getpid())
"""

PROGRAM = """
    import os, sys, time
    import stealmesh
    import helper

    OFFSET = 1

    def in_main(place, n):
        return helper.child(place, helper.Pair(n + OFFSET, 0)).one

    def parent(place):
        mesh = stealmesh.here()
        kinds = [mesh.submit(in_main, place, n) for n in range(4)]
        kinds += [mesh.submit(lambda n: in_main(place, n), n) for n in range(4)]
        pairs = [mesh.submit(helper.child, place, helper.Pair(n, 0)) for n in range(4)]
        return sum(each.result() for each in kinds), sum(each.result().one for each in pairs)

    if __name__ == "__main__":
        OFFSET = 100
        with stealmesh.Mesh(sys.argv[1], key=sys.argv[2]) as mesh:
            print(mesh.submit(parent, sys.argv[3]).result(90))
"""


def test_children_take_the_programs_code_along(nodes: Nodes, tmp_path: Path) -> None:
    """Nodes in empty directories: functions of the program's file, and of its modules, leave as well."""
    (program := tmp_path / "program").mkdir()
    (place := tmp_path / "place").mkdir()
    write(program, helper=HELPER, program=PROGRAM)
    nodes.start()
    nodes.start()
    told = finish(program, "program.py", nodes.seed, str(nodes.key), str(place))
    assert told.split() == ["(812,", "6)"]


def talks(place: Path, number: int) -> int:
    print("child", number)
    return meet(place, number)


def has_talking_children(place: Path) -> None:
    mesh = stealmesh.here()
    for child in [mesh.submit(talks, place, number) for number in range(4)]:
        child.result()


def test_what_children_elsewhere_print_comes_to_the_caller(
    mesh: stealmesh.Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their parent, as part of what that prints."""
    mesh.options(output="caller").submit(has_talking_children, tmp_path).result(PATIENCE)
    said: list[str] = []

    def all_said() -> bool:
        said.extend(capsys.readouterr().err.splitlines())
        return len(said) >= 4

    until(all_said)
    assert {line.rpartition("] ")[2] for line in said} == {f"child {n}" for n in range(4)}
    assert all(line.startswith("[local-") for line in said)
