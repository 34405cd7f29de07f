"""A worker's second process, in which chunks run side by side: as many virtual workers as there are chunks.

Decides how they begin, and that they die together. Refuses to know how one chunk runs (`workers.py`). It
checks what the engine promises: never more side by side than the job allows, and no two programs.
"""

from __future__ import annotations

from stealmesh_engine.effects import Divide, RunChunk, StopItem, StopWorker
from stealmesh_engine.events import SideLost, SideReady, SideRetracted
from stealmesh_protocol.messages import JobSpec
from stealmesh_sim.workers import PIPE_SECONDS, VirtualWorker, WorkerHost

START_SECONDS = 0.05
"""From the first order until the process is up. What was ordered until then begins when it is."""


class VirtualSide:
    """The process of one worker for chunks that run side by side. It has no life before the first."""

    def __init__(self, process: WorkerHost, number: int, threads: int) -> None:
        self.process = process
        self.number = number
        self.threads = threads
        self.lanes: dict[int, Lane] = {}
        """By chunk."""
        self.life = 0
        self.up = False
        self.starts = False
        self.most = 0
        """How many there ever were."""

    @property
    def busy(self) -> bool:
        return bool(self.lanes)

    def run(self, effect: RunChunk) -> None:
        others = [lane.order.spec for lane in self.lanes.values() if lane.running or lane.queue]
        self._check(effect, others)
        self.most = max(self.most, len(others) + 1)
        lane = self.lanes[effect.chunk] = self._lane(effect)
        lane.run(effect)
        if not self.up and not self.starts:
            self.starts = True
            self.process.world.after(START_SECONDS, self._ready, self.life)

    def _lane(self, effect: RunChunk) -> Lane:
        return Lane(self, effect)

    def _ready(self, life: int) -> None:
        if life != self.life:
            return
        self.up = True
        for lane in list(self.lanes.values()):
            lane.begin()
        self.process.hear(SideReady(self.number))

    def retract(self) -> None:
        self.process.world.after(PIPE_SECONDS, self._retract, self.life)

    def _retract(self, life: int) -> None:
        """What has not begun goes back."""
        if life != self.life:
            return
        chunks = [number for number, lane in self.lanes.items() if lane.queue]
        for number in chunks:
            self.lanes.pop(number).life += 1
        if chunks:
            self.process.hear(SideRetracted(self.number, chunks))

    def divide(self, effect: Divide) -> None:
        self.lanes[effect.chunk].divide(effect)

    def stop_item(self, effect: StopItem) -> None:
        lane = self.lanes.get(effect.chunk)
        if lane is not None:
            lane.stop_item(effect)

    def stop(self, effect: StopWorker) -> None:
        self.process.world.after(PIPE_SECONDS, self.end, self.life, effect.reason, effect.blame)

    def kill(self) -> None:
        """It is killed from outside. No item is to blame, but the node cannot know that."""
        for lane in self.lanes.values():
            lane.suspect_all()
        self.end(self.life, "killed by signal 9", True)

    def end(self, life: int, reason: str, blame: bool) -> None:
        if life != self.life or not self.process.alive:
            return
        self.life += 1
        self.up = self.starts = False
        running = [number for number, lane in self.lanes.items() if lane.running is not None]
        for lane in self.lanes.values():
            lane.life += 1
        self.lanes.clear()
        self.process.hear(SideLost(self.number, running, reason, blame))

    def _check(self, effect: RunChunk, others: list[JobSpec]) -> None:
        check = self.process.world.checkers
        together = effect.spec.together or self.threads
        alike = sum((spec.together or self.threads) == together for spec in others)
        check.that(alike < together, "worker", f"{alike + 1} side by side, not {together}")
        codes = {spec.code for spec in (effect.spec, *others)} - {b""}
        check.that(len(codes) <= 1, "worker", "chunks of two programs side by side")


class Lane(VirtualWorker):
    """One chunk among others."""

    __slots__ = ("order", "side")

    def __init__(self, side: VirtualSide, order: RunChunk) -> None:
        super().__init__(side.process, side.number)
        self.side = side
        self.order = order
        self.ready = True

    def begin(self) -> None:
        """Its process is up."""
        self._read(self.life)

    def _read(self, life: int) -> None:
        if not self.side.up:
            return
        super()._read(life)
        if life == self.life and self.running is None:
            self.side.lanes.pop(self.order.chunk, None)

    def _end(self, life: int, reason: str, blame: bool) -> None:
        if life == self.life:
            self.side.end(self.side.life, reason, blame)
