"""What is said to peers, and that they know what we have acted on.

Decides what is kept until a link is there, what a new link repeats, and when an acknowledgement needs
a message of its own. Refuses to know what the messages mean, and how links come to be.

Idea: acknowledgements ride on messages that are sent anyway, as in TCP; one that no message carries
is delayed, but not while much is owed.
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Send
from stealmesh_engine.events import Heard, LinkId
from stealmesh_engine.links.custody import Hearing
from stealmesh_engine.links.dialling import Dialling
from stealmesh_engine.links.state import LinkTable, Peer
from stealmesh_protocol.conversation import A_CLIENT_MAY_HEAR
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Ack, Message, Role

ACKS_OWED_MAX = 16
ACKS_OWED_OCTETS_MAX = 1 << 20


class Sending:
    """The messages in both directions. Owns `channel` of Peer, and the acknowledgements that are owed."""

    def __init__(self, context: Context, table: LinkTable, dialling: Dialling) -> None:
        self._context = context
        self._table = table
        self._dialling = dialling
        self._pressing: dict[PeerId, None] = {}
        """Those of `table.owing` that are owed too much to wait."""

    def send(self, peer_id: PeerId, message: Message, now: float) -> bool:
        """Say something to a peer. Custody messages are kept until acknowledged and may wait for
        a link; control messages are lost without one (False)."""
        table = self._table
        peer = table.peers.get(peer_id)
        if peer is None:
            if peer_id == table.view.me.id:
                table.own_mail.append(message)
                return True
            member = table.view.members.get(peer_id)
            if member is None:
                self._context.counters.count("sent-to-unknown")
                table.is_stranger(peer_id)
                return False
            peer = table.meet(member)
        if peer.member.role is Role.CLIENT and message.TAG not in A_CLIENT_MAY_HEAR:
            # Somebody has told us that a program leads or keeps a job. It would end the link for such a word.
            self._context.counters.count("not-for-programs")
            return False
        seq = peer.channel.number(message) if message.CUSTODY else 0
        peer.used = now
        if peer.link is None:
            self._dialling.connect(peer_id, now)
            return message.CUSTODY
        self._say(peer_id, peer, message, seq)
        return True

    def broadcast(self, message: Message) -> None:
        """Send a control message to every peer with a link."""
        for peer_id, peer in self._table.ready():
            self._say(peer_id, peer, message, 0)

    def say_last(self, peer_id: PeerId, message: Message) -> None:
        """Send a control message to a peer with a link that is closed next."""
        self._say(peer_id, self._table.peers[peer_id], message, 0)

    def _say(self, peer_id: PeerId, peer: Peer, message: Message, seq: int) -> None:
        assert peer.link is not None
        self._context.effects.append(Send(peer.link, message, seq, peer.channel.acknowledging()))
        self._table.owing.pop(peer_id, None)

    def repeat(self, peer: Peer) -> None:
        """Send everything unacknowledged again: another link carries our messages now."""
        assert peer.link is not None
        for seq, message in peer.channel.again():
            self._context.effects.append(Send(peer.link, message, seq, peer.channel.heard))

    def replace(self, link: LinkId, seq: int, instead: Message) -> PeerId | None:
        """Keep `instead` in the place of a custody message that could not be sent. Returns its
        receiver; None for a control message, or if the receiver is forgotten."""
        line = self._table.lines.get(link)
        peer = None if line is None else self._table.peers.get(line.peer)
        if line is None or peer is None or not seq:
            return None
        replaced = peer.channel.replace(seq, instead)
        assert replaced, "what was never said cannot be acknowledged, nor replaced a second time"
        return line.peer

    def hear(self, peer_id: PeerId, event: Heard) -> Hearing:
        """Act on the header of a message over a ready link. The message itself is to be acted on only
        if it is new."""
        table = self._table
        channel = table.peers[peer_id].channel
        channel.acknowledged(event.ack)
        if peer_id in table.mute and table.has_acknowledged(peer_id, table.mute[peer_id]):
            del table.mute[peer_id]
        if not event.message.CUSTODY:
            return Hearing.NEW
        hearing = channel.hear(event.seq, event.octets)
        if hearing is Hearing.GAP:
            return hearing
        table.owing[peer_id] = None
        if channel.owed >= ACKS_OWED_MAX or channel.owed_octets >= ACKS_OWED_OCTETS_MAX:
            self._pressing[peer_id] = None
        if hearing is Hearing.REPEAT:
            self._context.counters.count("repeats-dropped")
        return hearing

    def acknowledge(self, *, all_owed: bool) -> None:
        """Acknowledge what no other message will carry; unless `all_owed`, only where much is owed."""
        if not (all_owed or self._pressing):
            return
        table = self._table
        for peer_id in list(table.owing if all_owed else self._pressing):
            if peer_id not in table.owing:
                continue  # another message has carried it
            peer = table.peers[peer_id]
            if peer.link is not None and peer.channel.owed:
                self._say(peer_id, peer, Ack(), 0)
            else:
                del table.owing[peer_id]
        self._pressing.clear()
