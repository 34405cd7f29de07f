"""All copies of durable jobs at this peer, and how a home follows a home.

Decides which of the copies here are led from here, when a copy without a home gets a new one, and
what goes into the log. Refuses to know what a home does (primary.py), what a copy means (replica.py).

A copy whose home is dead, or which came out of a log, asks around (SEEK). Its keepers answer with
what they have (HERE); once so many of the last reign's seats are present that together they must
have everything that was ever safe, the best copy accedes under a higher term: the highest reign,
then the fullest copy, then rank. It collects what the others have more (OFFER, PULL), waits a
moment for holders to CLAIM, and begins. If the others do not come it goes on alone after a while.
Two homes may exist for a time, on two sides of a cut; when they meet the lower reign resigns, and
the join of the two copies is right (replica.py).

Ideas: view changes after Viewstamped Replication; terms as fencing tokens after Raft, which name a home
only together with its peer, after Paxos ballots (terms.py says why that is enough).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.base.rendezvous import weight
from stealmesh_engine.config import Config
from stealmesh_engine.durable.locate import sought_at
from stealmesh_engine.durable.primary import Gathering, Lead, Stream, first_word
from stealmesh_engine.durable.replica import EXPIRED, Copy, above, quorum
from stealmesh_engine.durable.terms import Terms, beyond
from stealmesh_engine.durable.wal import RECORD_OCTETS, Logbook
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import Recall, Written
from stealmesh_engine.ledger.declined import without_lacking
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Claim,
    Fetch,
    Forget,
    Here,
    JobKind,
    JobLine,
    JobSpec,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Message,
    Offer,
    PeerState,
    Pull,
    Reign,
    Report,
    Returned,
    Role,
    Seek,
    Split,
    Standing,
    Supply,
)
from stealmesh_protocol.messages import View as ViewMessage

GONE_REMEMBERED = 1024
LISTEN_SECONDS = 1.0
"""How long a copy out of a log waits for better ones, though enough are there already."""
HEARD_SECONDS = 3.0
"""How long what another copy said of itself is taken for true."""
SEEK_SECONDS = 0.5
FORGOTTEN = "forgotten"
"""In a log: the job is kept elsewhere, this copy does not count any more."""
REBUILT = "rebuilt"
"""Why somebody leads a job: all of its keepers are lost."""


@dataclass(slots=True)
class Heard:
    """What another copy said of itself."""

    at: float
    reign: Reign
    seat: bytes
    weight: int


@dataclass(slots=True)
class Orphan:
    """A copy without a home that we know of."""

    since: float
    heard: dict[PeerId, Heard] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """What a keeper offered, until all of it is here."""

    covered: IntervalSet = field(default_factory=IntervalSet)
    fed: IntervalSet = field(default_factory=IntervalSet)


class Homes:
    """All durable jobs of which this peer has a copy."""

    def __init__(
        self,
        config: Config,
        links: Links,
        owner: Owner,
        journal: Journal,
        effects: list[Effect],
        counters: Counters,
    ) -> None:
        self.config = config
        self.links = links
        self.owner = owner
        self.journal = journal
        self.counters = counters
        self.copies: dict[JobId, Copy] = {}
        self.leads: dict[JobId, Lead] = {}
        self.orphans: dict[JobId, Orphan] = {}
        self.gone: OrderedDict[JobId, str] = OrderedDict()
        """Jobs of which nothing is left, and why."""
        self.moved: OrderedDict[JobId, Reign] = OrderedDict()
        """Jobs that are kept without us, and the reign that said so: a lower one has no claim on us."""
        self.terms = Terms(links.view.me.id)
        self.seat: bytes = links.view.me.id
        """The name of our log; of a peer without one, its own."""
        self.is_damaged = False
        """Our log had more once, and has a new name since, which is in no list of seats: nobody counts us
        among those who have everything. What we have is joined all the same."""
        self.log = Logbook(effects)
        self.crowded = False
        self.due: float | None = None
        """When an orphan or a gathering is to be looked at."""
        self._reading: dict[tuple[JobId, PeerId], Reading] = {}

    # ------------------------------------------------------------ the log

    def recall(self, event: Recall, now: float) -> None:
        """There is a log: what it remembers are copies without a home."""
        self.seat, self.log.is_open = event.seat, True
        if event.lost:
            self.is_damaged, self.counters["log-damage"] = True, event.lost
        for keep in event.records:
            job = keep.spec.job
            if keep.state == EXPIRED:
                self._drop(job)
                self.gone[job] = EXPIRED
            elif keep.state == FORGOTTEN:
                self.copies.pop(job, None)
            elif job not in self.gone:
                copy = self.copies.get(job)
                if copy is None:
                    copy = self.copies[job] = Copy(keep.spec, keep.reign)
                if above(keep.reign, copy.reign):
                    copy.reigned(keep.reign)
                copy.join(keep)
        for job, copy in self.copies.items():
            copy.was_over = copy.ended
            self._orphan(job, now)

    def written(self, event: Written, now: float) -> None:
        self.log.written(event.ticket, now)

    def _compact(self) -> None:
        """A log that is mostly history is written anew."""
        live = self.octets + RECORD_OCTETS * len(self.copies)
        if self.log.is_mostly_history(live):
            records = [page for copy in self.copies.values() for page in copy.pages()]
            self.log.rewrite(records + [self._tombstone(job) for job in self.gone], live)

    def _tombstone(self, job: JobId) -> Keep:
        nobody = bytes(16)
        spec = JobSpec(job, JobKind.MAP, nobody, "", nobody)
        return Keep(spec, Reign(0, 0, nobody, []), state=EXPIRED)

    # ------------------------------------------------------------ what every step ends with

    @property
    def has_news(self) -> bool:
        return any(lead.dirty for lead in self.leads.values())

    def conclude(self, now: float) -> None:
        """Tell keepers what is new, and everybody what has become safe."""
        for job, lead in list(self.leads.items()):
            if not lead.dirty:
                continue
            lead.dirty = False
            keep = lead.flush(now)
            if keep is not None:
                self.log.write(keep)
                self.log.once_written(self._ours(lead, keep.number), now)
            lead.settle(now)
            if lead.copy.state == EXPIRED:
                self._bury(job, EXPIRED)

    def _ours(self, lead: Lead, number: int) -> Callable[[float], None]:
        def on_disk(now: float) -> None:
            lead.own = max(lead.own, number)
            lead.dirty = True

        return on_disk

    def beat(self, now: float) -> None:
        """Housekeeping: look for keepers and homes, make room, let go of what is old."""
        for job in list(self.orphans):
            self._seek(job, now)
        for lead in list(self.leads.values()):
            lead.drop_the_slow(now)
            lead.give_up_waiting(now)
            lead.despair(now)
            self._recruit(lead, now)
        self._mind_room(now)
        self._expire(now)
        self._compact()
        self.look(now)

    # ------------------------------------------------------------ room

    @property
    def octets(self) -> int:
        return sum(copy.octets for copy in self.copies.values())

    def _mind_room(self, now: float) -> None:
        """Too much is kept here: what was collected goes, the oldest first; else work waits."""
        most = self.config.keep_octets_max
        if self.octets > most:
            self._make_room(now)
        self.crowded = self.octets > most
        for lead in self.leads.values():
            if lead.crowded != self.crowded:
                lead.crowded = self.crowded
                lead.tell_clients(now)
                self.owner.work_changed(lead.copy.spec.job, now)

    def _make_room(self, now: float) -> None:
        ended = [lead for lead in self.leads.values() if lead.copy.ended_at is not None]
        ended.sort(key=lambda lead: lead.copy.ended_at or 0.0)
        running = [lead for lead in self.leads.values() if lead.copy.ended_at is None]
        for lead in (*ended, *running):
            if self.octets <= self.config.keep_octets_max:
                return
            lead.make_room(now)

    def _expire(self, now: float) -> None:
        for job, copy in self.copies.items():
            if not copy.ended:
                copy.ended_at = None
            elif copy.ended_at is None:
                copy.ended_at = now
            elif now - copy.ended_at > self.config.keep_seconds and job in self.leads:
                self.leads[job].expire(now)

    # ------------------------------------------------------------ clients

    def launched(self, client: PeerId, message: Launch, now: float) -> None:
        job = message.spec.job
        if job in self.gone or (job in self.copies and job not in self.leads):
            self._say_here(client, job, now)
            return
        if job not in self.leads:
            refusal = self._objection(message)
            if refusal:
                self.counters.count("launches-refused")
                self.links.send(client, Accepted(job, 0, refusal=refusal), now)
                return
            if message.spec.term:
                self._rebuild(message, now)
            else:
                self._open(message, now)
        else:
            lead = self.leads[job]
            lead.merged(lead.copy.join(first_word(message, lead.copy)), now)
        self.leads[job].accept(client)

    def _objection(self, message: Launch) -> str:
        view = self.links.view
        if view.me.role is Role.CLIENT or view.me.state > PeerState.SUSPECT:
            return "this peer keeps no jobs"
        octets = self.octets + sum(map(len, message.blobs))
        if octets > self.config.keep_octets_max:
            return (
                f"the node keeps {octets >> 20} MiB of durable jobs and may keep "
                f"{self.config.keep_octets_max >> 20}: collect results, or raise keep_octets_max"
            )
        return ""

    def _open(self, message: Launch, now: float) -> None:
        """A job begins here."""
        me = self.links.view.me.id
        term = self.terms.take(message.spec.job, 0)
        copy = Copy(message.spec, Reign(term, 0, me, []))
        self.copies[message.spec.job] = copy
        lead = self._lead(copy)
        copy.reigned(Reign(term, 1, me, [(self.seat, me)]))
        # Whoever keeps it has kept it from the first word on.
        keepers = lead.recruit(now)
        for peer in keepers:
            lead.streams[peer] = Stream(1, waits_since=now)
        lead.reseat([(self.seat, me), *((b"", peer) for peer in keepers)])
        lead.merged(copy.join(first_word(message, copy)), now)
        lead.begin(now)

    def _rebuild(self, message: Launch, now: float) -> None:
        """All keepers of this job are lost: begin with what holders and clients have of it."""
        spec = message.spec
        self.counters.count("jobs-rebuilt")
        later = self.moved.pop(spec.job, None)
        term = max(spec.term, 0 if later is None else later.term)
        copy = self.copies[spec.job] = Copy(spec, Reign(term, 0, spec.owner, []))
        copy.join(first_word(message, copy))
        # Above the terms of keepers that are back after all, and accede at this moment.
        self._take_office(copy, beyond(term), [], 0, now)
        for page in copy.pages():
            self.log.write(page)

    def _rebuild_above(self, lead: Lead, reign: Reign, now: float) -> None:
        """There was a later home than whoever asked us knew; it is dead, but holders obey no other."""
        job = lead.copy.spec.job
        collected, closes_at = lead.collected, lead.closes_at
        self.owner.resign(job)
        lead = self._take_office(lead.copy, beyond(reign.term), [], 0, now)
        lead.collected, lead.closes_at = collected, closes_at

    def supplied(self, client: PeerId, message: Supply, now: float) -> None:
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(client, message.job, now)
        else:
            lead.supplied(client, message, now)

    def fetched(self, client: PeerId, message: Fetch, now: float) -> None:
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(client, message.job, now)
        else:
            lead.fetched(client, message, now)

    def abolished(self, client: PeerId, message: Abolish, now: float) -> None:
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(client, message.job, now)
        else:
            self.journal.tell(now, "cancelled", message.job)
            lead.cancel(now)

    # ------------------------------------------------------------ who is the home?

    def sought(self, peer: PeerId, message: Seek, now: float) -> None:
        self._say_here(peer, message.job, now)

    def _say_here(self, peer: PeerId, job: JobId, now: float) -> None:
        me = self.links.view.me.id
        copy = self.copies.get(job)
        if job in self.gone:
            nobody = Reign(0, 0, me, [])
            here = Here(job, Standing.GONE, nobody, why=self.gone[job])
        elif copy is not None:
            lead = self.leads.get(job)
            standing = Standing.KEEPS if lead is None else Standing.LEADS
            why = REBUILT if lead is not None and lead.rebuilt_at is not None else ""
            here = Here(job, standing, copy.reign, self.seat, copy.weight, why)
            self._introduce_home(peer, copy.reign.primary, now)
        else:
            return
        self.links.send(peer, here, now)

    def _introduce_home(self, peer: PeerId, home: PeerId, now: float) -> None:
        """A leaf knows few: who is sent to a home has to know where that lives. (Found by durable world
        1066: two homes heard of each other from keepers, and could not meet.)"""
        view = self.links.view
        if home not in (peer, view.me.id) and view.is_alive(home):
            self.links.send(peer, ViewMessage([view.members[home]]), now)

    def here(self, peer: PeerId, message: Here, now: float) -> None:
        """Somebody says what he is to a job of which we may have a copy."""
        job, copy = message.job, self.copies.get(message.job)
        if copy is None or peer == self.links.view.me.id:
            return
        if message.standing is Standing.GONE:
            if job not in self.leads or copy.ended:
                self._bury(job, message.why)
            return
        if message.standing is Standing.LEADS:
            if (message.reign.term, peer) > (copy.reign.term, copy.reign.primary):
                self._follow(copy, message.reign, now)
            elif job in self.leads:
                self._say_here(peer, job, now)
            elif peer == copy.reign.primary and self.orphans.pop(job, None) is not None:
                self._offer(copy, peer, now)
            return
        orphan = self.orphans.get(job)
        if orphan is not None:
            orphan.heard[peer] = Heard(now, message.reign, message.seat, message.weight)
            self._consider(job, orphan, now)
        elif job in self.leads and above(message.reign, copy.reign):
            # A higher reign than ours was seen: find out who has it.
            lead = self.leads[job]
            if lead.rebuilt_at is not None and not self.links.view.is_alive(message.reign.primary):
                self._rebuild_above(lead, message.reign, now)
            else:
                self.links.send(message.reign.primary, Seek(job), now)

    def _follow(self, copy: Copy, reign: Reign, now: float) -> None:
        """A higher reign than the one we know: resign, if we lead, and offer what we have."""
        job = copy.spec.job
        led = self.leads.pop(job, None) is not None
        self.orphans.pop(job, None)
        copy.reigned(reign)
        if led:
            self.journal.tell(now, "resigns", job, 0, reign.primary)
            self.owner.resign(job)
            self.counters.count("homes-resigned")
            for peer, _ in self.links.ready():
                self._say_here(peer, job, now)  # who holds parts of it may not know the new home
        self.log.write(copy.header())
        self._offer(copy, reign.primary, now)

    def _offer(self, copy: Copy, home: PeerId, now: float) -> None:
        for offer in copy.offers(self.seat):
            self.links.send(home, offer, now)

    def met(self, peer: PeerId, now: float) -> None:
        """A link with a node is up: tell it which jobs we lead, so that no two homes stay unaware."""
        for job in self.leads:
            self._say_here(peer, job, now)
        for job in self.orphans:
            self.links.send(peer, Seek(job), now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """It is dead, has left, or has forgotten us."""
        for lead in list(self.leads.values()):
            lead.lost_keeper(peer)
            self._recruit(lead, now)
        for job, copy in self.copies.items():
            if copy.reign.primary == peer and job not in self.leads:
                self._orphan(job, now)
        for key in [key for key in self._reading if key[1] == peer]:
            del self._reading[key]
        for job, orphan in list(self.orphans.items()):
            orphan.heard.pop(peer, None)
            self._consider(job, orphan, now)

    # ------------------------------------------------------------ succession

    def _orphan(self, job: JobId, now: float) -> None:
        if job not in self.orphans:
            self.orphans[job] = Orphan(now)
            self._seek(job, now)

    def _seek(self, job: JobId, now: float) -> None:
        seats = [peer for _, peer in self.copies[job].reign.seats]
        asked = dict.fromkeys([*sought_at(job, self.links, now), *seats])
        for peer in asked:
            if self.links.view.is_alive(peer) and peer != self.links.view.me.id:
                self.links.send(peer, Seek(job), now)
        self._plan(now + SEEK_SECONDS)

    def look(self, now: float) -> None:
        """Has an orphan waited long enough, or has a new home heard enough?"""
        self.due = None
        for job, orphan in list(self.orphans.items()):
            self._consider(job, orphan, now)
        for lead in list(self.leads.values()):
            if lead.gathering is not None:
                self._try_begin(lead, lead.gathering, now)

    def _plan(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def _consider(self, job: JobId, orphan: Orphan, now: float) -> None:
        """Should this copy lead? Only the best of those present, and only if nothing can be missing."""
        copy, me, view = self.copies[job], self.links.view.me, self.links.view
        for peer in [p for p, h in orphan.heard.items() if now - h.at > HEARD_SECONDS]:
            del orphan.heard[peer]
        reign = max(
            (copy.reign, *(h.reign for h in orphan.heard.values())),
            key=lambda r: (r.term, r.primary, r.version),
        )
        present = {self.seat, me.id}
        for peer, heard in orphan.heard.items():
            present |= {heard.seat, peer}
        seated = [seat for seat in reign.seats if seat[0] in present or seat[1] in present]
        absent = [seat for seat in reign.seats if seat not in seated]
        waited = now - orphan.since
        enough = len(seated) >= quorum(len(reign.seats))
        # Of those whose death is known nobody need wait; a name out of a log may yet come back.
        all_here = all(_is_known_dead(view.members.get(peer)) for _, peer in absent)
        ready = enough and (all_here or waited >= LISTEN_SECONDS)
        if not ready and waited < self.config.lone_keeper_seconds:
            moment = LISTEN_SECONDS if enough else self.config.lone_keeper_seconds
            self._plan(max(orphan.since + moment, now + 0.01))
            return
        mine = self._rank(copy.reign, copy.weight, job, me.id)
        if all(
            mine > self._rank(heard.reign, heard.weight, job, peer)
            for peer, heard in orphan.heard.items()
        ):
            # Who waited long enough in vain need not wait for them a second time.
            self._accede(copy, reign, quorum(len(reign.seats)) if enough else 0, now)
        else:
            self._plan(now + SEEK_SECONDS)

    def _rank(self, reign: Reign, had: int, job: JobId, peer: PeerId) -> tuple[Any, ...]:
        return reign.term, reign.primary, reign.version, had, weight(job, peer)

    def _accede(self, copy: Copy, reign: Reign, needed: int, now: float) -> None:
        """Lead from now on; lease once it is known what others have."""
        job, me = copy.spec.job, self.links.view.me.id
        heard = self.orphans.pop(job).heard
        by_seat = {h.seat: peer for peer, h in heard.items()} | {self.seat: me}
        seats = [(seat, by_seat.get(seat, peer)) for seat, peer in reign.seats]
        self._take_office(copy, reign.term, seats, needed, now)
        for peer in heard:
            if not self.links.is_ready(peer):
                self._say_here(peer, job, now)

    def _take_office(
        self, copy: Copy, above: int, seats: list[tuple[bytes, PeerId]], needed: int, now: float
    ) -> Lead:
        """Lead under a term above this one; without former seats, rebuild."""
        job, me = copy.spec.job, self.links.view.me.id
        term = self.terms.take(job, above)
        self.journal.tell(now, "accedes", job, term)
        self.counters.count("homes-followed")
        copy.reigned(Reign(term, 0, me, seats))
        lead = self._lead(copy)
        latecomer = self.seat not in (seat for seat, _ in seats)
        lead.gathering = Gathering(now, seats, needed, bool(seats) and latecomer)
        lead.rebuilt_at = None if seats else now
        self.log.write(copy.header())
        for peer, _ in self.links.ready():
            self._say_here(peer, job, now)
        self._say_here(me, job, now)  # our own workers may have parts of the job, too
        self._try_begin(lead, lead.gathering, now)
        return lead

    def _try_begin(self, lead: Lead, gathering: Gathering, now: float) -> None:
        """Enough of the former keepers are heard, and the holders had their moment."""
        names = {self.seat, *gathering.gathered}
        heard = sum(1 for seat, _ in gathering.seats if seat in names)
        lone_at = gathering.since + self.config.lone_keeper_seconds
        if heard < gathering.needed and now < lone_at:
            self._plan(lone_at)
            return
        holders_at = gathering.since + (0.0 if lead.copy.ended else self.config.custody_seconds)
        if now < holders_at:
            self._plan(holders_at)
            return
        if lead.lacks_something(self.is_damaged and not gathering.needed):
            self._heal(lead, now)
            return
        lead.begin(now)
        for (job, peer), reading in list(self._reading.items()):
            if job == lead.copy.spec.job:
                del self._reading[job, peer]
                if self.links.view.is_alive(peer):
                    lead.open_stream(peer, (reading.covered, reading.fed), now)
        self._recruit(lead, now)
        lead.reseat_whole()
        lead.announce()

    def _heal(self, lead: Lead, now: float) -> None:
        """All keepers that came have lost something of it. Holders and submitters may have it: as if all
        keepers were lost, but with what there is."""
        self.journal.tell(now, "is wounded", lead.copy.spec.job)
        self._rebuild_above(lead, lead.copy.reign, now)
        self.leads[lead.copy.spec.job].is_wounded = True

    def offered(self, peer: PeerId, message: Offer, now: float) -> None:
        """A keeper says what its copy has: take what we lack; then it keeps on, or need not."""
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(peer, message.job, now)
            return
        reading = self._reading.setdefault((message.job, peer), Reading())
        for lo, hi in message.covered:
            reading.covered.add(lo, hi)
        for lo, hi in message.fed:
            reading.fed.add(lo, hi)
        if not message.whole:
            return
        copy = lead.copy
        told = Keep(copy.spec, copy.reign)
        told.total, told.closed = message.total, message.closed
        told.state, told.floor = message.state, message.floor
        results, blocks = copy.lacks(reading.covered, reading.fed)
        if message.floor > copy.floor:
            results = [(lo, hi) for lo, hi in results if hi > message.floor]
        lead.merged(copy.join(told), now)
        functions = not copy.functions and bool(message.functions)
        if results or blocks or functions:
            self.links.send(peer, Pull(message.job, results, blocks, functions), now)
        else:
            self._heard_out(lead, peer, message.seat, now)

    def _heard_out(self, lead: Lead, peer: PeerId, seat: bytes, now: float) -> None:
        """We have all that this copy had."""
        job = lead.copy.spec.job
        if lead.gathering is not None:
            lead.gathering.gathered[seat] = None
            self._try_begin(lead, lead.gathering, now)
            return
        reading = self._reading.pop((job, peer), None)
        if peer in lead.streams:
            return
        if len(lead.streams) < self.config.keepers - 1 and reading is not None:
            lead.open_stream(peer, (reading.covered, reading.fed), now)
        else:
            self.links.send(peer, Forget(job, lead.copy.reign.term), now)

    def pulled(self, peer: PeerId, message: Pull, now: float) -> None:
        """The home wants some of what we offered."""
        copy = self.copies.get(message.job)
        if copy is None:
            return
        for page in copy.pages(message.results, message.blocks, functions=message.functions):
            self.links.send(peer, page, now)
        self.links.send(peer, KeptUpto(message.job, copy.reign.term, 0, self.seat), now)

    def _recruit(self, lead: Lead, now: float) -> None:
        for peer in lead.recruit(now):
            lead.open_stream(peer, None, now)

    # ------------------------------------------------------------ keepers

    def kept(self, peer: PeerId, message: Keep, now: float) -> None:
        """A home's word, or what another copy had more than ours."""
        job = message.spec.job
        if job in self.gone:
            self._say_here(peer, job, now)
            return
        copy = self.copies.get(job)
        lead = self.leads.get(job)
        if message.reign.primary == self.links.view.me.id:
            if lead is not None:
                if lead.gathering is not None and lead.gathering.latecomer:
                    lead.copy.give_way(message)
                lead.merged(lead.copy.join(message), now)
            return
        if copy is None and self._is_outdated(job, message.reign):
            here = Here(job, Standing.KEEPS, self.moved[job], self.seat)
            self.links.send(peer, here, now)  # what it says is not the whole: others have that
            return
        if copy is None:
            copy = self.copies[job] = Copy(message.spec, message.reign)
        theirs, ours = message.reign, copy.reign
        if (theirs.term, theirs.primary) < (ours.term, ours.primary):
            self._say_here(peer, job, now)  # a former home: it is to know
            return
        if lead is not None or (theirs.term, theirs.primary) > (ours.term, ours.primary):
            self._follow(copy, theirs, now)
        elif above(theirs, ours):
            copy.reigned(theirs)
        self.orphans.pop(job, None)
        copy.give_way(message)
        copy.join(message)
        self.log.write(message)
        if message.number:
            word = KeptUpto(job, theirs.term, message.number, self.seat)
            self.log.once_written(lambda now: self._answer(peer, word, now), now)
        if copy.state == EXPIRED:
            self._bury(job, EXPIRED)

    def _answer(self, peer: PeerId, word: KeptUpto, now: float) -> None:
        self.links.send(peer, word, now)

    def kept_upto(self, peer: PeerId, message: KeptUpto, now: float) -> None:
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(peer, message.job, now)
        elif not message.number:
            self._heard_out(lead, peer, message.seat, now)
        elif message.term == lead.copy.reign.term:
            lead.kept_upto(peer, message.number, message.seat, now)

    def forgotten(self, peer: PeerId, message: Forget, now: float) -> None:
        """The job is well kept without us."""
        copy = self.copies.get(message.job)
        if copy is None or message.job in self.leads:
            return
        if (copy.reign.term, copy.reign.primary) > (message.term, peer):
            return  # a former home says so
        last = copy.header()
        last.state = FORGOTTEN
        self.log.write(last)
        self._drop(message.job)
        self.moved[message.job] = Reign(message.term, 0, peer, [])
        while len(self.moved) > GONE_REMEMBERED:
            self.moved.popitem(last=False)

    def _is_outdated(self, job: JobId, reign: Reign) -> bool:
        later = self.moved.get(job)
        return later is not None and (reign.term, reign.primary) < (later.term, later.primary)

    def _bury(self, job: JobId, why: str) -> None:
        """Nothing is left of it; that is remembered for a while, so that no old copy revives it."""
        self._drop(job)
        if job not in self.gone:
            self.log.write(self._tombstone(job))
        self.gone[job] = why
        while len(self.gone) > GONE_REMEMBERED:
            self.gone.popitem(last=False)

    def _drop(self, job: JobId) -> None:
        self.copies.pop(job, None)
        self.orphans.pop(job, None)
        if self.leads.pop(job, None) is not None:
            self.owner.resign(job)

    def _lead(self, copy: Copy) -> Lead:
        lead = Lead(self.config, self.links, self.owner, copy, self.seat)
        self.leads[copy.spec.job] = lead
        return lead

    # ------------------------------------------------------------ holders

    def _answers_for(self, job: JobId) -> bool:
        """Is what a holder says of this job for us to hear, and not for our own ledger?"""
        lead = self.leads.get(job)
        return job in self.copies and (lead is None or lead.gathering is not None)

    def named(self, holder: PeerId, job: JobId, now: float) -> bool:
        """A holder takes us for the home. (Found by durable world 26009: it was out of reach when we
        resigned, and held its lease for as long as we lived.)"""
        if self._answers_for(job) and job not in self.leads:
            self._say_here(holder, job, now)
        return self._answers_for(job)

    def took(self, holder: PeerId, message: Report | Split | Returned, now: float) -> bool:
        """A holder speaks of a job to a home that has no ledger yet, or no longer."""
        if not self._answers_for(message.job):
            return False
        lead = self.leads.get(message.job)
        if lead is None or lead.gathering is None:
            self._say_here(holder, message.job, now)
        elif isinstance(message, Report):
            message, lacking = without_lacking(message)
            lead.gathering.given_up += [(holder, part) for part in lacking]
            self._take_results(lead, holder, message, now)
        else:
            lead.gathering.given_up += [(holder, part) for part in message.parts]
        return True

    def claimed(self, holder: PeerId, message: Claim, now: float) -> None:
        lead = self.leads.get(message.job)
        if lead is None:
            self._say_here(holder, message.job, now)
            return
        self._take_results(lead, holder, message, now)
        lead.claimed(holder, message.leases, now)

    def _take_results(
        self, lead: Lead, holder: PeerId, message: Claim | Report, now: float
    ) -> None:
        """Results that a former home had not made safe."""
        copy = lead.copy
        keep = Keep(copy.spec, copy.reign, blobs=list(message.blobs))
        keep.results = [Kept(part.lo, part.hi, part) for part in message.parts]
        lead.merged(copy.join(keep), now)
        for part in message.parts:
            lead.owe(holder, part)

    def lines(self) -> list[JobLine]:
        """Jobs that are led here and that nobody works on."""
        return [lead.line() for job, lead in self.leads.items() if job not in self.owner.jobs]

    def audit(self) -> None:
        for copy in self.copies.values():
            copy.audit()


def _is_known_dead(member: Any) -> bool:
    return member is not None and member.state >= PeerState.DEAD


WORDS: dict[type[Message], Callable[[Homes, PeerId, Any, float], None]] = {
    Launch: Homes.launched,
    Supply: Homes.supplied,
    Abolish: Homes.abolished,
    Seek: Homes.sought,
    Keep: Homes.kept,
    KeptUpto: Homes.kept_upto,
    Offer: Homes.offered,
    Pull: Homes.pulled,
    Forget: Homes.forgotten,
    Claim: Homes.claimed,
    Fetch: Homes.fetched,
}
"""What is said to keepers."""
