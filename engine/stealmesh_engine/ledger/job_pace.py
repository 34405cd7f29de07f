"""How fast one job gets on: items a second, lately.

Decides over how long that is measured: the last seconds as far as somebody has looked in them, else all the time
since the job began. Each look leaves a mark, and only looks do, so a job without an audience costs nothing.
"""

from __future__ import annotations

from collections import deque

LATELY_SECONDS = 10.0
MARK_SECONDS = 0.4
"""Looks that come sooner leave no mark of their own."""


class JobPace:
    """The marks of one job."""

    __slots__ = ("_marks",)

    def __init__(self, at: float, done: int) -> None:
        self._marks: deque[tuple[float, int]] = deque([(at, done)])

    def looked(self, now: float, done: int) -> float:
        """So much is done now. Returns items a second; 0: not known."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - LATELY_SECONDS:
            marks.popleft()
        at, before = marks[0]
        if now >= marks[-1][0] + MARK_SECONDS:
            marks.append((now, done))
        return max(0.0, (done - before) / (now - at)) if now > at else 0.0
