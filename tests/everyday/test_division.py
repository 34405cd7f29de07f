"""Dear items behind cheap ones, finished ones beside slow ones: rows 40 and 41 of the everyday cases.

Nothing here is timed. A dear item waits until as many workers as there should be are inside of one,
or until the test has seen what it should see meanwhile; if work is not divided, that never happens,
and the patience of the item or of the test runs out.
"""

from __future__ import annotations

import operator
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

import stealmesh

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 20.0
CHEAP = 20_000


@pytest.fixture(scope="module")
def one() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def two() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def eight() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=8) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def four_nodes() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=4, workers=2) as mesh:
        yield mesh


def meeting(directory: Path, company: int) -> Callable[[int], int]:
    """A dear item is one above 0: it ends when that many workers have come to one. Once one has waited
    for too long, none waits any more."""
    place, late, patience = str(directory), f"{directory}.late", PATIENCE_SECONDS

    def task(x: int) -> int:
        if not x:
            return 0
        open(os.path.join(place, str(os.getpid())), "w").close()
        until = time.monotonic() + patience
        while len(os.listdir(place)) < company:
            if time.monotonic() > until or os.path.exists(late):
                open(late, "w").close()
                return -1
            time.sleep(0.002)
        return x

    return task


def held(directory: Path) -> Callable[[Any], Any]:
    """An item "slow" stays until the test has made the file; all others end at once."""
    file, patience = str(directory / "go"), PATIENCE_SECONDS

    def task(x: Any) -> Any:
        until = time.monotonic() + patience
        while x == "slow" and not os.path.exists(file):
            if time.monotonic() > until:
                return "never released"
            time.sleep(0.002)
        return x

    return task


def let_go(directory: Path) -> None:
    (directory / "go").touch()


# ---------------------------------------------------------------- row 40: dear items behind cheap ones


def tail(dear: int) -> list[int]:
    return [0] * CHEAP + [1] * dear


SHAPES: list[list[int]] = [
    tail(8),
    tail(40),
    [0] * 2_000 + [1] * 16,
    [1] * 16 + [0] * CHEAP,
    [0] * 5_000 + [1] * 12 + [0] * 5_000,
    ([0] * 2_000 + [1] * 3) * 6,
]


@pytest.mark.parametrize("items", SHAPES, ids=["8", "40", "few cheap", "front", "middle", "lumps"])
def test_dear_items_are_shared_among_the_workers_of_a_node(
    two: stealmesh.Mesh, tmp_path: Path, items: list[int]
) -> None:
    """Row 40: one worker had all of them in its chunk, and the other stood by."""
    assert list(two.map(meeting(tmp_path, 2), items)) == items


def test_all_eight_workers_have_one(eight: stealmesh.Mesh, tmp_path: Path) -> None:
    """Row 40."""
    assert list(eight.map(meeting(tmp_path, 8), tail(40))) == tail(40)


def test_all_four_nodes_have_some(four_nodes: stealmesh.Mesh, tmp_path: Path) -> None:
    """Row 40: what is given back is stolen like anything else."""
    assert list(four_nodes.map(meeting(tmp_path, 8), tail(40))) == tail(40)


def test_items_that_are_read_as_they_come_are_shared_as_well(
    two: stealmesh.Mesh, tmp_path: Path
) -> None:
    results = two.map(meeting(tmp_path, 2), iter(tail(20)), ordered=False)
    assert sorted(results) == tail(20)


def test_a_dear_end_of_a_reduction_is_shared(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """Partials cannot be cut, but a chunk that has none yet can."""
    future = two.map_reduce(meeting(tmp_path, 2), tail(20), operator.add)
    assert future.result(2 * PATIENCE_SECONDS) == 20


def test_the_order_of_a_reduction_survives_its_division(
    two: stealmesh.Mesh, tmp_path: Path
) -> None:
    task, last = meeting(tmp_path, 2), CHEAP

    def text(x: int) -> str:
        task(1 if x >= last else 0)
        return f"{x},"

    got = two.map_reduce(text, range(CHEAP + 10), operator.add).result(2 * PATIENCE_SECONDS)
    assert got == "".join(f"{x}," for x in range(CHEAP + 10))


def test_dear_submits_behind_cheap_ones_are_shared(two: stealmesh.Mesh, tmp_path: Path) -> None:
    task = meeting(tmp_path, 2)
    futures = [two.submit(task, x) for x in [0] * 300 + [1] * 10]
    assert sum(future.result(2 * PATIENCE_SECONDS) for future in futures) == 10


def test_dear_items_that_fail_at_first_are_shared(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """An item between two attempts is not given back: it has been begun."""
    (tmp_path / "met").mkdir()
    task, runs = meeting(tmp_path / "met", 2), str(tmp_path / "runs")

    def flaky(at: int) -> int:
        dear = at >= CHEAP
        if dear:
            with open(runs, "a") as log:
                log.write(f"{at} ")
            with open(runs) as log:
                first = log.read().split().count(str(at)) == 1
            if first:
                raise ValueError("not yet")
        return task(int(dear))

    got = list(two.options(retries=2).map(flaky, range(CHEAP + 10)))
    assert got == [0] * CHEAP + [1] * 10
    counts = Counter(Path(runs).read_text().split())
    assert set(counts.values()) == {2}


def test_each_item_is_run_once_however_the_work_is_divided(
    four_nodes: stealmesh.Mesh, tmp_path: Path
) -> None:
    """Costs that grow, a hundred times over: each run leaves a mark of its own."""
    log = str(tmp_path / "log")

    def growing(x: int) -> int:
        with open(log, "a") as file:
            file.write(f"{x}\n")
        time.sleep((x % 400) ** 2 * 2e-7)
        return x

    assert list(four_nodes.map(growing, range(2_000))) == list(range(2_000))
    assert Counter(Path(log).read_text().split()) == Counter(map(str, range(2_000)))


def test_an_item_that_kills_its_worker_does_not_run_its_reported_neighbours_again(
    two: stealmesh.Mesh, tmp_path: Path
) -> None:
    """What was reported while it ran is nobody's suspect."""
    log, reported, patience = str(tmp_path / "log"), str(tmp_path / "go"), PATIENCE_SECONDS
    culprit = 900

    def deadly(x: int) -> int:
        with open(log, "a") as file:
            file.write(f"{x}\n")
        until = time.monotonic() + patience
        while x == culprit and not os.path.exists(reported):
            if time.monotonic() > until:
                return -1
            time.sleep(0.002)
        with open(log) as file:
            if x == culprit and file.read().split().count(str(x)) == 1:
                os._exit(9)
        return x

    results = two.map(deadly, range(1_000), ordered=False, timeout=PATIENCE_SECONDS)
    others = [next(results) for _ in range(999)]
    Path(reported).touch()
    assert sorted([*others, *results]) == list(range(1_000))
    assert Counter(Path(log).read_text().split()) == Counter(map(str, [*range(1_000), culprit]))


# ---------------------------------------------------------------- row 41: the head of the line


@pytest.mark.parametrize("workers", ["one", "two"])
def test_finished_items_come_while_a_slow_one_runs(
    request: pytest.FixtureRequest, workers: str, tmp_path: Path
) -> None:
    """Row 41: they came with it."""
    mesh: stealmesh.Mesh = request.getfixturevalue(workers)
    results = mesh.map(held(tmp_path), [*range(8), "slow"], timeout=PATIENCE_SECONDS)
    assert [next(results) for _ in range(8)] == list(range(8))
    let_go(tmp_path)
    assert list(results) == ["slow"]


@pytest.mark.parametrize("place", [0, 3, 9])
def test_quick_submits_never_wait_for_a_slow_one_while_a_worker_is_idle(
    two: stealmesh.Mesh, tmp_path: Path, place: int
) -> None:
    """Row 41, for nine quick ones and one of 3 s, wherever it stands."""
    task = held(tmp_path)
    items: list[Any] = list(range(9))
    items.insert(place, "slow")
    futures = [two.submit(task, x) for x in items]
    slow = futures.pop(place)
    assert not wait(futures, PATIENCE_SECONDS / 2).not_done
    assert not slow.done()
    let_go(tmp_path)
    assert slow.result(PATIENCE_SECONDS) == "slow"


def test_what_is_behind_a_slow_item_is_done_by_others(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """Cheap as they have been, they were in its chunk; nobody can look up inside of it."""
    items: list[Any] = [*range(5_000), "slow", *range(5_000)]
    results = two.map(held(tmp_path), items, ordered=False, timeout=PATIENCE_SECONDS)
    others = [next(results) for _ in range(10_000)]
    assert Counter(others) == Counter([*range(5_000)] * 2)
    let_go(tmp_path)
    assert list(results) == ["slow"]


def test_finished_items_of_any_type_come_while_a_slow_one_runs(
    one: stealmesh.Mesh, tmp_path: Path
) -> None:
    """Also such as have to be pickled, and exceptions."""
    task = held(tmp_path)

    def make(x: Any) -> Any:
        if x == 298:
            raise LookupError(x)
        return {x} if isinstance(x, int) else task(x)

    futures = [one.submit(make, x) for x in [*range(300), "slow"]]
    assert not wait(futures[:300], PATIENCE_SECONDS / 2).not_done
    assert futures[299].result() == {299}
    assert isinstance(futures[298].exception(), LookupError)
    assert not futures[300].done()
    let_go(tmp_path)
    assert futures[300].result(PATIENCE_SECONDS) == "slow"


# ---------------------------------------------------------------- chunks of a fixed size


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("how", ["map", "options"])
def test_a_chunk_has_the_size_that_was_asked_for(two: stealmesh.Mesh, size: int, how: str) -> None:
    """It was accepted and ignored."""

    def together(items: Iterable[int]) -> list[int]:
        count = len(list(items))
        return [count] * count

    task: Callable[[Any], Any] = stealmesh.vectorized(together)
    if how == "map":
        got = list(two.map(task, range(700), chunksize=size))
    else:
        got = list(two.options(chunksize=size).map(task, range(700)))
    assert max(got) == size
    assert got.count(size) > 600


def test_no_item_shares_a_chunk_of_one(two: stealmesh.Mesh, tmp_path: Path) -> None:
    """A caller who knows that items are dear need not wait until it is found out."""
    items: list[Any] = [*range(50), "slow", *range(50)]
    results = two.map(held(tmp_path), items, chunksize=1, ordered=False, timeout=PATIENCE_SECONDS)
    assert "slow" not in [next(results) for _ in range(100)]
    let_go(tmp_path)
    assert list(results) == ["slow"]


def test_a_chunk_of_a_fixed_size_stays_with_its_worker(two: stealmesh.Mesh, tmp_path: Path) -> None:
    def who(x: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    assert len(set(two.map(who, range(20), chunksize=20))) == 1


@pytest.mark.parametrize("size", [0, -1])
def test_senseless_sizes_are_refused(two: stealmesh.Mesh, size: int) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        two.map(abs, [1], chunksize=size)
    with pytest.raises(ValueError, match="chunksize"):
        two.options(chunksize=size)
