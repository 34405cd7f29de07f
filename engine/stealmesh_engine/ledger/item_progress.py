"""How far the running items of one job say they are.

Decides which words count: those of the holder whose lease the item is open in. An item that is over, or that
another holder has by now, has no word any more. Refuses to know what is done with them.

Nothing of it is durable, and nothing else depends on it.
"""

from __future__ import annotations

from typing import Protocol

from stealmesh_protocol.ids import LeaseId, PeerId

WORDS_IN_LINE_MAX = 16
"""How many items of a job `status` shows. A line travels in beats."""
WORDS_MIN = 64
"""With fewer words there is no need to look for those that are over."""


class Open(Protocol):
    """What is asked of a ledger."""

    def is_open(self, holder: PeerId, lid: LeaseId, item: int) -> bool:
        """Has this holder the item under this lease?"""


class ItemProgress:
    """The latest word of each item that runs."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[PeerId, LeaseId, float, float]] = {}
        self._tidy_at = WORDS_MIN

    def __len__(self) -> int:
        return len(self._words)

    def hear(
        self, ledger: Open, holder: PeerId, lid: LeaseId, item: int, done: float, total: float
    ) -> bool:
        """Does this word count?"""
        if not ledger.is_open(holder, lid, item):
            return False
        self._words[item] = (holder, lid, done, total)
        if len(self._words) > self._tidy_at:
            self._tidy(ledger)
            self._tidy_at = max(WORDS_MIN, 2 * len(self._words))
        return True

    def line(self, ledger: Open) -> tuple[tuple[int, float, float], ...]:
        """Those of the first items that run."""
        self._tidy(ledger)
        first = sorted(self._words)[:WORDS_IN_LINE_MAX]
        return tuple((item, *self._words[item][2:]) for item in first)

    def _tidy(self, ledger: Open) -> None:
        over = [
            item
            for item, (holder, lid, _, _) in self._words.items()
            if not ledger.is_open(holder, lid, item)
        ]
        for item in over:
            del self._words[item]
