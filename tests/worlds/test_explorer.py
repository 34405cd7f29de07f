"""The search itself, on worlds small enough to count by hand."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .explorer import State, TooLarge, Violation, explore


class Graph:
    """A world given by its edges: node → [(node, honest)]."""

    def __init__(self, edges: dict[int, list[tuple[int, bool]]], ends: set[int]) -> None:
        self.edges = edges
        self.ends = ends

    def first(self) -> State:
        return (0,)

    def steps(self, state: State) -> Iterable[tuple[State, bool, str]]:
        for to, honest in self.edges.get(state[0], []):
            if to < 0:
                raise Violation("the edge of the world")
            yield (to,), honest, f"{state[0]} to {to}"

    def is_end(self, state: State) -> bool:
        return state[0] in self.ends

    def is_hopeless(self, state: State) -> bool:
        return state[0] == 99


def test_a_diamond_has_four_states_and_one_end() -> None:
    found = explore(Graph({0: [(1, True), (2, True)], 1: [(3, True)], 2: [(3, True)]}, {3}))
    assert (found.states, found.transitions, found.ends, found.stuck) == (4, 4, 1, 0)


def test_a_dead_end_is_stuck_and_the_way_there_is_told() -> None:
    found = explore(Graph({0: [(1, True), (2, True)], 2: [(3, True), (4, True)]}, {1, 4}))
    assert found.stuck == 1
    assert found.stuck_example == ["0 to 2", "2 to 3"]


def test_a_way_that_needs_a_fault_is_no_way() -> None:
    assert explore(Graph({0: [(1, False)]}, {1})).stuck == 1
    assert explore(Graph({0: [(1, True)]}, {1})).stuck == 0


def test_a_circle_without_a_way_out_is_stuck_with_one_it_is_not() -> None:
    circle = {0: [(1, True)], 1: [(2, True)], 2: [(0, True)]}
    assert explore(Graph(circle, set())).stuck == 3
    assert explore(Graph({**circle, 1: [(2, True), (3, True)]}, {3})).stuck == 0


def test_nothing_is_asked_of_a_hopeless_state() -> None:
    found = explore(Graph({0: [(1, True), (99, False)]}, {1}))
    assert (found.stuck, found.hopeless) == (0, 1)


def test_a_violation_tells_the_shortest_way() -> None:
    edges = {
        0: [(1, True), (2, True)],
        1: [(3, True)],
        3: [(4, True)],
        2: [(4, True)],
        4: [(-1, True)],
    }
    with pytest.raises(Violation) as caught:
        explore(Graph(edges, {5}))
    assert caught.value.trace == ["0 to 2", "2 to 4"]


def test_a_world_may_be_too_large() -> None:
    with pytest.raises(TooLarge):
        explore(Graph({n: [(n + 1, True)] for n in range(50)}, {50}), states_max=20)
