"""How the log lies in its file, and what can be read of one that is damaged.

::

    opening    a header at 0, a mark at 2048, the header again at 4096: a lost sector takes one of them
    header     "SMLOG" version(2) | seat (16) | mesh (16) | generation (8) | salt (8) | CRC-32 (4)
    mark       "SMSURE" | generation (8) | salt (8) | up to where the log was sure (8) | CRC-32 (4)
    record     sign (8) | flags (1) | length (4) | CRC-32 of the body (4) | CRC-32 of the head (4) | body
    body       a KEEP message as msgpack

Decides which octets are records. A record counts only where it was written: the CRC of its head
covers the salt of this file and the record's own place in it. So a damaged length does not mislead the
reader, and none of these passes for a record: the sign inside a result, a whole copy of this log kept
as a result, a tail that is there twice. After damage the reader goes on at the next sign with a right
head.

Decides also how much of the log was sure. The mark says so, and each record that begins a batch, because
a batch begins when everything before it is on the disk. Damage below that place was acknowledged once;
damage above it may be what a crash left half-written. Refuses to know files and what records mean.

Version 1 (length, CRC, body; no sign) can still be read, but not past damage.

Ideas: the heads of LevelDB's log and of TigerBeetle's journal; damage told from a torn write after
"Protocol-aware recovery" (Alagappan et al., FAST '18).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import msgspec

from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.field_checks import Fault
from stealmesh_protocol.messages import Keep

MAGIC = b"SMLOG\x02"
MAGIC_1 = b"SMLOG\x01"
SEAT_OCTETS = 16
MESH_OCTETS = 16
SALT_OCTETS = 8
NOBODY = bytes(MESH_OCTETS)
"""The mesh of a log that does not say to which it belongs."""
SIGN = b"\xf1SMrec\x02\xa7"
BEGINS = 1
"""Flag: everything before this record was on the disk when it was written."""
SECTOR_OCTETS = 4096
MARK_AT = 2048

_HEADER = struct.Struct(f">6s{SEAT_OCTETS}s{MESH_OCTETS}sQ{SALT_OCTETS}sI")
_HEAD = struct.Struct(">8sBIII")
_HEAD_1 = struct.Struct(">II")
_SURE = struct.Struct(f">6sQ{SALT_OCTETS}sQI")
_SURE_MAGIC = b"SMSURE"
_PLACE = struct.Struct(">QBII")
OPENING_OCTETS = SECTOR_OCTETS + _HEADER.size
OPENING_OCTETS_1 = len(MAGIC_1) + SEAT_OCTETS

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Keep).decode


class NotALog(Exception):
    """The file is something else: it is not to be overwritten."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of a log, and which of the files that replaced each other it is."""

    seat: bytes
    mesh: bytes = NOBODY
    generation: int = 0
    salt: bytes = bytes(SALT_OCTETS)


@dataclass(slots=True)
class LogReading:
    """What was found in a log."""

    identity: Identity | None
    """None: no header is left, or the file is empty."""
    records: list[Keep] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """Where each record lies."""
    damage: list[tuple[int, int]] = field(default_factory=list)
    """Octets that are no record, up to the end of the file."""
    opening_is_damaged: bool = False
    """One of the headers, or the room between them: nothing is lost with it."""
    sure: int = 0
    """Everything below was on the disk at some time, as the records themselves say."""
    version: int = 2

    def lost_below(self, sure: int) -> list[tuple[int, int]]:
        """The damaged places that begin below `sure`: they were acknowledged once."""
        return [place for place in self.damage if place[0] < sure]


def opening(identity: Identity) -> bytes:
    """What a new log begins with."""
    header = _header(identity)
    return header.ljust(SECTOR_OCTETS, b"\0") + header


def _header(identity: Identity) -> bytes:
    seat, mesh, salt = identity.seat, identity.mesh, identity.salt
    assert (len(seat), len(mesh), len(salt)) == (SEAT_OCTETS, MESH_OCTETS, SALT_OCTETS)
    head = _HEADER.pack(MAGIC, seat, mesh, identity.generation, salt, 0)[:-4]
    return head + struct.pack(">I", zlib.crc32(head))


def mark(identity: Identity, sure: int) -> bytes:
    """The mark that says: this log is on the disk up to `sure`."""
    head = _SURE.pack(_SURE_MAGIC, identity.generation, identity.salt, sure, 0)[:-4]
    return head + struct.pack(">I", zlib.crc32(head))


def read_mark(octets: bytes) -> tuple[int, bytes, int] | None:
    """Generation, salt and how much was sure; None: this is no mark, or a damaged one."""
    if len(octets) < _SURE.size:
        return None
    magic, generation, salt, sure, checksum = _SURE.unpack_from(octets)
    if magic != _SURE_MAGIC or zlib.crc32(octets[: _SURE.size - 4]) != checksum:
        return None
    return generation, salt, sure


def framed(record: Keep, at: int, salt: bytes, *, begins: bool = False) -> bytes:
    """A record as octets, for this place in the file with this salt."""
    body = _encode(record)
    flags, checksum = BEGINS if begins else 0, zlib.crc32(body)
    right = _head_checksum(at, flags, len(body), checksum, salt)
    return _HEAD.pack(SIGN, flags, len(body), checksum, right) + body


def _head_checksum(at: int, flags: int, length: int, checksum: int, salt: bytes) -> int:
    return zlib.crc32(_PLACE.pack(at, flags, length, checksum), zlib.crc32(salt))


def written(identity: Identity, records: list[Keep]) -> bytes:
    """A whole log of these records, as octets."""
    parts = [opening(identity)]
    at = len(parts[0])
    for record in records:
        parts.append(framed(record, at, identity.salt))
        at += len(parts[-1])
    return b"".join(parts)


def read(octets: bytes) -> LogReading:
    """Read every right record. Raises NotALog."""
    if octets.startswith(MAGIC_1) and _identity(octets) is None:
        return _read_1(octets)
    identity = _identity(octets)
    if identity is not None:
        return _read_2(octets, identity)
    if not octets.strip(b"\0") or opening_begun(octets):
        return LogReading(None)
    raise NotALog("this file does not begin like a log of durable jobs")


def opening_begun(octets: bytes) -> bool:
    """Is this the torn beginning of a new log, left by a crash?"""
    return len(octets) < _HEADER.size and octets[: len(MAGIC)] in (
        MAGIC[: len(octets)],
        MAGIC_1[: len(octets)],
    )


def _identity(octets: bytes) -> Identity | None:
    """What a whole header says: the first one, otherwise the second."""
    for at in (0, SECTOR_OCTETS):
        header = octets[at : at + _HEADER.size]
        if len(header) < _HEADER.size:
            break
        magic, seat, mesh, generation, salt, checksum = _HEADER.unpack(header)
        if magic == MAGIC and zlib.crc32(header[:-4]) == checksum:
            return Identity(seat, mesh, generation, salt)
    return None


def _read_2(octets: bytes, identity: Identity) -> LogReading:
    reading = LogReading(identity, sure=OPENING_OCTETS)
    header = _header(identity)
    both = octets[: len(header)] == header == octets[SECTOR_OCTETS : SECTOR_OCTETS + len(header)]
    reading.opening_is_damaged = not both
    marked = read_mark(octets[MARK_AT : MARK_AT + _SURE.size])
    if marked is not None and marked[:2] == (identity.generation, identity.salt):
        reading.sure = max(reading.sure, marked[2])
    at, size = OPENING_OCTETS, len(octets)
    while at < size:
        found = _record_at(octets, at, identity.salt)
        if found is None:
            following = _next_head(octets, at + 1, identity.salt)
            reading.damage.append((at, following))
            at = following
            continue
        record, end, flags = found
        if record is None:
            reading.damage.append((at, end))
        else:
            reading.records.append(record)
            reading.places.append((at, end))
        # The head is right, so what it says is true, even if the body is damaged.
        if flags & BEGINS:
            reading.sure = max(reading.sure, at)
        at = end
    return reading


def _record_at(octets: bytes, at: int, salt: bytes) -> tuple[Keep | None, int, int] | None:
    """The record here, where it ends and its flags; None: there is no right head here."""
    head = _head_at(octets, at, salt)
    if head is None:
        return None
    flags, length, checksum = head
    begin = at + _HEAD.size
    end = begin + length
    body = memoryview(octets)[begin:end]
    if len(body) < length:
        # Cut off; or records follow that were written where this one was to lie.
        return None, min(end, len(octets)), flags
    if zlib.crc32(body) != checksum:
        return None, end, flags
    return _decoded(body), end, flags


def _head_at(octets: bytes, at: int, salt: bytes) -> tuple[int, int, int] | None:
    if len(octets) < at + _HEAD.size:
        return None
    sign, flags, length, checksum, right = _HEAD.unpack_from(octets, at)
    if sign != SIGN or _head_checksum(at, flags, length, checksum, salt) != right:
        return None
    return flags, length, checksum


def _next_head(octets: bytes, at: int, salt: bytes) -> int:
    """Where the next right head is; the end if there is none."""
    while (at := octets.find(SIGN, at)) >= 0:
        if _head_at(octets, at, salt) is not None:
            return at
        at += 1
    return len(octets)


def _read_1(octets: bytes) -> LogReading:
    """Read a log of version 1, up to the first damaged record."""
    if len(octets) < OPENING_OCTETS_1:
        return LogReading(None, version=1)
    at = OPENING_OCTETS_1
    reading = LogReading(Identity(octets[len(MAGIC_1) : at]), version=1, sure=at)
    view = memoryview(octets)
    while at < len(octets):
        record = None
        end = len(octets)
        if at + _HEAD_1.size <= len(octets):
            length, checksum = _HEAD_1.unpack_from(octets, at)
            end = at + _HEAD_1.size + length
            body = view[at + _HEAD_1.size : end]
            if len(body) == length and zlib.crc32(body) == checksum:
                record = _decoded(body)
        if record is None:
            reading.damage.append((at, len(octets)))
            reading.sure = len(octets)  # we cannot tell whether a crash tore it: believe the worse
            return reading
        reading.records.append(record)
        reading.places.append((at, end))
        at = end
    return reading


def _decoded(body: memoryview) -> Keep | None:
    try:
        record = _decode(body)
        CHECKS[Keep](record)
    except (msgspec.MsgspecError, Fault):
        return None
    return record
