"""What a mesh is given to do while it is broken: our own workloads, or a job of the user's own.

Runs in the submitting program. A workload ends by itself once it may; it tells the account and the
goodput what arrived, and raises Stuck when nothing more is to be expected.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from stealmesh import Mesh
from stealmesh.examples import uts
from stealmesh_bench.chaos import actor_calls, call_graphs, durable_work, task_trees
from stealmesh_bench.chaos.ledger import noted_sleep
from stealmesh_bench.chaos.scenario import CannotPlay
from stealmesh_bench.chaos.workload import Stuck, Workload, WorkloadRun

ITEM_SECONDS = 0.01
TASKS = 20_000
AHEAD_SECONDS = 0.5
"""How far a stream is ahead of its results: enough to keep every worker busy."""
TREE = "T1"
JOBS = {
    "stream": "tasks of 10 ms for as long as the scenario lasts",
    "tasks": "20,000 tasks of 10 ms",
    "uts-t1": "the tree T1 of 4,130,071 nodes, searched again and again",
    "graph": "random graphs of calls that need each other's results; some results stay on the nodes",
    "nested": "trees of tasks that submit tasks",
    "actors": "calls of actors, with restarts and without",
}
DURABLE_ALONE = {
    durable_work.SUBMITS: "durable calls of 0.25 s, for full-stop and durable-submitter alone",
    durable_work.EXPLORE: "durable searches, for full-stop and durable-submitter alone",
    durable_work.GRAPH: "durable calls of 0.25 s that need each other's results, for the same two alone",
}
NAMED = JOBS | DURABLE_ALONE
VIRTUAL_JOBS = ("graph", "nested", "actors")
"""Those that can be played in virtual time by name; there the default is a `map`."""


def find(job: str) -> Workload:
    """The workload of this name, or a job of the user's own, `module:function`."""
    if job in JOBS:
        return Workload(job, _PERFORMED[job])
    if job in DURABLE_ALONE:
        return Workload(job, _of_another_program)
    function = _load(job)

    def reference(mesh: Mesh) -> None:
        """The answer of a run that nothing disturbs, unless the function says what it is."""
        if not hasattr(function, "expected"):
            function.expected = function(mesh)

    return Workload(job, lambda run: _again_and_again(run, function, function.expected), reference)


def _stream(run: WorkloadRun) -> None:
    """A stream of tasks of 10 ms, as many as the mesh can run in `seconds`."""
    account = run.account
    assert account.ledger is not None
    capacity = run.nodes / ITEM_SECONDS
    items = account.ledger.stream(
        lambda: account.now() < run.seconds + account.lag_seconds, 2 * capacity
    )
    ahead = int(capacity * AHEAD_SECONDS)
    _collect(run, items, ahead, 2 * run.seconds + run.patience_seconds)


def _tasks(run: WorkloadRun) -> None:
    assert run.account.ledger is not None
    run.account.ledger.accept(TASKS)
    until = TASKS * ITEM_SECONDS + run.patience_seconds
    _collect(run, range(TASKS), None, until)


def _collect(run: WorkloadRun, items: Iterable[int], ahead: int | None, until: float) -> None:
    ledger, account = run.account.ledger, run.account
    assert ledger is not None
    task = partial(noted_sleep, run.log, ITEM_SECONDS)
    results = run.mesh.map(task, items, ordered=False, buffersize=ahead, timeout=until)
    try:
        for item, value in results:
            ledger.arrived(item, value)
            account.goodput.add(account.now())
    except TimeoutError:
        raise Stuck(f"{ledger.accepted - ledger.lost} of {ledger.accepted} items came") from None


_on_visited: Callable[[int], None] | None = None
"""Set in the program that searches, and nowhere else: told how many nodes each partial counts."""


def _counting(a: uts.Partial, b: uts.Partial) -> uts.Partial:
    """Combines counts, and lets the program see them as they come in."""
    if _on_visited is not None:
        _on_visited(b[0])
    return uts.combine_counts(a, b)


def _search(run: WorkloadRun) -> None:
    """The tree T1, again and again; every count must be the published one.

    Two searches at a time, half a tree apart: while one runs out of work, the other is in full swing.
    """
    global _on_visited
    tree, account = uts.TREES[TREE], run.account
    expected = tree.expected
    assert expected is not None
    account.ledger = None
    half = threading.Event()

    def visited(nodes: int) -> None:  # told by the one thread that combines contributions
        account.goodput.add(account.now(), nodes)
        if account.goodput.total * 2 >= expected.nodes:
            half.set()

    def begin() -> Future[Any]:
        return run.mesh.explore(uts.visitor(tree), [uts.root(tree)], _counting)

    _on_visited = visited
    try:
        searches = deque([begin()])
        half.wait(run.seconds + run.patience_seconds)
        while searches:
            if account.now() < run.seconds + account.lag_seconds:
                searches.append(begin())
            _count(run, searches.popleft(), expected)
    finally:
        _on_visited = None


def _count(run: WorkloadRun, search: Future[Any], expected: uts.Counts) -> None:
    """Compare what a search comes to with what there is."""
    account = run.account
    try:
        counts = uts.Counts(*search.result(run.seconds + run.patience_seconds))
    except TimeoutError:
        raise Stuck(f"search {account.runs + 1} of {TREE}") from None
    account.runs += 1
    account.accepted += expected.nodes
    account.lost += max(0, expected.nodes - counts.nodes)
    account.doubled += max(0, counts.nodes - expected.nodes)
    account.wrong += counts != expected


def _of_another_program(run: WorkloadRun) -> None:
    raise AssertionError("another program submits this")


_PERFORMED = {
    "stream": _stream,
    "tasks": _tasks,
    "uts-t1": _search,
    "graph": call_graphs.perform,
    "nested": task_trees.perform,
    "actors": actor_calls.perform,
}


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CannotPlay(f"--job {path}: {error}") from None
    if not callable(function):
        raise CannotPlay(f"--job {path}: {name} cannot be called")
    return function


def _again_and_again(run: WorkloadRun, function: Callable[[Mesh], Any], expected: Any) -> None:
    """A whole job as often as the time allows, at least once; every answer is compared."""
    account = run.account
    account.ledger = None
    while account.runs == 0 or account.now() < run.seconds:
        said: list[Any] = []
        raised: list[BaseException] = []

        def once(said: list[Any] = said, raised: list[BaseException] = raised) -> None:
            try:
                said.append(function(run.mesh))
            except BaseException as error:  # noqa: BLE001 - it is told as a breach
                raised.append(error)

        runner = threading.Thread(target=once, name="chaos-job", daemon=True)
        runner.start()
        runner.join(run.seconds + run.patience_seconds)
        if runner.is_alive():
            raise Stuck(f"run {account.runs + 1} of the job")
        account.runs += 1
        account.goodput.add(account.now())
        if raised:
            account.failed.append(f"the job raised {raised[0]!r}")
            return
        account.wrong += said[0] != expected
