"""More kinds of work for `mixed`: graphs, data, coroutines, tasks inside tasks, retries, stops, bounds.

``python -m stealmesh_bench.mixed_features`` runs them beside the plain ones, with the same arguments. Each kind is one call that
checks its own answer. Decides nothing about threads, kills and figures (mixed.py).
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import CancelledError
from random import Random, random
from typing import Any

import stealmesh
from stealmesh_bench.mixed import WorkMixture, check, main, nap, square


async def square_soon(x: int) -> int:
    await asyncio.sleep(0.002)
    return x * x


def fibonacci(n: int) -> int:
    if n < 2:
        return n
    other = stealmesh.here().submit(fibonacci, n - 1)
    return fibonacci(n - 2) + int(other.result())


def total(octets: bytes, more: int) -> int:
    return sum(octets) + more


def moody(x: int) -> int:
    """Comes to its end at the third or fourth attempt, on the average."""
    mood = random()  # not of the world's seed: another one each attempt
    if mood < 0.3:
        raise stealmesh.Defer(0.01)
    if mood < 0.4:
        raise ValueError("another attempt")
    return x


class FeatureMixture(WorkMixture):
    """The plain kinds, and those of graphs, data and control."""

    def __init__(self, mesh: stealmesh.Mesh, rng: Random) -> None:
        super().__init__(mesh, rng)
        self.kinds |= {
            "coroutines": self.coroutines, "nested": self.nested, "scattered": self.scattered,
            "graph": self.graph, "moody": self.moody, "stopped": self.stopped, "bounded": self.bounded,
        }  # fmt: skip

    def coroutines(self) -> None:
        count = self.rng.randrange(1, 50)
        check(list(self.mesh.map(square_soon, range(count))), [x * x for x in range(count)])

    def nested(self) -> None:
        n = self.rng.randrange(14)
        right, following = 0, 1
        for _ in range(n):
            right, following = following, right + following
        check(self.mesh.submit(fibonacci, n).result(), right)

    def scattered(self) -> None:
        octets = bytes([2]) * self.rng.randrange(200_000)
        ref = self.mesh.scatter(octets)
        calls: list[Any] = [self.mesh.submit(total, ref, n) for n in range(5)]
        check([call.result() for call in calls], [2 * len(octets) + n for n in range(5)])
        check(
            list(self.mesh.map(total, [ref] * 3, range(3))), [2 * len(octets) + n for n in range(3)]
        )

    def graph(self) -> None:
        leaves = [self.mesh.submit(square, x) for x in range(self.rng.randrange(1, 30))]
        one = self.mesh.submit(sum, leaves)
        two = self.mesh.submit(sum, [one, one, *leaves])
        check(two.result(), 3 * sum(x * x for x in range(len(leaves))))

    def moody(self) -> None:
        view = self.mesh.options(retries=100)
        calls = [view.submit(moody, x) for x in range(self.rng.randrange(1, 10))]
        check([call.result() for call in calls], list(range(len(calls))))

    def stopped(self) -> None:
        call = self.mesh.submit(nap, 30.0)
        time.sleep(self.rng.random() / 10)
        call.stop()
        try:
            check(type(call.exception()), stealmesh.TaskStopped)
        except CancelledError:
            return  # it had not begun

    def bounded(self) -> None:
        view = self.mesh.options(max_parallel=2)
        calls = [view.submit(square, x) for x in range(self.rng.randrange(1, 10))]
        check([call.result() for call in calls], [x * x for x in range(len(calls))])


if __name__ == "__main__":
    sys.exit(main(mixture=FeatureMixture))
