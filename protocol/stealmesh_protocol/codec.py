"""Messages to frames and back: the only place where octets of the wire are read or written.

Decides how a message lies in frames and whether frames are a message. Refuses to know links,
sessions and whether a message is in its place (the caller passes the kinds that it would
accept; conversation.py has the tables). SPEC.md describes the same shape for other languages.

::

    frame 0        header (28) | table: 7 octets for each blob outside the body | body
    frames 1...    one buffer each, in the order of the table

Three sizes of messages. *Small*: all blobs are short and lie in the body; one frame, no table.
*Bulky*: each longer blob is a frame of its own. *In pieces*: the blobs of what is too much for
one multipart go ahead in PIECE messages, so that a beat can pass between two of them; an
Assembler for each link puts them together.

Every check comes before the allocation that it protects, in the order of SPEC.md. Only
RemoteProtocolError leaves ``decode``, only LocalProtocolError ``encode``: what is wrong with a
message of ours is found here, before a peer ends the link for it.

Ideas: the table of lengths before the frames and sampling before compressing are dask's, errors by
the side at fault h11's.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, NoReturn, cast

import lz4.block
import msgspec

from stealmesh_protocol import limits
from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.errors import LocalProtocolError, RemoteProtocolError, Severity
from stealmesh_protocol.field_checks import Fault
from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Accepted,
    Ack,
    Around,
    Barred,
    Beat,
    Bye,
    CallOff,
    Closed,
    Dismiss,
    Fetch,
    FnGet,
    Forget,
    Hello,
    Here,
    Hire,
    Hired,
    HireOver,
    JournalGet,
    JournalPage,
    KeptUpto,
    LookAt,
    Message,
    Nothing,
    Piece,
    Printed,
    PrintedGet,
    Refused,
    Sated,
    Seek,
    Seen,
    Status,
    StatusGet,
    Steal,
    Taken,
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
    View,
    Welcome,
)

Octets = bytes | memoryview
"""Of a blob. Pieces of values are views of the frames that they came in, and are sent as they lie in memory."""
Frames = list[bytes]
"""One ZeroMQ multipart message."""

MAGIC = b"SM"
MAJOR = 1
HEADER = struct.Struct(">2sBBHHQQI")
"""magic, major, kind, flags, entries in the table, seq, ack, octets of the unpacked body."""

ENTRY = struct.Struct(">HBI")
"""Place of the blob in the message's list, codec of its buffer, octets unpacked."""

BODY_IS_LZ4 = 1
IN_PIECES = 2
RAW, LZ4 = 0, 1

assert HEADER.size == limits.HEADER_OCTETS
KIND_AT = 3
"""Which octet of the first frame is the kind."""

_BODY_OCTETS_MAX: dict[type[Message], int] = {
    **dict.fromkeys(
        (
            *(
                Hello,
                Refused,
                Bye,
                Ack,
                Steal,
                Nothing,
                Sated,
                Closed,
                FnGet,
                StatusGet,
                Piece,
                Taken,
            ),
            *(Accepted, Abolish, Seek, Here, KeptUpto, Forget, Fetch),
            *(ValueSeek, ValueAt, ValueGet, ValuePut, ValueHeld, ValueDrop, PrintedGet),
            *(LookAt, CallOff, JournalGet),
            *(Hire, Hired, HireOver, Dismiss),
        ),
        limits.SMALL_BODY_OCTETS,
    ),
    **dict.fromkeys(
        (Welcome, Beat, View, Around, Status, Seen, Printed, JournalPage, Barred),
        limits.CONTROL_BODY_OCTETS,
    ),
}
"""A message that is not named here moves work and may be WORK_BODY_OCTETS large."""


class Decoded(msgspec.Struct):
    """A message and what its envelope said."""

    message: Message
    seq: int
    ack: int
    octets: int
    """On the wire, the pieces before it included."""


class _Kind:
    """What the codec knows about one kind of message, made once."""

    __slots__ = ("body_max", "check", "custody", "decode", "has_blobs", "name", "tag")

    def __init__(self, cls: type[Message]) -> None:
        self.tag = cls.TAG
        self.name = cls.__name__
        self.custody = cls.CUSTODY
        self.has_blobs = "blobs" in cls.__struct_fields__
        self.body_max = body_octets_max(cls)
        self.check: Callable[[Any], None] = CHECKS[cls]
        self.decode: Callable[[Octets], Message] = msgspec.msgpack.Decoder(cls).decode


def body_octets_max(cls: type[Message]) -> int:
    """How large the unpacked body of this kind may be."""
    return _BODY_OCTETS_MAX.get(cls, limits.WORK_BODY_OCTETS)


_KINDS = {tag: _Kind(cls) for tag, cls in MESSAGES.items()}
_encode_body = msgspec.msgpack.Encoder().encode
_compress = lz4.block.compress
_decompress = lz4.block.decompress


# ---------------------------------------------------------------- to frames


def write(
    message: Message, seq: int = 0, ack: int = 0, *, compress_bulk: bool = False
) -> Frames | Iterator[Frames]:
    """One multipart as a list; what is too much for one as an iterator over several, which
    belong on the wire in this order, with nothing but control messages in between.

    Everything that can be wrong with the message is raised here, none of it by the iterator.
    """
    kind = _KINDS.get(message.TAG)
    if kind is None:
        raise LocalProtocolError(
            "kind", f"{type(message).__name__} is not a message of this protocol"
        )
    try:
        kind.check(message)
        _check_numbers(kind, seq, ack)
        if kind.has_blobs and _is_bulky(message.blobs):  # type: ignore[attr-defined]
            return _write_bulky(kind, message, seq, ack, compress_bulk)
        return [_first_frame(kind, message, 0, 0, b"", seq, ack)]
    except Fault as fault:
        raise LocalProtocolError(fault.reason, f"{kind.name}: {fault}") from fault
    except (TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise LocalProtocolError("schema", f"{kind.name}: {error}") from error


def encode(message: Message, seq: int = 0, ack: int = 0, *, compress_bulk: bool = False) -> Frames:
    """A message that fits one multipart; use `split` or `write` where it may not."""
    frames = write(message, seq, ack, compress_bulk=compress_bulk)
    if isinstance(frames, list):
        return frames
    raise LocalProtocolError("size", f"{type(message).__name__} has to travel in pieces")


def split(
    message: Message, seq: int = 0, ack: int = 0, *, compress_bulk: bool = False
) -> Iterator[Frames]:
    """The multiparts that carry the message, mostly just one."""
    frames = write(message, seq, ack, compress_bulk=compress_bulk)
    return iter((frames,)) if isinstance(frames, list) else frames


def _check_numbers(kind: _Kind, seq: int, ack: int) -> None:
    """Custody messages are numbered from 1, all others bear the number 0."""
    if (seq != 0) is not kind.custody or not 0 <= seq <= limits.SEQ_MAX:
        raise Fault("seq", f"the number {seq} on a {'custody' if kind.custody else 'control'} one")
    if not 0 <= ack <= limits.SEQ_MAX:
        raise Fault("seq", f"the acknowledgement {ack}")


def _is_bulky(blobs: Sequence[Octets]) -> bool:
    """Do any blobs have to lie outside the body?"""
    if max(map(len, blobs), default=0) > limits.INLINE_BLOB_OCTETS:
        return True
    return len(blobs) > limits.BUFFERS_MAX and sum(map(len, blobs)) > limits.INLINE_OCTETS_MAX


def _first_frame(
    kind: _Kind, message: Message, flags: int, entries: int, table: bytes, seq: int, ack: int
) -> bytes:
    body = _encode_body(message)
    octets = len(body)
    if octets > kind.body_max:
        raise Fault("size", f"a body of {octets} octets where {kind.body_max} are allowed")
    if octets >= limits.COMPRESS_BODY_OCTETS_MIN:
        packed = _compress(body, store_size=False)
        if len(packed) <= octets * limits.COMPRESS_RATIO_MAX:
            body, flags = packed, flags | BODY_IS_LZ4
    head = HEADER.pack(MAGIC, MAJOR, kind.tag, flags, entries, seq, ack, octets)
    return head + table + body if table else head + body


def _write_bulky(
    kind: _Kind, message: Any, seq: int, ack: int, compress_bulk: bool
) -> Frames | Iterator[Frames]:
    blobs: Sequence[Octets] = message.blobs
    outside = [i for i, blob in enumerate(blobs) if len(blob) > limits.INLINE_BLOB_OCTETS]
    octets = sum(len(blobs[place]) for place in outside)
    if (
        len(outside) > limits.BUFFERS_MAX
        or octets > limits.MESSAGE_BUFFER_OCTETS
        or sum(map(len, blobs)) - octets > limits.INLINE_OCTETS_MAX
    ):
        return _write_pieces(kind, message, seq, ack, compress_bulk)
    table, buffers = [], []
    for place in outside:
        codec, buffer = _packed_buffer(blobs[place], compress_bulk)
        table.append(ENTRY.pack(place, codec, len(blobs[place])))
        buffers.append(buffer)
    body = _without(message, outside)
    first = _first_frame(kind, body, 0, len(table), b"".join(table), seq, ack)
    return cast("Frames", [first, *buffers])  # a view is as good: it is only sent


def _write_pieces(
    kind: _Kind, message: Any, seq: int, ack: int, compress_bulk: bool
) -> Iterator[Frames]:
    blobs: Sequence[Octets] = message.blobs
    outside = [place for place, blob in enumerate(blobs) if blob]
    octets = sum(map(len, blobs))
    if octets > limits.MESSAGE_OCTETS_MAX or len(outside) > limits.BLOBS_MAX:
        raise Fault("size", f"{len(outside)} blobs of {octets} octets together")
    table = b"".join(ENTRY.pack(place, RAW, len(blobs[place])) for place in outside)
    body = _without(message, outside)
    last = _first_frame(kind, body, IN_PIECES, len(outside), table, seq, ack)
    if len(last) > limits.FRAME_OCTETS_MAX:
        raise Fault("size", f"a first frame of {len(last)} octets")

    def multiparts() -> Iterator[Frames]:
        count = -(-octets // limits.PIECE_OCTETS)
        for index, cut in enumerate(_cut(blobs)):
            yield encode(Piece(index, count, [cut]), 0, ack, compress_bulk=compress_bulk)
        yield [last]

    return multiparts()


def _without(message: Any, outside: list[int]) -> Message:
    """The message with empty blobs in the places of those that travel outside its body.

    A copy: the sender keeps the original until it is acknowledged.
    """
    slim: Any = copy.copy(message)
    slim.blobs = list(message.blobs)
    for place in outside:
        slim.blobs[place] = b""
    whole: Message = slim
    return whole


def _cut(blobs: Sequence[Octets]) -> Iterator[bytes]:
    """The blobs as one stream, cut into pieces of equal size (the last one may be shorter)."""
    parts: list[Octets] = []
    room = limits.PIECE_OCTETS
    for blob in blobs:
        at = 0
        while at < len(blob):
            part = blob[at : at + room]
            parts.append(part)
            at += len(part)
            room -= len(part)
            if not room:
                yield b"".join(parts)
                parts, room = [], limits.PIECE_OCTETS
    if parts:
        yield b"".join(parts)


def _packed_buffer(blob: Octets, may_compress: bool) -> tuple[int, Octets]:
    if may_compress and _seems_compressible(blob):
        packed = _compress(blob, store_size=False)
        if len(packed) <= len(blob) * limits.COMPRESS_RATIO_MAX:
            return LZ4, packed
    return RAW, blob


def _seems_compressible(blob: Octets) -> bool:
    """Samples from the beginning, the middle and the end decide whether it is worth trying."""
    octets = len(blob)
    if octets < limits.COMPRESS_BULK_OCTETS_MIN:
        return False
    size = limits.COMPRESS_SAMPLE_OCTETS
    last = limits.COMPRESS_SAMPLES - 1
    starts = ((octets - size) * nth // last for nth in range(limits.COMPRESS_SAMPLES))
    packed = sum(len(_compress(blob[at : at + size], store_size=False)) for at in starts)
    return packed <= limits.COMPRESS_SAMPLES * size * limits.COMPRESS_SAMPLE_RATIO_MAX


# ---------------------------------------------------------------- from frames


def decode(frames: Sequence[Octets], kinds: Container[int] | None = None) -> Decoded:
    """The message in one multipart. `kinds`: what may be heard now (None: anything).

    A message that travelled in pieces needs its link's Assembler instead.
    """
    return _read(frames, kinds, None)


class Assembler:
    """The receiving end of one link: it keeps pieces until the message that they belong to."""

    __slots__ = ("_octets_max", "_of", "_pieces", "_wire_octets", "held_octets")

    def __init__(self, octets_max: int = limits.MESSAGE_OCTETS_MAX) -> None:
        self._octets_max = octets_max
        self.reset()

    def reset(self) -> None:
        self._pieces: list[bytes] = []
        self._of = 0
        self._wire_octets = 0
        self.held_octets = 0
        """What waits here for its message, for the budgets of a host with many links."""

    def hear(self, frames: Sequence[Octets], kinds: Container[int] | None = None) -> Decoded | None:
        """The message that these frames are or complete; None: a piece, more is to come."""
        try:
            decoded = _read(frames, kinds, self)
            if type(decoded.message) is not Piece:
                return decoded
            self._keep(decoded.message, decoded.octets)
        except RemoteProtocolError as error:
            if error.severity is Severity.QUARANTINE:
                self.reset()
            raise
        return None

    def _keep(self, piece: Piece, wire_octets: int) -> None:
        if piece.index != len(self._pieces) or (self._pieces and piece.of != self._of):
            _garbled("pieces", f"piece {piece.index} of {piece.of} after {len(self._pieces)}")
        if self.held_octets + len(piece.blobs[0]) > self._octets_max:
            _garbled("size", f"more than {self._octets_max} octets in pieces")
        self._pieces.append(piece.blobs[0])
        self._of = piece.of
        self._wire_octets += wire_octets
        self.held_octets += len(piece.blobs[0])

    def take(self, sizes: list[int]) -> tuple[list[bytes], int]:
        """All that is held, as blobs of these sizes; and what it took on the wire."""
        if not self._pieces or len(self._pieces) != self._of or sum(sizes) != self.held_octets:
            _garbled("pieces", f"{len(self._pieces)} of {self._of} pieces do not make its blobs")
        pieces, wire_octets = self._pieces, self._wire_octets
        self.reset()
        return _carve(pieces, sizes), wire_octets


def _carve(pieces: list[bytes], sizes: list[int]) -> list[bytes]:
    """Undo _cut. A piece is let go as soon as it is used up, so little is held twice."""
    blobs = []
    pieces.reverse()
    piece, at = memoryview(pieces.pop()), 0
    for size in sizes:
        parts: list[memoryview] = []
        while size:
            if at == len(piece):
                piece, at = memoryview(pieces.pop()), 0
            part = piece[at : at + size]
            parts.append(part)
            at += len(part)
            size -= len(part)
        blobs.append(b"".join(parts))
    return blobs


def _read(
    frames: Sequence[Octets], kinds: Container[int] | None, assembler: Assembler | None
) -> Decoded:
    kind, flags, entries, seq, ack, body_octets = _envelope(frames, kinds)
    first = frames[0]
    octets = len(first)
    start = limits.HEADER_OCTETS
    table: list[_Entry] = []
    blobs: Sequence[Octets] = []
    if entries or flags & IN_PIECES:
        start += entries * ENTRY.size
        table = _table(first[limits.HEADER_OCTETS : start])
        if flags & IN_PIECES:
            blobs, more = _blobs_from_pieces(assembler, table)
        else:
            blobs, more = _blobs_from_buffers(frames, table)
        octets += more
    body = first[start:]
    if flags & BODY_IS_LZ4:
        body = _unpacked(body, body_octets)
    elif len(body) != body_octets:
        _garbled("size", f"a body of {len(body)} octets that claims {body_octets}")
    message = _message(kind, body)
    if table:
        _put_back(message, table, blobs)
    try:
        kind.check(message)
    except Fault as fault:
        _garbled(fault.reason, f"{kind.name}: {fault}", cause=fault)
    return Decoded(message, seq, ack, octets)


_Entry = tuple[int, int, int]
_Envelope = tuple[_Kind, int, int, int, int, int]


def _envelope(frames: Sequence[Octets], kinds: Container[int] | None) -> _Envelope:
    """Kind, flags, entries, seq, ack, size of the body: believable, and nothing opened yet."""
    count = len(frames)
    if not 0 < count <= 1 + limits.BUFFERS_MAX:
        _garbled("frame-count", f"{count} frames")
    first = frames[0]
    if not limits.HEADER_OCTETS <= len(first) <= limits.FRAME_OCTETS_MAX:
        _garbled("header", f"a first frame of {len(first)} octets")
    magic, major, tag, flags, entries, seq, ack, body_octets = HEADER.unpack_from(first)
    if magic != MAGIC:
        _garbled("magic", "not this protocol")
    if major != MAJOR:
        _garbled("major", f"version {major}")
    kind = _KINDS.get(tag)
    if kind is None:
        _garbled("kind", f"kind {tag}", _unknown(seq))
    if kinds is not None and tag not in kinds:
        _garbled("unexpected", f"{kind.name} is out of place")
    if flags & ~(BODY_IS_LZ4 | IN_PIECES):
        _garbled("flags", f"flags {flags:#x}", _unknown(seq))
    if count != 1 + (0 if flags & IN_PIECES else entries):
        _garbled("frame-count", f"{count} frames for {entries} buffers")
    if entries and not kind.has_blobs:
        _garbled("table", f"{kind.name} has no blobs")
    if limits.HEADER_OCTETS + entries * ENTRY.size > len(first):
        _garbled("header", "the table is cut off")
    if body_octets > kind.body_max:
        _garbled("size", f"a body of {body_octets} octets")
    if (seq != 0) is not kind.custody or seq > limits.SEQ_MAX or ack > limits.SEQ_MAX:
        _garbled("seq", f"number {seq}, acknowledgement {ack} on {kind.name}")
    return kind, flags, entries, seq, ack, body_octets


def _unknown(seq: int) -> Severity:
    """A later minor version may say more than we know, but what is numbered cannot be left out."""
    return Severity.QUARANTINE if seq else Severity.DROP


def _table(octets: Octets) -> list[_Entry]:
    table: list[_Entry] = list(ENTRY.iter_unpack(octets))
    last = -1
    for place, _, size in table:
        if place <= last or not size:
            _garbled("table", f"an entry for place {place} after {last}, {size} octets")
        last = place
    return table


def _blobs_from_pieces(assembler: Assembler | None, table: list[_Entry]) -> tuple[list[bytes], int]:
    if assembler is None:
        _garbled("pieces", "a message in pieces, which were not kept")
    if any(codec != RAW for _, codec, _ in table):
        _garbled("table", "pieces are packed one by one")
    return assembler.take([size for _, _, size in table])


def _blobs_from_buffers(frames: Sequence[Octets], table: list[_Entry]) -> tuple[list[Octets], int]:
    if sum(size for _, _, size in table) > limits.MESSAGE_BUFFER_OCTETS:
        _garbled("size", "more buffers than one multipart may have")
    octets = 0
    blobs: list[Octets] = []
    for frame, (_, codec, size) in zip(frames[1:], table, strict=True):
        octets += len(frame)
        if codec == LZ4:
            blobs.append(_unpacked(frame, size))
        elif codec != RAW:
            _garbled("table", f"no buffer has the codec {codec}")
        elif len(frame) != size:
            _garbled("size", f"a buffer of {len(frame)} octets that claims {size}")
        else:
            blobs.append(frame)
    return blobs, octets


def _unpacked(packed: Octets, octets: int) -> bytes:
    """The caller has compared `octets` with what may be; here it is compared with what can be."""
    if octets > limits.LZ4_RATIO_MAX * len(packed) + limits.LZ4_SLACK_OCTETS:
        _garbled("lz4", f"{len(packed)} octets cannot become {octets}")
    try:
        unpacked: bytes = _decompress(packed, uncompressed_size=octets)
    except (lz4.block.LZ4BlockError, ValueError) as error:
        _garbled("lz4", str(error), cause=error)
    if len(unpacked) != octets:
        _garbled("lz4", f"{len(unpacked)} octets that claimed {octets}")
    return unpacked


def _message(kind: _Kind, body: Octets) -> Message:
    try:
        return kind.decode(body)
    except msgspec.ValidationError as error:
        _garbled("schema", f"{kind.name}: {error}", cause=error)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        _garbled("msgpack", f"{kind.name}: {error}", cause=error)


def _put_back(message: Any, table: list[_Entry], blobs: Sequence[Octets]) -> None:
    places: list[Octets] = message.blobs
    for (place, _, _), blob in zip(table, blobs, strict=True):
        if place >= len(places) or places[place]:
            _garbled("table", f"place {place} is taken, or there is none")
        places[place] = blob


def _garbled(
    reason: str,
    text: str,
    severity: Severity = Severity.QUARANTINE,
    *,
    cause: BaseException | None = None,
) -> NoReturn:
    raise RemoteProtocolError(reason, text, severity) from cause
