"""A worker process that runs orders side by side: coroutines on its event loop, plain functions in threads.

The main thread is the event loop. It reads an order when there is one, loads what the order needs, and begins
it at once: the node sends no more than there is room for. A coroutine that blocks holds up the loop, and
with it the orders behind it, like in any asyncio program. Each answer goes out whole when its chunk ends.

The loop lives as long as the process. It survives what tasks do to it: `loop.stop()`, SystemExit in a task
that they left behind. Refuses to know how items run (run.py, coroutines.py), and what may run beside what
(the engine's holding/side_by_side.py).
"""

# ruff: noqa: BLE001 - user code may raise anything on the loop, and the loop goes on.

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, NoReturn

from stealmesh.shipping import versions
from stealmesh.values import warm
from stealmesh.workers import coroutines, forked, printing, reporting, stopping, wire
from stealmesh.workers.blob_mirror import BlobMirror
from stealmesh.workers.chunk_loader import ChunkLoader, Loaded
from stealmesh.workers.mapped import HERE as VALUES
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome, remarked
from stealmesh.workers.reporting_beside import HereBeside
from stealmesh.workers.stopping_beside import StoppingBeside
from stealmesh_protocol.unasked import traceback_of

Send = Callable[..., None]


def serve(
    orders: socket.socket, mirror: BlobMirror, loader: ChunkLoader, speak: Send, answer: Send
) -> NoReturn:
    """From the first order to the end. `speak` sends a frame, `answer` what came of an order."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    here = reporting.HERE = HereBeside(loader.listener.lock, speak)
    printing.HERE.beside = True
    warm.keep_none()
    stops = stopping.NOW = StoppingBeside(loop)
    loader.listener.hears_stops(stops.asked)
    bench = Bench(orders, mirror, loader, answer, here, stops)
    loop.add_reader(orders, bench.read, loop)
    # A task's forked child must not go on with its neighbours' work.
    os.register_at_fork(after_in_child=loop.stop)
    while True:
        try:
            loop.run_forever()
        except BaseException as error:
            forked.end_if_forked(error)
            sys.excepthook(type(error), error, traceback_of(error))
        forked.end_if_forked()


@contextlib.contextmanager
def _or_end() -> Iterator[None]:
    """Around our own code. asyncio would log an error there and go on, and a chunk would have no answer."""
    try:
        yield
    except (wire.StreamEnded, ConnectionError):
        os._exit(0)  # the node is gone, or has no use for us
    except BaseException as error:
        forked.end_if_forked(error)
        sys.excepthook(type(error), error, traceback_of(error))
        forked.flush()
        os._exit(1)


class Bench:
    """The orders that run here."""

    def __init__(
        self,
        orders: socket.socket,
        mirror: BlobMirror,
        loader: ChunkLoader,
        send: Send,
        here: HereBeside,
        stops: StoppingBeside,
    ) -> None:
        self._orders = orders
        self._mirror = mirror
        self._loader = loader
        self._send = send
        self._here = here
        self._stops = stops
        self._room = memoryview(bytearray(wire.PACKET_OCTETS_MAX))
        self._work: SimpleQueue[tuple[int, Loaded]] = SimpleQueue()
        self._threads = 0
        self._announced = False
        """The next order comes with descriptors."""
        self._lock = threading.Lock()
        """For what follows, and while an answer goes out."""
        self._in_threads = 0
        self._running = 0
        self._done = 0
        self._coroutines: set[asyncio.Task[None]] = set()
        """The loop itself keeps no task alive."""

    # ------------------------------------------------------------ the loop's thread

    def read(self, loop: asyncio.AbstractEventLoop) -> None:
        """There is an order, or the node is gone."""
        with _or_end():
            descriptors: list[int] = []
            try:
                if self._announced:
                    order, descriptors = wire.with_descriptors(self._orders, socket.MSG_DONTWAIT)
                    self._announced = False
                else:
                    octets = self._orders.recv_into(self._room, 0, socket.MSG_DONTWAIT)
                    if not octets:
                        raise wire.StreamEnded
                    order = wire.unpack(self._room[:octets])
            except BlockingIOError:
                return  # the node has taken it back
            self._take(loop, order, descriptors)

    def _take(
        self, loop: asyncio.AbstractEventLoop, order: list[Any], descriptors: list[int]
    ) -> None:
        number, after = order[0], order[1]
        self._mirror.catch_up(after)
        self._loader.drop_forgotten(self._mirror)
        if number is None:
            self._announced = len(order) == wire.ANNOUNCES
            return
        if len(order) == 2:
            order = wire.unpack(self._mirror.take(wire.pack(number)))
        chunk = ChunkOrder(*order[2:])
        if chunk.output != printing.HERE.mode:
            printing.HERE.goes_to(chunk.output)
        if chunk.values or descriptors:
            VALUES.begin(chunk.values, descriptors)
        self._begin(loop, number, chunk)
        if self._loader.tasks_max and self._done >= self._loader.tasks_max:
            loop.remove_reader(self._orders)

    def _begin(self, loop: asyncio.AbstractEventLoop, number: int, chunk: ChunkOrder) -> None:
        with self._lock:
            self._running += 1
        loaded = self._loader.load(number, chunk, self._mirror)
        if isinstance(loaded, ChunkOutcome):
            self._ended(number, chunk, loaded)
        elif chunk.awaits:
            task = loop.create_task(self._await(number, loaded))
            self._coroutines.add(task)
            task.add_done_callback(self._coroutines.discard)
        else:
            self._start_in_thread(number, loaded)

    async def _await(self, number: int, loaded: Loaded) -> None:
        with _or_end():
            speaker = self._here.begins(number, loaded.chunk.lo)
            self._stops.begins(speaker)
            outcome = await coroutines.run(
                loaded.chunk,
                loaded.function,
                loaded.combine,
                loaded.items,
                loaded.again,
                loaded.watch,
            )
            self._stops.ends(speaker)
            self._here.ends(speaker)
            self._ended(number, loaded.chunk, outcome)

    def _start_in_thread(self, number: int, loaded: Loaded) -> None:
        with self._lock:
            self._in_threads += 1
            more = self._in_threads > self._threads
            self._threads += more
        if more:
            name = f"stealmesh-task-{self._threads}"
            threading.Thread(target=self._work_on, name=name, daemon=True).start()
        self._work.put((number, loaded))

    # ------------------------------------------------------------ any thread

    def _work_on(self) -> None:
        """One thread's life."""
        with _or_end():
            while True:
                number, loaded = self._work.get()
                speaker = self._here.begins(number, loaded.chunk.lo)
                self._stops.begins(speaker)
                outcome = loaded.run()
                forked.end_if_forked()
                self._stops.ends(speaker)
                self._here.ends(speaker)
                with self._lock:
                    self._in_threads -= 1
                self._ended(number, loaded.chunk, outcome)
                del number, loaded, outcome, speaker

    def _ended(self, number: int, chunk: ChunkOrder, outcome: ChunkOutcome) -> None:
        forked.end_if_forked()
        if chunk.values:
            VALUES.end(chunk.values)
        with self._lock:
            if versions.news:
                outcome.codec, outcome.blob = remarked(outcome.codec, outcome.blob)
            self._running -= 1
            self._done += outcome.done
            self._send(number, chunk, outcome)
            most = self._loader.tasks_max
            if most and self._done >= most and not self._running:
                # It has done its share, reads no more orders, and ends with the last that runs.
                forked.flush()
                os._exit(0)
