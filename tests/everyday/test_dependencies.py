"""A future among the arguments of a task: the task runs when the result is there, and gets the result."""

from __future__ import annotations

import itertools
import operator
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.everyday.running import killed

import stealmesh
from stealmesh_protocol import apart
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip, RemoteProtocolError

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=2) as running:
        yield running


@dataclass
class Order:
    amount: Any
    notes: dict[str, Any]


def add(a: int, b: int = 0, *more: int) -> int:
    return a + b + sum(more)


def total(parts: Any) -> int:
    return sum(parts)


def pair() -> list[int]:
    return [1, 2]


def is_none(value: object) -> bool:
    return value is None


def fail(text: str) -> None:
    raise ValueError(text)


def opened_when(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def text_when(path: str, octets: int) -> str:
    return opened_when(path)[:1] * octets


def doubled(text: str) -> str:
    return text + text


def amount_of(order: Order) -> int:
    return int(order.amount + order.notes["more"][0])


def same(a: Any, b: Any) -> bool:
    return a is b


def grown(items: list[int]) -> list[int]:
    items.append(1)
    return items


def touched_beside(path: str, number: int) -> str:
    if path:
        Path(f"{path}-{number}").touch()
    return str(number)


def with_a_token(before: list[Any]) -> list[Any]:
    time.sleep(0.003)
    return [*before, (node_of_this_worker(), os.urandom(4))]


def node_of_this_worker() -> int:
    """Its parent is the fork server, and the node is that one's."""
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def kill_me_once(mark: str, value: int) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value + 1


def cannot_be_sent() -> Any:
    return threading.Lock()


def all_nodes_have_heard(mesh: stealmesh.Mesh) -> None:
    """Of what has been cancelled so far: their answers come after it on every link."""
    for _ in range(2):
        mesh.status()


# ---------------------------------------------------------------- where a future may lie


def test_an_input_may_lie_anywhere_in_the_arguments(mesh: stealmesh.Mesh) -> None:
    two = mesh.submit(add, 1, 1)
    assert mesh.submit(add, two, b=two).result(PATIENCE) == 4
    assert mesh.submit(total, [two, two, 3]).result(PATIENCE) == 7
    assert mesh.submit(total, (two, 5)).result(PATIENCE) == 7
    assert mesh.submit(amount_of, Order(two, {"more": [two]})).result(PATIENCE) == 4
    seven = mesh.submit(add, 7)
    assert mesh.submit(divmod, seven, two).result(PATIENCE) == (3, 1)


def test_one_input_in_two_places_is_one_object(mesh: stealmesh.Mesh) -> None:
    made = mesh.submit(pair)
    assert mesh.submit(same, made, made).result(PATIENCE) is True
    assert mesh.submit(same, made, [1, 2]).result(PATIENCE) is False


def test_a_task_may_change_what_it_is_given(mesh: stealmesh.Mesh) -> None:
    made = mesh.submit(pair)
    changed = [mesh.submit(grown, made) for _ in range(5)]
    assert [each.result(PATIENCE) for each in changed] == [[1, 2, 1]] * 5
    assert made.result() == [1, 2]


def test_the_arguments_are_those_of_the_call(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """What the program changes while the call waits does not reach it, as without inputs."""
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    parts: list[Any] = [1, 2]
    waiting = mesh.submit(lambda parts, gate: sum(parts), parts, gate)
    parts.append(100)
    (tmp_path / "open").touch()
    assert waiting.result(PATIENCE) == 3


def test_many_to_one_and_one_to_many(mesh: stealmesh.Mesh) -> None:
    one = mesh.submit(add, 1)
    many = [mesh.submit(add, one, n) for n in range(300)]
    assert mesh.submit(total, many).result(PATIENCE) == 300 + sum(range(300))


def test_values_of_reductions_and_searches_are_inputs_too(mesh: stealmesh.Mesh) -> None:
    summed = mesh.map_reduce(add, range(100), operator.add)
    assert mesh.submit(add, summed, 1).result(PATIENCE) == 4951


def test_a_long_chain_needs_no_stack(mesh: stealmesh.Mesh) -> None:
    last = mesh.submit(add, 0)
    for _ in range(3000):
        last = mesh.submit(add, last, 1)
    assert last.result(PATIENCE) == 3000


def test_map_over_futures(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """Each item waits for its own input only: the second comes while the first still waits."""
    slow = mesh.submit(opened_when, str(tmp_path / "open"))
    quick = mesh.submit(str, "x")
    results = mesh.map(len, [slow, quick], ordered=False)
    assert next(results) == 1
    (tmp_path / "open").touch()
    assert next(results) == len(str(tmp_path / "open"))
    assert next(results, None) is None
    assert list(mesh.map(add, [mesh.submit(add, n) for n in range(40)], range(40))) == [
        2 * n for n in range(40)
    ]


def test_map_finds_a_future_deep_in_a_lazy_input(mesh: stealmesh.Mesh) -> None:
    items = ([mesh.submit(add, n), n] for n in range(20))
    assert list(mesh.map(total, items)) == [2 * n for n in range(20)]
    reduced = mesh.map_reduce(total, [[n, mesh.submit(add, n)] for n in range(20)], operator.add)
    assert reduced.result(PATIENCE) == 2 * sum(range(20))


def test_a_map_over_futures_that_is_left_early_cancels_the_rest(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    inputs = [mesh.submit(str, ""), *[gate] * 3]
    results = mesh.map(touched_beside, inputs, range(4))
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    all_nodes_have_heard(mesh)
    (tmp_path / "open").touch()
    # What waited is cancelled. A call that comes later runs after it would have run.
    assert mesh.submit(touched_beside, gate, 9).result(PATIENCE) == "9"
    assert {each.name for each in tmp_path.iterdir()} == {"open", "open-9"}


# ---------------------------------------------------------------- failures


def test_a_failed_input_fails_what_waits_for_it(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """At once, although another input is not there, and as deep as the graph is."""
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    failed = mesh.submit(fail, "the first cause")
    first = mesh.submit(total, [gate, failed])
    second = mesh.submit(add, first)
    for waiting in (first, second):
        error = waiting.exception(PATIENCE)
        assert isinstance(error, ValueError)
        assert str(error) == "the first cause"
        notes = [note for note in error.__notes__ if "does not run" in note]
        assert len(notes) == 1
        assert "fail" in notes[0]
    assert not gate.done()
    (tmp_path / "open").touch()
    assert mesh.submit(add, 1).result(PATIENCE) == 1


def test_a_cancelled_input_cancels_what_waits_for_it(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    first = mesh.submit(len, gate)
    deep = [first]
    for _ in range(2000):  # a recursion would not survive it
        deep.append(mesh.submit(add, deep[-1]))
    assert first.cancel()
    wait(deep, PATIENCE)
    assert all(each.cancelled() for each in deep)
    with pytest.raises(CancelledError):
        mesh.submit(add, first).result(PATIENCE)
    (tmp_path / "open").touch()
    assert gate.result(PATIENCE)


def test_a_call_that_waits_can_be_cancelled(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    waiting = mesh.submit(len, gate)
    assert waiting.cancel()
    (tmp_path / "open").touch()
    assert gate.result(PATIENCE)
    assert waiting.cancelled()


def test_a_result_that_cannot_be_sent_on_is_named(mesh: stealmesh.Mesh) -> None:
    error = mesh.submit(add, mesh.submit(cannot_be_sent)).exception(PATIENCE)
    assert error is not None
    assert "lock" in str(error)


def test_a_future_elsewhere_says_what_to_do(mesh: stealmesh.Mesh) -> None:
    future = mesh.submit(add, 1)
    with pytest.raises(TypeError, match=r"result\(\)"):
        pickle.dumps(future)
    held: Any = future
    with pytest.raises(CannotShip, match=r"result\(\)"):
        mesh.map_reduce(lambda n: n + held, range(3), add)


def test_a_function_may_hold_futures(mesh: stealmesh.Mesh) -> None:
    """In a closure, a default, a partial, an object: each call gets what its own futures are."""
    one: Any = mesh.submit(add, 1)
    two: Any = mesh.submit(add, 2)

    async def soon(n: int) -> Any:
        return n + one

    def by_default(n: int, held: Any = two) -> Any:
        return n + held

    assert mesh.submit(partial(add, one), two).result(PATIENCE) == 3
    assert mesh.submit(partial(add, b=two), one).result(PATIENCE) == 3
    assert [mesh.submit(lambda f=f: f + 1).result(PATIENCE) for f in (one, two)] == [2, 3]
    assert mesh.submit(by_default, 5).result(PATIENCE) == 7
    assert mesh.submit(soon, 5).result(PATIENCE) == 6
    assert list(mesh.map(lambda n: n + one, range(5))) == [1, 2, 3, 4, 5]
    assert list(mesh.map(lambda a, b: a + b + one, range(3), range(3))) == [1, 3, 5]


def test_a_function_that_holds_a_failed_future_fails_with_its_cause(mesh: stealmesh.Mesh) -> None:
    failed: Any = mesh.submit(operator.add, "no number", 1)
    assert isinstance(mesh.submit(partial(add, failed)).exception(PATIENCE), TypeError)
    with pytest.raises(TypeError):
        list(mesh.map(partial(add, failed), range(3)))


def test_a_future_in_a_global_is_refused(tmp_path: Path) -> None:
    """A global goes once to each worker: a later task would get the result of an earlier future, or what
    the program's text says in its place."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    told = dict(line.split(": ") for line in said.stdout.splitlines())
    refused = {"global", "class attribute", "dictionary", "object"}
    assert {name for name, what in told.items() if what == "CannotShip CannotShip"} == refused, told
    given = {"function", "closure", "default", "partial", "method", "keyword", "set"}
    assert {name for name, what in told.items() if what == "1 2"} == given, said.stderr


PROGRAM = """
from functools import partial
from types import SimpleNamespace
import stealmesh

def number(n): return n
def call(f): return f()
class Box:
    held = None
    def look(self): return self.held
    @classmethod
    def look_at_class(cls): return Box.held
table = {}
thing = SimpleNamespace(held=None)
held = None

def in_global(future):
    global held
    held = future
    return mesh.submit(call, lambda: held)

def in_class(future):
    Box.held = future
    return mesh.submit(call, Box.look_at_class)

def in_table(future):
    table["x"] = future
    return mesh.submit(call, lambda: table["x"])

def in_object(future):
    thing.held = future
    return mesh.submit(call, lambda: thing.held)

def in_box(future):
    Box.held = None
    box = Box()
    box.held = future
    return mesh.submit(call, box.look)

WAYS = {
    "global": in_global,
    "class attribute": in_class,
    "dictionary": in_table,
    "object": in_object,
    "function": lambda future: mesh.submit(lambda: future),
    "method": in_box,
    "closure": lambda future: mesh.submit(call, lambda: future),
    "default": lambda future: mesh.submit(call, lambda f=future: f),
    "partial": lambda future: mesh.submit(call, partial(number, future)),
    "keyword": lambda future: mesh.submit(number, n=future),
    "set": lambda future: mesh.submit(sum, {future}),
}

if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        for name, way in WAYS.items():
            told = []
            for n in (1, 2):
                made = way(mesh.submit(number, n))
                error = made.exception()
                told.append(made.result() if error is None else type(error).__name__)
            print(f"{name}: {told[0]} {told[1]}")
"""


def test_after_all_of_it_nothing_waits(mesh: stealmesh.Mesh) -> None:
    """No call that waited is kept, whichever way it ended."""
    assert mesh.submit(add, mesh.submit(add, 1)).result(PATIENCE) == 1
    for stream in mesh._streams:
        assert not stream._held_back


# ---------------------------------------------------------------- ends and deaths


def test_leaving_the_block_runs_what_waits() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        last: Any = mesh.submit(time.sleep, 0.2)
        for _ in range(5):
            last = mesh.submit(is_none, last)
    assert last.result(0) is False


def test_cancel_futures_cancels_what_waits(tmp_path: Path) -> None:
    mesh = stealmesh.Mesh(workers=1)
    gate = mesh.submit(opened_when, str(tmp_path / "open"))
    waiting = [mesh.submit(len, gate) for _ in range(10)]
    opener = threading.Timer(1.0, (tmp_path / "open").touch)
    opener.start()
    mesh.shutdown(cancel_futures=True)
    opener.join()
    assert all(each.cancelled() for each in waiting)


def test_a_worker_that_dies_with_an_input_loses_nothing(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    first = mesh.submit(kill_me_once, str(tmp_path / "a"), 1)
    second = mesh.submit(kill_me_once, str(tmp_path / "b"), first)
    assert mesh.submit(add, second, first).result(PATIENCE) == 5


def node_of_a_graph(seed: int, inputs: list[int]) -> int:
    random = Random(seed)
    if random.random() < 0.3:
        time.sleep(random.random() * 0.01)
    if random.random() < 0.02:
        raise LookupError(seed)
    return (seed * 31 + sum(inputs)) % 1_000_003


def evaluated(seed: int, inputs: list[Any]) -> Any:
    """The same in this process: a value, or the error of the first cause."""
    for each in inputs:
        if isinstance(each, LookupError):
            return each
    random = Random(seed)
    if random.random() < 0.3:
        random.random()
    if random.random() < 0.02:
        return LookupError(seed)
    return (seed * 31 + sum(inputs)) % 1_000_003


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 100))]
)
def test_random_graphs_under_kills_equal_a_sequential_evaluation(seed: int) -> None:
    random = Random(seed)
    with stealmesh.Mesh(nodes=2, workers=2) as mesh:
        stop = threading.Event()

        def kill() -> None:
            chance = Random(seed)
            while not stop.wait(0.3):
                nodes = mesh._local.pids() if mesh._local is not None else []
                if nodes and chance.random() < 0.5:
                    killed(chance.choice(nodes))

        killer = threading.Thread(target=kill)
        if seed % 2:
            killer.start()
        futures: list[Any] = []
        right: list[Any] = []
        for number in range(400):
            chosen = random.sample(range(number), min(number, random.randrange(4)))
            futures.append(mesh.submit(node_of_a_graph, number, [futures[at] for at in chosen]))
            right.append(evaluated(number, [right[at] for at in chosen]))
        for future, value in zip(futures, right, strict=True):
            error = future.exception(PATIENCE)
            if isinstance(value, LookupError):
                # Of two inputs that fail, either may have been the first to be heard of.
                assert isinstance(error, LookupError)
            else:
                assert error is None
                assert future.result() == value
        stop.set()
        if seed % 2:
            killer.join()


def test_a_chain_outlives_its_node_and_is_made_of_the_results_that_count() -> None:
    """Each link adds a number of its own run. A link that was made of a run that does not count would show it."""
    with stealmesh.Mesh(nodes=3, workers=1) as mesh:
        links = [mesh.submit(with_a_token, [])]
        for _ in range(200):
            links.append(mesh.submit(with_a_token, links[-1]))
        for at in (20, 90):
            home = links[at].result(PATIENCE)[-1][0]
            assert mesh._local is not None
            os.kill(home if home in mesh._local.pids() else mesh._local.pids()[0], signal.SIGKILL)
        made = [link.result(PATIENCE) for link in links]
    assert all(after[:-1] == before for before, after in itertools.pairwise(made))


# ---------------------------------------------------------------- the pickle apart


class Slot(apart.LeavesItselfOut):
    pass


def test_numbers_are_given_by_object_and_in_order() -> None:
    one, other = Slot(), Slot()
    # Packed twice, as happens when cloudpickle has the last word.
    packed, left_out = apart.packed_apart(
        lambda value: (vx.pack(value), vx.pack(value))[1], [other, one, other]
    )
    assert left_out == [other, one]
    (entry,) = vx.entries_of(vx.join_entries([vx.pack_given(packed, [(0, b"\x01"), (0, b"\x02")])]))
    assert entry.open() == [1, 2, 1]


def test_what_was_packed_apart_is_not_opened_without_it() -> None:
    packed, _ = apart.packed_apart(vx.pack, Slot())
    with pytest.raises(Exception, match="without what it was packed without"):
        vx.unpack(*packed)
    (entry,) = vx.entries_of(vx.join_entries([vx.pack_given(packed, [])]))
    with pytest.raises(Exception, match="without what it was packed without"):
        entry.open()


@pytest.mark.parametrize(
    "blob", [b"", b"\xc0", b"\x93\x01\xc4\x00\x91\xc4\x00", b"\x93\x05\xc4\x00\x90", b"\x93\x08\xc4\x00\x90"]
)  # fmt: skip
def test_a_damaged_value_with_others_in_it_is_a_typed_error(blob: bytes) -> None:
    (entry,) = vx.entries_of(vx.join_entries([(vx.GIVEN, blob)]))
    with pytest.raises(RemoteProtocolError):
        entry.open()


def test_large_results_go_into_calls_that_wait(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    """They stay on their nodes, though the program lets go of the futures before they are there."""
    octets = 300_000
    first = mesh.submit(text_when, str(tmp_path / "go"), octets)
    second = mesh.submit(doubled, first)
    third = mesh.submit(doubled, second)
    sizes = [mesh.submit(len, each) for each in (first, second, third)]
    both = mesh.submit(add, *sizes)
    del first, second, third
    assert not both.done()
    (tmp_path / "go").touch()
    assert both.result(PATIENCE) == 7 * octets
    assert [each.result(PATIENCE) for each in sizes] == [octets, 2 * octets, 4 * octets]
