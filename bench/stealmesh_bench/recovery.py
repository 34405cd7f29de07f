"""Two of four nodes are killed at 30 % progress: when is everything done, and what ran twice?

400 tasks of 50 ms, submitted one by one. Without replacements the two nodes that are left
need 8.5 s at best. Every execution leaves a line in a file, so that a task that ran twice is
counted even if only one of its results was ever seen.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import as_completed
from random import Random
from time import perf_counter

from stealmesh_bench.compare import Plan
from stealmesh_bench.peers import STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import Stand, check
from stealmesh_bench.victims import four_nodes, kill
from stealmesh_bench.workloads.logged import executions, logged_sleep

VICTIMS = 2
PROGRESS = 0.3
RUN_TWICE_MAX = 5
"""Four, and one chunk: tasks of 50 ms are chunks of their own."""


def half_killed(
    peer: None, respawn: bool, tasks: int, task_seconds: float, seed: int
) -> dict[str, float]:
    """Seconds until the last result, and how many executions were one too many."""
    del peer
    with tempfile.TemporaryDirectory() as directory, four_nodes(respawn) as (mesh, pids):
        log = os.path.join(directory, "executions")
        # The function travels and its cost is learned before the clock runs.
        for future in [
            mesh.submit(logged_sleep, os.devnull, i, task_seconds) for i in range(len(pids))
        ]:
            future.result()
        start = perf_counter()
        futures = [mesh.submit(logged_sleep, log, i, task_seconds) for i in range(tasks)]
        for done, _ in enumerate(as_completed(futures), 1):
            if done == round(PROGRESS * tasks):
                for victim in Random(seed).sample(pids, VICTIMS):
                    kill(victim)
        seconds = perf_counter() - start
        results = [future.result() for future in futures]
        check(results == list(range(tasks)), "wrong results")
        ran = executions(log)
        check(set(ran) == set(range(tasks)), "results of tasks that never ran")
        return {"seconds": seconds, "run_twice": ran.total() - tasks}


def _once(plan: Plan, respawn: bool, number: int) -> dict[str, float]:
    with Stand() as stand:
        figures: dict[str, float] = stand.run(
            half_killed,
            respawn=respawn,
            tasks=plan.size(400, 40),
            task_seconds=0.05,
            seed=plan.seed + number,
        )
        return figures


def measure(plan: Plan) -> list[Row]:
    made = []
    for name, respawn in (("replaced", True), ("not replaced", False)):
        said = [_once(plan, respawn, number) for number in range(plan.repeats)]
        made += [
            Row(f"recovery, {name}", STEALMESH, "s", [run["seconds"] for run in said],
                target=Target("value", "most", 9.5), more={"seed": plan.seed}),
            Row(f"recovery, {name}: run twice", STEALMESH, "tasks",
                [run["run_twice"] for run in said], summary="max",
                target=Target("value", "most", RUN_TWICE_MAX)),
        ]  # fmt: skip
    return made
