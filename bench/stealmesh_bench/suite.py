"""All measurements by name, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable

from stealmesh_bench import (
    billion,
    exact,
    latency,
    mapped,
    metg,
    recovery,
    single,
    startup,
    uts_speedup,
    virtual,
)
from stealmesh_bench.compare import Plan
from stealmesh_bench.record import Row

SUITE: dict[str, Callable[[Plan], list[Row]]] = {
    "startup": startup.measure,
    "single": single.measure,
    "latency": latency.measure,
    "map": mapped.measure,
    "metg": metg.measure,
    "uts": uts_speedup.measure,
    "billion": billion.measure,
    "recovery": recovery.measure,
    "exact": exact.measure,
    "virtual": virtual.measure,
}
