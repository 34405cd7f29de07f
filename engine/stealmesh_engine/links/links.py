"""The face of this package: what the rest of the engine asks of links and does with them.

Decides which links are closed because they are idle, too many, or lead to a peer that is over. Refuses
to know the rest: which links come to be (dialling.py), who is let in (introductions.py), what is
said again (sending.py), and what any message means. It makes no call upwards: what happened to peers is
returned as `Happened`, and consequences.py acts on it.

Idea: a ROUTER socket to receive and reply, a DEALER for each dialled link, after the ZeroMQ guide.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Hangup
from stealmesh_engine.events import BarTokens, CameBy, Garbled, LinkDown, LinkUp
from stealmesh_engine.links.dialling import Dialling
from stealmesh_engine.links.guests import Guests
from stealmesh_engine.links.introductions import Introductions
from stealmesh_engine.links.sending import Sending
from stealmesh_engine.links.state import Happened, LinkTable
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Barred, Bye, Message, Role
from stealmesh_protocol.passes import NO_TOKENS, TokenSecrets

IDLE_SECONDS = 1.0
"""A link over which we have sent something within this time is in use."""


class Links(LinkTable):
    """All links of this node: the table of everything that is known, and the parts that work on it.
    Most of what others call is a method of a part; the constructor lists them.

    `mesh` is the fingerprint of the mesh key, `runtime` the name of our Python: both are said in
    introductions, as is the proof in `tokens`, if we came with one.
    """

    def __init__(
        self,
        context: Context,
        view: MembershipView,
        mesh: bytes,
        runtime: str,
        tokens: TokenSecrets = NO_TOKENS,
        wall_offset: float = 0.0,
    ) -> None:
        super().__init__(view)
        self._context = context
        self.dialling = dialling = Dialling(context, self)
        self.join, self.connect, self.misses = dialling.join, dialling.connect, dialling.misses
        self.probe, self.is_nowhere = dialling.probe, dialling.is_nowhere
        self.knock, self.ask_again = dialling.knock, dialling.ask_again
        self.reseek, self.seek_remembered = dialling.reseek, dialling.seek_remembered
        self.dial_due, self.give_up_waiting = dialling.dial_due, dialling.give_up_waiting
        self.sending = sending = Sending(context, self, dialling)
        self.broadcast, self.unsaid = sending.broadcast, sending.replace
        self.hear, self.acknowledge = sending.hear, sending.acknowledge
        self.guests = guests = Guests(context, self, tokens.secrets, wall_offset, sending.send)
        self.introductions = said = Introductions(
            context, self, dialling, sending, guests, mesh, runtime, tokens.proof
        )
        self.show_out = said.show_out
        self.asks_the_way, self.introduction = said.asks_the_way, said.heard
        self.confused, self.begin_again = said.confused, said.begin_again
        self.offended = said.offended

    def send(self, peer_id: PeerId, message: Message, now: float) -> bool:
        """Say something to a peer. Custody messages are kept until acknowledged and may wait for
        a link; control messages are lost without one (False)."""
        return self.sending.send(peer_id, message, now)

    # ------------------------------------------------------------ closing

    def hang_up(self, peer_id: PeerId, reason: str) -> None:
        """End the link with a peer in order."""
        if self.is_ready(peer_id):
            self.sending.say_last(peer_id, Bye(reason))
            self.let_go(peer_id)

    def let_go(self, peer_id: PeerId) -> None:
        """The link with this peer is of no use to one side: that is no break, and it is not missed."""
        link = self.peers[peer_id].link
        if link is not None:
            self.lines.pop(link, None)
            self._context.effects.append(Hangup(link))
            self.detach(peer_id)

    def renew(self, peer_id: PeerId, now: float) -> None:
        """A link that we dialled brings nothing any more: try another one."""
        peer = self.peers.get(peer_id)
        if peer is not None and peer.link is not None and self.lines[peer.link].dialled:
            self.hang_up(peer_id, "idle")
            self.connect(peer_id, now)

    def release(self, wanted: Container[PeerId], now: float) -> None:
        """Close the idle links that we dialled, except those with `wanted` peers and with clients."""
        for used, peer_id in self._idle():
            client = self.peers[peer_id].member.role is Role.CLIENT
            if peer_id not in wanted and not client and now - used > IDLE_SECONDS:
                self.hang_up(peer_id, "idle")

    def retire(self, links_max: int, wanted: Container[PeerId], now: float) -> None:
        """Close the least recently used links that we dialled, beyond `links_max` of them, except those with `wanted`
        peers: who holds work of a program may have something to tell it, and cannot dial a program."""
        if len(self.peers) <= links_max:
            return
        idle = sorted(self._idle())
        beyond = len(idle) - links_max
        for used, peer_id in idle:
            if beyond > 0 and peer_id not in wanted and now - used > IDLE_SECONDS:
                self.hang_up(peer_id, "idle")
                beyond -= 1

    def _idle(self) -> list[tuple[float, PeerId]]:
        """The links that we dialled and over which nothing is under way: (last used, peer)."""
        return [
            (peer.used, peer_id)
            for peer_id, peer in self.ready()
            if self.lines[peer.link].dialled and not peer.channel.unacked  # type: ignore[index]
        ]

    def forget(self, peer_id: PeerId) -> None:
        """This life is over: what was meant for it is dropped."""
        peer = self.peers.get(peer_id)
        if peer is None:
            return
        lost = len(peer.channel.unacked)
        if lost:
            self._context.counters.count("unsent-to-the-dead", lost)
        links = self.ready_lines(peer_id)
        if peer.dialling in self.lines and peer.dialling not in links:
            links.append(peer.dialling)
        for link in links:
            line = self.introductions.leave(link, "you were held for dead")
            self.dialling.abandoned(link, line)
        self.detach(peer_id)
        self.remove(peer_id)
        self.guests.forget(peer_id)


EVENTS: dict[type, Callable[[Links, Any, float], Happened]] = {
    LinkUp: lambda links, event, now: links.introductions.link_up(event.link, now),
    LinkDown: lambda links, event, now: links.introductions.link_down(
        event.link, event.reason, now
    ),
    CameBy: lambda links, event, now: links.guests.came(event),
    BarTokens: lambda links, event, now: links.guests.bar(event.names, now),
    Garbled: lambda links, event, now: links.confused(event.link, event.reason, now),
}
"""Events that concern links alone; what they return concerns others."""

MESSAGES: dict[type[Message], Callable[[Links, PeerId, Any, float], None]] = {
    Barred: lambda links, peer_id, message, now: links.guests.heard_barred(peer_id, message, now),
}
"""Messages between introduced peers that concern links alone."""
