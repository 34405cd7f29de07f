"""The protocol's codec in the shape in which the transport asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stealmesh.transport.wire import Frames, Unreadable
from stealmesh_protocol import codec
from stealmesh_protocol.errors import RemoteProtocolError, Severity
from stealmesh_protocol.messages import Message


class WireReader:
    __slots__ = ("_assembler",)

    def __init__(self) -> None:
        self._assembler = codec.Assembler()

    def read(self, frames: Frames) -> codec.Decoded | None:
        try:
            return self._assembler.hear(frames)
        except RemoteProtocolError as error:
            quarantine = error.severity is Severity.QUARANTINE
            raise Unreadable(error.reason, quarantine=quarantine) from error


class WireCodec:
    def encode(
        self, message: Message, seq: int, ack: int, compress_bulk: bool
    ) -> Frames | Iterator[Frames]:
        frames: Any = codec.write(message, seq, ack, compress_bulk=compress_bulk)
        return frames  # type: ignore[no-any-return]

    def reader(self) -> WireReader:
        return WireReader()
