"""The blobs that the node has sent ahead, exactly as the node believes them to be.

The node decides what is kept and what is forgotten; this side only follows, so no message has to
acknowledge anything.
"""

from __future__ import annotations

import socket
from typing import Any

from stealmesh.workers import wire
from stealmesh.workers.wire import FrameKind


class BlobMirror:
    """The worker's side of the stream: blobs by key, exactly as the node believes them to be."""

    def __init__(self, stream: socket.socket) -> None:
        self._frames = wire.FrameReader(stream)
        self._ahead: list[tuple[int, memoryview]] = []
        self.read = 0
        """Frames of the stream so far."""
        self._blobs: dict[bytes, bytes] = {}
        self.forgotten: list[bytes] = []
        """Keys forgotten since the loader last looked."""

    def setup(self) -> list[Any]:
        kind, payload = self._next()
        assert kind == FrameKind.SETUP, kind
        record: list[Any] = wire.unpack(payload)
        return record

    def catch_up(self, after: int) -> None:
        """Read the first `after` frames of the stream: the order that is about to run relies on them."""
        while self.read < after:
            kind, payload = self._next()
            if kind == FrameKind.PUT:
                (octets,) = wire.PUT_HEAD.unpack_from(payload)
                body = wire.PUT_HEAD.size + octets
                self._blobs[bytes(payload[wire.PUT_HEAD.size : body])] = bytes(payload[body:])
            else:
                assert kind == FrameKind.FORGET, kind
                key = bytes(payload)
                self._blobs.pop(key, None)
                self.forgotten.append(key)

    def _next(self) -> tuple[int, memoryview]:
        while not self._ahead:
            self._ahead = self._frames.read()
            self._ahead.reverse()
        self.read += 1
        return self._ahead.pop()

    def get(self, key: bytes) -> bytes:
        return self._blobs[key]

    def take(self, key: bytes) -> bytes:
        return self._blobs.pop(key)
