"""A value and the results that go into it, put together without opening any of them.

A call that was packed without the results of other calls (`apart.py`) is completed where these results are:
at its owner, or at the node that made them. There nothing is unpickled. Decides how the two lie beside each
other: the results of a chunk are one blob, so a result is named by its chunk and its place there, and a chunk
that several results come from is there once. Refuses to know what the octets mean (`values.py` opens them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from stealmesh_protocol.errors import RemoteProtocolError

APART = 10
"""The codec of an item that results go into."""
ALONE = -1
"""In the place of an offset: the blob is the value, not a list of values."""
MISSING = (-1, ALONE)
ITEM = b"\xdd\x00\x00\x00\x01\xc6"
"""The head of a list of one item, without its octets."""
HEAD_OCTETS = len(ITEM) + 4


class Result(NamedTuple):
    """The result of one item."""

    codec: int
    blob: bytes
    """Of its chunk, or its own."""
    offset: int
    """Its place in the chunk, or ALONE."""


class Apart(msgspec.Struct, array_like=True):
    """A value, and what goes into it."""

    codec: int
    blob: bytes
    results: list[bytes]
    """Each with one octet in front, for its codec."""
    places: list[tuple[int, int]]
    """By the numbers that stand in the value: which of the results, and where in it."""


def item_apart(
    packed: tuple[int, bytes], count: int, known: Mapping[int, tuple[int, bytes]]
) -> bytes:
    """The blob of ITEMS with one item, which `count` results go into; those that are `known` are there."""
    places = [MISSING] * count
    results: list[bytes] = []
    for number, (codec, blob) in known.items():
        places[number] = (len(results), ALONE)
        results.append(bytes([codec]) + blob)
    return _item(Apart(packed[0], packed[1], results, places))


def filled(item: bytes, results: Sequence[Result | None]) -> bytes:
    """The same item with these in the places that were empty, in their order; None: it stays empty. Raises
    RemoteProtocolError."""
    apart = opened(memoryview(item)[HEAD_OCTETS + 1 :])
    if sum(place[0] < 0 for place in apart.places) != len(results):
        raise RemoteProtocolError("value", "not as many results as places for them")
    numbers: dict[int, int] = {}
    coming = iter(results)
    for at, place in enumerate(apart.places):
        if place[0] >= 0:
            continue
        result = next(coming)
        if result is None:
            continue
        number = numbers.get(id(result.blob))
        if number is None:
            number = numbers[id(result.blob)] = len(apart.results)
            apart.results.append(bytes([result.codec]) + result.blob)
        apart.places[at] = (number, result.offset)
    return _item(apart)


def places_in(item: bytes, count: int) -> int:
    """How many results go into this one item, if all of them are still to come; 0: it is another item."""
    if not _is_item(item):
        return 0
    try:
        apart = opened(memoryview(item)[HEAD_OCTETS + 1 :])
    except RemoteProtocolError:
        return 0
    return len(apart.places) if sum(place[0] < 0 for place in apart.places) == count else 0


def is_same_item(item: bytes, other: bytes) -> bool:
    """Are these one item, with or without the results that go into it?"""
    if not _is_item(item) or not _is_item(other):
        return False
    try:
        one, two = (opened(memoryview(each)[HEAD_OCTETS + 1 :]) for each in (item, other))
    except RemoteProtocolError:
        return False
    return (one.codec, one.blob, len(one.places)) == (two.codec, two.blob, len(two.places))


def _is_item(item: bytes) -> bool:
    return item[: len(ITEM)] == ITEM and item[HEAD_OCTETS : HEAD_OCTETS + 1] == bytes([APART])


def opened(blob: bytes | memoryview) -> Apart:
    try:
        return _decode(blob)
    except (ValueError, TypeError) as error:
        raise RemoteProtocolError("value", str(error)) from error


def _item(apart: Apart) -> bytes:
    blob = _encode(apart)
    return b"".join((ITEM, (len(blob) + 1).to_bytes(4, "big"), bytes([APART]), blob))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Apart).decode
