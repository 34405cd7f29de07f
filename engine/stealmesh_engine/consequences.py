"""What follows for all parts of a peer when another one is met, heard of, silent or gone.

Decides in which order the parts hear of it: trade ends before leases are freed, so that nothing is granted
to a peer that is gone; a verdict is acted on before the next peer is judged, as what follows from one may
change the next. Refuses to know who is alive (`membership`) and which links there are (`links`): both
return what they have found, and it is brought here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.effects import Joined
from stealmesh_engine.events import Join, Probed
from stealmesh_engine.links import links
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.state import Happened, Peer
from stealmesh_engine.membership.changes import Arrived, Change
from stealmesh_engine.parts import Parts
from stealmesh_engine.status import Inquiries
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Around, Bye, Member, Message, Role, View


class Consequences:
    """Acts on changes of peers, by all parts of this one."""

    def __init__(self, parts: Parts, inquiries: Inquiries) -> None:
        self._parts = parts
        self._inquiries = inquiries
        self._effects = parts.effects
        self._journal = parts.journal
        self._view = parts.view
        self.links = parts.links
        self._membership = parts.membership
        self._joined = False

    # ------------------------------------------------------------ lives

    def look(self, now: float) -> None:
        """Judge the silent one by one: what follows from one verdict may change the next."""
        overdue = self._membership.look(now)
        for peer in overdue.suspects:
            self.act(self._membership.suspect(peer, now), now)
        for peer in overdue.ripe:
            self.act(self._membership.judge(peer, now), now)
        self._parts.detector.plan_next(now)

    def learn(self, records: list[Member], now: float, source: PeerId = b"") -> None:
        """Join these records, which `source` sent, into our view."""
        for record in records:
            self.act(self._membership.learn(record, now, source), now)
        self._membership.charges.settle_soon(now)

    def act(self, change: Change, now: float) -> None:
        """Move the work of a peer that is gone, or lease work to one that has come."""
        if isinstance(change, Arrived):
            self._parts.owner.arrived(now)
        elif change is not None:
            parts, peer = self._parts, change.peer
            self._no_trade(peer)
            parts.around.gone(peer, now, now + parts.owner.wall_offset)
            self._unmoored(peer, now)
            self._membership.close(change, now)
            parts.heartbeats.fall_out_of_step(now)

    def _no_trade(self, peer: PeerId) -> None:
        self._parts.victim.forget(peer)
        self._parts.thief.forget(peer)

    def _unmoored(self, peer: PeerId, now: float) -> None:
        """What we had with it, or it with us, is void: work, ledgers, copies."""
        parts = self._parts
        parts.owner.fence(peer, now)
        parts.holder.owner_gone(peer, now)
        parts.values.peer_gone(peer, now)
        parts.durable.peer_gone(peer, now)

    # ------------------------------------------------------------ links

    def join(self, event: Join, now: float) -> None:
        self.links.join(event.seeds, event.remembered, now)
        if not event.seeds:
            self._announce_joined()

    def _announce_joined(self) -> None:
        if not self._joined:
            self._joined = True
            self._effects.append(Joined())

    def probed(self, event: Probed, now: float) -> None:
        """Nothing listens where a peer should be: that life is over."""
        if event.listening:
            self._membership.suspicions.probed(event.endpoint)
            self._membership.supernodes.probed(event.endpoint, now)
        if event.listening is not False:
            return
        for peer in self.links.living_at(event.endpoint):
            if self._view.is_alive(peer) and self.links.is_nowhere(peer, event.endpoint):
                self.act(self._membership.verdicts.dead(peer, now, "gone"), now)

    def happened(self, happened: Happened, now: float) -> None:
        """A link event has meant this for peers."""
        for peer_id in happened.reset:
            self._journal.tell(now, "was forgotten by", detail=peer_id)
            self._unmoored(peer_id, now)
        for peer_id in happened.up:
            self._peer_up(self.links.peers[peer_id], now)
        for peer_id in happened.cut:
            self._peer_cut(peer_id, now)
        for peer_id in happened.replaced:
            if self._view.is_alive(peer_id) and not self.links.is_ready(peer_id):
                self.act(self._membership.verdicts.dead(peer_id, now, "gone"), now)
        if happened.named_by and (
            self._view.told is None or self._membership.leaf.unobserved_since is not None
        ):
            # Otherwise our observers know better which peers we should know.
            self.learn(happened.named, now, happened.named_by)

    def _peer_up(self, peer: Peer, now: float) -> None:
        parts, peer_id = self._parts, peer.member.id
        self._journal.tell(now, "talks to", detail=peer.member.name)
        parts.runtimes.compare(self._view.me, peer.member)
        parts.victim.forget(peer_id)
        parts.thief.met(peer_id)
        self.learn([peer.member], now)
        self._membership.heard(peer_id, peer, now)
        if peer.member.role is Role.CLIENT:
            parts.detector.forget(peer_id)  # it is back; its beats will put it under watch
        if not self._joined:
            self._membership.told.joins(peer.member, now)
        self._announce_joined()
        self._inquiries.met(peer_id, now)
        parts.values.met(peer_id, now)
        parts.holder.follow_ons.across.met(peer_id, now)
        self.links.guests.met(peer_id, now)
        parts.heartbeats.greet(now)
        parts.owner.place(now)
        parts.durable.met(peer.member, now)

    def _peer_cut(self, peer_id: PeerId, now: float) -> None:
        self._journal.tell(now, "lost the link with", detail=peer_id)
        self._no_trade(peer_id)
        self.act(self._membership.cut(peer_id, now), now)

    # ------------------------------------------------------------ what peers say of peers

    def heard_view(self, peer_id: PeerId, message: View, now: float) -> None:
        self.learn(message.members, now, peer_id)

    def heard_around(self, peer_id: PeerId, message: Around, now: float) -> None:
        leaf = self._membership.leaf
        if leaf.listens_to(peer_id, message):
            self.learn(message.members, now, peer_id)
            leaf.heard_around(peer_id, message, now)
        self._parts.heartbeats.seek_links(now)

    def heard_bye(self, peer_id: PeerId, message: Bye, now: float) -> None:
        if message.reason == "idle":
            self.links.let_go(peer_id)  # it closes the link, not its life
            self._no_trade(peer_id)
            if self._parts.holder.jobs.ending_with(peer_id):
                # It closed this link to reconnect. If it dies before it does, no link is left to break.
                # Regression: tests/sim/test_random_worlds.py, "an owner that only hung up".
                patience = self._parts.config.owner_gone_seconds
                self._parts.detector.watch(peer_id, now, patience)
            return
        self._journal.tell(now, "says goodbye", detail=peer_id)
        self.act(self._membership.verdicts.left(peer_id, now), now)


def _told_to_links(handler: Callable[[Links, Any, float], Happened]) -> Callable[..., None]:
    return lambda consequences, event, now: consequences.happened(
        handler(consequences.links, event, now), now
    )


EVENTS: dict[Any, Callable[..., None]] = {
    Join: Consequences.join,
    Probed: Consequences.probed,
    **{kind: _told_to_links(handler) for kind, handler in links.EVENTS.items()},
}
MESSAGES: dict[type[Message], Callable[..., None]] = {
    View: Consequences.heard_view,
    Around: Consequences.heard_around,
    Bye: Consequences.heard_bye,
}
