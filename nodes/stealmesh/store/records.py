"""How the log lies in its file: an opening, then records with their length and checksum.

::

    opening    "SMLOG" version(1) | seat (16)
    record     length (4) | CRC-32 of the body (4) | body: a KEEP message as msgpack

Decides where a file ends that a crash has cut off: at the first record that is incomplete or
has the wrong checksum. What comes after it was never acknowledged, because records are made sure
of in order. Length and checksum after bitcask and LevelDB's log.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from stealmesh_protocol.checks import CHECKS, Fault
from stealmesh_protocol.messages import Keep

MAGIC = b"SMLOG\x01"
SEAT_OCTETS = 16
OPENING_OCTETS = len(MAGIC) + SEAT_OCTETS
_HEAD = struct.Struct(">II")
RECORD_OCTETS_MAX = (1 << 32) - 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Keep).decode


class NotALog(Exception):
    """The file is something else: it is not to be overwritten."""


def opening(seat: bytes) -> bytes:
    """What a new log begins with."""
    assert len(seat) == SEAT_OCTETS
    return MAGIC + seat


def framed(record: Keep) -> bytes:
    body = _encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def read(octets: bytes) -> tuple[bytes, list[Keep], int]:
    """The seat, the whole records, and how much of the file they fill. Raises NotALog."""
    if len(octets) < OPENING_OCTETS:
        if not MAGIC.startswith(octets[: len(MAGIC)]):
            raise NotALog("this file does not begin like a log of durable jobs")
        return b"", [], 0
    if not octets.startswith(MAGIC):
        raise NotALog("this file does not begin like a log of durable jobs")
    seat = octets[len(MAGIC) : OPENING_OCTETS]
    records: list[Keep] = []
    view = memoryview(octets)
    at = OPENING_OCTETS
    while at + _HEAD.size <= len(octets):
        length, checksum = _HEAD.unpack_from(octets, at)
        body = view[at + _HEAD.size : at + _HEAD.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        record = _decoded(body)
        if record is None:
            break
        records.append(record)
        at += _HEAD.size + length
    return seat, records, at


def _decoded(body: memoryview) -> Keep | None:
    try:
        record = _decode(body)
        CHECKS[Keep](record)
    except (msgspec.MsgspecError, Fault):
        return None
    return record
