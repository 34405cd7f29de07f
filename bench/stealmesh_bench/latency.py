"""One task at a time, there and back: what a caller waits who needs the answer now."""

from __future__ import annotations

from statistics import median, quantiles
from time import perf_counter

from stealmesh_bench.compare import Plan, beside, pick, rows
from stealmesh_bench.peers import STEALMESH, BenchPeer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import check
from stealmesh_bench.workloads.noop import increment

SERIES = 3


def round_trips(peer: BenchPeer, series: int, trips: int) -> dict[str, float]:
    """p50 and p99 in µs: the median over the series of each one's own."""
    each = [_one_series(peer, trips) for _ in range(series)]
    return {name: median(one[name] for one in each) for name in ("p50", "p99")}


def _one_series(peer: BenchPeer, trips: int) -> dict[str, float]:
    micros = []
    for i in range(trips):
        start = perf_counter()
        result = peer.call(increment, i)
        micros.append(1e6 * (perf_counter() - start))
        check(result == i + 1, "wrong result of increment")
    cuts = quantiles(micros, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def measure(plan: Plan) -> list[Row]:
    trips = plan.size(1_000, 50)
    values = beside(
        plan, round_trips, warm_up={"series": 1, "trips": 20}, series=SERIES, trips=trips
    )
    p50, p99 = pick(values, "p50"), pick(values, "p99")
    spread = {
        peer: [high / middle for high, middle in zip(p99[peer], p50[peer], strict=True)]
        for peer in values
    }
    return [
        *rows("latency p50", "µs", p50, Target("ratio", "most", 1.5)),
        *rows("latency p99", "µs", p99),
        *(
            Row("latency p99/p50", peer, "×", each,
                target=Target("value", "most", 3) if peer == STEALMESH else None)
            for peer, each in spread.items()
        ),
    ]  # fmt: skip
