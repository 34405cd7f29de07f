"""The primary of a durable job: it runs the job's ledger as an owner does and lets other nodes keep it.

Decides which items are free, leased or done when it takes the job over, what a client's message adds,
when the job ends, and what a reader gets. Refuses to know how a lease is granted (owner.py runs the
ledger as for any other job), when something is safe (replication.py) and how a peer becomes primary
(takeover.py).

A primary that dies can be followed at any moment, because nothing that it alone knows matters: its
leases and its unsettled results can be had from their holders. A primary that is cut off goes on with
the nodes that it can reach. When two primaries meet, the one with the lower term steps down and offers
its replica, and the join of both is right (replica.py says why).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from msgspec.structs import replace

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable.call_edges import CallEdges
from stealmesh_engine.durable.inputs import USED_SECONDS, Inputs
from stealmesh_engine.durable.rebuild import Rebuild
from stealmesh_engine.durable.replica import (
    BEYOND_REPAIR,
    CANCELLED,
    EXPIRED,
    Added,
    Entry,
    Replica,
)
from stealmesh_engine.durable.replication import Replication
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.verdicts import Stepped
from stealmesh_protocol.ids import JobId, PeerId, reign_lease
from stealmesh_protocol.messages import (
    Closed,
    Commit,
    Fetch,
    Fetched,
    JobKind,
    JobLine,
    Keep,
    Launch,
    Lease,
    Part,
    Revoked,
    Settled,
    Supply,
    Withdraw,
)


@dataclass(slots=True)
class Gathering:
    """What a new primary still has to learn before it leases."""

    since: float
    stores: list[tuple[bytes, PeerId]]
    """The configuration before: the id of each store, and its peer."""
    needed: int
    """How many of them must have said what they have."""
    latecomer: bool = False
    """We were not among them: where partials of a reduction differ, theirs count and not ours."""
    gathered: dict[bytes, None] = field(default_factory=dict)
    """Stores of the replicas that we have joined."""
    claims: list[tuple[PeerId, Lease]] = field(default_factory=list)
    given_up: list[tuple[PeerId, Lease]] = field(default_factory=list)

    def joined(self, store: bytes) -> None:
        self.gathered[store] = None

    def claimed(self, holder: PeerId, leases: list[Lease]) -> None:
        self.claims += [(holder, lease) for lease in leases]

    def returned(self, holder: PeerId, leases: list[Lease]) -> None:
        self.given_up += [(holder, lease) for lease in leases]

    def lacks_replicas(self, mine: bytes) -> bool:
        """Must more of the former replicas answer, ours (its store is `mine`) being there?"""
        names = {mine, *self.gathered}
        return sum(1 for store, _ in self.stores if store in names) < self.needed


class Primary:
    """One job that this peer leads."""

    def __init__(
        self, owner: Owner, replica: Replica, store: bytes, news: dict[JobId, None]
    ) -> None:
        config, links = owner.config, owner.links
        self.config = config
        self.links = links
        self.owner = owner
        self.replica = replica
        self.replication = Replication(config, links, replica, store, news)
        self.gathering: Gathering | None = None
        self.rebuild: Rebuild | None = None
        """All replicas are lost, and what holders and clients have may still be coming."""
        self.crowded = False
        """There is no room for more results."""
        self.collected = 0
        """A client has fetched everything below."""
        self.closes_at: int | None = None
        """The number of items, as a client gave it; some may not be here yet."""
        self.edges: CallEdges | None = None
        """None as long as nothing goes into them."""
        self._used_at = -1e9
        """When a result of this job was last asked for by the primary of a call that it goes into."""
        self.stops = False
        """A client has stopped the job: holders are to stop what runs of it."""
        self._short_since: float | None = None
        self._watchers: dict[PeerId, int] = {}
        """Clients to tell how things stand, and the first item that each of them lacks."""

    inputs: Inputs
    """Asks for what goes into its items; set by the node that has it (state.py)."""
    hears_holders: ClassVar[bool] = True
    """Holders have something of the job that a new primary needs."""

    # ------------------------------------------------------------ asked by the owner

    def credited(self, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int) -> None:
        self.replication.enter(self.replica.add_result(part, blob, lo, hi))
        self.replication.owe(holder, part)
        self._are_over(lo, hi)

    def stepped(self, holder: PeerId, message: Commit, partial: bytes, step: Stepped) -> None:
        raise AssertionError("an indexed job has no steps")

    def dismissed(self, holder: PeerId, part: Part) -> None:
        self.replication.owe(holder, part)

    def may_lease(self) -> bool:
        return self.replication.settled > 0 and not self.crowded

    def may_end(self) -> bool:
        return not self.replication.unsettled

    # ------------------------------------------------------------ taking over

    def take_over(self, gathering: Gathering, rebuild: Rebuild | None) -> None:
        """Wait for what other replicas, or at least holders and clients, have of the job."""
        self.gathering, self.rebuild = gathering, rebuild
        self._used_at = gathering.since  # those that need a result do not know us yet

    def go_on_from(self, former: Primary) -> None:
        """This peer led the job under a lower term: what its clients said holds."""
        self.collected, self.closes_at = former.collected, former.closes_at

    def begin(self, now: float) -> None:
        """Open the ledger: every item without a result is free, unless a holder claims it."""
        replica = self.replica
        gathering, self.gathering = self.gathering, None
        if gathering is not None:
            self.replication.inherit()
        if self.rebuild is not None:
            self._skip_what_readers_have()
        gaps = replica.unbacked
        # What a rebuilt job lacks may still come; until then it ends at the first gap.
        upto = gaps[0][0] if gaps and self.rebuild is not None else replica.total
        replica.give_up(gaps if upto == replica.total else [])
        if replica.ended:
            self._close_all(gathering, now)
            return
        job = self._opened(upto, gathering, now)
        job.begins(now)
        self.owner.lead(job, replica.functions, now)

    def _opened(self, upto: int, gathering: Gathering | None, now: float) -> OwnedJob:
        """The job with a ledger of its items below `upto`."""
        replica = self.replica
        ledger = IndexedLedger(
            upto,
            upto,
            whole_parts=replica.spec.kind is JobKind.REDUCE,
            name=partial(reign_lease, replica.configuration.term),
        )
        for lo, hi in (*replica.covered.overlap(0, upto), *replica.lost):
            ledger.settle(lo, hi)
        if not replica.spec.step:
            ledger.provide(each for each in replica.blocks if each[0].lo < upto)
        open_ended = not replica.closed or upto < replica.total
        job = IndexedJob(replica.spec, ledger, open_ended, failed=replica.failed, keeping=self)
        self._count(job)
        if gathering is not None:
            for holder, lease in gathering.claims:
                self._adopt(job, holder, lease, now)
            for holder, lease in gathering.given_up:
                ledger.split(holder, lease.lid, lease.lo, lease.hi)
        for block, _ in () if replica.spec.step else ledger.inputs:
            if block.inputs:
                self._edges_of(job).enter(block)
        return job

    def claimed(self, holder: PeerId, leases: list[Lease], now: float) -> None:
        """A holder names the leases that it has from former primaries."""
        if self.gathering is not None:
            self.gathering.claimed(holder, leases)
            return
        job = self.owner.jobs.get(self.replica.spec.job)
        if job is None:
            self.links.send(holder, Closed(self.replica.spec.job, self.stops), now)
            return
        if not leases:
            self.links.send(holder, Settled(job.spec.job, [], job.spec.count), now)
        for lease in leases:
            self._adopt(job, holder, lease, now)

    # ------------------------------------------------------------ the work

    def merged(self, added: Added, now: float) -> None:
        """This has just been joined into our replica: it counts as if it had been reported here."""
        if not added:
            return
        added.header |= self._close()
        self.replication.add(added)
        self.replica.find_again()
        job = self.owner.jobs.get(self.replica.spec.job)
        if job is not None and self.replica.state:
            self.let_go_of_inputs()
            self.owner.abandon(job, now, stop=self.stops)
        elif job is not None:
            if added.functions:
                self.owner.add_functions(self.replica.functions)
            self._enter(job, added, now)
            self.owner.work_changed(job.spec.job, now)

    def _enter(self, job: OwnedJob, added: Added, now: float) -> None:
        """Enter into the ledger what the replica has got."""
        assert isinstance(job, IndexedJob)
        for kept, _ in added.results:
            self._note(job, kept.lo, kept.hi, now)
        self._grow(job, now)
        # The word that there is no more may come before the last of it.
        is_whole = self.replica.closed and job.ledger.total >= self.replica.total
        job.copies_say(self.replica.failed, open_ended=not is_whole)
        self._count(job)

    def supplied(self, client: PeerId, message: Supply, now: float) -> None:
        """A client supplies more items, or says that there are no more."""
        replica, rebuild = self.replica, self.rebuild
        added = Added()
        for block, blob in zip(message.blocks, message.blobs, strict=True):
            follows = block.lo == replica.total and not replica.closed
            if (follows or rebuild is not None) and replica.add_block(block, blob):
                added.blocks.append((block, blob))
        if rebuild is not None:
            rebuild.fed()
            added.header |= replica.extend(message.total)  # a former primary had accepted these
        if message.closed:
            self.closes_at = message.total
        added.header |= self._close()
        self.merged(added, now)
        self.replication.accept(client)

    def _close(self) -> bool:
        """Close the job once all its items are here. True if it is closed now.

        Items that another primary accepted may be in a replica that is still on its way."""
        replica = self.replica
        if replica.closed or self.closes_at is None or replica.total < self.closes_at:
            return False
        replica.close()
        return True

    def give_up_waiting(self, now: float) -> None:
        """Declare lost the items that another primary accepted and that have not come since."""
        total = self.replica.total
        if self.gathering is not None or self.closes_at is None or total >= self.closes_at:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since > self.config.primary_patience_seconds:
            self.merged(self.replica.end_at(self.closes_at), now)

    def give_up_rebuild(self, now: float) -> None:
        """Declare lost what a rebuilt job lacks and has waited for long enough."""
        rebuild = self.rebuild
        patience = self.config.primary_patience_seconds
        if rebuild is not None and not self.gathering and now - rebuild.since >= patience:
            self.rebuild = None
            self.merged(rebuild.give_up(self.replica), now)

    def cancel(self, now: float, *, stop: bool = False) -> None:
        self.stops |= stop
        self.merged(self.replica.end(CANCELLED), now)

    def expire(self, now: float) -> None:
        self.merged(self.replica.end(EXPIRED), now)

    @property
    def is_collected_call(self) -> bool:
        """Is this a single call that is over, and does a program have its result?"""
        replica = self.replica
        is_call = replica.spec.kind is JobKind.SUBMIT
        return is_call and replica.ended_at is not None and self.collected == replica.total

    def crowd(self, crowded: bool, now: float) -> None:
        """Is there no room for more results? Then nothing is leased and clients wait."""
        if self.crowded != crowded:
            self.crowded = crowded
            self._tell_clients(now)
            self.owner.work_changed(self.replica.spec.job, now)

    def make_room(self, now: float) -> None:
        """Drop results that a client has fetched."""
        replica = self.replica
        floor = min(self.collected, replica.total)
        if floor > replica.floor and not self.replication.unsettled.overlap(0, floor):
            keep = Keep(replica.spec, replica.configuration, floor=floor)
            self.merged(replica.join(keep), now)

    # ------------------------------------------------------------ what goes into its items, and into others

    def is_used(self, now: float) -> bool:
        """Does a result of it go into calls that are led elsewhere?"""
        return now - self._used_at < USED_SECONDS

    def let_go_of_inputs(self) -> None:
        """It is not led here any more, or is over."""
        if self.edges is not None:
            self.edges.let_go()
            self.edges = None

    def _are_over(self, lo: int, hi: int) -> None:
        if self.edges is not None:
            self.edges.over(lo, hi)

    def _edges_of(self, job: IndexedJob) -> CallEdges:
        if self.edges is None:
            self.edges = CallEdges(self, self.owner, job.ledger, self.inputs)
        return self.edges

    # ------------------------------------------------------------ replicas

    def recruit(self, now: float) -> None:
        """See that enough nodes keep the job."""
        if self.gathering is None:
            for peer in self.replication.choose(now):
                self.replication.open_stream(peer, None, now)

    def settle(self, now: float) -> None:
        """Tell holders, clients and readers what has become safe."""
        if self.gathering is not None:
            return
        first = not self.replication.settled
        if not self.replication.settle(now):
            return
        if first or not self.replication.unsettled:
            self.owner.work_changed(self.replica.spec.job, now)
        self._tell_clients(now)
        for client in list(self._watchers):
            self._show(client, self._watchers[client], now, wait=True)

    def _tell_clients(self, now: float) -> None:
        if not self.crowded:
            self.replication.tell_clients(now)

    # ------------------------------------------------------------ results

    def fetched(self, client: PeerId, message: Fetch, now: float) -> None:
        if message.into:
            self._used_at = now
        else:
            self.collected = max(self.collected, min(message.lo, self.replica.total))
        self._watchers.pop(client, None)
        self._show(client, message.lo, now, wait=message.want, want=message.want)

    def line(self, now: float | None = None) -> JobLine:
        replica = self.replica
        job = self.owner.jobs.get(replica.spec.job)
        if job is not None:  # a ledger that ends at a gap is not the whole job
            return replace(job.line(now), total=replica.total)
        at = None if replica.was_over else replica.ended_at
        return replace(replica.line(), ended=0.0 if at is None else at + self.owner.wall_offset)

    def _show(self, client: PeerId, lo: int, now: float, *, wait: bool, want: bool = True) -> None:
        """Send the results from `lo` on. If there are none and `wait` is set, note that this client waits."""
        replica = self.replica
        if replica.ended:
            replica.note_end(now)
        entries = self._readable(lo) if want else []
        missing = (
            [(lo, replica.floor)] if lo < replica.floor else [m for m in replica.lost if m[1] > lo]
        )
        if replica.state == BEYOND_REPAIR:
            missing = [(lo, max(replica.total, lo + 1))]
        elif entries and replica.spec.kind is JobKind.REDUCE and entries[0][0].lo < lo:
            # This partial begins before `lo`: the reader has a part of it, in another partial.
            missing, entries = [(lo, entries[0][0].hi)], []
        over = replica.ended and not self.replication.unsettled
        if wait and not entries and not missing and not over:
            if client in self._watchers:
                return  # it knows how things stand
            self._watchers[client] = lo
        else:
            self._watchers.pop(client, None)
        fetched = Fetched(
            replica.spec.job,
            lo,
            self.line(),
            [kept for kept, _ in entries],
            replica.closed,
            missing,
            [blob for _, blob in entries],
            guest=replica.spec.guest,
        )
        self._say(client, fetched, now)

    def _readable(self, lo: int) -> list[Entry]:
        """The results from `lo` on that a reader may have."""
        return self.replica.following(lo, self.replication.unsettled)

    def _say(self, client: PeerId, fetched: Fetched, now: float) -> None:
        self.links.send(client, fetched, now)

    # ------------------------------------------------------------ inside

    def _count(self, job: IndexedJob) -> None:
        """Let holders know the number of items once it is final."""
        if self.replica.count_items():
            job.counted(self.replica.total)

    def _skip_what_readers_have(self) -> None:
        """A reader of a reduction must not get a partial that overlaps one that it has.

        Unless the same partials are here, what it has counts as collected."""
        replica = self.replica
        lo = min(self.collected, replica.total)
        if replica.spec.kind is JobKind.REDUCE and not replica.covered.covers(0, lo):
            replica.raise_floor(lo)

    def _grow(self, job: IndexedJob, now: float) -> None:
        """Extend the ledger by the items that follow its last: with their input, or done already."""
        replica, ledger = self.replica, job.ledger
        if replica.spec.step:
            ledger.extend(replica.total)
        while ledger.total < replica.total:
            at = ledger.total
            found = replica.blocks.at(at)
            if found is not None:
                ledger.feed(*found)  # of a rebuilt job its first items may be there already
                if found[0].inputs:
                    self._edges_of(job).enter(found[0])
                for some in replica.covered.overlap(at, found[0].hi):
                    self._note(job, *some, now)
                continue
            gone = [lost for lost in replica.lost if lost[0] == at]
            done = sorted(replica.covered.overlap(at, replica.total) + gone)
            if not done or done[0][0] > at:
                return  # a gap: its block has not come yet
            ledger.extend(done[0][1])
            ledger.settle(*done[0])

    def _note(self, job: IndexedJob, lo: int, hi: int, now: float) -> None:
        for piece in IntervalSet([(lo, hi)]).minus(job.ledger.credited.overlap(lo, hi)):
            if piece[1] <= job.ledger.total:
                self.owner.take_note(job, *piece, now)
        self._are_over(lo, hi)

    def _adopt(self, job: OwnedJob, holder: PeerId, lease: Lease, now: float) -> None:
        """Leave with its holder the part of a lease that is free, and have it drop the rest."""
        assert isinstance(job, IndexedJob)
        view = self.links.view
        if holder != view.me.id and not view.is_alive(holder):
            return
        deadline = now + self.config.lease_seconds
        adopted = job.ledger.adopt(holder, lease.lid, lease.lo, lease.hi, deadline)
        job.has_told(holder)
        if not adopted and lease.lid not in job.ledger.held_by(holder):
            self.links.send(holder, Revoked(job.spec.job, [lease.lid]), now)
            return
        rest = IntervalSet([(lease.lo, lease.hi)]).minus(adopted)
        if rest:
            self.links.send(holder, Withdraw(job.spec.job, list(rest)), now)

    def _close_all(self, gathering: Gathering | None, now: float) -> None:
        """The job is over: tell the holders that claim leases of it."""
        claimers = {holder for holder, _ in gathering.claims} if gathering is not None else set()
        for holder in sorted(claimers):
            self.links.send(holder, Closed(self.replica.spec.job, self.stops), now)


def first_word(message: Launch, replica: Replica) -> Keep:
    """What a launch adds to the replica."""
    closed = bool(message.spec.step or message.spec.count)
    return Keep(replica.spec, replica.configuration, 0, message.total, closed, blobs=message.blobs)
