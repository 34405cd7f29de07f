"""ZMTP 3 spoken octet by octet, so that each of them can be wrong. Row (a) of the attackers: a stranger.

Decides nothing: it makes greetings, frames, commands and the CURVE handshake (RFC 23, 26) and sends what it
is told to. Refuses to know the messages of the mesh. The arithmetic of CURVE comes from the libsodium that
pyzmq brings along, so that no test needs a package more; `sodium()` is None where there is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

import zmq
from zmq.utils import z85

from stealmesh.host.security import MeshKey
from stealmesh.transport import curve_keys

PATIENCE_SECONDS = 60.0
"""Far beyond what anything here takes: only a hang gets there."""
MORE, LONG, COMMAND = 1, 2, 4


def greeting(
    mechanism: bytes = b"CURVE", version: bytes = b"\3\1", *, server: bool = False
) -> bytes:
    return (
        b"\xff" + (1).to_bytes(8, "big") + b"\x7f" + version + mechanism.ljust(20, b"\0")
        + bytes([server]) + bytes(31)
    )  # fmt: skip


def frame(body: bytes, flags: int = 0, *, claims: int | None = None) -> bytes:
    """One frame; `claims`: the length that it says it has."""
    octets = len(body) if claims is None else claims
    if octets > 255 or flags & LONG:
        return struct.pack(">BQ", flags | LONG, octets) + body
    return struct.pack(">BB", flags, octets) + body


def command(name: bytes, body: bytes = b"") -> bytes:
    return frame(bytes([len(name)]) + name + body, COMMAND)


def metadata(**properties: bytes) -> bytes:
    named = {name.replace("_", "-").encode(): value for name, value in properties.items()}
    return b"".join(
        bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
        for name, value in named.items()
    )


class Caller:
    """One TCP connection to a node."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, octets: bytes) -> None:
        """The other side may have hung up by now, and then says so by its silence."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(octets)

    def take(self, octets: int) -> bytes:
        taken = b""
        while len(taken) < octets:
            part = self.socket.recv(octets - len(taken))
            if not part:
                raise EOFError(f"closed after {taken!r}")
            taken += part
        return taken

    def frame(self) -> tuple[int, bytes]:
        """The next frame that the node says: its flags and body."""
        flags = self.take(1)[0]
        octets = struct.unpack(">Q", self.take(8))[0] if flags & LONG else self.take(1)[0]
        return flags, self.take(octets)

    def rest(self) -> bytes:
        """All that still comes until the node hangs up, which it must."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                found += part
        return found

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---------------------------------------------------------------- CURVE


@functools.cache
def sodium() -> ctypes.CDLL | None:
    """The libsodium beside pyzmq, or the system's."""
    beside = os.path.join(os.path.dirname(os.path.dirname(zmq.__file__)), "pyzmq.libs")
    for name in [*glob.glob(os.path.join(beside, "libsodium*")), "libsodium.so.23"]:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _keypair() -> tuple[bytes, bytes]:
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    library = sodium()
    assert library is not None
    library.crypto_box_keypair(public, secret)
    return public.raw, secret.raw


def _box(text: bytes, nonce: bytes, public: bytes, secret: bytes) -> bytes:
    sealed = ctypes.create_string_buffer(len(text) + 16)
    library = sodium()
    assert library is not None
    assert not library.crypto_box_easy(
        sealed, text, ctypes.c_ulonglong(len(text)), nonce, public, secret
    )
    return sealed.raw


def _unbox(sealed: bytes, nonce: bytes, public: bytes, secret: bytes) -> bytes:
    text = ctypes.create_string_buffer(max(1, len(sealed) - 16))
    library = sodium()
    assert library is not None
    failed = library.crypto_box_open_easy(
        text, sealed, ctypes.c_ulonglong(len(sealed)), nonce, public, secret
    )
    assert not failed, "the node's box does not open"
    return text.raw[: len(sealed) - 16]


class CurveCaller(Caller):
    """A stranger that has a key pair of its own, or the mesh's, and does the handshake by hand."""

    def __init__(self, endpoint: str, key: MeshKey, *, client: MeshKey | None = None) -> None:
        super().__init__(endpoint)
        keys, own = curve_keys(key), curve_keys(client or key)
        self._server = z85.decode(keys.server_public)
        self._public, self._secret = z85.decode(own.peer_public), z85.decode(own.peer_secret)
        self._short_public, self._short_secret = _keypair()
        self._nonces = iter(range(1, 1 << 62))
        self._cookie = self._server_short = b""

    def _nonce(self) -> bytes:
        return next(self._nonces).to_bytes(8, "big")

    def greet(self) -> None:
        self.say(greeting())
        self.take(64)

    def hello(self) -> bytes:
        nonce = self._nonce()
        box = _box(bytes(64), b"CurveZMQHELLO---" + nonce, self._server, self._short_secret)
        return command(b"HELLO", b"\1\0" + bytes(72) + self._short_public + nonce + box)

    def welcomed(self) -> None:
        _, body = self.frame()
        assert body[:8] == b"\x07WELCOME", body
        inside = _unbox(body[24:], b"WELCOME-" + body[8:24], self._server, self._short_secret)
        self._server_short, self._cookie = inside[:32], inside[32:]

    def initiate(self, identity: bytes) -> bytes:
        voucher = os.urandom(16)
        vouch = _box(
            self._short_public + self._server,
            b"VOUCH---" + voucher,
            self._server_short,
            self._secret,
        )
        inside = self._public + voucher + vouch + metadata(Socket_Type=b"DEALER", Identity=identity)
        nonce = self._nonce()
        box = _box(inside, b"CurveZMQINITIATE" + nonce, self._server_short, self._short_secret)
        return command(b"INITIATE", self._cookie + nonce + box)

    def enter(self, identity: bytes = b"") -> bool:
        """The whole handshake; False: refused."""
        self.greet()
        self.say(self.hello())
        self.welcomed()
        self.say(self.initiate(identity))
        try:
            _, body = self.frame()
        except (EOFError, ConnectionResetError):
            return False
        return body[:6] == b"\x05READY"

    def message(self, body: bytes, *, more: bool = False) -> bytes:
        """One frame of a message, sealed."""
        nonce = self._nonce()
        inside = bytes([more]) + body
        box = _box(inside, b"CurveZMQMESSAGEC" + nonce, self._server_short, self._short_secret)
        return frame(b"\x07MESSAGE" + nonce + box)

    def heard(self) -> Iterator[bytes]:
        """What the node says, frame after frame, opened."""
        while True:
            _, body = self.frame()
            yield _unbox(
                body[16:], b"CurveZMQMESSAGES" + body[8:16], self._server_short, self._short_secret
            )[1:]
