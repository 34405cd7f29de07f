"""Programs for which no worker process can be prepared: this node's initializer fails beside their modules.

Decides after how many failed processes their orders are declined, for how long, and in which words.
Refuses to know when a process is started (pool.py) and who runs the work instead (the ledger).
"""

from __future__ import annotations

from dataclasses import dataclass

from stealmesh_engine.effects import RunChunk
from stealmesh_engine.events import BagStep, ChunkDone
from stealmesh_protocol.messages import JobKind

TRIES_MAX = 3
"""Processes that may fail before the pool declines the program's orders."""
SECONDS = 30.0
"""The pool tries the program again after this time."""


@dataclass(slots=True)
class Misfit:
    tries: int
    reason: str
    since: float


class Misfits:
    """Programs that cannot run here, by the digest of their code."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name or "this node"
        self.known: dict[bytes, Misfit] = {}

    def failed(self, code: bytes, reason: str, now: float) -> None:
        """A process for it has ended before it was ready."""
        misfit = self.known.setdefault(code, Misfit(0, "", 0.0))
        misfit.tries += 1
        misfit.reason = reason
        misfit.since = now

    def fits(self, code: bytes) -> None:
        self.known.pop(code, None)

    def forget(self, now: float) -> None:
        for code, misfit in list(self.known.items()):
            if now - misfit.since > SECONDS:
                del self.known[code]

    def declines(self, code: bytes) -> bool:
        misfit = self.known.get(code)
        return misfit is not None and misfit.tries >= TRIES_MAX

    def answer(self, effect: RunChunk) -> ChunkDone | BagStep:
        """The answer to an order that cannot run here: another node may run it."""
        from stealmesh_engine.ledger.passed_over import (
            cannot_load,  # here, so that the fork server starts soon
        )
        from stealmesh_protocol.values import LACKING

        spec, misfit = effect.spec, self.known[effect.spec.code]
        text = (
            f"{spec.name} cannot be run on node {self._node_name}: its workers run an initializer first, "
            f"of the program that started it, and that fails beside this program's modules "
            f"({misfit.reason}, {misfit.tries} times); use a mesh without an initializer, or with "
            "one that needs only what is installed"
        )
        bag = spec.kind == JobKind.EXPLORE
        follows = not bag and any(block.inputs for block, _ in effect.blocks)
        upto = effect.lo + 1 if follows else effect.hi  # the others do not begin
        count = 1 if bag or spec.kind == JobKind.REDUCE else upto - effect.lo
        _, blob = cannot_load(text, count)
        if bag:
            partial = bytes([LACKING]) + blob
            return BagStep(effect.worker, effect.chunk, partial, b"", 0, 0, 0.0, failed=1)
        return ChunkDone(effect.worker, effect.chunk, LACKING, blob, 0.0, count, upto)


def headline(story: str) -> str:
    """The first line of what was raised, from a traceback."""
    behind = story.rpartition('  File "')[2].splitlines()[1:]
    return next((line for line in behind if line and not line.startswith("    ")), "")
