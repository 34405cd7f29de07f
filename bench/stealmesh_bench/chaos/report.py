"""What came of a run: the figures, the verdict, and the command that repeats it.

Decides which figures are breaches. Refuses to know how they were measured. Loss, doubling, wrong
values and jobs that do not end are breaches always; the rest as the scenario's bounds say.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from stealmesh_bench.chaos.scenario import Bounds

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening

DRAWN = frozenset({"breaches", "timeline", "marks", "found", "began", "unread"})
"""What is no figure."""


@dataclass(slots=True)
class ChaosReport:
    """One run. None: this run has no such figure."""

    scenario: str
    seed: int
    nodes: int
    sim: bool
    replay: str
    workload: str = ""
    killed: int = 0
    accepted: int | None = None
    """Items that the mesh took."""
    lost: int | None = None
    duplicated: int | None = None
    wrong: int | None = None
    """Items, or answers of a user's own job, with a value that is not right."""
    run_twice: int | None = None
    resigned: int | None = None
    """Living supernodes that gave the role up."""
    stuck: int = 0
    """Jobs that did not end."""
    in_flight: int | None = None
    """Of a full stop: items that had begun and were not known to be safe; no others may run twice."""
    flowing_again_s: float | None = None
    """From the fault (or, after a full stop, the last start) until the program that collects was given
    a result that no program had before."""
    detection_p50_s: float | None = None
    detection_p99_s: float | None = None
    false_verdicts: int | None = None
    recovered_90_s: float | None = None
    recovered_97_s: float | None = None
    agreed_s: float | None = None
    supernodes_restored_s: float | None = None
    control_messages_per_leaf_s: float | None = None
    control_bytes_per_leaf_s: float | None = None
    growth_mib: float | None = None
    rss_mib: dict[str, list[float]] = field(default_factory=dict)
    """Spared process → MiB at a third of the run, and at its end."""
    goodput_before: float | None = None
    goodput_wanted: float | None = None
    """The rate that the survivors should reach, from what all did before."""
    wall_s: float = 0.0
    simulated_s: float | None = None
    trace: str | None = None
    """Of a simulated run: one number for all that happened."""
    notes: list[str] = field(default_factory=list)
    """Notes that help to understand a breach."""
    breaches: list[str] = field(default_factory=list)
    timeline: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, items a second), for the picture."""
    marks: list[tuple[float, str]] = field(default_factory=list)
    """(seconds, what was done), for the picture."""
    found: list[Happening] = field(default_factory=list)
    """What the nodes remember, in order of time, for the picture."""
    began: float = 0.0
    """When work began to flow, in the time of `found`."""
    unread: int = 0
    """Entries that the nodes did not remember any more."""

    def judge(self, bounds: Bounds, measured: Measured) -> None:
        """Add what is not as it should be to the breaches."""
        for name in ("lost", "duplicated", "wrong", "stuck", "resigned"):
            count = getattr(self, name)
            if count:
                self.breaches.append(f"{name}: {count}")
        self._at_most("detection_p99_s", bounds.detection_p99_seconds, True)
        self._at_most("recovered_90_s", bounds.recovered_90_seconds, measured.recovery)
        self._at_most("recovered_97_s", bounds.recovered_97_seconds, measured.recovery_97)
        self._at_most("agreed_s", bounds.agreed_seconds, measured.agreement)
        self._at_most(
            "supernodes_restored_s", bounds.supernodes_restored_seconds, measured.supernodes
        )
        self._at_most("flowing_again_s", bounds.flowing_again_seconds, True)
        self._at_most("false_verdicts", bounds.false_verdicts, True)
        self._at_most("growth_mib", bounds.growth_mib, True)
        share, ran, accepted = bounds.run_twice_share, self.run_twice, self.accepted
        if share is not None and ran is not None and accepted and ran > share * accepted:
            self.breaches.append(f"run_twice: {ran} of {accepted}, more than {share:.0%}")
        if self.in_flight is not None and ran is not None and ran > self.in_flight:
            self.breaches.append(f"run_twice: {ran}, but only {self.in_flight} were in flight")

    def _at_most(self, name: str, bound: float | None, measured: bool) -> None:
        """A figure within its bound; `measured`: it was looked for, so that none is too late."""
        value = getattr(self, name)
        if bound is None:
            return
        if value is None:
            if measured and name.startswith(("recovered", "agreed", "supernodes", "flowing")):
                self.breaches.append(f"{name}: not within what was observed (at most {bound:g})")
        elif value > bound:
            self.breaches.append(f"{name}: {value:g}, at most {bound:g}")

    @property
    def verdict(self) -> str | list[str]:
        return self.breaches or "pass"

    def as_object(self) -> dict[str, Any]:
        """What --json prints."""
        figures = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in DRAWN
        }
        return {**figures, "verdict": self.verdict, "replay": self.replay}


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures that this run could measure."""

    recovery: bool = False
    recovery_97: bool = False
    agreement: bool = False
    supernodes: bool = False


def together(reports: list[ChaosReport], replay: str) -> dict[str, Any]:
    """Several runs as one object: sums of what must not happen, the worst of what takes time."""
    said: dict[str, Any] = reports[0].as_object()
    for name in ("killed", "accepted", "lost", "duplicated", "wrong", "run_twice", "in_flight",
                 "stuck", "resigned", "false_verdicts"):  # fmt: skip
        values = [getattr(each, name) for each in reports]
        said[name] = None if None in values else sum(values)
    for name in ("detection_p50_s", "detection_p99_s", "recovered_90_s", "recovered_97_s",
                 "flowing_again_s", "agreed_s", "supernodes_restored_s", "growth_mib",
                 "control_messages_per_leaf_s", "control_bytes_per_leaf_s"):  # fmt: skip
        found = [value for each in reports if (value := getattr(each, name)) is not None]
        said[name] = max(found, default=None)
    said["wall_s"] = sum(each.wall_s for each in reports)
    breaches = [f"seed {each.seed}: {what}" for each in reports for what in each.breaches]
    return {
        **said,
        "runs": [each.as_object() for each in reports],
        "verdict": breaches or "pass",
        "replay": replay,
    }
