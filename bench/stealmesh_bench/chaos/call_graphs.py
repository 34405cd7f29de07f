"""`--job graph`: random graphs of calls that need each other's results, compared with a sequential evaluation.

Draws graphs of chains, fan-outs, fan-ins and grids. Some results are told to stay on the nodes, some are so large that
they stay by themselves. Half of all graphs are collected from their last call back, so that what stays must last.
Decides what each call comes to. Refuses to know what is broken meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from stealmesh import Mesh
from stealmesh_bench.chaos.ledger import Ledger, answer, noted_sleep
from stealmesh_bench.chaos.workload import WorkloadRun

CALL_SECONDS = 0.01
CALLS = 60
"""Of one graph."""
RUN_MIN, RUN_MAX = 3, 8
"""How many calls a chain, a fan-out or a fan-in has."""
KEPT_SHARE = 0.15
LARGE_SHARE = 0.05
LARGE_OCTETS = 100_000
"""More than `inline_octets`, so that the result stays."""
INPUTS_MAX = 8
GRID_COLUMNS = 4

Given = tuple[int, int, bytes]
"""What a call returns: its item, its value, and some octets that only make it large."""


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call of a graph."""

    inputs: tuple[int, ...]
    """Places of earlier calls in the graph; one may be there more than once."""
    stays: bool = False
    large: bool = False


def draw(rng: Random, calls: int = CALLS) -> list[GraphCall]:
    """A random graph; the calls are in an order in which they can be evaluated."""
    graph: list[GraphCall] = []
    while len(graph) < calls:
        shape = rng.choice((_chain, _fan_out, _fan_in, _grid, _anything))
        for inputs in shape(rng, len(graph), rng.randint(RUN_MIN, RUN_MAX)):
            stays, large = rng.random() < KEPT_SHARE, rng.random() < LARGE_SHARE
            graph.append(GraphCall(inputs, stays, large))
    return graph[:calls]


def _chain(rng: Random, base: int, count: int) -> Iterator[tuple[int, ...]]:
    """Each call needs the one before; the first needs none."""
    for number in range(count):
        yield (base + number - 1,) if number else ()


def _fan_out(rng: Random, base: int, count: int) -> Iterator[tuple[int, ...]]:
    """All calls need the same one."""
    hub = rng.randrange(base) if base else 0
    for number in range(count):
        yield (hub,) if base or number else ()


def _fan_in(rng: Random, base: int, count: int) -> Iterator[tuple[int, ...]]:
    """One call needs many others."""
    for _ in range(count - 1):
        yield ()
    yield tuple(rng.sample(range(base + count - 1), min(base + count - 1, INPUTS_MAX)))


def _grid(rng: Random, base: int, count: int) -> Iterator[tuple[int, ...]]:
    """Rows of four calls; each needs its neighbours of the row before: nodes hand results to each other."""
    for number in range(4 * count):
        row, column = divmod(number, GRID_COLUMNS)
        near = range(max(0, column - 1), min(GRID_COLUMNS, column + 2))
        yield tuple(base + (row - 1) * GRID_COLUMNS + each for each in near) if row else ()


def _anything(rng: Random, base: int, count: int) -> Iterator[tuple[int, ...]]:
    """Up to three inputs each, perhaps the same one twice."""
    for number in range(base, base + count):
        yield tuple(rng.choices(range(number), k=rng.randrange(4))) if number else ()


def folded(item: int, inputs: Sequence[Given]) -> int:
    """What a call comes to: the order of its inputs counts, and how often each is there."""
    value = answer(item)
    for _, other, _ in inputs:
        value = answer(value ^ other)
    return value


def call(log: str, seconds: float, item: int, octets: int, given: dict[str, Any]) -> Given:
    """A task. Its inputs lie deep in its argument, where futures were put."""
    inputs: list[Given] = [*given["first"], *given["more"]["rest"]]
    noted_sleep(log, seconds, item)
    value = folded(item, inputs)
    return item, value, _filling(value, octets)


def _filling(value: int, octets: int) -> bytes:
    return value.to_bytes(8, "little") * (octets // 8)


class GraphInFlight:
    """One graph that was submitted."""

    def __init__(self, mesh: Mesh, ledger: Ledger, log: str, rng: Random) -> None:
        self.graph = draw(rng)
        self.items = ledger.take(len(self.graph))
        self.futures: list[Any] = []
        self.right = self._evaluated()
        self.order = list(range(len(self.graph)))
        if rng.random() < 0.5:
            self.order.reverse()
        keeping = mesh.options(keep=True)
        for place, each in enumerate(self.graph):
            inputs = [self.futures[other] for other in each.inputs]
            octets = len(self.right[place][2])
            given = {"first": inputs[:1], "more": {"rest": tuple(inputs[1:])}}
            submit = keeping.submit if each.stays else mesh.submit
            self.futures.append(submit(call, log, CALL_SECONDS, self.items[place], octets, given))

    def _evaluated(self) -> list[Given]:
        """What the calls must come to, one after the other."""
        right: list[Given] = []
        for item, each in zip(self.items, self.graph, strict=True):
            value = folded(item, [right[other] for other in each.inputs])
            right.append((item, value, _filling(value, LARGE_OCTETS if each.large else 0)))
        return right

    def collect(self, run: WorkloadRun) -> None:
        """Take every result and compare it. Raises Stuck."""
        account, ledger = run.account, run.account.ledger
        assert ledger is not None
        for place in self.order:
            item, future = self.items[place], self.futures[place]
            self.futures[place] = None
            error = run.error_of(future, f"call {item} of {ledger.accepted}")
            if error is not None:
                account.fails(f"call {item} raised {error!r}")
                continue
            found = future.result()
            ledger.came(found[0], right=found == self.right[place])
            account.goodput.add(account.now())


def perform(run: WorkloadRun) -> None:
    """Random graphs for as long as the scenario lasts, several side by side."""
    ledger = run.account.ledger
    assert ledger is not None
    run.account.even = False
    rng = Random(f"{run.seed}/graphs")
    waiting: deque[GraphInFlight] = deque()
    while True:
        while run.lasting and len(waiting) <= run.nodes:
            waiting.append(GraphInFlight(run.mesh, ledger, run.log, rng))
        if not waiting:
            return
        waiting.popleft().collect(run)
