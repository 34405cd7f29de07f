"""A scenario with a durable job in virtual time: its submitter is killed, or all processes are.

Does: gives every node a disk, and lets a program launch and collect until it is killed. Then another
program attaches through any node and collects everything from the start. The checkers know to the
item what was safe when the fault struck: none of it may be handed to a worker again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from stealmesh_bench.chaos import disks
from stealmesh_bench.chaos.named import LATE_SECONDS
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_bench.chaos.scenario import CannotPlay, ChaosFault, Scenario
from stealmesh_bench.chaos.simulated_stage import LenientCheckers, SimulatedSeat, SimulatedStage
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import Results, RunChunk
from stealmesh_sim.disks import COMMIT_SECONDS, VirtualDisk
from stealmesh_sim.durable_programs import DurableReader, Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

ITEMS_MAX = 12_000
"""Larger worlds have longer items, not more: each item is a record in three replicas."""
SLOW_COMMIT_SECONDS = 1.0
ATTACH_SECONDS = 0.1
"""From the submitter's death until another program attaches."""
ATTACH_SECONDS_MAX = 4.0
"""After a full stop the program attaches within this time: before or after the election of a primary."""


class DurableCheckers(LenientCheckers):
    """Also notes which items have begun."""

    def __init__(self, world: World, began: Callable[[int], None]) -> None:
        super().__init__(world)
        self.begun = IntervalSet()
        self._began = began

    def runs(self, process: Process, effect: RunChunk) -> None:
        super().runs(process, effect)
        before = self.begun.size
        self.begun.add(effect.lo, effect.hi)
        self._began(self.begun.size - before)


class SimulatedDurableStage(SimulatedStage):
    """A world with disks and a durable job, in which any process may die."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        super().__init__(scenario, report)
        assert scenario.work_seconds is not None
        work_seconds = scenario.nodes * scenario.work_seconds
        self.item_seconds = max(self.item_seconds, work_seconds / ITEMS_MAX)
        self.world.checkers = self.checkers = self.durable = DurableCheckers(
            self.world, self._began
        )
        self.world.on_disk_failure = self._disk_failed
        self.launcher: Launcher | None = None
        self.reader: DurableReader | None = None
        self.slow: int | None = None
        """The node with the disk that lagged behind at the full stop."""
        self.late: set[int] = set()
        """Nodes that come back later than the others."""
        self.ended_with_disk = 0
        """Items that a node had begun when a full disk ended it, and whose results no other node has: they run
        again, as ever."""

    def _disk(self, number: int) -> VirtualDisk:
        return VirtualDisk(Random(f"{self.scenario.seed}/disk/{number}"))

    def _began(self, items: int) -> None:
        """`items` more were handed to a worker for the first time."""
        self.goodput.add(self.world.now - self.flow, items)

    def _begin_work(self, client: Process) -> None:
        scenario, world = self.scenario, self.world
        law = CostLaw("const", self.item_seconds, scenario.seed)
        items = scenario.items(self.item_seconds)
        self.launcher = Launcher(world, client, Wish(items=items, law=law, at=world.now))
        last = max(fault.at_seconds for fault in scenario.faults)
        late = self.rng.uniform(ATTACH_SECONDS, ATTACH_SECONDS_MAX) if scenario.stops else 0.0
        world.after(last + max(late, ATTACH_SECONDS), self._attach)

    def _kill_submitter(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        assert self.client is not None
        self.report.killed += 1
        self.world.crash(self.client)
        if self.scenario.stops:
            self.durable.note_safe()
            self._note_in_flight()

    def _note_in_flight(self) -> None:
        safe = sum(each.size for each in self.durable.safe.values())
        self.report.in_flight = self.durable.begun.size - safe + self.ended_with_disk

    # ------------------------------------------------------------ disks

    def _disk_fault(self, fault: ChaosFault) -> None:
        {
            "slow-disk": self._slow_disk,
            "full-disk": self._full_disk,
            "power": self._power,
            "spoil": self._spoil,
        }[fault.kind](fault)

    def _replicas(self) -> list[SimulatedSeat]:
        """Seats with a replica of the job; the primary comes first."""
        homes = [(s, s.process.core.durable.state) for s in self.seats if s.process.alive]
        replicas = [(seat, home) for seat, home in homes if home.replicas]
        if not replicas:
            raise CannotPlay("no node has a replica of the job yet: let it last longer (--seconds)")
        return [seat for seat, home in sorted(replicas, key=lambda pair: not pair[1].primaries)]

    def _hit(self, fault: ChaosFault) -> list[VirtualDisk]:
        seats = self.seats if fault.target == disks.ALL else self._replicas()[:1]
        return [seat.process.disk for seat in seats if seat.process.disk is not None]

    def _slow_disk(self, fault: ChaosFault) -> None:
        """A replica that is not the primary: a slow primary would slow the whole job down."""
        seat = self._replicas()[-1]
        assert seat.process.disk is not None
        seat.process.disk.commit_seconds = SLOW_COMMIT_SECONDS
        self.slow = seat.number

    def _full_disk(self, fault: ChaosFault) -> None:
        for disk in self._hit(fault):
            disk.platter.full = True
            self.world.after(fault.seconds, setattr, disk.platter, "full", False)

    def _disk_failed(self, process: Process) -> None:
        """The log of this node failed for too long, so the node ends."""
        self.beliefs.died(process.number, self.world.now)
        self.report.killed += 1
        holder = process.core.holder
        others = [node for node in self.world.living() if node is not process]
        for job, held in holder.jobs.items():
            begun = IntervalSet((chunk.lo, chunk.hi) for chunk in holder.slots.chunks_of(job))
            for part in held.unsettled:
                begun.add(*part)
            replicas = [node.core.durable.state.replicas.get(job) for node in others]
            for covered in (each.covered for each in replicas if each is not None):
                begun = IntervalSet(begun.minus(covered))
            self.ended_with_disk += begun.size
        self.world.crash(process)
        self._count()

    def _power(self, fault: ChaosFault) -> None:
        for disk in self._hit(fault):
            disk.harsh = True
            disk.commit_seconds = max(disk.commit_seconds, SLOW_COMMIT_SECONDS / 10)

    def _spoil(self, fault: ChaosFault) -> None:
        found = {s.number: s.process.disk for s in self.seats if s.process.disk is not None}
        logs = {number: disk.octets for number, disk in found.items()}
        damage = disks.damage(logs, fault.how, fault.target, self.rng, self.slow)
        for number, octets in damage.logs.items():
            found[number].platter.put(octets)
        self.late = damage.late
        for number in found:
            found[number].commit_seconds = COMMIT_SECONDS
        for job, safe in self.durable.safe.items():
            kept = IntervalSet()
            for lo, hi in safe:
                for item in range(lo, hi):
                    if item in damage.left:
                        kept.add(item, item + 1)
            self.durable.safe[job] = kept
        self._note_in_flight()

    def _start(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        late = tuple(number for number in nodes if number in self.late)
        super()._start(fault, tuple(number for number in nodes if number not in self.late))
        self.late -= {*late}
        if late:
            self.world.after(LATE_SECONDS, self._strike, replace(fault, nodes=late))

    def _attach(self) -> None:
        """Another program attaches through any node."""
        assert self.launcher is not None
        gate = self.rng.choice([seat for seat in self.seats if seat.process.alive])
        client = self.world.client("heir", seeds=[gate.process.member.endpoints[0]])
        self.reader = DurableReader(self.world, client, self.launcher.work)
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
            return "no program has attached"
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
