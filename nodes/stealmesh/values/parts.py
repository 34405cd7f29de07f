"""A value as one run of octets: a head, its pickle, and the buffers that pickle left out.

::

    octets of the head (8) | head: msgpack [octets of the pickle, [[at, octets], …]] | pickle | buffers …

The buffers (of arrays, mostly) begin at multiples of 64, so a process that maps the run uses them where they lie.
The map is private: a task may change what it was given, and the value stays as it was.

Large bytes and strings are parts of the pickle. They are not copied into it on the way: pickle hands each to the
file that it writes to (`_InPieces`), and what keeps the value writes it from where it lies.

Decides the layout. Refuses to know where the octets are kept. Idea: pickle protocol 5 with out-of-band data
(PEP 574).
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterator
from typing import Any

import msgspec

from stealmesh.values.together import ALIGNED, one_of
from stealmesh_protocol import pickles
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import CannotLoad, RemoteProtocolError
from stealmesh_protocol.raised import Refused, headline, interruptible

LENGTH_OCTETS = 8
OUT_OF_BAND_OCTETS_MIN = 1024
"""A smaller buffer is copied into the pickle: a place of its own costs more."""

_OPCODES_OF_DATA = {
    4: (pickle.BINBYTES, pickle.BINUNICODE),
    8: (pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8),
}
"""What pickle writes before octets of a value, by the octets of the length that follows."""

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(tuple[int, list[tuple[int, int]]]).decode


class Parts:
    """A packed value: what is to be written, in order."""

    def __init__(self, pieces: list[bytes], buffers: list[memoryview]) -> None:
        """`pieces`: the pickle, one behind the other."""
        blob = sum(map(len, pieces))
        sizes = [each.nbytes for each in buffers]
        # The places of the buffers depend on the length of the head, and are in it: fixed-size numbers.
        head = _encode((blob, [(1 << 40, size) for size in sizes]))
        at = _aligned(LENGTH_OCTETS + len(head) + blob)
        places = []
        for size in sizes:
            places.append((at, size))
            at = _aligned(at + size)
        head = _encode((blob, places))
        self._pieces = [len(head).to_bytes(LENGTH_OCTETS, "little") + head, *pieces]
        self._buffers = buffers
        self._places = [place for place, _ in places]
        first = len(self._pieces[0]) + blob
        last = places[-1][0] + places[-1][1] if places else 0
        self.octets = max(first, last)
        assert not places or first <= places[0][0]

    def __iter__(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """(where, octets); nothing is said of the gaps between."""
        at = 0
        for piece in self._pieces:
            yield at, piece
            at += len(piece)
        yield from zip(self._places, self._buffers, strict=True)


class _InPieces:
    """The file that a pickler writes to. It gets octets of the value from 64 KiB on as they are, right behind their
    length; all else in frames."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.mentions_main = False
        """Something in it may be of ``__main__``. The octets of a value are not looked at: they name nothing."""

    def write(self, piece: bytes | bytearray) -> int:
        octets = bytes(piece)  # bytes are not copied; a bytearray may change before it is kept
        if not self._is_data(octets) and b"__main__" in octets:
            self.mentions_main = True
        self.pieces.append(octets)
        return len(octets)

    def _is_data(self, piece: bytes) -> bool:
        """Does what was written before it end with its length?"""
        before = self.pieces[-1] if self.pieces else b""
        return any(
            before[-size - 1 : -size] in opcodes
            and int.from_bytes(before[-size:], "little") == len(piece)
            for size, opcodes in _OPCODES_OF_DATA.items()
        )


def _aligned(at: int) -> int:
    return -(-at // ALIGNED) * ALIGNED


def packed(value: Any) -> Parts:
    """Raises CannotShip, naming the part that refuses."""
    PICKLES.makes_none()
    buffers: list[memoryview] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_OCTETS_MIN:
            return True
        buffers.append(raw)
        return False

    written = _InPieces()
    try:
        interruptible(lambda: pickle.Pickler(written, 5, buffer_callback=out_of_band).dump(value))
    except Refused:
        pass  # cloudpickle has the last word, as for all values
    else:
        if not written.mentions_main:
            return Parts(written.pieces, buffers)
    return Parts([pickles.by_value(value)], [])


def opened(octets: memoryview) -> Any:
    """The value in these octets, which it goes on using. Raises CannotLoad."""
    PICKLES.opens_none()
    end = LENGTH_OCTETS + int.from_bytes(octets[:LENGTH_OCTETS], "little")
    try:
        size, places = _decode_head(octets[LENGTH_OCTETS:end])
        buffers = [octets[at : at + length] for at, length in places]
        if any(len(b) != length for b, (_, length) in zip(buffers, places, strict=True)):
            raise ValueError("a buffer is cut off")
    except (ValueError, TypeError) as error:
        raise RemoteProtocolError("value", str(error)) from error
    blob = octets[end : end + size]
    try:
        return interruptible(lambda: pickle.loads(blob, buffers=buffers))
    except Refused as refused:
        named = pickles.type_named_in(blob)
        raise CannotLoad(
            f"a value{f' of type {named}' if named else ''} cannot be opened here: "
            f"{headline(refused.error)}"
        ) from refused.error


def mapped(descriptor: int, octets: int) -> Any:
    """The value in this file, opened in a private map of it: changes stay in this process. Raises CannotLoad."""
    return opened(private(descriptor, octets))


def private(descriptor: int, octets: int, place: int | None = None) -> memoryview:
    """The octets of the value in this file, in a private map of it: changes stay in this process. `place`: one of
    several values that are in it. Raises ValueLost."""
    if not octets:
        raise RemoteProtocolError("value", "a value without octets")
    memory = memoryview(
        mmap.mmap(descriptor, octets, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    )
    if place is None:
        return memory
    return one_of(memory, place)
