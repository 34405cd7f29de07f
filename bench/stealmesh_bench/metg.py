"""METG(50 %): the shortest task with which half of the machine's time is useful work.

After Task Bench (Slaughter et al., SC20): the same amount of work in shorter and shorter
tasks; efficiency is the time that all tasks say they took, divided by workers × wall time;
where it crosses 50 % is interpolated on a logarithmic axis of the length that was asked for.

A task spins by the clock, so time in which it lost its core counts as useful: what other
guests of the machine take is not held against a peer, nor, alas, what its own caller and
nodes take where there are fewer cores than processes. That holds for all peers alike; the
recorded curve has a third column, efficiency by the length that was asked for, which errs the
other way. On a quiet machine they are close.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from time import perf_counter

from stealmesh_bench.compare import Plan, beside, pick, rows
from stealmesh_bench.peers import WORKERS, BenchPeer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import check
from stealmesh_bench.workloads.spin import spin

HALF = 0.5
STEP = 2.0
"""From one point to the next; the curve is smooth enough for a straight line between them."""
SECONDS_MIN = 200e-9
"""Not much more than the two readings of the clock that a task consists of."""
SECONDS_MAX = 0.1
CLOCK_ERROR_SECONDS = 1e-9
"""Differences of clock readings are rounded."""
POINTS_BELOW = 2
"""A single point below the line may be a hiccup of the machine; two are the other side."""

Point = tuple[float, float]
"""(seconds of a task, efficiency)"""


def crossing(points: Sequence[Point]) -> float | None:
    """Where efficiency falls through 50 %, seen from the long side; None if it never does."""
    longest_first = sorted(points, reverse=True)
    above = [at for at, (_, efficiency) in enumerate(longest_first) if efficiency >= HALF]
    if not above or above[-1] + 1 == len(longest_first):
        return None
    (long, high), (short, low) = longest_first[above[-1] : above[-1] + 2]
    share = (high - HALF) / (high - low)
    return math.exp(math.log(long) + share * (math.log(short) - math.log(long)))


def curve(efficiency: Callable[[float], float], start: float) -> list[Point]:
    """Points on both sides of the line: up from `start` while it is below, otherwise down until it is."""
    points = [(start, efficiency(start))]
    below = points[0][1] < HALF
    while below and points[-1][0] < SECONDS_MAX:
        points.append(_point(efficiency, points[-1][0] * STEP))
        below = points[-1][1] < HALF
    if len(points) > 1:
        return points
    low = 0
    while low < POINTS_BELOW and points[-1][0] / STEP >= SECONDS_MIN:
        points.append(_point(efficiency, points[-1][0] / STEP))
        low = low + 1 if points[-1][1] < HALF else 0
    return points


def _point(efficiency: Callable[[float], float], seconds: float) -> Point:
    return seconds, efficiency(seconds)


# ---------------------------------------------------------------- what runs at the stands


def singly(peer: BenchPeer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with a submit for each task."""

    def run(seconds: float, tasks: int) -> float:
        took = peer.gather(spin, repeat(seconds, tasks))
        check(len(took) == tasks, "lost tasks")
        check(min(took) > seconds - CLOCK_ERROR_SECONDS, "a task was too short")
        return float(sum(took))

    return _metg(run, start, work_seconds)


def by_map(peer: BenchPeer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with the peer's own map."""

    def run(seconds: float, tasks: int) -> float:
        return float(sum(peer.stream(partial(spin_item, seconds), range(tasks))))

    return _metg(run, start, work_seconds)


def spin_item(seconds: float, item: int) -> float:
    """Every item takes the same time, whichever it is."""
    del item
    return spin(seconds)


def _metg(
    run: Callable[[float, int], float], start: float, work_seconds: float
) -> dict[str, object]:
    """METG in µs; of a curve all on one side of the line the end that is nearest to it."""
    asked_for: dict[float, float] = {}

    def efficiency(seconds: float) -> float:
        tasks = max(WORKERS, round(work_seconds / seconds))
        gc.collect()
        began = perf_counter()
        busy = run(seconds, tasks)
        wall = perf_counter() - began
        check(busy > tasks * (seconds - CLOCK_ERROR_SECONDS), "lost tasks, or too short ones")
        asked_for[seconds] = tasks * seconds / (wall * WORKERS)
        return busy / (wall * WORKERS)

    points = curve(efficiency, start)
    metg = crossing(points)
    if metg is None:
        metg = min(points)[0] if points[-1][1] >= HALF else max(points)[0]
    return {
        "metg": 1e6 * metg,
        "curve": [
            [1e6 * seconds, round(busy, 3), round(asked_for[seconds], 3)]
            for seconds, busy in points
        ],
    }


# ---------------------------------------------------------------- the comparison


def measure(plan: Plan) -> list[Row]:
    work = 0.02 if plan.quick else 0.4
    made = []
    for name, function, start, bound in (
        ("METG single", singly, 3.2e-3, 40),
        ("METG map", by_map, 32e-6, 0.5),
    ):
        values = beside(plan, function, warm_up={"start": SECONDS_MAX / 10, "work_seconds": 0.01},
                        start=start, work_seconds=work)  # fmt: skip
        of_each = rows(name, "µs", pick(values, "metg"), Target("value", "most", bound))
        curves = pick(values, "curve")
        made += [replace(row, more={"curve": curves[row.peer][-1]}) for row in of_each]
    return made
