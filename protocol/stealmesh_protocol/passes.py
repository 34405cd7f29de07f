"""Passes: what the holder of a token may do, until when, and under which name; and how a peer proves it.

Decides what a pass is, how it is sealed, and that a proof belongs to one process life. Refuses to know how the
connection itself is proved (CURVE), whether a pass has expired or was revoked (the engine's links/guests.py), and
what the roles may say (conversation.py).

A pass is sealed with a secret that only holders of the mesh key can derive. So a token can be made anywhere, and
no node has to be told of it. The seal is a secret, too: it stands in the token and in the proof that HELLO carries,
and both are seen by nodes only. The id of a token holder's process follows from its seal and a random nonce, so no
other token can be used to speak in its name.

The id of a process with the mesh key follows from a secret that the process draws, and HELLO carries the secret. Such
ids end in a mark, so that any peer knows of an id that nobody may speak under it without a proof, without having met
the process before. Other ids are anybody's: those of the simulator, and of processes older than the mark.

Ideas: bearer tokens with a MAC after macaroons (Birgisson and others, 2014); ids that commit to a secret after
CGAs (RFC 3972).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from stealmesh_protocol.ids import PEER_ID_OCTETS, PeerId
from stealmesh_protocol.limits import PROOF_OCTETS_MAX, SECONDS_MAX, TOKEN_NAME_CHARS_MAX

SEAL_OCTETS = 32
NONCE_OCTETS = 16
LIFE_OCTETS = 32
PROVES_ITSELF = b"\x1d\xc3\x5a"
"""The end of an id that follows from a secret. One random id in 16,777,216 ends like this as well."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{TOKEN_NAME_CHARS_MAX - 1}}}")
_BARRED = re.compile(_NAME.pattern + r"@[0-9a-f]{8}")

PassSecrets = tuple[tuple[str, bytes], ...]
"""Secrets with which passes may be sealed, each behind the fingerprint of the mesh key that it comes from."""


class KeyRole(IntEnum):
    """What a peer may do, by the key that it came with. (`Role` is what it does.)"""

    PEER = 0
    """Holds the mesh key: everything."""
    SUBMIT = 1
    """Runs jobs of its own, and looks."""
    VIEW = 2
    """Looks."""


class Pass(msgspec.Struct, array_like=True, frozen=True):
    """What a token says of its holder."""

    role: KeyRole
    name: str
    expires: float = 0.0
    """In seconds since 1970; 0: never."""


@dataclass(frozen=True, slots=True)
class TokenSecrets:
    """What one peer knows of tokens."""

    proof: bytes = b""
    """Of its own, if it came with one."""
    secrets: PassSecrets = ()
    """With these the tokens of others may be sealed."""


NO_TOKENS = TokenSecrets()


class _Proof(msgspec.Struct, array_like=True, frozen=True):
    token: Pass
    seal: bytes
    nonce: bytes


_encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(_Proof)


def is_name(text: str) -> bool:
    """Can this be the name of a token?"""
    return _NAME.fullmatch(text) is not None


def barred(name: str, mark: str) -> str:
    """How the tokens of this name that were made with this mesh key (its fingerprint) are called when they count no
    more."""
    return f"{name}@{mark}"


def is_barred(text: str) -> bool:
    return _BARRED.fullmatch(text) is not None


def sealed(secret: bytes, told: Pass) -> bytes:
    """The seal of a pass under this secret."""
    return hashlib.blake2b(_encode(told), key=secret, digest_size=SEAL_OCTETS).digest()


def life_id(seal: bytes, nonce: bytes) -> PeerId:
    """The id of the process that holds this seal and has drawn this nonce."""
    return hashlib.blake2b(nonce, key=seal, digest_size=PEER_ID_OCTETS).digest()


def own_id(secret: bytes) -> PeerId:
    """The id of the process that has drawn this secret (LIFE_OCTETS of it)."""
    size = PEER_ID_OCTETS - len(PROVES_ITSELF)
    digest = hashlib.blake2b(secret, digest_size=size, person=b"stealmesh life").digest()
    return digest + PROVES_ITSELF


def may_be(speaker: PeerId, proof: bytes) -> bool:
    """May the holder of the mesh key that shows this proof speak under this id?"""
    if not speaker.endswith(PROVES_ITSELF):
        return True
    return len(proof) == LIFE_OCTETS and own_id(proof) == speaker


def proof_of(told: Pass, seal: bytes, nonce: bytes) -> bytes:
    """What HELLO carries."""
    return _encode(_Proof(told, seal, nonce))


def proved(proof: bytes, secrets: PassSecrets, speaker: PeerId) -> tuple[Pass, str] | None:
    """The pass that this proves to a holder of one of these secrets, and the mesh key that it was made with; None: it
    proves nothing."""
    if len(proof) > PROOF_OCTETS_MAX:
        return None
    try:
        told = _decoder.decode(proof)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    token = told.token
    fits = (
        token.role is not KeyRole.PEER
        and is_name(token.name)
        and 0.0 <= token.expires <= SECONDS_MAX
        and (len(told.seal), len(told.nonce)) == (SEAL_OCTETS, NONCE_OCTETS)
    )
    if not fits or life_id(told.seal, told.nonce) != speaker:
        return None
    for mark, secret in secrets:
        if hmac.compare_digest(sealed(secret, token), told.seal):
            return token, mark
    return None
