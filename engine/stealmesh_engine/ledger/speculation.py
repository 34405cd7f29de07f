"""The last stragglers of a job are lent a second time, and the first result counts: `options(speculate=True)`.

Decides which items are late, which node has room for a second copy, and that the slower holder hears when the
faster one is done. Refuses to know how the account stays right: that is the ledger's (second_copies.py).

An item is late when nothing of the job is free any more, and nothing has been heard of its lease for LATE_FACTOR
times as long as the job's items took on average, and for LATE_SECONDS at least. Of a job with no result yet,
nothing is late. A lease is not an item: its holder may not have begun it. That does no harm, since then it
waits behind something slow, and a second copy goes to idle workers only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from stealmesh_engine.config import Config
from stealmesh_engine.ledger.lent_twice import TwiceLentLedger
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.placement import Placement
from stealmesh_engine.ledger.second_copies import LentPiece, SecondCopies
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Part, Withdraw
from stealmesh_protocol.values import AGAIN, LACKING

LATE_FACTOR = 4.0
LATE_SECONDS = 0.5
COPY_SECONDS = 0.1
"""Cheap items of one lease are lent together, as many as take so long."""


@dataclass(slots=True)
class Pace:
    """How long items of one job take, and how long each of its leases has been silent."""

    items: int = 0
    seconds: float = 0.0
    slow: dict[PeerId, None] = field(default_factory=dict)
    """Nodes whose items another node finished first: they get no second copies until they report something."""
    _heard: dict[LeaseId, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.seconds / self.items

    def reported(self, holder: PeerId, parts: Iterable[Part], now: float) -> None:
        self.slow.pop(holder, None)
        for part in parts:
            self._heard[part.lid] = now
            if part.codec not in (AGAIN, LACKING):
                self.items += part.hi - part.lo
                self.seconds += part.seconds

    def late(self, ledger: TwiceLentLedger, chunk_items: int, now: float) -> list[LentPiece]:
        """What is late, and has no second copy: what has been silent for longest first."""
        leases = ledger.leases
        self._heard = {lid: self._heard.get(lid, now) for lid in leases}
        if not self.items:
            return []
        late: list[tuple[float, LentPiece]] = []
        for lid, lent in leases.items():
            together = min(max(1, chunk_items), lent.open.size)  # they are reported together
            silent = now - self._heard[lid]
            if silent >= max(LATE_SECONDS, LATE_FACTOR * self.mean * together):
                late += [
                    (-silent, LentPiece(lent.holder, lid, *part)) for part in ledger.lent_once(lid)
                ]
        return [piece for _, piece in sorted(late, key=lambda each: each[0])]

    def forgive(self, seconds: float) -> None:
        """This process did not run for some seconds, and could hear nothing."""
        self._heard = {lid: at + seconds for lid, at in self._heard.items()}

    def share(self) -> int:
        """How many late items go together."""
        return (
            1 if self.mean >= COPY_SECONDS else min(1024, int(COPY_SECONDS / max(self.mean, 1e-6)))
        )


class Speculation:
    """The second copies of all jobs of one owner."""

    def __init__(self, config: Config, links: Links, placement: Placement) -> None:
        self.config = config
        self.links = links
        self.placement = placement
        self._paces: dict[JobId, Pace] = {}

    def forgive(self, seconds: float) -> None:
        for pace in self._paces.values():
            pace.forgive(seconds)

    # ------------------------------------------------------------ what holders say

    def reported(
        self,
        job: IndexedJob,
        copies: SecondCopies,
        holder: PeerId,
        parts: list[Part],
        now: float,
    ) -> None:
        """This has been credited. Holders that were slower hear that it is not wanted any more: what they have
        not begun does not run."""
        pace = self._pace_of(job)
        pace.reported(holder, parts, now)
        until = now + self.config.lease_seconds
        for piece in copies.take_beaten():
            pace.slow[piece.holder] = None
            if job.lanes is not None:
                interval = [(piece.lo, piece.hi)]
                job.lanes.linger(piece.holder, piece.lid, interval, until)
            self.links.send(piece.holder, Withdraw(job.spec.job, [(piece.lo, piece.hi)]), now)

    # ------------------------------------------------------------ who gets a second copy

    def look(self, jobs: dict[JobId, OwnedJob], now: float) -> None:
        """Lend what is late a second time, as far as workers are idle."""
        for job in list(jobs.values()):
            if isinstance(job.ledger, TwiceLentLedger):
                assert isinstance(job, IndexedJob)
                self._look(job, job.ledger, jobs, now)
        for job_id in self._paces.keys() - jobs.keys():
            del self._paces[job_id]

    def _look(
        self, job: IndexedJob, ledger: TwiceLentLedger, jobs: dict[JobId, OwnedJob], now: float
    ) -> None:
        pace = self._pace_of(job)
        late = pace.late(ledger, job.spec.chunk_items, now)
        if not late or ledger.has_free or self.placement.side.withholds(now):
            return
        room = self._room(job, jobs)
        for piece in late:
            lo = piece.lo
            while lo < piece.hi:
                node = self._node_for(job, piece.holder, lo, room, now)
                if node is None or not has_lane(job):
                    break
                granted = ledger.lend_again(
                    node, lo, min(piece.hi, lo + pace.share()), now + self.config.lease_seconds
                )
                self.placement.say(job, node, 0, granted, now)
                self.placement.counters.count("items-lent-twice", granted[0].hi - lo)
                lo = granted[0].hi
                room[node] -= 1

    def _pace_of(self, job: IndexedJob) -> Pace:
        return self._paces.setdefault(job.spec.job, Pace())

    def _room(self, job: IndexedJob, jobs: dict[JobId, OwnedJob]) -> Counter[PeerId]:
        """Node → how many of its workers are idle, as far as this owner knows."""
        room = self.placement.candidates.workers_for(job)
        for each in jobs.values():
            room.subtract(each.ledger.out())
        return room

    def _node_for(
        self, job: IndexedJob, holder: PeerId, item: int, room: Counter[PeerId], now: float
    ) -> PeerId | None:
        """The node with most room that has not been slow itself, and has not declined the item."""
        barred = {} if job.passed is None else job.passed.barred(item, now)
        slow = self._pace_of(job).slow
        fit = [
            peer
            for peer, free in room.items()
            if free > 0
            and peer != holder
            and peer not in slow
            and peer not in job.lapsed
            and peer not in barred
        ]
        return max(fit, key=lambda peer: room[peer], default=None)


def has_lane(job: IndexedJob) -> bool:
    """May one more lease of it be out?"""
    return job.lanes is None or job.lanes.has_room(job.ledger.lids)
