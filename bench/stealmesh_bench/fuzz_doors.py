"""The doors through which octets of others come in, each as a function of one input.

Decides what may leave a door: the one error that it promises (RemoteProtocolError from the wire and from values), and
nothing else. An input is one octet that names the door, then what comes through it; through the door of a link come
several multiparts, as an Assembler hears them. What was let in is written once more, which must succeed. Refuses to
know who makes the inputs (`fuzzed`). Pickles are not opened: who may send one may run code (SECURITY.md).
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path

from stealmesh.host.peer_cache import PeerCache
from stealmesh.host.security import JoinToken, TokenRefused
from stealmesh.store import records
from stealmesh_protocol import codec, given, passes, values
from stealmesh_protocol.errors import RemoteProtocolError

FRAMES_MAX = 63
"""Of one multipart in an input."""
SECRET = bytes(range(32))


def multiparts_in(octets: bytes) -> list[list[bytes]]:
    """What a link hears: for each multipart its number of frames, and for each frame two octets for its length. The
    last one may be cut short."""
    told, at = list[list[bytes]](), 0
    while at < len(octets):
        count, at = octets[at] & FRAMES_MAX, at + 1
        frames = []
        for _ in range(count):
            end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
            frames.append(octets[at + 2 : end])
            at = end
        told.append(frames)
    return told


def as_octets(multiparts: list[list[bytes]]) -> bytes:
    """The same, back."""
    parts = list[bytes]()
    for frames in multiparts:
        frames = frames[:FRAMES_MAX]
        parts.append(bytes([len(frames)]))
        for frame in frames:
            parts += (min(len(frame), 0xFFFF).to_bytes(2, "big"), frame[:0xFFFF])
    return b"".join(parts)


def link(octets: bytes, told: Counter[str]) -> None:
    assembler = codec.Assembler()
    for frames in multiparts_in(octets):
        told["messages"] += 1
        told["frames"] += len(frames)
        try:
            heard = assembler.hear(frames)
        except RemoteProtocolError:
            continue
        if heard is not None:
            told["let in"] += 1
            for again in codec.split(heard.message, heard.seq, heard.ack):
                assert again, "what was let in can be said"


def blob_of_values(octets: bytes, told: Counter[str]) -> None:
    told["messages"] += 1
    number, blob = octets[0] if octets else 0, octets[1:]
    for read in (
        lambda: values.unpack_outcomes(number, blob, plain_only=True),
        lambda: values.unpack_list(number, blob, plain_only=True),
        lambda: [entry.open(plain_only=True) for entry in values.entries_of(blob)],
        lambda: values.failures_of(blob),
        lambda: values.again_in(blob),
        lambda: values.with_output(number, blob, lambda offset: ""),
        lambda: values.good_in(number, blob, 0),
        lambda: given.places_in(blob, 2),
        lambda: given.filled(blob, [given.Result(1, blob, 0), None]),
    ):
        with contextlib.suppress(RemoteProtocolError):
            read()
            told["let in"] += 1


def state_log(octets: bytes, told: Counter[str]) -> None:
    told["messages"] += 1
    records.read_mark(octets)
    with contextlib.suppress(records.NotALog):
        told["let in"] += bool(records.read(octets).records)


def repaired_log(octets: bytes, told: Counter[str]) -> None:
    """A record with the right checksums, and anything inside: its checksums keep no fuzzer out."""
    told["messages"] += 1
    identity = records.Identity(bytes(records.SEAT_OCTETS))
    log = records.opening(identity)
    checksum = zlib.crc32(octets)
    right = records._head_checksum(len(log), 0, len(octets), checksum, identity.salt)
    head = records._HEAD.pack(records.SIGN, 0, len(octets), checksum, right)
    told["let in"] += bool(records.read(log + head + octets).records)


def token(octets: bytes, told: Counter[str]) -> None:
    told["messages"] += 1
    with contextlib.suppress(TokenRefused):
        JoinToken.decode(octets.decode("utf-8", "replace"))
        told["let in"] += 1


def proof(octets: bytes, told: Counter[str]) -> None:
    told["messages"] += 1
    told["let in"] += passes.proved(octets, (("0a0b0c0d", SECRET),), bytes(16)) is not None


def peers_file(octets: bytes, told: Counter[str]) -> None:
    told["messages"] += 1
    cache = PeerCache(Path("nowhere"), now=time.time, forget_seconds=inf)
    told["let in"] += bool(list(cache._entries(octets)))


DOORS: tuple[Callable[[bytes, Counter[str]], None], ...] = (
    link, blob_of_values, state_log, repaired_log, token, proof, peers_file
)  # fmt: skip


def come_in(octets: bytes, told: Counter[str]) -> None:
    """One input. Raises what a door should not have let out. `told` counts."""
    told["inputs"] += 1
    if octets:
        DOORS[octets[0] % len(DOORS)](octets[1:], told)
