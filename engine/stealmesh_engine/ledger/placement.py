"""Leasing out what is free: the grants, and the jobs that wait for a node.

Decides how much one lease covers, whether a thief gets what its victim gave up, and when a job that no
node can run is given up. Refuses to know which node is best (candidates.py) and what results are worth
(crediting.py). Free work is not held back: it goes to the reachable node that holds least of the job, and
the mesh's stealing does the rest.

Invariant: a job with free work is in `unplaced` after every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Effect, NobodyCan
from stealmesh_engine.ledger.candidates import Candidates
from stealmesh_engine.ledger.declined import (
    NOBODY_REMEDY,
    NOBODY_SAID_SECONDS,
    NOBODY_SECONDS,
    nobody_can,
)
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.ledger.partition_guard import PartitionGuard
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import CAME_BACK, Grant


@dataclass(slots=True, eq=False)
class Placement:
    """Gives free work to nodes."""

    config: Config
    links: Links
    journal: Journal
    effects: list[Effect]
    counters: Counters
    candidates: Candidates
    side: PartitionGuard = field(init=False)
    unplaced: dict[JobId, None] = field(default_factory=dict)
    """Jobs with free work that no reachable node could be given yet."""

    def __post_init__(self) -> None:
        self.side = PartitionGuard(self.config, self.links)

    # ------------------------------------------------------------ grants

    def lease_out(self, job: OwnedJob, now: float) -> bool:
        """Lease out what is free. False if something waits for a node, or for the primary's leave."""
        placed = job.keeping is None or job.keeping.may_lease()
        while placed and job.ledger.has_free:
            node = None if self.side.withholds(now) else self.candidates.next_for(job, now)
            if node is None:
                placed = False
            else:
                self._grant(job, node, 0, now)
        if placed:
            self.unplaced.pop(job.spec.job, None)
        else:
            self.unplaced[job.spec.job] = None
        return placed

    def grant_stolen(
        self, job: OwnedJob, victim: PeerId, thief: PeerId, nonce: int, now: float
    ) -> None:
        """All that is free goes to the thief, since the victim has just given it up for it. What the
        thief cannot run stays where it was."""
        alive = thief not in self.links.mute and self.links.view.is_alive(thief)
        if not alive or self.side.withholds(now):
            return
        alike = self.candidates.has_runtime(job, thief)
        while job.ledger.has_free:
            passed = job.passed
            barred = {} if passed is None else passed.barred(job.ledger.first_free, now)
            if alike and thief not in barred:
                self._grant(job, thief, nonce, now)
            elif victim not in barred and self.candidates.may_run(job, victim):
                useless = not alike or (passed is not None and thief in passed.nodes)
                self._grant(job, victim, CAME_BACK if useless else 0, now)
            else:
                return

    def _grant(self, job: OwnedJob, holder: PeerId, nonce: int, now: float) -> None:
        reach = None if job.passed is None else job.passed.reach(job.ledger.first_free)
        deadline = now + self.config.lease_seconds
        lease, blocks, blobs = job.ledger.grant(holder, deadline, reach)
        job.told[holder] = None
        self.journal.tell(now, "granted", job.spec.job, lease.lid, holder)
        self.links.send(holder, Grant(job.spec, [lease], blocks, nonce, blobs), now)

    # ------------------------------------------------------------ jobs that wait

    def forget(self, job_id: JobId) -> None:
        """Nothing of this job waits any more."""
        self.unplaced.pop(job_id, None)

    def watch_side(self, now: float) -> None:
        """Are we on the lesser side of a cut (if that is to matter)?"""
        if self.side.look(now):
            self.journal.tell(now, "leases nothing" if self.side.lesser else "leases again")
        if self.side.lesser:
            self.counters.count("beats-on-the-lesser-side")

    def watch_stuck(self, job: OwnedJob, now: float) -> str:
        """There may be nodes, and none with the Python of this job: tell the program after a while.

        Returns why the job is to be given up, if it is. A durable job waits: its program may be gone, and
        nodes with its Python may come.
        """
        nodes = [] if self.side.withholds(now) else self.candidates.strangers(job)
        if not nodes:
            job.stuck_since, job.why_stuck = None, ""
            return ""
        job.why_stuck = nobody_can(job.spec, nodes)
        if job.stuck_since is None:
            job.stuck_since = now
            return ""
        stuck_seconds = now - job.stuck_since
        why = f"{job.why_stuck}: {NOBODY_REMEDY}"
        if stuck_seconds >= NOBODY_SAID_SECONDS and not job.said_stuck:
            job.said_stuck = True
            self.effects.append(NobodyCan(job.spec.job, why))
        return why if stuck_seconds >= NOBODY_SECONDS and job.keeping is None else ""
