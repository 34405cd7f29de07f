"""What this peer's disk has to remember of durable jobs, and what may only be said once it does.

Decides the order of records and when a log that is mostly history is written anew. Refuses to
know files (the host writes, one fsync for all that waits) and what a record means (replica.py).

Idea: a write-ahead log with group commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from stealmesh_engine.effects import Effect, Rewrite, Write
from stealmesh_protocol.messages import Keep

SLACK_OCTETS = 8 << 20
RECORD_OCTETS = 256


class Logbook:
    """Records on their way to the disk; a peer without one remembers nothing and waits for nothing."""

    def __init__(self, effects: list[Effect]) -> None:
        self.effects = effects
        self.is_open = False
        self._ticket = 0
        self._written = 0
        self._octets = 0
        self._after: deque[tuple[int, Callable[[float], None]]] = deque()
        """What is said once something is on the disk."""

    def write(self, keep: Keep) -> None:
        if self.is_open:
            self._ticket += 1
            self._octets += RECORD_OCTETS + sum(map(len, keep.blobs))
            self.effects.append(Write(self._ticket, keep))

    def once_written(self, action: Callable[[float], None], now: float) -> None:
        """Do this once all that was logged so far is on the disk."""
        if not self.is_open or self._written >= self._ticket:
            action(now)
        else:
            self._after.append((self._ticket, action))

    def written(self, ticket: int, now: float) -> None:
        self._written = max(self._written, ticket)
        while self._after and self._after[0][0] <= self._written:
            self._after.popleft()[1](now)

    def is_mostly_history(self, live_octets: int) -> bool:
        return self.is_open and self._octets >= 2 * live_octets + SLACK_OCTETS

    def rewrite(self, records: list[Keep], live_octets: int) -> None:
        """Nothing but these is worth remembering."""
        self._ticket += 1
        self._octets = live_octets
        self.effects.append(Rewrite(self._ticket, records))
