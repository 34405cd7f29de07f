"""NodeCore: a plain object that is told what happened and when, and answers with what should be done.

Decides the order in which the parts of a peer act on an event, and nothing that one of
them can decide alone: links.py knows connections, membership.py the living, owner.py the jobs that
this peer owns, holder.py the work that it holds, values.py the values that are here, thief.py and victim.py how work moves, upkeep.py
what every heartbeat says. Knows no socket, no clock and no source of chance but the generator it was given: the
same seed and the same events give the same effects, so the core that runs over ZeroMQ is
the one that the simulator runs ten thousand times on one heap.

Nodes and clients are the same core; a client has no workers, so it holds nothing and is never a
victim.

Every step ends the same way: reports go out together, idle workers are fed, then the
hungry, then we look for work ourselves; last, what no other message acknowledges is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from stealmesh_engine import leaving, looking, status
from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.base.rings import Rings
from stealmesh_engine.base.rude import objection
from stealmesh_engine.config import Config
from stealmesh_engine.data import values
from stealmesh_engine.durable import door as durable
from stealmesh_engine.effects import Effect, Joined
from stealmesh_engine.events import (
    CannotSay,
    Event,
    Heard,
    Join,
    Probed,
    Tick,
)
from stealmesh_engine.holding import answers, holder
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.journals import journals
from stealmesh_engine.leaving import Leaving
from stealmesh_engine.ledger import owner as owned
from stealmesh_engine.ledger.jobs_around import JobsAround
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links import links
from stealmesh_engine.links.custody import Hearing
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.state import Happened, Peer
from stealmesh_engine.looking import Looks
from stealmesh_engine.membership import membership
from stealmesh_engine.membership.changes import Arrived, Change
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.rates import report_patience
from stealmesh_engine.status import Inquiries, Shown
from stealmesh_engine.stealing import thief, victim
from stealmesh_engine.stealing.thief import Thief
from stealmesh_engine.stealing.victim import Victim
from stealmesh_engine.upkeep import Upkeep
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_engine.view.runtimes import Runtimes
from stealmesh_engine.waiting import Waiting
from stealmesh_protocol.conversation import INTRODUCTIONS, LinkState, kinds_heard
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import (
    Around,
    Beat,
    Bye,
    Member,
    Message,
    Role,
    View,
)
from stealmesh_protocol.passes import NO_TOKENS, TokenSecrets

ACK_DELAY_SECONDS = 0.02
LATE_SECONDS = 0.25


class NodeCore:
    """One peer. Feed it events with times that never go backwards; perform what it returns.

    `me` is this peer's own record (a fresh id for every process life), `mesh` the public
    fingerprint of the mesh key, `runtime` what shipped code needs ("cpython-3.11").
    `wall_offset` is what has to be added to our times to have the time of day, `submitter` the
    user of this program: both are for people to read.
    Its workers run `threads` plain tasks side by side each. `tokens`: links/guests.py.
    With `audit` the whole of every account is checked after every step (tests, simulation).
    """

    def __init__(
        self,
        me: Member,
        *,
        config: Config,
        rng: Random,
        mesh: bytes = b"",
        runtime: str = "",
        audit: bool = False,
        wall_offset: float = 0.0,
        submitter: str = "",
        threads: int = 1,
        tokens: TokenSecrets = NO_TOKENS,
    ) -> None:
        self.config = config
        self.rng = rng
        self.auditing = audit
        self.counters = Counters()
        """Everything refused, dropped or wasted, by reason."""
        self.effects: list[Effect] = []
        self.journal = Journal(config.story_lines_max, Rings.of(config, self.effects))
        self.view = MembershipView(me)
        self.detector = Detector(config.refute_seconds)
        context = Context(config, self.effects, self.counters, self.journal, rng)
        self.links = Links(context, self.view, mesh, runtime, tokens, wall_offset)
        self.owner = Owner(context, self.links, wall_offset=wall_offset, submitter=submitter)
        self.values = values.Values(context, self.links, self.view, self.owner.staying)
        self.holder = Holder(context, self.links, self.values, threads)
        self.dispatcher = self.holder.dispatcher
        self.reports, self.answers = self.holder.reports, self.holder.answers
        self.thief = Thief(context, self.links, self.dispatcher)
        self.victim = Victim(context, self.links, self.detector, self.holder, self.thief)
        self.durable = durable.DurableDoor(self.owner, self.holder)
        self.membership = membership.Membership(context, self.links, self.detector)
        self.waiting = Waiting(context, self.links, self.owner, self.durable.client)
        self.upkeep = Upkeep(context, self.links, self.owner, self.holder, self.membership)
        self.leaving = Leaving(
            context, self.links, self.owner, self.holder, self.membership.supernodes
        )
        self.around = JobsAround(self.counters)
        self.host_facts: Callable[[], dict[str, Any]] = dict
        """Asked for what only the host knows and `status` shows."""
        shown = Shown(
            self.view, self.owner, self.holder, self.thief, self.victim, self.durable.state,
            self.counters, self.around, lambda: self.host_facts(), self.values, self.links,
        )  # fmt: skip
        self.looks = Looks(context, self.durable, self.around)
        self.journals = journals.Journals(context, self.view, self.links, wall_offset)
        self.inquiries = Inquiries(shown, self.links, self.effects, (self.looks, self.journals))
        self._joined = False
        self.runtimes = Runtimes(self.effects)
        self._beat_at: float | None = None
        self._ack_at: float | None = None
        self._due: float | None = None
        self._ran_at = -1e9

    @property
    def me(self) -> Member:
        return self.view.me

    # ------------------------------------------------------------ the one door

    def step(self, now: float, event: Event) -> list[Effect]:
        """Tell the core one thing; returns what is to be done, in order."""
        return self.steps(now, [event])

    def steps(self, now: float, events: list[Event]) -> list[Effect]:
        """Tell the core several things that happened at once (in this order)."""
        if self.leaving.has_left:
            return []  # we have said goodbye: nothing that comes now may bring us back
        self._forgive_lateness(now)
        for event in events:
            part, handler = _EVENTS[type(event)]
            handler(getattr(self, part) if part else self, event, now)
        self._conclude(now)
        done = self.effects[:]
        self.effects.clear()
        return done

    def next_deadline(self) -> float | None:
        """When to call again with a Tick if nothing else happens; None: only when something does."""
        return None if self.leaving.has_left else self._due

    # ------------------------------------------------------------ time

    def _forgive_lateness(self, now: float) -> None:
        """If our own host was asleep, no other peer is to blame for that time."""
        ran_at, self._ran_at = self._ran_at, now
        if now - ran_at <= LATE_SECONDS or self._due is None:
            return
        late = now - max(self._due, ran_at)  # what is forgiven once is not forgiven again
        if late > LATE_SECONDS:
            self.membership.forgive(late, now)
            self.owner.forgive(late)
            self.journal.tell(now, "was late", detail=f"{late:.3f} s")

    def _tick(self, event: Tick, now: float) -> None:
        if self._beat_at is None:
            self._beat_at = now
        if now >= self._beat_at:
            self._beat(now)
        if self.detector.look_at is not None and now >= self.detector.look_at:
            self._look(now)
        news = self.membership.news
        if news.flush_at is not None and now >= news.flush_at:
            news.flush(now)
        if self._ack_at is not None and now >= self._ack_at:
            self.links.acknowledge(all_owed=True)
        if self.dispatcher.patrol_at is not None and now >= self.dispatcher.patrol_at:
            self.reports.tell_running(self.dispatcher.patrol(now), now)
            self.holder.handover.return_held_up(now)
        self.owner.wake_up(now)
        self.durable.tick(now)
        self.inquiries.tick(now)

    def _conclude(self, now: float) -> None:
        """What every step ends with."""
        self.links.dial_due(now)
        self._work(now)
        while self.links.own_mail or (self.durable.state.primaries and self.durable.has_news):
            for message in self.links.take_own_mail():
                self._said(self.me.id, message, now)
            self.durable.conclude(now)
            self._work(now)
        if self.leaving.until is not None:
            self.leaving.go_when_done(now)
        self.links.acknowledge(all_owed=False)
        if not self.links.owing:
            self._ack_at = None
        elif self._ack_at is None or self._ack_at <= now:
            self._ack_at = now + ACK_DELAY_SECONDS
        if self._beat_at is None:
            self._beat_at = now
        self._due = self._soonest()
        if self.auditing:
            self.owner.audit()
            self.holder.audit()
            self.durable.state.audit()
            self.values.audit()

    def _work(self, now: float) -> None:
        """Tell of what is finished, see that workers have something to do, then others, then we."""
        dispatcher, reports = self.dispatcher, self.reports
        if self.owner.graph.restless:
            self.owner.settle(now)
        if self.values.restless:
            self.holder.look_for_values(now)
        if reports.unsaid or reports.progress.words or reports.due is not None:
            reports.flush(now, 0.0 if dispatcher.draining else report_patience(self.view.size))
        if dispatcher.slots.by_worker:
            self.holder.dispatch(now)
            self.victim.feed_hungry(now)
            if dispatcher.turned_long:
                dispatcher.long_work_told()
                self.upkeep.hint_at_long_work(now)
            self.victim.keep_spare(now)
            self.thief.seek(now)
        elif self.thief.seek_at is not None:
            self.thief.rest()  # no worker to feed: no reason to wake up either

    def _soonest(self) -> float:
        """When time will next have something to say."""
        soonest = self._beat_at
        assert soonest is not None
        for at in (
            self.detector.look_at,
            self._ack_at,
            self.membership.news.flush_at,
            self.links.dialling.dial_at,
            self.dispatcher.patrol_at,
            self.reports.due,
            self.thief.seek_at,
            self.durable.state.due,
            self.owner.alarms.due,
            self.inquiries.until,
            self.looks.until,
            self.journals.until,
            self.leaving.until,
        ):
            if at is not None and at < soonest:
                soonest = at
        return soonest

    # ------------------------------------------------------------ members

    def _beat(self, now: float) -> None:
        """Say that we live, what we hold and what we know, and look after what is due."""
        self.upkeep.rates.beats(now)
        self._beat_at = now + self.config.beat_seconds * self.rng.uniform(0.9, 1.1)
        for gone in self.membership.tend(now):
            self._act(gone, now)
        for happened in self.links.show_out(now):
            self._happened(happened, now)
        self.membership.supernodes.tend(now)
        self.upkeep.say_beats(now)
        self.durable.beat(now)
        self.values.beat(now)
        self.owner.placement.watch_side(now)
        if self.owner.jobs:
            self.owner.expire(now)
            self.owner.place(now)
            self.owner.watch_stuck(now)
        reach = self.membership.reach
        if self.owner.jobs or reach.holders:
            holders = self.owner.holders()
            reach.follow(holders)
            for peer_id in holders:
                self._act(reach.check(peer_id, now), now)
        reach.renew_deaf(now)
        self.holder.ask_for_functions(now)
        self.holder.forget_unreached(now)
        self.holder.forget_empty(now)
        for peer_id in self.view.bury(now):
            self.links.is_buried(peer_id)
        self.membership.reconnect.tend(now)
        self.waiting.beat(now)
        self.upkeep.seek_links(now)

    def _look(self, now: float) -> None:
        """Judge the silent one by one: what follows from one verdict may change the next."""
        overdue = self.membership.look(now)
        for peer in overdue.suspects:
            self._act(self.membership.suspect(peer, now), now)
        for peer in overdue.ripe:
            self._act(self.membership.judge(peer, now), now)
        self.detector.plan_next(now)

    def learn(self, records: list[Member], now: float, source: PeerId = b"") -> None:
        """Join these records, which `source` sent, into our view."""
        for record in records:
            self._act(self.membership.learn(record, now, source), now)
        self.membership.charges.settle_soon(now)

    def _act(self, change: Change, now: float) -> None:
        """Move the work of a peer that is gone, or lease work to one that has come."""
        if isinstance(change, Arrived):
            self.owner.arrived(now)
        elif change is not None:
            self._no_trade(change.peer)
            self.around.gone(change.peer, now, now + self.owner.wall_offset)
            self._unmoored(change.peer, now)
            self.membership.close(change, now)

    def _no_trade(self, peer: PeerId) -> None:
        self.victim.forget(peer)
        self.thief.forget(peer)

    def _unmoored(self, peer: PeerId, now: float) -> None:
        """What we had with it, or it with us, is void: work, ledgers, copies."""
        self.owner.fence(peer, now)
        self.holder.owner_gone(peer, now)
        self.values.peer_gone(peer, now)
        self.durable.peer_gone(peer, now)

    # ------------------------------------------------------------ links

    def _join(self, event: Join, now: float) -> None:
        self.links.join(event.seeds, event.remembered, now)
        if not event.seeds:
            self._announce_joined()

    def _announce_joined(self) -> None:
        if not self._joined:
            self._joined = True
            self.effects.append(Joined())

    def _cannot_say(self, event: CannotSay, now: float) -> None:
        peer_id = self.links.unsaid(event.link, event.seq, event.instead)
        if peer_id is not None:
            self.owner.unsayable(peer_id, event.message, event.why, now)
            self.durable.unsayable(event.message, event.why, now)

    def _probed(self, event: Probed, now: float) -> None:
        """Nothing listens where a peer should be: that life is over."""
        if event.listening:
            self.membership.suspicions.probed(event.endpoint)
            self.membership.supernodes.probed(event.endpoint, now)
        if event.listening is not False:
            return
        for peer in self.links.living_at(event.endpoint):
            if self.view.is_alive(peer) and self.links.is_nowhere(peer, event.endpoint):
                self._act(self.membership.verdicts.dead(peer, now, "gone"), now)

    def _happened(self, happened: Happened, now: float) -> None:
        for peer_id in happened.reset:
            self.journal.tell(now, "was forgotten by", detail=peer_id)
            self._unmoored(peer_id, now)
        for peer_id in happened.up:
            self._peer_up(self.links.peers[peer_id], now)
        for peer_id in happened.cut:
            self._peer_cut(peer_id, now)
        for peer_id in happened.replaced:
            if self.view.is_alive(peer_id) and not self.links.is_ready(peer_id):
                self._act(self.membership.verdicts.dead(peer_id, now, "gone"), now)
        if happened.named_by and (
            self.view.told is None or self.membership.leaf.homeless_since is not None
        ):
            # Otherwise our homes know better which peers we should know.
            self.learn(happened.named, now, happened.named_by)

    def _peer_up(self, peer: Peer, now: float) -> None:
        self.journal.tell(now, "talks to", detail=peer.member.name)
        self.runtimes.compare(self.me, peer.member)
        self.victim.forget(peer.member.id)
        self.thief.met(peer.member.id)
        self.learn([peer.member], now)
        self.membership.heard(peer.member.id, peer, now)
        if peer.member.role is Role.CLIENT:
            self.detector.forget(peer.member.id)  # it is back; its beats will put it under watch
        if not self._joined:
            self.membership.told.joins(peer.member, now)
        self._announce_joined()
        self.inquiries.met(peer.member.id, now)
        self.values.met(peer.member.id, now)
        self.links.guests.met(peer.member.id, now)
        greeting_at = self.upkeep.rates.greeting_at(now)
        self._beat_at = now if self._beat_at is None else min(self._beat_at, greeting_at)
        self.owner.place(now)
        self.durable.met(peer.member, now)

    def _peer_cut(self, peer_id: PeerId, now: float) -> None:
        self.journal.tell(now, "lost the link with", detail=peer_id)
        self._no_trade(peer_id)
        self._act(self.membership.cut(peer_id, now), now)

    # ------------------------------------------------------------ what peers say

    def _heard(self, event: Heard, now: float) -> None:
        message = event.message
        line = self.links.lines.get(event.link)
        if line is None or line.state is not LinkState.READY or message.TAG in INTRODUCTIONS:
            if self.links.asks_the_way(event):
                self.membership.supernodes.sought(now)
            self._happened(self.links.introduction(event, now), now)
            return
        peer_id = line.peer
        peer = self.links.peers[peer_id]
        guest, kinds = line.guest, kinds_heard(LinkState.READY, peer.member.role, self.view.me.role)
        if message.TAG not in kinds and guest is None:
            self._happened(self.links.confused(event.link, "out-of-place", now), now)
            return
        self.membership.heard(peer_id, peer, now)
        hearing = self.links.hear(peer_id, event)
        if hearing is Hearing.GAP:
            self._happened(self.links.begin_again(event.link, now), now)
        elif hearing is Hearing.NEW:
            said = message if guest is None else self.links.guests.heard(guest, peer_id, message)
            why = "not-allowed" if said is None else self._said(peer_id, said, now)
            if why:
                self._happened(self.links.offended(event.link, peer, why, now), now)

    def _said(self, peer_id: PeerId, message: Message, now: float) -> str:
        part, handler = _MESSAGES[type(message)]
        hears = getattr(self, part) if part else self
        return objection(self.counters, handler, hears, peer_id, message, now)

    def _on_beat(self, peer_id: PeerId, message: Beat, now: float) -> None:
        if message.loads:
            self.owner.renew(peer_id, message.loads, now)
        if message.told:
            self.owner.hear_progress(peer_id, message)
            if peer_id == self.view.me.id:
                return  # of a durable job that we lead: we do not watch ourselves
        if message.queued_seconds:
            self.thief.hinted(peer_id, message.queued_seconds, now)
        self.around.heard(peer_id, message.jobs, now)
        self.membership.beat_heard(peer_id, message, now)

    def _on_around(self, peer_id: PeerId, message: Around, now: float) -> None:
        leaf = self.membership.leaf
        if leaf.listens_to(peer_id, message):
            self.learn(message.members, now, peer_id)
            leaf.heard_around(peer_id, message, now)
        self.upkeep.seek_links(now)

    def _on_bye(self, peer_id: PeerId, message: Bye, now: float) -> None:
        if message.reason == "idle":
            self.links.let_go(peer_id)  # it closes the link, not its life
            self._no_trade(peer_id)
            if self.holder.jobs.ending_with(peer_id):
                # It closed this link to reconnect. If it dies before it does, no link is left to break.
                # Regression: tests/sim/test_random_worlds.py, "an owner that only hung up".
                self.detector.watch(peer_id, now, self.config.owner_gone_seconds)
            return
        self.journal.tell(now, "says goodbye", detail=peer_id)
        self._act(self.membership.verdicts.left(peer_id, now), now)


Handler = Callable[..., None]
Table = dict[Any, tuple[str, Handler]]
"""What is told → which part of the core hears it ("": the core itself), and with which method."""


def _of(part: str, table: Mapping[Any, Handler]) -> Table:
    """A part's own table, for the core that has the part under this name."""
    return {kind: (part, handler) for kind, handler in table.items()}


def _told_to_links(handler: Callable[[Links, Any, float], Happened]) -> Handler:
    return lambda core, event, now: core._happened(handler(core.links, event, now), now)


_EVENTS: Table = {
    **_of(
        "",
        {
            Tick: NodeCore._tick,
            Join: NodeCore._join,
            Heard: NodeCore._heard,
            CannotSay: NodeCore._cannot_say,
            Probed: NodeCore._probed,
            **{kind: _told_to_links(handler) for kind, handler in links.EVENTS.items()},
        },
    ),
    **_of("leaving", leaving.EVENTS),
    **_of("inquiries", status.EVENTS),
    **_of("looks", looking.EVENTS),
    **_of("journals", journals.EVENTS),
    **_of("answers", answers.EVENTS),
    **_of("owner", owned.EVENTS),
    **_of("durable", durable.EVENTS),
    **_of("values", values.EVENTS),
}

_MESSAGES: Table = {
    **_of(
        "",
        {
            Beat: NodeCore._on_beat,
            View: lambda core, peer, view, now: core.learn(view.members, now, peer),
            Around: NodeCore._on_around,
            Bye: NodeCore._on_bye,
        },
    ),
    **_of("links", links.MESSAGES),
    **_of("inquiries", status.MESSAGES),
    **_of("looks", looking.MESSAGES),
    **_of("journals", journals.MESSAGES),
    **_of("membership", membership.MESSAGES),
    **_of("holder", holder.MESSAGES),
    **_of("thief", thief.MESSAGES),
    **_of("victim", victim.MESSAGES),
    **_of("owner", owned.MESSAGES),
    **_of("durable", durable.MESSAGES),
    **_of("values", values.MESSAGES),
}
