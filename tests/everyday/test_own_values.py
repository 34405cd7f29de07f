"""What a partial, a bound method or a callable object holds: each call finds it as it was submitted."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest

import stealmesh
from stealmesh.tasks import Star, Vectorized
from stealmesh.workers.actor_body import ActorBody
from stealmesh.workers.own_values import OWN_OCTETS_MAX, holds_values


def push(values: Any, item: int) -> int:
    values.append(item)
    return len(values)


class Collector:
    """Its methods change it."""

    def __init__(self) -> None:
        self.values = [1]

    def push(self, item: int) -> int:
        return push(self.values, item)

    __call__ = push

    async def push_later(self, item: int) -> int:
        return push(self.values, item)

    @classmethod
    def made(cls, item: int) -> int:
        return cls().push(item)


CHANGED: list[Callable[[int], Any]] = [
    functools.partial(push, [1]),
    Collector().push,
    Collector(),
    Collector().push_later,
]


@pytest.mark.real
@pytest.mark.parametrize("function", CHANGED, ids=["partial", "method", "object", "coroutine"])
def test_each_call_finds_it_as_it_was(function: Callable[[int], Any]) -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        assert [mesh.submit(function, item).result(60) for item in range(4)] == [2] * 4
        together = [mesh.submit(function, item) for item in range(100)]
        assert [future.result(60) for future in together] == [2] * 100
        assert list(mesh.map(function, range(10), chunksize=1)) == [2] * 10


@pytest.mark.real
def test_a_ref_in_a_partial_is_as_it_was() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        ref = mesh.scatter([1])
        bound = functools.partial(push, ref)
        assert [mesh.submit(bound, item).result(60) for item in range(4)] == [2] * 4
        retried = mesh.options(retries=2).submit(functools.partial(fails_with_length, ref))
        with pytest.raises(KeyError, match="2"):
            retried.result(60)


def fails_with_length(values: Any) -> None:
    values.append(0)
    raise KeyError(len(values))


@pytest.mark.real
def test_what_is_large_stays_open() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        large = functools.partial(push, [1, bytes(2 * OWN_OCTETS_MAX)])
        assert [mesh.submit(large, item).result(60) for item in range(3)] == [3, 4, 5]


@functools.lru_cache
def remembers(item: int) -> int:
    return item


@pytest.mark.parametrize(
    "function",
    [*CHANGED, [].append, Star(Collector().push), functools.partial(Collector().push, 1)],
    ids=lambda function: type(function).__name__,
)
def test_it_may_be_changed(function: Any) -> None:
    assert holds_values(function)


@pytest.mark.parametrize(
    "function",
    [
        push,
        len,
        math.sin,
        operator.itemgetter,
        Collector,
        Collector.made,
        remembers,
        functools.partial(math.isclose, 1, rel_tol=0.5),
        Vectorized(push),
        ActorBody(Collector, (), {}, "collector"),
    ],
    ids=lambda function: type(function).__name__,
)
def test_nothing_in_it_changes(function: Any) -> None:
    assert not holds_values(function)
