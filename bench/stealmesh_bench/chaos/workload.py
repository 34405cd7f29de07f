"""What a workload is, and what it tells of a run: the words that all workloads and all stages share.

Decides nothing. Refuses to know what is worked on (`jobs` does) and what is broken meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from stealmesh import Mesh
from stealmesh_bench.chaos.figures import Goodput
from stealmesh_bench.chaos.ledger import Ledger, run_twice
from stealmesh_bench.chaos.report import ChaosReport

FAILURES_TOLD_MAX = 5


class Stuck(BaseException):
    """The job does not end. Not an Exception, so that leaving the mesh does not wait for it."""


@dataclass
class RunAccount:
    """What a workload has seen so far."""

    ledger: Ledger | None = field(default_factory=Ledger)
    """None: there are no items that could be counted."""
    goodput: Goodput = field(default_factory=Goodput)
    flow: float = 0.0
    """When work began to flow (time.monotonic)."""
    lag_seconds: float = 0.0
    """By how much the last fault was late; the work lasts as much longer."""
    runs: int = 0
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    """Of searches and of trees of tasks: nodes that there are, that were not counted, that were counted twice."""
    even: bool = True
    """Do results come so evenly that a recovery can be seen in them?"""
    only_once: bool = False
    """Is it a breach if anything runs twice, whatever dies?"""
    notes: list[str] = field(default_factory=list)

    def now(self) -> float:
        return time.monotonic() - self.flow

    def fails(self, text: str) -> None:
        """Something ended with an error that it should not have. It is a breach; the first ones are told."""
        if len(self.failed) < FAILURES_TOLD_MAX:
            self.failed.append(text)

    @property
    def flowed(self) -> bool:
        """Can a recovery be seen in the goodput?"""
        return self.even and (self.ledger is not None or self.accepted > 0)

    def tell(self, report: ChaosReport, log: str) -> None:
        """Fill in what was accepted and what came of it. `log`: where executions are noted."""
        report.breaches += self.failed
        report.notes += self.notes
        ledger = self.ledger
        if ledger is not None:
            report.accepted = ledger.accepted
            report.lost = 0 if report.stuck else ledger.lost
            report.duplicated, report.wrong = ledger.duplicated, ledger.wrong + ledger.unexpected
        else:
            report.accepted = self.accepted or self.runs
            report.wrong, report.duplicated = self.wrong, self.doubled
            report.lost = self.lost or len(self.failed)
        if ledger is not None or os.path.exists(log):
            report.run_twice = run_twice(log)
        if self.only_once and report.run_twice:
            report.breaches.append(f"run_twice: {report.run_twice}, of what may not")


@dataclass(frozen=True, slots=True)
class WorkloadRun:
    """One run of a workload."""

    mesh: Mesh
    nodes: int
    account: RunAccount
    seconds: float
    """For how long work flows."""
    patience_seconds: float
    """By how much later it must have ended."""
    log: str
    """Where executions are noted."""
    seed: int = 0
    """Of all that the workload draws by lot."""

    @property
    def lasting(self) -> bool:
        """Is more work to begin?"""
        return self.account.now() < self.seconds + self.account.lag_seconds

    @property
    def patience(self) -> float:
        """How long one thing that was submitted may take, in seconds."""
        return self.seconds + self.patience_seconds

    def error_of(self, future: Future[Any], what: str) -> BaseException | None:
        """How this future has ended, as soon as it has. Raises Stuck."""
        try:
            return future.exception(self.patience)
        except CancelledError as error:
            return error
        except TimeoutError:
            raise Stuck(f"{what} does not end") from None


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    perform: Callable[[WorkloadRun], None]
    prepare: Callable[[Mesh], None] = lambda mesh: None
    """Before anything is broken."""
