"""The last failures of one job: which items, and how. For people who ask.

Decides how much is remembered: a bounded number of outcomes as they came, the newest stay. They are opened only
when somebody looks, so a failure costs a job a reference and no more. Refuses to know why an item
failed and who is told.
"""

from __future__ import annotations

from collections import deque

from stealmesh_protocol.errors import RemoteProtocolError
from stealmesh_protocol.values import Failure, failures_of

OUTCOMES_MAX = 64
OCTETS_MAX = 1 << 20
"""Of what is remembered of one job. A single outcome beyond that is not kept."""
TOLD_CHARS_MAX = 500


class Mishaps:
    """What has failed of one job lately."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[int, bytes]] = deque()
        self._octets = 0
        self.forgot = False
        """Older ones had no room: an item that nothing is known about may have failed."""

    def add(self, lo: int, blob: bytes) -> None:
        """Some items from `lo` on have failed, as the blob (codec OUTCOMES) says."""
        if len(blob) > OCTETS_MAX:
            self.forgot = True
            return
        self._outcomes.append((lo, blob))
        self._octets += len(blob)
        while self._octets > OCTETS_MAX or len(self._outcomes) > OUTCOMES_MAX:
            self._octets -= len(self._outcomes.popleft()[1])
            self.forgot = True

    def last(self) -> str:
        """The last one in words; empty: none is remembered."""
        for lo, blob in reversed(self._outcomes):
            failures = _opened(blob)
            if failures:
                return _told(lo, failures[-1])
        return ""

    def of(self, item: int) -> str:
        """How this item failed; empty: it did not, or that is forgotten."""
        for lo, blob in reversed(self._outcomes):
            if lo <= item:
                found = [each for each in _opened(blob) if lo + each.offset == item]
                if found:
                    return found[-1].text[:TOLD_CHARS_MAX] or found[-1].kind
        return ""


def _opened(blob: bytes) -> list[Failure]:
    try:
        return failures_of(blob)
    except RemoteProtocolError:
        return []  # the program says so when it opens the blob


def _told(lo: int, failure: Failure) -> str:
    return f"item {lo + failure.offset}: {failure.text or failure.kind}"[:TOLD_CHARS_MAX]
