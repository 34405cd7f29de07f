"""How many random worlds a second of processor time runs: decisions alone, nothing is sent.

It is the figure that the compiled core was made for, so with one there are two rows.
"""

from __future__ import annotations

import gc
from time import process_time

from stealmesh_bench.compare import Plan, beside, rows
from stealmesh_bench.peers import PURE, STEALMESH
from stealmesh_bench.record import Row
from stealmesh_bench.stand import check
from stealmesh_sim import random_worlds


def worlds_a_second(peer: object, *, worlds: int) -> float:
    """At a stand. Its mesh is idle meanwhile."""
    del peer
    gc.collect()
    gc.disable()  # as in `seeds`
    begun = process_time()
    try:
        for seed in range(1, worlds + 1):
            breach = random_worlds.run(seed).breach
            check(not breach, f"world {seed}: {breach}")
    finally:
        gc.enable()
    return worlds / (process_time() - begun)


def measure(plan: Plan) -> list[Row]:
    ours = tuple(peer for peer in plan.peers if peer in (STEALMESH, PURE))
    worlds = plan.size(60, 3)
    values = beside(
        Plan(plan.repeats, plan.quick, ours), worlds_a_second, warm_up={"worlds": 2}, worlds=worlds
    )
    return rows("random worlds", "worlds/s", values)
