"""A small codec for tests of the transport alone: frames that are easy to garble on purpose."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from stealmesh.transport import Unreadable
from stealmesh_protocol.messages import MESSAGES, Message

MAGIC = b"\xabG"
HEADER = struct.Struct(">2sBBQQ")
PART_OCTETS = 256 * 1024
WHOLE, MORE_PARTS, LAST_PART = 0, 1, 2


@dataclass(slots=True)
class Decoded:
    message: Message
    seq: int
    ack: int
    octets: int


class StandInCodec:
    def __init__(self) -> None:
        self.compress_asked: list[bool] = []

    def encode(
        self, message: Message, seq: int, ack: int, compress_bulk: bool
    ) -> list[bytes] | Iterator[list[bytes]]:
        self.compress_asked.append(compress_bulk)
        blobs: list[bytes] = list(getattr(message, "blobs", ()))
        body = msgspec.msgpack.encode(message)
        if sum(map(len, blobs)) <= PART_OCTETS:
            return [HEADER.pack(MAGIC, WHOLE, message.TAG, seq, ack), body]
        return self._parts(message.TAG, body, seq, ack)

    def _parts(self, tag: int, body: bytes, seq: int, ack: int) -> Iterator[list[bytes]]:
        for start in range(0, len(body), PART_OCTETS):
            last = start + PART_OCTETS >= len(body)
            kind = LAST_PART if last else MORE_PARTS
            yield [HEADER.pack(MAGIC, kind, tag, seq, ack), body[start : start + PART_OCTETS]]

    def reader(self) -> StandInReader:
        return StandInReader()


class StandInReader:
    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def read(self, frames: list[bytes]) -> Decoded | None:
        if len(frames) != 2 or len(frames[0]) != HEADER.size:
            raise Unreadable("frames")
        magic, kind, tag, seq, ack = HEADER.unpack(frames[0])
        if magic != MAGIC:
            raise Unreadable("magic")
        if tag not in MESSAGES:
            raise Unreadable("kind", quarantine=False)
        body = frames[1]
        if kind != WHOLE:
            self._parts.append(body)
            if kind == MORE_PARTS:
                return None
            body, self._parts = b"".join(self._parts), []
        message = msgspec.msgpack.decode(body, type=MESSAGES[tag])
        return Decoded(message, seq, ack, len(body))
