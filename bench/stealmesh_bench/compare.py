"""Peers side by side: strictly alternating runs, and the rows that come of them.

A B C A B C …: what disturbs the machine for some seconds disturbs all peers alike, and the
ratio of two runs made next to each other survives it. A peer that fails is left out and named;
if Stealmesh fails, there is no figure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from stealmesh_bench.other_peers import PEERS
from stealmesh_bench.peers import PPE, PURE, STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError, Stand


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int = 5
    quick: bool = False
    """Tiny sizes: shows that everything works, and measures nothing."""
    peers: tuple[str, ...] = (STEALMESH, PPE, "multiprocessing.Pool")
    runs: int = 2
    """Of each kind in `exact`."""
    seed: int = 0
    """Decides who is killed, and when."""

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


OTHERS = frozenset(PEERS) - {STEALMESH, PURE}
"""Whose failure is theirs alone."""

Values = dict[str, list[Any]]
"""By peer: what each run said."""


def alternate(runs: Mapping[str, Callable[[], Any]], repeats: int) -> Values:
    """Each run in turn, again and again. A peer that fails once is not run again, and has no figure."""
    said: Values = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            if name not in said:
                continue
            try:
                said[name].append(run())
            except BenchError as error:
                if name not in OTHERS:
                    raise
                del said[name]
                _left_out(name, error)
    return said


def _left_out(peer: str, error: BenchError) -> None:
    print(f"stealmesh bench: {peer} is left out: {error}", file=sys.stderr, flush=True)


def beside(
    plan: Plan, function: Callable[..., Any], *, warm_up: Mapping[str, Any], **arguments: Any
) -> Values:
    """`function(peer, **arguments)` at a stand for each peer, after a smaller run to warm up."""
    with ExitStack() as stack:
        stands = []
        for peer in plan.peers:
            try:
                stand = stack.enter_context(Stand(peer))
                stand.run(function, **{**arguments, **warm_up})
            except BenchError as error:
                if peer not in OTHERS:
                    raise
                _left_out(peer, error)
            else:
                stands.append(stand)
        return alternate(
            {stand.peer: partial(stand.run, function, **arguments) for stand in stands},
            plan.repeats,
        )


def rows(
    workload: str, unit: str, values: Mapping[str, Sequence[float]], target: Target | None = None
) -> list[Row]:
    """A row for each peer; the target is Stealmesh's."""
    ppe = values.get(PPE, ())
    return [
        Row(
            workload,
            peer,
            unit,
            each,
            ratios=[value / ours for value, ours in zip(each, ppe, strict=True)] if ppe else (),
            target=target if peer == STEALMESH else None,
        )
        for peer, each in values.items()
    ]


def pick(values: Values, name: str) -> dict[str, list[float]]:
    """One figure out of runs that said several."""
    return {peer: [each[name] for each in said] for peer, said in values.items()}
