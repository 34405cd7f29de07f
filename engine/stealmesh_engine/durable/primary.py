"""The home of a durable job: its primary keeper, who leads it as an owner does and lets others keep it.

Decides when something is safe: what is credited or accepted here is joined into the copies of
the other keepers and onto our own disk, and only when two hold it (or everybody there is) the
holder may forget its result and the client may believe in its job. Decides who keeps. Refuses
to know how a lease is granted (owner.py runs the ledger as for any other job) and how a home
comes into office (election.py).

A home that is gone can be followed at any moment, because nothing of what it alone knows
matters: its leases can be asked from their holders, its unsettled results as well. A home that
is cut off goes on with whom it can reach; when two homes meet, the one of the lower reign
resigns and offers its copy, and the join of both is right (replica.py says why).

Ideas: primary and backups after Viewstamped Replication, but with state that is joined, so
that a view change needs no agreement on a log.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.functions import needed
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.config import Config
from stealmesh_engine.durable.replica import BEYOND_REPAIR, CANCELLED, EXPIRED, Copy, Entry, News
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import Digest, PeerId, reign_lease
from stealmesh_protocol.messages import (
    Accepted,
    Closed,
    Fetch,
    Fetched,
    JobKind,
    JobLine,
    Keep,
    Launch,
    Lease,
    Part,
    Reign,
    Revoked,
    Settled,
    Supply,
    Withdraw,
)

KEEPER_PATIENCE = 2.0
"""A keeper that acknowledges nothing for so many times the detection of a death is replaced."""
SHUNNED_SECONDS = 10.0


@dataclass(slots=True)
class Stream:
    """What one other keeper has been told and has acknowledged."""

    since: int
    """Its copy is whole once it has acknowledged this number."""
    acked: int = -1
    waits_since: float | None = None
    """Since when something is not acknowledged."""
    seat: bytes = b""


@dataclass(slots=True)
class Gathering:
    """What a new home still has to learn before it leases."""

    since: float
    seats: list[tuple[bytes, PeerId]]
    """Of the reign before."""
    needed: int
    """Of so many of them it must be known what they have."""
    latecomer: bool = False
    """We had no seat in that reign: of a reduction, what those who had one bring holds, not ours."""
    gathered: dict[bytes, None] = field(default_factory=dict)
    claims: list[tuple[PeerId, Lease]] = field(default_factory=list)
    given_up: list[tuple[PeerId, Lease]] = field(default_factory=list)


_Word = tuple[int, list[tuple[int, int]], list[tuple[PeerId, tuple[int, int]]]]
"""A number, the items credited with it, and which holder waits for word of which items."""


class Lead:
    """One job that this peer leads."""

    def __init__(self, config: Config, links: Links, owner: Owner, copy: Copy, seat: bytes) -> None:
        self.config = config
        self.links = links
        self.owner = owner
        self.copy = copy
        self.seat = seat
        self.streams: dict[PeerId, Stream] = {}
        self.gathering: Gathering | None = None
        self.crowded = False
        """There is no room for more results."""
        self.number = 0
        self.own = 0
        """Our own disk has everything up to this number."""
        self.settled = 0
        self.unsettled = IntervalSet()
        self.collected = 0
        """Somebody has fetched everything below."""
        self.dirty = False
        """Something is to be told to the keepers, or may have become safe."""
        self.closes_at: int | None = None
        """A client has said how many items there are; some may not be here yet."""
        self.rebuilt_at: float | None = None
        """All keepers of before were lost, and what holders and clients have may still be coming."""
        self.is_wounded = False
        """Their copies were here, but not whole."""
        self._is_fed = False
        """Its submitter has spoken to us."""
        self._short_since: float | None = None
        self._news = News()
        self._notices: list[tuple[PeerId, tuple[int, int]]] = []
        self._accepts: dict[PeerId, None] = {}
        self._inherited: list[tuple[int, int]] = []
        """Items that we had when we took over: nobody knows who else has them."""
        self._pending: deque[_Word] = deque()
        self._waiting: list[tuple[int, PeerId, Accepted]] = []
        """Clients that are to be told what of their words is safe, and from which number on."""
        self._watchers: dict[PeerId, int] = {}
        self._shunned: dict[PeerId, float] = {}

    # ------------------------------------------------------------ asked by the owner

    def credited(self, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int) -> None:
        self._enter(self.copy.add_result(part, blob, lo, hi))
        self.owe(holder, part)

    def dismissed(self, holder: PeerId, part: Part) -> None:
        self.owe(holder, part)

    def may_lease(self) -> bool:
        return self.settled > 0 and not self.crowded

    def may_end(self) -> bool:
        return not self.unsettled

    # ------------------------------------------------------------ the work

    def begin(self, now: float) -> None:
        """Open the ledger: everything that has no result is free, but for what holders claim."""
        copy = self.copy
        gathering, self.gathering = self.gathering, None
        if gathering is not None:
            self._inherited = list(copy.covered)
            self.unsettled = copy.covered.copy()
        if self.rebuilt_at is not None:
            self._mind_readers()
        gaps = copy.unbacked
        # What a rebuilt job lacks may yet come; until then it ends at the first gap.
        upto = gaps[0][0] if gaps and self.rebuilt_at is not None else copy.total
        copy.lost = gaps if upto == copy.total else []
        if copy.ended:
            self._close_all(gathering, now)
            return
        ledger = IndexedLedger(
            upto,
            upto,
            whole_parts=copy.spec.kind is JobKind.REDUCE,
            name=partial(reign_lease, copy.reign.term),
        )
        for lo, hi in (*copy.covered.overlap(0, upto), *copy.lost):
            ledger.settle(lo, hi)
        if not copy.spec.step:
            ledger.inputs = Blocks(fed for fed in copy.blocks if fed[0].lo < upto)
        open_ended = not copy.closed or upto < copy.total
        job = IndexedJob(copy.spec, ledger, open_ended)
        job.failed = copy.failed
        self._count(job)
        job.keeping = self
        if gathering is not None:
            for holder, lease in gathering.claims:
                self._adopt(job, holder, lease, now)
            for holder, lease in gathering.given_up:
                ledger.split(holder, lease.lid, lease.lo, lease.hi)
        self.owner.lead(job, copy.functions, now)

    def claimed(self, holder: PeerId, leases: list[Lease], now: float) -> None:
        """A holder says what it has of former reigns."""
        if self.gathering is not None:
            self.gathering.claims += [(holder, lease) for lease in leases]
            return
        job = self.owner.job(self.copy.spec.job, IndexedJob)
        if job is None:
            self.links.send(holder, Closed(self.copy.spec.job), now)
            return
        if not leases:
            self.links.send(holder, Settled(job.spec.job, [], job.spec.count), now)
        for lease in leases:
            self._adopt(job, holder, lease, now)

    def merged(self, news: News, now: float) -> None:
        """Another copy or a holder had this: it counts as if it had been reported here."""
        if not news:
            return
        self._enter(news.results)
        self._news.blocks += news.blocks
        self._news.functions += news.functions
        self._news.header |= news.header | self._close()
        self._find_again()
        job = self.owner.job(self.copy.spec.job, IndexedJob)
        if job is not None and self.copy.state:
            self.owner.abandon(job, now)
        elif job is not None:
            self.owner.functions.update(self.copy.functions if news.functions else {})
            for kept, _ in news.results:
                self._note(job, kept.lo, kept.hi, now)
            self._grow(job, now)
            job.failed = self.copy.failed
            # The word that there is no more may come before the last of it.
            job.open_ended = not self.copy.closed or job.ledger.total < self.copy.total
            self._count(job)
            self.owner.work_changed(job.spec.job, now)

    def supplied(self, client: PeerId, message: Supply, now: float) -> None:
        """More items came from a client, or the word that there are no more."""
        copy = self.copy
        news = News()
        for block, blob in zip(message.blocks, message.blobs, strict=True):
            follows = block.lo == copy.total and not copy.closed
            if (follows or self.rebuilt_at is not None) and copy.add_block(block, blob):
                news.blocks.append((block, blob))
        self._is_fed = True
        if self.rebuilt_at is not None and message.total > copy.total:
            copy.total, news.header = message.total, True  # so many had a former home accepted
        if message.closed:
            self.closes_at = message.total
        news.header |= self._close()
        self.merged(news, now)
        self.accept(client)

    def _close(self) -> bool:
        """No more items will come, once all are here: what another home had accepted may be in a copy
        that is still on its way."""
        copy = self.copy
        if copy.closed or self.closes_at is None or copy.total < self.closes_at:
            return False
        copy.closed = True
        return True

    def give_up_waiting(self, now: float) -> None:
        """Items that were accepted by a home which never came back are lost, and the job says so."""
        copy = self.copy
        if self.gathering is not None or self.closes_at is None or copy.total >= self.closes_at:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since > self.config.home_patience_seconds:
            copy.total, copy.closed = self.closes_at, True
            copy.lost = copy.unbacked
            self.merged(News(header=True), now)

    def lacks_something(self, cut_short: bool) -> bool:
        """Is something missing that was accepted once, though all keepers that came were heard, and has
        nobody else been asked for it? `cut_short`: they may have lost the end of the job."""
        copy = self.copy
        if copy.ended or self.rebuilt_at is not None:
            return False
        return bool(self._missing_functions or copy.unbacked or (cut_short and not copy.closed))

    @property
    def _missing_functions(self) -> set[Digest]:
        return set(needed(self.copy.spec)) - self.copy.functions.keys()

    def despair(self, now: float) -> None:
        """What was lost with all keepers and has not come from anybody else will not come."""
        since, copy = self.rebuilt_at, self.copy
        if since is None or now - since < self.config.home_patience_seconds or self.gathering:
            return
        self.rebuilt_at = None
        if copy.ended:
            return
        is_open = not (copy.closed or self._is_fed)
        if self._missing_functions or (is_open and not self.is_wounded):
            keep = Keep(copy.spec, copy.reign, state=BEYOND_REPAIR)
            self.merged(copy.join(keep), now)
        elif is_open:
            # Nobody knows how many there were: readers are told that the next one is lost.
            copy.total, copy.closed = copy.total + 1, True
            copy.lost = copy.unbacked
            self.merged(News(header=True), now)
        elif copy.unbacked:
            copy.lost = copy.unbacked
            self.merged(News(header=True), now)

    def accept(self, client: PeerId) -> None:
        """Tell this client once all that was said so far is safe."""
        self._accepts[client] = None
        self.dirty = True

    def owe(self, holder: PeerId, part: Part) -> None:
        """Tell this holder once its result is safe (or superseded)."""
        self._notices.append((holder, (part.lo, part.hi)))
        self.dirty = True

    def cancel(self, now: float) -> None:
        self.merged(self.copy.join(Keep(self.copy.spec, self.copy.reign, state=CANCELLED)), now)

    def expire(self, now: float) -> None:
        self.merged(self.copy.join(Keep(self.copy.spec, self.copy.reign, state=EXPIRED)), now)

    def make_room(self, now: float) -> None:
        """What a client has fetched is given up."""
        floor = min(self.collected, self.copy.total)
        if floor > self.copy.floor and not self.unsettled.overlap(0, floor):
            self.merged(self.copy.join(Keep(self.copy.spec, self.copy.reign, floor=floor)), now)

    def announce(self) -> None:
        """Say what there is, though nothing of it may be new: what is safe counts from here on."""
        self._news.header = True
        self.dirty = True

    # ------------------------------------------------------------ telling the keepers

    @property
    def has_news(self) -> bool:
        return bool(self._news or self._notices or self._accepts)

    def reseat(self, seats: list[tuple[bytes, PeerId]]) -> None:
        """Others keep the job from now on."""
        reign = self.copy.reign
        self.copy.reigned(Reign(reign.term, reign.version + 1, reign.primary, seats))
        self._news.header = True
        self.dirty = True

    def flush(self, now: float) -> Keep | None:
        """Everything new goes to the keepers as one numbered word; returns it for our own log."""
        if not self.has_news:
            return None
        self.number += 1
        news, self._news = self._news, News()
        keep = self.copy.header(self.number)
        for block, blob in news.blocks:
            keep.blocks.append(block)
            keep.blobs.append(blob)
        for kept, blob in news.results:
            keep.results.append(kept)
            keep.blobs.append(blob)
        keep.blobs += news.functions
        for peer, stream in self.streams.items():
            self.links.send(peer, keep, now)
            if stream.waits_since is None:
                stream.waits_since = now
        notices, self._notices = self._notices, []
        credited = [*self._inherited, *((kept.lo, kept.hi) for kept, _ in news.results)]
        self._inherited = []
        self._pending.append((self.number, credited, notices))
        # What is said with this number is what will be safe with it, and nothing that comes later.
        word = Accepted(keep.spec.job, keep.total, keep.closed)
        self._waiting += [(self.number, client, word) for client in self._accepts]
        self._accepts.clear()
        return keep

    def settle(self, now: float) -> None:
        """Say what has become safe."""
        if self.gathering is not None:
            return
        seats = [peer for _, peer in self.copy.reign.seats if peer != self.links.view.me.id]
        acked = [self.streams[peer].acked for peer in seats if peer in self.streams]
        if self.streams and not acked:
            return  # all who had a seat are gone, and no other's copy is whole yet
        upto = min(self.own, max(acked)) if acked else self.own
        first = not self.settled
        if upto <= self.settled:
            return
        self.settled = upto
        told: dict[PeerId, list[tuple[int, int]]] = {}
        while self._pending and self._pending[0][0] <= upto:
            _, credited, notices = self._pending.popleft()
            for lo, hi in credited:
                self.unsettled.remove(lo, hi)
            for holder, interval in notices:
                told.setdefault(holder, []).append(interval)
        for holder, intervals in told.items():
            spec = self.copy.spec
            self.links.send(holder, Settled(spec.job, intervals, spec.count), now)
        if first or not self.unsettled:
            self.owner.work_changed(self.copy.spec.job, now)
        self.tell_clients(now)
        for client in list(self._watchers):
            self._show(client, self._watchers[client], now, wait=True)

    def tell_clients(self, now: float) -> None:
        """Those who wait for the word that the job, or more of it, is accepted (while there is room)."""
        if self.crowded:
            return
        ready = {client: word for number, client, word in self._waiting if number <= self.settled}
        self._waiting = [each for each in self._waiting if each[0] > self.settled]
        for client, word in ready.items():
            self.links.send(client, word, now)

    # ------------------------------------------------------------ who keeps

    def kept_upto(self, peer: PeerId, number: int, seat: bytes, now: float) -> None:
        """A keeper has everything up to this number."""
        stream = self.streams.get(peer)
        if stream is None or number > self.number:
            return
        stream.acked = max(stream.acked, number)
        stream.waits_since = None if stream.acked == self.number else now
        stream.seat = seat
        if stream.acked >= stream.since and (seat, peer) not in self.copy.reign.seats:
            self.reseat_whole()
        self.dirty = True

    def lost_keeper(self, peer: PeerId) -> None:
        """It is gone, or has forgotten us: what it held does not count."""
        if self.streams.pop(peer, None) is not None:
            self.reseat_whole()

    def reseat_whole(self) -> None:
        """Those whose copies are whole keep the job. As long as somebody's is on its way and nobody
        else's is whole, those of before keep it: what was safe with them is safe with no others."""
        whole = [(s.seat, peer) for peer, s in self.streams.items() if s.acked >= s.since]
        if whole or not self.streams:
            self.reseat([(self.seat, self.links.view.me.id), *whole])

    def recruit(self, now: float) -> list[PeerId]:
        """Who is to become a keeper, so that there are enough; on other hosts if there are any."""
        missing = self.config.keepers - 1 - len(self.streams)
        if missing <= 0 or self.gathering is not None:
            return []
        view = self.links.view
        taken = {view.me.host} | {view.members[p].host for p in self.streams if p in view.members}
        found = []
        candidates = [
            peer
            for peer in ranked(self.copy.spec.job, view.supers())
            if peer != view.me.id
            and peer not in self.streams
            and now >= self._shunned.get(peer, -1e9)
        ]
        for _ in range(missing):
            if not candidates:
                break
            new = next((p for p in candidates if view.members[p].host not in taken), candidates[0])
            candidates.remove(new)
            taken.add(view.members[new].host)
            found.append(new)
        return found

    def drop_the_slow(self, now: float) -> None:
        """A keeper that says nothing must not hold everybody up, whatever keeps it."""
        config = self.config
        patience = KEEPER_PATIENCE * (config.silence_seconds + config.refute_seconds)
        for peer, stream in list(self.streams.items()):
            if stream.waits_since is not None and now - stream.waits_since > patience:
                self._shunned[peer] = now + SHUNNED_SECONDS
                self.lost_keeper(peer)

    def open_stream(
        self, peer: PeerId, has: tuple[IntervalSet, IntervalSet] | None, now: float
    ) -> None:
        """Bring a keeper's copy up to date (`has`: the results and inputs that are there already).
        Of a reduction it gets all results: the same items may be in other partials there."""
        self.streams[peer] = Stream(self.number, waits_since=now)
        results: list[tuple[int, int]] | None = None
        if has is not None and self.copy.spec.kind is not JobKind.REDUCE:
            results = list(self.copy.covered.minus(has[0]))
        for page in self.copy.pages(results):
            self.links.send(peer, page, now)
        self.links.send(peer, self.copy.header(self.number), now)

    # ------------------------------------------------------------ results

    def fetched(self, client: PeerId, message: Fetch, now: float) -> None:
        self.collected = max(self.collected, min(message.lo, self.copy.total))
        self._watchers.pop(client, None)
        self._show(client, message.lo, now, wait=message.want, want=message.want)

    def line(self) -> JobLine:
        copy = self.copy
        job = self.owner.jobs.get(copy.spec.job)
        if job is not None:  # a ledger that ends at a gap is not the whole job
            return replace(job.line(), total=copy.total)
        known = copy.ended_at is not None and not copy.was_over
        return replace(
            copy.line(), ended=(copy.ended_at or 0.0) + self.owner.wall_offset if known else 0.0
        )

    def _show(self, client: PeerId, lo: int, now: float, *, wait: bool, want: bool = True) -> None:
        """Send what follows `lo`; with nothing to send, remember who wants to know."""
        copy = self.copy
        if copy.ended and copy.ended_at is None:
            copy.ended_at = now
        entries = copy.following(lo, self.unsettled) if want else []
        missing = [(lo, copy.floor)] if lo < copy.floor else [m for m in copy.lost if m[1] > lo]
        if copy.state == BEYOND_REPAIR:
            missing = [(lo, max(copy.total, lo + 1))]
        elif entries and copy.spec.kind is JobKind.REDUCE and entries[0][0].lo < lo:
            # Other partials than those that this reader had: of this one it has a part already.
            missing, entries = [(lo, entries[0][0].hi)], []
        over = copy.ended and not self.unsettled
        if wait and not entries and not missing and not over:
            if client in self._watchers:
                return  # it has been told how things stand
            self._watchers[client] = lo
        else:
            self._watchers.pop(client, None)
        fetched = Fetched(
            copy.spec.job,
            lo,
            self.line(),
            [kept for kept, _ in entries],
            copy.closed,
            missing,
            [blob for _, blob in entries],
        )
        self.links.send(client, fetched, now)

    @property
    def safe(self) -> IntervalSet:
        """Items whose results two keepers hold."""
        return self.copy.covered.minus(self.unsettled)

    # ------------------------------------------------------------ inside

    def _count(self, job: OwnedJob) -> None:
        """Once it is known for good how many items there are, holders are to know it, too."""
        copy = self.copy
        if copy.closed and copy.spec.count != copy.total:
            copy.spec = replace(copy.spec, count=copy.total)
            job.spec = replace(job.spec, count=copy.total)

    def _mind_readers(self) -> None:
        """A reduction's reader must not get a partial of which it has had a part: what it has, unless
        the same partials are here, counts as collected."""
        copy, lo = self.copy, min(self.collected, self.copy.total)
        if copy.spec.kind is JobKind.REDUCE and not copy.covered.covers(0, lo):
            copy.raise_floor(lo)
            self._news.header = True

    def _find_again(self) -> None:
        """What was given up for lost may come back with a late copy."""
        if self.copy.lost:
            self.copy.lost = list(IntervalSet(self.copy.lost).minus(self.copy.covered))

    def _enter(self, entries: list[Entry]) -> None:
        self._news.results += entries
        for kept, _ in entries:
            self.unsettled.add(kept.lo, kept.hi)
        self.dirty = True

    def _grow(self, job: IndexedJob, now: float) -> None:
        """Let the ledger have what follows its last item: as input, or with its result already."""
        copy, ledger = self.copy, job.ledger
        if copy.spec.step:
            ledger.extend(copy.total)
        while ledger.total < copy.total:
            at = ledger.total
            found = copy.blocks.at(at)
            if found is not None:
                ledger.feed(*found)  # of a rebuilt job its first items may be known already
                self._note_all(job, at, found[0].hi, now)
                continue
            gone = [lost for lost in copy.lost if lost[0] == at]
            done = sorted(copy.covered.overlap(at, copy.total) + gone)
            if not done or done[0][0] > at:
                return  # a gap: its block has yet to come
            ledger.extend(done[0][1])
            ledger.settle(*done[0])

    def _note_all(self, job: IndexedJob, lo: int, hi: int, now: float) -> None:
        for some in self.copy.covered.overlap(lo, hi):
            self._note(job, *some, now)

    def _note(self, job: IndexedJob, lo: int, hi: int, now: float) -> None:
        for piece in IntervalSet([(lo, hi)]).minus(job.ledger.credited.overlap(lo, hi)):
            if piece[1] <= job.ledger.total:
                self.owner.take_note(job, *piece, now)

    def _adopt(self, job: IndexedJob, holder: PeerId, lease: Lease, now: float) -> None:
        """What nobody else has of it stays with its holder; of the rest it is to let go."""
        view = self.links.view
        if holder != view.me.id and not view.is_alive(holder):
            return
        deadline = now + self.config.lease_seconds
        adopted = job.ledger.adopt(holder, lease.lid, lease.lo, lease.hi, deadline)
        job.told[holder] = None
        if not adopted and lease.lid not in job.ledger.held_by(holder):
            self.links.send(holder, Revoked(job.spec.job, [lease.lid]), now)
            return
        rest = IntervalSet([(lease.lo, lease.hi)]).minus(adopted)
        if rest:
            self.links.send(holder, Withdraw(job.spec.job, list(rest)), now)

    def _close_all(self, gathering: Gathering | None, now: float) -> None:
        """There is nothing to be done any more: those who believe otherwise are told."""
        claimers = {holder for holder, _ in gathering.claims} if gathering is not None else set()
        for holder in sorted(claimers):
            self.links.send(holder, Closed(self.copy.spec.job), now)


def first_word(message: Launch, copy: Copy) -> Keep:
    """What a launch says, for a copy to join."""
    closed = bool(message.spec.step or message.spec.count)
    return Keep(copy.spec, copy.reign, 0, message.total, closed, blobs=message.blobs)
