"""What nodes believed about each other: how soon they knew of a death, and who was declared dead alive.

Pure. Takes lives (when each began, died or stood still) and glimpses (`eyes`). Gives detection times,
false verdicts and the moment from which all agreed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_bench.chaos.eyes import BORN, DEAD, DROPPED, LEFT, Glimpse
from stealmesh_bench.chaos.figures import Durations
from stealmesh_engine.membership.dissemination import EVERYBODY_MAX

AWAKE_SECONDS = 0.5
"""A process that has run for this long should be believed alive by all others."""
ONE_ALARM_SECONDS = 2.0
"""Verdicts on one process so close to each other are one mistake that travels."""


@dataclass(slots=True)
class KnownLife:
    """One life of a process, as the harness knows it."""

    began: float
    ended: float | None = None
    silent: list[tuple[float, float]] = field(default_factory=list)
    """When it stood still, or could not hear or be heard: from, to."""

    def runs_at(self, at: float) -> bool:
        """Is it up, and awake for AWAKE_SECONDS?"""
        if self.ended is not None and at >= self.ended:
            return False
        return not any(begin <= at <= end + AWAKE_SECONDS for begin, end in self.silent)

    def all_ears(self, begin: float, end: float) -> bool:
        """Could it hear all the time between these moments?"""
        return self.began <= begin and not any(b < end and e > begin for b, e in self.silent)


class Beliefs:
    def __init__(self) -> None:
        self.lives: dict[int, KnownLife] = {}
        self.detections = Durations()
        """For every death and every survivor: from the death until this survivor knew."""
        self.false: list[Glimpse] = []
        """The first glimpse of each verdict on a process that ran."""
        self._alarms: dict[int, float] = {}

    def born(self, pid: int, at: float) -> None:
        self.lives[pid] = KnownLife(at)

    def died(self, pid: int, at: float) -> None:
        life = self.lives.get(pid)
        if life is not None and life.ended is None:
            life.ended = at

    def silent(self, pid: int, begin: float, end: float) -> None:
        if pid in self.lives:
            self.lives[pid].silent.append((begin, end))

    def saw(self, glimpse: Glimpse) -> None:
        """One change of mind; told in the order of time, when all lives up to then are known."""
        subject, observer = self.lives.get(glimpse.of), self.lives.get(glimpse.who)
        if subject is None or observer is None:
            return
        if glimpse.what == DEAD:
            self._buried(glimpse, subject, observer)

    def _buried(self, glimpse: Glimpse, subject: KnownLife, observer: KnownLife) -> None:
        at = glimpse.at
        if subject.ended is not None and subject.ended <= at:
            if observer.all_ears(subject.ended, at):
                self.detections.add(at - subject.ended)
        elif subject.runs_at(at) and at - self._alarms.get(glimpse.of, -1e9) > ONE_ALARM_SECONDS:
            self._alarms[glimpse.of] = at
            self.false.append(glimpse)

    @property
    def false_verdicts(self) -> int:
        return len(self.false)


def agreed_at(glimpses: list[Glimpse], living: set[int]) -> tuple[float, str]:
    """The last change of a living node's mind, and how they differ even then (empty: they agree).

    In larger meshes a node need only know those around it.
    """
    believed: dict[int, set[int]] = {pid: {pid} for pid in living}
    last = 0.0
    for glimpse in glimpses:
        if glimpse.who not in believed:
            continue
        alive = believed[glimpse.who]
        before = len(alive)
        if glimpse.what == BORN:
            alive.add(glimpse.of)
        elif glimpse.what in (DEAD, LEFT, DROPPED):
            alive.discard(glimpse.of)
        if len(alive) != before:
            last = glimpse.at
    for pid, alive in sorted(believed.items()):
        missing = sorted(living - alive) if len(living) <= EVERYBODY_MAX else []
        ghosts = sorted(alive - living)
        if missing or ghosts:
            return last, f"process {pid} misses {missing} and believes in {ghosts}"
    return last, ""
