"""Unbalanced trees on two one-worker nodes that steal, against what two cores can give at all.

In every round, one after the other: the search alone in a fresh process; two independent
searches side by side in fresh processes; Stealmesh; and a hand-tuned client in the loop of
ProcessPoolExecutor, at the better of two visit limits.

Two independent searches share memory, caches and the machine's other guests, but no work:
2 × alone ÷ side by side is the ceiling for the speed-up of two workers. Side by side is the
mean of both, as if they had been balanced perfectly.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import Any

from stealmesh.examples import uts
from stealmesh.examples.uts import Item, Partial, Visit
from stealmesh_bench.compare import Plan, alternate, rows
from stealmesh_bench.peers import PPE, STEALMESH, StandardExecutor, Stealmesh
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import Stand, check

NODES = 2
PENDING_MAX = 4
VISIT_LIMITS = (20_000, 80_000)
ALONE = "sequential"
SIDE_BY_SIDE = "two sequential side by side"


# ---------------------------------------------------------------- what runs at the stands


def alone(peer: None, tree: str) -> float:
    """Seconds for the sequential program."""
    del peer
    start = perf_counter()
    counts = uts.search(uts.TREES[tree])
    seconds = perf_counter() - start
    _check(tree, counts)
    return seconds


def explored(peer: Stealmesh, tree: str) -> float:
    """Seconds for the mesh."""
    the_tree = uts.TREES[tree]
    start = perf_counter()
    counts = peer.mesh.explore(
        uts.visitor(the_tree), [uts.root(the_tree)], uts.combine_counts
    ).result()
    seconds = perf_counter() - start
    _check(tree, counts)
    return seconds


def driven(peer: StandardExecutor, tree: str, limit: int) -> float:
    """Seconds for a pool; its client holds the frontier and deals it out."""
    the_tree = uts.TREES[tree]
    visit = uts.visitor(the_tree)
    start = perf_counter()
    total: Partial = (0, 0, 0)
    frontier: list[Item] = [uts.root(the_tree)]
    pending: set[Future[tuple[Partial, list[Item]]]] = set()
    while frontier or pending:
        _deal(peer, visit, limit, frontier, pending)
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            partial, rest = future.result()
            total = uts.combine_counts(total, partial)
            frontier += rest
    seconds = perf_counter() - start
    _check(tree, total)
    return seconds


def _deal(
    peer: StandardExecutor,
    visit: Visit,
    limit: int,
    frontier: list[Item],
    pending: set[Future[tuple[Partial, list[Item]]]],
) -> None:
    """An equal share of the frontier for each free place."""
    while frontier and len(pending) < PENDING_MAX:
        share = -(-len(frontier) // (PENDING_MAX - len(pending)))
        bag, frontier[:share] = frontier[:share], []
        pending.add(peer.executor.submit(visit, bag, limit))


def _check(tree: str, counts: Any) -> None:
    check(tuple(counts) == uts.TREES[tree].expected, f"wrong counts for {tree}: {counts}")


# ---------------------------------------------------------------- the comparison


def _once_alone(tree: str) -> float:
    with Stand() as stand:
        seconds: float = stand.run(alone, tree=tree)
        return seconds


def _once_side_by_side(tree: str) -> float:
    with ExitStack() as stack:
        stands = [stack.enter_context(Stand()) for _ in range(NODES)]
        for stand in stands:
            stand.ask(alone, tree=tree)
        seconds: float = sum(stand.answer() for stand in stands)
        return seconds / NODES


def _best_driven(pool: Stand, tree: str) -> float:
    return min(float(pool.run(driven, tree=tree, limit=limit)) for limit in VISIT_LIMITS)


def measure(plan: Plan) -> list[Row]:
    made = []
    with ExitStack() as stack:
        mesh = stack.enter_context(Stand(STEALMESH, nodes=NODES, workers=1))
        pool = stack.enter_context(Stand(PPE)) if PPE in plan.peers else None
        mesh.run(explored, tree="T1-d7")
        for tree in ("T1-d7", "T3-b50") if plan.quick else ("T1", "T3"):
            runs: dict[str, Callable[[], float]] = {
                ALONE: partial(_once_alone, tree),
                SIDE_BY_SIDE: partial(_once_side_by_side, tree),
                STEALMESH: partial(mesh.run, explored, tree=tree),
            }
            if pool is not None:
                pool.run(driven, tree="T1-d7", limit=VISIT_LIMITS[0])
                runs[PPE] = partial(_best_driven, pool, tree)
            made += _rows_of(tree, alternate(runs, plan.repeats))
    return made


def _rows_of(tree: str, seconds: dict[str, list[float]]) -> list[Row]:
    rounds = list(zip(seconds[ALONE], seconds[SIDE_BY_SIDE], seconds[STEALMESH], strict=True))
    speed_ups = {
        peer: [one / took for one, took in zip(seconds[ALONE], seconds[peer], strict=True)]
        for peer in (STEALMESH, PPE)
        if peer in seconds
    }
    ceilings = [NODES * one / both for one, both, _ in rounds]
    shares = [100 * both / NODES / took for _, both, took in rounds]
    return [
        *rows(f"uts {tree}", "s", seconds),
        *rows(f"uts {tree} speed-up", "×", speed_ups),
        Row(f"uts {tree} speed-up", "ceiling", "×", ceilings),
        Row(f"uts {tree} share of ceiling", STEALMESH, "%", shares,
            target=Target("value", "least", 97)),
    ]  # fmt: skip
