"""Orders on their way to a worker process, and the blobs that they rely on.

Decides how blobs get there: inside the order, ahead of it on the stream, or not at all because the
process has them already. Decides also what a process may forget. Refuses to know when a process
starts or ends (processes.py).
"""

from __future__ import annotations

import struct

from stealmesh.workers import wire
from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.wire import FrameKind
from stealmesh_engine.base.functions import needed
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Block, JobSpec

INLINE_OCTETS_MAX = 32 * 1024
"""Items up to this size travel inside the order: one message, and nothing to forget later."""
ORDER_OCTETS_MAX = 48 * 1024
"""A longer order goes by the stream, and only its number by packet."""
CACHE_OCTETS_MAX = 64 * 1024 * 1024
"""What a worker may keep of functions and blocks; the least recently used go first."""

SPARE_FUNCTION_OCTETS_MAX = 64 * 1024
"""A larger function goes with its last job; a smaller one stays, as it may come again."""
SPARE_FUNCTIONS_MAX = 256
"""Functions that a worker keeps in case they come again."""

_BLOCK_KEY = struct.Struct(">QQ")


def forget_job(handle: ProcessHandle, job: JobId) -> bool:
    """Forget what only this job needs. True: the worker has something to hear."""
    if handle.ready_for is not None and handle.ready_for.job == job:
        handle.ready_for = None
    large = handle.large.pop(job, set())
    gone = [key for key in handle.cached if key.startswith(job) and len(key) > len(job)]
    large &= handle.cached.keys()  # some may have gone meanwhile, for lack of room
    gone += [key for key in large if not any(key in used for used in handle.large.values())]
    if not gone and not handle.behind:
        return False
    packer = OrderPacker(handle)
    for key in gone:
        packer.forget(key)
    handle.behind = False
    handle.order_to_catch_up()
    return True


class OrderPacker:
    """Packs one order, and puts what it relies on on the stream unless the worker has it."""

    def __init__(self, handle: ProcessHandle) -> None:
        self._handle = handle
        self._inline_room = INLINE_OCTETS_MAX
        self._used: set[bytes] = set()
        self._once_only: list[bytes] = []

    def functions(self, spec: JobSpec, *pairs: tuple[bytes, bytes]) -> None:
        """Pairs of digest and blob; an empty digest stands for no function. Small functions stay, unless
        they are made of values: those go with their last job, no matter how small, as values may be large.
        """
        handle = self._handle
        if handle.ready_for is spec:
            return
        handle.ready_for = spec
        for digest, blob in pairs:
            if not digest:
                continue
            self._cached(digest, blob)
            if len(blob) > SPARE_FUNCTION_OCTETS_MAX or spec.needs:
                handle.large.setdefault(spec.job, set()).add(digest)
                continue
            handle.functions[digest] = None
            handle.functions.move_to_end(digest)

    def block(self, job: JobId, block: Block, blob: bytes, lo: int, hi: int) -> list[object]:
        key = job + _BLOCK_KEY.pack(block.lo, block.hi)
        codec = wire.BEHIND if block.inputs else block.codec
        whole = lo <= block.lo and block.hi <= hi
        if whole and key not in self._handle.cached:
            if len(blob) <= self._inline_room:
                self._inline_room -= len(blob)
                return [block.lo, block.hi, codec, b"", blob]
            self._once(key, blob)  # no other order needs it: it goes when the next one comes
        else:
            self._cached(key, blob)
        return [block.lo, block.hi, codec, key, b""]

    def bag(self, chunk: int, block: Block, blob: bytes) -> list[object]:
        if len(blob) <= self._inline_room:
            return [block.lo, block.hi, block.codec, b"", blob]
        return [block.lo, block.hi, block.codec, self._once(b"bag" + wire.pack(chunk), blob), b""]

    def order(self, chunk: int, record: list[object]) -> bytes:
        """The packet. Ask for it last: it says how many frames come before it."""
        packet = wire.pack([chunk, self._handle.writer.frames, *record])
        if len(packet) <= ORDER_OCTETS_MAX:
            return packet
        self._once(wire.pack(chunk), packet)
        return wire.pack([chunk, self._handle.writer.frames])

    def trim(self) -> None:
        """After the order: forget what was for it alone, and what has no room."""
        for key in self._once_only:
            self._handle.writer.put(FrameKind.FORGET, key)
        self._handle.behind = bool(self._once_only)
        if (
            self._handle.cached_octets > CACHE_OCTETS_MAX
            or len(self._handle.functions) > SPARE_FUNCTIONS_MAX
        ):
            self._make_room()

    def _make_room(self) -> None:
        cached, functions = self._handle.cached, self._handle.functions
        self._use_functions()
        while (
            self._handle.cached_octets > CACHE_OCTETS_MAX and next(iter(cached)) not in self._used
        ):
            self.forget(next(iter(cached)))
        while len(functions) > SPARE_FUNCTIONS_MAX and next(iter(functions)) not in self._used:
            self.forget(next(iter(functions)))

    def _use_functions(self) -> None:
        """This order needs them, and has not said so if the one before it was of the same job."""
        spec = self._handle.ready_for
        assert spec is not None, "an order has been packed"
        for digest in needed(spec):
            self._used.add(digest)
            self._handle.cached.move_to_end(digest)
            if digest in self._handle.functions:
                self._handle.functions.move_to_end(digest)

    def forget(self, key: bytes) -> None:
        self._handle.cached_octets -= self._handle.cached.pop(key)
        self._handle.functions.pop(key, None)
        self._handle.writer.put(FrameKind.FORGET, key)

    def _once(self, key: bytes, blob: bytes) -> bytes:
        self._put(key, blob)
        self._once_only.append(key)
        return key

    def _cached(self, key: bytes, blob: bytes) -> None:
        cached = self._handle.cached
        self._used.add(key)
        if key in cached:
            cached.move_to_end(key)
            return
        self._put(key, blob)
        cached[key] = len(blob)
        self._handle.cached_octets += len(blob)

    def _put(self, key: bytes, blob: bytes) -> None:
        self._handle.writer.put(FrameKind.PUT, wire.PUT_HEAD.pack(len(key)), key, blob)
