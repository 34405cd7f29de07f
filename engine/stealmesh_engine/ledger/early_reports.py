"""Reports of one job's items that came before those of what went into them.

Decides how much of them is kept. Refuses to know until when they wait (edges.py) and what becomes of them
(crediting.py).
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Part

EARLY_OCTETS_MAX = 64 * 1024 * 1024

EarlyReport = tuple[PeerId, Part, bytes]
"""What a holder has said of an item, among others perhaps."""


class EarlyReports:
    """By item: at most one each."""

    def __init__(self) -> None:
        self._reports: dict[int, EarlyReport] = {}
        self._octets = 0

    def __contains__(self, item: object) -> bool:
        return item in self._reports

    def __iter__(self) -> Iterator[EarlyReport]:
        return iter(self._reports.values())

    def keep(self, item: int, report: EarlyReport) -> bool:
        """False: there is one already, or no room."""
        octets = self._octets + len(report[2])
        if item in self._reports or octets > EARLY_OCTETS_MAX:
            return False
        self._reports[item], self._octets = report, octets
        return True

    def take(self, item: int) -> EarlyReport | None:
        """It waits no more."""
        report = self._reports.pop(item, None)
        if report is not None:
            self._octets -= len(report[2])
        return report

    def audit(self, follows: Container[int]) -> None:
        assert all(item in follows for item in self._reports), "a report waits for nothing"
        assert self._octets == sum(len(blob) for _, _, blob in self), "another number of octets"
