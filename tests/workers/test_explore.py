from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest

from stealmesh.workers import explore as exploring
from stealmesh.workers.explore import Step, VisitPace
from stealmesh_protocol import values


class Flags:
    """Wants shares as told, one answer a question."""

    def __init__(self, wanted: Iterable[bool] = ()) -> None:
        self._wanted = iter(wanted)
        self.cleared = 0

    def is_share_wanted(self) -> bool:
        return next(self._wanted, False)

    def shared(self) -> None:
        self.cleared += 1


def burst(bag: list[int], limit: int) -> tuple[int, list[int]]:
    """Every n breeds n-1 and n-2; all count one."""
    visited = 0
    while bag and visited < limit:
        n = bag.pop()
        visited += 1
        bag += range(max(0, n - 2), n)
    return visited, bag


def explore(visit: Any, bag: list[Any], flags: Flags, **options: Any) -> list[Step]:
    retries = options.pop("retries", 0)
    pace = options.pop("pace", VisitPace(limit=4))
    return list(exploring.explore(visit, operator.add, bag, retries, flags, pace, **options))


def total(steps: list[Step]) -> int:
    """What these steps gained, and what their spares come to."""
    gained: int = sum(values.unpack(s.partial[0], s.partial[1:]) for s in steps if s.partial)
    for step in steps:
        for items, blob in step.spares:
            spare = exploring.open_bag(blob)
            assert len(spare) == items
            gained += total(explore(burst, spare, Flags()))
    return gained


def steady() -> Callable[[], float]:
    """Every visit takes what it should, so that the pace stays as it is."""
    ticks = count()
    return lambda: next(ticks) * exploring.VISIT_SECONDS


WHOLE = burst([15], 10**9)[0]


def test_a_bag_alone_is_one_step() -> None:
    steps = explore(burst, [15], Flags(), clock=lambda: 0.0)
    assert len(steps) == 1
    assert (steps[-1].remaining, steps[-1].rest) == (0, b"")
    assert total(steps) == WHOLE


def test_shared_bags_count_every_item_once() -> None:
    flags = Flags([False, True, True, False] * 1000)
    steps = explore(burst, [15], flags, pace=VisitPace(limit=1), clock=steady())
    assert flags.cleared == sum(len(s.spares) for s in steps) > 10
    assert total(steps) == WHOLE


def test_a_step_tells_the_rest_exactly() -> None:
    steps = explore(burst, [15], Flags([True] * 3), pace=VisitPace(limit=1), clock=lambda: 0.0)
    first = steps[0]
    rest = exploring.open_bag(first.rest)
    assert len(rest) == first.remaining > 0
    assert total([first]) + total(explore(burst, rest, Flags())) == WHOLE


def test_stock_is_taken_every_half_second() -> None:
    clock = iter(x * 0.1 for x in range(10**6))
    steps = explore(burst, [15], Flags(), clock=lambda: next(clock))
    assert len(steps) > 5
    assert total(steps) == WHOLE
    assert all(step.remaining for step in steps[:-1])


def test_the_pace_finds_visits_of_five_milliseconds() -> None:
    pace = VisitPace()
    for _ in range(20):
        pace.learn(pace.limit * 1e-5)
    assert pace.limit * 1e-5 == pytest.approx(exploring.VISIT_SECONDS, rel=0.1)
    pace.learn(pace.limit * 1.0)
    assert pace.limit == 1
    pace.learn(0.0)
    assert pace.limit == exploring.LIMIT_GROWTH_MAX


def test_a_failing_visit_ends_the_bag_with_its_story() -> None:
    (step,) = explore(lambda bag, limit: 1 // 0, [1], Flags())
    assert (step.failed, step.remaining) == (1, 0)
    _, (failure,) = values.unpack_outcomes(step.partial[0], step.partial[1:])
    assert isinstance(values.rebuild(failure), ZeroDivisionError)


def test_a_visit_that_returns_nonsense_is_told_what_is_expected() -> None:
    (step,) = explore(lambda bag, limit: 5, [1], Flags())
    _, (failure,) = values.unpack_outcomes(step.partial[0], step.partial[1:])
    assert "has to return a pair" in failure.text


def test_a_visit_is_tried_again_with_the_whole_bag() -> None:
    failing = iter([True, True, False])

    def visit(bag: list[int], limit: int) -> tuple[int, list[int]]:
        gained = sum(bag)
        bag.clear()
        if next(failing):
            raise ValueError
        return gained, bag

    (step,) = explore(visit, [1, 2, 3], Flags(), retries=2)
    assert values.unpack(step.partial[0], step.partial[1:]) == 6


def test_a_bag_that_cannot_be_packed_fails() -> None:
    steps = explore(lambda bag, limit: (threading.Lock(), []), [1], Flags())
    _, (failure,) = values.unpack_outcomes(steps[-1].partial[0], steps[-1].partial[1:])
    assert failure.kind == values.UNSENDABLE
