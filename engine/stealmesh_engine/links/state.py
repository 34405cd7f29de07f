"""What is known of each link and of each peer behind one: plain records.

Decides nothing. Refuses to know when they change (links.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_engine.events import LinkId
from stealmesh_engine.links.custody import Channel
from stealmesh_protocol.conversation import LinkState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member


@dataclass(slots=True)
class Line:
    """One link: how far its introduction has come."""

    state: LinkState
    dialled: bool
    endpoint: str = ""
    to: PeerId = b""
    """Whom we expect to find there; empty for a seed."""
    peer: PeerId = b""
    since: float = 0.0
    """When we said HELLO."""


@dataclass(slots=True)
class Peer:
    """One process life that we have talked to, or mean to."""

    member: Member
    epoch: int
    """Our memory of this peer is new under this number; it tells the peer when we have forgotten, and
    which of two introductions that cross is the later one."""
    their_epoch: int = 0
    link: LinkId | None = None
    dialling: LinkId | None = None
    channel: Channel = field(default_factory=Channel)
    attempts: int = 0
    dial_at: float | None = None
    used: float = 0.0
    heard_at: float = -1e9
    """When it last said anything."""
    shown_at: float = -1e9
    """When it was last asked where its view differs from ours."""
    absent_at: tuple[str, ...] = ()
    """Those of its addresses where it was looked for, and is not."""


@dataclass(slots=True)
class Seed:
    """An address that we were given: who lives there is to be found out."""

    dialling: LinkId | None = None
    attempts: int = 0
    dial_at: float | None = 0.0
    own: bool = False
    """It turned out to be our own address."""
    once: bool = False
    """Not an address that we were given: tried once, then forgotten."""
    spared: bool = False
    """Not to be dialled for the first time if we get in by another door before."""


@dataclass(slots=True)
class Happened:
    """What a link event meant for a peer."""

    up: list[PeerId] = field(default_factory=list)
    """Reachable now (again)."""
    cut: list[PeerId] = field(default_factory=list)
    """The last link with it is gone."""
    reset: list[PeerId] = field(default_factory=list)
    """It has forgotten our traffic (it had taken us for dead): nothing we sent counts any more."""
    replaced: list[PeerId] = field(default_factory=list)
    """Another process answers at its address: that life is over."""
