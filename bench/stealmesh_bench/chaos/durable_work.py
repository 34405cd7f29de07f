"""The durable calls and searches that are collected after their program was killed, and what each comes to.

Both programs read it: the one that submits (`durable_caller`) and the one that collects
(`real_durable_calls`). Decides how large they are. Refuses to know what dies.
"""

from __future__ import annotations

import time
from typing import Any

import stealmesh
from stealmesh import Mesh
from stealmesh_bench.chaos.ledger import answer, note, noted_sleep
from stealmesh_sim.work import PRIME, VirtualTree, mix

SUBMITS, EXPLORE = "submits", "explore"
CALL_SECONDS = 0.25
NODE_SECONDS = 0.01
"""For one node of a tree that is searched."""
TREE_SECONDS = 12.0
"""About as long as a tree takes on one node."""
DEPTH_MAX, BRANCHING = 7, 4


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


def begun(mesh: Mesh, job: str, seed: int, number: int, log: str) -> Any:
    """The future of this durable call or search."""
    view = mesh.options(durable=True)
    if job == SUBMITS:
        return view.submit(noted_sleep, log, CALL_SECONDS, number)
    found = tree(seed, number)
    visit = stealmesh.each(NotedVisit(log, found, NODE_SECONDS))
    return view.explore(visit, [found.root()], added)


def right(job: str, seed: int, number: int) -> tuple[int, int]:
    """What it comes to: the item and its answer, or number and sum of the nodes."""
    if job == SUBMITS:
        return number, answer(number)
    count, total = tree(seed, number).totals()
    return count, total


def size(job: str, seed: int, number: int) -> int:
    """For how many items it counts."""
    return 1 if job == SUBMITS else right(job, seed, number)[0]
