"""Tasks submitted one by one: what a task costs when it does nothing.

The no-op is `increment`: it has an answer, so that a task that was lost, doubled or mixed up
with its neighbour is seen.
"""

from __future__ import annotations

import gc
from time import perf_counter

from stealmesh_bench.compare import Plan, beside, rows
from stealmesh_bench.peers import BenchPeer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import check
from stealmesh_bench.workloads.noop import increment


def tasks_per_second(peer: BenchPeer, tasks: int) -> float:
    gc.collect()
    start = perf_counter()
    results = peer.gather(increment, range(tasks))
    seconds = perf_counter() - start
    check(results == list(range(1, tasks + 1)), "wrong results of increment")
    return tasks / seconds


def measure(plan: Plan) -> list[Row]:
    tasks = plan.size(10_000, 200)
    values = beside(plan, tasks_per_second, warm_up={"tasks": tasks // 10}, tasks=tasks)
    return rows("single", "tasks/s", values, Target("ratio", "least", 10))
