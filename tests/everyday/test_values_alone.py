"""A value is opened alone: what refuses costs itself, by name, and neither neighbours nor the mesh."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday import value_tasks as tasks
from tests.everyday.programs import run
from tests.patience import until

import stealmesh
from stealmesh.client import results as outcomes
from stealmesh.client.results import ChunkResults
from stealmesh.futures import arrive, settle
from stealmesh.host.interrupts import WakefulCondition
from stealmesh_protocol import values

pytestmark = pytest.mark.real

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


def is_alive(mesh: stealmesh.Mesh) -> bool:
    return bool(mesh.submit(tasks.same, 41).result(PATIENCE) == 41)


REFUSING = [
    "two arguments", "setstate", "setstate exits", "setstate interrupts",
    "setstate ends generators", "setstate ends iterators", "inside of a list",
]  # fmt: skip


@pytest.mark.parametrize("kind", REFUSING)
def test_a_result_that_cannot_be_opened_fails_by_name(mesh: stealmesh.Mesh, kind: str) -> None:
    """Row 7: by `submit` the mesh was dead."""
    future = mesh.submit(tasks.returns, kind)
    with pytest.raises(stealmesh.CannotLoad, match=r"item \d+ of .*returns.* of type .*tasks\."):
        future.result(PATIENCE)
    assert isinstance(future.exception(), stealmesh.CannotLoad)
    assert is_alive(mesh)


def test_its_neighbours_in_the_chunk_are_there(mesh: stealmesh.Mesh) -> None:
    """Row 7: by `map` a whole chunk was lost; submits come in chunks as well."""
    futures = [mesh.submit(tasks.refuses_on_three, i % 8) for i in range(400)]
    for i, future in enumerate(futures):
        if i % 8 == 3:
            with pytest.raises(stealmesh.CannotLoad):
                future.result(PATIENCE)
        else:
            assert future.result(PATIENCE).number == i % 8
    results = mesh.map(tasks.refuses_on_three, range(8))
    assert [next(results).number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(stealmesh.CannotLoad, match=r"item 3 of .*refuses_on_three"):
        next(results)


KINDS = [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError]


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_may_raise_anything(mesh: stealmesh.Mesh, kind: type[BaseException]) -> None:
    """Row 8: as an argument, and as a result."""
    bad, good = mesh.submit(tasks.bare, tasks.NotEvenPacked(kind)), mesh.submit(tasks.bare, 1)
    with pytest.raises(stealmesh.CannotShip, match=f"NotEvenPacked.*{kind.__name__}"):
        bad.result(PATIENCE)
    assert good.result(PATIENCE) == 1
    with pytest.raises(stealmesh.CannotShip, match=f"NotEvenPacked.*{kind.__name__}"):
        mesh.submit(tasks.packs_badly, kind).result(PATIENCE)
    results = mesh.map(tasks.bare, [1, 2, 3, tasks.NotEvenPacked(kind), 5])
    assert [next(results) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(stealmesh.CannotShip, match="item 3 of "):
        next(results)
    assert is_alive(mesh)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_argument_that_cannot_be_opened_fails_alone(
    mesh: stealmesh.Mesh, kind: type[BaseException]
) -> None:
    """Row 16: seven innocent tasks of its block failed with it."""
    arguments = [tasks.Refuses(kind) if i == 3 else i for i in range(8)]
    futures = [mesh.submit(tasks.bare, argument) for argument in arguments]
    with pytest.raises(stealmesh.CannotLoad, match=r"item \d+ of .*bare.*Refuses.*not here"):
        futures[3].result(PATIENCE)
    assert [f.result(PATIENCE) for i, f in enumerate(futures) if i != 3] == [1] * 7
    results = mesh.map(tasks.bare, [*range(3), tasks.Refuses(kind), *range(3)])
    assert [next(results) for _ in range(3)] == [1] * 3
    with pytest.raises(stealmesh.CannotLoad, match="item 3 of "):
        next(results)


def test_a_vectorized_function_gets_those_that_can_be_opened(mesh: stealmesh.Mesh) -> None:
    sizes = mesh.map(
        stealmesh.vectorized(lambda items: [len(items)] * len(items)),
        [tasks.Remembers(0), tasks.Refuses(), tasks.Remembers(2)],
        ordered=False,
    )
    with pytest.raises(stealmesh.CannotLoad):
        list(sizes)
    assert is_alive(mesh)


def test_one_value_keeps_what_is_shared_in_it(mesh: stealmesh.Mesh) -> None:
    """Items are opened one by one; the parts of one item are not."""
    shared = tasks.Remembers(1)
    one, two = mesh.submit(tasks.same, [shared, shared]).result(PATIENCE)
    assert one is two
    around: list[object] = [shared]
    around.append(around)
    back = mesh.submit(tasks.same, around).result(PATIENCE)
    assert back[1] is back


def test_a_chunk_is_opened_once_for_all_its_results() -> None:
    codec, blob = values.pack_list([(i, "x") for i in range(500)])
    parcel = ChunkResults(codec, blob, 1000, 1500, "f")
    looks = 0
    look = outcomes._looked_at

    def counted(*packed: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*packed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "_looked_at", counted)
        for index in range(1000, 1500):
            with parcel.turn(index):
                assert parcel.outcome(index) == ((index - 1000, "x"), None)
                parcel.forget(index)
    assert looks == 1


def test_a_blob_that_is_none_fails_its_own_tasks() -> None:
    parcel = ChunkResults(values.OUTCOMES, b"no outcomes", 0, 1, "f")
    with parcel.turn(0):
        _, error = parcel.outcome(0)
    assert isinstance(error, stealmesh.CannotLoad)
    assert "item 0 of f" in str(error)


def test_results_that_are_missing_fail_their_own_tasks() -> None:
    """The first one to be asked for said so; those after it raised IndexError."""
    codec, blob = values.pack_list([1, 2])
    parcel = ChunkResults(codec, blob, 0, 4, "f")
    futures: list[stealmesh.Future[int]] = [stealmesh.Future() for _ in range(4)]
    for index, future in enumerate(futures):
        future.index = index
    condition = futures[0]._condition
    assert isinstance(condition, WakefulCondition)
    assert arrive(condition, lambda _: None, list(futures), parcel) == 0
    assert [future.result() for future in futures[:2]] == [1, 2]
    for index in (2, 3):
        error = futures[index].exception()
        assert isinstance(error, stealmesh.CannotLoad)
        assert f"item {index} of f" in str(error)


def test_a_value_of_the_program_is_named_though_its_class_travels(tmp_path: Path) -> None:
    """What travels with pieces of the program was said to be one of ours."""
    program = """
        import stealmesh
        class Refuses:
            def __setstate__(self, state):
                raise OSError("not here")
        def make(number):
            raise OSError("not here")
        def raised(call):
            try:
                call()
            except stealmesh.CannotLoad as error:
                return error
        class Made:
            def __reduce__(self):
                return make, (1,)
        with stealmesh.Mesh(workers=1) as mesh:
            for item, name in ((Refuses(), "Refuses"), (Made(), "make")):
                item.__dict__["some"] = "thing"
                for error in (
                    mesh.submit(id, item).exception(),
                    mesh.submit(id, [1, item]).exception(),
                    mesh.submit(lambda x: x, item).exception(),
                    raised(lambda: list(mesh.map(id, [item]))),
                    raised(lambda: list(mesh.map(id, [item, 1, 2]))),
                    mesh.map_reduce(id, [item], max).exception(),
                ):
                    assert f"a value of type {name} cannot be opened here" in str(error), error
    """
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


class CountsNotices(WakefulCondition):
    """Counts how often it wakes those that sleep on it."""

    notices = 0

    def notify_all(self) -> None:
        self.notices += 1
        super().notify_all()


def one_of_two(condition: WakefulCondition) -> tuple[stealmesh.Future[int], stealmesh.Future[int]]:
    both = stealmesh.Future[int](condition), stealmesh.Future[int](condition)
    for index, future in enumerate(both):
        future.index = index
    return both


def comes(condition: WakefulCondition, future: stealmesh.Future[int]) -> None:
    codec, blob = values.pack_list([7])
    parcel = ChunkResults(codec, blob, future.index, future.index + 1, "f")
    assert arrive(condition, lambda _: None, [future], parcel) == 0


def test_who_waits_for_one_result_sleeps_through_others() -> None:
    condition = CountsNotices()
    other, awaited = one_of_two(condition)
    found: list[int] = []
    waiter = threading.Thread(target=lambda: found.append(awaited.result()), daemon=True)
    waiter.start()
    until(lambda: awaited.is_awaited)
    comes(condition, other)
    assert settle(condition, lambda _: None, [(stealmesh.Future(condition), 1, None)]) == 0
    assert condition.notices == 0
    comes(condition, awaited)
    waiter.join(30.0)
    assert (condition.notices, found) == (1, [7])


def test_who_waits_for_any_result_hears_of_each() -> None:
    condition = CountsNotices()
    one, other = one_of_two(condition)
    over = threading.Event()

    def waits() -> None:
        with condition:
            while not (one.is_over() and other.is_over()):
                condition.wait_for_any(1000.0)
        over.set()

    waiter = threading.Thread(target=waits, daemon=True)
    waiter.start()
    until(lambda: condition.wants_all == 1)
    comes(condition, one)
    assert settle(condition, lambda _: None, [(other, 7, None)]) == 0
    assert over.wait(30.0)
    waiter.join(30.0)
    assert (condition.notices, condition.wants_all) == (2, 0)
