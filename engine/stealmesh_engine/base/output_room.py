"""How much of what tasks print goes through one place: so much at once, and so much a second after that.

Decides nothing else: who asks counts what finds no room, and says so. Idea: the token bucket of networks.
"""

from __future__ import annotations

LINE_COSTS = 64
"""Octets that each text, and each line, counts for beside its own: short lines cost, too."""


class OutputRoom:
    """Room for texts."""

    def __init__(self, at_once: int, a_second: int) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._left = float(at_once)
        self._at = 0.0

    def takes(self, blob: bytes, now: float) -> bool:
        """Is there room for this text? Then it is taken up."""
        self._left = min(self._left + (now - self._at) * self._a_second, self._at_once)
        self._at = now
        costs = len(blob) + LINE_COSTS * (1 + blob.count(b"\n"))
        if costs > self._left:
            return False
        self._left -= costs
        return True
