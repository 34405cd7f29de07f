"""Leasing out what is free: the grants, and the jobs that wait for a node.

Decides how much one lease covers, whether a thief gets what its victim gave up, and when a job that no
node can run is given up. Refuses to know which node is best (candidates.py) and what results are worth
(crediting.py). Free work is not held back (dealing.py says which jobs are an exception): it goes to the reachable
node that holds least of the job, and the mesh's stealing does the rest.

Invariant: a job with free work that it may lease is in `unplaced` after every step.
"""

from __future__ import annotations

from msgspec.structs import replace

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import NobodyCan
from stealmesh_engine.ledger.candidates import Candidates
from stealmesh_engine.ledger.dealing import Priorities, Round, Turn
from stealmesh_engine.ledger.job_ledger import Grantable
from stealmesh_engine.ledger.lacking import Lacking
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.partition_guard import PartitionGuard
from stealmesh_engine.ledger.passed_over import (
    MODE_REMEDY,
    NOBODY_REMEDY,
    NOBODY_SAID_SECONDS,
    NOBODY_SECONDS,
    has_mode,
    has_runtime,
    nobody_can,
)
from stealmesh_engine.ledger.requirements import RESOURCES_REMEDY, nobody_has
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import BEGINS, CAME_BACK, Grant, JobSpec, Lease, Member
from stealmesh_protocol.values import NOT_REGISTERED, UNLOADABLE, UNPLACEABLE

SETTLED_SECONDS = 2.0
"""A job whose resources no node has is given up once no node has come or gone for this long."""


class Placement:
    """Gives free work to nodes."""

    def __init__(
        self, context: Context, links: Links, candidates: Candidates, lacking: Lacking
    ) -> None:
        self.config = context.config
        self.links = links
        self.journal = context.journal
        self.effects = context.effects
        self.counters = context.counters
        self.candidates = candidates
        self.lacking = lacking
        self.side = PartitionGuard(self.config, links)
        self.unplaced: dict[JobId, None] = {}
        """Jobs with free work that no reachable node could be given yet."""
        self.priorities = Priorities()
        self._nodes_changed_at = -1e9

    # ------------------------------------------------------------ grants

    def lease_out(self, job: OwnedJob, now: float) -> bool:
        """Lease out what is free. False if something waits for a node, or for the primary's leave."""
        if job.keeping is not None and not job.keeping.may_lease():
            placed = False
        else:
            placed = not job.ledger.has_free or self._lease_free(job, now)
        if placed:
            self.unplaced.pop(job.spec.job, None)
        else:
            self.unplaced[job.spec.job] = None
        return placed

    def _lease_free(self, job: OwnedJob, now: float) -> bool:
        """False if something waits for a node."""
        ledger, turn = job.ledger, self.turn(job)
        while turn is None or turn.has_room(ledger.lids):
            if self.lacking.made_again and self._holds_all_back(job, now):
                return True
            node = None if self.side.withholds(now) else self.candidates.next_for(job, now)
            if node is None:
                return False
            items = None if turn is None else turn.items(ledger.free_items)
            self._grant(job, node, 0, now, items)
            if not ledger.has_free:
                return True
        return True

    def _holds_all_back(self, job: OwnedJob, now: float) -> bool:
        """What comes first does not wait for a result that is made again; True: nothing is left then."""
        while job.ledger.has_free and self.lacking.holds_back(job, now):
            pass
        return not job.ledger.has_free

    def turn(self, job: OwnedJob) -> Turn | None:
        """How it is leased out in rounds; None: all of it at once."""
        if job.lanes is not None or job.lives is not None:
            return job.lanes or job.lives
        ranks, spec = self.priorities, job.spec
        if ranks.differ and isinstance(job, IndexedJob) and ranks.is_urgent(spec.priority):
            return Round(max(1, self.candidates.count(job)))
        return None

    def grant_stolen(
        self,
        job: OwnedJob,
        victim: PeerId,
        thief: PeerId,
        nonce: int,
        parts: list[Lease],
        now: float,
    ) -> None:
        """All that is free goes to the thief, since the victim has just given it up for it; of a job that
        is leased out in rounds, as much as the victim has given up. What the thief cannot run stays
        where it was. A leaf that leads a durable job does not know all thieves: it asks who that is."""
        if thief not in self.links.view.members:
            self.links.is_stranger(thief)  # known by the time it asks again
            return
        alive = thief not in self.links.mute and self.links.view.is_alive(thief)
        if not alive or self.side.withholds(now):
            return
        alike = self.candidates.suits(job, thief)
        turn = self.turn(job)
        given = [part.hi - part.lo for part in parts if part.hi > part.lo]
        while job.ledger.has_free:
            if turn is not None and not (given and turn.has_room(job.ledger.lids)):
                return
            items = None if turn is None else given.pop()
            passed = job.passed
            barred = {} if passed is None else passed.barred(job.ledger.first_free, now)
            if alike and thief not in barred:
                self._grant(job, thief, nonce, now, items)
            elif victim not in barred and self.candidates.may_run(job, victim):
                useless = not alike or (passed is not None and thief in passed.nodes)
                self._grant(job, victim, CAME_BACK if useless else 0, now, items)
            else:
                return

    def _grant(
        self, job: OwnedJob, holder: PeerId, nonce: int, now: float, items: int | None
    ) -> None:
        """Lease it what is free first, or `items` of it at most."""
        reach = None if job.passed is None else job.passed.reach(job.ledger.first_free)
        if items is not None:
            end = job.ledger.first_free + items
            reach = end if reach is None else min(end, reach)
        deadline = now + self.config.lease_seconds
        self.say(job, holder, nonce, job.ledger.grant(holder, deadline, reach), now)

    def say(
        self, job: OwnedJob, holder: PeerId, nonce: int, granted: Grantable, now: float
    ) -> None:
        """The holder hears what it has been lent."""
        lease, blocks, blobs = granted
        if holder not in job.told:
            job.has_told(holder)
        self.journal.tell(now, "granted", job.spec.job, lease.lid, holder)
        spec = job.spec
        if job.lives is not None:
            nonce = BEGINS if job.lives.granting(holder) else 0
            spec = replace(spec, life=job.lives.number)
        self.links.send(holder, Grant(spec, [lease], blocks, nonce, blobs), now)

    # ------------------------------------------------------------ jobs that wait

    def nodes_changed(self, now: float) -> None:
        """A node has come or gone."""
        self._nodes_changed_at = now

    def forget(self, job_id: JobId) -> None:
        """Nothing of this job waits any more."""
        self.unplaced.pop(job_id, None)
        self.lacking.job_over(job_id)

    def watch_side(self, now: float) -> None:
        """Are we on the lesser side of a cut (if that is to matter)?"""
        if self.side.look(now):
            self.journal.tell(now, "leases nothing" if self.side.lesser else "leases again")
        if self.side.lesser:
            self.counters.count("beats-on-the-lesser-side")

    def watch_stuck(self, job: OwnedJob, now: float) -> str:
        """There may be nodes, and none with what this job needs: tell the program after a while.

        Returns why the job is to be given up, if it is. A durable job waits: its program may be gone, and
        nodes that can run it may come.
        """
        nodes = [] if self.side.withholds(now) else self.candidates.strangers(job)
        if not nodes:
            job.is_not_stuck()
            return ""
        lacks_python = needs_another_python(job.spec, nodes)
        what = (nobody_can if lacks_python else nobody_has)(job.spec, nodes)
        lacks_mode = needs_another_mode(job.spec, nodes)
        remedy = NOBODY_REMEDY if lacks_python else RESOURCES_REMEDY
        why = f"{what}: {MODE_REMEDY if lacks_mode else remedy}"
        stuck_seconds = job.is_stuck(what, now)
        hopes = lacks_python and not lacks_mode
        never_could = not (hopes or job.told or job.keeping is not None)
        if never_could and now - self._nodes_changed_at >= SETTLED_SECONDS:
            return why  # at once, unless we do not know the mesh well yet
        if stuck_seconds >= NOBODY_SAID_SECONDS and job.says_once_that_it_is_stuck():
            self.effects.append(NobodyCan(job.spec.job, why))
        return why if stuck_seconds >= NOBODY_SECONDS and job.keeping is None else ""


def needs_another_python(spec: JobSpec, nodes: list[Member]) -> bool:
    """Is it the Python that all of these nodes lack?"""
    return not any(has_runtime(spec, node) for node in nodes)


def needs_another_mode(spec: JobSpec, nodes: list[Member]) -> bool:
    """Do these nodes want names of functions where the job sends code, or the other way round?"""
    return not any(has_mode(spec, node) for node in nodes)


def kind_of_lack(spec: JobSpec, nodes: list[Member]) -> str:
    """As what kind of failure the job's items end if none of these nodes can run them."""
    if needs_another_mode(spec, nodes):
        return NOT_REGISTERED
    return UNLOADABLE if needs_another_python(spec, nodes) else UNPLACEABLE
