"""Senseless arguments are errors at the call; whole numbers of every type are fine."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.everyday import value_tasks as tasks

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


BAD = [
    ("priority", 1.5, TypeError),
    ("priority", "high", TypeError),
    ("priority", None, TypeError),
    ("priority", 2**63, ValueError),
    ("priority", -(10**30), ValueError),
    ("priority", 10**5000, ValueError),
    ("retries", 1.5, TypeError),
    ("retries", "3", TypeError),
    ("retries", -1, ValueError),
    ("retries", 10**30, ValueError),
    ("timeout", float("inf"), ValueError),
    ("timeout", float("nan"), ValueError),
    ("timeout", 0, ValueError),
    ("timeout", -1.0, ValueError),
    ("timeout", 1e300, ValueError),
    ("timeout", 10**400, TypeError),
    ("timeout", "1", TypeError),
    ("timeout", [1], TypeError),
    ("name", 5, TypeError),
    ("name", b"bytes", TypeError),
    ("name", None, TypeError),
    ("name", "\ud800", ValueError),
    ("name", "a\0b", ValueError),
    ("name", "x" * 10_000_000, ValueError),
    ("durable", [], TypeError),
    ("durable", "x", TypeError),
    ("durable", 1, TypeError),
    ("progress", "x", TypeError),
    ("progress", None, TypeError),
    ("keep", "x", TypeError),
    ("speculate", [], TypeError),
    ("ship", 5, TypeError),
    ("ship", None, TypeError),
    ("ship", [5], TypeError),
    ("ship", ["not a name"], ValueError),
    ("no_ship", 5, TypeError),
    ("no_ship", b"bytes", TypeError),
    ("no_ship", [None], TypeError),
    ("no_ship", ["not a name"], ValueError),
]


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    BAD,
    ids=[f"{option}-{type(value).__name__}-{n}" for n, (option, value, _) in enumerate(BAD)],
)
def test_options_of_a_wrong_type_or_size(
    mesh: stealmesh.Mesh, option: str, value: Any, kind: type[Exception]
) -> None:
    """Row 14: several of these hung the mesh for ever."""
    with pytest.raises(kind, match=rf"^{option}\b"):
        mesh.options(**{option: value})


@pytest.mark.parametrize(
    ("sizes", "kind", "text"),
    [
        ({"buffersize": 2.0}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": "foo"}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": -(10**30)}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 10**30}, ValueError, "buffersize must be from 1"),
        ({"chunksize": 2.0}, TypeError, "chunksize must be an integer"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"chunksize": 10**30}, ValueError, "chunksize must be from 1"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": float("inf")}, ValueError, "timeout"),
    ],
)
def test_arguments_of_map(
    mesh: stealmesh.Mesh, sizes: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """Row 14: at the call, not at the first `next`; in the standard library's words."""
    with pytest.raises(kind, match=text):
        mesh.map(tasks.same, range(3), **sizes)


def test_whole_numbers_of_other_types(mesh: stealmesh.Mesh) -> None:
    """Row 14: numpy's ints work."""
    numbers: dict[str, Any] = {
        "priority": np.int64(3), "retries": np.uint8(1), "timeout": np.float32(60)
    }  # fmt: skip
    view = mesh.options(name="numbers", **numbers)
    assert view.submit(tasks.same, np.int32(4)).result(PATIENCE) == 4
    odd: dict[str, Any] = {"timeout": Decimal(60), "retries": True}
    assert mesh.options(**odd).submit(tasks.same, 1).result(PATIENCE)
    sizes: dict[str, Any] = {"buffersize": np.int16(2), "chunksize": np.int8(1)}
    found = view.map(tasks.same, range(10), **sizes)
    assert list(found) == list(range(10))


def test_a_name_that_people_use(mesh: stealmesh.Mesh) -> None:
    name = "Prüfung — 試験 №1"
    future = mesh.options(name=name).submit(tasks.same, 1)
    assert future.result(PATIENCE) == 1
    assert name in {job["name"] for job in mesh.status()["jobs"]}


@pytest.mark.parametrize("name", ["x" * 100_000, "\ud800", "a\0b"])
def test_a_function_of_any_name_runs(mesh: stealmesh.Mesh, name: str) -> None:
    def function(value: int) -> int:
        return value + 1

    function.__qualname__ = function.__name__ = name
    function.stealmesh_name = name  # type: ignore[attr-defined]
    assert mesh.submit(function, 1).result(PATIENCE) == 2
    assert list(mesh.map(function, range(2))) == [1, 2]


HUGE = [
    range(10**30, 10**30 + 4),
    range(-(10**30), -(10**30) + 4),
    range(0, 4 * 10**30, 10**30),
    range(10**30, 0, -(10**29)),
    range(2**63 - 2, 2**63 + 2),
    range(-(2**63) - 2, -(2**63) + 2),
]


@pytest.mark.parametrize("numbers", HUGE, ids=str)
def test_ranges_beyond_64_bits(mesh: stealmesh.Mesh, numbers: range) -> None:
    """Row 13: an endless loop of "cannot say"."""
    assert list(mesh.map(tasks.same, numbers)) == list(numbers)
    assert mesh.map_reduce(tasks.same, numbers, max).result(PATIENCE) == max(numbers)
    assert list(mesh.options(durable=True).map(tasks.same, numbers)) == list(numbers)


def test_a_range_with_more_items_than_can_be_counted(mesh: stealmesh.Mesh) -> None:
    """Row 13: lazily it works like any endless input; as a whole it is an error at the call."""
    results = mesh.map(tasks.same, range(2**70), buffersize=10)
    assert [next(results) for _ in range(20)] == list(range(20))
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="more items than can be counted"):
        mesh.map_reduce(tasks.same, range(2**70), max)
    with pytest.raises(ValueError, match="more items than can be counted"):
        mesh.launch(tasks.same, range(2**70))


def test_large_numbers_as_arguments_and_results(mesh: stealmesh.Mesh) -> None:
    for number in (2**64, -(2**80), 10**1000, 1 << 8_000_000):
        assert mesh.submit(tasks.same, number).result(PATIENCE) == number
    assert list(mesh.map(tasks.same, [2**64, 1])) == [2**64, 1]


class NoSize:
    """Of those whose `__len__` says no: streams, lazy tables."""

    def __len__(self) -> int:
        raise TypeError("nobody knows")

    def __iter__(self) -> Iterator[int]:
        return iter([3, -4, 5])


def test_inputs_that_do_not_tell_their_size(mesh: stealmesh.Mesh) -> None:
    """As the standard library, which asks nobody for it."""
    endless = mesh.map(abs, range(10**30))
    assert [next(endless) for _ in range(3)] == [0, 1, 2]
    assert list(mesh.map(pow, range(3), range(10**30))) == [1, 1, 4]
    assert list(mesh.map(abs, NoSize())) == [3, 4, 5]
    assert list(mesh.map(divmod, NoSize(), NoSize())) == [(1, 0)] * 3
