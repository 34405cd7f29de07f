"""Work that is no work: what remains on the clock is what the mesh itself costs."""

from __future__ import annotations


def noop() -> None:
    """Nothing, at the least cost that a Python function has."""


def increment(x: int) -> int:
    """Almost nothing, but with an answer that tells whether it was really called, and with what."""
    return x + 1
