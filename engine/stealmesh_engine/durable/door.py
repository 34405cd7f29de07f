"""Durable jobs, as core.py sees them: one door for events and messages, and one for time and deaths.

Decides nothing alone. It wires the parts, says which part takes which event and message, and passes on
what concerns several of them, like HERE: the replicas here (backup.py, election.py), a program that
follows the job (client.py, slices.py) and a holder of its work (holder.py) all listen to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.rude import unless
from stealmesh_engine.durable.backup import Backup
from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.election import Election
from stealmesh_engine.durable.locate import may_know, rebuilder
from stealmesh_engine.durable.output import AskedOutput
from stealmesh_engine.durable.rebuild import REBUILT
from stealmesh_engine.durable.replica import EXPIRED
from stealmesh_engine.durable.requests import Requests
from stealmesh_engine.durable.retention import Retention
from stealmesh_engine.durable.slices import Slices
from stealmesh_engine.durable.state import DurableState
from stealmesh_engine.durable.takeover import Takeover
from stealmesh_engine.events import (
    AbolishJob,
    AskOutput,
    AttachJob,
    FetchResults,
    LaunchJob,
    LeaveJob,
    Recall,
    SupplyJob,
    Written,
)
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.owner import Owner
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Claim,
    Fetch,
    Fetched,
    Forget,
    Here,
    Keep,
    KeptUpto,
    Launch,
    Member,
    Message,
    Offer,
    Printed,
    PrintedGet,
    Pull,
    Role,
    Seek,
    Standing,
    Supply,
)


class DurableDoor:
    """Everything about durable jobs at one peer."""

    def __init__(self, owner: Owner, holder: Holder) -> None:
        self.config = owner.config
        self.links = owner.links
        self.owner = owner
        self.holder = holder
        self.state = DurableState(owner)
        self.takeover = Takeover(self.state)
        self.backup = Backup(self.state)
        self.election = Election(self.state, self.takeover, self.backup)
        self.requests = Requests(self.state, self.takeover)
        self.retention = Retention(self.state)
        owner.ask_replicas(self.takeover)
        self.client = DurableClient(owner.config, owner.links, owner.counters)
        self.slices = Slices(self.client, owner.effects)
        self.output = AskedOutput(self.client, owner.effects)
        self._beat_at = -1e9

    # ------------------------------------------------------------ events and messages

    def unsayable(self, message: Message, why: str, now: float) -> None:
        """This message can never be sent."""
        self.slices.tell(self.client.unsayable(message, why), now)

    # ------------------------------------------------------------ time, deaths and meetings

    def beat(self, now: float) -> None:
        """Do what is due with every beat. (Each new link makes the core beat, so this may come early.)"""
        if now - self._beat_at < 0.8 * self.config.beat_seconds:
            return
        self._beat_at = now
        me = self.links.view.me.id
        if self.state.primaries:
            for loads in self.holder.reports.loads_for(me, now):
                self.owner.renew(me, loads, now)
        self._beat_replicas(now)
        for job in self.client.due():
            self.slices.tell(self.client.beat(job, now), now)
        self.state.inputs.beat(now)
        for job in self.holder.without_primary(now):
            for peer in (me, *may_know(job, self.links, now)):
                self.links.send(peer, Seek(job), now)
            launch = self.holder.launch_again(job, now)
            node = rebuilder(job, self.links, now)
            if launch is not None and node is not None:
                self.links.send(node, launch, now)

    def _beat_replicas(self, now: float) -> None:
        self.election.beat(now)
        for primary in list(self.state.primaries.values()):
            primary.replication.drop_the_slow(now)
            primary.give_up_waiting(now)
            primary.give_up_rebuild(now)
            primary.recruit(now)
        self.retention.beat(now)
        self.election.look(now)

    def tick(self, now: float) -> None:
        if self.state.due is not None and now >= self.state.due:
            self.election.look(now)

    def met(self, member: Member, now: float) -> None:
        if member.role is not Role.CLIENT:
            self.election.met(member.id, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """The peer is dead, has left, or has forgotten us."""
        for primary in list(self.state.primaries.values()):
            primary.replication.lost(peer)
            primary.recruit(now)
        self.election.peer_gone(peer, now)
        self.client.peer_gone(peer, now)
        self.state.inputs.peer_gone(peer, now)

    # ------------------------------------------------------------ what every step ends with

    @property
    def has_news(self) -> bool:
        return bool(self.state.news) or self.state.inputs.has_news

    def conclude(self, now: float) -> None:
        """Tell replicas what is new, and holders and clients what has become safe."""
        state = self.state
        state.inputs.settle(now)
        for job, primary in state.with_news():
            replication = primary.replication
            keep = replication.flush(now)
            if keep is not None:
                state.log.write(keep)
                state.log.once_written(replication.on_disk(keep.number), now)
            primary.settle(now)
            if primary.replica.state == EXPIRED:
                state.bury(job, EXPIRED)

    # ------------------------------------------------------------ what concerns several

    def _recall(self, event: Recall, now: float) -> None:
        self.state.recall(event)
        self.election.recalled(now)

    def _here(self, peer: PeerId, message: Here, now: float) -> None:
        leads = message.standing is Standing.LEADS
        # Each peer knows whether it leads, and speaks of that for itself alone.
        unless(not leads or message.reign.primary == peer, "leads-for-another")
        self.election.here(peer, message, now)
        self.slices.tell(self.client.here(peer, message, now), now)
        self.state.inputs.here(peer, message, now)
        job, holder = message.job, self.holder
        if message.standing is Standing.LEADS:
            term, rebuilt = message.reign.term, message.why == REBUILT
            if not holder.corrects(peer, job, term, now):
                holder.primary_found(job, term, peer, now, rebuilt=rebuilt)
        elif not (holder.jobs.follows(job, peer) or job in holder.without_primary(now)):
            return
        elif message.standing is Standing.KEEPS:
            holder.jobs[job].replica_spoke(now)
            self.election.chase.ask(job, message.reign.primary, now)
        else:
            holder.closed(job, now, stop=True)

    def _accepted(self, peer: PeerId, message: Accepted, now: float) -> None:
        self.slices.tell(self.client.accepted(peer, message, now), now)

    def _printed(self, peer: PeerId, message: Printed, now: float) -> None:
        if not self.output.told(peer, message):
            job = self.owner.jobs.get(message.job)
            self.owner.printouts.printed(peer, job, message, now)

    def _fetched(self, peer: PeerId, message: Fetched, now: float) -> None:
        self.slices.tell(self.client.fetched(peer, message, now), now)
        self.state.inputs.fetched(peer, message, now)


EVENTS: dict[type, Callable[[DurableDoor, Any, float], None]] = {
    Recall: DurableDoor._recall,
    Written: lambda door, event, now: door.state.log.written(event.ticket, now),
    LaunchJob: lambda door, event, now: door.slices.launch(event, now),
    AttachJob: lambda door, event, now: door.slices.attach(event, now),
    SupplyJob: lambda door, event, now: door.slices.of(event.job).supply(event, now),
    FetchResults: lambda door, event, now: door.slices.of(event.job).fetch(event, now),
    AskOutput: lambda door, event, now: door.output.ask(event, now),
    LeaveJob: lambda door, event, now: door.client.leave(event, now),
    AbolishJob: lambda door, event, now: door.slices.of(event.job).abolish(event, now),
}

MESSAGES: dict[type[Message], Callable[[DurableDoor, PeerId, Any, float], None]] = {
    Launch: lambda door, *heard: door.requests.launched(*heard),
    Supply: lambda door, *heard: door.requests.supplied(*heard),
    Fetch: lambda door, *heard: door.requests.fetched(*heard),
    Abolish: lambda door, *heard: door.requests.abolished(*heard),
    Seek: lambda door, *heard: door.election.sought(*heard),
    Keep: lambda door, *heard: door.backup.kept(*heard),
    Pull: lambda door, *heard: door.backup.pulled(*heard),
    Forget: lambda door, *heard: door.backup.forgotten(*heard),
    Offer: lambda door, *heard: door.takeover.offered(*heard),
    KeptUpto: lambda door, *heard: door.takeover.kept_upto(*heard),
    Claim: lambda door, *heard: door.takeover.claimed(*heard),
    Here: DurableDoor._here,
    Accepted: DurableDoor._accepted,
    Fetched: DurableDoor._fetched,
    Printed: DurableDoor._printed,
    PrintedGet: lambda door, *heard: door.requests.asked_output(*heard),
}
