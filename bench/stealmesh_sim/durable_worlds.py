"""Random worlds with durable jobs: replicas, primaries, submitters and whole meshes die.

Does: draws a world as `random_worlds` does, gives its nodes disks (mostly), launches durable jobs,
and replaces dead clients by others that attach. The verdict: soon after all is mended, a living
program has collected everything that was accepted, every item once and right. A loss is reported,
and happens only where no disk could have helped. In some worlds the disk of one seat fails (cut,
flipped or full), which must cost nothing; in some all do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from stealmesh.store import read
from stealmesh_engine.durable.bag_replica import BagReplica, replica_of
from stealmesh_engine.durable.replica import Replica
from stealmesh_protocol.ids import JobId, whole_of
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.durable_programs import DurableReader, Launcher
from stealmesh_sim.faults import FaultMixture, Faults, VirtualSeat
from stealmesh_sim.kernel import Breach
from stealmesh_sim.platters import SPOILS
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.random_worlds import (
    SWEEP_SECONDS,
    WorldOutcome,
    WorldPlan,
    address,
    draw,
    make_placed,
    make_unlike,
    play,
)
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

PATIENCE_SECONDS = 60.0
LEFTOVER_SECONDS = 45.0
AGREEMENT_SECONDS = 10.0
AILING = ("", "", "", "one", "one", "all")
SPOILT_SHARE = 0.6
"""How often an ailing disk is damaged between two lives."""
FULL_APART_SECONDS = 4.0
FULL_SECONDS = (0.1, 1.0, 2.5, 6.0)
"""Some are longer than the log's patience: then the node ends."""
STOPS = frozenset({"full-stop", "lost-owner", "worker", "reset", "blip"})
"""Kinds after which no replica is missing for long."""


@dataclass(slots=True)
class Commission:
    """One job, its launcher and its present reader."""

    launcher: Launcher
    reader: DurableReader
    excused: bool = False
    """Its submitter died before the whole job was accepted: it may never end."""


@dataclass(slots=True)
class DurablePlan:
    plan: WorldPlan
    disks: bool
    repeats: bool
    """May something be run again that was credited for good?"""
    slices: int = 0
    """Each job is cut into about this many slices; 0: not at all."""
    ailing: str = ""
    """Disks that fail: none (empty), that of "one" seat, or "all"."""

    @property
    def excused(self) -> bool:
        """May accepted items be lost, if that is reported?"""
        return not self.disks or self.ailing == "all"


def draw_durable(seed: int, *, sliced: bool = False, all_kinds: bool = True) -> DurablePlan:
    """`all_kinds`: with explore jobs and single calls, which there were none of once."""
    rng = Random(f"{seed}/durable")
    plan = draw(seed)
    disks = rng.random() < 0.8
    counts = dict(plan.mixture.counts)
    if rng.random() < 0.4:
        counts["full-stop"] = 1
    if rng.random() < 0.3:
        counts["crash"] = rng.choice((2, 4, 8))
    if rng.random() < 0.4:
        counts["lost-owner"] = 1
    if rng.random() < 0.15:
        # A world in which all nodes come back: then nothing is to be done twice.
        counts = {kind: count for kind, count in counts.items() if kind in STOPS}
        counts["full-stop"] = 1
        disks = True
    plan.mixture = FaultMixture(counts)
    plan.config = replace(
        plan.config,
        replicas=rng.choice((2, 3, 3, 3, 5)),
        custody_seconds=rng.choice((0.3, 1.0)),
        primary_patience_seconds=25.0,
        lone_replica_seconds=rng.choice((3.0, 10.0)),
    )
    kinds = Random(f"{seed}/kinds") if all_kinds else None
    plan.wishes = [
        (client, each) for client, wish in plan.wishes for each in _durable_wishes(rng, kinds, wish)
    ]
    returns = counts.keys() <= STOPS and disks and "full-stop" in counts
    slices = Random(f"{seed}/slices").randint(1, 6) if sliced else 0
    ailing = Random(f"{seed}/ailing").choice(AILING) if disks else ""
    return DurablePlan(plan, disks, not returns or ailing == "all", slices, ailing)


def _durable_wishes(rng: Random, kinds: Random | None, wish: Wish) -> list[Wish]:
    """This wish as a durable job, or as some."""
    kind, before = wish.kind, replace(wish)
    durable = _durable_wish(rng, wish)
    if kinds is None or kinds.random() < 0.25:
        return [durable]
    if kind is JobKind.EXPLORE:
        before.cancels, before.window = [], None
        return [before]
    if kind is not JobKind.SUBMIT:
        return [durable]
    return [durable, *(_single_call(kinds, durable) for _ in range(kinds.choice((1, 3, 20))))]


def _single_call(kinds: Random, wish: Wish) -> Wish:
    """A durable submit: a job of one item."""
    at = wish.at + kinds.choice((0.0, 0.0, kinds.uniform(0, 5)))
    law = CostLaw("const", kinds.choice((0.001, 0.05, 1.0)))
    return Wish(JobKind.SUBMIT, 1, law, at, fed=True, block_items=1, function="shared")


def _durable_wish(rng: Random, wish: Wish) -> Wish:
    if wish.kind not in (JobKind.MAP, JobKind.REDUCE):
        wish.kind = JobKind.MAP
        if wish.tree is not None:
            wish.items, wish.tree, wish.killers = rng.randint(1, 400), None, {}
    wish.cancels, wish.window = [], None
    return wish


class DurableFaults(Faults):
    """Faults with disks that ail. With `all_return` all nodes start again after a full stop."""

    def __init__(self, *args: object, all_return: bool, ailing: str = "") -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._all_return = all_return
        self._ailing = ailing
        self._victim: VirtualSeat | None = None
        """With "one": the first seat that something happens to."""
        self._disk_rng = Random(self.rng.random()) if ailing else self.rng
        if ailing:
            self.world.after(self._disk_rng.uniform(0, FULL_APART_SECONDS), self._fill)

    def _ails(self, seat: VirtualSeat) -> bool:
        if self._ailing == "one" and self._victim is None:
            self._victim = seat
        return self._ailing == "all" or seat is self._victim

    def _restart(self, seat: VirtualSeat) -> None:
        disk = seat.process.disk
        if disk is not None and not (self.mended or seat.process.alive) and self._ails(seat):
            self._spoil(seat.process.name, disk)
        super()._restart(seat)

    def _has_alone(self, disk: VirtualDisk) -> bool:
        """Has this disk something that no living node and no other disk has?"""
        others: dict[JobId, list[Replica]] = {}
        for process in self.world.living():
            for job, copy in process.core.durable.state.replicas.items():
                others.setdefault(job, []).append(copy)
        for seat in self.seats:
            if seat.process.disk not in (None, disk) and not seat.process.alive:
                for job, copy in _copies_on(seat.process.disk).items():
                    others.setdefault(job, []).append(copy)
        return any(_beyond(copy, others.get(job, [])) for job, copy in _copies_on(disk).items())

    def _spoil(self, name: str, disk: VirtualDisk) -> None:
        may = self._ailing == "all" or not self._has_alone(disk)
        if may and self._disk_rng.random() < SPOILT_SHARE:
            how = self._disk_rng.choice(list(SPOILS))
            self._tell(f"the disk of {name}: {how}")
            disk.platter.spoil(how, self._disk_rng)

    def _fill(self) -> None:
        """A disk is full for a while."""
        if self.mended:
            return
        seat = self._disk_rng.choice(self.seats)
        disk = seat.process.disk
        if disk is not None and seat.process.alive and self._ails(seat) and not disk.platter.full:
            disk.platter.full = True
            seconds = self._disk_rng.choice(FULL_SECONDS)
            self._tell(f"a disk is full for {seconds} s")
            self.world.after(seconds, setattr, disk.platter, "full", False)
        self.world.after(self._disk_rng.uniform(1, FULL_APART_SECONDS), self._fill)

    def mend_all(self) -> None:
        super().mend_all()
        for seat in self.seats:
            if seat.process.disk is not None:
                seat.process.disk.platter.full = False

    def _full_stop(self) -> None:
        self.world.checkers.note_safe()
        if not self._all_return:
            super()._full_stop()
            return
        self._tell("full stop; all will return")
        for seat in self._living():
            self.crashes += 1
            self.world.crash(seat.process)
        for seat in self.seats:
            self.world.after(self.rng.uniform(0.1, 1.5), self._restart, seat)

    def all_start(self) -> None:
        """Every seat is taken again."""
        for seat in self.seats:
            if not seat.process.alive:
                self._restart(seat)


def _copies_on(disk: VirtualDisk | None) -> dict[JobId, Replica]:
    """The replicas that a node would recall from this disk."""
    copies: dict[JobId, Replica] = {}
    for keep in read(disk.octets).records if disk is not None else []:
        copies.setdefault(keep.spec.job, replica_of(keep.spec, keep.reign)).join(keep)
    return copies


def _beyond(copy: Replica, others: list[Replica]) -> bool:
    """Has this copy something that none of the others has?"""
    if any(other.state for other in others):
        return False
    if isinstance(copy, BagReplica):
        return all(isinstance(each, BagReplica) and each.rank < copy.rank for each in others)
    results, blocks = copy.covered, copy.inputs
    functions, total, closed = set(copy.functions), copy.total, copy.closed
    for other in others:
        results = results.minus(other.covered)
        blocks = blocks.minus(other.covered, other.inputs)
        functions -= other.functions.keys()
        total = 0 if other.total >= total else total
        closed = closed and not other.closed
    return bool(results or blocks or functions or total or closed)


class DurableWorld:
    """A drawn world, set up and ready to run."""

    patience_seconds = PATIENCE_SECONDS

    def __init__(self, drawn: DurablePlan) -> None:
        self.drawn = drawn
        plan = self.plan = drawn.plan
        self.world = World(
            plan.seed,
            latency=plan.latency,
            config=plan.config,
            carry=plan.carry,
            loop_seconds=plan.loop_seconds,
        )
        self.rng = Random(f"{plan.seed}/durable-world")
        self.commissions: list[Commission] = []
        self.clients: list[Process] = []
        self.seats: list[VirtualSeat] = []
        for number in range(plan.nodes):
            seeds = [address(each) for each in plan.seeds[number]]
            if number:
                self.world.at(plan.starts[number], self._start_node, number, seeds)
            else:
                self._start_node(number, seeds)
        for number in range(plan.clients):
            seeds = sorted({address(0), address(self.rng.randrange(plan.nodes))})
            self.clients.append(self.world.client(f"client{number}", seeds=seeds))
        self.faults = DurableFaults(
            self.world,
            Random(f"{plan.seed}/faults"),
            self.seats,
            self.clients,
            all_return=not drawn.repeats,
            ailing=drawn.ailing,
        )
        self.faults.plan(plan.mixture, 0.0, plan.faults_until)
        for number, wish in plan.wishes:
            slice_items = max(1, wish.items // drawn.slices) if drawn.slices else None
            client = self.clients[number]
            launcher = Launcher(self.world, client, wish, slice_items=slice_items)
            self.commissions.append(Commission(launcher, launcher))
        self.world.after(SWEEP_SECONDS, self._sweep)

    def _start_node(self, number: int, seeds: list[str]) -> None:
        process = self.world.node(
            f"n{number}",
            seeds=seeds,
            workers=self.plan.workers[number],
            endpoint=address(number),
            ready_seconds=0.05,
            disk=VirtualDisk(self.rng) if self.drawn.disks else None,
            runtime=self.plan.runtimes[number] if self.plan.runtimes else "",
            lacks=self.plan.lacks[number] if self.plan.lacks else frozenset(),
            resources=self.plan.resources[number] if self.plan.resources else (),
        )
        self.seats.append(VirtualSeat(process, seeds))

    def _sweep(self) -> None:
        self.world.checkers.sweep()
        for each in self.commissions:
            if not each.reader.owner.alive and not each.reader.done:
                self._succeed(each)
        self.world.after(SWEEP_SECONDS, self._sweep)

    def _succeed(self, each: Commission) -> None:
        """The program that followed this job is dead: another one attaches, from the beginning."""
        launcher = each.launcher
        if launcher.opened_at is None:
            each.excused, each.reader.done_at = True, self.world.now  # it never came to be
            return
        each.excused = each.excused or not launcher.accepted_whole
        client = self.world.client(
            f"heir{len(self.world.processes)}", seeds=[address(s) for s in range(self.plan.nodes)]
        )
        each.reader = DurableReader(self.world, client, launcher.work)

    # ------------------------------------------------------------ the two phases

    def run(self, outcome: WorldOutcome) -> None:
        world = self.world
        world.run(self.plan.faults_until)
        self.faults.mend_all()
        self.faults.all_start()
        mended = world.now
        bound = mended + self.patience_seconds + 3 * self._ideal_seconds()
        while not all(self._over(each) for each in self.commissions):
            world.run(world.now + 0.1)
            if world.now > bound:
                raise Breach("progress", "; ".join(self._stuck()))
        outcome.done_after_mending_seconds = world.now - mended
        ended = world.now
        while (left := self._leftovers()) or world.checkers.disagreement():
            world.run(world.now + 0.1)
            if world.now > ended + LEFTOVER_SECONDS:
                raise Breach("leftover", left or world.checkers.disagreement())
        if not self.drawn.repeats:
            again = sum(world.checkers.repeated.values())
            if again:
                raise Breach("repeat", f"{again} items were run again though they were safe")

    def _ideal_seconds(self) -> float:
        able = self.seats[:1] if self.plan.lacks else self.seats
        workers = sum(len(s.process.workers) for s in able if s.process.alive)
        if self.plan.resources:
            workers = 1  # one may be all that is allowed
        return sum(c.launcher.work.ideal_seconds for c in self.commissions) / max(1, workers)

    def _over(self, each: Commission) -> bool:
        reader = each.reader
        if reader.done and (reader.gone or reader.missing):
            excused = each.excused or not each.launcher.accepted or self.drawn.excused
            if not excused:
                why = reader.gone or f"misses {reader.missing}"
                raise Breach("lost", f"durable job {reader.work.number}: {why}")
        if reader.done:
            return True
        # Without its feeder a job never ends; what it has must be there all the same.
        return each.excused and reader.owner.alive and reader.state in ("waiting", "running")

    def _stuck(self) -> list[str]:
        found = []
        for each in self.commissions:
            if not self._over(each):
                reader = each.reader
                homes = [
                    f"{p.name} term {lead.replica.configuration.term} gathering {lead.gathering is not None} "
                    f"settled {lead.replication.settled}/{lead.replication.number} covered {lead.replica.covered.size}"
                    f"/{lead.replica.total} closed {lead.replica.closed} crowded {lead.crowded}"
                    f" {self.world.checkers.account_of(job, p)}"
                    for p in self.world.living()
                    for job, lead in p.core.durable.state.primaries.items()
                    if whole_of(job) == reader.job
                ]
                keepers = [
                    p.name
                    for p in self.world.living()
                    if any(whole_of(job) == reader.job for job in p.core.durable.state.replicas)
                ]
                found.append(
                    f"durable job {reader.work.number} is stuck at {reader.position} "
                    f"({reader.state}) for {reader.owner.name}; homes {homes}, keepers {keepers}"
                )
        return found

    def _leftovers(self) -> str:
        for each in self.commissions:
            reader = each.reader
            if reader.done and not each.excused:
                holding = self.world.checkers.still_holding(reader.job)
                if holding:
                    return f"{holding} still hold durable job {reader.work.number}, which is over"
                leads = [
                    (job, p.name)
                    for p in self.world.living()
                    for job in p.core.durable.state.primaries
                    if whole_of(job) == reader.job
                ]
                if len(leads) > len({job for job, _ in leads}):
                    names = [name for _, name in leads]
                    return f"{names} all lead durable job {reader.work.number}"
        return ""

    def story(self) -> list[str]:
        lines = ["last events:", *self.world.trace.last_lines(60)]
        for process in self.world.living():
            lines += [f"story of {process.name}:", *process.core.journal.of()[-80:]]
        return [*lines, f"plan: {self.drawn}", "faults:", *self.faults.told]


def run(
    seed: int,
    *,
    watch: bool = False,
    sliced: bool = False,
    all_kinds: bool = True,
    unlike: bool = False,
    placed: bool = False,
) -> WorldOutcome:
    """Draw, run and judge one world with durable jobs."""
    drawn = draw_durable(seed, sliced=sliced, all_kinds=all_kinds)
    if placed:
        make_placed(drawn.plan)
    if unlike:
        make_unlike(drawn.plan)
    outcome = WorldOutcome(seed, nodes=drawn.plan.nodes, jobs=len(drawn.plan.wishes))
    play(DurableWorld(drawn), outcome, watch=watch)
    return outcome


__all__ = ["DurableWorld", "draw_durable", "run"]
