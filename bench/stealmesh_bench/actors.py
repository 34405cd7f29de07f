"""Calls of an actor beside those of a function: ``python -m stealmesh_bench.actors``.

One local mesh in which a program hires workers and the processes of its actors, and one in which it does not, take
turns in one process. Shown: what a caller waits for one answer (µs, p50), the ratio of an actor's to a function's, and
calls a second on one actor when they are not waited for. Exit status 1 if the ratio is above RATIO_MAX, or the pace
below PACE_MIN.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from stealmesh import Config, Mesh
from stealmesh.futures import Future
from stealmesh_bench.stand import check

RATIO_MAX = 1.5
PACE_MIN = 30_000


class Tally:
    """Answers with how often it has been asked."""

    def __init__(self) -> None:
        self.count = 0

    def more(self) -> int:
        self.count += 1
        return self.count


def same(number: int) -> int:
    return number


def waits(call: Callable[[int], Future[int]], calls: int) -> float:
    """For how long one answer is waited for, in µs (p50). Before that come calls that are not counted: a worker is
    hired after a few."""
    micros = []
    for at in range(calls + 50):
        begun = perf_counter()
        call(at).result()
        micros.append(1e6 * (perf_counter() - begun))
    return median(micros[50:])


def pace(mesh: Mesh, calls: int) -> float:
    """Calls a second on one actor, all at once."""
    with mesh.actor(Tally) as counter:
        counter.more().result()
        begun = perf_counter()
        futures = [counter.more() for _ in range(calls)]
        check(futures[-1].result() == calls + 1, "a call of an actor was lost or doubled")
        return calls / (perf_counter() - begun)


def both(mesh: Mesh, calls: int) -> tuple[float, float]:
    """An actor's call, and a function's."""
    with mesh.actor(Tally) as counter:
        actors = waits(lambda at: counter.more(), calls)
        check(counter.more().result() == calls + 51, "a call of an actor was lost or doubled")
    return actors, waits(lambda at: mesh.submit(same, at), calls)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.actors", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1_000, help="that are waited for, in a run")
    parser.add_argument("--at-once", type=int, default=100_000)
    options = parser.parse_args(arguments)
    ratios, paces = [], []
    with Mesh(workers=2) as hires, Mesh(workers=2, config=Config(hire_after_calls=0)) as ordinary:
        for _ in range(options.runs):
            for name, mesh in (("hired", hires), ("by the node", ordinary)):
                actors, functions = both(mesh, options.calls)
                if mesh is hires:
                    ratios.append(actors / functions)
                print(f"{name}: actor {actors:.0f} µs, function {functions:.0f} µs")
            paces.append(pace(hires, options.at_once))
            print(f"at once: {paces[-1]:,.0f} calls/s", flush=True)
    ratio, rate = median(ratios), median(paces)
    print(f"an actor's call takes {ratio:.2f} times a function's; {rate:,.0f} calls/s at once")
    return int(ratio > RATIO_MAX or rate < PACE_MIN)


if __name__ == "__main__":
    sys.exit(main())
