"""What a scenario is: a timetable of faults as plain data, and what must come out of it.

Decides nothing and does nothing: `simulated` or `real` plays a scenario, and performs its faults at
their times, counted from the moment at which work flows. Nodes are numbered from 0; number 0 is
the seed of all others. The program that submits is CLIENT.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

CLIENT = -1

KINDS = {
    "kill": "the process ends at once (SIGKILL)",
    "silence": "the machine goes off: not even a refusal comes back",
    "start": "a new life at the same address",
    "pause": "the process stands still for a while (SIGSTOP, SIGCONT)",
    "drain": "the process is asked to leave (SIGTERM)",
    "cut": "nothing gets from `nodes` to `others` for a while",
    "delay": "all that these nodes say and hear is late for a while",
    "reset": "all connections of these nodes break",
    "half-open": "their peers are not told that the connections of these nodes are gone",
    "corrupt": "one octet of what these nodes are sent is flipped",
    "rival": "a second program submits work that goes first",
    "kill-rival": "that program is killed",
    "slow-disk": "the disk of one replica of the durable job needs long for each commit",
    "full-disk": "the disks of some nodes are full for a while",
    "power": "the next deaths are power failures: what was not made sure of is gone",
    "spoil": "the logs of some replicas are damaged while all are dead",
    "kill-submitter": "the program that launched the durable job is killed",
}
PROXIED = frozenset({"silence", "cut", "delay", "reset", "half-open", "corrupt"})
"""Kinds that need a proxy in front of each real process."""
TARGETS = ("supernode", "seed", "entry", "victim", "submitter", "durable-submitter",
           "minority", "all", "any")  # fmt: skip
ENTRY = 1
"""The node through which the program joins (of several)."""


class CannotPlay(Exception):
    """The scenario cannot be played with these options."""


@dataclass(frozen=True, slots=True)
class ChaosFault:
    """One thing that goes wrong, or is put right again."""

    at_seconds: float
    kind: str
    nodes: tuple[int, ...] = ()
    target: str = ""
    """Instead of `nodes`: the node that plays this part when the time has come."""
    seconds: float = 0.0
    """For how long, where a fault passes by itself."""
    others: tuple[int, ...] = ()
    delay_seconds: float = 0.0
    how: str = ""
    """Of a damaged log: one of `platters.SPOILS`."""
    forgetful: bool = False
    """Of a start: the node remembers the seed's address alone."""

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds of figures; None: the figure is only reported."""

    recovered_90_seconds: float | None = None
    recovered_97_seconds: float | None = None
    detection_p99_seconds: float | None = None
    agreed_seconds: float | None = None
    supernodes_restored_seconds: float | None = None
    flowing_again_seconds: float | None = None
    false_verdicts: int | None = 0
    run_twice_share: float | None = None
    growth_mib: float | None = None
    """Of the memory of the submitter and of spared nodes."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drawn scenario."""

    name: str
    seed: int
    nodes: int
    faults: tuple[ChaosFault, ...]
    seconds: float
    """Seconds for which work flows."""
    bounds: Bounds
    recovery_from: float | None = None
    """When the clock of the recovery begins to run; None: there is nothing to recover from."""
    agreement_from: float = 0.0
    """From then on all nodes should agree on the members."""
    together: bool = False
    """All nodes start at the same moment, knowing only the seed."""
    toil: bool = False
    """In virtual time: hearing takes time, so that a herd is a burden."""
    spared: tuple[int, ...] = ()
    """Nodes that nothing happens to."""
    work_seconds: float | None = None
    """The work is one durable job, launched by a program that dies and collected by another; it would
    keep all nodes busy for this time. None: work of the submitting program, as long as it is to flow."""

    @property
    def durable(self) -> bool:
        return self.work_seconds is not None

    @property
    def stops(self) -> bool:
        """Does every node end at the same moment?"""
        return any(
            fault.kind in ("kill", "silence") and len(fault.nodes) == self.nodes
            for fault in self.faults
        )

    def items(self, item_seconds: float) -> int:
        """How many items the durable job has."""
        assert self.work_seconds is not None
        return max(self.nodes, round(self.nodes * self.work_seconds / item_seconds))

    @property
    def proxied(self) -> bool:
        return any(fault.kind in PROXIED for fault in self.faults)

    def up_at(self, seconds: float) -> float:
        """Nodes at work at this moment, according to the timetable."""
        up = [True] * self.nodes
        count = float(self.nodes)
        for fault in sorted(self.faults, key=lambda each: each.at_seconds):
            if fault.at_seconds > seconds:
                break
            ends = fault.kind in ("kill", "silence", "drain")
            if fault.target:
                # One fewer, in any case. The submitter of the scenario itself goes on.
                count -= ends
            for number in fault.nodes:
                if ends and up[number]:
                    up[number], count = False, count - 1
                elif fault.kind == "start" and not up[number]:
                    up[number], count = True, count + 1
        return max(0.0, count)

    def node_seconds(self) -> float:
        """Seconds of work, of all nodes together, that keep all nodes busy until the end."""
        edges = sorted({0.0, self.seconds, *(fault.at_seconds for fault in self.faults)})
        inside = [edge for edge in edges if edge <= self.seconds]
        return sum((end - begin) * self.up_at(begin) for begin, end in pairwise(inside))
