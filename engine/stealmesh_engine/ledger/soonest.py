"""At which node an item that needs values is over soonest.

Decides by one sum: the seconds that its values travel to a node, by their octets and the measured speed of the
line, and the seconds of work that wait there. Refuses to know where values are (`data/directory.py`) and which
nodes may run the item (`candidates.py`). Items that need no values never come here.

What waits at a node is the larger of two: what its last beat says, which others may have sent, and what we have
leased to it, as it may not have heard of that yet.

Idea: minimum completion time (Braun et al. 2001); the same sum in Legion's and dask's placing of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Needs

ASSUMED_ITEM_SECONDS = 0.05
"""What an item takes as long as none of its job has ended. Too long: values move to idle nodes without need; too
short: all items follow one value to its node, and thieves carry them away again."""

JOBS_MAX = 32
"""The most jobs whose leases are counted. More: an item of each of many functions costs a look at all of them."""


class Moving(Protocol):
    """Some values, with where they are and go."""

    def seconds(self, peer: PeerId) -> float:
        """How long those that are not at this peer, or on its host, travel to it."""


class Whereabouts(Protocol):
    """Knows where values are."""

    def moving(self, needs: Needs) -> Moving: ...


class Nowhere:
    """No values are known."""

    def moving(self, needs: Needs) -> Moving:
        del needs
        return self

    def seconds(self, peer: PeerId) -> float:
        del peer
        return 0.0


def needs_of_first(ledger: IndexedLedger) -> Needs:
    """The values that the item which is leased next needs, beside what the whole job needs."""
    if not ledger.free.size:
        return ()
    item = ledger.free.first
    fed = ledger.inputs.at(item)
    needs = () if fed is None else fed[0].needs
    stay = () if ledger.edges is None else ledger.edges.values_into(item)
    return tuple({*needs, *stay}) if stay else needs


class Soonest:
    def __init__(self) -> None:
        self._whereabouts: Whereabouts = Nowhere()
        self.queued: dict[PeerId, float] = {}
        """The seconds of work that each node said it has for each of its workers."""
        self._jobs: dict[JobId, IndexedJob] = {}
        """Jobs whose items were placed here. The one that was looked at last is the last."""

    def ask(self, whereabouts: Whereabouts) -> None:
        self._whereabouts = whereabouts

    def beat(self, peer: PeerId, queued_seconds: float, workers: int) -> None:
        """A node says how many seconds one worker would need for what waits there."""
        if queued_seconds:
            self.queued[peer] = queued_seconds / max(1, workers)
        else:
            self.queued.pop(peer, None)

    def forget(self, peer: PeerId) -> None:
        self.queued.pop(peer, None)

    def node_for(
        self, job: IndexedJob, needs: Needs, nodes: Iterable[tuple[PeerId, int]]
    ) -> PeerId | None:
        """Of these nodes, with their numbers of workers; of equals the one with the fewest leases of the job, then
        the first."""
        moving, leased = self._whereabouts.moving(needs), self._leased(job)
        best, least = None, (0.0, 0)
        for peer, workers in nodes:
            ours = sum(ledger.load_of(peer) * seconds for ledger, seconds in leased)
            waits = max(self.queued.get(peer, 0.0), ours / max(1, workers))
            sooner = (moving.seconds(peer) + waits, job.ledger.load_of(peer))
            if best is None or sooner < least:
                best, least = peer, sooner
        return best

    def _leased(self, job: IndexedJob) -> list[tuple[IndexedLedger, float]]:
        """The accounts of this job and those before it, each with the seconds that one of its leases takes."""
        if job.item_seconds is None:
            job.item_seconds = ASSUMED_ITEM_SECONDS
        self._jobs.pop(job.spec.job, None)
        self._jobs = {key: each for key, each in self._jobs.items() if not each.done}
        if len(self._jobs) >= JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[job.spec.job] = job
        return [
            (each.ledger, (each.item_seconds or 0.0) * each.ledger.leased / len(each.ledger.leases))
            for each in self._jobs.values()
            if each.ledger.leases
        ]
