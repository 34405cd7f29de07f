"""Which replica leads a job when the primary is gone.

Decides when a replica without a primary becomes primary itself. Refuses to know how a new primary learns
what others have (takeover.py) and how a replica follows one (backup.py).

A replica is a candidate if its primary is dead or if it comes out of a log. It asks for the job (SEEK), and
its rivals answer what they have (HERE). Once enough replicas of the last configuration are present that
together they have everything that was ever safe, the best becomes primary under a higher term: the latest
configuration, then the fullest replica, then rank. If the others do not come, it goes on alone after
`lone_replica_seconds`. On two sides of a cut, two primaries may exist for a time. When they meet, the one
with the lower term steps down, and the join of the two replicas is right.

Idea: view changes after Viewstamped Replication.
"""

from __future__ import annotations

from typing import Any

from stealmesh_engine.base.rendezvous import weight
from stealmesh_engine.base.rude import is_near, unless
from stealmesh_engine.durable.backup import Backup
from stealmesh_engine.durable.locate import Chase, may_know
from stealmesh_engine.durable.replica import Replica, quorum, supersedes
from stealmesh_engine.durable.state import Candidacy, DurableState, Rival
from stealmesh_engine.durable.takeover import Takeover
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Here, PeerState, Reign, Seek, Standing

LISTEN_SECONDS = 1.0
"""How long a candidate waits for better ones, even if enough are there already."""
RIVAL_SECONDS = 3.0
"""How long a rival's word about itself counts."""
SEEK_SECONDS = 0.5


class Election:
    """All replicas here that have no primary, and how primaries find each other."""

    def __init__(self, state: DurableState, takeover: Takeover, backup: Backup) -> None:
        self.state = state
        self.links = state.links
        self.config = state.config
        self.takeover = takeover
        self.backup = backup
        self.chase = Chase(self.links)

    # ------------------------------------------------------------ where is the primary?

    def sought(self, peer: PeerId, message: Seek, now: float) -> None:
        self.state.say_here(peer, message.job, now)

    def here(self, peer: PeerId, message: Here, now: float) -> None:
        """A peer says what it is to a job that we may keep."""
        state, job = self.state, message.job
        replica = state.replicas.get(job)
        if replica is None or peer == state.me:
            return
        ours, theirs = replica.configuration, message.reign
        unless(is_near(theirs.term, ours.term), "term")
        if message.standing is Standing.GONE:
            if self._knows_the_end(peer, replica):
                state.bury(job, message.why)
            return
        if message.standing is Standing.LEADS:
            if (theirs.term, peer) > (ours.term, ours.primary):
                self.backup.follow(replica, theirs, now)
            elif job in state.primaries:
                state.say_here(peer, job, now)
            elif peer == ours.primary and state.end_candidacy(job) is not None:
                self.backup.offer(replica, peer, now)
            return
        candidacy, primary = state.candidacies.get(job), state.primaries.get(job)
        if candidacy is not None:
            candidacy.heard(peer, Rival(now, theirs, message.seat, message.weight))
            self._consider(job, candidacy, now)
        elif primary is not None and supersedes(theirs, ours):
            # There was a later configuration than ours. Find its primary.
            if primary.rebuild is not None and not self.links.view.is_alive(theirs.primary):
                self.takeover.rebuild_above(primary, theirs, now)
            else:
                self.chase.ask(job, theirs.primary, now)

    def _knows_the_end(self, peer: PeerId, replica: Replica) -> bool:
        """Does this peer know better than we that the job is gone? While somebody leads it, one voice from
        outside is not enough to drop a copy; nor while we do, not all of it being collected."""
        state, job, ours = self.state, replica.spec.job, replica.configuration
        if job in state.primaries and not replica.ended:
            return False
        keeps = peer == ours.primary or any(peer == seat for _, seat in ours.seats)
        if not keeps and job not in state.candidacies:
            state.counters.count("ends-not-believed")
            return False
        return True

    def met(self, peer: PeerId, now: float) -> None:
        """A link with a node is up: tell it which jobs we lead, so that two primaries learn of each other."""
        for job in self.state.primaries:
            self.state.say_here(peer, job, now)
        for job in self.state.candidacies:
            self.links.send(peer, Seek(job), now)

    # ------------------------------------------------------------ candidates

    def recalled(self, now: float) -> None:
        """The log has been read: what it remembers are replicas without a primary."""
        for job, replica in self.state.replicas.items():
            replica.recalled()
            self._stand(job, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """Jobs with this primary need a new one, and it is no rival any more."""
        state = self.state
        for job, replica in state.replicas.items():
            if replica.configuration.primary == peer and job not in state.primaries:
                self._stand(job, now)
        self.takeover.peer_gone(peer)
        for job, candidacy in list(state.candidacies.items()):
            candidacy.lost(peer)
            self._consider(job, candidacy, now)

    def beat(self, now: float) -> None:
        for job in list(self.state.candidacies):
            self._seek(job, now)

    def look(self, now: float) -> None:
        """Has a candidate waited long enough, or has a new primary heard enough?"""
        self.state.woken()
        for job, candidacy in list(self.state.candidacies.items()):
            self._consider(job, candidacy, now)
        self.takeover.look(now)

    def _stand(self, job: JobId, now: float) -> None:
        if self.state.candidate(job, now):
            self._seek(job, now)

    def _seek(self, job: JobId, now: float) -> None:
        peers = [peer for _, peer in self.state.replicas[job].configuration.seats]
        for peer in dict.fromkeys([*may_know(job, self.links, now), *peers]):
            if self.links.view.is_alive(peer) and peer != self.state.me:
                self.links.send(peer, Seek(job), now)
        self.state.wake_by(now + SEEK_SECONDS)

    def _consider(self, job: JobId, candidacy: Candidacy, now: float) -> None:
        """Become primary if ours is the best of the replicas present and nothing can be missing."""
        state, config, members = self.state, self.config, self.links.view.members
        replica, rivals = state.replicas[job], candidacy.rivals
        candidacy.forget_older(RIVAL_SECONDS, now)
        latest = max(
            (replica.configuration, *(rival.configuration for rival in rivals.values())),
            key=lambda each: (each.term, each.primary, each.version),
        )
        present = {state.store, state.me}
        for peer, rival in rivals.items():
            present |= {rival.store, peer}
        absent = [
            peer for store, peer in latest.seats if store not in present and peer not in present
        ]
        needed = quorum(len(latest.seats))
        enough = len(latest.seats) - len(absent) >= needed
        # There is no need to wait for the dead. A store that is only out of a log may still come back.
        is_all = all(peer in members and members[peer].state >= PeerState.DEAD for peer in absent)
        waited = now - candidacy.since
        ready = enough and (is_all or waited >= LISTEN_SECONDS)
        if not ready and waited < config.lone_replica_seconds:
            moment = LISTEN_SECONDS if enough else config.lone_replica_seconds
            state.wake_by(max(candidacy.since + moment, now + 0.01))
            return
        mine = _rank(replica.configuration, replica.weight, job, state.me)
        if all(
            mine > _rank(rival.configuration, rival.weight, job, peer)
            for peer, rival in rivals.items()
        ):
            # A candidate that goes on alone has waited for the others once, and does not wait again.
            self._become_primary(job, latest, needed if enough else 0, now)
        else:
            state.wake_by(now + SEEK_SECONDS)

    def _become_primary(self, job: JobId, former: Reign, needed: int, now: float) -> None:
        state = self.state
        candidacy = state.end_candidacy(job)
        assert candidacy is not None
        by_store = {rival.store: peer for peer, rival in candidacy.rivals.items()}
        by_store[state.store] = state.me
        stores = [(store, by_store.get(store, peer)) for store, peer in former.seats]
        replica = state.replicas[job]
        self.takeover.become_primary(replica, former.term, stores, needed, now)
        for peer in candidacy.rivals:
            if not self.links.is_ready(peer):
                state.say_here(peer, job, now)


def _rank(configuration: Reign, had: int, job: JobId, peer: PeerId) -> tuple[Any, ...]:
    """By what the better of two replicas is found."""
    return (
        configuration.term,
        configuration.primary,
        configuration.version,
        had,
        weight(job, peer),
    )
