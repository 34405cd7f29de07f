"""What a node's core wants of workers with tasks inside tasks: a child for others, and one more worker.

Decides nothing. Knows the way into the mesh, which a worker needs for a child that is to run elsewhere.
"""

from __future__ import annotations

from stealmesh.workers import wire
from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.processes import Processes
from stealmesh_engine.effects import Export, Relieve
from stealmesh_engine.events import Event, TaskNests, TaskWaits

TASK_WORDS = frozenset({
    wire.FrameKind.NESTS, wire.FrameKind.WAITS, wire.FrameKind.GOES_ON, wire.FrameKind.SEEKS_DOOR,
})  # fmt: skip


class TasksInside:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.door = b""
        """The way into the mesh (`wire.pack([endpoints, key])`); empty: there is none for workers."""

    def export(self, effect: Export) -> None:
        """Ask the worker to submit a child of its task."""
        handle = self._processes.workers[effect.worker].handle
        if self.door and handle is not None and effect.chunk in handle.outstanding:
            handle.ask(wire.QUESTION.pack(effect.chunk, wire.GIVE_CHILD) + self.door)

    def heard(
        self, kind: int, worker: int, handle: ProcessHandle, payload: bytes | memoryview
    ) -> list[Event]:
        """What a worker says of its task. If that makes an actor, the worker needs a client of its own."""
        if kind != wire.FrameKind.SEEKS_DOOR:
            return [task_word(kind, worker, payload)]
        handle.ask(wire.QUESTION.pack(*wire.CHUNK.unpack(payload), wire.TAKE_DOOR) + self.door)
        return []

    def relieve(self, effect: Relieve) -> None:
        self._processes.relieve(effect.worker, wanted=effect.wanted)


def task_word(kind: int, worker: int, payload: bytes | memoryview) -> TaskNests | TaskWaits:
    """What a worker says of its task and that task's children."""
    (chunk,) = wire.CHUNK.unpack(payload)
    if kind == wire.FrameKind.NESTS:
        return TaskNests(worker, chunk)
    return TaskWaits(worker, chunk, kind == wire.FrameKind.WAITS)
