"""Waiting for what no event tells of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 100.0
"""Only ever reached by a defect."""
T = TypeVar("T")


def until(holds: Callable[[], T | None], what: str = "it") -> T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)
    return found
