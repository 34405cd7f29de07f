"""The mesh key: 32 random octets that make strangers into peers.

Makes, stores and reads the key, writes it into a join token that a person can paste, and derives from
it everything that a proof needs. Refuses to know how the proof is carried out: no socket and no CURVE
arithmetic here (see transport/).

One secret, many derived ones (HKDF, RFC 5869), so that a user has one thing to copy: HyperQueue's
"always encrypted, nothing to set up" and k3s' "one pasted token" are the models. The fixed prefixes
let secret scanners find a leaked key; the check octets turn a typing error into a sentence
instead of a time-out. A key or a token is never logged: show the fingerprint.
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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stealmesh_protocol.errors import MeshError

KEY_OCTETS = 32
CHECK_OCTETS = 4
KEY_PREFIX = "stealmeshkey1-"
TOKEN_PREFIX = "stealmesh1-"
TOKEN_SEEDS_MAX = 16
FILE_OCTETS_MAX = 4096

_SALT = b"stealmesh mesh key v1"
_NOISE = re.compile(r"[^\x21-\x7e]|[\"'`\\>]")
"""What tools put into a pasted token: white space, invisible characters, quotes, quoting marks."""
_PASTED = re.compile(rf"{TOKEN_PREFIX}([a-z0-9]*)")


class KeyRefused(MeshError):
    """A key file cannot be trusted or understood; the text ends with the remedy."""


class TokenRefused(MeshError, ValueError):
    """A join token cannot be understood; the text ends with the remedy."""


@dataclass(frozen=True, slots=True)
class MeshKey:
    """The secret that all peers of one mesh share. Each holder is a full member."""

    secret: bytes = field(repr=False)

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
        """Public name of the mesh, for HELLO."""
        return self.derive("mesh id", 16)

    # ------------------------------------------------------------ as a file

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MeshKey:
        """Read a key that only this user can read or change; raise KeyRefused otherwise."""
        return cls(_decode_key(_read_private(Path(path)), Path(path)))

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the key with mode 0600, whole or not at all; never over another one unasked."""
        target = Path(path)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        body = KEY_PREFIX + _armour(self.secret) + "\n"
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

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> MeshKey:
        """The key at `path`; a new one if there is none. Two starters at once agree on one key."""
        if not os.path.lexists(path):
            with contextlib.suppress(KeyRefused):  # another process was first: its key counts
                cls.generate().save(path)
        return cls.load(path)


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

    key: MeshKey
    seeds: tuple[str, ...] = ()

    def encode(self) -> str:
        if len(self.seeds) > TOKEN_SEEDS_MAX or any("\n" in seed for seed in self.seeds):
            raise TokenRefused(f"a join token holds at most {TOKEN_SEEDS_MAX} one-line addresses")
        return TOKEN_PREFIX + _armour(self.key.secret + "\n".join(self.seeds).encode())

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """Read a pasted token, with all that a terminal, a shell or a chat puts into or around it: white
        space, line ends, quotes, `stealmesh join`, `stealmesh.Mesh("…")`. Raises TokenRefused."""
        pasted = _NOISE.sub("", text).lower()
        found = _PASTED.search(pasted)
        if found is None:
            raise TokenRefused(_why_no_token(pasted))
        payload = _unarmour(found[1])
        if payload is None or len(payload) < KEY_OCTETS:
            raise TokenRefused(
                "the join token has a typing error or its end is missing: "
                "copy the whole line that `stealmesh start` printed once more"
            )
        try:
            seeds = payload[KEY_OCTETS:].decode()
        except UnicodeDecodeError:
            raise TokenRefused(
                "the join token names no readable addresses: print a new one with `stealmesh token`"
            ) from None
        return cls(MeshKey(payload[:KEY_OCTETS]), tuple(seeds.split("\n")) if seeds else ())


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


def _armour(payload: bytes) -> str:
    whole = payload + hashlib.sha256(payload).digest()[:CHECK_OCTETS]
    return base64.b32encode(whole).decode("ascii").rstrip("=").lower()


def _unarmour(text: str) -> bytes | None:
    """The payload, or None if the text is no armour or its check does not hold."""
    try:
        whole = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return None
    payload = whole[:-CHECK_OCTETS]
    # Compared as text, so that stray bits at the end, which base32 ignores, are found as well.
    return payload if _armour(payload) == text else None


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
    if secret is None or len(secret) != KEY_OCTETS:
        raise KeyRefused(f"the key in {path} is damaged: copy the key file once more")
    return secret
