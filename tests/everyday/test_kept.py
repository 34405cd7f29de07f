"""Results that stay on the nodes: `keep=True`, large results, losses, and the end of need."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import as_completed, wait
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh

from .test_scattered import files_of, size, stored

PATIENCE = 60
LARGE = 1 << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=2, workers=1) as running:
        yield running


def make(octets: int, filler: int = 1) -> bytearray:
    return bytearray([filler]) * octets


def joined(*parts: Any) -> bytearray:
    return bytearray().join(parts)


def fails(data: Any) -> None:
    raise KeyError(len(data))


def nested(data: dict[str, list[bytearray]]) -> int:
    return sum(map(len, data["a"]))


async def later(octets: int) -> bytearray:
    await asyncio.sleep(0.01)
    return bytearray(octets)


def facts(mesh: stealmesh.Mesh, name: str) -> int:
    return sum(node["values"][name] for node in mesh.status()["nodes"])


def nothing_is_left(mesh: stealmesh.Mesh) -> None:
    """No copy, no recipe, no octet in memory or on disk, no open file in any process of the mesh."""
    gc.collect()
    for name in ("stored", "results", "owned", "memory_octets", "disk_octets"):
        until(lambda name=name: facts(mesh, name) == 0)  # type: ignore[misc]
    nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
    pids = [os.getpid(), *(pid for node in nodes for pid in [node["pid"], *node["worker_pids"]])]
    until(lambda: not any(files_of(pid) for pid in pids))


def at_home(mesh: stealmesh.Mesh) -> int:
    """Octets of values in this program."""
    return mesh._link.values.shelf.room.memory + len(mesh._link.values.shelf)


@pytest.mark.parametrize("octets", [10, LARGE])
def test_what_is_kept_stays_however_small(mesh: stealmesh.Mesh, octets: int) -> None:
    keep = mesh.options(keep=True)
    first = keep.submit(make, octets)
    second = keep.submit(joined, first, first)
    assert mesh.submit(size, second).result(PATIENCE) == 2 * octets
    assert first.exception() is None
    assert at_home(mesh) == 0
    assert first.result(PATIENCE) == make(octets)
    assert second.result(PATIENCE) is second.result()
    del first, second
    nothing_is_left(mesh)


def test_a_large_result_stays_until_it_is_asked_for(mesh: stealmesh.Mesh) -> None:
    large, small = mesh.submit(make, LARGE), mesh.submit(make, 1000)
    wait([large, small])
    assert at_home(mesh) == 0
    assert [mesh.submit(size, each).result(PATIENCE) for each in (large, small)] == [LARGE, 1000]
    assert at_home(mesh) == 0
    assert large.result(PATIENCE) == make(LARGE)
    assert small.result(PATIENCE) == make(1000)
    del large, small
    nothing_is_left(mesh)


def test_callers_see_no_difference(mesh: stealmesh.Mesh) -> None:
    keep = mesh.options(keep=True)
    futures = [keep.submit(make, 10 * LARGE // (number + 1)) for number in range(4)]
    assert {len(each.result(PATIENCE)) for each in as_completed(futures)} == {
        10 * LARGE // number for number in (1, 2, 3, 4)
    }
    called: list[int] = []
    large = mesh.submit(make, LARGE)
    large.add_done_callback(lambda each: called.append(len(each.result())))
    until(lambda: called == [LARGE])
    assert mesh.gather({"a": [futures[0], large]})["a"][1] == make(LARGE)
    assert (
        mesh.submit(nested, {"a": [futures[3], large]}).result(PATIENCE) == LARGE * 5 // 2 + LARGE
    )
    assert list(mesh.map(size, [large, large])) == [LARGE, LARGE]
    assert len(keep.submit(later, LARGE).result(PATIENCE)) == LARGE
    assert keep.submit(print).result(PATIENCE) is None
    with pytest.raises(KeyError, match="10"):
        mesh.submit(fails, keep.submit(make, 10)).result(PATIENCE)
    with pytest.raises(KeyError):
        keep.submit(joined, keep.submit(fails, large)).result(PATIENCE)
    del futures, large
    nothing_is_left(mesh)


def test_an_event_loop_does_not_wait_for_octets(mesh: stealmesh.Mesh) -> None:
    async def ask() -> list[int]:
        early = mesh.submit(make, LARGE)
        late = mesh.options(keep=True).submit(make, LARGE)
        wait([late])
        return [len(await early), len(await late)]

    assert asyncio.run(ask()) == [LARGE, LARGE]
    nothing_is_left(mesh)


def test_a_result_that_nobody_reads_goes(mesh: stealmesh.Mesh) -> None:
    for _ in range(5):
        mesh.options(keep=True).submit(make, LARGE)
    cancelled = [mesh.options(keep=True).submit(make, LARGE) for _ in range(20)]
    for each in cancelled:
        each.cancel()
    del each
    wait(cancelled)
    cancelled.clear()
    nothing_is_left(mesh)


def test_a_large_argument_is_a_value(mesh: stealmesh.Mesh) -> None:
    """It goes through shared memory, once, and the task may change it."""
    data = make(LARGE)

    def spoil(one: bytearray, other: bytearray) -> tuple[int, bool]:
        one[:] = bytes(len(one))
        return sum(other), one is other

    assert mesh.submit(spoil, data, other=data).result(PATIENCE) == (0, True)
    assert data == make(LARGE)
    nothing_is_left(mesh)


def test_where_it_makes_no_sense(mesh: stealmesh.Mesh) -> None:
    keep: Any = mesh.options(keep=True)
    for call in (keep.map, keep.map_reduce, keep.explore, keep.launch):
        with pytest.raises(ValueError, match="keep: only for submit"):
            call(size, [b"a"], max)
    with pytest.raises(ValueError, match="keep: only for submit"):
        keep.actor(dict)
    with pytest.raises(ValueError, match="keep"):
        mesh.options(keep=True, durable=True)
    with pytest.raises(TypeError, match="keep"):
        mesh.options(keep=1)  # type: ignore[arg-type]


def test_large_results_outlive_the_mesh() -> None:
    """What only stayed because it is large comes home at the end; what was to stay is gone, and says so."""
    with stealmesh.Mesh(workers=1) as mesh:
        large = mesh.submit(make, LARGE)
        kept = mesh.options(keep=True).submit(make, LARGE)
    assert large.result(PATIENCE) == make(LARGE)
    with pytest.raises(stealmesh.ValueLost, match="shut down"):
        kept.result(PATIENCE)


def test_what_does_not_fit_into_memory_lies_on_disk(tmp_path: Path) -> None:
    """Ten times as much as both nodes may have in memory."""
    config = {"store_memory_octets": 1 << 20, "store_disk_octets": 1 << 30}
    with stealmesh.Mesh(nodes=2, workers=1, config=config) as mesh:
        keep = mesh.options(keep=True)
        kept = [keep.submit(make, 500_000, number) for number in range(40)]
        wait(kept)
        assert facts(mesh, "memory_octets") <= 2 << 20
        assert facts(mesh, "spilled_octets") >= 16_000_000
        assert [mesh.submit(sum, each).result(PATIENCE) for each in kept] == [
            500_000 * number for number in range(40)
        ]
        del kept
        nothing_is_left(mesh)


# ---------------------------------------------------------------- losses


def load(log: str, number: int, octets: int) -> bytearray:
    note(log, "load")
    return make(octets, number % 251)


def transform(log: str, data: bytearray) -> bytearray:
    note(log, "transform")
    return data + b"t"


def train(log: str, data: bytearray) -> bytearray:
    note(log, "train")
    return data + b"m"


def score(log: str, data: bytearray) -> tuple[int, int]:
    note(log, "score")
    return data[0], len(data)


def note(log: str, what: str) -> None:
    with open(log, "a") as file:
        file.write(f"{what}\n")


def counted(log: str) -> Counter[str]:
    return Counter(Path(log).read_text().split())


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lines", "octets"), [(12, 200_000), pytest.param(200, 5_000_000, marks=pytest.mark.slow)]
)
def test_only_what_was_lost_and_needed_runs_again(tmp_path: Path, lines: int, octets: int) -> None:
    """load → transform → train → score on four nodes; two are killed when all models are there."""
    log = str(tmp_path / "log")
    with stealmesh.Mesh(nodes=4, workers=1) as mesh:
        keep = mesh.options(keep=True)
        models = []
        for number in range(lines):
            raw = keep.submit(load, log, number, octets)
            models.append(keep.submit(train, log, keep.submit(transform, log, raw)))
        del raw
        wait(models)
        until(lambda: stored(mesh) == lines)
        once = {"load": lines, "transform": lines, "train": lines}
        assert counted(log) == once
        nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
        lost = sum(node["values"]["stored"] for node in nodes[:2])
        for node in nodes[:2]:
            os.kill(node["pid"], signal.SIGKILL)
        scores = [mesh.submit(score, log, model) for model in models]
        assert [each.result(PATIENCE) for each in scores] == [
            (number % 251, octets + 2) for number in range(lines)
        ]
        assert counted(log) == dict.fromkeys(once, lines + lost) | {"score": lines}
        del models, scores
        nothing_is_left(mesh)


@pytest.mark.real
def test_a_future_that_is_held_is_worth_making_again() -> None:
    """Its nodes are killed, nothing waits for it, and then the program asks."""
    with stealmesh.Mesh(nodes=3, workers=1) as mesh:
        kept = [mesh.options(keep=True).submit(make, LARGE, number) for number in range(9)]
        wait(kept)
        nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
        os.kill(nodes[0]["pid"], signal.SIGKILL)
        time.sleep(0.1)
        assert [each.result(PATIENCE) for each in kept] == [make(LARGE, n) for n in range(9)]
        del kept
        nothing_is_left(mesh)


def ones(octets: int) -> Any:
    import numpy

    return numpy.ones(octets, "u1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_result_of_many_gibioctets_comes_home() -> None:
    pytest.importorskip("numpy")
    octets = 1 << 32
    with stealmesh.Mesh(workers=1, config={"store_memory_octets": 3 * octets}) as mesh:
        result = mesh.submit(ones, octets).result(800)
        assert result.nbytes == octets
        assert result[:: octets // 7].sum() == 8


# ---------------------------------------------------------------- how much memory


def proportional_octets(pids: list[int]) -> int:
    """What these processes have together; what several share counts once."""
    found = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            found += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return found * 1024


def total(data: Any, seconds: float) -> float:
    time.sleep(seconds)
    return float(data.sum())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["scatter", "keep"])
def test_fifty_tasks_share_what_they_need(how: str) -> None:
    """The octets of one copy lie in one piece of memory, whatever number of processes look at it."""
    pytest.importorskip("numpy")
    octets = 500_000_000
    with stealmesh.Mesh(nodes=2, workers=2, config={"store_memory_octets": 1 << 31}) as mesh:
        list(mesh.map(total, [ones(10)] * 8, [0.01] * 8))
        nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
        pids = [os.getpid(), *(p for node in nodes for p in [node["pid"], *node["worker_pids"]])]
        idle, most = proportional_octets(pids), 0
        data = ones(octets) if how == "scatter" else None
        given = mesh.scatter(data) if how == "scatter" else mesh.submit(ones, octets)
        del data
        if how == "keep":
            until(given.done)  # type: ignore[union-attr]
        futures = [mesh.submit(total, given, 0.05) for _ in range(50)]
        while not all(each.done() for each in futures):
            most = max(most, proportional_octets(pids))
            time.sleep(0.05)
        assert {each.result() for each in futures} == {float(octets)}
        print(
            f"{how}: {idle:,} octets idle, at most {most:,}: {(most - idle) / octets:.2f} times the value"
        )
        assert most - idle <= 1.3 * octets


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_times_the_memory_of_the_nodes(tmp_path: Path) -> None:
    """4 GiB of results through two nodes that may have a tenth of it in memory each."""
    share, count = 400 << 20, 80
    config = {"store_memory_octets": share, "store_disk_octets": 1 << 34}
    with stealmesh.Mesh(nodes=2, workers=1, config=config) as mesh:
        keep = mesh.options(keep=True)
        kept, most = [keep.submit(make, 50 << 20, number) for number in range(count)], 0
        while not all(each.done() for each in kept):
            most = max(most, facts(mesh, "memory_octets"))
            time.sleep(0.2)
        print(f"at most {most:,} octets in memory, {facts(mesh, 'spilled_octets'):,} to disk")
        assert most <= 2 * share
        assert facts(mesh, "spilled_octets") >= count * (50 << 20) - 2 * share - (100 << 20)
        asked = [mesh.submit(size, each) for each in kept]
        assert {each.result(600) for each in asked} == {50 << 20}
        del kept, asked
        nothing_is_left(mesh)
