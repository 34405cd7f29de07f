"""NodeCore: a plain object that is told what happened and when, and answers with what should be done.

Decides the order in which the parts of a peer act on an event, and nothing that one of
them can decide alone. The parts bring their own tables of what they hear; parts.py lists them, and
consequences.py follows up what happens to other peers. Knows no socket, no clock and no source of chance but
the generator it was given: the same seed and the same events give the same effects, so the core that runs
over ZeroMQ is the one that the simulator runs ten thousand times on one heap.

Nodes and clients are the same core; a client has no workers, so it holds nothing and is never a
victim.

Every step ends the same way: reports go out together, idle workers are fed, then the
hungry, then we look for work ourselves; last, what no other message acknowledges is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from stealmesh_engine import consequences, looks, status
from stealmesh_engine.base.rude import objection
from stealmesh_engine.config import Config
from stealmesh_engine.consequences import Consequences
from stealmesh_engine.data import values
from stealmesh_engine.durable import door as durable
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import CannotSay, Event, Heard, Tick
from stealmesh_engine.holding import answers, hired_out, holder
from stealmesh_engine.journals import journals
from stealmesh_engine.ledger import hires, owner
from stealmesh_engine.links import links
from stealmesh_engine.links.custody import Hearing
from stealmesh_engine.looks import Looks
from stealmesh_engine.membership import membership
from stealmesh_engine.membership.rates import report_patience
from stealmesh_engine.parts import Parts
from stealmesh_engine.presence import leaving
from stealmesh_engine.status import Inquiries
from stealmesh_engine.stealing import thief, victim
from stealmesh_protocol.conversation import INTRODUCTIONS, LinkState, kinds_heard
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Ack, Beat, Member, Message
from stealmesh_protocol.passes import NO_TOKENS, TokenSecrets

ACK_DELAY_SECONDS = 0.02
LATE_SECONDS = 0.25


class NodeCore(Parts):
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
        super().__init__(me, config, rng, mesh, runtime, wall_offset, submitter, threads, tokens)
        self.auditing = audit
        self.looks = Looks(self)
        self.inquiries = Inquiries(self, (self.looks, self.journals))
        self.consequences = Consequences(self, self.inquiries)
        self._ack_at: float | None = None
        self._due: float | None = None
        self._ran_at = -1e9

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
        # A call that went to a hired worker, or came back: the shortest of all steps.
        if len(events) != 1 or events[0] is not self.hires.dealt_with or self.auditing:
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
        if self.heartbeats.due is None or now >= self.heartbeats.due:
            self._beat(now)
        if self.detector.look_at is not None and now >= self.detector.look_at:
            self.consequences.look(now)
        news = self.membership.news
        if news.flush_at is not None and now >= news.flush_at:
            news.flush(now)
        if self._ack_at is not None and now >= self._ack_at:
            self.links.acknowledge(all_owed=True)
        if self.dispatcher.patrol_at is not None and now >= self.dispatcher.patrol_at:
            self.reports.tell_running(self.dispatcher.patrol(now), now)
            self.holder.handover.return_held_up(now)
        self.owner.wake_up(now)
        across = self.owner.graph.from_afar
        if across.due is not None and now >= across.due:
            across.look(now)
        if self.hires.due is not None and now >= self.hires.due:
            self.hires.look(now)
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
        if self.links.strangers:
            self.membership.unknown.ask(now)
        if self.leaving.until is not None:
            self.leaving.go_when_done(now)
        self.links.acknowledge(all_owed=False)
        if not self.links.owing:
            self._ack_at = None
        elif self._ack_at is None or self._ack_at <= now:
            self._ack_at = now + ACK_DELAY_SECONDS
        self._due = self._soonest(now)
        if self.auditing:
            self.owner.audit()
            self.hires.audit()
            self.holder.audit()
            self.durable.state.audit()
            self.values.audit()

    def _work(self, now: float) -> None:
        """Tell of what is finished, see that workers have something to do, then others, then we."""
        dispatcher, reports = self.dispatcher, self.reports
        if self.heartbeats.in_step and self.holder.jobs:
            self.heartbeats.fall_out_of_step(now)
        if self.owner.graph.restless:
            self.owner.settle(now)
        if self.values.restless:
            self.holder.look_for_values(now)
        if reports.unsaid or reports.progress.words or reports.due is not None:
            reports.flush(now, 0.0 if dispatcher.draining else report_patience(self.view.size))
        if dispatcher.slots.by_worker or dispatcher.slots.hired:
            self.holder.dispatch(now)
            self.victim.feed_hungry(now)
            if dispatcher.turned_long:
                dispatcher.long_work_told()
                self.heartbeats.hint_at_long_work(now)
            self.victim.keep_spare(now)
            self.thief.seek(now)
        elif self.thief.seek_at is not None:
            self.thief.rest()  # no worker to feed: no reason to wake up either

    def _soonest(self, now: float) -> float:
        """When time will next have something to say."""
        soonest = self.heartbeats.due
        if soonest is None:
            soonest = self.heartbeats.first(now)
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
            self.owner.graph.from_afar.due,
            self.hires.due,
            self.hired_out.due,
            self.inquiries.until,
            self.looks.until,
            self.journals.until,
            self.leaving.until,
        ):
            if at is not None and at < soonest:
                soonest = at
        return soonest

    def _beat(self, now: float) -> None:
        """Say that we live, what we hold and what we know, and look after what is due."""
        act = self.consequences.act
        next_beat = self.heartbeats.begin(now)
        for gone in self.membership.tend(now, next_beat):
            act(gone, now)
        for happened in self.links.show_out(now):
            self.consequences.happened(happened, now)
        self.membership.supernodes.tend(now)
        self.heartbeats.say_beats(now)
        self.durable.beat(now)
        self.values.beat(now)
        self.holder.shortage.give_back(now)
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
                act(reach.check(peer_id, now), now)
        reach.renew_deaf(now)
        self.holder.ask_for_functions(now)
        self.holder.forget_unreached(now)
        self.holder.forget_empty(now)
        for peer_id in self.view.bury(now):
            self.links.is_buried(peer_id)
        self.membership.reconnect.tend(now)
        self.waiting.beat(now)
        self.heartbeats.seek_links(now)

    # ------------------------------------------------------------ what peers say

    def _cannot_say(self, event: CannotSay, now: float) -> None:
        peer_id = self.links.unsaid(event.link, event.seq, event.instead)
        if peer_id is not None:
            self.owner.unsayable(peer_id, event.message, event.why, now)
            self.durable.unsayable(event.message, event.why, now)

    def _heard(self, event: Heard, now: float) -> None:
        message = event.message
        line = self.links.lines.get(event.link)
        if line is None or line.state is not LinkState.READY or message.TAG in INTRODUCTIONS:
            if self.links.asks_the_way(event):
                self.membership.supernodes.sought(now)
            self.consequences.happened(self.links.introduction(event, now), now)
            return
        peer_id = line.peer
        peer = self.links.peers[peer_id]
        guest, kinds = line.guest, kinds_heard(LinkState.READY, peer.member.role, self.view.me.role)
        if message.TAG not in kinds and guest is None:
            self.consequences.happened(self.links.confused(event.link, "out-of-place", now), now)
            return
        self.membership.heard(peer_id, peer, now)
        hearing = self.links.hear(peer_id, event)
        if hearing is Hearing.GAP:
            self.consequences.happened(self.links.begin_again(event.link, now), now)
        elif hearing is Hearing.NEW:
            said = message if guest is None else self.links.guests.heard(guest, peer_id, message)
            why = "not-allowed" if said is None else self._said(peer_id, said, now)
            if why:
                self.consequences.happened(self.links.offended(event.link, peer, why, now), now)

    def _said(self, peer_id: PeerId, message: Message, now: float) -> str:
        part, handler = _MESSAGES[type(message)]
        hears = getattr(self, part) if part else self
        return objection(self.counters, handler, hears, peer_id, message, now)

    def _on_beat(self, peer_id: PeerId, message: Beat, now: float) -> None:
        self.owner.beat_heard(peer_id, message, now)
        if message.told:
            self.owner.hear_progress(peer_id, message)
            if peer_id == self.view.me.id:
                return  # of a durable job that we lead: we do not watch ourselves
        if message.queued_seconds:
            self.thief.hinted(peer_id, message.queued_seconds, now)
        self.around.heard(peer_id, message.jobs, now)
        self.membership.beat_heard(peer_id, message, now)
        self.heartbeats.with_others(now)

    def _on_ack(self, peer_id: PeerId, message: Ack, now: float) -> None:
        del peer_id, message  # its header has said it all, and it goes out with a beat
        self.heartbeats.with_others(now)


Handler = Callable[..., None]
Table = dict[Any, tuple[str, Handler]]
"""What is told → which part of the core hears it ("": the core itself), and with which method."""


def _of(part: str, table: Mapping[Any, Handler]) -> Table:
    """A part's own table, for the core that has the part under this name."""
    return {kind: (part, handler) for kind, handler in table.items()}


_EVENTS: Table = {
    **_of(
        "",
        {Tick: NodeCore._tick, Heard: NodeCore._heard, CannotSay: NodeCore._cannot_say},
    ),
    **_of("consequences", consequences.EVENTS),
    **_of("leaving", leaving.EVENTS),
    **_of("inquiries", status.EVENTS),
    **_of("looks", looks.EVENTS),
    **_of("journals", journals.EVENTS),
    **_of("answers", answers.EVENTS),
    **_of("owner", owner.EVENTS),
    **_of("hired_out", hired_out.EVENTS),
    **_of("hires", hires.EVENTS),
    **_of("durable", durable.EVENTS),
    **_of("values", values.EVENTS),
}

_MESSAGES: Table = {
    **_of("", {Beat: NodeCore._on_beat, Ack: NodeCore._on_ack}),
    **_of("consequences", consequences.MESSAGES),
    **_of("links", links.MESSAGES),
    **_of("inquiries", status.MESSAGES),
    **_of("looks", looks.MESSAGES),
    **_of("journals", journals.MESSAGES),
    **_of("membership", membership.MESSAGES),
    **_of("holder", holder.MESSAGES),
    **_of("thief", thief.MESSAGES),
    **_of("victim", victim.MESSAGES),
    **_of("owner", owner.MESSAGES),
    **_of("hired_out", hired_out.MESSAGES),
    **_of("hires", hires.MESSAGES),
    **_of("durable", durable.MESSAGES),
    **_of("values", values.MESSAGES),
}
