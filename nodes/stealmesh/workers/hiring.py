"""A node's workers that take items from programs: how a process begins to, and what it was at when it ends.

Does the pool's part of HireOut and EndHire. Decides whether a process can be hired out as it is. Refuses to know who
hires (the core), and how the way gets to the program (`values/neighbours.py`).
"""

from __future__ import annotations

import socket

from stealmesh.values.shelf import Shelf
from stealmesh.workers import wire
from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.orders import OrderPacker
from stealmesh.workers.processes import Processes, State, Worker
from stealmesh.workers.shared_words import SharedWords
from stealmesh_engine.effects import EndHire, HireOut
from stealmesh_engine.events import HireEnded
from stealmesh_protocol.messages import JobSpec


class HiringOut:
    """Of one pool of `count` workers, whose processes end after `tasks_max` tasks, if that is not 0."""

    def __init__(
        self, processes: Processes, words: SharedWords, shelf: Shelf, count: int, tasks_max: int
    ) -> None:
        self._processes = processes
        self._words = words
        self._shelf = shelf
        self._count = count
        self._tasks_max = tasks_max

    def out(self, effect: HireOut) -> socket.socket | None:
        """Have the worker take items from a program. Returns the program's end; None: it cannot be."""
        worker, spec = self._processes.find(effect.worker), effect.spec
        handle = None if worker is None else worker.handle
        if worker is None or handle is None:
            return None
        suits = not spec.code or handle.code in (b"", spec.code)
        waits = worker.state is not State.READY or worker.waiting or worker.changing
        ends_soon = handle.sentence or (self._tasks_max and not worker.actor)
        if not suits or waits or ends_soon:
            return None
        try:
            ours, theirs = wire.packets()
        except OSError:  # no descriptor is left; the calls go the ordinary way
            return None
        if spec.code:
            handle.code = spec.code
        packer = OrderPacker(handle)
        packer.functions(spec, (spec.code, effect.code), (spec.function, effect.function))
        record = _record(spec)
        if spec.stays_from:
            # No more than this number of orders are out at once.
            share = self._shelf.room.left() // (2 * self._count)
            record += [spec.job, spec.stays_from, share, self._shelf.room.directory]
        handle.hire = effect.chunk
        handle.announce(effect.chunk, [theirs.detach()])
        handle.unsent.append((effect.chunk, packer.order(effect.chunk, record)))
        packer.trim()
        self._processes.push(worker, handle)
        return ours

    def end(self, effect: EndHire) -> None:
        """Ask for the worker. It answers, or dies."""
        worker = self._processes.find(effect.worker)
        handle = None if worker is None else worker.handle
        if handle is not None and handle.hire == effect.chunk:
            handle.ask(wire.QUESTION.pack(effect.chunk, wire.END_HIRE))

    def ended(self, worker: Worker, handle: ProcessHandle, payload: memoryview) -> HireEnded:
        """It says so, and what it runs on with. Raises ValueError, struct.error."""
        return self._over(worker, handle, *wire.HIRE_ENDS.unpack(payload))

    def died(self, worker: Worker, handle: ProcessHandle) -> HireEnded:
        """It could not say what it was at."""
        lid, item = self._words.hired(worker.number) or (0, -1)
        return self._over(worker, handle, handle.hire, lid, item)

    def _over(
        self, worker: Worker, handle: ProcessHandle, chunk: int, lid: int, item: int
    ) -> HireEnded:
        if handle.hire != chunk:
            raise ValueError(f"the end of hire {chunk}, which it has not")
        handle.hire = 0
        if item >= 0:
            handle.outstanding[chunk] = (item, item + 1)
        return HireEnded(worker.known_as(self._count), chunk, lid, item)


def _record(spec: JobSpec) -> list[object]:
    """What is the same for all items of a hired worker, as `ChunkOrder` has it."""
    record: list[object] = [
        wire.HIRED, spec.function, b"", 0, 0, False, 0 if spec.life else spec.retries,
        0, 0, [], spec.code,
    ]  # fmt: skip
    return [*record, False, 0.0, "", [], spec.life > 0, int(spec.output)]
