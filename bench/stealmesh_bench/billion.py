"""A billion items in constant memory, and what the engine costs beside the bare loop.

The bare loop is the same function over one half of the range each in two independent
processes, side by side, with nothing around it. Its time is the mean of the two, as if the
halves had been balanced perfectly.
"""

from __future__ import annotations

import operator
from contextlib import ExitStack
from time import perf_counter

import stealmesh
from stealmesh_bench.compare import Plan, alternate
from stealmesh_bench.memory import Sampler
from stealmesh_bench.peers import STEALMESH, WORKERS, Stealmesh
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import Stand, check
from stealmesh_bench.workloads.residues import count_alike, expected

BARE = "two bare loops"


def reduced(peer: Stealmesh, items: int) -> dict[str, float]:
    start = perf_counter()
    total = peer.mesh.map_reduce(
        stealmesh.vectorized(count_alike), range(items), operator.add
    ).result()
    return {"seconds": perf_counter() - start, "total": total}


def looped(peer: None, start: int, stop: int) -> dict[str, float]:
    del peer
    began = perf_counter()
    total = count_alike(range(start, stop))
    return {"seconds": perf_counter() - began, "total": total}


def _bare(stands: list[Stand], items: int) -> dict[str, float]:
    edges = [items * i // WORKERS for i in range(WORKERS + 1)]
    for stand, start, stop in zip(stands, edges, edges[1:], strict=False):
        stand.ask(looped, start=start, stop=stop)
    halves = [stand.answer() for stand in stands]
    return {
        "seconds": sum(half["seconds"] for half in halves) / WORKERS,
        "total": sum(half["total"] for half in halves),
    }


def _watched(stand: Stand, items: int) -> dict[str, float]:
    with Sampler(stand.pid) as sampler:
        said: dict[str, float] = stand.run(reduced, items=items)
    return said | {"peak_mib": sampler.peak_mib, "growth_mib": sampler.growth_mib}


def measure(plan: Plan) -> list[Row]:
    items = plan.size(10**9, 10**7)
    with ExitStack() as stack:
        mesh = stack.enter_context(Stand(STEALMESH))
        bare = [stack.enter_context(Stand()) for _ in range(WORKERS)]
        mesh.run(reduced, items=items // 100)
        _bare(bare, items // 100)
        said = alternate(
            {STEALMESH: lambda: _watched(mesh, items), BARE: lambda: _bare(bare, items)},
            plan.repeats,
        )
    right = expected(items)
    check(all(run["total"] == right for runs in said.values() for run in runs), "wrong counts")
    ours, theirs = said[STEALMESH], said[BARE]
    overhead = [100 * (a["seconds"] / b["seconds"] - 1) for a, b in zip(ours, theirs, strict=True)]
    return [
        *(
            Row(f"map_reduce {items:.0e}", name, "items/s", [items / run["seconds"] for run in runs])
            for name, runs in said.items()
        ),
        Row("map_reduce overhead", STEALMESH, "%", overhead, target=Target("value", "most", 2)),
        Row("map_reduce peak of any process", STEALMESH, "MiB", [run["peak_mib"] for run in ours]),
        Row("map_reduce growth of any process", STEALMESH, "MiB",
            [run["growth_mib"] for run in ours], summary="max",
            target=Target("value", "most", 8)),
    ]  # fmt: skip
