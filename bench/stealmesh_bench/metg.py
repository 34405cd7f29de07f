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
from itertools import repeat
from time import perf_counter

from stealmesh_bench.compare import Plan, beside, pick, rows
from stealmesh_bench.peers import WORKERS, Peer
from stealmesh_bench.record import Row, Target
from stealmesh_bench.workloads.spin import spin

HALF = 0.5
STEP = 2.0
"""From one point to the next; the curve is smooth enough for a straight line between them."""
SECONDS_MIN = 50e-9
"""A clock can hardly be read twice in less."""
SECONDS_MAX = 0.1
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
    """Points from a task length that is efficient down to where it no longer is."""
    points = [(start, efficiency(start))]
    while points[-1][1] < HALF and points[-1][0] * STEP <= SECONDS_MAX:
        seconds = points[-1][0] * STEP
        points.append((seconds, efficiency(seconds)))
    seconds, below = start, points[0][1] < HALF
    if below:
        return points
    low = 0
    while low < POINTS_BELOW and (seconds := seconds / STEP) >= SECONDS_MIN:
        points.append((seconds, efficiency(seconds)))
        low = low + 1 if points[-1][1] < HALF else 0
    return points


def singly(peer: Peer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with a submit for each task."""

    def efficiency(seconds: float) -> float:
        tasks = max(WORKERS, round(work_seconds / seconds))
        gc.collect()
        began = perf_counter()
        took = peer.gather(spin, repeat(seconds, tasks))
        wall = perf_counter() - began
        assert len(took) == tasks
        assert min(took) >= seconds, "a task was too short"
        return tasks * seconds / (wall * WORKERS)

    return _found(curve(efficiency, start))


def by_map(peer: Peer, start: float, work_seconds: float) -> dict[str, object]:
    """METG with the peer's own map."""

    def efficiency(seconds: float) -> float:
        tasks = max(WORKERS, round(work_seconds / seconds))
        spinner = SPINNERS[seconds]
        began = perf_counter()
        took = [0, math.inf]
        for each in peer.stream(spinner, range(tasks)):
            took[0] += 1
            if each < took[1]:
                took[1] = each
        wall = perf_counter() - began
        assert took[0] == tasks, "lost tasks"
        assert took[1] >= seconds, "a task was too short"
        return tasks * seconds / (wall * WORKERS)

    return _found(curve(efficiency, start))
