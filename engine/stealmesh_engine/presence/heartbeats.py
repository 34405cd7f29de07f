"""What a peer says and looks after with every heartbeat.

Decides when a beat is due, which peers hear it and what is in it, which nodes hear a hint that there is
work, and which links a peer wants. Refuses to know what a beat means to its hearer, and what else is done
with every beat (core.py).

A beat goes to our observers and to the owners of what we hold. If we have work to spare, a few of the
nodes that we have a link with hear one, too: that is a hint for those that have none.
"""

from __future__ import annotations

from collections.abc import Container

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.dissemination import EVERYBODY_MAX
from stealmesh_engine.membership.membership import Membership
from stealmesh_engine.membership.rates import Rates
from stealmesh_engine.stealing.thief import HINT_SECONDS
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Beat, JobLine, Role

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

    def first(self, now: float) -> float:
        """We have just begun: the first beat is due at once."""
        self.due = now
        return now

    def begin(self, now: float) -> None:
        """A beat begins; plan the next one."""
        self._rates.beats(now)
        self.due = now + self._config.beat_seconds * self._rng.uniform(0.9, 1.1)

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
