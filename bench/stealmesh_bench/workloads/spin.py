"""Work of a chosen length that keeps a core busy: the ruler for METG and for efficiency.

A busy loop on the clock, not a counted one, so that the length is the same on every machine.
On a machine with more workers than cores it ends on time without having had its core; count
workers, not tasks, there.
"""

from __future__ import annotations

from time import perf_counter


def spin(seconds: float) -> float:
    """Keep this core busy for `seconds`; returns how long it really took."""
    start = perf_counter()
    until = start + seconds
    while (now := perf_counter()) < until:
        pass
    return now - start
