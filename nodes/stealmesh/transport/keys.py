"""The CURVE keys that a mesh key, or a token, stands for: with which to dial, and whom to let in as what.

Decides which pairs a connector tries, in which order, and which client keys an inbox knows. Refuses to know
sockets (sockets.py) and what the roles may say (the engine).

While a mesh key is changed (SPEC 5.3) nodes keep the old server key, and both client keys are let in. The new client
key is tried first; a node that does not have it yet refuses, and the old one follows at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import zmq
from zmq.utils import z85

from stealmesh.host.guest_key import GuestKey
from stealmesh.host.security import AnyKey, MeshKey
from stealmesh_protocol.passes import KeyRole

LABELS = {KeyRole.PEER: "peer", KeyRole.SUBMIT: "submit", KeyRole.VIEW: "view"}
"""Under these a mesh key gives the CURVE key of each role."""


class CurveKeys(NamedTuple):
    """The two key pairs of holders of a mesh key: all inboxes share one, all dialers the other."""

    server_public: bytes
    server_secret: bytes
    peer_public: bytes
    peer_secret: bytes


class CurveWay(NamedTuple):
    """One way to dial: the public key that the listener must have, and our pair."""

    server: bytes
    public: bytes
    secret: bytes


class LetIn(NamedTuple):
    """What a client key that is let in says of its holder."""

    role: KeyRole
    until: float = 0.0
    """It is that of an old mesh key, which counts until then (seconds since 1970); 0: of today's."""

    def user_id(self) -> bytes:
        """As libzmq shows it with each message of the connection."""
        return f"{int(self.role)} {self.until!r}".encode()

    @classmethod
    def of(cls, user_id: str) -> LetIn:
        role, _, until = user_id.partition(" ")
        return cls(KeyRole(int(role)), float(until))


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything that one process needs of its key."""

    ways: tuple[CurveWay, ...]
    """In the order in which they are tried."""
    server_secret: bytes = b""
    """Empty: it cannot listen."""
    let_in: Mapping[bytes, LetIn] | None = None
    """Raw public keys of clients."""
    says: str = ""
    """What we have, for people."""


class Ways:
    """Which of our pairs was let in where."""

    def __init__(self, ways: tuple[CurveWay, ...]) -> None:
        self._ways = ways
        self._good: dict[str, CurveWay] = {}

    def to(self, endpoint: str) -> list[CurveWay]:
        """How to dial there, the likeliest way first; none without a key."""
        first = self._good.get(endpoint)
        return sorted(self._ways, key=lambda way: way != first)

    def worked(self, endpoint: str, left: list[CurveWay]) -> None:
        if len(self._ways) > 1:
            self._good[endpoint] = left[0]


def curve_keys(key: MeshKey) -> CurveKeys:
    server, peer = (z85.encode(key.derive(label)) for label in ("server", "peer"))
    return CurveKeys(zmq.curve_public(server), server, zmq.curve_public(peer), peer)


def role_secret(key: MeshKey, role: KeyRole) -> bytes:
    """The CURVE key of all that come in this role, raw."""
    return key.derive(LABELS[role])


def servers_of(key: MeshKey, now: float) -> tuple[bytes, ...]:
    """The public keys that nodes may have now, raw, the likelier first."""
    own = z85.decode(curve_keys(key).server_public)
    before = key.before()
    if before is None or key.former is None:
        return (own,)
    old = z85.decode(curve_keys(before).server_public)
    return (old, own) if now < key.former.until else (own, old)


def keys_of(key: AnyKey, *, listens: bool, now: float | None = None) -> Keys:
    """`listens`: it needs to know whom to let in. Raises NotAllowed for a token that would have to."""
    now = time.time() if now is None else now
    if isinstance(key, GuestKey):
        if listens:
            raise key.not_allowed("be a node")
        secret = z85.encode(key.secret)
        public = zmq.curve_public(secret)
        ways = tuple(CurveWay(z85.encode(each), public, secret) for each in key.servers)
        return Keys(ways, says=f"ours: {key} of the mesh key {key.fingerprint()}")
    return _peers_keys(key, now, listens=listens)


def _peers_keys(key: MeshKey, now: float, *, listens: bool) -> Keys:
    own = curve_keys(key)
    before, former = key.before(), key.former
    roles = tuple(KeyRole) if listens else ()
    let_in = {_public_of(key, role): LetIn(role) for role in roles}
    servers = [z85.encode(each) for each in servers_of(key, now)]
    ways = [CurveWay(server, own.peer_public, own.peer_secret) for server in servers]
    server_secret = own.server_secret
    if before is not None and former is not None and now < former.until:
        old = curve_keys(before)
        ways.insert(1, CurveWay(old.server_public, old.peer_public, old.peer_secret))
        let_in |= {_public_of(before, role): LetIn(role, former.until) for role in roles}
        server_secret = old.server_secret
    return Keys(tuple(ways), server_secret, let_in, f"ours: {key.fingerprint()}")


def _public_of(key: MeshKey, role: KeyRole) -> bytes:
    return z85.decode(zmq.curve_public(z85.encode(role_secret(key, role))))
