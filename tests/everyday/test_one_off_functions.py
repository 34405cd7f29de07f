"""Functions are kept as long as somebody needs them: in the client, in the node, in its workers."""

from __future__ import annotations

import gc
import pickle
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import stealmesh
from stealmesh.client.streams import CARRIED, OWN_STREAMS
from stealmesh.workers.run import call_carried
from stealmesh_protocol.errors import RemoteTraceback

pytestmark = pytest.mark.real

PATIENCE = 60.0
MIB = 1 << 20


@pytest.fixture
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def comes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def open_jobs(mesh: stealmesh.Mesh) -> list[Any]:
    return [line for line in mesh.status()["jobs"] if line["state"] in ("running", "waiting")]


def last(first: Any, second: Any) -> Any:
    return second


class Tool:
    """Its methods are functions that hold on to it."""

    def __init__(self) -> None:
        self.weight = bytes(1000)

    def use(self, value: int) -> int:
        return value + len(self.weight)


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_many_functions_are_a_handful_of_jobs_and_then_none(mesh: stealmesh.Mesh) -> None:
    """Row 38: each was a job for as long as the mesh lived."""
    makers: list[Callable[[int], Callable[[], int]]] = [
        lambda number: lambda: number,
        lambda number: partial(last, number, number),
        lambda number: partial(Tool().use, number - 1000),
    ]
    for make in makers:
        calls = [mesh.submit(make(number)) for number in range(2000)]
        assert [call.result() for call in calls] == list(range(2000))
        assert len(mesh._link.jobs) <= OWN_STREAMS + 1
        assert comes_true(lambda: not open_jobs(mesh))
    assert not mesh._link.jobs
    assert list(mesh._streams) == []


def test_what_a_function_refers_to_goes_with_its_future(mesh: stealmesh.Mesh) -> None:
    tool = Tool()
    gone = [weakref.ref(tool)]
    assert mesh.submit(tool.use, 1).result() == 1001
    assert list(mesh.map(tool.use, [1, 2])) == [1001, 1002]
    assert mesh.submit(partial(last, tool), 3).result() == 3

    def closure(held: Tool = tool) -> int:
        return held.use(0)

    assert mesh.submit(closure).result() == 1000
    del tool, closure

    def is_gone() -> bool:
        gc.collect()
        return gone[0]() is None

    assert comes_true(is_gone)


def test_large_partials_leave_nothing_in_client_node_and_worker(mesh: stealmesh.Mesh) -> None:
    """Row 38: 300 of 1 MiB were 600 MiB, for ever. A first round makes every heap as large as it gets."""

    def flood(count: int) -> None:
        held = [
            mesh.submit(partial(last, bytes([number % 256]) * MIB), number)
            for number in range(count)
        ]
        assert [call.result() for call in held] == list(range(count))
        assert comes_true(lambda: not open_jobs(mesh))

    def sizes() -> list[int]:
        node = next(node for node in mesh.status()["nodes"] if node["role"] != "client")
        return [resident(pid) for pid in (node["pid"], *node["worker_pids"])]

    flood(60)
    before = sizes()
    for _ in range(3):
        flood(60)
    grown = [(now - then) // MIB for now, then in zip(sizes(), before, strict=True)]
    # One round at once, packed and unpacked, is 120: a heap may be that large the first time it happens later.
    assert max(grown) < 170, f"180 MiB passed through, and these grew by {grown} MiB"


def test_a_function_that_comes_back_has_a_stream_of_its_own(mesh: stealmesh.Mesh) -> None:
    """And its calls work like the first one, which another stream has carried."""

    def adds(number: int) -> Callable[[int], int]:
        return lambda value: value + number

    functions = [adds(number) for number in range(OWN_STREAMS + 8)]
    for turn in range(3):
        for number, function in enumerate(functions):
            assert mesh.submit(function, turn).result() == turn + number
    names = [stream.spec.name for stream in mesh._streams]
    assert len(names) >= OWN_STREAMS


def test_calls_while_streams_are_being_closed(mesh: stealmesh.Mesh) -> None:
    """A stream is closed the moment that somebody uses it again: the call takes another."""
    streams = mesh._streams
    for number in range(300):
        call = mesh.submit(last, 0, number)
        assert call.result() == number
        for stream in streams:
            stream.rest()
        mesh._link.post(*streams.tidy())
    assert mesh.submit(last, 0, 1).result() == 1


def test_failures_of_a_carried_function_are_its_own(mesh: stealmesh.Mesh) -> None:
    """Its exception, its traceback, what it lacks: nothing tells of the stream that carried it."""

    def fails(number: int) -> Any:
        return lambda: 1 // number

    others = [mesh.submit(partial(last, 0, number)) for number in range(OWN_STREAMS)]
    call = mesh.submit(fails(0))
    with pytest.raises(ZeroDivisionError) as raised:
        call.result()
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    told = raised.value.__cause__.text
    assert "call_carried" not in told
    assert "1 // number" in told or "<lambda>" in told
    assert [other.result() for other in others] == list(range(OWN_STREAMS))


def test_retries_and_options_hold_for_carried_functions(
    mesh: stealmesh.Mesh, tmp_path: Any
) -> None:
    view = mesh.options(retries=3, name="stubborn")

    def once_more(path: str) -> Any:
        def attempt(value: int) -> int:
            with open(path, "a+", encoding="ascii") as file:
                file.write("x")
                file.seek(0)
                if len(file.read()) < 3:
                    raise OSError("not yet")
            return value

        return attempt

    calls = [
        view.submit(once_more(str(tmp_path / f"{number}")), number)
        for number in range(OWN_STREAMS + 4)
    ]
    assert [call.result() for call in calls] == list(range(OWN_STREAMS + 4))


def test_the_function_that_calls_carried_functions_is_where_its_pickle_says() -> None:
    assert pickle.loads(CARRIED) is call_carried
