"""Who gives children of its tasks away, and how often.

A task runs the tasks that it has submitted itself, until another worker is idle. Decides which
worker is asked for one, and when again. Refuses to know which child goes (the worker), and who is idle
(`stealing/victim.py`).
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Export
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.slots import CHILDREN_SECONDS


class Children:
    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self._effects = context.effects
        self._dispatcher = dispatcher

    def ask(self, now: float) -> bool:
        """Somebody has nothing to do: each task that has children is to give one away, again and again until
        nobody asks any more. True: one may have some."""
        nesting = [chunk for chunk in self._dispatcher.slots.running() if chunk.nests]
        for chunk in nesting:
            if now >= chunk.children_at:
                chunk.children_at = now + CHILDREN_SECONDS
                self._effects.append(Export(chunk.worker, chunk.number))
            self._dispatcher.patrol_by(chunk.children_at)
        return bool(nesting)
