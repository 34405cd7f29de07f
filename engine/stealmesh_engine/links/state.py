"""What a node knows of its links: connections, the peers behind them, and addresses to try.

Decides nothing: it answers questions and keeps its own indexes true. Refuses to know when a link
is dialled (dialling.py), introduced (introductions.py) or closed (links.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from stealmesh_engine.events import LinkId
from stealmesh_engine.links.addresses import ways_to
from stealmesh_engine.links.custody import Channel
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.conversation import LinkState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.limits import STRANGERS_MAX
from stealmesh_protocol.messages import Member, Message, Role
from stealmesh_protocol.passes import KeyRole


@dataclass(frozen=True, slots=True)
class GuestPass:
    """What is known of the peer behind a link that was not made with the mesh key of today."""

    role: KeyRole
    name: str = ""
    expires: float = 0.0
    """In seconds since 1970; 0: never."""
    entry: str = ""
    """What its token would be called in the record of those that count no more."""


@dataclass(slots=True)
class Line:
    """One connection, and how far its introduction has come."""

    state: LinkState
    dialled: bool
    """True if we dialled it, False if the peer did."""
    endpoint: str = ""
    to: PeerId = b""
    """The peer that we expect there; empty for a seed."""
    peer: PeerId = b""
    """The peer that introduced itself; empty until the link is ready."""
    since: float = 0.0
    """When we said HELLO."""
    guest: GuestPass | None = None
    """The peer came with another key than the mesh key of today, and this is what it may do."""


@dataclass(slots=True)
class Peer:
    """One process life that we have talked to, or mean to."""

    member: Member
    epoch: int
    """Session number. It increases whenever we discard the channel state for this peer; both sides
    then restart at sequence 1, and the higher of two crossing HELLOs wins."""
    their_epoch: int = 0
    link: LinkId | None = None
    """The link that carries our messages; None: the peer cannot be talked to now."""
    dialling: LinkId | None = None
    channel: Channel = field(default_factory=Channel)
    attempts: int = 0
    """Failed dials in a row: the next one waits the longer."""
    dial_at: float | None = None
    used: float = 0.0
    """When we last sent it anything."""
    heard_at: float = -1e9
    """When it last sent anything."""
    shown_at: float = -1e9
    """When we last asked it where its view differs from ours."""
    absent_at: tuple[str, ...] = ()
    """Those of its addresses where a probe found that nothing listens."""
    rude: int = 0
    """How many of its messages were refused on this link."""
    met_at: tuple[str, ...] = ()
    """Its addresses when we met it. `member` is replaced by every newer record."""

    def is_heard(self, now: float) -> None:
        """A sign of life."""
        self.heard_at = now

    def may_be_shown(self, now: float, seconds: float) -> bool:
        """It is worth another page of our view, the last one being at least so old. Counts as shown."""
        if now - self.shown_at < seconds:
            return False
        self.shown_at = now
        return True

    def is_carried_by(self, link: LinkId) -> None:
        """From now on this link carries our messages; no other need be dialled."""
        self.link, self.dial_at, self.rude = link, None, 0

    def is_not_dialled_by(self, link: LinkId) -> None:
        """This link has become ready, or never will."""
        if self.dialling == link:
            self.dialling = None

    def offends(self) -> int:
        """Another message of it contradicts what we know. Returns how many did."""
        self.rude += 1
        return self.rude

    def restart_session(self) -> None:
        """The peer has discarded its channel state: both sides restart at sequence 1."""
        self.channel, self.link = Channel(), None

    def back_off(self, attempts: int) -> None:
        """Wait before the next dial as after this number of failed ones."""
        self.attempts = max(self.attempts, attempts)


OUT_OF_REACH_SHOWN_MAX = 16


@dataclass(slots=True)
class Seed:
    """An address to dial without knowing which peer listens there."""

    dialling: LinkId | None = None
    attempts: int = 0
    dial_at: float | None = 0.0
    own: bool = False
    """It turned out to be our own address."""
    once: bool = False
    """Not an address that we were given: dialled once, then forgotten."""
    spared: bool = False
    """Not to be dialled for the first time if we join through another address before."""


@dataclass(slots=True)
class Happened:
    """What a link event meant for peers. consequences.py acts on it, in the order of the fields."""

    reset: list[PeerId] = field(default_factory=list)
    """It had taken us for dead and discarded its channel state: nothing that we sent counts any more."""
    up: list[PeerId] = field(default_factory=list)
    """Reachable now (again)."""
    cut: list[PeerId] = field(default_factory=list)
    """The last link with it is gone."""
    replaced: list[PeerId] = field(default_factory=list)
    """Another process answers at its address: that life is over."""
    named: list[Member] = field(default_factory=list)
    """The records in a WELCOME."""
    named_by: PeerId = b""
    """The peer that sent them; empty unless a WELCOME came."""


class LinkTable:
    """All links and peers of this node, and what can be asked about them."""

    def __init__(self, view: MembershipView) -> None:
        self.view = view
        self.lines: dict[LinkId, Line] = {}
        self.peers: dict[PeerId, Peer] = {}
        self.seeds: dict[str, Seed] = {}
        """Endpoint → what has become of dialling it."""
        self.mute: dict[PeerId, int] = {}
        """Nodes that are out of our reach, no matter what others say of them: silent, impossible to
        dial, or deaf to us. Such a node is in reach again once it has acknowledged the custody message
        with this number."""
        self.owing: dict[PeerId, None] = {}
        """Peers that wait for an acknowledgement."""
        self.own_mail: deque[Message] = deque()
        self.strangers: dict[PeerId, None] = {}
        """Peers that we had something to say to and do not know."""
        """Messages to ourselves: the primary of a durable job may hold leases of that job, too."""
        self._listening_at: dict[str, dict[PeerId, None]] = {}
        """Endpoint → those of `peers` that listen there."""
        self._lines_of: dict[PeerId, list[LinkId]] = {}
        """Links that became ready with a peer, the oldest first; some may be gone."""
        self._epochs = 0

    # ------------------------------------------------------------ who can be talked to

    def out_of_reach(self) -> list[str]:
        """The names of nodes that are said to live and that do not answer us; some of them."""
        found = [
            peer.member.name
            for peer_id, peer in self.peers.items()
            if peer.link is None
            and (peer.attempts or peer_id in self.mute)
            and peer.member.role is not Role.CLIENT
            and self.view.is_alive(peer_id)
        ]
        return sorted(found)[:OUT_OF_REACH_SHOWN_MAX]

    def ready(self) -> Iterator[tuple[PeerId, Peer]]:
        """Peers that can be talked to now."""
        return ((peer_id, peer) for peer_id, peer in self.peers.items() if peer.link is not None)

    def is_ready(self, peer_id: PeerId) -> bool:
        peer = self.peers.get(peer_id)
        return peer is not None and peer.link is not None

    @property
    def joined(self) -> bool:
        """True if any peer can be talked to."""
        return any(peer.link is not None for peer in self.peers.values())

    @property
    def has_company(self) -> bool:
        """True if a node is in our reach. Programs that have joined us lead to no other node."""
        return any(p.member.role is not Role.CLIENT and i not in self.mute for i, p in self.ready())

    def member_of(self, peer_id: PeerId) -> Member | None:
        """The record of a peer that we know or talk to. (A node's view need not have the clients.)"""
        peer = self.peers.get(peer_id)
        return self.view.members.get(peer_id) if peer is None else peer.member

    def endpoints_of(self, member: Member) -> list[str]:
        """Where to dial a member from here, the best address first."""
        return ways_to(member, self.view.me)

    def living_at(self, endpoint: str) -> list[PeerId]:
        """Peers without a link that should be listening at this endpoint."""
        found = ((peer_id, self.peers[peer_id]) for peer_id in self._listening_at.get(endpoint, ()))
        return [
            peer_id
            for peer_id, peer in found
            if peer.link is None and endpoint in self.endpoints_of(peer.member)
        ]

    # ------------------------------------------------------------ what is under way

    def unheard(self, peer_id: PeerId) -> Iterator[Message]:
        """The custody messages that a peer has not acknowledged."""
        peer = self.peers.get(peer_id)
        return iter(()) if peer is None else (message for _, message, _ in peer.channel.unacked)

    def unacked_octets(self, peer_id: PeerId) -> int:
        peer = self.peers.get(peer_id)
        return 0 if peer is None else peer.channel.unacked_octets

    def last_said(self, peer_id: PeerId) -> int:
        """The number of the last custody message to this peer; 0 if it has acknowledged all."""
        peer = self.peers.get(peer_id)
        return 0 if peer is None or not peer.channel.unacked else peer.channel.unacked[-1][0]

    def has_acknowledged(self, peer_id: PeerId, number: int) -> bool:
        peer = self.peers.get(peer_id)
        return peer is None or not peer.channel.unacked or peer.channel.unacked[0][0] > number

    # ------------------------------------------------------------ changes

    def meet(self, member: Member) -> Peer:
        """The peer with this record; a new one, with the next epoch, if we do not remember it."""
        peer = self.peers.get(member.id)
        if peer is None:
            self._epochs += 1
            peer = self.peers[member.id] = Peer(
                member, self._epochs, met_at=tuple(dict.fromkeys(member.endpoints))
            )
            for endpoint in peer.met_at:
                self._listening_at.setdefault(endpoint, {})[member.id] = None
        return peer

    def learns(self, record: Member) -> Peer | None:
        """A newer record. Returns the peer, if we remember it."""
        peer = self.peers.get(record.id)
        if peer is not None:
            peer.member = record
        return peer

    def is_buried(self, peer_id: PeerId) -> None:
        """The view has forgotten this life: that it is out of our reach no longer matters."""
        self.mute.pop(peer_id, None)

    def is_stranger(self, peer_id: PeerId) -> None:
        """There is something to say to a peer that we do not know."""
        if len(self.strangers) < STRANGERS_MAX:
            self.strangers[peer_id] = None

    def take_strangers(self) -> list[PeerId]:
        """Those that we had something to say to."""
        strangers, self.strangers = list(self.strangers), {}
        return strangers

    def take_own_mail(self) -> list[Message]:
        """What we have said to ourselves, oldest first; the caller hears it now."""
        mail = list(self.own_mail)
        self.own_mail.clear()
        return mail

    def remove(self, peer_id: PeerId) -> None:
        """Discard all that we remember of a peer except its lines."""
        peer = self.peers.pop(peer_id)
        self._lines_of.pop(peer_id, None)
        for endpoint in peer.met_at:
            there = self._listening_at[endpoint]
            there.pop(peer_id, None)
            if not there:
                del self._listening_at[endpoint]

    def detach(self, peer_id: PeerId) -> None:
        """No link carries messages to this peer any more, so no acknowledgement either."""
        self.owing.pop(peer_id, None)
        self.peers[peer_id].link = None

    def ready_lines(self, peer_id: PeerId) -> list[LinkId]:
        """Every link that is ready with this peer, the oldest first."""
        lines = self.lines
        found = [
            n for n in self._lines_of.get(peer_id, ()) if n in lines and lines[n].peer == peer_id
        ]
        self._lines_of[peer_id] = found
        return found

    def becomes_ready(self, link: LinkId, peer_id: PeerId) -> None:
        """Both sides of this link know each other."""
        line = self.lines[link]
        line.state, line.peer = LinkState.READY, peer_id
        known = self.ready_lines(peer_id)
        if link not in known:
            known.append(link)
