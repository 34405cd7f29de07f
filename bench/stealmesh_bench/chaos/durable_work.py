"""The durable calls and searches that are collected after their program was killed, and what each comes to.

Both programs read it: the one that submits (`durable_caller`) and the one that collects
(`real_durable_calls`). Decides how large they are. Refuses to know what dies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import stealmesh
from stealmesh import Mesh
from stealmesh_bench.chaos.ledger import answer, note, noted_sleep
from stealmesh_sim.work import PRIME, VirtualTree, mix

SUBMITS, EXPLORE, GRAPH = "submits", "explore", "durable-graph"
CALL_SECONDS = 0.25
NODE_SECONDS = 0.01
"""For one node of a tree that is searched."""
TREE_SECONDS = 12.0
"""About as long as a tree takes on one node."""
DEPTH_MAX, BRANCHING = 7, 4
NEAR = 16
"""A call of a graph is made of some of this number of calls before it."""


class NotedVisit:
    """Counts the nodes of a tree and adds up their names; notes each one."""

    def __init__(self, log: str, tree: VirtualTree, seconds: float) -> None:
        self.log = log
        self.tree = tree
        self.seconds = seconds

    def __call__(self, node: tuple[int, int]) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        note(self.log, node[0])
        time.sleep(self.seconds)
        return (1, node[0]), self.tree.children(node)


def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], (one[1] + other[1]) % PRIME


def tree(seed: int, number: int) -> VirtualTree:
    return VirtualTree(mix(seed, number), DEPTH_MAX, BRANCHING)


def inputs_of(seed: int, number: int) -> list[int]:
    """Which calls go into this one, of a graph without end."""
    luck = mix(seed, number)
    count, near = luck % 4, min(NEAR, number)
    return sorted({number - 1 - mix(luck, each) % near for each in range(count)}) if near else []


def made_of(log: str, item: int, *inputs: tuple[int, int]) -> tuple[int, int]:
    """A task: like `noted_sleep`, and its answer has those of its inputs in it."""
    _, own = noted_sleep(log, CALL_SECONDS, item)
    return item, _mixed(own, [value for _, value in inputs])


def _mixed(own: int, inputs: list[int]) -> int:
    for value in inputs:
        own = mix(own, value)
    return own


@cache
def _value(seed: int, number: int) -> int:
    return _mixed(answer(number), [_value(seed, each) for each in inputs_of(seed, number)])


def begun(
    mesh: Mesh, job: str, seed: int, number: int, log: str, before: Sequence[Any] = ()
) -> Any:
    """The future of this durable call or search; `before` has those of a graph that were begun."""
    view = mesh.options(durable=True)
    if job == SUBMITS:
        return view.submit(noted_sleep, log, CALL_SECONDS, number)
    if job == GRAPH:
        return view.submit(
            made_of, log, number, *(before[each] for each in inputs_of(seed, number))
        )
    found = tree(seed, number)
    visit = stealmesh.each(NotedVisit(log, found, NODE_SECONDS))
    return view.explore(visit, [found.root()], added)


def right(job: str, seed: int, number: int) -> tuple[int, int]:
    """What it comes to: the item and its answer, or number and sum of the nodes."""
    if job == SUBMITS:
        return number, answer(number)
    if job == GRAPH:
        return number, _value(seed, number)
    count, total = tree(seed, number).totals()
    return count, total


def size(job: str, seed: int, number: int) -> int:
    """For how many items it counts."""
    return right(job, seed, number)[0] if job == EXPLORE else 1
