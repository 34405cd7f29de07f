"""Checks that no item which was put off is leased before its time.

It reads the time in what the worker said, and the leases in what the owner grants, so it believes no
account. Refuses to know why an item is put off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from stealmesh_engine.effects import ItemWaits
from stealmesh_engine.events import Event, Heard, HiredAnswer
from stealmesh_protocol.ids import JobId, LeaseId
from stealmesh_protocol.messages import Grant, Lease, Report
from stealmesh_protocol.values import AGAIN, again_in
from stealmesh_sim.kernel import Breach


class Timed(Protocol):
    """What tells the time."""

    @property
    def now(self) -> float: ...


class LaterItems:
    """The items of all owners that wait for their time."""

    def __init__(self, clock: Timed) -> None:
        self.count = 0
        """How often an item was put off."""
        self._clock = clock
        self._until: dict[tuple[JobId, int], float] = {}
        self._asked: dict[tuple[JobId, int], float] = {}
        """Items that workers have just put off, and for how long."""
        self._before: dict[tuple[JobId, int], float] = {}
        """Those of earlier steps: what was said of an item before its inputs count is judged when they do."""
        self._granted: set[tuple[JobId, LeaseId]] = set()

    def heard(self, events: Iterable[Event]) -> None:
        """An owner hears which items are put off, perhaps by two holders, one of them stale."""
        self._before |= self._asked
        self._asked.clear()
        for event in events:
            report: Any = None
            if type(event) is Heard and type(event.message) is Report:
                report = event.message
            elif type(event) is HiredAnswer:
                report = Report(event.job, [event.part], [event.blob])
            if report is not None:
                for part, blob in zip(report.parts, report.blobs, strict=True):
                    if part.codec == AGAIN:
                        item, seconds = (report.job, part.lo), again_in(blob)[0]
                        self._asked[item] = min(seconds, self._asked.get(item, seconds))

    def put_off(self, effect: ItemWaits) -> None:
        """The owner keeps this item until later."""
        self.count += 1
        item = effect.job, effect.item
        asked = self._asked if item in self._asked else self._before
        self._until[item] = self._clock.now + max(0.0, asked.pop(item))

    def granted(self, grant: Grant) -> None:
        """A grant may be said again on a new connection: that leases nothing."""
        self.leased(grant.spec.job, grant.leases)

    def leased(self, job: JobId, leases: Iterable[Lease]) -> None:
        """By a grant, or to a hired worker."""
        fresh = [lease for lease in leases if (job, lease.lid) not in self._granted]
        self._granted.update((job, lease.lid) for lease in fresh)
        for of, item in list(self._until):
            if of == job and any(lease.lo <= item < lease.hi for lease in fresh):
                early = self._until.pop((job, item)) - self._clock.now
                if early > 0:
                    raise Breach("control", f"item {item} was leased {early:.3f} s before its time")
