"""What a node, its fork server ("forks") and its worker processes say to each other.

All on one machine, between processes that trust each other's framing but not each other's life::

    node    → forks     packets    SPAWN number life [5 descriptors] / KILL number life
    forks   → node      packets    BORN number life pid / DIED number life reason /
                                   ROUSED number life "" (it had been stopped, and goes on)
    node    → worker    packets    orders: one chunk each, read only when the worker is free; with
                                   descriptors of the values that it needs, if one before it says so
    node    → worker    packets    questions, read while it runs: how far is it with a chunk; does its task
                                   have a child that others may run, [endpoints of the node, mesh key];
                                   what are its threads at
    worker  → node      packets    the same way back: a descriptor of a result that stays, before its STAYS
    node    → worker    stream     SETUP, then PUT / FORGET
    worker  → node      stream     READY / UNFIT, then PART / RESULT / STEP / TOLD / NESTS / WAITS / GOES_ON /
                                   SEEKS_DOOR / RETIRES / OTHER_VERSION / STACKS / STAYS / HIRE_ENDS
                                   [package, its version here, its version in the program]

Why packets and a stream to a worker: a packet that the worker has not read is still in the kernel. The
node keeps the receiving end, too, and can read the packet itself. So either the worker has an order or
the node has it back, never both and never neither. Bulk goes by the stream, where neither side waits
for the other to read first: the node never blocks.

Counting ties the two together: an order says how many stream frames come before it. So the worker's
cache is an exact mirror of what the node believes it to be, without a single acknowledgement.

This file refuses to know what a chunk means. Importing it is cheap on purpose: every worker's start
imports it.

Ideas: SEQPACKET as a queue that two processes race to read comes from pre-forking servers that share
one accept queue; the frame count from version vectors.
"""

from __future__ import annotations

import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import msgspec

from stealmesh.values.descriptors import received


class FrameKind(IntEnum):
    """The kind octet of a stream frame."""

    SETUP = 1
    PUT = 2
    FORGET = 3
    READY = 16
    UNFIT = 17
    RESULT = 18
    STEP = 19
    PART = 20
    OTHER_VERSION = 21
    TOLD = 22
    RETIRES = 23
    NESTS = 24
    WAITS = 25
    GOES_ON = 26
    STAYS = 27
    SPOKE = 28
    SEEKS_DOOR = 29
    HIRE_ENDS = 30
    STACKS = 40


class Word(IntEnum):
    """First element of a packet between node and fork server."""

    SPAWN = 1
    KILL = 2
    BORN = 3
    DIED = 4
    ROUSED = 5


# Job kinds, as JobKind has them: importing the messages would cost a worker 30 ms at its start.
SUBMIT, MAP, REDUCE, EXPLORE = range(4)
HIRED = 4
"""No job's kind: from here on items come from a program, by the socket that comes along."""

HEAD = struct.Struct("<IB")
"""Of a frame: octets of payload, kind."""
RESULT_HEAD = struct.Struct("<QBidQQ")
"""Of a RESULT and of a PART: chunk, codec, failed, seconds, upto, kept; the blob follows.

The blob covers the chunk's items from where the PART before it ended to `upto`. What is left from
`kept` on has not been begun, and will not be: it is the node's again. A RESULT is the last word on
its chunk, so its `kept` is its `upto`; behind a PART the worker goes on, and keeps one item at least.
"""
WORD = struct.Struct("<QQdd")
"""Of a TOLD: chunk, item, done, total (-1: the task does not know)."""
QUESTION = struct.Struct("<QB")
"""Of a question: chunk, and what is asked."""
STOP = struct.Struct("<QQQ")
"""Beside the questions, where tasks run side by side: stop what runs of this chunk, if it is one of the items
from lo to hi."""
BEHIND = -1
"""In the place of a block's codec: its one item needs the result of the item before it, which runs here first."""
HOW_FAR, GIVE_BACK, GIVE_CHILD, TELL_STACKS, TAKE_DOOR, END_HIRE = range(6)
"""How far is it (or false)? Likewise, and give back what is not begun. Submit a child of the task to the mesh.
What are your threads at? (The number is the question's, not a chunk's.)
No question, but the answer to SEEKS_DOOR: the way into the mesh follows, or nothing.
No question: the hire of this number is over."""
CHUNK = struct.Struct("<Q")
"""Of a NESTS: the chunk with a task that has children. Of a WAITS: it waits for some that others run. Of a
GOES_ON: it does not wait any more. Of a SEEKS_DOOR: it wants a way into the mesh."""
STAYS_HEAD = struct.Struct("<QQQ")
"""Of a STAYS: chunk, item, octets. The result follows, or it has come as a descriptor with the same words."""
HIRE_ENDS = struct.Struct("<QQq")
"""Of a HIRE_ENDS: chunk, and lease and item of what runs on as this chunk (-1: nothing)."""
PUT_HEAD = struct.Struct("<H")
"""Of a PUT: octets of key; the key and the blob follow."""

FRAME_OCTETS_MAX = 2**32 - 1
BLOB_OCTETS_MAX = FRAME_OCTETS_MAX - 64
PACKET_OCTETS_MAX = 64 * 1024
READ_OCTETS = 32 * 1024
"""A larger buffer would be mapped and unmapped for every read; larger frames have a path of their own."""
ANNOUNCES = 3
"""Elements of an order to catch up that says: the next packet may come with descriptors."""
DESCRIPTORS_MAX = 253
"""Of one packet: the kernel's own bound."""
COPY_OCTETS_MAX = 24 * 1024
"""Below this size gluing head and body together is cheaper than a second system call."""

DUMP_SIGNAL = signal.SIGWINCH
"""Has a worker's stacks written down in C. A process that does not know better ignores it; a worker has no
terminal, which could change its size; and a library with a handler of its own only looks how wide its terminal is."""
NEVER = -1
"""In place of a number of tasks: the process does not end itself, whatever it has done or keeps."""
WORDS_A_WORKER = 16
"""8-octet words for each worker: two cache lines, so that workers do not slow each other down."""
SHARE = 0
"""Place in a worker's line. Not 0: give up part of the bag."""
STOP_CHUNK, STOP_LO, STOP_HI = 1, 2, 3
"""Places: stop what runs of this chunk, if it is one of these items."""
LOOKED_AT, LISTENS, SHEET = 4, 5, 6
"""Places: a question waits; the process (by its number) that reads them while it is busy; the number of the file there
into which stacks are written."""
HIRED_LID, HIRED_ITEM = 8, 9
"""Places: the lease of what a hired worker runs, and its item + 1; 0: it runs nothing."""


def packets() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def streams() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
unpack: Callable[[bytes | memoryview], Any] = msgspec.msgpack.Decoder().decode
"""Raises ValueError if it is not msgpack."""


def frame(kind: FrameKind, *pieces: bytes) -> list[bytes]:
    """Head and body, in as few pieces as is cheap."""
    octets = sum(map(len, pieces))
    assert octets <= FRAME_OCTETS_MAX, octets
    head = HEAD.pack(octets, kind)
    if octets <= COPY_OCTETS_MAX:
        return [b"".join((head, *pieces))]
    return [head, *filter(None, pieces)]


class StreamEnded(Exception):
    """The other side of a stream is gone."""


def with_descriptors(orders: socket.socket, flags: int = 0) -> tuple[Any, list[int]]:
    """The next order, which was announced to come with descriptors, and these. If its node has taken it back,
    another one comes, with its own or without any. Raises StreamEnded, BlockingIOError."""
    packet, descriptors = received(orders, PACKET_OCTETS_MAX, DESCRIPTORS_MAX, flags)
    if not packet:
        raise StreamEnded
    return unpack(packet), descriptors


class FrameReader:
    """Cuts what arrives on a stream into frames, for blocking and non-blocking sockets alike.

    A frame that does not fit into one read is received straight into its own buffer, so that
    64 MiB are copied once and not once a read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""
        self._large: bytearray | None = None
        self._large_kind = 0
        self._filled = 0

    def read(self) -> list[tuple[int, memoryview]]:
        """One system call's worth of whole frames, perhaps none. Raises StreamEnded, BlockingIOError."""
        if self._large is not None:
            return self._fill_large()
        try:
            data = self._sock.recv(READ_OCTETS)
        except ConnectionError as error:
            raise StreamEnded from error
        if not data:
            raise StreamEnded
        return self._cut(self._rest + data if self._rest else data)

    def _cut(self, data: bytes) -> list[tuple[int, memoryview]]:
        frames = []
        view = memoryview(data)
        at, end = 0, len(data)
        while end - at >= HEAD.size:
            octets, kind = HEAD.unpack_from(data, at)
            body = at + HEAD.size
            if end - body < octets:
                if octets > COPY_OCTETS_MAX:
                    self._start_large(kind, octets, view[body:])
                    at = end
                break
            at = body + octets
            frames.append((kind, view[body:at]))
        self._rest = data[at:]
        return frames

    def _start_large(self, kind: int, octets: int, first: memoryview) -> None:
        FrameKind(kind)  # raises ValueError: garbage must not make us reserve up to 4 GiB
        self._large = bytearray(octets)
        self._large_kind = kind
        self._large[: len(first)] = first
        self._filled = len(first)

    def _fill_large(self) -> list[tuple[int, memoryview]]:
        assert self._large is not None
        with memoryview(self._large) as view, view[self._filled :] as room:
            try:
                octets = self._sock.recv_into(room)
            except ConnectionError as error:
                raise StreamEnded from error
        if not octets:
            raise StreamEnded
        self._filled += octets
        if self._filled < len(self._large):
            return []
        done, self._large = self._large, None
        return [(self._large_kind, memoryview(done))]


class FrameWriter:
    """Sends frames on a non-blocking stream; what the kernel does not take waits here, uncopied."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: deque[memoryview] = deque()
        self.frames = 0
        """Frames put so far. An order names this number as what comes before it."""

    def put(self, kind: FrameKind, *pieces: bytes) -> None:
        self._waiting.extend(map(memoryview, frame(kind, *pieces)))
        self.frames += 1

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what can be written now. Raises StreamEnded when the other side is gone."""
        while self._waiting:
            try:
                octets = self._sock.sendmsg(list(_first(self._waiting, 64)))
            except BlockingIOError:
                return
            except ConnectionError as error:
                self._waiting.clear()
                raise StreamEnded from error
            self._drop(octets)

    def _drop(self, octets: int) -> None:
        while octets:
            piece = self._waiting.popleft()
            if octets < len(piece):
                self._waiting.appendleft(piece[octets:])
                return
            octets -= len(piece)


def _first(pieces: deque[memoryview], count: int) -> Iterator[memoryview]:
    return (piece for piece, _ in zip(pieces, range(count), strict=False))
