"""Data in tasks inside tasks: what a task scatters, hands on closed, and returns; and that nothing of it is left."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.test_kept import nothing_is_left
from tests.everyday.test_modules_travel import Nodes, nodes
from tests.everyday.test_scattered import size, stored
from tests.patience import until

import stealmesh

from .running import environment, write

__all__ = ["nodes"]

pytestmark = pytest.mark.real

PATIENCE = 60
LARGE = 1 << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as running:
        yield running


def data(octets: int = LARGE, filler: int = 1) -> bytearray:
    return bytearray([filler]) * octets


def spoil(one: bytearray) -> int:
    found = sum(one)
    one[:] = bytes(len(one))
    return found


def send_away(child: Any, idle_seconds: float = 5.0) -> Any:
    """The only child that has not begun leaves, whether or not anybody wants it."""
    from stealmesh.nested import away as module
    from stealmesh.workers.nesting import GATE

    module.IDLE_SECONDS, module.LOOK_SECONDS = idle_seconds, min(0.5, idle_seconds)
    luggage, door = GATE.door()

    def has_left() -> bool:
        module.AWAY.wanted(stealmesh.here()._family, luggage, door)
        return child.away is not None or child.call is None

    module.LATE_SECONDS = PATIENCE
    until(has_left)
    return child


def has_run_elsewhere(child: Any) -> bool:
    return child.away is None and child.call is None and child.pile is None


# ---------------------------------------------------------------- what a task scatters


def uses_its_own() -> list[Any]:
    here = stealmesh.here()
    ref, small = here.scatter(data()), here.scatter([1, 2])
    children = [here.submit(spoil, ref) for _ in range(3)]
    deep = here.submit(lambda found, n: found["a"][0] + [n], {"a": [small]}, n=3)
    late = here.submit(lambda got, one: got + len(one), children[0], ref)
    told = here.gather({"a": (children[0], small), "b": [late]})
    assert sum(ref.result()) == LARGE, "each of them has a copy of its own"
    return [
        *(child.result() for child in children),
        deep.result(),
        told,
        list(here.map(size, [ref, small])),
        here.submit(functools.partial(size, ref)).result(),
        here.map_reduce(size, [ref, ref], int.__add__).result(),
        here.options(retries=1).submit(spoil, ref).result(),
        here.submit(type, ref.closed()).result() is stealmesh.Ref,
        here.submit(lambda one, pair: pair[0] == one, ref.closed(), [ref.closed()]).result(),
    ]


def test_a_task_scatters_and_its_children_get_the_value(mesh: stealmesh.Mesh) -> None:
    told = mesh.submit(uses_its_own).result(PATIENCE)
    summed = {"a": (LARGE, [1, 2]), "b": [2 * LARGE]}
    assert told == [
        LARGE, LARGE, LARGE, [1, 2, 3], summed, [LARGE, 2], LARGE, 2 * LARGE, LARGE, True, True,
    ]  # fmt: skip
    nothing_is_left(mesh)


def gives_away(octets: int) -> list[Any]:
    here = stealmesh.here()
    ref = here.scatter(data(octets))
    child = send_away(here.submit(spoil, ref))
    first = child.result(), has_run_elsewhere(child)
    second = send_away(here.submit(lambda pair: sum(map(len, pair["x"])), {"x": [ref, ref]}))
    return [*first, second.result(), has_run_elsewhere(second), sum(ref.result())]


@pytest.mark.parametrize("octets", [1000, LARGE])
def test_a_value_leaves_with_a_child(mesh: stealmesh.Mesh, octets: int) -> None:
    told = mesh.submit(gives_away, octets).result(PATIENCE)
    assert told == [octets, True, 2 * octets, True, octets]
    nothing_is_left(mesh)


def hands_on(ref: Any) -> list[Any]:
    here = stealmesh.here()
    assert type(ref) is stealmesh.Ref
    near = here.submit(spoil, ref).result()
    child = send_away(here.submit(spoil, ref))
    far = child.result()
    deeper = send_away(here.submit(deep_down, ref.closed()))
    return [near, far, deeper.result(), has_run_elsewhere(child), size(ref.result())]


def deep_down(ref: Any) -> int:
    return int(stealmesh.here().submit(spoil, ref).result())


def test_a_ref_is_handed_on_closed(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(data())
    future = mesh.submit(hands_on, ref.closed())
    del ref  # the call keeps the value
    assert future.result(PATIENCE) == [LARGE, LARGE, LARGE, True, LARGE]
    del future
    nothing_is_left(mesh)


def when_open(gate: Path, ref: Any) -> dict[str, Any]:
    until(gate.exists)
    return {"it": ref}


def test_a_closed_ref_that_is_returned_is_the_programs(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    """Its value lives until the program has dropped what came back, and no longer."""
    ref = mesh.scatter(data())
    future = mesh.submit(lambda it: {"it": it}, ref.closed())
    early = mesh.submit(when_open, tmp_path / "gate", ref.closed())
    again = mesh.submit(lambda got: size(got["it"]), early)
    (tmp_path / "gate").touch()
    del ref
    until(future.done)
    assert again.result(PATIENCE) == LARGE
    gc.collect()
    back = future.result()["it"]
    del future
    assert size(back.result()) == LARGE
    del back, again, early
    nothing_is_left(mesh)


# ---------------------------------------------------------------- what a task returns


def returns(octets: int = LARGE) -> dict[str, Any]:
    here = stealmesh.here()
    one, other = here.scatter(data(octets)), here.scatter(data(10, 2))
    return {"one": one, "both": [other, one], "said": 7}


def test_a_returned_ref_is_the_programs(mesh: stealmesh.Mesh) -> None:
    found = mesh.submit(returns).result(PATIENCE)
    one, (other, again) = found["one"], found["both"]
    assert one == again != other
    assert found["said"] == 7
    assert (sum(one.result()), sum(other.result())) == (LARGE, 20)
    assert mesh.submit(spoil, one).result(PATIENCE) == LARGE
    assert mesh.submit(spoil, one).result(PATIENCE) == LARGE
    assert mesh.gather(found)["both"][0] == data(10, 2)
    del one, again, found
    assert mesh.submit(spoil, other).result(PATIENCE) == 20
    del other
    nothing_is_left(mesh)


def look(found: dict[str, Any]) -> list[Any]:
    return [sum(found["one"]), sum(found["both"][0]), found["said"]]


@pytest.mark.parametrize("keep", [False, True])
def test_a_result_with_refs_goes_into_other_tasks(mesh: stealmesh.Mesh, keep: bool) -> None:
    """Where they are opened the values take the places of the Refs, as everywhere. The future may be over by then."""
    view = mesh.options(keep=keep)
    early = [mesh.submit(look, view.submit(returns, octets)) for octets in (100, LARGE)]
    assert [each.result(PATIENCE) for each in early] == [[100, 20, 7], [LARGE, 20, 7]]
    future = view.submit(returns)
    until(future.done)
    late = mesh.submit(look, future)
    assert list(mesh.map(look, [future])) == [[LARGE, 20, 7]]
    assert late.result(PATIENCE) == [LARGE, 20, 7]
    del early, future, late
    nothing_is_left(mesh)


def passes_up(idle_seconds: float) -> Any:
    """A child elsewhere returns Refs; they are used here, by another child there, and returned."""
    here = stealmesh.here()
    child = send_away(here.submit(returns), idle_seconds)
    found = child.result()
    assert has_run_elsewhere(child)
    ref = found["one"]
    del child, found
    if idle_seconds < 5:
        from stealmesh.nested.away import AWAY

        until(lambda: AWAY._client is None)
    assert sum(ref.result()) == LARGE
    assert here.submit(spoil, ref).result() == LARGE
    assert send_away(here.submit(spoil, ref), idle_seconds).result() == LARGE
    return ref


@pytest.mark.parametrize("idle_seconds", [pytest.param(5.0, marks=pytest.mark.slow), 0.05])
def test_a_childs_ref_goes_up(mesh: stealmesh.Mesh, idle_seconds: float) -> None:
    """Also when the worker's client has left the mesh meanwhile."""
    ref = mesh.submit(passes_up, idle_seconds).result(PATIENCE)
    assert sum(ref.result()) == LARGE
    del ref
    nothing_is_left(mesh)


def test_what_nobody_reads_goes(mesh: stealmesh.Mesh) -> None:
    for _ in range(5):
        mesh.submit(returns)
    wanted = mesh.submit(returns)
    until(wanted.done)
    del wanted
    nothing_is_left(mesh)


def test_what_cannot_be_is_refused_by_name(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.CannotShip, match="in a result of submit"):
        mesh.map_reduce(returns, [10, 20], lambda a, b: [a, b]).result(PATIENCE)

    def around() -> None:
        ref = stealmesh.here().scatter(1)
        stealmesh.here().submit(lambda: ref.result())

    with pytest.raises(TypeError, match="gets Refs as arguments only"):
        mesh.submit(around).result(PATIENCE)

    def inside() -> None:
        here = stealmesh.here()
        here.scatter([here.scatter(1)])

    with pytest.raises(TypeError, match="scatter its parts"):
        mesh.submit(inside).result(PATIENCE)
    for name, value in (("output", "none"), ("keep", True)):
        with pytest.raises(ValueError, match=f"{name}: a task inside a task"):
            mesh.submit(lambda s: stealmesh.here().options(**s), {name: value}).result(PATIENCE)
    nothing_is_left(mesh)


# ---------------------------------------------------------------- deaths


def gated(place: Path, one: bytearray, number: int) -> int:
    (place / f"{number}-{os.getpid()}").touch()
    until((place / "gate").exists)
    return len(one) + number


def parent_of_gated(place: Path) -> Any:
    here = stealmesh.here()
    (place / f"parent-{os.getpid()}").touch()
    ref = here.scatter(data())
    children = [here.submit(gated, place, ref, number) for number in range(4)]
    return sum(child.result() for child in children), ref


def pids(place: Path, kind: str) -> set[int]:
    return {int(path.name.split("-")[1]) for path in place.glob(f"{kind}-*")}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "victim",
    [
        "childs node",
        pytest.param("parents node", marks=SLOW),
        pytest.param("parents worker", marks=SLOW),
    ],
)
def test_a_kill_while_children_have_a_value(tmp_path: Path, victim: str) -> None:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        future = mesh.submit(parent_of_gated, tmp_path)
        until(lambda: pids(tmp_path, "[0-9]") - pids(tmp_path, "parent"))
        parents = pids(tmp_path, "parent")
        wanted = pids(tmp_path, "[0-9]") - parents if victim == "childs node" else parents
        (holder,) = [
            node["pid"] for node in mesh.status()["nodes"] if wanted & set(node["worker_pids"])
        ]
        os.kill(parents.pop() if victim == "parents worker" else holder, signal.SIGKILL)
        (tmp_path / "gate").touch()
        total, ref = future.result(PATIENCE)
        assert (total, sum(ref.result())) == (4 * LARGE + 6, LARGE)
        del future, ref
        nothing_is_left(mesh)


def once_more(place: Path, *, same: bool) -> Any:
    """What it returns lies on the node that ran it."""
    (place / f"{len(list(place.iterdir()))}-{os.getpid()}").touch()
    if len(list(place.iterdir())) > 1 and not same:
        return 7
    return [stealmesh.here().scatter(data(filler=3)), stealmesh.here().scatter(data(filler=4))]


@pytest.mark.parametrize("same", [True, pytest.param(False, marks=SLOW)])
def test_the_node_with_the_value_is_killed(tmp_path: Path, same: bool) -> None:
    """The task runs again, once, or the loss has a name. What the program has read stays as it was."""
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        one, other = mesh.submit(once_more, tmp_path, same=same).result(PATIENCE)
        (ran,) = pids(tmp_path, "[0-9]")
        (holder,) = [node["pid"] for node in mesh.status()["nodes"] if ran in node["worker_pids"]]
        os.kill(holder, signal.SIGKILL)
        if same:
            assert mesh.submit(lambda a, b: a[0] + b[0], one, other).result(PATIENCE) == 7
            assert (one.result(PATIENCE), len(list(tmp_path.iterdir()))) == (data(filler=3), 2)
        else:
            with pytest.raises(stealmesh.ValueLost):
                mesh.submit(len, one).result(PATIENCE)
            with pytest.raises(stealmesh.ValueLost):
                other.result(PATIENCE)
        del one, other
        nothing_is_left(mesh)


PROGRAM = """
    import sys, time
    import stealmesh

    def returns():
        return stealmesh.here().scatter(bytearray(1 << 20))

    if __name__ == "__main__":
        with stealmesh.Mesh(sys.argv[1], key=sys.argv[2]) as mesh:
            ref = mesh.submit(returns).result(60)
            print(ref, flush=True)
            time.sleep(600)
"""


@SLOW
def test_the_program_with_the_ref_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    write(tmp_path, program=PROGRAM)
    nodes.start()
    program = subprocess.Popen(
        [sys.executable, "program.py", nodes.seed, str(nodes.key)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert "stealmesh.Ref" in program.stdout.readline()
        with stealmesh.Mesh(nodes.seed, key=nodes.key) as mesh:
            assert stored(mesh) == 1
            program.kill()
            until(lambda: stored(mesh) == 0)
    finally:
        program.kill()
        program.communicate()
