"""Workers of a world with a liar: they may be handed nonsense, and fail, as real ones would.

Does: runs what is right as any virtual worker does, and lets items of the liar's own jobs fail that cannot be read.
Nonsense in an honest job is a breach. Refuses to know what lies there are (lies.py), and which jobs are the liar's
(insider.py tells).
"""

from __future__ import annotations

import msgspec

from stealmesh_engine.effects import RunChunk
from stealmesh_engine.events import BagStep, ChunkDone
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind
from stealmesh_protocol.values import OUTCOMES, UNLOADABLE, Failure, pack_outcomes
from stealmesh_sim.actors import VirtualActor
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process
from stealmesh_sim.side_by_side import Lane, VirtualSide
from stealmesh_sim.workers import VirtualWorker


class Wary(VirtualWorker):
    """It may be handed nonsense by the insider: it fails, as a real worker would."""

    __slots__ = ()
    _forged: set[JobId]
    _nonsense: set[int]

    def run(self, effect: RunChunk) -> None:
        try:
            super().run(effect)
        except (Breach, KeyError, ValueError, TypeError, msgspec.MsgspecError):
            if effect.spec.job not in self._forged:
                raise
            self._nonsense.add(effect.chunk)
            self.queue.append(effect)
            self.process.world.after(0.00005, self._read, self.life)

    def _begin(self, chunk: RunChunk) -> None:
        if chunk.chunk not in self._nonsense:
            try:
                super()._begin(chunk)
            except (Breach, ValueError, TypeError, msgspec.MsgspecError):
                if chunk.spec.job not in self._forged:
                    raise
                self._nonsense.add(chunk.chunk)
        if chunk.chunk in self._nonsense:
            self.running, self.since, self.bag = chunk, self.process.world.now, None
            self.lo, self.hi = chunk.lo, chunk.hi
            self.process.world.after(0.001, self._fail, self.life, chunk)

    def _answer(self, life: int, number: int, give: bool) -> None:
        if number not in self._nonsense:
            super()._answer(life, number, give)

    def _fail(self, life: int, chunk: RunChunk) -> None:
        if life != self.life or self.running is not chunk:
            return
        self.running = None
        hear, number = self.process.hear, chunk.chunk
        if chunk.spec.kind is JobKind.EXPLORE:
            hear(BagStep(self.number, number, bytes([OUTCOMES]), b"", 0, 0, 0.0, failed=1))
        else:
            count = min(chunk.hi - chunk.lo, 1000)
            failures = [Failure(at, UNLOADABLE, text="cannot be opened") for at in range(count)]
            blob = pack_outcomes(None, failures)[1]
            hear(ChunkDone(self.number, number, OUTCOMES, blob, 0.0, count, chunk.hi))
        self._read(life)


class WaryWorker(Wary):
    __slots__ = ("_forged", "_nonsense")

    def __init__(self, process: Process, number: int, forged: set[JobId]) -> None:
        super().__init__(process, number)
        self._forged, self._nonsense = forged, set()


class WaryActor(Wary, VirtualActor):
    __slots__ = ("_forged", "_nonsense")

    def __init__(self, process: Process, number: int, forged: set[JobId]) -> None:
        super().__init__(process, number)
        self._forged, self._nonsense = forged, set()

    def run(self, effect: RunChunk) -> None:
        super().run(effect)
        if effect.chunk in self._nonsense:
            self.starts_up()


class WaryLane(Wary, Lane):
    __slots__ = ("_forged", "_nonsense")

    def __init__(self, side: VirtualSide, order: RunChunk, forged: set[JobId]) -> None:
        super().__init__(side, order)
        self._forged, self._nonsense = forged, set()


class WarySide(VirtualSide):
    def __init__(self, plain: VirtualSide, forged: set[JobId]) -> None:
        super().__init__(plain.process, plain.number, plain.threads)
        self._forged = forged

    def _lane(self, effect: RunChunk) -> Lane:
        return WaryLane(self, effect, self._forged)
