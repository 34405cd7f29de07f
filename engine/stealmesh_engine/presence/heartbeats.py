"""What a peer says and looks after with every heartbeat.

Decides when a beat is due, which peers hear it and what is in it, which nodes hear a hint that there is
work, and which links a peer wants. Refuses to know what a beat means to its hearer, and what else is done
with every beat (core.py).

A beat goes to our observers and to the owners of what we hold. If we have work to spare, a few of the
nodes that we have a link with hear one, too: that is a hint for those that have none.

Idle peers beat in step: a beat that is nearly due goes out when one of another peer is heard, and answers wait for
the next beat. So peers that hear each other beat within a few milliseconds. An idle one wakes two or three times for
a beat of all, not once for each of theirs. (A process that wakes up finds its memory in no cache, and pays three
times.) When the members change, beats fall out of step for a while: what the first beat of any node sets right, such
as a lack of supernodes, must not wait until all beat at once. So they do while there is work here: its hints go from
node to node with a beat each, and in step each would wait for a whole period.

Idea: pulse-coupled oscillators (fireflies) after Mirollo and Strogatz.
"""

from __future__ import annotations

from collections.abc import Container

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import NEVER
from stealmesh_engine.membership.dissemination import EVERYBODY_MAX
from stealmesh_engine.membership.membership import Membership
from stealmesh_engine.membership.rates import Rates
from stealmesh_engine.stealing.thief import HINT_SECONDS
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Beat, JobLine, Role

EARLY = 0.85
"""In step: from this part of a period on, a beat goes out as soon as another peer's is heard."""
SPREAD_IN_STEP, SPREAD = 0.05, 0.1
"""If none is heard, it goes out after a whole period, give or take this part of one."""
CALM_SECONDS = 5.0
"""Beats are in step when the members have been the same for so long."""
JOB_LINES_IN_BEAT_MAX = 256
HINTS_A_BEAT = 1
"""Nodes that hear a hint, beside those that hear a beat anyway. With a hint to all, a busy mesh of 24
said 80 messages a second and leaf, more in a larger one, and no work was found sooner."""
HINTS_OF_LONG_WORK = 8
"""Once for each job and holder, when its first item takes long."""


class Heartbeats:
    """The heartbeats of one peer, and the links that it wants."""

    def __init__(
        self,
        context: Context,
        links: Links,
        owner: Owner,
        holder: Holder,
        membership: Membership,
    ) -> None:
        self._config = config = context.config
        self._view = links.view
        self._links = links
        self._owner = owner
        self._holder = holder
        self._membership = membership
        self._rng = context.rng
        self._rates = Rates(config)
        self.due: float | None = None
        """When the next beat is due; None until the first step."""
        self.in_step = False
        """Our next beat goes with that of another peer, if it is nearly due then."""
        self._early_at = 0.0
        self._changes_known = -1
        self._changed_at = NEVER

    def first(self, now: float) -> float:
        """We have just begun: the first beat is due at once."""
        self.due = now
        return now

    def begin(self, now: float) -> float:
        """A beat begins; plan the next one. Returns when that is due."""
        self._rates.beats(now)
        if self._changes_known != self._view.changes:
            self._changes_known, self._changed_at = self._view.changes, now
        self.in_step = not self._holder.jobs and now - self._changed_at >= CALM_SECONDS
        period, spread = self._config.beat_seconds, SPREAD_IN_STEP if self.in_step else SPREAD
        self._early_at = now + EARLY * period
        self.due = now + period * self._rng.uniform(1 - spread, 1 + spread)
        return self.due

    def with_others(self, now: float) -> None:
        """Another peer beats: if ours is nearly due, it goes out with the next tick, which is now."""
        if self.in_step and self.due is not None and self._early_at <= now < self.due:
            self.due = now

    def fall_out_of_step(self, now: float) -> None:
        """A peer is gone, or work has come: what follows with beats comes sooner if not all beat at once."""
        if self.in_step and self.due is not None:
            self.in_step = False
            self.due = min(self.due, now + self._config.beat_seconds * self._rng.random())

    def greet(self, now: float) -> None:
        """A peer has just met us: the next beat comes soon, and greets all that come meanwhile."""
        self.due = now if self.due is None else min(self.due, self._rates.greeting_at(now))

    def say_beats(self, now: float) -> None:
        """Tell our observers and the owners of what we hold that we live, what we hold and know."""
        leaf, works = self._membership.leaf, bool(self._holder.jobs)
        queued = self._holder.dispatcher.queued_seconds() if works else 0.0
        hearers = dict.fromkeys(leaf.observers)
        if works:
            if self._rates.owners_wait(self._view.size, now):
                hearers.update(dict.fromkeys(self._owners(now)))
            if queued >= HINT_SECONDS:
                hearers.update(dict.fromkeys(self._hinted(HINTS_A_BEAT, hearers)))
        lines = self._job_lines(now)
        incarnation = self._view.me.incarnation
        for peer_id in hearers:
            digest = leaf.digest_for(peer_id)
            pages = self._holder.reports.loads_for(peer_id, now) if works else []
            for loads in pages or [[]]:
                self._links.send(peer_id, Beat(incarnation, digest, queued, loads, lines), now)
            lines = []
        self._membership.answers.say(hearers, now)

    def hint_at_long_work(self, now: float) -> None:
        """What seemed not worth the journey is. Thieves that found nothing here and fell silent may
        come. Of ten thousand nodes only a few know us, but each of these tells as many."""
        queued = self._holder.dispatcher.queued_seconds()
        if queued >= HINT_SECONDS:
            hint = Beat(self._view.me.incarnation, 0, queued, [], [])
            for peer_id in self._hinted(HINTS_OF_LONG_WORK):
                self._links.send(peer_id, hint, now)

    def seek_links(self, now: float) -> None:
        """A client knows all nodes (up to its limit), a node its lifelines; both keep few idle links."""
        view, links = self._view, self._links
        if view.me.role is Role.CLIENT:
            wanted = view.nodes()[: self._config.links_max]
        else:
            wanted = view.lifelines(self._config.lifelines_max)
        for peer in wanted:
            links.connect(peer, now)
        links.retire(self._config.links_max, self._owner.holders(), now)
        if view.told is not None:
            self._membership.news.tidy(now)
        if view.told is not None and view.size > EVERYBODY_MAX:
            observers = self._membership.leaf.observers
            links.release({*wanted, *observers, *self._owners(now)}, now)

    def _job_lines(self, now: float) -> list[JobLine]:
        """One node around a client knows its jobs, for those that ask that node; nodes are asked
        themselves."""
        tells = self._owner.jobs and self._view.me.role is Role.CLIENT
        return self._owner.lines(now)[:JOB_LINES_IN_BEAT_MAX] if tells else []

    def _hinted(self, count: int, known: Container[PeerId] = ()) -> list[PeerId]:
        """Other nodes that are to hear that there is work here."""
        others = [
            peer_id
            for peer_id, peer in self._links.ready()
            if peer_id not in known and peer.member.role is not Role.CLIENT
        ]
        return self._rng.sample(others, min(count, len(others)))

    def _owners(self, now: float) -> list[PeerId]:
        """The owners of the work that we hold. They answer our beats; we wait for one that does not,
        but not for ever."""
        held = (each for each in self._holder.jobs.values() if each.primary_gone_since is None)
        owners = list(dict.fromkeys(each.spec.owner for each in held))
        if self._view.me.id in owners:
            owners.remove(self._view.me.id)  # our own ledger is told without a beat
        detector = self._membership.detector
        for owner in owners:
            if owner not in detector.watches and self._links.is_ready(owner):
                detector.watch(owner, now, self._config.owner_patience_seconds)
        return owners
