"""A function that returns something of a wrong shape is told what is wanted, by its name."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytest

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 60


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


@pytest.mark.parametrize("mark", [stealmesh.vectorized, stealmesh.each])
def test_a_mark_is_for_functions(mark: Any) -> None:
    """It was "'int' object is not callable", from the task."""
    with pytest.raises(TypeError, match=rf"^stealmesh\.{mark.__name__}\(function\).* not a int"):
        mark(5)


def nothing(_: Any) -> None:
    return None


def one_number(_: Any) -> Any:
    return np.float64(1)


def too_few(items: Any) -> list[int]:
    return [1] * (len(items) - 1)


def fails_when_read(_: Any) -> Iterator[int]:
    yield 1
    raise TypeError("the user's own")


def list_in_a_task(function: Any) -> list[Any]:
    with stealmesh.here() as mesh:
        return list(mesh.map(stealmesh.vectorized(function), range(3)))


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        (nothing, TypeError, r"function nothing has to return as many .*\(3\); it .* a NoneType"),
        (one_number, TypeError, "function one_number has to return .* a float64"),
        (too_few, ValueError, "function too_few returned 2 results .* 3 items"),
        (fails_when_read, TypeError, "the user's own"),
    ],
)
def test_a_vectorized_function(
    mesh: stealmesh.Mesh, function: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        list(mesh.options(chunksize=3).map(stealmesh.vectorized(function), range(3)))
    with pytest.raises(kind, match=text):
        mesh.submit(list_in_a_task, function).result(PATIENCE)


class Pair(NamedTuple):
    value: int
    rest: list[int]


def right_pair(bag: list[int], limit: int) -> Pair:
    return Pair(sum(bag), [])


def wrong_pair(bag: list[int], limit: int) -> Any:
    return 1, 5


def no_pair(bag: list[int], limit: int) -> Any:
    return 5


def explored_in_a_task(visit: Any) -> Any:
    with stealmesh.here() as mesh:
        return mesh.explore(visit, [1], operator.add).result()


@pytest.mark.parametrize(
    ("visit", "text"),
    [
        (
            wrong_pair,
            r"wrong_pair\(bag, limit\) has to return a pair.*returned a tuple of int, int",
        ),
        (no_pair, r"no_pair\(bag, limit\) has to return a pair.*returned a int"),
    ],
)
def test_a_visit(mesh: stealmesh.Mesh, visit: Any, text: str) -> None:
    assert mesh.explore(right_pair, [1, 2], operator.add).result(PATIENCE) == 3
    with pytest.raises(TypeError, match=text):
        mesh.explore(visit, [1], operator.add).result(PATIENCE)
    with pytest.raises(TypeError, match=text):
        mesh.submit(explored_in_a_task, visit).result(PATIENCE)


def one_child(item: int) -> Any:
    return item, [item - 1] if item else []


def no_children_at_last(item: int) -> Any:
    return one_child(item) if item else 5


def child_that_is_no_list(item: int) -> Any:
    return item, item


def children_that_fail(item: int) -> Any:
    return item, fails_when_read(item)


def raises_behind(item: int) -> Any:
    return one_child(item) if item else refuses()


def refuses() -> NoReturn:
    raise TypeError("the user's own")


@pytest.mark.parametrize(
    ("expand", "text"),
    [
        (no_children_at_last, r"no_children_at_last\(item\) has to return a pair.*returned a int"),
        (
            child_that_is_no_list,
            r"child_that_is_no_list\(item\) has to .*returned a tuple of int, int",
        ),
        (children_that_fail, "^the user's own"),
        (raises_behind, "^the user's own"),
    ],
)
def test_an_each(mesh: stealmesh.Mesh, expand: Any, text: str) -> None:
    right = mesh.explore(stealmesh.each(one_child), [3], operator.add)
    assert right.result(PATIENCE) == 6
    with pytest.raises(TypeError, match=text):
        mesh.explore(stealmesh.each(expand), [3], operator.add).result(PATIENCE)
