"""Items that stay at their owner because a result that they need is being made again.

Decides that such an item is not leased out before that result is there, and that it is free at once when it is.
Refuses to know who makes the result, and what is made again (`data/results.py`).

A node could wait for the result as well, and does so for a moment. But a job that is leased out in rounds
(dealing.py) has a bound on its leases: if items that wait have them all, the calls that make what these wait for
get none, and all wait for ever (world 20601). So a node gives such items back (`holding/shortage.py`), and
here they take up no lease.
"""

from __future__ import annotations

from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.put_off import Alarms
from stealmesh_engine.ledger.soonest import needs_of_first
from stealmesh_protocol.ids import JobId, ValueId, item_of

LOOK_AGAIN_SECONDS = 5.0
"""An item that waits is looked at again after this time, if nothing was heard of what it waits for."""


class Lacking:
    """What waits at one owner for results of its own calls."""

    def __init__(self, jobs: dict[JobId, OwnedJob], alarms: Alarms) -> None:
        self._jobs = jobs
        self._alarms = alarms
        self.made_again: set[ValueId] = set()
        """Results that are on their way, after a loss."""
        self._waiting: dict[ValueId, dict[tuple[JobId, int], None]] = {}

    def begins(self, value: ValueId) -> None:
        """This result is lost, and its call runs again."""
        self.made_again.add(value)

    def holds_back(self, job: OwnedJob, now: float) -> bool:
        """Does the first free item of this job need a result that is made again? Then it is not free any more."""
        if not isinstance(job, IndexedJob):
            return False
        item = job.ledger.first_free
        value = next(filter(self.made_again.__contains__, needs_of_first(job.ledger)), None)
        if value is None:
            return False
        self._waiting.setdefault(value, {})[job.spec.job, item] = None
        job.ledger.put_off_free(item, now + LOOK_AGAIN_SECONDS)
        self._alarms.set(job.spec.job, job.ledger.putting_off().next_at)
        return True

    def waits_for(self, job: JobId, item: int) -> ValueId | None:
        """The result that this item waits for; None: it waits for none."""
        return next((each for each, some in self._waiting.items() if (job, item) in some), None)

    def settled(self, value: ValueId) -> None:
        """This result is there, or will never be: what waited for it goes on."""
        self.made_again.discard(value)
        for job_id, item in self._waiting.pop(value, ()):
            job = self._jobs.get(job_id)
            if isinstance(job, IndexedJob):
                put_off = job.ledger.putting_off()
                put_off.wait_no_more(item)
                self._alarms.set(job_id, put_off.next_at)

    def job_over(self, job: JobId) -> None:
        """Nothing of this job is made any more, and nothing of it waits."""
        for value in [each for each in self.made_again if _made_by(each) == job]:
            self.settled(value)
        for value, some in list(self._waiting.items()):
            for name in [each for each in some if each[0] == job]:
                del some[name]
            if not some:
                del self._waiting[value]

    @property
    def is_empty(self) -> bool:
        """Does nothing wait?"""
        return not self._waiting


def _made_by(value: ValueId) -> JobId:
    found = item_of(value)
    assert found is not None, "a value that was put on the mesh has no call"
    return found[0]
