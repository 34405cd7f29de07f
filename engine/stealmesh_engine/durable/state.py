"""The durable jobs that this node keeps, and those that it knows to be gone or kept elsewhere.

Decides nothing about jobs. It holds one replica a job, the primary of each job led here, the candidacy of
each replica without a primary, and what comes out of the log. It answers the question where a job is
(HERE). Refuses to know why a replica comes, leads or goes: backup.py, election.py, takeover.py,
requests.py and retention.py decide that and call the methods below.

Invariant: a job has a primary or a candidacy here only if it has a replica here, and never both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from stealmesh_engine.durable.bag_primary import primary_of
from stealmesh_engine.durable.bag_replica import replica_of
from stealmesh_engine.durable.inputs import Inputs
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.durable.rebuild import REBUILT
from stealmesh_engine.durable.replica import EXPIRED, Replica, supersedes
from stealmesh_engine.durable.terms import Terms
from stealmesh_engine.durable.wal import FORGOTTEN, RECORD_OCTETS, WriteAheadLog, tombstone
from stealmesh_engine.events import Recall
from stealmesh_engine.ledger.owner import Owner
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Here, JobLine, Reign, Standing, View

GONE_REMEMBERED = 1024


@dataclass(slots=True)
class Rival:
    """What another replica of the job said of itself."""

    at: float
    configuration: Reign
    store: bytes
    weight: int


@dataclass(slots=True)
class Candidacy:
    """A replica without a primary: this node may have to lead the job."""

    since: float
    rivals: dict[PeerId, Rival] = field(default_factory=dict)

    def heard(self, peer: PeerId, rival: Rival) -> None:
        self.rivals[peer] = rival

    def lost(self, peer: PeerId) -> None:
        self.rivals.pop(peer, None)

    def forget_older(self, seconds: float, now: float) -> None:
        """What a rival said of itself counts for this long."""
        for peer in [peer for peer, rival in self.rivals.items() if now - rival.at > seconds]:
            del self.rivals[peer]


class DurableState:
    """All durable jobs that this node knows."""

    def __init__(self, owner: Owner) -> None:
        self.config = owner.config
        self.links = owner.links
        self.owner = owner
        self.journal = owner.journal
        self.counters = owner.counters
        self.me: PeerId = owner.links.view.me.id
        self.store: bytes = self.me
        """The id of our log; without a log, our own."""
        self.is_damaged = False
        """Our log has lost records. It has a new id since, which is in no configuration, so it does not
        count among the replicas that have everything. What it still has is joined all the same."""
        self.log = WriteAheadLog(owner.effects, self.config.keep_octets_max)
        self.terms = Terms(self.me)
        self.replicas: dict[JobId, Replica] = {}
        self.primaries: dict[JobId, Primary] = {}
        """The jobs led here."""
        self.news: dict[JobId, None] = {}
        """Jobs led here that have something to tell (replication.py)."""
        self.candidacies: dict[JobId, Candidacy] = {}
        self.gone: OrderedDict[JobId, str] = OrderedDict()
        """Jobs that are over and dropped everywhere, and why."""
        self.moved: OrderedDict[JobId, Reign] = OrderedDict()
        """Jobs that others keep, and the configuration that said so: earlier ones do not bind us."""
        self._next_grant = count(1).__next__
        """Numbers the grants of all explore jobs that are led here (bag_ledger.py)."""
        self.inputs = Inputs(self.config, self.links, self.counters)
        """What goes into the calls that are led here."""
        self.due: float | None = None
        """When to look again at candidacies and gatherings."""

    # ------------------------------------------------------------ replicas come, lead and go

    def keep(self, replica: Replica) -> None:
        self.replicas[replica.spec.job] = replica

    def lead(self, replica: Replica) -> Primary:
        """This node is the primary from now on (perhaps again, under a higher term)."""
        former = self.primaries.get(replica.spec.job)
        if former is not None:
            former.let_go_of_inputs()
        primary = primary_of(self.owner, replica, self.store, self.news, self._next_grant)
        primary.inputs = self.inputs
        self.primaries[replica.spec.job] = primary
        return primary

    def step_down(self, job: JobId) -> bool:
        """This node does not lead the job any more. True if it did."""
        self.candidacies.pop(job, None)
        primary = self.primaries.pop(job, None)
        if primary is None:
            return False
        primary.let_go_of_inputs()
        self.owner.resign(job)
        return True

    def candidate(self, job: JobId, now: float) -> bool:
        """This replica has lost its primary. True if that is new."""
        if job in self.candidacies:
            return False
        self.candidacies[job] = Candidacy(now)
        return True

    def end_candidacy(self, job: JobId) -> Candidacy | None:
        return self.candidacies.pop(job, None)

    def drop(self, job: JobId) -> None:
        self.replicas.pop(job, None)
        self.step_down(job)

    def bury(self, job: JobId, why: str) -> None:
        """Drop the job, and remember that for a while, so that no old replica revives it."""
        self.drop(job)
        if job not in self.gone:
            self.log.write(tombstone(job))
        self.gone[job] = why
        while len(self.gone) > GONE_REMEMBERED:
            self.gone.popitem(last=False)

    def hand_away(self, replica: Replica, term: int, primary: PeerId) -> None:
        """Others keep the job under this term."""
        job = replica.spec.job
        self.log.write_forgotten(replica)
        self.drop(job)
        self.moved[job] = Reign(term, 0, primary, [])
        while len(self.moved) > GONE_REMEMBERED:
            self.moved.popitem(last=False)

    def take_back(self, job: JobId) -> int:
        """We keep the job again; returns the last term that we know of it, 0 if none."""
        moved = self.moved.pop(job, None)
        return 0 if moved is None else moved.term

    def is_outdated(self, job: JobId, configuration: Reign) -> bool:
        """Is this configuration older than the one under which others took the job over?"""
        later = self.moved.get(job)
        return later is not None and (
            (configuration.term, configuration.primary) < (later.term, later.primary)
        )

    def with_news(self) -> list[tuple[JobId, Primary]]:
        """The primaries that have something to tell, the most urgent first."""
        found = [(job, self.primaries[job]) for job in self.news if job in self.primaries]
        self.news.clear()
        return self.in_order(found)

    def in_order(self, primaries: Iterable[tuple[JobId, Primary]]) -> list[tuple[JobId, Primary]]:
        """The most urgent jobs first: what begins or becomes safe may be leased out in this step."""
        found = list(primaries)
        if self.owner.placement.priorities.differ:
            found.sort(key=lambda each: -each[1].replica.spec.priority)
        return found

    # ------------------------------------------------------------ the log

    def recall(self, event: Recall) -> None:
        """Restore the replicas that the log remembers."""
        self.store = event.seat
        self.log.open()
        if event.lost:
            self.is_damaged, self.counters["log-damage"] = True, event.lost
        for keep in event.records:
            job = keep.spec.job
            if keep.state == EXPIRED:
                self.drop(job)
                self.gone[job] = EXPIRED
            elif keep.state == FORGOTTEN:
                self.replicas.pop(job, None)
            elif job not in self.gone:
                replica = self.replicas.get(job)
                if replica is None:
                    replica = self.replicas[job] = replica_of(keep.spec, keep.reign)
                if supersedes(keep.reign, replica.configuration):
                    replica.reconfigure(keep.reign)
                replica.join(keep)

    def compact(self) -> None:
        """Write a log that is mostly history anew."""
        live = self.octets + RECORD_OCTETS * len(self.replicas)
        if self.log.is_mostly_history(live):
            records = [page for replica in self.replicas.values() for page in replica.pages()]
            self.log.rewrite(records + [tombstone(job) for job in self.gone], live)

    @property
    def octets(self) -> int:
        return sum(replica.octets for replica in self.replicas.values())

    # ------------------------------------------------------------ telling others

    def say_here(self, peer: PeerId, job: JobId, now: float) -> None:
        """Tell a peer what we are to this job, if we know it."""
        replica = self.replicas.get(job)
        if job in self.gone:
            nothing = Reign(0, 0, self.me, [])
            here = Here(job, Standing.GONE, nothing, why=self.gone[job])
        elif replica is not None:
            primary = self.primaries.get(job)
            standing = Standing.KEEPS if primary is None else Standing.LEADS
            why = REBUILT if primary is not None and primary.rebuild is not None else ""
            configuration = replica.configuration
            here = Here(job, standing, configuration, self.store, replica.weight, why)
            self._introduce(peer, configuration.primary, now)
        else:
            return
        self.links.send(peer, here, now)

    def _introduce(self, peer: PeerId, primary: PeerId, now: float) -> None:
        """Tell a peer where the primary lives: a leaf knows few nodes.

        Otherwise two primaries hear of each other from replicas and cannot meet
        (test_random_worlds_with_durable_jobs, world 1066)."""
        view = self.links.view
        if primary not in (peer, self.me) and view.is_alive(primary):
            self.links.send(peer, View([view.members[primary]]), now)

    def lines(self) -> list[JobLine]:
        """The jobs that are led here and that the owner does not run."""
        return [each.line() for job, each in self.primaries.items() if job not in self.owner.jobs]

    # ------------------------------------------------------------ time

    def wake_by(self, at: float) -> None:
        """Look at candidacies and gatherings at this time, or earlier."""
        self.due = at if self.due is None else min(self.due, at)

    def woken(self) -> None:
        self.due = None

    def audit(self) -> None:
        for replica in self.replicas.values():
            replica.audit()
        self.inputs.audit()
