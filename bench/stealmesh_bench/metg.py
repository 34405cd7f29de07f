"""METG(50 %): the shortest task with which half of the machine's time is useful work.

After Task Bench (Slaughter et al., SC20): the same amount of work in shorter and shorter
tasks; efficiency is what the work itself takes, divided by workers × wall time; where it
crosses 50 % is interpolated on a logarithmic axis.

Useful is the length that was asked for, not the length that the spinning took: a task that
lost its core to somebody else's overhead spins on by the clock and would call that useful.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import repeat
from time import perf_counter

from stealmesh_bench.compare import Plan, beside, pick, rows
from stealmesh_bench.peers import WORKERS, Peer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import check
from stealmesh_bench.workloads.spin import spin

HALF = 0.5
STEP = 2.0
"""From one point to the next; the curve is smooth enough for a straight line between them."""
SECONDS_MIN = 50e-9
"""A clock can hardly be read twice in less."""
SECONDS_MAX = 0.1
CLOCK_ERROR_SECONDS = 1e-9
"""Differences of clock readings are rounded."""
POINTS_BELOW = 2
"""A single point below the line may be a hiccup of the machine; two are the other side."""

Point = tuple[float, float]
"""(seconds of a task, efficiency)"""


def crossing(points: list[Point]) -> float | None:
    """Where efficiency falls through 50 %, seen from the long side; None if it never does."""
    longest_first = sorted(points, reverse=True)
    above = [at for at, (_, efficiency) in enumerate(longest_first) if efficiency >= HALF]
    if not above or above[-1] + 1 == len(longest_first):
        return None
    (long, high), (short, low) = longest_first[above[-1] : above[-1] + 2]
    share = (high - HALF) / (high - low)
    return math.exp(math.log(long) + share * (math.log(short) - math.log(long)))


def curve(efficiency: Callable[[float], float], start: float) -> list[Point]:
    """Points on both sides of the line: up from `start` while it is below, else down until it is."""
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


def singly(peer: Peer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with a submit for each task."""

    def efficiency(seconds: float) -> float:
        tasks = max(WORKERS, round(work_seconds / seconds))
        gc.collect()
        began = perf_counter()
        took = peer.gather(spin, repeat(seconds, tasks))
        wall = perf_counter() - began
        check(
            len(took) == tasks and min(took) > seconds - CLOCK_ERROR_SECONDS,
            "lost tasks, or too short ones",
        )
        return tasks * seconds / (wall * WORKERS)

    return _found(curve(efficiency, start))


def by_map(peer: Peer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with the peer's own map."""

    def efficiency(seconds: float) -> float:
        tasks = max(WORKERS, round(work_seconds / seconds))
        gc.collect()
        began = perf_counter()
        took = sum(peer.stream(partial(spin_item, seconds), range(tasks)))
        wall = perf_counter() - began
        check(took > tasks * (seconds - CLOCK_ERROR_SECONDS), "lost tasks, or too short ones")
        return tasks * seconds / (wall * WORKERS)

    return _found(curve(efficiency, start))


def spin_item(seconds: float, item: int) -> float:
    """Every item takes the same time, whichever it is."""
    del item
    return spin(seconds)


def _found(points: list[Point]) -> dict[str, object]:
    """METG in µs; of a curve all on one side of the line the end that is nearest to it."""
    metg = crossing(points)
    if metg is None:
        metg = min(points)[0] if points[-1][1] >= HALF else max(points)[0]
    return {
        "metg": 1e6 * metg,
        "curve": [[1e6 * seconds, round(efficiency, 3)] for seconds, efficiency in points],
    }


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
