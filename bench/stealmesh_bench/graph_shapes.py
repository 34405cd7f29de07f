"""Graphs of calls, the same for each peer: a chain, a tree, a fan and the stencil of Task Bench.

A graph is a list of calls, each after its inputs, and says what the results that are wanted have to be. Refuses to
know who runs it (graphs.py, graph_peers.py). The stencil is that of Slaughter et al., SC20: each of 2 × workers
columns needs its neighbours of the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import Any


def grown(value: int, *more: int) -> int:
    return value + 1


def added(*values: int) -> int:
    return sum(values)


def cell(seconds: float, *inputs: float) -> float:
    """Spin until this thread has had the processor for so long: time in which others had it is no work of ours."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass
    return seconds


@dataclass(frozen=True, slots=True)
class GraphTask:
    """One task: its constants, then the results of these calls of the graph, by their numbers."""

    function: Callable[..., Any]
    constants: tuple[Any, ...] = ()
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskGraph:
    calls: list[GraphTask]
    wanted: list[int]
    """The calls whose results the program asks for."""
    results: list[Any]
    """What these have to be."""


def chain(length: int) -> TaskGraph:
    calls = [GraphTask(grown, (0,))] + [GraphTask(grown, (), (at,)) for at in range(length - 1)]
    return TaskGraph(calls, [length - 1], [length])


def tree(leaves: int) -> TaskGraph:
    calls = [GraphTask(grown, (at,)) for at in range(leaves)]
    level = list(range(leaves))
    while len(level) > 1:
        first = len(calls)
        calls += [GraphTask(added, (), tuple(level[at : at + 2])) for at in range(0, len(level), 2)]
        level = list(range(first, len(calls)))
    return TaskGraph(calls, level, [leaves * (leaves + 1) // 2])


def fan(width: int) -> TaskGraph:
    """1 → width → 1."""
    calls = [GraphTask(grown, (0,)), *[GraphTask(grown, (), (0,))] * width]
    calls.append(GraphTask(added, (), tuple(range(1, width + 1))))
    return TaskGraph(calls, [width + 1], [2 * width])


def stencil(width: int, steps: int, seconds: float) -> TaskGraph:
    """All results are wanted: all columns have to come to the end."""
    calls = [GraphTask(cell, (seconds,)) for _ in range(width)]
    for step in range(1, steps):
        before = (step - 1) * width
        for at in range(width):
            near = range(before + max(0, at - 1), before + min(width, at + 2))
            calls.append(GraphTask(cell, (seconds,), tuple(near)))
    last = list(range(len(calls) - width, len(calls)))
    return TaskGraph(calls, last, [seconds] * width)
