"""A worker's life: take an order, do it, send what came of it, until killed.

The loop is the product's speed, so it is short: one packet in, one frame out. It reads the stream only
when an order says that something there comes first. It looks for the next order for a few microseconds
before it goes to sleep, because waking a sleeping processor takes longer than most round trips (about
40 µs in a virtual machine).

It refuses to know about other workers, other nodes, leases and ledgers. Any doubt about its connection
to the node ends it.
"""

from __future__ import annotations

import importlib
import multiprocessing.process
import os
import resource
import socket
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pickle import loads
from time import perf_counter
from typing import Any, NoReturn

from stealmesh.shipping import importer, opening, packing, versions
from stealmesh.shipping.opening import Piece
from stealmesh.workers import explore, failures, forked, run, wire
from stealmesh.workers.division import Listener
from stealmesh.workers.explore import Step
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome, all_failed, all_unopened, remarked
from stealmesh.workers.wire import FrameKind
from stealmesh_protocol import whole
from stealmesh_protocol.values import ITEMS

SPIN_SECONDS = 60e-6
"""How long to look for an order before sleeping. A node answers a result in about 30 µs; an order that
has not come by then will not come soon, and looking on burns time that others could use."""

TEXT_OCTETS_MAX = 64 * 1024


whole.send_with(packing.dumps, lambda: packing.Pickler)


def live(
    orders: socket.socket, stream: socket.socket, questions: socket.socket, line: memoryview
) -> NoReturn:
    """From the fork to the end. `line` is this worker's part of the shared words."""
    orders.setblocking(True)
    stream.setblocking(True)
    questions.setblocking(True)
    forked.this_process_is_the_worker()
    _tidy_standard_files()
    listener = Listener(questions, partial(_flush_and_send, stream))
    _close_in_children(listener, orders, stream, questions)
    mirror = Mirror(stream)
    try:
        desk = _prepare(mirror.setup(), line, listener)
        forked.end_if_forked()
    except wire.StreamEnded:
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - an initializer may raise anything, SystemExit too
        forked.end_if_forked(error)
        text = traceback.format_exc()[-TEXT_OCTETS_MAX:]
        _log_as_pools_do()
        _send(stream, FrameKind.UNFIT, text.encode(errors="backslashreplace"))
        forked.flush()
        os._exit(1)
    try:
        _send(stream, FrameKind.READY)
        _serve(orders, stream, mirror, desk)
    except (wire.StreamEnded, ConnectionError):
        os._exit(0)  # the node is gone, or has no use for us


def _log_as_pools_do() -> None:
    """Log a failed initializer where the standard pools log it, for programs that listen there."""
    logging = sys.modules.get("logging")
    if logging is not None and logging.getLogger("concurrent.futures").hasHandlers():
        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)


def _serve(orders: socket.socket, stream: socket.socket, mirror: Mirror, desk: Desk) -> NoReturn:
    room = memoryview(bytearray(wire.PACKET_OCTETS_MAX))
    done = 0
    while True:
        order = wire.unpack(room[: _next_order(orders, room)])
        number, after = order[0], order[1]
        mirror.catch_up(after)
        desk.tidy(mirror)
        if number is None:
            continue  # an order to catch up, and nothing to run
        if len(order) == 2:
            order = wire.unpack(mirror.take(wire.pack(number)))
        chunk = ChunkOrder(*order[2:])
        if chunk.kind == wire.EXPLORE:
            for step in desk.explore(number, chunk, mirror):
                _check_still_me()
                if versions.fresh:
                    _tell_node(stream)
                _send(stream, FrameKind.STEP, wire.pack(_step_record(number, step)))
        else:
            outcome = desk.work(number, chunk, mirror)
            _check_still_me()
            if versions.fresh:
                _tell_node(stream)
            head = _result_head(number, chunk.lo + outcome.done, outcome)
            done += outcome.done  # what was given back is another worker's task
            _send(stream, FrameKind.RESULT, head, outcome.blob)
            del outcome
            if desk.tasks_max and done >= desk.tasks_max:
                forked.flush()
                os._exit(0)


def _tell_node(stream: socket.socket) -> None:
    for other in versions.fresh:
        _send(stream, FrameKind.OTHER_VERSION, wire.pack(other))
    versions.fresh.clear()


def _next_order(orders: socket.socket, room: memoryview) -> int:
    deadline = perf_counter() + SPIN_SECONDS
    while True:
        try:
            octets = orders.recv_into(room, 0, socket.MSG_DONTWAIT)
            break
        except BlockingIOError:
            if perf_counter() > deadline:
                octets = orders.recv_into(room)
                break
            os.sched_yield()
    if not octets:
        raise wire.StreamEnded
    return octets


def _send(stream: socket.socket, kind: FrameKind, *pieces: bytes) -> None:
    for piece in wire.frame(kind, *pieces):
        stream.sendall(piece)


def _flush_and_send(stream: socket.socket, kind: FrameKind, *pieces: bytes) -> None:
    forked.flush()
    _send(stream, kind, *pieces)


def _result_head(number: int, upto: int, outcome: ChunkOutcome) -> bytes:
    return wire.RESULT_HEAD.pack(number, outcome.codec, outcome.failed, outcome.seconds, upto, upto)


def _step_record(number: int, step: Step) -> list[object]:
    return [
        number, step.remaining, step.items, step.seconds, step.failed,
        step.partial, step.rest, step.spares,
    ]  # fmt: skip


def _check_still_me() -> None:
    """A task that forked comes back twice and must answer once: the copy ends without a word."""
    forked.end_if_forked()
    forked.flush()


# ---------------------------------------------------------------- what the node sent ahead


class Mirror:
    """The worker's side of the stream: blobs by key, exactly as the node believes them to be."""

    def __init__(self, stream: socket.socket) -> None:
        self._frames = wire.FrameReader(stream)
        self._ahead: list[tuple[int, memoryview]] = []
        self._read = 0
        self._blobs: dict[bytes, bytes] = {}
        self.forgotten: list[bytes] = []
        """Keys forgotten since the loader last looked."""

    def setup(self) -> list[Any]:
        kind, payload = self._next()
        assert kind == FrameKind.SETUP, kind
        record: list[Any] = wire.unpack(payload)
        return record

    def catch_up(self, after: int) -> None:
        """Read the first `after` frames of the stream: the order that is about to run relies on them."""
        while self._read < after:
            kind, payload = self._next()
            if kind == FrameKind.PUT:
                (octets,) = wire.PUT_HEAD.unpack_from(payload)
                body = wire.PUT_HEAD.size + octets
                self._blobs[bytes(payload[wire.PUT_HEAD.size : body])] = bytes(payload[body:])
            else:
                assert kind == FrameKind.FORGET, kind
                key = bytes(payload)
                self._blobs.pop(key, None)
                self.forgotten.append(key)

    def _next(self) -> tuple[int, memoryview]:
        while not self._ahead:
            self._ahead = self._frames.read()
            self._ahead.reverse()
        self._read += 1
        return self._ahead.pop()

    def get(self, key: bytes) -> bytes:
        return self._blobs[key]

    def take(self, key: bytes) -> bytes:
        return self._blobs.pop(key)


@dataclass(slots=True)
class Open:
    """The block that chunks are cut from, unpacked once. Items before `upto` were handed out.

    A task may change an item that it was given, so none is handed out twice: another attempt
    gets it from the blob.
    """

    key: bytes
    items: list[Any]
    upto: int


@dataclass(slots=True)
class Desk:
    """Turns an order into arguments for `run` and `explore`: functions loaded, blocks opened."""

    line: memoryview
    where: str
    listener: Listener
    tasks_max: int = 0
    """After this number of tasks the process makes room for a fresh one; 0: never."""
    functions: dict[bytes, tuple[Any, tuple[Piece, ...], tuple[versions.Other, ...]]] = field(
        default_factory=dict
    )
    """By digest: the function, the pieces that must be in place when it is called, and the packages that
    are here in another version."""
    code: bytes = b""
    """The bundle that modules are imported from."""
    limits: dict[bytes, int] = field(default_factory=dict)
    """By function: how many items of an explore bag to visit at once, as last learned."""
    open: Open | None = None

    def work(self, number: int, chunk: ChunkOrder, mirror: Mirror) -> ChunkOutcome:
        outcome = self._work(number, chunk, mirror)
        if versions.news:
            outcome.codec, outcome.blob = remarked(outcome.codec, outcome.blob)
        return outcome

    def _work(self, number: int, chunk: ChunkOrder, mirror: Mirror) -> ChunkOutcome:
        if versions.met:
            versions.begin()
        try:
            if chunk.code != self.code:
                self._settle_in(chunk.code, mirror)
            function = self._load(chunk.function, mirror)
            combine = self._load(chunk.combine, mirror) if chunk.combine else None
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            forked.end_if_forked(error)
            # A function that cannot be loaded here may be loaded elsewhere.
            return all_failed(chunk, error, self.where, lacking=True)
        try:
            items = self._items(chunk, mirror)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            forked.end_if_forked(error)
            return all_unopened(chunk, error, self.where)
        again = partial(self._again, chunk, mirror)
        if len(items) == 1:
            return run.run(chunk, function, combine, items, again)
        in_parts = chunk.kind != wire.REDUCE
        begins = partial(self.listener.begins, number, chunk.lo, in_parts)
        watch = (begins, self.listener.ends)
        return run.run(chunk, function, combine, items, again, watch)

    def explore(self, number: int, chunk: ChunkOrder, mirror: Mirror) -> Iterator[Step]:
        for step in self._explore(number, chunk, mirror):
            if versions.news and step.partial:
                codec, blob = remarked(step.partial[0], step.partial[1:])
                step.partial = bytes([codec]) + blob
            yield step

    def _explore(self, number: int, chunk: ChunkOrder, mirror: Mirror) -> Iterator[Step]:
        if versions.met:
            versions.begin()
        try:
            if chunk.code != self.code:
                self._settle_in(chunk.code, mirror)
            visit = self._load(chunk.function, mirror)
            combine = self._load(chunk.combine, mirror)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            yield explore.bag_failed(error, self.where, lacking=True)
            return
        try:
            _, _, _, key, blob = chunk.blocks[0]
            bag = explore.open_bag(mirror.take(key) if key else blob)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            lacking = failures.is_lacking_for_an_item(error)
            yield explore.bag_failed(error, self.where, lacking=lacking)
            return
        pace = explore.VisitPace(self.limits.get(chunk.function, explore.LIMIT_FIRST))
        flags = Flags(self.line, number)
        yield from explore.explore(visit, combine, bag, chunk.retries, flags, pace)
        self.limits[chunk.function] = pace.limit

    def tidy(self, mirror: Mirror) -> None:
        """Drop what was made of forgotten blobs."""
        if not mirror.forgotten:
            return
        for key in mirror.forgotten:
            self.functions.pop(key, None)
            if self.open is not None and self.open.key == key:
                self.open = None
        mirror.forgotten.clear()

    def _settle_in(self, code: bytes, mirror: Mirror) -> None:
        if not code:
            return
        assert not self.code, "the pool gives a worker the work of one program only"
        self.code = code
        importer.settle_in(mirror.get(code))

    def _load(self, digest: bytes, mirror: Mirror) -> Any:
        known = self.functions.get(digest)
        if known is None:
            before = versions.met
            versions.begin()
            made, pieces = load_patiently(mirror.get(digest))
            self.functions[digest] = (made, pieces, versions.met)
            versions.add(before)
            return made
        if known[1]:
            living = opening.living()
            assert living is not None, "what has pieces was loaded by it"
            living.apply(known[1])
        if known[2]:
            versions.add(known[2])
        return known[0]

    def _items(self, chunk: ChunkOrder, mirror: Mirror) -> run.Items:
        if chunk.step:
            first = chunk.start + chunk.lo * chunk.step
            return range(first, first + (chunk.hi - chunk.lo) * chunk.step, chunk.step)
        items: list[Any] = []
        sealed = False
        for block in chunk.blocks:
            if block[0] < chunk.hi and chunk.lo < block[1]:
                items += self._cut(chunk, block, mirror)
                sealed |= block[2] == ITEMS
        return run.sealed(items, self.where) if sealed else items

    def _cut(self, chunk: ChunkOrder, block: list[Any], mirror: Mirror) -> list[Any]:
        low, high, codec, key, blob = block
        lo, hi = max(chunk.lo, low) - low, min(chunk.hi, high) - low
        if not key:
            return run.open_block(codec, blob)[lo:hi]
        if self.open is None or self.open.key != key or self.open.upto > lo:
            self.open = Open(key, run.open_block(codec, mirror.get(key)), 0)
        items = self.open.items[lo:hi]
        self.open.upto = hi
        return items

    def _again(self, chunk: ChunkOrder, mirror: Mirror, lo: int, hi: int) -> run.Items:
        """Items [lo, hi) of the chunk as they were sent, for another attempt.

        They were handed out before, so `_cut` opens their block anew.
        """
        return self._items(replace(chunk, lo=chunk.lo + lo, hi=chunk.lo + hi), mirror)


class Flags:
    """What the node can say to a running bag without a message."""

    def __init__(self, line: memoryview, number: int) -> None:
        self._line = line
        self._number = number + 1

    def is_share_wanted(self) -> bool:
        return self._line[wire.SHARE] != 0

    def shared(self) -> None:
        self._line[wire.SHARE] = 0

    def is_abandoned(self) -> bool:
        return bool(self._line[wire.ABANDON] == self._number)


def load_patiently(blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
    """A function, and the pieces of the program that it reaches. When a module is missing, look again:
    its file may be younger than our start. Raises what a module raises when it is imported."""
    try:
        return _load(blob)
    except ImportError:
        importlib.invalidate_caches()
        return _load(blob)


def _load(blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
    living = opening.living()
    return (loads(blob), ()) if living is None else living.load(blob)


# ---------------------------------------------------------------- before the first order


def _prepare(setup: list[Any], line: memoryview, listener: Listener) -> Desk:
    paths, memory_limit, initializer, node_name, authkey, tasks_max, bundle = setup
    sys.path[:] = map(os.fsdecode, paths)
    if memory_limit:
        limit_memory(memory_limit)
    if authkey:
        multiprocessing.process.current_process().authkey = authkey
    failures.WHERE = f"{node_name or 'this node'} ({socket.gethostname()})"
    desk = Desk(line, failures.WHERE, listener, tasks_max)
    if bundle:
        desk.code, blob = bundle
        importer.settle_in(blob)
    if initializer:
        (function, arguments), _ = load_patiently(initializer)
        function(*arguments)
    return desk


def limit_memory(octets: int) -> None:
    """From here on an allocation past the limit raises MemoryError where it was asked for."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        octets = min(octets, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (octets, hard))


def _tidy_standard_files() -> None:
    """Print whole lines, so that lines of several workers do not mix."""
    for file in (sys.stdout, sys.stderr):
        if hasattr(file, "reconfigure"):
            file.reconfigure(line_buffering=True)


def _close_in_children(listener: Listener, *ends: socket.socket) -> None:
    """Close our ends in each process that a task forks: they must not keep the conversation open."""

    def close() -> None:
        listener.forget()
        for end in ends:
            end.close()

    os.register_at_fork(after_in_child=close)
