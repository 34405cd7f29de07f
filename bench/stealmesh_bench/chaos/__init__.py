"""Chaos as a product: named scenarios that break a mesh on purpose, and the verdict on it.

`stealmesh chaos`, also `python -m stealmesh_bench.chaos`. A scenario is a timetable of faults drawn
from a seed (`scenario`, `named`); it is played in virtual time (`simulated`) or on real processes
(`real`), watched from outside (`ledger`, `eyes`), and judged (`report`).
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status. Everything is imported when it is needed."""
    from stealmesh_bench.chaos.command import main as run

    return run(arguments)
