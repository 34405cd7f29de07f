"""`--job nested`: trees of tasks that submit tasks, compared with a search of the same trees.

A task counts itself and what its children came to, so a child that is lost or counted twice shows. Decides what
the trees are. Refuses to know where a task runs and what is broken meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import stealmesh
from stealmesh_bench.chaos.ledger import note
from stealmesh_bench.chaos.workload import WorkloadRun
from stealmesh_sim.work import PRIME, VirtualTree, mix

TASK_SECONDS = 0.005
DEPTH_MAX = 5
BRANCHING = 3
TREES_PER_NODE = 3

Task = tuple[int, int]
"""A node of a tree: its name, and how deep it is."""


def branch(log: str, seconds: float, tree: VirtualTree, task: Task) -> tuple[int, int]:
    """A task: number and sum of itself and all below. Every other one asks for its children with `map`."""
    note(log, task[0])
    time.sleep(seconds)
    count, total = 1, task[0]
    children = tree.children(task)
    if children:
        mesh = stealmesh.here()
        found: Any
        if task[0] % 2:
            more = [log] * len(children), [seconds] * len(children), [tree] * len(children)
            found = mesh.map(branch, *more, children)
        else:
            futures = [mesh.submit(branch, log, seconds, tree, child) for child in children]
            found = (future.result() for future in futures)
        for below, names in found:
            count, total = count + below, total + names
    return count, total % PRIME


def perform(run: WorkloadRun) -> None:
    """Trees for as long as the scenario lasts, several side by side."""
    account = run.account
    account.ledger, account.even = None, False
    waiting: deque[tuple[VirtualTree, Any]] = deque()
    while True:
        while run.lasting and len(waiting) < TREES_PER_NODE * run.nodes:
            account.runs += 1
            tree = VirtualTree(mix(run.seed, account.runs), DEPTH_MAX, BRANCHING)
            root = tree.root()
            waiting.append((tree, run.mesh.submit(branch, run.log, TASK_SECONDS, tree, root)))
        if not waiting:
            return
        _compare(run, *waiting.popleft())


def _compare(run: WorkloadRun, tree: VirtualTree, future: Any) -> None:
    """What a tree of tasks came to, beside what there is. Raises Stuck."""
    account, right = run.account, tree.totals()
    account.accepted += right[0]
    error = run.error_of(future, f"a tree of {right[0]} tasks, of {account.runs}")
    if error is not None:
        account.lost += right[0]
        account.fails(f"a tree of tasks raised {error!r}")
        return
    found = future.result()
    account.lost += max(0, right[0] - found[0])
    account.doubled += max(0, found[0] - right[0])
    account.wrong += tuple(found) != right
    account.goodput.add(account.now(), right[0])
