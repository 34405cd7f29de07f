"""The mesh key: 32 random octets that make strangers into peers.

Makes, stores and reads the key, writes it into a join token that a person can paste, and derives from
it everything that a proof needs. Refuses to know how the proof is carried out: no socket and no CURVE
arithmetic here (see transport/).

One secret, many derived ones (HKDF, RFC 5869), so that a user has one thing to copy: HyperQueue's
"always encrypted, nothing to set up" and k3s' "one pasted token" are the models. The fixed prefixes
let secret scanners find a leaked key; the check octets turn a typing error into a sentence
instead of a time-out. A key or a token is never logged: show the fingerprint.

A mesh key may bring the one before it, which counts until a given time (`rotated`): so nodes that have the new key
and nodes that only have the old one can be in one mesh. The mesh keeps the id of its first key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stealmesh.host.guest_key import GuestKey
from stealmesh_protocol.errors import MeshError

KEY_OCTETS = 32
CHECK_OCTETS = 4
KEY_PREFIX = "stealmeshkey1-"
TOKEN_PREFIX = "stealmesh1-"
TOKEN_SEEDS_MAX = 16
FILE_OCTETS_MAX = 4096

ID_OCTETS, MARK_OCTETS = 16, 4
MESH_OCTETS = ID_OCTETS + MARK_OCTETS
_UNTIL = struct.Struct(">d")
_OCTETS = (KEY_OCTETS, KEY_OCTETS + MESH_OCTETS, 2 * KEY_OCTETS + MESH_OCTETS + _UNTIL.size)
"""Of a mesh key that is the first of its mesh, of a later one, and of a later one with the one before it."""
_RING, _GUEST = b"ring", b"guest"
"""What a token's check is mixed with, if it holds more, or less, than a first mesh key."""

_SALT = b"stealmesh mesh key v1"
_NOISE = re.compile(r"[^\x21-\x7e]|[\"'`\\>]")
"""What tools put into a pasted token: white space, invisible characters, quotes, quoting marks."""
_PASTED = re.compile(rf"{TOKEN_PREFIX}([a-z0-9]*)")


class KeyRefused(MeshError):
    """A key file cannot be trusted or understood; the text ends with the remedy."""


class TokenRefused(MeshError, ValueError):
    """A join token cannot be understood; the text ends with the remedy."""


@dataclass(frozen=True, slots=True)
class FormerKey:
    """The mesh key before this one."""

    secret: bytes = field(repr=False)
    until: float
    """It counts until then, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class MeshKey:
    """The secret that all peers of one mesh share. Each holder is a full member."""

    secret: bytes = field(repr=False)
    mesh: bytes = field(default=b"", repr=False)
    """If this is not the first key of its mesh: the id of the mesh, and the fingerprint of the first key."""
    former: FormerKey | None = None

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_OCTETS:
            raise KeyRefused(
                f"a mesh key has {KEY_OCTETS} octets, this one has {len(self.secret)}: "
                "make one with MeshKey.generate() or copy the key file of a running node"
            )

    @classmethod
    def generate(cls) -> MeshKey:
        return cls(secrets.token_bytes(KEY_OCTETS))

    def derive(self, label: str, octets: int = 32) -> bytes:
        """HKDF-SHA256 of the key under `label`; what this returns does not reveal the key."""
        assert 0 < octets <= 255 * 32
        pseudo_random = hmac.digest(_SALT, self.secret, "sha256")
        info, block, output = label.encode(), b"", b""
        for counter in range(1, (octets + 31) // 32 + 1):
            block = hmac.digest(pseudo_random, block + info + bytes([counter]), "sha256")
            output += block
        return output[:octets]

    def fingerprint(self) -> str:
        """Eight hex digits to tell keys apart: equal on both machines, useless to a stranger."""
        return self.derive("fingerprint", 4).hex()

    def mesh_id(self) -> bytes:
        """Public name of the mesh, for HELLO. It outlives its keys."""
        return self.mesh[:ID_OCTETS] or self.derive("mesh id", ID_OCTETS)

    def mesh_mark(self) -> str:
        """The name of the mesh in files of this user, which outlive its keys as well."""
        return self.mesh[ID_OCTETS:].hex() or self.fingerprint()

    def before(self) -> MeshKey | None:
        """The key before this one, if it is still known."""
        return None if self.former is None else MeshKey(self.former.secret, self.mesh)

    def rotated(self, until: float) -> MeshKey:
        """A new key for the same mesh; this one counts until then."""
        mesh = self.mesh or self.mesh_id() + bytes.fromhex(self.fingerprint())
        return MeshKey(secrets.token_bytes(KEY_OCTETS), mesh, FormerKey(self.secret, until))

    def follows(self, other: MeshKey) -> bool:
        """Does this key bring the other one along, as the one before it?"""
        return self.former is not None and self.former.secret == other.secret

    def alone(self) -> MeshKey:
        """This key without the one before it."""
        return MeshKey(self.secret, self.mesh)

    # ------------------------------------------------------------ as octets

    def packed(self) -> bytes:
        if self.former is None:
            return self.secret + self.mesh
        return self.secret + self.mesh + self.former.secret + _UNTIL.pack(self.former.until)

    @classmethod
    def unpacked(cls, octets: bytes) -> MeshKey:
        """Raises KeyRefused."""
        secret, mesh = octets[:KEY_OCTETS], octets[KEY_OCTETS : KEY_OCTETS + MESH_OCTETS]
        rest = octets[KEY_OCTETS + MESH_OCTETS :]
        if len(octets) not in _OCTETS:
            raise KeyRefused("this is no mesh key: copy the key file of a running node")
        former = None
        if rest:
            former = FormerKey(rest[:KEY_OCTETS], *_UNTIL.unpack(rest[KEY_OCTETS:]))
        return cls(secret, mesh, former)

    # ------------------------------------------------------------ as a file

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MeshKey:
        """Read a key that only this user can read or change; raise KeyRefused otherwise."""
        content = _read_private(Path(path))
        if (guest := _token_in(content)) is not None:
            raise KeyRefused(
                f"{path} holds a {guest}, which is no mesh key: a node needs the line that `stealmesh "
                "start` printed (`stealmesh join`)"
            )
        return cls.unpacked(_decode_key(content, Path(path)))

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the key with mode 0600, whole or not at all; never over another one unasked."""
        save_private(path, KEY_PREFIX + _armour(self.packed()), replace=replace)

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> MeshKey:
        """The key at `path`; a new one if there is none. Two starters at once agree on one key."""
        if not os.path.lexists(path):
            with contextlib.suppress(KeyRefused):  # another process was first: its key counts
                cls.generate().save(path)
        return cls.load(path)


AnyKey = MeshKey | GuestKey
"""What a program may come with."""


def load_key(path: str | os.PathLike[str]) -> AnyKey:
    """The mesh key or the token in a private file. Raises KeyRefused."""
    content = _read_private(Path(path))
    return _token_in(content) or MeshKey.unpacked(_decode_key(content, Path(path)))


def keep_key(key: AnyKey, path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write a mesh key or a token into a private file."""
    if isinstance(key, MeshKey):
        key.save(path, replace=replace)
    else:
        save_private(path, JoinToken(key).encode(), replace=replace)


def _token_in(content: bytes) -> GuestKey | None:
    """A token of `stealmesh token`, as the whole content of a file."""
    text = content.decode("ascii", "replace").strip()
    if not text.startswith(TOKEN_PREFIX):
        return None
    try:
        key = JoinToken.decode(text).key
    except TokenRefused:
        return None
    return key if isinstance(key, GuestKey) else None


def save_private(path: str | os.PathLike[str], line: str, *, replace: bool = False) -> None:
    """Write a line into a file that only this user can read, whole or not at all; never over another one unasked."""
    target = Path(path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    body = line + "\n"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, target)
        else:
            os.link(draft, target)  # fails if the target exists, unlike rename
    except FileExistsError:
        raise KeyRefused(f"{target} exists already: remove it or choose another file") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def default_key_path(environment: Mapping[str, str] = os.environ) -> Path:
    """STEALMESH_KEY_FILE, otherwise a file in the user's config directory."""
    if named := environment.get("STEALMESH_KEY_FILE"):
        return Path(named)
    config = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(config) / "stealmesh" / "mesh.key"


# ---------------------------------------------------------------- join tokens


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a person pastes on the second machine: the key, and where to find the mesh."""

    key: AnyKey
    seeds: tuple[str, ...] = ()

    def encode(self) -> str:
        if len(self.seeds) > TOKEN_SEEDS_MAX or any("\n" in seed for seed in self.seeds):
            raise TokenRefused(f"a join token holds at most {TOKEN_SEEDS_MAX} one-line addresses")
        seeds = "\n".join(self.seeds).encode()
        if isinstance(self.key, MeshKey) and not self.key.mesh:
            return TOKEN_PREFIX + _armour(self.key.secret + seeds)
        packed = self.key.packed()
        mark = _GUEST if isinstance(self.key, GuestKey) else _RING
        return TOKEN_PREFIX + _armour(len(packed).to_bytes(2, "big") + packed + seeds, mark)

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """Read a pasted token, with all that a terminal, a shell or a chat puts into or around it: white
        space, line ends, quotes, `stealmesh join`, `stealmesh.Mesh("…")`. Raises TokenRefused."""
        pasted = _NOISE.sub("", text).lower()
        found = _PASTED.search(pasted)
        if found is None:
            raise TokenRefused(_why_no_token(pasted))
        key, seeds = _opened(found[1])
        try:
            return cls(key, tuple(seeds.decode().split("\n")) if seeds else ())
        except UnicodeDecodeError:
            raise TokenRefused(
                "the join token names no readable addresses: print a new one with `stealmesh token`"
            ) from None


def _opened(text: str) -> tuple[AnyKey, bytes]:
    """What is in a token: its key, and its addresses. Raises TokenRefused."""
    key: AnyKey | None = None
    if (payload := _unarmour(text)) is not None and len(payload) >= KEY_OCTETS:
        return MeshKey(payload[:KEY_OCTETS]), payload[KEY_OCTETS:]
    for mark in (_GUEST, _RING):
        if (payload := _unarmour(text, mark)) is None:
            continue
        end = 2 + int.from_bytes(payload[:2], "big")
        packed = payload[2:end]
        if mark is _GUEST:
            key = GuestKey.unpacked(packed)
        elif len(packed) in _OCTETS:
            key = MeshKey.unpacked(packed)
        if key is not None:
            return key, payload[end:]
    raise TokenRefused(
        "the join token has a typing error or its end is missing: "
        "copy the whole line that `stealmesh start` or `stealmesh token` printed once more"
    )


def _why_no_token(token: str) -> str:
    if token.startswith(KEY_PREFIX):
        return "this is the inside of a key file, not a join token: give the file's path (--key-file, key=)"
    if token.startswith("stealmesh") and "-" in token:
        return (
            f"this join token was made by another version of Stealmesh (here: {TOKEN_PREFIX}…): "
            "install the same version on both machines"
        )
    return f"a join token begins with {TOKEN_PREFIX}: paste the line that `stealmesh start` printed"


# ---------------------------------------------------------------- armour


def _armour(payload: bytes, mark: bytes = b"") -> str:
    whole = payload + hashlib.sha256(mark + payload).digest()[:CHECK_OCTETS]
    return base64.b32encode(whole).decode("ascii").rstrip("=").lower()


def _unarmour(text: str, mark: bytes = b"") -> bytes | None:
    """The payload, or None if the text is no armour or its check does not hold."""
    try:
        whole = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return None
    payload = whole[:-CHECK_OCTETS]
    # Compared as text, so that stray bits at the end, which base32 ignores, are found as well.
    return payload if _armour(payload, mark) == text else None


# ---------------------------------------------------------------- the file


def _read_private(path: Path) -> bytes:
    try:
        # NONBLOCK: a named pipe in the key's place must not hang us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyRefused(
            f"there is no mesh key at {path}: `stealmesh start` makes one, `stealmesh join` "
            "brings one (`join --key-only` without a node)"
        ) from None
    except OSError as error:
        if path.is_symlink():
            raise KeyRefused(f"{path} is a symbolic link: name the file itself") from None
        raise KeyRefused(f"cannot read {path} ({error.strerror}): check its owner") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        kind = "a directory" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        raise KeyRefused(f"{path} is {kind}: name a key file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_uid != os.geteuid():
            raise KeyRefused(
                f"{path} belongs to user {facts.st_uid}, not to you: make your own copy of it"
            )
        if facts.st_mode & 0o077:
            raise KeyRefused(f"others can read or change {path}: run `chmod 600 {path}`")
        return file.read(FILE_OCTETS_MAX + 1)


def _decode_key(content: bytes, path: Path) -> bytes:
    if not content:
        raise KeyRefused(f"{path} is empty: remove it, or copy the key file once more")
    if b"\r" in content:
        raise KeyRefused(f"{path} has Windows line ends: run `sed -i 's/\\r//' {path}`")
    lines = content.removesuffix(b"\n").split(b"\n")
    if len(lines) != 1:
        raise KeyRefused(f"{path} has more than one line: a key file holds exactly one key")
    text = lines[0].decode("ascii", "replace")
    if not text.startswith(KEY_PREFIX):
        raise KeyRefused(f"{path} is no key file (a key begins with {KEY_PREFIX}): name another")
    secret = _unarmour(text.removeprefix(KEY_PREFIX))
    if secret is None or len(secret) not in _OCTETS:
        raise KeyRefused(f"the key in {path} is damaged: copy the key file once more")
    return secret
