"""Where Stealmesh stands: one line a workload, and by which factor it is better than each peer.

Ratios come first: they are the medians over runs that were made next to each other, and survive a noisy
machine. More than 1 is in Stealmesh's favour, whether the figure should be high or low. Refuses to
know how something is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from stealmesh_bench.other_peers import PEERS
from stealmesh_bench.peers import STEALMESH
from stealmesh_bench.record import Row, more_is_better
from stealmesh_bench.table import judged, short


@dataclass(frozen=True)
class Bearing:
    """One workload: Stealmesh's row, and its factor over each peer."""

    ours: Row
    factors: dict[str, float]


def bearings(rows: Iterable[Row]) -> list[Bearing]:
    """In the order of the rows. What has no row of Stealmesh's has no bearing."""
    rows = list(rows)
    return [
        Bearing(
            ours,
            {
                row.peer: found
                for row in rows
                if row.workload == ours.workload and row.peer in PEERS and row.peer != STEALMESH
                for found in [factor(ours, row)]
                if found is not None
            },
        )
        for ours in rows
        if ours.peer == STEALMESH
    ]


def factor(ours: Row, theirs: Row) -> float | None:
    """How many times better we are; None where a figure is zero, so that nobody can say."""
    pairs = list(zip(ours.values, theirs.values, strict=True))
    if not all(our > 0 and their > 0 for our, their in pairs):
        return None
    higher = more_is_better(ours.unit, str(ours.target or ""))
    return median(our / their if higher else their / our for our, their in pairs)


def as_compass(lines: Iterable[Bearing]) -> Table:
    """Stealmesh's factor over each peer, then its own figure and target."""
    lines = list(lines)
    peers = [peer for peer in PEERS if any(peer in line.factors for line in lines)]
    table = Table(title="times better than … (more than 1: Stealmesh is)", title_justify="left")
    table.add_column("workload")
    for peer in peers:
        table.add_column(peer, justify="right")
    for column in ("stealmesh", "unit", "target"):
        table.add_column(column, justify="right" if column == "stealmesh" else "left")
    for line in lines:
        factors = [line.factors.get(peer) for peer in peers]
        cells = ["–" if each is None else f"{short(each)} ×" for each in factors]
        table.add_row(line.ours.workload, *cells, short(line.ours.value), line.ours.unit,
                      judged(line.ours))  # fmt: skip
    return table
