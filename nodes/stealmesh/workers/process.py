"""A worker's life: take an order, do it, send what came of it, until killed.

The loop is the product's speed, so it is short: one packet in, one frame out. It reads the stream only
when an order says that something there comes first. It looks for the next order for a few microseconds
before it goes to sleep, because waking a sleeping processor takes longer than most round trips (about
40 µs in a virtual machine); but not when the last order was long in coming, since the next will be, too.

It refuses to know about other workers, other nodes, leases and ledgers. Any doubt about its connection
to the node ends it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing.process
import os
import select
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NoReturn

from msgspec.structs import replace

from stealmesh.shipping import importer, versions
from stealmesh.shipping.named import WorkersSender
from stealmesh.workers import failures, forked, hired, printing, reporting, staying, stopping, wire
from stealmesh.workers.blob_mirror import BlobMirror
from stealmesh.workers.chunk_loader import ChunkLoader, load_function
from stealmesh.workers.division import Listener
from stealmesh.workers.explore import Step
from stealmesh.workers.mapped import HERE as VALUES
from stealmesh.workers.memory import LIMIT, end_here
from stealmesh.workers.nesting import GATE
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome
from stealmesh.workers.wire import FrameKind
from stealmesh_protocol import whole

KEPT_WARM_SECONDS = 0.5
"""A worker without an order for this time needs no files of values that are over."""
SPIN_SECONDS = 60e-6
"""How long to look for an order before sleeping. A node answers a result in about 30 µs; an order that
has not come by then will not come soon, and looking on burns time that others could use."""
SOON_SECONDS = 2 * SPIN_SECONDS
"""An order that took longer would not have been found by looking, even without the time of waking up."""

_SENDING = threading.Lock()
"""One frame after the other: the listener and the tasks that run side by side all send."""

TEXT_OCTETS_MAX = 64 * 1024


whole.send_with(WorkersSender())


def live(
    orders: socket.socket,
    stream: socket.socket,
    questions: socket.socket,
    output: int,
    line: memoryview,
    sheet: int,
    ring: int,
) -> NoReturn:
    """From the fork to the end. `line` is this worker's part of the shared words, `sheet` a file for what it
    cannot say itself (`stacks.py`), `ring` memory for lines that are too many (`output_ring.py`)."""
    orders.setblocking(True)
    stream.setblocking(True)
    questions.setblocking(True)
    forked.this_process_is_the_worker()
    speaks = partial(_send, stream, FrameKind.SPOKE)
    printing.HERE.settle_in(output, ring, lambda: reporting.HERE, speaks)
    printing.HERE.before_output = hired.NOW.yields
    hired.NOW.settle_in(line, partial(_send, stream))
    listener = Listener(questions, partial(_flush_and_send, stream))
    listener.end_hire, listener.node_gone = hired.NOW.wanted_back, hired.NOW.node_gone
    reporting.HERE.settle_in(listener.lock, partial(_send, stream))
    staying.HERE.settle_in(orders, partial(_send_behind, stream))
    _close_in_children(listener, orders, stream, questions)
    _say_what_we_are_at(listener, stream, line, sheet)
    mirror = BlobMirror(stream)
    try:
        loader = _prepare(mirror.setup(), line, listener)
        stopping.NOW.listen(line, reporting.HERE)
        if not loader.threads and loader.registry is None:
            GATE.settle_in(loader, listener)
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
        if loader.threads:
            # Most workers never need asyncio. Once this one is ready, the time of its items runs.
            from stealmesh.workers import side_by_side

            _send(stream, FrameKind.READY)
            speak, answer = partial(_send, stream), partial(_check_and_answer, stream)
            side_by_side.serve(orders, mirror, loader, speak, answer)
        _send(stream, FrameKind.READY)
        _serve(orders, stream, mirror, loader)
    except (wire.StreamEnded, ConnectionError):
        os._exit(0)  # the node is gone, or has no use for us


def _say_what_we_are_at(
    listener: Listener, stream: socket.socket, line: memoryview, sheet: int
) -> None:
    """When somebody looks: by the listener, or without the interpreter."""

    def listens() -> None:
        line[wire.LISTENS] = os.getpid()

    def tell(ticket: int) -> None:
        from stealmesh.workers import stacks  # most workers never need it

        _send(stream, FrameKind.STACKS, stacks.packed(ticket))

    line[wire.SHEET] = sheet
    faulthandler.register(wire.DUMP_SIGNAL, file=sheet, all_threads=True, chain=False)
    listener.listens, listener.tell_stacks = listens, tell
    stopping.NOW.on_look = listener.listen


def _log_as_pools_do() -> None:
    """Log a failed initializer where the standard pools log it, for programs that listen there."""
    logging = sys.modules.get("logging")
    if logging is not None and logging.getLogger("concurrent.futures").hasHandlers():
        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)


def _serve(
    orders: socket.socket, stream: socket.socket, mirror: BlobMirror, loader: ChunkLoader
) -> NoReturn:
    room = memoryview(bytearray(wire.PACKET_OCTETS_MAX))
    done, here, prints = 0, reporting.HERE, printing.HERE
    inbox = OrderInbox(orders)
    announced = False
    descriptors: list[int] = []
    while True:
        if announced:
            order, descriptors = wire.with_descriptors(orders)
            announced = False
        else:
            order = wire.unpack(room[: inbox.receive(room)])
        number, after = order[0], order[1]
        if after != mirror.read:
            mirror.catch_up(after)
            loader.drop_forgotten(mirror)
        if number is None:
            # An order to catch up, and nothing to run; perhaps the next one comes with descriptors.
            announced = len(order) == wire.ANNOUNCES
            continue
        if len(order) == 2:
            order = wire.unpack(mirror.take(wire.pack(number)))
        chunk = ChunkOrder(*order[2:])
        if chunk.output != prints.mode:
            prints.goes_to(chunk.output)
        if chunk.kind == wire.HIRED:
            full = _serve_hirer(number, chunk, descriptors[0], stream, mirror, loader)
            descriptors = []
            if full:
                _flush_and_send(stream, FrameKind.RETIRES)
                end_here()
        elif chunk.values or descriptors:
            VALUES.begin(chunk.values, descriptors)
        if chunk.kind == wire.HIRED:
            pass
        elif chunk.kind == wire.EXPLORE:
            for step in loader.explore(chunk, mirror):
                _check_still_me()
                if versions.fresh:
                    _tell_node(stream)
                _send(stream, FrameKind.STEP, wire.pack(_step_record(number, step)))
        else:
            here.number, here.lo, here.results = number, chunk.lo, ()
            outcome = loader.work(number, chunk, mirror)
            _check_still_me()
            here.number = None
            if here.spoke:
                here.close()
            done += outcome.done  # what was given back is another worker's task
            _answer(stream, number, chunk, outcome)
            here.results = ()  # large ones may be among them
            del outcome
            if staying.HERE.refs_are_made:
                staying.HERE.tidy()
            if 0 < loader.tasks_max <= done:
                forked.flush()
                os._exit(0)
        if chunk.values:
            VALUES.end(chunk.values)
            descriptors = []
        if LIMIT.octets and loader.tasks_max != wire.NEVER and LIMIT.is_near():
            _flush_and_send(stream, FrameKind.RETIRES)
            end_here()


def _serve_hirer(
    number: int,
    order: ChunkOrder,
    descriptor: int,
    stream: socket.socket,
    mirror: BlobMirror,
    loader: ChunkLoader,
) -> bool:
    """Take items from a program until the hire ends (`hired.py`). `order`: what is the same for all of them. True: this
    process keeps so much memory that another is to take its place."""
    sock, hire, here = socket.socket(fileno=descriptor), hired.NOW, reporting.HERE
    sock.setblocking(True)
    if not hire.begins(number, sock):
        return False
    loader.listener.listen()
    if not loader.listener.is_there:
        hire.over()  # nobody would hear that the node wants us back
        return False
    inbox = OrderInbox(sock)
    room = memoryview(bytearray(hired.ORDER_OCTETS_MAX))
    full = False
    while not full:
        try:
            octets = inbox.receive(room)
        except (wire.StreamEnded, OSError):
            break
        lid, lo, hi, first, end, codec = hired.ORDER.unpack_from(room)
        if not hire.takes(lid, lo):
            break
        blob = bytes(room[hired.ORDER.size : octets])
        blocks: list[list[Any]] = [[first, end, codec, b"", blob]]
        chunk = replace(order, kind=wire.SUBMIT, lo=lo, hi=hi, blocks=blocks)
        here.number, here.lo, here.results = number, lo, ()
        outcome = loader.work(number, chunk, mirror)
        _check_still_me()
        here.number = None
        if here.spoke:
            here.close()
        printing.HERE.tell_of_unread()
        if versions.fresh:
            _tell_node(stream)
        head = hired.ANSWER.pack(lid, lo, outcome.codec, outcome.seconds, outcome.failed)
        if not hire.answers(head + outcome.blob):
            _answer(stream, number, chunk, outcome)
            break
        here.results = ()
        del outcome
        if staying.HERE.refs_are_made:
            staying.HERE.tidy()
        full = LIMIT.octets > 0 and loader.tasks_max != wire.NEVER and LIMIT.is_near()
    here.results = ()
    hire.over()
    return full


def _answer(stream: socket.socket, number: int, chunk: ChunkOrder, outcome: ChunkOutcome) -> None:
    if versions.fresh:
        _tell_node(stream)
    head = _result_head(number, chunk.lo + outcome.done, outcome)
    _send(stream, FrameKind.RESULT, head, outcome.blob)


def _check_and_answer(
    stream: socket.socket, number: int, chunk: ChunkOrder, outcome: ChunkOutcome
) -> None:
    _check_still_me()
    _answer(stream, number, chunk, outcome)


def _tell_node(stream: socket.socket) -> None:
    for other in versions.fresh:
        _send(stream, FrameKind.OTHER_VERSION, wire.pack(other))
    versions.fresh.clear()


class OrderInbox:
    """Where orders come from. After one that came soon it looks for the next for a moment; after one that
    took long, as between the calls of a program that waits for each, it goes to sleep at once."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._came_soon = True

    def receive(self, room: memoryview) -> int:
        """Octets of the next order. Raises StreamEnded."""
        since = perf_counter()
        octets = self._look(room, since + SPIN_SECONDS) if self._came_soon else None
        if octets is None:
            warm = sys.modules.get("stealmesh.values.warm")  # most workers never need it
            if warm is not None and warm.some_rest():
                self._wait_for_a_moment(warm.clear_all)
            octets = self._orders.recv_into(room)
            self._came_soon = perf_counter() < since + SOON_SECONDS
        if not octets:
            raise wire.StreamEnded
        return octets

    def _wait_for_a_moment(self, let_go: Callable[[], None]) -> None:
        """If nothing comes, let go of what was kept for it."""
        sleeper = select.poll()
        sleeper.register(self._orders, select.POLLIN)
        if not sleeper.poll(1000.0 * KEPT_WARM_SECONDS):
            let_go()

    def _look(self, room: memoryview, until: float) -> int | None:
        while True:
            try:
                return self._orders.recv_into(room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if perf_counter() > until:
                    return None
                os.sched_yield()


def _send(stream: socket.socket, kind: FrameKind, *pieces: bytes) -> None:
    if hired.NOW.item is not None and kind in hired.SPEAKS_OF_ITS_ITEM:
        hired.NOW.yields()
    with _SENDING:
        for piece in wire.frame(kind, *pieces):
            stream.sendall(piece)


def _send_behind(
    stream: socket.socket,
    kind: FrameKind,
    pieces: tuple[bytes, ...],
    before: Callable[[], object] | None,
) -> None:
    hired.NOW.yields()
    with _SENDING:
        if before is not None:
            before()
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


# ---------------------------------------------------------------- before the first order


def _prepare(setup: list[Any], line: memoryview, listener: Listener) -> ChunkLoader:
    paths, memory_limit, initializer, node_name, authkey, functions, *rest = setup
    tasks_max, threads, bundle, sign = rest
    printing.HERE.knows(sign)
    sys.path[:] = map(os.fsdecode, paths)
    if memory_limit:
        LIMIT.set(memory_limit)
    if authkey:
        multiprocessing.process.current_process().authkey = authkey
    failures.WHERE = f"{node_name or 'this node'} ({socket.gethostname()})"
    loader = ChunkLoader(line, failures.WHERE, listener, tasks_max, threads)
    if functions:
        loader.be_data_only(functions)
    if bundle:
        loader.code, blob = bundle
        importer.settle_in(blob)
    if initializer:
        (function, arguments), _ = load_function(initializer)
        function(*arguments)
    return loader


def _close_in_children(listener: Listener, *ends: socket.socket) -> None:
    """Close our ends in each process that a task forks: they must not keep the conversation open."""

    def close() -> None:
        listener.forget()
        reporting.HERE.forget()
        hired.NOW.forget()
        for end in ends:
            end.close()

    os.register_at_fork(after_in_child=close)
