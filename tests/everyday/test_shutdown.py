"""What a shutdown cancels, what it waits for, and what a task that runs says of itself."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import stealmesh
from stealmesh.client.journals import JournalReader
from stealmesh_protocol.errors import MeshClosed

pytestmark = pytest.mark.real

PATIENCE = 60.0


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def same(value: Any) -> Any:
    return value


class Stumble(Exception):
    """What a program's own code raises."""


def within(seconds: float, work: Any) -> None:
    """Run it in a thread: a hang is a failure, not a hung test."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  told to the test
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it has not ended within {seconds} s"
    if raised:
        raise raised[0]


def test_a_mesh_with_values_leaves_no_thread() -> None:
    """The one that gives values away waited in `accept` for ever, and kept all values of its mesh."""
    before = set(threading.enumerate())
    with stealmesh.Mesh(workers=1) as mesh:
        value = mesh.scatter([1])
        assert mesh.submit(len, value).result(PATIENCE) == 1
    ours = [each for each in threading.enumerate() if each.name.startswith("stealmesh")]
    for thread in set(ours) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


# ---------------------------------------------------------------- what comes after it


def asked_afterwards(mesh: stealmesh.Mesh, job: stealmesh.Job) -> dict[str, Any]:
    """Everything public that wants something of a mesh."""
    name = bytes.fromhex(job.id)
    return {
        "submit": lambda: mesh.submit(same, 1),
        "map": lambda: mesh.map(same, [1]),
        "map_reduce": lambda: mesh.map_reduce(same, [1], max),
        "explore": lambda: mesh.explore(stealmesh.each(same), [1], max),
        "scatter": lambda: mesh.scatter(1),
        "actor": lambda: mesh.actor(Stumble),
        "launch": lambda: mesh.launch(same, [1]),
        "attach": lambda: mesh.attach(job.id),
        "jobs": mesh.jobs,
        "status": mesh.status,
        "submit of a view": lambda: mesh.options(name="x").submit(same, 1),
        "address": lambda: mesh.address,
        "key_file": lambda: mesh.key_file,
        "explain": lambda: mesh.looking.explain(name),
        "stacks": lambda: mesh.looking.stacks(name),
        "call_off": lambda: mesh.looking.call_off(name),
        "events": JournalReader(mesh._link).read,
        "results": lambda: list(job.results()),
        "output": lambda: job.output(0),
        "cancel": job.cancel,
        "stop": job.stop,
    }


def test_after_shutdown_everything_is_refused_with_the_reason() -> None:
    """Questions waited for 5 s for the answer of nobody, and a durable job was cancelled nowhere."""
    with stealmesh.Mesh(workers=1) as mesh:
        job = mesh.launch(nap, [PATIENCE])
        key = Path(mesh.key_file)
        assert key.exists()
    said = {}
    for name, ask in asked_afterwards(mesh, job).items():
        with pytest.raises(RuntimeError) as caught:  # MeshClosed is one
            ask()
        said[name] = str(caught.value)
    assert set(said.values()) <= {
        "cannot schedule new futures after shutdown",
        "this mesh has been shut down",
    }, said
    assert not key.parent.exists()


def test_a_key_file_goes_with_the_mesh_also_if_it_is_asked_for_late() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        pass
    with pytest.raises(MeshClosed, match="shut down"):
        _ = mesh.key_file
    assert not list(Path(tempfile.gettempdir()).glob(f"stealmesh-{os.getpid()}-key-*"))


def test_what_a_mesh_that_broke_is_asked_says_why() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        mesh._life.link.close(MeshClosed("its node dies as soon as it is started"))
        with pytest.raises(MeshClosed, match="dies as soon"):
            mesh.status()


# ---------------------------------------------------------------- half-read iterators


def inputs() -> list[Any]:
    return [
        lambda mesh: mesh.map(same, itertools.count(), buffersize=4),
        lambda mesh: mesh.map(same, itertools.count()),
        lambda mesh: mesh.map(same, itertools.cycle("ab"), ordered=False),
        lambda mesh: mesh.map(same, range(10**12), buffersize=4),
        lambda mesh: mesh.map(same, itertools.count(), itertools.count(), buffersize=2),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_block_left_by_an_exception_ends_although_an_endless_map_is_half_read(
    number: int,
) -> None:
    """Row 21: it never ended, and hid what was raised."""
    kept: list[Iterator[Any]] = []

    def program() -> None:
        with stealmesh.Mesh(workers=1) as mesh:
            if number == 4:
                kept.append(
                    mesh.map(lambda a, b: a + b, itertools.count(), itertools.count(), buffersize=2)
                )
            else:
                kept.append(inputs()[number](mesh))
            next(kept[0])
            raise Stumble

    with pytest.raises(Stumble):
        within(PATIENCE, program)
    with pytest.raises(MeshClosed):
        list(kept[0])


def test_leaving_a_block_waits_for_no_more_than_buffersize_allows() -> None:
    """And a reader that goes on has what was computed, and is told that it is not all."""
    kept: list[Any] = []

    def program() -> None:
        with stealmesh.Mesh(workers=1) as mesh:
            kept.append(mesh.map(same, itertools.count(), buffersize=4))
            next(kept[0])

    within(PATIENCE, program)
    got: list[int] = []
    with pytest.raises(MeshClosed):
        got.extend(kept[0])  # keeps what came before the error
    assert got == list(range(1, len(got) + 1))
    assert len(got) >= 3


def test_an_input_that_fits_into_its_buffer_is_read_to_its_end() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        results = mesh.map(same, [1, 2, 3], buffersize=3)
    assert list(results) == [1, 2, 3]


@pytest.mark.parametrize("turn", range(4))
def test_whatever_the_reading_thread_is_at_when_the_block_ends(turn: int) -> None:
    """Found by the test above, once in five: the mesh was gone before the first item had been read, and the
    reader of the results waited for ever. So did one whose mesh went away with its results."""
    with stealmesh.Mesh(workers=1) as mesh:
        many = [mesh.map(same, iter([1, 2]), buffersize=size) for size in (1, 2, 3)]
        endless = mesh.map(same, itertools.count(), buffersize=2)
    for results in (many[0], endless):
        with pytest.raises(MeshClosed):
            within(PATIENCE, partial(list, results))
    within(PATIENCE, lambda: next(many[1]))
    assert list(many[2]) == [1, 2]


def test_what_nobody_has_begun_to_read_is_computed_as_the_standard_pools_do() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        results = mesh.map(same, (number for number in range(100)))
    assert list(results) == list(range(100))


def test_close_before_the_first_next_cancels() -> None:
    """Row 21: a generator that never started does not run its `finally`."""
    with stealmesh.Mesh(workers=1) as mesh:
        results = mesh.map(nap, [30.0] * 1000)
        results.close()  # type: ignore[attr-defined]  # an Iterator to the type checker
        assert list(results) == []
        patience = time.monotonic() + PATIENCE
        while mesh._link.jobs and time.monotonic() < patience:
            time.sleep(0.01)
        assert not mesh._link.jobs
        within(PATIENCE, mesh.shutdown)


# ---------------------------------------------------------------- cancel_futures


def test_cancel_futures_reaches_maps_reductions_and_all_pending_calls() -> None:
    """Row 35: 200 of 200 items ran, 5 s."""
    mesh = stealmesh.Mesh(workers=2)
    results = mesh.map(nap, [0.2] * 2000)
    reduction = mesh.map_reduce(nap, [0.2] * 2000, max)
    calls = [mesh.submit(nap, 0.2) for _ in range(2000)]
    within(PATIENCE, lambda: mesh.shutdown(cancel_futures=True))
    assert sum(call.cancelled() for call in calls) >= 1900
    assert all(call.done() for call in calls)
    with pytest.raises(CancelledError):
        list(results)
    with pytest.raises(CancelledError):
        reduction.result(0)


def test_cancel_futures_lets_end_what_has_begun() -> None:
    mesh = stealmesh.Mesh(workers=2)
    calls = [mesh.submit(nap, 0.3) for _ in range(40)]
    within(PATIENCE, lambda: mesh.shutdown(cancel_futures=True))
    ended = [call for call in calls if not call.cancelled()]
    assert 1 <= len(ended) <= 20
    assert [call.result(0) for call in ended] == [0.3] * len(ended)


# ---------------------------------------------------------------- running


def test_a_call_that_runs_says_so_soon_and_cannot_be_cancelled() -> None:
    """Row 36: 0.55 s, and `cancel()` was True. Beats come every half second; this one is extra."""
    with stealmesh.Mesh(workers=1) as mesh:
        mesh.submit(same, 1).result()
        call = mesh.submit(nap, 2.0)
        asleep = time.monotonic() + 1.5
        while not call.running() and time.monotonic() < asleep:
            time.sleep(0.002)
        assert call.running(), "it ran for 1.5 s and nobody said so"
        assert not call.cancel()
        assert call.result() == 2.0


def test_calls_that_wait_behind_one_that_runs_do_not_run_and_can_be_cancelled() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        first = mesh.submit(nap, 1.0)
        others = [mesh.submit(nap, 30.0) for _ in range(5)]
        while not first.running():
            time.sleep(0.002)
        assert not any(other.running() for other in others)
        assert all(other.cancel() for other in others)
        assert first.result() == 1.0


# ---------------------------------------------------------------- left in a hurry


def doubled(n: int) -> tuple[int, list[int]]:
    time.sleep(0.001)
    return 1, [n - 1, n - 1] if n else []


def slowly(x: int) -> int:
    time.sleep(0.001)
    return x


PENDING: dict[str, Any] = {
    "reduction": lambda mesh: mesh.map_reduce(slowly, range(10**6), max).result(PATIENCE),
    "reduction of a list": lambda mesh: mesh.map_reduce(slowly, list(range(10**6)), max).result(
        PATIENCE
    ),
    "with initial": lambda mesh: mesh.map_reduce(slowly, range(10**6), max, initial=0).result(
        PATIENCE
    ),
    "search": lambda mesh: mesh.explore(stealmesh.each(doubled), [40], max).result(PATIENCE),
    "map": lambda mesh: list(mesh.map(slowly, range(10**6))),
    "unordered map": lambda mesh: list(mesh.map(slowly, range(10**6), ordered=False)),
}


@pytest.mark.parametrize("kind", PENDING)
def test_what_is_pending_when_ctrl_c_ends_the_block_has_no_value(kind: str) -> None:
    """A reduction gave what it had for the whole: leaving cancels its job, and the cancelled job
    was told to be done."""
    found: list[Any] = []

    def wait(mesh: stealmesh.Mesh) -> None:
        try:
            found.append(PENDING[kind](mesh))
        except BaseException as error:  # noqa: BLE001  it is what the test is about
            found.append(error)

    def interrupted() -> None:
        with stealmesh.Mesh(workers=2) as mesh:
            waiting = threading.Thread(target=wait, args=(mesh,), daemon=True)
            waiting.start()
            assert mesh.submit(same, 1).result(PATIENCE) == 1
            wait_for_progress(mesh)
            threads.append(waiting)
            raise KeyboardInterrupt

    threads: list[threading.Thread] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    threads[0].join(PATIENCE)
    assert [type(each) for each in found] == [MeshClosed]


def wait_for_progress(mesh: stealmesh.Mesh) -> None:
    """Until a job that is not done has results."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(
            0 < job["done"] < job["total"] or job["kind"] == "explore"
            for job in mesh.status()["jobs"]
        ):
            return
        time.sleep(0.05)
    raise AssertionError("nothing gets on")


def test_an_input_that_is_cut_off_is_said_however_the_mesh_ends() -> None:
    """Once: the reader of a half-read input heard nothing, if all that was computed had come when the mesh ended."""
    jobs = []
    with stealmesh.Mesh(workers=1) as mesh:
        for ordered in (True, False):
            reading: Any = mesh.map(same, itertools.count(), buffersize=4, ordered=ordered)
            next(reading)
            jobs.append(reading)
    for reading in jobs:
        reading._job.broken(MeshClosed("and once more, behind what was cut off"))
        with pytest.raises(MeshClosed, match="before the input of this map was read to its end"):
            list(reading)
