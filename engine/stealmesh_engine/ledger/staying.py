"""Results that stay on their holders, as far as the ledger is concerned.

Decides which result of an item counts where it was made twice, that the input of an item is kept as long as
its result may have to be made again, and that an item runs again when its result is lost: credited → free. What
was delivered stays delivered. Refuses to know who has copies, and who needs them (`data/results.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stealmesh_engine.base.blocks import Input
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.ledger.lacking import Lacking
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.verdicts import Credited, Verdict
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId, item_of, value_of_item
from stealmesh_protocol.messages import Needs, Part

ENDED_OTHERWISE = (
    "its call was run again and ended otherwise: it raised, or its result does not stay"
)


class ResultsMade(Protocol):
    """What an owner knows of its results (`data/results.py`)."""

    def counts(
        self,
        value: ValueId,
        octets: int,
        holder: PeerId,
        making: LeaseId,
        inputs: Needs,
        now: float,
        *,
        again: bool,
    ) -> bool:
        """This making of the value counts. False: nothing needs it any more."""

    def does_not_count(self, value: ValueId, holder: PeerId, making: LeaseId, now: float) -> None:
        """The holder is to let go of it."""

    def cannot(self, value: ValueId, why: str, now: float) -> None:
        """It cannot be made again."""


class Staying:
    """The results of all jobs of one owner that stay where they were made."""

    def __init__(
        self,
        jobs: dict[JobId, OwnedJob],
        changed: Callable[[OwnedJob, float], None],
        lacking: Lacking,
    ) -> None:
        self._jobs = jobs
        self._lacking = lacking
        self._changed = changed
        """Leases out what is free, and notices the end of a job."""
        self._results: ResultsMade

    def tells(self, results: ResultsMade) -> None:
        """From now on, tell these of what is made."""
        self._results = results

    # ------------------------------------------------------------ what holders report

    def judged(
        self,
        job: IndexedJob,
        holder: PeerId,
        part: Part,
        verdict: Verdict,
        fed: list[Input],
        now: float,
    ) -> list[tuple[int, int]]:
        """A report of items that came in these blocks has been judged. Returns what of it is to be delivered: what
        was not delivered before."""
        counted = IntervalSet(verdict.intervals if isinstance(verdict, Credited) else ())
        ledger, fresh = job.ledger, counted.copy()
        again = {item for item in ledger.again if counted.covers(item, item + 1)}
        for item in again:
            ledger.made_again(item)
            fresh.remove(item, item + 1)
        for item, octets in part.stays:
            value = value_of_item(job.spec.job, item)
            if not counted.covers(item, item + 1):
                self._results.does_not_count(value, holder, part.lid, now)
            elif self._results.counts(
                value, octets, holder, part.lid, _inputs(job, item, fed), now, again=item in again
            ):
                ledger.keep_recipe(item, fed)
        for item in again - {item for item, _ in part.stays}:
            self._results.cannot(value_of_item(job.spec.job, item), ENDED_OTHERWISE, now)
        for item in again:
            self._lacking.settled(value_of_item(job.spec.job, item))
        return list(fresh)

    def too_late(self, job: JobId, holder: PeerId, parts: list[Part], now: float) -> None:
        """These are results of a job that is over."""
        for part in parts:
            for item, _ in part.stays:
                self._results.does_not_count(value_of_item(job, item), holder, part.lid, now)

    # ------------------------------------------------------------ losses

    def again(self, value: ValueId, times: int, now: float) -> str:
        job, item = self._made_by(value)
        if job is None:
            return "the job of its call is over"
        if times > job.spec.attempts_max:
            return f"it was lost {times} times, each time with the last node that had it"
        if not job.ledger.lose(item):
            return "its call is not there any more"
        self._lacking.begins(value)
        self._changed(job, now)
        return ""

    def forget(self, value: ValueId, now: float) -> None:
        job, item = self._made_by(value)
        if job is not None:
            job.ledger.forget_recipe(item)
            self._lacking.settled(value)
            self._changed(job, now)

    def _made_by(self, value: ValueId) -> tuple[IndexedJob | None, int]:
        found = item_of(value)
        assert found is not None, "a value that was put on the mesh has no call"
        job = self._jobs.get(found[0])
        return (job if isinstance(job, IndexedJob) else None), found[1]


def _inputs(job: IndexedJob, item: int, fed: list[Input]) -> Needs:
    """The results that this item needs."""
    needs = list(job.spec.needs)
    for block, _ in fed:
        if block.lo <= item < block.hi:
            needs += block.needs
    return tuple(each for each in needs if item_of(each) is not None)
