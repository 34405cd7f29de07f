"""A new primary: it joins what other replicas have, hears the holders, and then leases.

Decides when a peer that becomes primary knows enough to lease, which results and inputs it asks of other
replicas, and when it must begin anew as if all replicas were lost. Refuses to know why it is this peer
that leads (election.py, requests.py).

The replicas of the former configuration say what they have (OFFER), and the new primary asks for what it
lacks (PULL). Holders name their leases and bring results that were not safe (CLAIM). The primary waits
`custody_seconds` for these. If too few replicas come it goes on alone after `lone_replica_seconds`.

Idea: view changes after Viewstamped Replication.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.base.rude import unless
from stealmesh_engine.durable.bag_replica import replica_of
from stealmesh_engine.durable.primary import Gathering, Primary, first_word
from stealmesh_engine.durable.rebuild import Rebuild, is_incomplete
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.durable.state import DurableState
from stealmesh_engine.durable.terms import beyond
from stealmesh_engine.ledger.passed_over import without_lacking
from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Claim,
    Commit,
    Forget,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Offer,
    Pull,
    Reign,
    Report,
    Returned,
    Split,
)

OFFERED_MAX = 1 << 20
"""Intervals in all pages of one offer."""


@dataclass(slots=True)
class Offered:
    """What a replica says that it has, until we have all of it."""

    covered: IntervalSet = field(default_factory=IntervalSet)
    inputs: IntervalSet = field(default_factory=IntervalSet)
    account: BagAccount | None = None

    def add(self, message: Offer) -> None:
        for lo, hi in message.covered:
            self.covered.add(lo, hi)
        for lo, hi in message.fed:
            self.inputs.add(lo, hi)
        self.account = message.account


class Takeover:
    """All jobs that this peer takes over."""

    def __init__(self, state: DurableState) -> None:
        self.state = state
        self.config = state.config
        self.links = state.links
        self._offers: dict[tuple[JobId, PeerId], Offered] = {}

    # ------------------------------------------------------------ becoming primary

    def become_primary(
        self,
        replica: Replica,
        above: int,
        stores: list[tuple[bytes, PeerId]],
        needed: int,
        now: float,
        *,
        is_wounded: bool = False,
    ) -> Primary:
        """Lead under a term above this one, once `needed` of the former stores have been joined.

        Without former stores the job is rebuilt."""
        state, job = self.state, replica.spec.job
        term = state.terms.take(job, above)
        state.journal.tell(now, "accedes", job, term)
        state.counters.count("primaries-followed")
        replica.reconfigure(Reign(term, 0, state.me, stores))
        primary = state.lead(replica)
        latecomer = bool(stores) and state.store not in (store for store, _ in stores)
        gathering = Gathering(now, stores, needed, latecomer)
        primary.take_over(gathering, None if stores else Rebuild(now, is_wounded))
        state.log.write(replica.header())
        for peer, _ in self.links.ready():
            state.say_here(peer, job, now)
        state.say_here(state.me, job, now)  # our own workers may have parts of the job, too
        self._try_begin(primary, gathering, now)
        return primary

    def rebuild(self, message: Launch, now: float) -> None:
        """All replicas of this job are lost: begin with what holders and clients have of it."""
        spec, state = message.spec, self.state
        state.counters.count("jobs-rebuilt")
        term = max(spec.term, state.take_back(spec.job))
        replica = replica_of(spec, Reign(term, 0, spec.owner, []))
        state.keep(replica)
        replica.join(first_word(message, replica))
        # Above the terms of replicas that are back after all and become primary at this moment.
        self.become_primary(replica, beyond(term), [], 0, now)
        for page in replica.pages():
            state.log.write(page)

    def rebuild_above(
        self, primary: Primary, configuration: Reign, now: float, *, is_wounded: bool = False
    ) -> None:
        """Rebuild the job we lead under a term above this configuration's.

        Holders obey the highest primary that they have heard of, even if it is dead."""
        replica = primary.replica
        self.state.owner.resign(replica.spec.job)
        above = beyond(configuration.term)
        fresh = self.become_primary(replica, above, [], 0, now, is_wounded=is_wounded)
        fresh.go_on_from(primary)

    def look(self, now: float) -> None:
        state = self.state
        waiting = [(job, each) for job, each in state.primaries.items() if each.gathering]
        for _, primary in state.in_order(waiting):
            if primary.gathering is not None:
                self._try_begin(primary, primary.gathering, now)

    def _try_begin(self, primary: Primary, gathering: Gathering, now: float) -> None:
        """Begin if enough former replicas are joined and the holders have had their time."""
        state = self.state
        lone_at = gathering.since + self.config.lone_replica_seconds
        if gathering.lacks_replicas(state.store) and now < lone_at:
            state.wake_by(lone_at)
            return
        is_over = primary.replica.ended
        is_heard = is_over or not primary.hears_holders
        holders_at = gathering.since + (0.0 if is_heard else self.config.custody_seconds)
        if now < holders_at:
            state.wake_by(holders_at)
            return
        cut_short = state.is_damaged and not gathering.needed
        if primary.rebuild is None and is_incomplete(primary.replica, cut_short=cut_short):
            # All replicas that came have lost a part. Holders and clients may have it.
            state.journal.tell(now, "is wounded", primary.replica.spec.job)
            self.rebuild_above(primary, primary.replica.configuration, now, is_wounded=True)
            return
        primary.begin(now)
        for (job, peer), offered in list(self._offers.items()):
            if job == primary.replica.spec.job:
                del self._offers[job, peer]
                if self.links.view.is_alive(peer):
                    primary.replication.open_stream(peer, offered.covered, now)
        primary.recruit(now)
        primary.replication.reconfigure()
        primary.replication.announce()

    # ------------------------------------------------------------ what other replicas have

    def offered(self, peer: PeerId, message: Offer, now: float) -> None:
        """A replica says what it has: ask for what we lack, then let it keep the job or forget it."""
        primary = self.state.primaries.get(message.job)
        if primary is None:
            self.state.say_here(peer, message.job, now)
            return
        unless(primary.replica.may_have(message.total), "total")
        offered = self._offers.setdefault((message.job, peer), Offered())
        offered.add(message)
        unless(len(offered.covered) + len(offered.inputs) <= OFFERED_MAX, "offers-too-much")
        if not message.whole:
            return
        replica = primary.replica
        told = replica.told_by(message)
        results, blocks = replica.lacks(offered.covered, offered.inputs, offered.account)
        if told.floor > replica.floor:
            results = [(lo, hi) for lo, hi in results if hi > told.floor]
        primary.merged(replica.join(told), now)
        functions = not replica.functions and bool(message.functions)
        if results or blocks or functions:
            self.links.send(peer, Pull(message.job, results, blocks, functions), now)
        else:
            self._has_all_of(primary, peer, message.seat, now)

    def kept_upto(self, peer: PeerId, message: KeptUpto, now: float) -> None:
        """A replica has acknowledged a number, or (number 0) has sent all that we asked for."""
        primary = self.state.primaries.get(message.job)
        if primary is None:
            self.state.say_here(peer, message.job, now)
        elif not message.number:
            self._has_all_of(primary, peer, message.seat, now)
        elif message.term == primary.replica.configuration.term:
            primary.replication.kept_upto(peer, message.number, message.seat, now)

    def _has_all_of(self, primary: Primary, peer: PeerId, store: bytes, now: float) -> None:
        """We have all that this replica had."""
        job, replication = primary.replica.spec.job, primary.replication
        if primary.gathering is not None:
            primary.gathering.joined(store)
            self._try_begin(primary, primary.gathering, now)
            return
        offered = self._offers.pop((job, peer), None)
        if peer in replication.streams:
            return
        if len(replication.streams) < self.config.replicas - 1 and offered is not None:
            replication.open_stream(peer, offered.covered, now)
        else:
            self.links.send(peer, Forget(job, primary.replica.configuration.term), now)

    def peer_gone(self, peer: PeerId) -> None:
        for key in [key for key in self._offers if key[1] == peer]:
            del self._offers[key]

    # ------------------------------------------------------------ what holders have

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        """A holder's beat names a lease of this job. True if the job is ours to answer for, though it has
        no ledger here.

        If we have stepped down, the holder learns it here: it may have been out of reach then
        (test_random_worlds_with_durable_jobs, world 26009)."""
        if self._answers_for(job) and job not in self.state.primaries:
            self.state.say_here(holder, job, now)
        return self._answers_for(job)

    def took(self, holder: PeerId, message: Report | Commit | Split | Returned, now: float) -> bool:
        """A holder speaks of a job that has no ledger here, not yet or not any more. True if it has."""
        job = message.job
        if not self._answers_for(job):
            return False
        primary = self.state.primaries.get(job)
        if primary is None or primary.gathering is None:
            self.state.say_here(holder, job, now)
        elif isinstance(message, Report):
            message, lacking = without_lacking(message)
            primary.gathering.returned(holder, lacking)
            self._take_results(primary, holder, message, now)
        elif not isinstance(message, Commit):  # a step without its account: its holder begins anew
            primary.gathering.returned(holder, message.parts)
        return True

    def claimed(self, holder: PeerId, message: Claim, now: float) -> None:
        primary = self.state.primaries.get(message.job)
        if primary is None:
            self.state.say_here(holder, message.job, now)
            return
        self._take_results(primary, holder, message, now)
        primary.claimed(holder, message.leases, now)

    def _answers_for(self, job: JobId) -> bool:
        """Is the job kept here, and without a ledger?"""
        primary = self.state.primaries.get(job)
        return job in self.state.replicas and (primary is None or primary.gathering is not None)

    def _take_results(
        self, primary: Primary, holder: PeerId, message: Claim | Report, now: float
    ) -> None:
        """Join results that no former primary made safe."""
        replica = primary.replica
        keep = Keep(replica.spec, replica.configuration, blobs=list(message.blobs))
        keep.results = [Kept(part.lo, part.hi, part) for part in message.parts]
        primary.merged(replica.join(keep), now)
        for part in message.parts:
            primary.replication.owe(holder, part)
