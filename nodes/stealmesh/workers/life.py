"""The node's connection to one worker process, and what an order needs that process to have.

Decides how bytes get there: in the order itself, ahead of it on the stream, or not at all because they
are there already; and what may be forgotten. Refuses to know when a life begins and ends (pool.py).
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from stealmesh.workers import wire
from stealmesh.workers.wire import FrameKind, FrameReader, FrameWriter
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Block

INLINE_OCTETS_MAX = 32 * 1024
"""Items up to this size travel inside the order: one message, and nothing to forget later."""
ORDER_OCTETS_MAX = 48 * 1024
"""A longer order goes by the stream, and only its number by packet."""
CACHE_OCTETS_MAX = 64 * 1024 * 1024
"""What a worker may keep of functions and blocks; the least recently used go first."""

SPARE_FUNCTION_OCTETS_MAX = 64 * 1024
SPARE_FUNCTIONS_MAX = 256
"""What a worker keeps of functions that may come again: so many, none of them larger."""

_BLOCK_KEY = struct.Struct(">QQ")


@dataclass(slots=True)
class Sentence:
    """We ordered a kill: what to say when it has happened. `suspect` was running at that moment."""

    reason: str
    blame: bool
    suspect: int | None


@dataclass(slots=True)
class Life:
    """The connection to one worker process."""

    orders: socket.socket
    orders_back: socket.socket
    """The worker's own receiving end: whoever reads an order first has it."""
    stream: socket.socket
    questions: socket.socket
    reader: FrameReader
    writer: FrameWriter
    pid: int = 0
    unsent: deque[tuple[int | None, bytes]] = field(default_factory=deque)
    outstanding: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Chunks ordered and not yet answered, oldest first, and what of each is not answered yet."""
    cached: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    """Key → octets, least recently used first: what the worker's cache will be."""
    cached_octets: int = 0
    functions: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """The keys of those that are functions, least recently used first."""
    large: dict[JobId, set[bytes]] = field(default_factory=dict)
    """Functions too large to be kept once no job needs them: who needs them."""
    behind: bool = False
    """The worker has not been told yet to forget what was for its last order alone."""
    sentence: Sentence | None = None
    answered: int = 0
    """Tasks that it has finished, as it counts them itself (process.py); those of bags do not count."""
    unfit: str = ""
    """Its own words on why it could not start."""
    watched: int = 0
    """1: the stream waits to be written, 2: so do orders."""
    condemned: bool = False
    """Its stream is of no use any more; the nursery's word on its end is awaited."""
    number: int = 0
    """Of all the worker's lives, which."""
    code: bytes = b""
    """The digest of the bundle that it imports from; empty: it has not imported from any yet."""
    aside_since: float = 0.0

    def forget(self, job: JobId) -> bool:
        """Of what is there for this job only. True: there is something to be told."""
        large = self.large.pop(job, set())
        gone = [key for key in self.cached if key.startswith(job) and len(key) > len(job)]
        large &= self.cached.keys()  # there may have been no room for some meanwhile
        gone += [key for key in large if not any(key in used for used in self.large.values())]
        if not gone and not self.behind:
            return False
        passing = Passing(self)
        for key in gone:
            passing.forget(key)
        self.behind = False
        self.unsent.append((None, wire.pack([None, self.writer.frames])))
        return True


class Passing:
    """What one order needs the worker to have, put on the stream unless it has it already."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._inline_room = INLINE_OCTETS_MAX
        self._used: set[bytes] = set()
        self._passing: list[bytes] = []

    def functions(self, job: JobId, *needed: tuple[bytes, bytes]) -> None:
        """By their digests; an empty one stands for none."""
        life = self._life
        for digest, blob in needed:
            if not digest:
                continue
            self._cached(digest, blob)
            if len(blob) > SPARE_FUNCTION_OCTETS_MAX:
                life.large.setdefault(job, set()).add(digest)
                continue
            life.functions[digest] = None
            life.functions.move_to_end(digest)

    def block(self, job: JobId, block: Block, blob: bytes, lo: int, hi: int) -> list[object]:
        key = job + _BLOCK_KEY.pack(block.lo, block.hi)
        whole = lo <= block.lo and block.hi <= hi
        if whole and key not in self._life.cached:
            if len(blob) <= self._inline_room:
                self._inline_room -= len(blob)
                return [block.lo, block.hi, block.codec, b"", blob]
            self._once(key, blob)  # nobody else needs it: it goes when the next order comes
        else:
            self._cached(key, blob)
        return [block.lo, block.hi, block.codec, key, b""]

    def bag(self, chunk: int, block: Block, blob: bytes) -> list[object]:
        if len(blob) <= self._inline_room:
            return [block.lo, block.hi, block.codec, b"", blob]
        return [block.lo, block.hi, block.codec, self._once(b"bag" + wire.pack(chunk), blob), b""]

    def order(self, chunk: int, record: list[object]) -> bytes:
        """The packet; to be asked for last, as it says how many frames come before it."""
        packet = wire.pack([chunk, self._life.writer.frames, *record])
        if len(packet) <= ORDER_OCTETS_MAX:
            return packet
        self._once(wire.pack(chunk), packet)
        return wire.pack([chunk, self._life.writer.frames])

    def trim(self) -> None:
        """After the order: forget what was for it alone, and what there is no room for."""
        for key in self._passing:
            self._life.writer.put(FrameKind.FORGET, key)
        self._life.behind = bool(self._passing)
        cached, functions = self._life.cached, self._life.functions
        while self._life.cached_octets > CACHE_OCTETS_MAX and next(iter(cached)) not in self._used:
            self.forget(next(iter(cached)))
        while len(functions) > SPARE_FUNCTIONS_MAX and next(iter(functions)) not in self._used:
            self.forget(next(iter(functions)))

    def forget(self, key: bytes) -> None:
        self._life.cached_octets -= self._life.cached.pop(key)
        self._life.functions.pop(key, None)
        self._life.writer.put(FrameKind.FORGET, key)

    def _once(self, key: bytes, blob: bytes) -> bytes:
        self._put(key, blob)
        self._passing.append(key)
        return key

    def _cached(self, key: bytes, blob: bytes) -> None:
        cached = self._life.cached
        self._used.add(key)
        if key in cached:
            cached.move_to_end(key)
            return
        self._put(key, blob)
        cached[key] = len(blob)
        self._life.cached_octets += len(blob)

    def _put(self, key: bytes, blob: bytes) -> None:
        self._life.writer.put(FrameKind.PUT, wire.PUT_HEAD.pack(len(key)), key, blob)
