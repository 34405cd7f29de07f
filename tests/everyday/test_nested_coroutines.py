"""Tasks inside tasks that are `async def`: they run to their end, in whatever way the parent asks."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import stealmesh

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


async def later(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def fails(item: int) -> int:
    raise KeyError(item)


async def deep(levels: int) -> int:
    if not levels:
        return 0
    below: int = await stealmesh.here().submit(deep, levels - 1)  # type: ignore[arg-type]
    return 1 + below


def submits() -> Any:
    return stealmesh.here().submit(later, 1).result()


def maps() -> Any:
    return list(stealmesh.here().map(later, [1, 2]))


def reduces() -> Any:
    return stealmesh.here().map_reduce(later, [1, 2], operator.add).result()


async def waits() -> Any:
    return await stealmesh.here().submit(later, 1)


async def blocks() -> Any:
    return stealmesh.here().submit(later, 1).result()


@pytest.mark.parametrize(
    ("task", "right"), [(submits, 1), (maps, [1, 2]), (reduces, 3), (waits, 1), (blocks, 1)]
)
def test_a_child_that_is_async_runs(
    mesh: stealmesh.Mesh, task: Callable[[], Any], right: Any
) -> None:
    result = mesh.submit(task).result(60)
    assert result == right


def test_children_of_children(mesh: stealmesh.Mesh) -> None:
    assert mesh.submit(deep, 5).result(60) == 5


def test_what_it_raises_is_raised(mesh: stealmesh.Mesh) -> None:
    def asks() -> Any:
        return stealmesh.here().submit(fails, 7).result()

    with pytest.raises(KeyError, match="7"):
        mesh.submit(asks).result(60)
