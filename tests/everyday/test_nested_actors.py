"""Actors that tasks make: they serve the task and its children, and end with it."""

from __future__ import annotations

import operator
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.test_kept import nothing_is_left
from tests.everyday.test_nested_data import data
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 60


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


class Counter:
    def __init__(self, number: int, place: Path | None = None) -> None:
        self.number = number
        if place is not None:
            (place / f"actor-{os.getpid()}").touch()

    def add(self, more: int) -> int:
        self.number += more
        return self.number

    def size(self, value: Any) -> int:
        return len(value)

    def pid(self) -> int:
        return os.getpid()

    def boom(self) -> None:
        raise ZeroDivisionError

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def adds(actor: Any, more: int) -> int:
    return int(actor.add(more).result())


def uses() -> tuple[list[Any], int]:
    here = stealmesh.here()
    actor = here.actor(Counter, 10)
    seen: list[Any] = [call.result() for call in [actor.add(1) for _ in range(3)]]
    seen += [child.result() for child in [here.submit(adds, actor, 1) for _ in range(2)]]
    seen.append(here.submit(operator.add, actor.add(5), 1).result())  # its future is an input
    seen.append(actor.add(here.submit(int, "2")).result())  # and a child's is one of its calls'
    seen.append(actor.size(here.scatter(data())).result())
    seen.append(type(actor.boom().exception()).__name__)
    actor.add(1)  # nobody waits for it
    return seen, actor.pid().result()


def test_a_task_and_its_children_use_an_actor(mesh: stealmesh.Mesh) -> None:
    seen, pid = mesh.submit(uses).result(PATIENCE)
    assert seen == [11, 12, 13, 14, 15, 21, 22, len(data()), "ZeroDivisionError"]
    until(lambda: is_gone(pid), "the actor ends with its task")
    nothing_is_left(mesh)


def fails(place: Path) -> None:
    actor = stealmesh.here().actor(Counter, 0, place)
    actor.add(1).result()
    raise KeyError("task")


kept: list[Any] = []


def keeps(place: Path) -> None:
    kept.append(stealmesh.here().actor(Counter, 0, place))
    kept[0].add(1).result()


def test_it_ends_however_its_task_ends(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="task"):
        mesh.submit(fails, tmp_path).result(PATIENCE)
    mesh.submit(keeps, tmp_path).result(PATIENCE)
    pids = [int(path.name.split("-")[1]) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    until(lambda: all(map(is_gone, pids)))
    with pytest.raises(RuntimeError, match="ended with the task that made it"):
        mesh.submit(lambda: kept[0].add(1)).result(PATIENCE)


def makes(what: Any, *args: Any) -> Any:
    return stealmesh.here().actor(what, *args)


def test_what_cannot_be_is_refused_by_name(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.CannotShip, match=r"ends with that task.*mesh.actor\(\)"):
        mesh.submit(makes, Counter, 1).result(PATIENCE)
    with pytest.raises(TypeError, match="a class is needed"):
        mesh.submit(makes, adds).result(PATIENCE)

    def visit(bag: list[int], limit: int) -> tuple[int, list[int]]:
        stealmesh.here().actor(Counter, 1)
        return 1, []

    with pytest.raises(RuntimeError, match=r"neither a visit of explore\(\)"):
        mesh.explore(visit, [1], operator.add).result(PATIENCE)


def loses(restarts: int) -> list[Any]:
    actor = stealmesh.here().options(restarts=restarts).actor(Counter, 10)
    told: list[Any] = [actor.add(1).result(), type(actor.end().exception()).__name__]
    last = actor.add(1)
    return [*told, type(last.exception()).__name__ if last.exception() else last.result()]


def test_its_death_has_a_name(mesh: stealmesh.Mesh) -> None:
    assert mesh.submit(loses, 0).result(PATIENCE) == [11, "ActorDied", "ActorDied"]
    assert mesh.submit(loses, 1).result(PATIENCE) == [11, "ActorDied", 11]


def gated(place: Path) -> int:
    actor = stealmesh.here().actor(Counter, 0, place)
    found = actor.add(1).result()
    (place / f"task-{os.getpid()}").touch()
    until((place / "gate").exists)
    return int(found + actor.add(1).result())


def test_the_worker_of_its_task_is_killed(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """The task runs again, with an actor of its own; the first one ends."""
    future = mesh.submit(gated, tmp_path)
    (task,) = until(lambda: list(tmp_path.glob("task-*")))
    (first,) = [int(path.name.split("-")[1]) for path in tmp_path.glob("actor-*")]
    os.kill(int(task.name.split("-")[1]), signal.SIGKILL)
    (tmp_path / "gate").touch()
    assert future.result(PATIENCE) == 3
    assert len(list(tmp_path.glob("actor-*"))) == 2
    until(lambda: is_gone(first))
