"""No size hangs: what is too large is refused at the call, by name, with the limit and a way round."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.everyday import value_tasks as tasks

import stealmesh
from stealmesh.client import feeding
from stealmesh.client.feeding import packed_blocks
from stealmesh_engine.holding.reports import cut_by_size
from stealmesh_protocol import limits
from stealmesh_protocol.messages import JobKind

pytestmark = pytest.mark.real

PATIENCE = 300
MIB = 1 << 20
TOO_LARGE = 300 * MIB
REFUSED = r"300 MiB.*255 MiB is the most.*(scatter|file)"


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


def counter(mesh: stealmesh.Mesh, name: str) -> int:
    return int(mesh.status()["counters"].get(name, 0))


@pytest.fixture(autouse=True)
def _alive_and_silent(mesh: stealmesh.Mesh) -> Iterator[None]:
    """After each of these: it works, and nothing had to be left unsaid."""
    before = mesh._driver.core.counters.get("unsayable", 0)
    yield
    assert mesh.submit(tasks.same, 1).result(PATIENCE) == 1
    assert mesh._driver.core.counters.get("unsayable", 0) == before


def test_an_argument_that_is_too_large(mesh: stealmesh.Mesh) -> None:
    """Row 12: "cannot say Grant" thousands of times, and everything stopped. Now it is a value."""
    assert mesh.submit(tasks.size, bytes(TOO_LARGE)).result(PATIENCE) == TOO_LARGE
    assert mesh.submit(tasks.size, [[bytes(TOO_LARGE)], 2]).result(PATIENCE) == 2
    beside = mesh.submit(tasks.size, [mesh.submit(tasks.size, b"a"), [bytes(TOO_LARGE)]])
    with pytest.raises(stealmesh.CannotShip, match=f"arguments of .*size.*{REFUSED}"):
        beside.result(PATIENCE)


def test_many_large_arguments(mesh: stealmesh.Mesh) -> None:
    """Row 12: a block of tasks is cut by octets, not only by count."""
    futures = [mesh.submit(tasks.size, bytes(30 * MIB + i)) for i in range(20)]
    assert [future.result(PATIENCE) for future in futures] == [30 * MIB + i for i in range(20)]


def test_large_items_of_a_map(mesh: stealmesh.Mesh) -> None:
    """Row 12: one of 300 MiB costs what comes after it, and not what came before."""
    results = mesh.map(tasks.size, [b"a", b"bc", bytes(TOO_LARGE), b"d"])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(stealmesh.CannotShip, match=f"item 2 of .*{REFUSED}"):
        next(results)
    assert list(mesh.map(tasks.size, [bytes(90 * MIB), b"a", bytes(90 * MIB)])) == [
        90 * MIB, 1, 90 * MIB,
    ]  # fmt: skip


def with_a_partial(load: bytes) -> Callable[[int], int]:
    return functools.partial(_plus, load)


def with_a_closure(load: bytes) -> Callable[[int], int]:
    return lambda number: len(load) + number


def with_a_default(load: bytes) -> Callable[[int], int]:
    def function(number: int, held: bytes = load) -> int:
        return len(held) + number

    return function


def _plus(load: bytes, number: int) -> int:
    return len(load) + number


@pytest.mark.parametrize("make", [with_a_partial, with_a_closure, with_a_default])
def test_a_function_that_holds_too_much(
    mesh: stealmesh.Mesh, make: Callable[[bytes], Callable[[int], int]]
) -> None:
    """Row 12: "cannot say FnPut". Globals of 300 MB travel as these do."""
    function = make(bytes(TOO_LARGE))
    with pytest.raises(stealmesh.CannotShip, match=f"{REFUSED}|300 MiB.*load that inside"):
        mesh.submit(function, 1).result(PATIENCE)
    with pytest.raises(stealmesh.CannotShip, match="300 MiB"):
        list(mesh.map(function, range(3)))
    with pytest.raises(stealmesh.CannotShip, match="300 MiB"):
        mesh.map_reduce(function, range(3), max).result(PATIENCE)
    with pytest.raises(stealmesh.CannotShip, match="300 MiB"):
        mesh.launch(function, range(3))
    large = make(bytes(20 * MIB))
    assert list(mesh.map(large, range(3))) == [20 * MIB + i for i in range(3)]


def test_large_results(mesh: stealmesh.Mesh) -> None:
    """A message has its limit, and a call's result has none: it stays on its node until it is asked for."""
    assert len(mesh.submit(tasks.zeros, TOO_LARGE).result(PATIENCE)) == TOO_LARGE
    results = mesh.map(tasks.zeros, [1, 2, TOO_LARGE, 4])
    assert [next(results), next(results)] == [b"\0", b"\0\0"]
    with pytest.raises(stealmesh.CannotShip, match=r"item 2 of .*at most 255 MiB"):
        next(results)
    with pytest.raises(stealmesh.CannotShip, match="at most 255 MiB"):
        mesh.map_reduce(tasks.zeros, [TOO_LARGE], max).result(PATIENCE)


def test_many_large_results(mesh: stealmesh.Mesh) -> None:
    sizes = [35 * MIB + i for i in range(8)]
    assert [len(result) for result in mesh.map(tasks.zeros, sizes)] == sizes
    futures = [mesh.submit(tasks.zeros, octets) for octets in sizes]
    assert [len(future.result(PATIENCE)) for future in futures] == sizes


def test_a_bag_that_is_too_large(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(stealmesh.CannotShip, match="roots"):
        mesh.explore(_visit_sizes, [bytes(TOO_LARGE)], max).result(PATIENCE)
    with pytest.raises(stealmesh.CannotShip, match="bag together"):
        mesh.explore(_breed, [1], max).result(PATIENCE)
    assert mesh.explore(_visit_sizes, [bytes(MIB), b"a"], max).result(PATIENCE) == MIB


def _visit_sizes(bag: list[bytes], limit: int) -> tuple[int, list[bytes]]:
    return len(bag.pop()), bag


def _breed(bag: list[Any], limit: int) -> tuple[bytes, list[Any]]:
    import time

    if len(bag) == 1:
        return bytes(150 * MIB), [bytes(150 * MIB), 2]
    time.sleep(0.6)  # long enough to take stock of the bag
    return b"", bag


# ---------------------------------------------------------------- blocks of an input


def test_a_block_is_cut_where_items_grow() -> None:
    items = [b"x"] * 1000 + [bytes(MIB)] * 20
    blocks = list(packed_blocks(items, 100, "f"))
    assert [block.lo for block, _ in blocks] == [100, *(block.hi for block, _ in blocks[:-1])]
    assert blocks[-1][0].hi == 100 + len(items)
    assert max(len(blob) for _, blob in blocks) <= feeding.BLOCK_OCTETS_LARGE


def test_little_is_read_of_an_input_whose_items_have_grown() -> None:
    """A block of 32,768 items that were small may not become 32 GiB in memory."""

    def items() -> Iterator[bytes]:
        for _ in range(200_000):
            yield b"x"
        while True:
            yield bytes(MIB)

    source, fed, size = items(), 0, 1
    tracemalloc.start()
    while fed < 200_100:
        gathered, ended, error = feeding._gather(source, size)
        assert (ended, error) == (False, None)
        octets = sum(len(blob) for _, blob in packed_blocks(gathered, fed, "f"))
        fed += len(gathered)
        size = feeding._next_size(len(gathered), octets, 0.0)
    assert tracemalloc.get_traced_memory()[1] < 1100 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("sizes", "cuts"),
    [
        ([], []),
        ([5], [(0, 1)]),
        ([500], [(0, 1)]),
        ([5, 5, 5], [(0, 2), (2, 3)]),
        ([500, 1, 500], [(0, 1), (1, 2), (2, 3)]),
        ([1] * 25, [(0, 10), (10, 20), (20, 25)]),
    ],
)
def test_cutting_by_size(sizes: list[int], cuts: list[tuple[int, int]]) -> None:
    assert cut_by_size(sizes, 10) == cuts


# ---------------------------------------------------------------- what cannot be said all the same


@pytest.fixture
def narrow() -> Iterator[stealmesh.Mesh]:
    """A program whose messages may have 1 MiB, and whose checks at the call do not know it."""
    with pytest.MonkeyPatch.context() as patch, stealmesh.Mesh(workers=2) as mesh:
        assert mesh.submit(tasks.same, 1).result(PATIENCE) == 1
        patch.setattr(limits, "MESSAGE_OCTETS_MAX", MIB)
        yield mesh


def unsaid(mesh: stealmesh.Mesh) -> int:
    return int(mesh._driver.core.counters.get("unsayable", 0))


def test_what_cannot_be_said_fails_its_items_once(narrow: stealmesh.Mesh) -> None:
    """The path that repeated "cannot say Grant" for ever."""
    large, small = narrow.submit(tasks.size, [bytes(2 * MIB)]), narrow.submit(tasks.size, b"a")
    with pytest.raises(stealmesh.CannotShip, match="could not be said to a peer"):
        large.result(PATIENCE)
    assert small.result(PATIENCE) == 1
    with pytest.raises(stealmesh.CannotShip, match="could not be said"):
        list(narrow.map(tasks.size, [b"a", bytes(2 * MIB)]))
    with pytest.raises(stealmesh.CannotShip, match="could not be said"):
        narrow.map_reduce(tasks.size, [bytes(2 * MIB)], max).result(PATIENCE)
    with pytest.raises(stealmesh.CannotShip, match="could not be said"):
        narrow.explore(_visit_sizes, [bytes(2 * MIB)], max).result(PATIENCE)
    assert unsaid(narrow) == 4
    assert narrow.submit(tasks.size, b"abc").result(PATIENCE) == 3
    assert counter(narrow, "custody-gaps") == 0


@pytest.mark.parametrize("kind", [JobKind.SUBMIT, JobKind.MAP, JobKind.REDUCE, JobKind.EXPLORE])
def test_a_function_that_cannot_be_said_fails_its_job(
    narrow: stealmesh.Mesh, kind: JobKind
) -> None:
    """The same of "cannot say FnPut"; and again for tasks that are submitted later."""
    load = bytes(2 * MIB)

    def function(*args: Any) -> Any:
        return len(load)

    ways: dict[JobKind, Callable[[], object]] = {
        JobKind.SUBMIT: lambda: narrow.submit(function, 1).result(PATIENCE),
        JobKind.MAP: lambda: list(narrow.map(function, range(1000))),
        JobKind.REDUCE: lambda: narrow.map_reduce(function, range(1000), max).result(PATIENCE),
        JobKind.EXPLORE: lambda: narrow.explore(function, range(10), max).result(PATIENCE),
    }
    for _ in range(2):
        with pytest.raises(stealmesh.CannotShip, match="could not be said"):
            ways[kind]()
    assert 1 <= unsaid(narrow) <= 4
    assert narrow.submit(tasks.size, b"abc").result(PATIENCE) == 3


def test_a_launch_that_cannot_be_said_is_refused(narrow: stealmesh.Mesh) -> None:
    load = bytes(2 * MIB)
    with pytest.raises(stealmesh.JobRefused, match="could not be said"):
        narrow.launch(lambda _: len(load), range(3))
    with pytest.raises(stealmesh.JobRefused, match="could not be said"):
        narrow.launch(tasks.size, [b"a", bytes(2 * MIB)])
    # A client that hears of its home in between supplies it once more, before it knows.
    assert 2 <= unsaid(narrow) <= 3
    assert narrow.submit(tasks.size, b"abc").result(PATIENCE) == 3
