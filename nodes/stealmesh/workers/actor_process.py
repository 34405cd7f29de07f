"""The process of an actor: it starts with the first order, runs nothing else, and nothing takes its place.

Decides when it starts, and what the core hears if there is no room for it. Refuses to know calls and lives.
"""

from __future__ import annotations

from collections.abc import Callable

from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.processes import Processes, State, Worker
from stealmesh_engine.effects import RunChunk
from stealmesh_engine.events import Event, WorkerLost

ACTORS_MAX = 1024
"""Actors of one node. A process has 20 MB and more, so a host's memory ends first."""


def run_actor(
    processes: Processes,
    effect: RunChunk,
    order: Callable[[Worker, ProcessHandle, RunChunk], None],
) -> list[Event]:
    """Order this chunk, now or when the process is up. Returns what the core is to hear at once."""
    worker = processes.actor(effect.worker)
    if worker is None:
        reason = f"its node has {ACTORS_MAX} actors, and no room for another"
        return [WorkerLost(effect.worker, None, reason, blame=False)]
    if worker.state is State.DOWN:
        processes.change(worker, effect.spec.code, effect.code)
    handle = worker.handle
    if handle is None or worker.state is not State.READY or handle.sentence is not None:
        worker.waiting.append(effect)
    else:
        order(worker, handle, effect)
    return []
