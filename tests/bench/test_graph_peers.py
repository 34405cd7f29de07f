"""Graphs and pipelines beside peers: what is run, and how it is judged. No dask and no Ray here: peers of paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from stealmesh_bench import graph_peers, graph_shapes, pipeline_peers
from stealmesh_bench.graph_shapes import TaskGraph
from stealmesh_bench.pipeline import BLOCK
from stealmesh_bench.stand import WrongResult


def one_by_one(shape: TaskGraph) -> list[Any]:
    done: list[Any] = []
    for call in shape.calls:
        done.append(call.function(*call.constants, *[done[at] for at in call.inputs]))
    return [done[at] for at in shape.wanted]


@pytest.mark.parametrize("name", graph_peers.SHAPES)
def test_each_shape_says_what_comes_of_it(name: str) -> None:
    shape = graph_peers.SHAPES[name](16)
    assert one_by_one(shape) == shape.results


def test_a_cell_of_the_stencil_needs_its_neighbours() -> None:
    shape = graph_shapes.stencil(4, 3, 0.0)
    assert one_by_one(shape) == shape.results == [0.0] * 4
    assert [call.inputs for call in shape.calls[8:]] == [(4, 5), (4, 5, 6), (5, 6, 7), (6, 7)]


class Paper:
    """Needs `overhead` seconds of one of two processors for each call, beside the call's own."""

    def __init__(self, overhead: float) -> None:
        self.overhead = overhead
        self.clock = 0.0

    def run(self, shape: TaskGraph) -> list[Any]:
        for call in shape.calls:
            self.clock += (call.constants[0] + self.overhead) / 2
        return shape.results

    def close(self) -> None:
        pass


@pytest.mark.parametrize("nodes", [2, 8])
def test_efficiency_is_held_against_the_processors_that_there_are(
    monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    """With two processors the shortest useful cell costs as much as what is around it, however many nodes there are."""
    peer = Paper(overhead=0.0007)
    monkeypatch.setattr(graph_peers, "perf_counter", lambda: peer.clock)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setitem(graph_peers._OPEN, "paper", peer)
    found, _ = graph_peers.metg(None, "paper", nodes, 10)
    assert found == pytest.approx(0.0007, rel=0.05)


def test_a_wrong_result_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Paper(0.0)
    peer.run = lambda shape: [0]  # type: ignore[method-assign]
    monkeypatch.setitem(graph_peers._OPEN, "paper", peer)
    with pytest.raises(WrongResult):
        graph_peers.tasks_a_second(None, "paper", "chain", 5)


class PaperLines:
    """Runs each call at once. Loses the score of the last line."""

    def __init__(self, *, loses: bool) -> None:
        self.loses = loses
        self.kills = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return [function(*[each[0] if isinstance(each, list) else each for each in arguments])]

    def done(self, handles: list[Any]) -> list[Any]:
        return handles[:1]

    def result(self, handle: Any) -> Any:
        if self.loses and self.kills == 2:
            raise KeyError("lost")
        return handle[0]

    def kill_one(self, killed: set[int]) -> set[int]:
        self.kills += 1
        return {-self.kills}

    def told(self) -> tuple[int | None, int | None]:
        return 3, None


@pytest.mark.parametrize(("loses", "wrong"), [(False, 0), (True, 4)])
def test_a_score_that_never_comes_is_wrong(loses: bool, wrong: int) -> None:
    """The second node is killed when half of eight scores are there."""
    peer = PaperLines(loses=loses)
    outcome = pipeline_peers.run_peer(peer, 8, BLOCK, 2, 60.0, warm=False)
    assert (outcome.killed, peer.kills) == (2, 2)
    assert (outcome.wrong, outcome.runs, outcome.again) == (wrong, 32, 0)
    assert (outcome.made_again, outcome.spilled_mib) == (3, None)
