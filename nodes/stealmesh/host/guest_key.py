"""What the holder of a submit or view token has instead of the mesh key.

Decides how such a token is written down, and how its holder proves it (protocol: passes.py). The mesh key cannot be
derived from it: it has the server's public key, the CURVE key of its role, its pass, and the seal on that. Refuses
to make one (host/issuing.py does, which needs the mesh key), and to know what the roles may do.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

import msgspec

from stealmesh_protocol.errors import NotAllowed
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.limits import SECONDS_MAX
from stealmesh_protocol.passes import (
    NONCE_OCTETS,
    SEAL_OCTETS,
    KeyRole,
    Pass,
    is_name,
    life_id,
    proof_of,
)

CURVE_OCTETS = 32
SERVERS_MAX = 2
OTHERS_JOBS = "cancel jobs of other programs that are not durable"


class _Written(msgspec.Struct, array_like=True, frozen=True):
    told: Pass
    seal: bytes
    secret: bytes
    servers: tuple[bytes, ...]
    mesh: bytes
    mark: bytes


@dataclass(frozen=True, slots=True)
class GuestKey:
    """The key of a token that is not the mesh key. `stealmesh.Mesh` takes it like one."""

    told: Pass
    seal: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    """The CURVE key of its role."""
    servers: tuple[bytes, ...] = field(repr=False)
    """The public keys that nodes may have: while the mesh key is changed there are two."""
    mesh: bytes = field(repr=False)
    mark: bytes

    @property
    def role(self) -> KeyRole:
        return self.told.role

    def fingerprint(self) -> str:
        """That of the mesh key with which the token was made: nodes show the same."""
        return self.mark.hex()

    def mesh_id(self) -> bytes:
        return self.mesh

    def mesh_mark(self) -> str:
        """The name of the mesh in files of this user."""
        return self.mark.hex()

    def new_life(self) -> tuple[PeerId, bytes]:
        """The id of a new process that holds this token, and the proof that it is its own."""
        nonce = secrets.token_bytes(NONCE_OCTETS)
        return life_id(self.seal, nonce), proof_of(self.told, self.seal, nonce)

    def __str__(self) -> str:
        until = ""
        if self.told.expires:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.told.expires))
            until = f" until {day}"
        return f"{self.role.name.lower()} token {self.told.name!r}{until}"

    def not_allowed(self, what: str) -> NotAllowed:
        needed = "a node needs the mesh key: `stealmesh join` with the line that `start` printed"
        if what == OTHERS_JOBS:
            needed = "use the mesh key, or end that program"
        elif what != "be a node":
            needed = "use one that `stealmesh token --role submit` has made"
        return NotAllowed(f"this {self} does not allow to {what}: {needed}")

    # ------------------------------------------------------------ as octets

    def packed(self) -> bytes:
        told = _Written(self.told, self.seal, self.secret, self.servers, self.mesh, self.mark)
        return msgspec.msgpack.encode(told)

    @classmethod
    def unpacked(cls, octets: bytes) -> GuestKey | None:
        """None: these octets are no token."""
        try:
            told = msgspec.msgpack.decode(octets, type=_Written)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None
        fits = (
            told.told.role is not KeyRole.PEER
            and is_name(told.told.name)
            and 0.0 <= told.told.expires <= SECONDS_MAX
            and len(told.seal) == SEAL_OCTETS
            and 0 < len(told.servers) <= SERVERS_MAX
            and all(len(each) == CURVE_OCTETS for each in (told.secret, *told.servers))
            and (len(told.mesh), len(told.mark)) == (16, 4)
        )
        if not fits:
            return None
        return cls(told.told, told.seal, told.secret, told.servers, told.mesh, told.mark)
