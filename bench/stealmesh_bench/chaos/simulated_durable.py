"""Plays in virtual time what befalls a durable job: its submitter is killed, or everybody is.

Does: gives every node a disk, lets a program launch and collect until it is killed, and another one
attach through any node and collect everything from the start. Here it is known to the item what was
safe when the fault struck: none of it may be handed to a worker again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from stealmesh.virtual.disks import VirtualDisk
from stealmesh.virtual.durable_programs import Launcher, Reader
from stealmesh.virtual.programs import Wish
from stealmesh.virtual.work import CostLaw
from stealmesh.virtual.world import Process, World
from stealmesh_bench.chaos.report import Report
from stealmesh_bench.chaos.scenario import Fault, Scenario
from stealmesh_bench.chaos.simulated import LenientCheckers, Stage
from stealmesh_engine.effects import Results, RunChunk
from stealmesh_engine.intervals import IntervalSet

ITEMS_MAX = 12_000
"""Larger worlds have longer items instead of more: each is a record in three copies."""
ATTACH_SECONDS = 0.1
"""A program attaches so long after the submitter's death."""
ATTACH_SECONDS_MAX = 4.0
"""After a full stop at any moment until then: before a new home is found, or when all is settled."""


class DurableCheckers(LenientCheckers):
    """Also notes what has begun."""

    def __init__(self, world: World, began: Callable[[int], None]) -> None:
        super().__init__(world)
        self.begun = IntervalSet()
        self._began = began

    def runs(self, effect: RunChunk) -> None:
        super().runs(effect)
        before = self.begun.size
        self.begun.add(effect.lo, effect.hi)
        self._began(self.begun.size - before)


class DurableStage(Stage):
    """A world with disks, a durable job, and nobody who must live."""

    def __init__(self, scenario: Scenario, report: Report) -> None:
        super().__init__(scenario, report)
        assert scenario.work_seconds is not None
        work_seconds = scenario.nodes * scenario.work_seconds
        self.item_seconds = max(self.item_seconds, work_seconds / ITEMS_MAX)
        self.world.checkers = self.checkers = self.durable = DurableCheckers(
            self.world, self._began
        )
        self.launcher: Launcher | None = None
        self.reader: Reader | None = None

    def _disk(self, number: int) -> VirtualDisk:
        return VirtualDisk(Random(f"{self.scenario.seed}/disk/{number}"))

    def _began(self, items: int) -> None:
        """So many items were handed to a worker for the first time."""
        self.goodput.add(self.world.now - self.flow, items)

    def _begin_work(self, client: Process) -> None:
        scenario, world = self.scenario, self.world
        law = CostLaw("const", self.item_seconds, scenario.seed)
        items = scenario.items(self.item_seconds)
        self.launcher = Launcher(world, client, Wish(items=items, law=law, at=world.now))
        last = max(fault.at_seconds for fault in scenario.faults)
        late = self.rng.uniform(ATTACH_SECONDS, ATTACH_SECONDS_MAX) if scenario.stops else 0.0
        world.after(last + max(late, ATTACH_SECONDS), self._attach)

    def _kill_submitter(self, fault: Fault, nodes: tuple[int, ...]) -> None:
        assert self.client is not None
        self.report.killed += 1
        self.world.crash(self.client)
        if self.scenario.stops:
            self.durable.note_safe()
            safe = sum(each.size for each in self.durable.safe.values())
            self.report.in_flight = self.durable.begun.size - safe

    def _attach(self) -> None:
        """Another program, through any node."""
        assert self.launcher is not None
        gate = self.rng.choice([seat for seat in self.seats if seat.process.alive])
        client = self.world.client("heir", seeds=[gate.process.member.endpoints[0]])
        self.reader = Reader(self.world, client, self.launcher.work)
        reader_is_shown = client.listener
        assert reader_is_shown is not None

        def look(process: Process, effect: Any) -> None:
            if isinstance(effect, Results):
                self._given(effect)
            reader_is_shown(process, effect)

        client.listener = look

    def _given(self, effect: Results) -> None:
        assert self.launcher is not None
        assert self.scenario.recovery_from is not None
        new = any(kept.hi > self.launcher.position for kept in effect.results)
        if new and self.report.flowing_again_s is None:
            since = self.flow + self.scenario.recovery_from
            self.report.flowing_again_s = round(self.world.now - since, 3)

    def _is_done(self) -> bool:
        return self.reader is not None and self.reader.done

    def _how_far(self) -> str:
        if self.reader is None:
            return "nobody has attached"
        return (
            f"{self.reader.position} of {self.reader.work.total} items came ({self.reader.state})"
        )

    def _add_up(self) -> None:
        report, reader = self.report, self.reader
        if reader is None:
            return
        report.accepted = reader.work.total
        report.lost = reader.work.total - reader.position if reader.done else 0
        report.duplicated, report.wrong = self.checkers.doubled, self.checkers.wrong
        report.run_twice = max(0, self._ran() - reader.work.total)
        again = sum(self.checkers.repeated.values())
        if again:
            report.breaches.append(f"repeated: {again} items were run again though they were safe")
        if reader.gone:
            report.breaches.append(f"the job is gone: {reader.gone}")
