"""How the memory of processes grows in the course of a run."""

from __future__ import annotations

import resource
from pathlib import Path

LOOKS_MIN = 6
"""A run with fewer looks at a process says nothing about its growth."""


class MemoryWatch:
    """Looks at the resident memory of some processes, again and again."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        """Name of a process → its memory at each look, in MiB."""

    def look(self, watched: dict[str, int]) -> None:
        """Read the memory of these processes: name → process id."""
        for name, pid in watched.items():
            self._seen.setdefault(name, []).append(_rss_mib(pid))

    def growth(self) -> tuple[dict[str, list[float]], float | None]:
        """Name → memory at a third of the run and at its end, and the largest growth, in MiB."""
        found: dict[str, list[float]] = {}
        largest: float | None = None
        for name, seen in self._seen.items():
            if len(seen) < LOOKS_MIN:
                continue
            third = sorted(seen[len(seen) // 3 : len(seen) // 2])
            last = sorted(seen[-max(1, len(seen) // 6) :])
            pair = [third[len(third) // 2], last[len(last) // 2]]
            found[name] = [round(mib, 1) for mib in pair]
            largest = max(largest or 0.0, round(pair[1] - pair[0], 1))
        return found, largest


def _rss_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / (1 << 20)
