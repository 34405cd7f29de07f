"""Values that live on the mesh: `scatter`, a Ref anywhere in the arguments, `gather`, and their end."""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh

from .running import environment, run

PATIENCE = 30
OCTETS = 1 << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=2) as running:
        yield running


@dataclass
class Order:
    data: Any
    notes: dict[str, Any]


def spoil(data: bytearray) -> int:
    """What is in it, summed up; then it is something else."""
    found = sum(data)
    data[:] = bytes(len(data))
    return found


def size(data: Any) -> int:
    return len(data)


def at(data: Any, index: int) -> int:
    return int(data[index])


def kinds(order: Order) -> list[str]:
    return [type(order.data[0]).__name__, *(type(each).__name__ for each in order.notes["more"])]


def same(a: object, b: object) -> bool:
    return a is b


def visit(bag: list[Any], limit: int) -> tuple[int, list[Any]]:
    return sum(len(each) for each in bag), []


def slow_size(data: Any, seconds: float) -> int:
    time.sleep(seconds)
    return len(data)


def data() -> bytearray:
    return bytearray(b"\1" * OCTETS)


def stored(mesh: stealmesh.Mesh) -> int:
    return sum(node["values"]["stored"] for node in mesh.status()["nodes"])


def files_of(pid: int) -> list[str]:
    """The values that a process has open, by the names of their memory."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if name.startswith("/memfd:stealmesh-value-"):
            found.append(name)
    return found


# ---------------------------------------------------------------- what a task gets


def test_a_task_gets_the_value_itself(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(data())
    assert isinstance(ref, stealmesh.Ref)
    assert ref.octets >= OCTETS
    assert mesh.submit(size, ref).result(PATIENCE) == OCTETS
    assert mesh.submit(size, data=ref).result(PATIENCE) == OCTETS


def test_a_task_may_change_what_it_was_given(mesh: stealmesh.Mesh) -> None:
    """Each of them finds the value as it was, also at its second attempt."""
    ref = mesh.scatter(data())
    futures = [mesh.submit(spoil, ref) for _ in range(20)]
    assert {future.result(PATIENCE) for future in futures} == {OCTETS}
    assert sum(ref.result()) == OCTETS


def test_an_array_is_mapped_and_can_be_written(mesh: stealmesh.Mesh) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(200_000.0).reshape(400, 500)

    def look(a: Any) -> tuple[bool, bool, float]:
        a += 1
        return a.flags.writeable, a.flags.owndata, float(a.sum())

    ref = mesh.scatter(array)
    expected = (True, False, float((array + 1).sum()))
    assert [mesh.submit(look, ref).result(PATIENCE) for _ in range(4)] == [expected] * 4
    assert (ref.result() == array).all()


def test_it_may_lie_anywhere_in_the_arguments(mesh: stealmesh.Mesh) -> None:
    small, large = mesh.scatter([1, 2]), mesh.scatter(data())
    order = Order([large], {"more": (small, {"deeper": large}, large)})
    found = mesh.submit(kinds, order).result(PATIENCE)
    assert found == ["bytearray", "list", "dict", "bytearray"]
    assert mesh.submit(same, [large, large][0], large).result(PATIENCE) is True
    assert mesh.submit(functools.partial(at, large), 3).result(PATIENCE) == 1


def test_beside_futures(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(data())
    index = mesh.submit(operator.add, 1, 2)
    assert mesh.submit(at, ref, index).result(PATIENCE) == 1
    made = mesh.submit(operator.itemgetter(slice(0, 3)), ref)
    assert mesh.submit(size, made).result(PATIENCE) == 3


def test_in_the_items_of_a_map(mesh: stealmesh.Mesh) -> None:
    refs = [mesh.scatter(bytearray(n)) for n in range(1, 60)]
    assert list(mesh.map(size, refs)) == list(range(1, 60))
    assert list(mesh.map(at, [refs[0], refs[1]], [0, 1])) == [0, 0]
    assert list(mesh.map(size, iter([refs[0]] * 300))) == [1] * 300


@pytest.mark.parametrize("kind", ["map", "map_reduce", "submit"])
def test_in_a_function(mesh: stealmesh.Mesh, kind: str) -> None:
    ref = mesh.scatter(data())
    bound = functools.partial(at, ref)
    if kind == "map":
        assert sum(mesh.map(bound, range(500))) == 500
    elif kind == "map_reduce":
        assert mesh.map_reduce(bound, range(500), operator.add).result(PATIENCE) == 500
    else:
        assert [mesh.submit(bound, index).result(PATIENCE) for index in range(5)] == [1] * 5
    captured = mesh.map(lambda index: at(ref, index), range(3))
    assert list(captured) == [1, 1, 1]


def test_in_the_roots_of_a_search(mesh: stealmesh.Mesh) -> None:
    refs = [mesh.scatter(bytearray(n)) for n in (5, 100_000)]
    assert mesh.explore(visit, refs, operator.add).result(PATIENCE) == 100_005


def test_a_value_made_of_others(mesh: stealmesh.Mesh) -> None:
    """The inner Refs are gone before anybody asks for the outer one."""
    outer = mesh.scatter({"parts": [mesh.scatter(bytearray(n)) for n in (7, 90_000)]})
    find = operator.itemgetter("parts")
    assert [len(part) for part in mesh.submit(find, outer).result(PATIENCE)] == [7, 90_000]
    assert [len(part) for part in mesh.gather(outer)["parts"]] == [7, 90_000]


def test_gather(mesh: stealmesh.Mesh) -> None:
    ref, future = mesh.scatter([1, 2]), mesh.submit(pow, 2, 3)
    assert mesh.gather(ref) == [1, 2]
    assert mesh.gather([ref, {"a": (future, ref)}, 5]) == [[1, 2], {"a": (8, [1, 2])}, 5]
    with pytest.raises(ZeroDivisionError):
        mesh.gather([mesh.submit(operator.truediv, 1, 0)])


def test_what_cannot_be_sent_is_named(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.CannotShip, match="lock"):
        mesh.scatter({"a": __import__("threading").Lock()})
    many = [mesh.scatter(n) for n in range(300)]
    with pytest.raises(stealmesh.CannotShip, match="300 values"):
        mesh.submit(sum, many).result(PATIENCE)
    assert mesh.submit(sum, many[:200]).result(PATIENCE) == sum(range(200))


def test_a_durable_job_takes_none(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter([1, 2])
    with pytest.raises(stealmesh.CannotShip, match="outlives"):
        mesh.launch(size, [ref])
    with pytest.raises(stealmesh.CannotShip, match="outlives"):
        mesh.launch(functools.partial(at, ref), range(2))


def test_a_ref_in_a_global_is_refused(tmp_path: Path) -> None:
    program = """
        import stealmesh
        def look(i): return big[i]
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                big = [mesh.scatter([1, 2])]
                for _ in range(2):
                    try:
                        list(mesh.map(look, range(2)))
                    except stealmesh.CannotShip as error:
                        print(error)
    """
    said = run(tmp_path, program).splitlines()
    assert len(said) == 2
    assert all("the global 'big' holds a Ref" in line for line in said)


def test_a_ref_is_a_ref_again_when_it_is_unpickled(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(data())
    again = pickle.loads(pickle.dumps(ref))
    assert again == ref
    assert hash(again) == hash(ref)
    assert again.result() == data()
    del ref
    assert mesh.submit(size, again).result(PATIENCE) == OCTETS


def test_a_ref_may_go_through_a_task(mesh: stealmesh.Mesh) -> None:
    """A task opens the pickle of a Ref and returns what is in it: the Ref, which is good here."""
    ref = mesh.scatter(data())
    back = mesh.submit(pickle.loads, pickle.dumps(ref)).result(PATIENCE)
    assert isinstance(back, stealmesh.Ref)
    assert back.result() == data()
    with pytest.raises(stealmesh.ValueLost, match="argument"):
        mesh.submit(lambda blob: pickle.loads(blob).result(), pickle.dumps(ref)).result(PATIENCE)


async def size_later(data: Any) -> int:
    await asyncio.sleep(0.01)
    return len(data)


def test_side_by_side_in_one_worker() -> None:
    """Coroutines and threads share descriptors, and each has a map of its own."""
    with stealmesh.Mesh(workers=1, threads=4) as mesh:
        refs = [mesh.scatter(data()), mesh.scatter(bytearray(100_000))]
        sizes = [OCTETS, 100_000] * 20
        assert list(mesh.map(size_later, refs * 20)) == sizes
        assert [f.result(PATIENCE) for f in [mesh.submit(size, r) for r in refs * 20]] == sizes
        assert {mesh.submit(spoil, refs[0]).result(PATIENCE) for _ in range(9)} == {OCTETS}
        workers = [pid for node in mesh.status()["nodes"] for pid in node["worker_pids"]]
        del refs
        until(lambda: stored(mesh) == 0)
        until(lambda: not any(files_of(pid) for pid in workers))


# ---------------------------------------------------------------- where it is, and until when


def test_it_travels_once_to_each_node(mesh: stealmesh.Mesh) -> None:
    before = mesh.status()["counters"].get("values-fetched", 0)
    ref = mesh.scatter(data())
    futures = [mesh.submit(slow_size, ref, 0.01) for _ in range(100)]
    assert {future.result(PATIENCE) for future in futures} == {OCTETS}
    assert 1 <= mesh.status()["counters"]["values-fetched"] - before <= 2


def test_it_goes_when_its_last_ref_does(mesh: stealmesh.Mesh) -> None:
    until(lambda: stored(mesh) == 0)
    ref = mesh.scatter(data())
    assert mesh.submit(size, ref).result(PATIENCE) == OCTETS
    assert stored(mesh) >= 2
    pids = [node["pid"] for node in mesh.status()["nodes"]]
    assert any(files_of(pid) for pid in pids)
    del ref
    until(lambda: stored(mesh) == 0)
    until(lambda: not any(files_of(pid) for pid in pids))


def test_a_call_keeps_what_it_needs(mesh: stealmesh.Mesh) -> None:
    ref = mesh.scatter(data())
    futures = [mesh.submit(slow_size, ref, 0.05) for _ in range(12)]
    gone = mesh.submit(slow_size, ref, 0.0)
    gone.cancel()
    del ref
    assert {future.result(PATIENCE) for future in futures} == {OCTETS}
    until(lambda: stored(mesh) == 0)


def test_a_function_keeps_what_it_needs(mesh: stealmesh.Mesh) -> None:
    results = mesh.map(functools.partial(at, mesh.scatter(data())), range(2000))
    assert sum(results) == 2000
    until(lambda: stored(mesh) == 0)
    workers = [pid for node in mesh.status()["nodes"] for pid in node["worker_pids"]]
    until(lambda: not any(files_of(pid) for pid in workers))


def test_a_map_that_is_left_lets_go(mesh: stealmesh.Mesh) -> None:
    results = mesh.map(size, [mesh.scatter(bytearray(OCTETS)) for _ in range(20)])
    assert next(results) == OCTETS
    del results
    until(lambda: stored(mesh) == 0)


def test_it_travels_in_pieces_where_no_neighbour_hands_it_over() -> None:
    """The program answers no neighbour, so its node takes the pieces over their link."""
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        mesh._link.values.on_first = lambda: None
        content = bytearray(os.urandom(3 * OCTETS + 5))
        ref = mesh.scatter(content)
        results = [mesh.submit(bytearray, ref) for _ in range(4)]
        assert all(each.result(PATIENCE) == content for each in results)
        said = sum(node["traffic"]["work"]["said_octets"] for node in mesh.status()["nodes"])
        assert said > len(content)  # there; what comes back does so as an open file


# ---------------------------------------------------------------- deaths


@pytest.mark.real
def test_a_killed_node_loses_nothing() -> None:
    with stealmesh.Mesh(nodes=3, workers=1) as mesh:
        ref = mesh.scatter(data())
        futures = [mesh.submit(slow_size, ref, 0.05) for _ in range(60)]
        until(lambda: any(future.done() for future in futures))
        victim = next(node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client")
        os.kill(victim, signal.SIGKILL)
        assert {future.result(PATIENCE) for future in futures} == {OCTETS}
        del ref
        until(lambda: stored(mesh) == 0)


OTHER = """
import os, pickle, sys, time
import stealmesh
if __name__ == "__main__":
    mesh = stealmesh.Mesh(sys.argv[1], key=sys.argv[2])
    ref = mesh.scatter(bytearray(b"\\1" * 1_000_000))
    assert mesh.submit(len, ref).result(100) == 1_000_000
    print(pickle.dumps(ref).hex(), flush=True)
    time.sleep(1000)
"""


@pytest.mark.real
def test_a_value_dies_with_its_program_and_its_loss_has_its_name(tmp_path: Path) -> None:
    """Another program's value can be given to a task as long as that program lives."""
    program = tmp_path / "program.py"
    program.write_text(OTHER)
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        argv = [sys.executable, str(program), mesh.address, mesh.key_file]
        with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            ref = pickle.loads(bytes.fromhex(other.stdout.readline()))
            assert mesh.submit(size, ref).result(PATIENCE) == 1_000_000
            assert stored(mesh) > 0
            other.kill()
            other.wait()
        until(lambda: stored(mesh) == 0)
        with pytest.raises(stealmesh.ValueLost) as caught:
            mesh.submit(size, ref).result(PATIENCE)
        assert caught.value.value in repr(ref)
        with pytest.raises(stealmesh.ValueLost):
            mesh.gather([ref])
