"""The jobs of programs around this node: what these last said of them, and how they ended.

A program's ledger goes with the program. So the node that hears of its jobs keeps the last lines when it is gone:
those of jobs that had ended as they were, those of others as ended with their program. Decides how many are kept.
Refuses to know who asks, and nothing depends on it. A node that dies takes its list with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from stealmesh_engine.base.counters import Counters
from stealmesh_protocol.ids import JobId, PeerId, owner_of
from stealmesh_protocol.messages import JobLine

KEPT_MAX = 256
KEPT_OF_ONE_MAX = 64
"""A program with thousands of jobs must not push those of all others out."""
OWNER_GONE = "owner gone"
"""The state of a job that ended with its program, without an end of its own."""


STALE_SECONDS = 10.0
"""A program that has not said anything for so long tells another node: what it said here is old."""


class JobsAround:
    """What this node knows of other programs' jobs."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._said: dict[PeerId, tuple[float, list[JobLine]]] = {}
        self._kept: deque[JobLine] = deque(maxlen=KEPT_MAX)

    def heard(self, peer: PeerId, lines: list[JobLine], now: float) -> None:
        """A program tells of its jobs; an empty list if it tells another node from now on."""
        if lines or peer in self._said:
            self._said[peer] = (now, lines)

    def gone(self, peer: PeerId, now: float, at: float) -> None:
        """The program is gone, at this time of day."""
        heard_at, lines = self._said.pop(peer, (now, []))
        if now - heard_at > STALE_SECONDS:
            return  # another node knows more
        own = [line for line in lines if owner_of(line.job) == peer]
        if len(own) < len(lines):
            self._counters.count("job-lines-not-theirs", len(lines) - len(own))
        for line in own[-KEPT_OF_ONE_MAX:]:
            if not line.ended:
                line = replace(line, state=OWNER_GONE, ended=at, leased=0, free=0, rate=0.0)
            self._kept.append(line)

    def lines(self, now: float | None = None) -> list[JobLine]:
        """Those of programs that are there, then those that are kept, the newest first."""
        said = [
            line
            for at, lines in self._said.values()
            if now is None or now - at <= STALE_SECONDS
            for line in lines
        ]
        return [*said, *reversed(self._kept)]

    def ended(self, job: JobId) -> JobLine | None:
        """The line of a job that has lost its program."""
        return next((line for line in reversed(self._kept) if line.job == job), None)


def one_a_job(lines: Sequence[JobLine]) -> dict[JobId, JobLine]:
    """One line for each job, where several peers tell of it: the one that has come furthest. The word of a peer that
    only knows that the program is gone counts least."""
    found: dict[JobId, JobLine] = {}
    for line in lines:
        known = found.get(line.job)
        if known is None or _how_far(line) > _how_far(known):
            found[line.job] = line
    return found


def _how_far(line: JobLine) -> tuple[bool, bool, int]:
    return line.state != OWNER_GONE, bool(line.ended), line.done
