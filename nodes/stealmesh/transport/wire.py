"""Where messages become frames and frames become messages, as the transport needs it.

Decides nothing: it names the two calls that a link makes and translates "this is no message"
into the one error that the transport knows, so that sockets and bytes can change separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from stealmesh_protocol import codec
from stealmesh_protocol.codec import Frames
from stealmesh_protocol.errors import RemoteProtocolError, Severity
from stealmesh_protocol.messages import Message

__all__ = [
    "Codec",
    "IncomingMessage",
    "Frames",
    "MessageReader",
    "Unreadable",
    "WireCodec",
    "WireReader",
]


class Unreadable(Exception):
    """Frames that are no message. `quarantine`: nothing more from that connection is worth reading."""

    def __init__(self, reason: str, *, quarantine: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.quarantine = quarantine


class IncomingMessage(Protocol):
    @property
    def message(self) -> Message: ...
    @property
    def seq(self) -> int: ...
    @property
    def ack(self) -> int: ...
    @property
    def octets(self) -> int: ...


class MessageReader(Protocol):
    """The receiving end of one link: it keeps the parts of a split message until the last is there."""

    def read(self, frames: Frames) -> IncomingMessage | None:
        """The message that these frames are or complete; None: more parts to come. Raises Unreadable."""


class Codec(Protocol):
    def encode(
        self, message: Message, seq: int, ack: int, compress_bulk: bool
    ) -> Frames | Iterator[Frames]:
        """A message that travels in one piece as a list; a big one as an iterator of its parts."""

    def reader(self) -> MessageReader: ...


class WireReader:
    """One link's Assembler, with its errors in the transport's terms."""

    __slots__ = ("_hear",)

    def __init__(self) -> None:
        self._hear = codec.Assembler().hear

    def read(self, frames: Frames) -> IncomingMessage | None:
        try:
            return self._hear(frames)
        except RemoteProtocolError as error:
            quarantine = error.severity is Severity.QUARANTINE
            raise Unreadable(error.reason, quarantine=quarantine) from error


class WireCodec:
    """The real codec (tests of the sockets alone bring one of their own)."""

    def encode(
        self, message: Message, seq: int, ack: int, compress_bulk: bool
    ) -> Frames | Iterator[Frames]:
        return codec.write(message, seq, ack, compress_bulk=compress_bulk)

    def reader(self) -> WireReader:
        return WireReader()
