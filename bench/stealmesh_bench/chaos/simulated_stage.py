"""A scenario in virtual time: a world, a program in it, and a timetable of faults.

Does: sets a `World` up, lets a program submit, performs the timetable and looks. All that happens is
a function of the scenario. Refuses to know which stage a scenario needs (`simulated` does).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from stealmesh_bench.chaos import eyes
from stealmesh_bench.chaos.beliefs import Beliefs
from stealmesh_bench.chaos.figures import WINDOW_SECONDS, Goodput, Lack
from stealmesh_bench.chaos.report import ChaosReport, Measured
from stealmesh_bench.chaos.scenario import (
    CLIENT,
    ENTRY,
    CannotPlay,
    ChaosFault,
    Scenario,
)
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Deliver, Send
from stealmesh_engine.events import Drain
from stealmesh_engine.membership.rates import report_patience
from stealmesh_engine.view.observers import supers_wanted
from stealmesh_protocol import codec
from stealmesh_protocol.messages import (
    Ack,
    Closed,
    Commit,
    FnGet,
    FnPut,
    Grant,
    Member,
    Message,
    Nothing,
    Piece,
    Report,
    Returned,
    Revoked,
    Role,
    Sated,
    Split,
    Steal,
    Withdraw,
)  # fmt: skip
from stealmesh_protocol.value_messages import (
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
)
from stealmesh_sim.checkers import Checkers
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.kernel import Breach
from stealmesh_sim.network import Latency, Network, Station
from stealmesh_sim.process import Process, Toil
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

WORK_MESSAGES = frozenset(
    {Ack, Closed, Commit, FnGet, FnPut, Grant, Nothing, Piece, Report, Returned, Revoked,
     Sated, Split, Steal, ValueAt, ValueDrop, ValueGet, ValueHeld, ValuePut, ValueSeek, Withdraw}
)  # fmt: skip
"""Messages sent because there is work. All others are the cost of an idle mesh."""
CONTROL_WEIGHED_EVERY = 64
JOINED_ONE_BY_ONE_MAX = 64
"""In larger meshes all know each other from the start: joining would take longer than the run."""
AUDITED_NODES_MAX = 64
TOIL = Toil()
HASHED_NODES_MAX = 2000
"""Hashing every event takes a tenth of the time of a large world."""
STORY_LINES_OF_MANY = 64
CHUNK_SECONDS_MAX = 1.0
ITEMS_A_SECOND_MAX = 4000
"""One owner keeps up with eight thousand. If all waited for the owner, we would not notice what
dead nodes cost. So the larger the mesh, the longer the items."""
SETTLE_SECONDS = 3.0
JOIN_SECONDS_MAX = 60.0
PATIENCE_SECONDS = 60.0
BREACHES_TOLD_MAX = 10
CALM_SECONDS_MAX = 4.0
"""Seconds before the first fault that the rest is compared with."""
LOOK_SECONDS = 0.1
TIMELINE_SECONDS = 0.25
FOR_EVER = 1e9
MOMENT_SECONDS = 1e-6


class LenientCheckers(Checkers):
    """The world's checkers, except that they note a breach and go on, so that all are counted."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.breaches: list[str] = []
        self.doubled = 0
        self.wrong = 0

    def that(self, holds: bool, kind: str, text: str) -> None:
        if holds:
            return
        self.doubled += kind == "delivery" and "came twice" in text
        self.wrong += kind == "delivery" and "wrong value" in text
        if len(self.breaches) < BREACHES_TOLD_MAX:
            self.breaches.append(f"{kind}: {text} (at {self.world.now:.3f} s)")


class WeighedNetwork(Network):
    """A network that counts the control messages of nodes."""

    def __init__(self, world: World, latency: Latency, rng: Random) -> None:
        super().__init__(world, latency, rng)
        self.control = 0
        self.weigh_every = CONTROL_WEIGHED_EVERY
        self.weighed = 0
        self.octets = 0

    def send(self, process: Station, effect: Send) -> None:
        message: Message = effect.message
        if process.member.workers and type(message) not in WORK_MESSAGES:
            self.control += 1
            if self.control % self.weigh_every == 0:
                frames = codec.write(message, effect.seq, effect.ack)
                self.weighed += 1
                self.octets += sum(map(len, frames)) if isinstance(frames, list) else 0
        super().send(process, effect)


@dataclass(slots=True)
class SimulatedSeat:
    """A place for a node: lives come and go, the address stays."""

    number: int
    process: Process


class SimulatedStage:
    """One world with a program in it and a timetable for it."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        self.scenario = scenario
        self.report = report
        large = scenario.nodes > JOINED_ONE_BY_ONE_MAX
        # Large worlds work in large chunks: what is asked here is not how stealing scales.
        self.chunk_seconds = min(CHUNK_SECONDS_MAX, max(0.02, scenario.nodes / 1000))
        self.item_seconds = max(self.chunk_seconds / 4, scenario.nodes / ITEMS_A_SECOND_MAX)
        config = Config()
        if large:
            config = replace(
                config,
                story_lines_max=STORY_LINES_OF_MANY,
                chunk_seconds_max=self.chunk_seconds,
                links_max=max(config.links_max, 2 * scenario.nodes),
            )
        latency = Latency()
        seed = scenario.seed
        self.world = World(
            seed,
            latency=latency,
            config=config,
            audit=scenario.nodes <= AUDITED_NODES_MAX,
            hashing=scenario.nodes <= HASHED_NODES_MAX,
            toil=TOIL if scenario.toil else None,
        )
        self.world.checkers = self.checkers = LenientCheckers(self.world)
        self.world.network = self.network = WeighedNetwork(
            self.world, latency, Random(f"{seed}/links")
        )
        if scenario.nodes > HASHED_NODES_MAX:
            self.network.weigh_every = 16 * CONTROL_WEIGHED_EVERY
        self.beliefs = Beliefs()
        self.goodput = Goodput()
        self.seats: list[SimulatedSeat] = []
        self.flow = 0.0
        """When work began to flow: zero of the timetable."""
        self.ups: list[tuple[float, int]] = []
        """(since when, how many nodes were up)."""
        self.rng = Random(f"{seed}/targets")
        self.program: VirtualProgram | None = None
        self.client: Process | None = None
        self.rival: Process | None = None
        self.lack_of_supers = Lack(scenario.recovery_from or 0.0)
        self.had_supers = False
        self.serving: dict[int, None] = {}
        """Numbers of the processes that were supernodes at the last look."""

    # ------------------------------------------------------------ the run

    def run(self) -> None:
        world, scenario = self.world, self.scenario
        self._assemble()
        self.client = world.client("client", seeds=[_address(min(ENTRY, scenario.nodes - 1))])
        world.run(world.now + SETTLE_SECONDS)
        self.flow = world.now
        self._count()
        self.had_supers = self._supers() > 0
        self._begin_work(self.client)
        for fault in scenario.faults:
            world.at(self.flow + fault.at_seconds, self._strike, fault)
        self._play_to_the_end()

    def _begin_work(self, client: Process) -> None:
        """Submit; from here on work flows."""
        scenario = self.scenario
        seconds = scenario.node_seconds()
        self.program = self._submit(client, max(scenario.nodes, int(seconds / self.item_seconds)))
        self._listen_to(client)

    def _is_done(self) -> bool:
        assert self.program is not None
        return self.program.done

    def _how_far(self) -> str:
        assert self.program is not None
        return self.checkers.account_of(self.program.job, self.program.owner)

    def _assemble(self) -> None:
        world, scenario = self.world, self.scenario
        preset = scenario.nodes > JOINED_ONE_BY_ONE_MAX and not scenario.together
        for number in range(scenario.nodes):
            seeds = None if preset else ([_address(0)] if number else [])
            self._seat(number, seeds)
        if preset:
            world.preset_views()
            for seat in self.seats:
                seat.process.wake()
            return
        until = JOIN_SECONDS_MAX
        while world.now < until:
            world.run(world.now + LOOK_SECONDS)
            if not self._disagreement():
                if scenario.together:
                    self.report.agreed_s = round(world.now, 2)
                return
        raise Breach("membership", f"still not met after {until:g} s: {self._disagreement()}")

    def _play_to_the_end(self) -> None:
        """Run until job and timetable are over and all agree, or until patience ends."""
        world, scenario = self.world, self.scenario
        settled = self.flow + max(
            [scenario.agreement_from] + [f.at_seconds for f in scenario.faults]
        )
        bound = self.flow + 3 * scenario.seconds + PATIENCE_SECONDS
        agreed: float | None = None
        while world.now < bound:
            world.run(world.now + LOOK_SECONDS)
            self._look_for_supernodes()
            self._look_for_resigned()
            if world.now >= settled and not scenario.together:
                if self._disagreement():
                    agreed = None
                elif agreed is None:
                    agreed = world.now
            enough = agreed is not None or scenario.together
            if self._is_done() and enough and world.now >= settled:
                break
        if agreed is not None:
            self.report.agreed_s = round(max(0.0, agreed - settled), 2)
        elif not scenario.together:
            self.report.breaches.append(f"membership: {self._disagreement()}")
        if not self._is_done():
            self.report.stuck = 1
            self.report.breaches.append(f"progress: the job is stuck: {self._how_far()}")

    def _submit(self, owner: Process, items: int, priority: int = 0) -> VirtualProgram:
        law = CostLaw("const", self.item_seconds, self.scenario.seed)
        wish = Wish(items=items, law=law, at=self.world.now, priority=priority)
        return VirtualProgram(self.world, owner, wish)

    def _listen_to(self, client: Process) -> None:
        """See what is delivered, and hand it on to the program."""
        program = client.listener
        assert program is not None

        def deliveries(process: Process, effect: Any) -> None:
            if isinstance(effect, Deliver):
                self.goodput.add(self.world.now - self.flow, effect.hi - effect.lo)
            program(process, effect)

        client.listener = deliveries

    # ------------------------------------------------------------ seats

    def _seat(self, number: int, seeds: list[str] | None) -> None:
        process = self.world.node(
            f"n{number}", seeds=seeds, endpoint=_address(number), ready_seconds=0.05,
            disk=self._disk(number),
        )  # fmt: skip
        self.beliefs.born(process.number, self.world.now)
        self.seats.append(SimulatedSeat(number, process))

    def _disk(self, number: int) -> VirtualDisk | None:
        """What a node keeps for its next life."""
        return None

    def _count(self) -> None:
        count = sum(1 for seat in self.seats if seat.process.alive)
        self.ups.append((self.world.now - self.flow, count))

    def _supers(self) -> int:
        return sum(
            1 for s in self.seats if s.process.alive and s.process.core.me.role is Role.SUPER
        )

    def _look_for_resigned(self) -> None:
        """Count living supernodes that gave the role up; no fault here is a reason to."""
        living = (seat.process for seat in self.seats if seat.process.alive)
        serving = {p.number: None for p in living if p.core.me.role is Role.SUPER}
        gone = [n for n in self.serving if n not in serving and self.world.processes[n].alive]
        self.report.resigned = (self.report.resigned or 0) + len(gone)
        self.serving = serving

    def _look_for_supernodes(self) -> None:
        since = self.scenario.recovery_from
        if not self.had_supers or since is None or self.world.now < self.flow + since:
            return
        living = sum(1 for seat in self.seats if seat.process.alive)
        enough = self._supers() >= supers_wanted(living)
        self.lack_of_supers.look(self.world.now - self.flow, enough=enough)

    def _disagreement(self) -> str:
        return self.checkers.disagreement()

    def saw(self, now: float, me: Member, what: str, of: Member) -> None:
        if me.role is not Role.CLIENT and now >= 0:
            self.beliefs.saw(eyes.Glimpse(now, me.pid, what, of.pid))

    # ------------------------------------------------------------ faults

    def _strike(self, fault: ChaosFault) -> None:
        nodes = fault.nodes or self._resolve(fault.target)
        at = self.world.now - self.flow
        self.report.marks.append((at, f"{fault.kind} {fault.target or _few(nodes)}"))
        _STRIKES[fault.kind](self, fault, nodes)
        if fault.kind in ("kill", "silence", "start", "drain"):
            self._count()

    def _resolve(self, target: str) -> tuple[int, ...]:
        """Who plays this part now?"""
        living = [seat for seat in self.seats if seat.process.alive]
        if target == "entry":
            return (min(ENTRY, self.scenario.nodes - 1),)
        if target == "victim":
            busiest = max(living, key=lambda s: (s.process.core.victim.given, -s.number))
            return (busiest.number,)
        if target == "supernode":
            found = tuple(s.number for s in living if s.process.core.me.role is Role.SUPER)
            if not found:
                raise CannotPlay("no node of this mesh is a supernode: there is nobody to kill")
            return found if self.scenario.name == "skype-super" else (self.rng.choice(found),)
        return ()

    def _kill(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            process = self.seats[number].process
            if process.alive:
                self.report.killed += 1
                self.beliefs.died(process.number, self.world.now)
                self._crash(process, silent=fault.kind == "silence")

    def _crash(self, process: Process, *, silent: bool) -> None:
        self.world.crash(process, silent=silent)

    def _start(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            seat = self.seats[number]
            if seat.process.alive:
                continue
            known = [] if fault.forgetful else self._remembered(number)
            seeds = list(dict.fromkeys([*known, *([_address(0)] if number else [])]))
            seat.process = self._restart(seat.process, seeds)
            self.beliefs.born(seat.process.number, self.world.now)

    def _restart(self, process: Process, seeds: list[str]) -> Process:
        return self.world.restart(process, seeds=seeds)

    def _remembered(self, number: int) -> list[str]:
        """Three addresses that a restarted node has from its last life."""
        others = [n for n in range(self.scenario.nodes) if n != number]
        return [_address(n) for n in self.rng.sample(others, min(3, len(others)))]

    def _pause(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            process = self.seats[number].process
            self.world.pause(process)
            self._silent(process, fault.seconds)
            self.world.after(fault.seconds, self.world.resume, process)

    def _drain(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            process = self.seats[number].process
            if process.alive:
                self._silent(process, FOR_EVER)
                process.hear(Drain())

    def _cut(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        wall = [self._place(a) for a in nodes], [self._place(b) for b in fault.others]
        self.network.wall_off(*wall)
        self.world.after(fault.seconds, self.network.tear_down, *wall)
        for number in {*nodes, *fault.others} - {CLIENT}:
            self._silent(self.seats[number].process, fault.seconds)

    def _reset(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        places = {self._place(number) for number in nodes}
        for connection in self.network.open_connections():
            if {pipe.source.place for pipe in connection.pipes} & places:
                self.network.reset(connection)

    def _delay(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        places = {self._place(number) for number in nodes}
        for connection in self.network.open_connections():
            if {pipe.source.place for pipe in connection.pipes} & places:
                self.network.stall(connection, fault.delay_seconds)

    def _begin_rival(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        self.rival = self.world.client("rival", seeds=[_address(0)])
        self.world.after(0.1, self._rival_submits)

    def _rival_submits(self) -> None:
        assert self.rival is not None
        self._submit(self.rival, int(self.scenario.nodes * 60 / self.item_seconds), priority=1)

    def _kill_rival(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        if self.rival is not None:
            self.report.killed += 1
            self.world.crash(self.rival)

    def _kill_submitter(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        raise AssertionError("only a durable job has a submitter of its own")

    def _disk_fault(self, fault: ChaosFault) -> None:
        raise AssertionError("only a durable job has replicas with disks")

    def _place(self, number: int) -> int:
        if number == CLIENT:
            assert self.client is not None
            return self.client.place
        return self.seats[number].process.place

    def _silent(self, process: Process, seconds: float) -> None:
        self.beliefs.silent(process.number, self.world.now, self.world.now + seconds)

    # ------------------------------------------------------------ figures

    def measure(self) -> None:
        """Fill in the report from what was seen."""
        report, world, scenario = self.report, self.world, self.scenario
        report.breaches += self.checkers.breaches
        self._add_up()
        report.detection_p50_s = self.beliefs.detections.percentile(0.5)
        report.detection_p99_s = self.beliefs.detections.percentile(0.99)
        report.false_verdicts = self.beliefs.false_verdicts
        names = {process.number: process.name for process in world.processes}
        for each in self.beliefs.false:
            at = each.at - self.flow
            report.notes.append(f"at {at:.3f} s {names[each.who]} took {names[each.of]} for dead")
        lacked = self.lack_of_supers.seconds
        report.supernodes_restored_s = None if lacked is None else round(lacked, 2)
        measured = self._recovery()
        self._control()
        report.simulated_s = round(world.now, 3)
        if scenario.nodes <= HASHED_NODES_MAX:
            report.trace = world.trace.hash()
        report.timeline = self.goodput.bins(max(self.goodput.last(), 1.0), TIMELINE_SECONDS)
        report.judge(scenario.bounds, replace(measured, supernodes=self.had_supers))

    def _add_up(self) -> None:
        """What was accepted, and what came of it."""
        report = self.report
        if self.program is None:
            return
        account = self.checkers.accounts[self.program.job]
        report.accepted = self.program.work.total
        delivered = sum(hi - lo for lo, hi in account.delivered)
        report.lost = report.accepted - delivered if self.program.done else 0
        report.duplicated, report.wrong = self.checkers.doubled, self.checkers.wrong
        if self.rival is None:
            report.run_twice = max(0, self._ran() - delivered)

    def _ran(self) -> int:
        return sum(process.items for process in self.world.processes)

    def _recovery(self) -> Measured:
        scenario, report, goodput = self.scenario, self.report, self.goodput
        since = scenario.recovery_from
        if since is None or not self.ups:
            return Measured(agreement=True)
        first = min((fault.at_seconds for fault in scenario.faults), default=since)
        begin = max(min(1.0, first / 2), first - CALM_SECONDS_MAX)
        before = goodput.rate(begin, first) / self.ups[0][1]
        # Owners of large meshes hear of what is done now and then: no window is shorter than that.
        window = max(WINDOW_SECONDS, report_patience(scenario.nodes))
        up = [count for at, count in self.ups if at <= since + MOMENT_SECONDS][-1]
        report.goodput_before = round(before * self.ups[0][1], 1)
        report.goodput_wanted = round(before * up, 1)
        until = min(goodput.last(), scenario.seconds)
        report.recovered_90_s = goodput.recovered(since, until, 0.9 * before * up, window)
        report.recovered_97_s = goodput.recovered(since, until, 0.97 * before * up, window)
        return Measured(recovery=True, recovery_97=True, agreement=True)

    def _control(self) -> None:
        """Control messages and octets of a node, a second."""
        seconds = sum(self._lived(process) for process in self.world.processes if process.workers)
        if seconds > 0:
            report, network = self.report, self.network
            report.control_messages_per_leaf_s = round(network.control / seconds, 2)
            if network.weighed:
                mean = network.octets / network.weighed
                report.control_bytes_per_leaf_s = round(network.control * mean / seconds, 1)

    def _lived(self, process: Process) -> float:
        life = self.beliefs.lives.get(process.number)
        if life is None:
            return 0.0
        return (life.ended if life.ended is not None else self.world.now) - life.began


_STRIKES: dict[str, Callable[[SimulatedStage, ChaosFault, tuple[int, ...]], None]] = {
    "kill": SimulatedStage._kill,
    "silence": SimulatedStage._kill,
    "start": lambda stage, fault, nodes: stage._start(fault, nodes),
    "pause": SimulatedStage._pause,
    "drain": SimulatedStage._drain,
    "cut": SimulatedStage._cut,
    "delay": SimulatedStage._delay,
    "reset": SimulatedStage._reset,
    "half-open": SimulatedStage._reset,
    "corrupt": SimulatedStage._reset,
    "rival": SimulatedStage._begin_rival,
    "kill-rival": SimulatedStage._kill_rival,
    "kill-submitter": lambda stage, fault, nodes: stage._kill_submitter(fault, nodes),
    **dict.fromkeys(
        ("slow-disk", "full-disk", "power", "spoil"),
        lambda stage, fault, nodes: stage._disk_fault(fault),
    ),
}


def _address(number: int) -> str:
    return f"tcp://n{number}:7077"


def _few(nodes: tuple[int, ...]) -> str:
    names = ", ".join("the program" if n == CLIENT else str(n) for n in nodes[:3])
    return names if len(nodes) <= 3 else f"{len(nodes)} nodes"
