"""Durable jobs, as core.py sees them: one door for events and messages, one for time and deaths.

Decides nothing alone; it brings together who keeps (election.py), who follows from a program
(client.py, by way of slices.py) and who holds work (holder.py), because an answer like HERE
concerns all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.durable.client import Patron
from stealmesh_engine.durable.election import REBUILT, WORDS, Homes
from stealmesh_engine.durable.locate import called_for, sought_at
from stealmesh_engine.durable.slices import Slices
from stealmesh_engine.events import (
    AbolishJob,
    AttachJob,
    Event,
    FetchResults,
    LaunchJob,
    Recall,
    SupplyJob,
    Written,
)
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.owner import Owner
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import (
    Accepted,
    Fetched,
    Here,
    Member,
    Message,
    Role,
    Seek,
    Standing,
)


class Durable:
    """Everything about jobs that outlive their submitters, at one peer."""

    def __init__(self, owner: Owner, holder: Holder) -> None:
        config, links, journal = owner.config, owner.links, owner.journal
        self.config = config
        self.links = links
        self.owner = owner
        self._beat_at = -1e9
        self.holder = holder
        self.homes = Homes(config, links, owner, journal, owner.effects, owner.counters)
        owner.ask_replicas(self.homes)
        self.patron = Patron(config, links)
        self.slices = Slices(self.patron, owner.effects)

    # ------------------------------------------------------------ being told

    def told(self, event: Event, now: float) -> None:
        """What the program wants of durable jobs, and what becomes of the log."""
        EVENTS[type(event)](self, event, now)

    def heard(self, peer: PeerId, message: Message, now: float) -> None:
        """What peers say about durable jobs."""
        word = WORDS.get(type(message))
        if word is not None:
            word(self.homes, peer, message, now)
        else:
            _OTHERS[type(message)](self, peer, message, now)

    # ------------------------------------------------------------ time, deaths and meetings

    def beat(self, now: float) -> None:
        """At most once a beat: each new link makes the core beat at once."""
        if now - self._beat_at < 0.8 * self.config.beat_seconds:
            return
        self._beat_at = now
        me = self.links.view.me.id
        if self.homes.leads:
            for loads in self.holder.reports.loads_for(me, now):
                self.owner.renew(me, loads, now)
        self.homes.beat(now)
        self.patron.beat(now)
        for job in self.holder.without_primary(now):
            for peer in (me, *sought_at(job, self.links, now)):
                self.links.send(peer, Seek(job), now)
            launch = self.holder.launch_again(job, now)
            successor = called_for(job, self.links, now)
            if launch is not None and successor is not None:
                self.links.send(successor, launch, now)

    def tick(self, now: float) -> None:
        if self.homes.due is not None and now >= self.homes.due:
            self.homes.look(now)

    def met(self, member: Member, now: float) -> None:
        if member.role is not Role.CLIENT:
            self.homes.met(member.id, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        self.homes.peer_gone(peer, now)
        self.patron.peer_gone(peer, now)

    # ------------------------------------------------------------ what concerns several

    def _here(self, peer: PeerId, message: Here, now: float) -> None:
        self.homes.here(peer, message, now)
        self.patron.here(peer, message, now)
        if message.standing is Standing.LEADS:
            term, rebuilt = message.reign.term, message.why == REBUILT
            if not self.holder.corrects(peer, message.job, term, now):
                self.holder.primary_found(message.job, term, peer, now, rebuilt=rebuilt)
        elif not (
            self.holder.jobs.follows(message.job, peer)
            or message.job in self.holder.without_primary(now)
        ):
            return
        elif message.standing is Standing.KEEPS:
            self.holder.jobs[message.job].replica_spoke(now)
            if self.links.view.is_alive(message.reign.primary):
                self.links.send(message.reign.primary, Seek(message.job), now)
        else:
            self.holder.closed(message.job, now, stop=True)

    def _accepted(self, peer: PeerId, message: Accepted, now: float) -> None:
        self.patron.accepted(peer, message, now)

    def _fetched(self, peer: PeerId, message: Fetched, now: float) -> None:
        self.patron.fetched(peer, message, now)


EVENTS: dict[type, Callable[[Durable, Any, float], None]] = {
    Recall: lambda durable, event, now: durable.homes.recall(event, now),
    Written: lambda durable, event, now: durable.homes.written(event, now),
    LaunchJob: lambda durable, event, now: durable.slices.launch(event, now),
    AttachJob: lambda durable, event, now: durable.slices.attach(event, now),
    SupplyJob: lambda durable, event, now: durable.slices.supply(event, now),
    FetchResults: lambda durable, event, now: durable.slices.fetch(event, now),
    AbolishJob: lambda durable, event, now: durable.slices.abolish(event, now),
}

_OTHERS: dict[type[Message], Callable[[Durable, PeerId, Any, float], None]] = {
    Here: Durable._here,
    Accepted: Durable._accepted,
    Fetched: Durable._fetched,
}

MESSAGES = (*WORDS, *_OTHERS)
