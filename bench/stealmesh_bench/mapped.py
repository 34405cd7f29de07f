"""`map` of almost nothing over millions of ints, read one by one by the caller.

Two lengths, because a pool that holds all results looks well at the shorter one. The longer
one runs at fresh stands, so that the caller's peak memory is that of this run alone.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter

from stealmesh_bench.compare import Plan, alternate, beside, pick, rows
from stealmesh_bench.memory import peak_mib
from stealmesh_bench.peers import BenchPeer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import Stand, check
from stealmesh_bench.workloads.noop import increment


def summed(peer: BenchPeer, items: int) -> dict[str, float]:
    """Items/s, and the most memory that this process has held so far."""
    start = perf_counter()
    total = sum(peer.stream(increment, range(items)))
    seconds = perf_counter() - start
    check(total == items * (items + 1) // 2, "wrong sum")
    return {"items_per_second": items / seconds, "peak_mib": peak_mib()}


def _at_a_fresh_stand(peer: str, items: int) -> dict[str, float]:
    with Stand(peer) as stand:
        stand.run(summed, items=items // 100)
        figures: dict[str, float] = stand.run(summed, items=items)
        return figures


def measure(plan: Plan) -> list[Row]:
    short, long = plan.size(10**6, 20_000), plan.size(10**7, 50_000)
    target = Target("ratio", "least", 3.5)
    values = beside(plan, summed, warm_up={"items": short // 10}, items=short)
    fresh = alternate(
        {peer: partial(_at_a_fresh_stand, peer, long) for peer in plan.peers},
        plan.repeats,
    )
    return [
        *rows(f"map {short:.0e}", "items/s", pick(values, "items_per_second"), target),
        *rows(f"map {long:.0e}", "items/s", pick(fresh, "items_per_second"), target),
        *rows(
            f"map {long:.0e} caller", "MiB", pick(fresh, "peak_mib"), Target("value", "most", 80)
        ),
    ]
