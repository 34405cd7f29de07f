"""A replica of a job that another node leads: it joins what the primary sends, and says when it is on disk.

Decides which of two primaries a replica follows (the higher term, then the higher id) and what it offers
to a new one. Refuses to know what makes a node a primary (election.py) and what a replica means
(replica.py).

Ideas: backups after Viewstamped Replication; terms as fencing tokens after Raft, which name a primary only
together with its peer, after Paxos ballots (terms.py says why that is enough).
"""

from __future__ import annotations

from stealmesh_engine.base.rude import is_near, is_one_job, unless
from stealmesh_engine.durable.bag_replica import replica_of
from stealmesh_engine.durable.call_edges import fits
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.durable.replica import EXPIRED, Added, Replica, supersedes
from stealmesh_engine.durable.state import DurableState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Forget, Here, Keep, KeptUpto, Pull, Reign, Standing


class Backup:
    """All replicas here, as far as they follow a primary elsewhere."""

    def __init__(self, state: DurableState) -> None:
        self.state = state
        self.links = state.links

    def kept(self, peer: PeerId, message: Keep, now: float) -> None:
        """A primary tells what is new, or another replica sends what we pulled from it."""
        state, job = self.state, message.spec.job
        if job in state.gone:
            state.say_here(peer, job, now)
            return
        replica = state.replicas.get(job)
        primary = state.primaries.get(job)
        if replica is not None:
            unless(is_one_job(message.spec, replica.spec), "another-job")
            unless(is_near(message.reign.term, replica.configuration.term), "term")
            unless(replica.may_have(message.total), "total")
        for block, blob in zip(message.blocks, message.blobs, strict=False):
            unless(not block.inputs or fits(message.spec, block, blob), "inputs")
        if message.reign.primary == state.me:
            if primary is not None:
                if primary.gathering is not None and primary.gathering.latecomer:
                    primary.replica.give_way(message)
                if primary.replica.takes(message):
                    self._joined(primary, primary.replica.join(message), now)
            return
        if replica is None and state.is_outdated(job, message.reign):
            here = Here(job, Standing.KEEPS, state.moved[job], state.store)
            self.links.send(peer, here, now)  # this message alone would not make us a whole replica
            return
        unless(message.reign.primary == peer or not message.number, "leads-for-another")
        if replica is None:
            replica = replica_of(message.spec, message.reign)
            state.keep(replica)
        theirs, ours = message.reign, replica.configuration
        if (theirs.term, theirs.primary) < (ours.term, ours.primary):
            state.say_here(peer, job, now)  # a former primary, which has to know
            return
        if primary is not None or (theirs.term, theirs.primary) > (ours.term, ours.primary):
            self.follow(replica, theirs, now)
        elif supersedes(theirs, ours):
            replica.reconfigure(theirs)
        state.end_candidacy(job)
        replica.give_way(message)
        replica.join(message)
        state.log.write(message)
        if message.number:
            word = KeptUpto(job, theirs.term, message.number, state.store)
            state.log.once_written(lambda now: self._answer(peer, word, now), now)
        if replica.state == EXPIRED:
            state.bury(job, EXPIRED)

    def _joined(self, primary: Primary, added: Added, now: float) -> None:
        primary.merged(added, now)
        if added.replaced:  # what our log has is another account
            for page in primary.replica.pages():
                self.state.log.write(page)

    def _answer(self, peer: PeerId, word: KeptUpto, now: float) -> None:
        self.links.send(peer, word, now)

    def follow(self, replica: Replica, configuration: Reign, now: float) -> None:
        """There is a later primary than ours: step down if we lead, and offer what we have."""
        state, job = self.state, replica.spec.job
        former = replica.configuration.primary
        led = state.step_down(job)
        replica.reconfigure(configuration)
        if led:
            state.journal.tell(now, "resigns", job, 0, configuration.primary)
            state.counters.count("primaries-stepped-down")
            for peer, _ in self.links.ready():
                state.say_here(peer, job, now)  # holders may not know the new primary
        elif former != configuration.primary and self.links.view.is_alive(former):
            # Its job may be over, so that it has no more to say and would never hear that it leads no longer.
            state.say_here(former, job, now)
        state.log.write(replica.header())
        self.offer(replica, configuration.primary, now)

    def offer(self, replica: Replica, primary: PeerId, now: float) -> None:
        for offer in replica.offers(self.state.store):
            self.links.send(primary, offer, now)

    def pulled(self, peer: PeerId, message: Pull, now: float) -> None:
        """The primary wants some of what we offered."""
        replica = self.state.replicas.get(message.job)
        if replica is None:
            return
        for page in replica.pages(message.results, message.blocks, functions=message.functions):
            self.links.send(peer, page, now)
        term = replica.configuration.term
        self.links.send(peer, KeptUpto(message.job, term, 0, self.state.store), now)

    def forgotten(self, peer: PeerId, message: Forget, now: float) -> None:
        """Enough other nodes keep the job: drop our replica."""
        state, job = self.state, message.job
        replica = state.replicas.get(job)
        if replica is None or job in state.primaries:
            return
        ours = replica.configuration
        if peer == ours.primary and ours.term <= message.term:  # the one that has what we offered
            unless(is_near(message.term, ours.term), "term")
            state.hand_away(replica, message.term, peer)
