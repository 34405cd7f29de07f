"""A whole world drawn from one number: nodes, links, jobs, faults; and the verdict on it.

Does: draws, runs and judges random worlds, in two phases after TigerBeetle's VOPR. First anything may
go wrong, and nothing false may happen. Then all is mended, and everything must soon come to its end.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random
from typing import Protocol

from stealmesh_engine.config import Config
from stealmesh_protocol.messages import JobKind, Resources, Role
from stealmesh_sim.faults import DEFECTS, KINDS, FaultMixture, Faults, VirtualSeat
from stealmesh_sim.kernel import Breach
from stealmesh_sim.network import Latency
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import ITEM_SECONDS_MAX, CostLaw, VirtualTree
from stealmesh_sim.world import World

SWEEP_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
AGREEMENT_SECONDS = 15.0
"""After the last start or end all must agree within this time. A node left alone is found after up to
five seconds, and then doubts itself for five more (seeds 120888 and 200455 need it)."""
LEFTOVER_SECONDS = 20.0
ORPHAN_SECONDS = 20.0
ORPHAN_SILENT_SECONDS = 40.0
"""When the owner's machine is off, the kernel needs up to 25 s to report it."""
CHUNKS_A_WORLD = 900
SLOWEST_SECONDS = 30.0
"""A job with a bound on what runs at once needs no longer than this if nothing goes wrong."""
OURS, OTHER = "cpython-3.11", "cpython-3.12"
MODULES = ("pandas", "torch")
NOWHERE = "nowhere"
"""A module that no node has."""
CONTROL_A_SECOND_AND_LINK = 60.0
CUTS = frozenset({"cut", "one-way", "isolate"})
"""Kinds that may keep a grant from its holder for longer than its lease lasts."""
LEASE_SECONDS_ENOUGH = 15.0
HARMLESS = frozenset({"worker", "drain", "reset", "blip", "late-owner"})
"""Kinds after which only the work of a lost worker is done twice."""


@dataclass(slots=True)
class WorldPlan:
    """What was drawn."""

    seed: int
    nodes: int
    workers: list[int]
    starts: list[float]
    seeds: list[list[int]]
    latency: Latency
    config: Config
    loop_seconds: float
    preset: bool
    clients: int
    wishes: list[tuple[int, Wish]]
    mixture: FaultMixture
    faults_until: float
    carry: bool
    runtimes: list[str] = field(default_factory=list)
    """Of the nodes; empty: all are alike."""
    lacks: list[frozenset[str]] = field(default_factory=list)
    """Which modules the workers of each node cannot import."""
    resources: list[Resources] = field(default_factory=list)
    """What each node declares; empty: none declares anything."""
    threads: list[int] = field(default_factory=list)
    """How many the workers of each node have; empty: one."""
    one_host: bool = False
    """Do all processes run on one host, so that they can hand values over?"""


@dataclass(slots=True)
class WorldOutcome:
    """What became of a world."""

    seed: int
    breach: str = ""
    story: list[str] = field(default_factory=list)
    virtual_seconds: float = 0.0
    wall_seconds: float = 0.0
    events: int = 0
    messages: int = 0
    nodes: int = 0
    jobs: int = 0
    crashes: int = 0
    faults: int = 0
    steals: int = 0
    false_verdicts: int = 0
    rate_max: int = 0
    queue_max: int = 0
    placed: int = 0
    """Chunks that began under a bound."""
    hired: int = 0
    """Items that hired workers have answered."""
    moved: int = 0
    """Items that a hired worker had begun and its node went on with."""
    needed: int = 0
    """Chunks that needed values."""
    done_after_mending_seconds: float = 0.0
    agreed_after_mending_seconds: float = 0.0
    trace: str = ""
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.breach.partition(":")[0]


# ---------------------------------------------------------------- drawing


def draw(seed: int) -> WorldPlan:
    rng = Random(f"{seed}/plan")
    nodes = rng.randint(1, 7) if rng.random() < 0.8 else rng.randint(8, 40)
    until = rng.uniform(2.0, 14.0) if nodes <= 7 else rng.uniform(2.0, 5.0)
    clients = 1 if rng.random() < 0.8 else 2
    workers = [rng.randint(1, 4) for _ in range(nodes)]
    latency = rng.uniform(0.00005, 0.001) if rng.random() < 0.75 else rng.uniform(0.001, 0.02)
    plan = WorldPlan(
        seed,
        nodes,
        workers,
        [0.0] + [rng.choice((0.0, 0.0, rng.uniform(0, until))) for _ in range(nodes - 1)],
        [_seeds(rng, number) for number in range(nodes)],
        Latency(latency, rng.choice((0.0, 0.3, 2.0))),
        _draw_config(rng),
        rng.choice((0.0, 0.0, 0.0002, 0.003)),
        rng.random() < 0.1,
        clients,
        [],
        _draw_mixture(rng),
        until,
        rng.random() < 0.1,
    )
    jobs = rng.randint(1, 3)
    chunk = plan.config.chunk_seconds_max
    capacity = sum(workers) * until * rng.uniform(0.2, 0.8)
    for _ in range(jobs):
        seconds = min(capacity / jobs, CHUNKS_A_WORLD * max(chunk, 0.02) * 2 / jobs)
        plan.wishes.append((rng.randrange(clients), _draw_wish(rng, seconds, until, chunk, jobs)))
    _draw_defects(plan)
    _draw_turns(plan)
    return plan


def _draw_defects(plan: WorldPlan) -> None:
    """From a generator of its own, so that the rest stays what it was before there were defects."""
    rng = Random(f"{plan.seed}/defects")
    if rng.random() < 0.1:
        plan.mixture.counts |= {kind: rng.randint(1, 4) for kind in DEFECTS if rng.random() < 0.6}


def _draw_turns(plan: WorldPlan) -> None:
    """Some jobs become expensive towards their end. (From a generator of its own, for the same reason.)"""
    rng = Random(f"{plan.seed}/turns")
    for _, wish in plan.wishes:
        if wish.kind is not JobKind.EXPLORE and wish.items >= 10 and rng.random() < 0.2:
            turn = int(wish.items * rng.uniform(0.75, 0.99))
            wish.law = CostLaw("turning", wish.law.mean_seconds, turn=turn)


def make_unlike(plan: WorldPlan) -> None:
    """Some nodes have another Python, or lack modules that jobs need. The first, which is always
    there in the end, can run all that any node can."""
    rng = Random(f"{plan.seed}/unlike")
    has_pythons, has_modules = rng.random() < 0.6, rng.random() < 0.8
    share = rng.choice((0.2, 0.5, 0.9))

    def differs() -> bool:
        return rng.random() < share

    plan.runtimes = [
        OTHER if number and has_pythons and differs() else OURS for number in range(plan.nodes)
    ]
    plan.lacks = [
        frozenset(m for m in MODULES if has_modules and number and differs()) | {NOWHERE}
        for number in range(plan.nodes)
    ]
    for _, wish in plan.wishes:
        wish.runtime = OURS if rng.random() < 0.8 else ""
        wish.module = rng.choice((*MODULES, *MODULES, "", NOWHERE))
        if wish.module and rng.random() < 0.5:
            items = range(wish.items)
            wish.needy = frozenset(rng.sample(items, min(wish.items, rng.choice((1, 5, 50)))))


def make_placed(plan: WorldPlan) -> None:
    """Jobs ask for bounds, resources and turns. The first node, which is always there in the end, has
    all that any job takes."""
    rng = Random(f"{plan.seed}/placed")
    plan.resources = [(("GPU", 2), ("licence", 1))] + [
        rng.choice(((), (("GPU", 1),), (("GPU", 3),), (("licence", 1),)))
        for _ in range(plan.nodes - 1)
    ]
    for _, wish in plan.wishes:
        wish.priority = rng.choice((-1, 0, 0, 3))
        seconds = 40.0 if wish.tree is not None else wish.items * wish.law.mean_seconds
        if rng.random() < 0.6:
            wish.max_parallel = max(rng.choice((1, 2, 3, 5)), ceil(seconds / SLOWEST_SECONDS))
        if rng.random() < 0.4:
            wish.resources = rng.choice(
                ((("GPU", 1),), (("GPU", 2),), (("licence", 1),), (("GPU", 1), ("licence", 1)))
            )


def make_side_by_side(plan: WorldPlan) -> None:
    """Most jobs run many items at once in a worker, and some nodes have threads."""
    rng = Random(f"{plan.seed}/side by side")
    plan.threads = [rng.choice((1, 1, 2, 4)) for _ in range(plan.nodes)]
    for _, wish in plan.wishes:
        if wish.kind is not JobKind.EXPLORE and rng.random() < 0.8:
            wish.together = rng.choice((1, 3, 20, 100))


def make_valued(plan: WorldPlan) -> None:
    """Jobs need values that the program has put on the mesh, each block or every item."""
    rng = Random(f"{plan.seed}/values")
    plan.one_host = rng.random() < 0.5
    for _, wish in plan.wishes:
        if rng.random() < 0.8:
            wish.values = rng.choice((1, 1, 2, 5, 12))
            wish.value_octets = rng.choice((1, 1000, 300_000, 300_000, 3_000_000))
            fed = wish.fed or wish.kind is JobKind.SUBMIT
            wish.function_needs = 0 if fed and rng.random() < 0.7 else rng.choice((1, wish.values))
    plan.config = replace(plan.config, store_memory_octets=rng.choice((0, 1, 500_000, 2_000_000)))


def make_controlled(plan: WorldPlan) -> None:
    """Some items are put off, fail and are tried again, or are stopped while they run."""
    rng = Random(f"{plan.seed}/control")
    for _, wish in plan.wishes:
        if wish.kind is JobKind.EXPLORE or not wish.items:
            continue
        if wish.kind is not JobKind.REDUCE and rng.random() < 0.8:
            wish.retries = rng.choice((0, 1, 3, 6))
            for _ in range(rng.choice((1, 5, 30))):
                wish.again[rng.randrange(wish.items)] = _draw_past(rng, wish.retries)
        if wish.kind is not JobKind.REDUCE and rng.random() < 0.4:
            wish.stops = True
            lo = rng.randrange(wish.items)
            hi = min(wish.items, lo + rng.choice((1, 1, 20)))
            wish.cancels.append((rng.uniform(0, plan.faults_until), lo, hi))


def make_speculating(plan: WorldPlan) -> None:
    """The last stragglers of most jobs are lent twice; items differ, and whole nodes stand still."""
    rng = Random(f"{plan.seed}/speculate")
    for _, wish in plan.wishes:
        wish.speculate = wish.kind in (JobKind.MAP, JobKind.SUBMIT) and rng.random() < 0.9
    if rng.random() < 0.6:
        plan.mixture.counts["pause"] = rng.choice((1, 2, 4))


def _draw_past(rng: Random, retries: int) -> list[float]:
    """What an item says before it has a result."""
    failures = rng.choice((0, min(1, retries), retries, 99))
    waits = [rng.choice((0.0, 0.3, rng.uniform(0, 5))) for _ in range(rng.choice((0, 1, 3)))]
    said = [-1.0] * failures + waits
    rng.shuffle(said)
    return said


def make_actors(plan: WorldPlan) -> None:
    """Most jobs are the calls of an actor. A home that forgets a lease, as only a defective core does, goes on
    with the calls behind it, so that does not happen here."""
    plan.mixture.counts.pop("forget", None)
    rng = Random(f"{plan.seed}/actors")
    for _, wish in plan.wishes:
        if wish.kind is JobKind.EXPLORE or rng.random() > 0.8:
            continue
        wish.kind, wish.actor, wish.together, wish.max_parallel = JobKind.SUBMIT, True, 0, 0
        wish.speculate = False
        wish.window = None
        wish.items = min(wish.items, max(20, int(20.0 / wish.law.mean_seconds)))
        wish.restarts = rng.choice((0, 0, 1, 3, 100))
        wish.retries = rng.choice((0, 0, 1, 5))


def make_alone(plan: WorldPlan) -> None:
    """Most programs wait for each call before they make the next, on a host with all nodes: they hire workers."""
    rng = Random(f"{plan.seed}/alone")
    plan.nodes, plan.one_host = min(plan.nodes, 3), True
    plan.faults_until = min(plan.faults_until, 5.0)
    plan.latency = Latency(min(plan.latency.seconds, 0.0004), plan.latency.jitter)
    for _, wish in plan.wishes:
        if wish.kind is JobKind.EXPLORE or rng.random() > 0.85:
            continue
        mean = rng.choice((0.00002, 0.0002, 0.0002, 0.002, 0.02, 0.08))
        wish.kind, wish.fed, wish.alone, wish.window, wish.block_items = (
            JobKind.SUBMIT,
            True,
            True,
            None,
            1,
        )
        wish.priority = wish.priority if rng.random() < 0.1 else 0
        wish.law = CostLaw(
            rng.choice(("const", "exponential", "skewed")), mean, rng.getrandbits(32)
        )
        wish.items = min(
            max(20, int(plan.faults_until / (mean + 0.001))), rng.choice((50, 150, 400))
        )
        wish.think_seconds = rng.choice((0.0, 0.00002, 0.002, 0.02))
        wish.killers = {item % wish.items: times for item, times in wish.killers.items()}
        wish.failing = frozenset(item % wish.items for item in wish.failing)
        wish.endless = frozenset(item % wish.items for item in wish.endless)
        if rng.random() < 0.3 and not wish.actor:
            wish.retries = rng.choice((1, 3))
            wish.again[rng.randrange(wish.items)] = _draw_past(rng, wish.retries)
        if wish.cancels:
            wish.stops = rng.random() < 0.5
            wish.cancels = [(at, lo % wish.items, wish.items) for at, lo, _ in wish.cancels]
    if rng.random() < 0.5:
        plan.mixture.counts["worker"] = rng.choice((1, 5, 20))


def _seeds(rng: Random, number: int) -> list[int]:
    """All know the first node; some know another one, too."""
    if number == 0:
        return rng.choice(([], [0]))
    return sorted({0, rng.randrange(number + 1)})


def _draw_config(rng: Random) -> Config:
    config = Config()
    if rng.random() < 0.5:
        config = replace(
            config,
            chunk_seconds_max=rng.choice((0.02, 0.05, 0.2)),
            prefetch_seconds_max=rng.choice((0.0, 0.02, 0.1)),
            lease_seconds=rng.choice((3.0, 15.0, 30.0)),
            lifelines_max=rng.choice((1, 2, 6)),
            ask_tries=rng.choice((1, 2, 4)),
        )
    return config


def _draw_mixture(rng: Random) -> FaultMixture:
    if rng.random() < 0.1:
        return FaultMixture()
    kinds = [kind for kind in KINDS if rng.random() < 0.25]
    rare = {"full-stop": 0.4, "lost-owner": 0.3, "late-owner": 0.7}
    counts = {}
    for kind in kinds:
        if rng.random() < rare.get(kind, 1.0):
            counts[kind] = 1 if kind in rare else rng.choice((1, 1, 2, 3, 6))
    return FaultMixture(counts)


def _draw_wish(rng: Random, seconds: float, until: float, chunk: float, jobs: int) -> Wish:
    """One job of about `seconds` of work."""
    kind = rng.choice((JobKind.MAP, JobKind.MAP, JobKind.SUBMIT, JobKind.REDUCE, JobKind.EXPLORE))
    at = rng.uniform(0.0, until * 0.5)
    if kind is JobKind.EXPLORE:
        return _draw_search(rng, seconds, at)
    law = rng.choice(("const", "const", "exponential", "pareto", "skewed"))
    finest = 0.0001 if law == "const" else 0.002
    mean = max(finest, rng.choice((0.0005, 0.005, 0.02, 0.1, 0.5)))
    if seconds / max(mean, chunk) > CHUNKS_A_WORLD / jobs:
        seconds = max(mean, chunk) * CHUNKS_A_WORLD / jobs
    items = max(1, int(seconds / mean)) if rng.random() < 0.95 else 0
    wish = Wish(kind, items, CostLaw(law, mean, rng.getrandbits(32)), at)
    wish.fed = kind is JobKind.SUBMIT or rng.random() < 0.35
    wish.block_items = rng.choice((1, 3, 50, 1000)) if items < 400 else max(1, items // 40)
    wish.feed_seconds = rng.uniform(0, until * 0.3) / max(1, items // wish.block_items)
    if not wish.fed and rng.random() < 0.2:
        wish.window = max(1, items // rng.choice((3, 10, 40)))
    wish.priority = rng.choice((0, 0, 5))
    wish.function = rng.choice(("", "shared"))
    _trouble(rng, wish, until)
    return wish


def _trouble(rng: Random, wish: Wish, until: float) -> None:
    items = wish.items
    if not items:
        return
    if rng.random() < 0.2:
        count = rng.choice((1, 1, 3))
        wish.killers = {rng.randrange(items): rng.choice((1, 2, 99)) for _ in range(count)}
    if rng.random() < 0.2:
        wish.failing = frozenset(rng.randrange(items) for _ in range(rng.choice((1, 4))))
    if rng.random() < 0.1 and items < 300 and wish.law.mean_seconds < 0.05:
        wish.timeout = ITEM_SECONDS_MAX + 0.5
        wish.endless = frozenset(rng.randrange(items) for _ in range(rng.choice((1, 3))))
    if wish.kind is not JobKind.REDUCE and rng.random() < 0.2:
        for _ in range(rng.choice((1, 3))):
            lo = rng.randrange(items)
            wish.cancels.append((rng.uniform(0, until), lo, rng.randint(lo + 1, items)))


def _draw_search(rng: Random, seconds: float, at: float) -> Wish:
    """A tree that is worth searching, and not too large to simulate."""
    mean = rng.choice((0.001, 0.005, 0.02))
    wanted = max(30, min(4000, int(seconds / mean)))
    best = VirtualTree(rng.getrandbits(32), 4, 3)
    for _ in range(6):
        tree = VirtualTree(rng.getrandbits(32), rng.randint(4, 12), rng.randint(3, 5))
        size = tree.totals(wanted + 1)[0]
        if best.totals(wanted + 1)[0] < size <= wanted:
            best = tree
    killers = {rng.randint(1, 50): 1} if rng.random() < 0.2 else {}
    return Wish(JobKind.EXPLORE, 1, CostLaw("const", mean), at, tree=best, killers=killers)


# ---------------------------------------------------------------- running


class RandomWorld:
    """A drawn world, set up and ready to run."""

    def __init__(self, plan: WorldPlan) -> None:
        self.plan = plan
        self.world = World(
            plan.seed,
            latency=plan.latency,
            config=plan.config,
            carry=plan.carry,
            loop_seconds=plan.loop_seconds,
            messages_a_second_max=CONTROL_A_SECOND_AND_LINK,
        )
        self.world.one_host = plan.one_host
        self.seats: list[VirtualSeat] = []
        self.clients: list[Process] = []
        self.programs: list[VirtualProgram] = []
        rng = Random(f"{plan.seed}/faults")
        for number in range(plan.nodes):
            seeds = [address(each) for each in plan.seeds[number]]
            if not number or plan.preset:
                self._start_node(number, seeds)
            else:
                self.world.at(plan.starts[number], self._start_node, number, seeds)
        for number in range(plan.clients):
            seeds = sorted({address(0), address(rng.randrange(plan.nodes))})
            self.clients.append(self.world.client(f"client{number}", seeds=seeds))
        if plan.preset:
            self.world.preset_views()
        self.faults = Faults(self.world, rng, self.seats, self.clients)
        self.faults.plan(plan.mixture, 0.0, plan.faults_until)
        self.world.checkers.placing.strict = plan.mixture.gentle
        for client, wish in plan.wishes:
            self.programs.append(VirtualProgram(self.world, self.clients[client], wish))
        self.world.after(SWEEP_SECONDS, self._sweep)

    def _start_node(self, number: int, seeds: list[str]) -> None:
        process = self.world.node(
            f"n{number}",
            seeds=seeds,
            workers=self.plan.workers[number],
            endpoint=address(number),
            ready_seconds=0.05,
            runtime=self.plan.runtimes[number] if self.plan.runtimes else "",
            lacks=self.plan.lacks[number] if self.plan.lacks else frozenset(),
            resources=self.plan.resources[number] if self.plan.resources else (),
            threads=self.plan.threads[number] if self.plan.threads else 1,
        )
        self.seats.append(VirtualSeat(process, seeds))

    def _sweep(self) -> None:
        self.world.checkers.sweep()
        if self.plan.mixture.gentle:
            self.world.checkers.nobody_starves()
        self.world.after(SWEEP_SECONDS, self._sweep)

    # ------------------------------------------------------------ the two phases

    def run(self, outcome: WorldOutcome) -> None:
        """Raises Breach, or anything that a core raises, when something is wrong."""
        world = self.world
        world.run(self.plan.faults_until)
        self.faults.mend_all()
        mended = world.now
        bound = mended + PATIENCE_SECONDS + 3 * self._ideal_seconds()
        agreed_at: float | None = None
        agreed_last = mended
        while True:
            world.run(world.now + 0.1)
            if not world.checkers.disagreement():
                agreed_at = agreed_at if agreed_at is not None else world.now
                agreed_last = world.now
            else:
                agreed_at = None
                # A new supernode says so a moment later (seed 400694).
                since = max(mended, world.changed_at, agreed_last)
                self._within(since + AGREEMENT_SECONDS, "membership")
            if not self._all_done():
                self._within(bound, "progress")
                continue
            if outcome.done_after_mending_seconds == 0.0:
                outcome.done_after_mending_seconds = world.now - mended
                ended = world.now
            if self._leftovers():
                patience = max(LEFTOVER_SECONDS, self.plan.config.lease_seconds)
                self._within(ended + patience + AGREEMENT_SECONDS, "leftover")
                continue
            if agreed_at is not None and self._orphans_gone(mended):
                outcome.agreed_after_mending_seconds = max(0.0, agreed_at - mended)
                break
        self._no_false_verdicts()
        self._no_needless_work()

    def _ideal_seconds(self) -> float:
        able = (
            self.seats[:1] if self.plan.lacks else self.seats
        )  # others may be unable to do anything
        workers = sum(len(s.process.workers) for s in able if s.process.alive)
        if self.plan.resources:
            workers = 1  # one may be all that is allowed
        return sum(p.work.ideal_seconds for p in self.programs) / max(1, workers)

    def _all_done(self) -> bool:
        return all(p.done for p in self.programs if p.owner.alive)

    def _within(self, until: float, kind: str) -> None:
        if self.world.now > until:
            raise Breach(kind, self._what(kind))

    def _what(self, kind: str) -> str:
        if kind == "membership":
            return self.world.checkers.disagreement()
        if kind == "leftover":
            return self._leftovers()
        stuck = [p for p in self.programs if p.owner.alive and not p.done]
        said = [
            f"job {p.work.number} ({p.wish.kind.name}) is stuck: "
            f"{self.world.checkers.account_of(p.job, p.owner)}"
            for p in stuck
        ]
        return "; ".join(said)

    def _leftovers(self) -> str:
        """Nodes that hold work of jobs that are over; empty: none."""
        for program in self.programs:
            if program.owner.alive and program.done:
                holding = self.world.checkers.still_holding(program.job)
                if holding:
                    return f"{holding} still hold job {program.work.number}, which is over"
                keeping = self.world.checkers.values.still_keeping(program.owner.member.id)
                if keeping and all(p.done for p in self.programs if p.owner is program.owner):
                    return f"{keeping} still keep values of {program.owner.name}"
        return ""

    def _orphans_gone(self, mended: float) -> bool:
        for program in self.programs:
            owner = program.owner
            if owner.alive or owner.number not in self.faults.owners_lost:
                continue
            holding = self.world.checkers.still_holding(program.job)
            holding += self.world.checkers.values.still_keeping(owner.member.id)
            if holding:
                since, silent = self.faults.owners_lost[owner.number]
                bound = ORPHAN_SILENT_SECONDS if silent else ORPHAN_SECONDS
                if not self.world.checkers.still_leased(program.job):
                    # The name alone costs nothing; it goes as after any end that was not told.
                    bound = max(bound, self.plan.config.lease_seconds + SWEEP_SECONDS + 1.0)
                if self.world.now > max(since, mended) + bound:
                    text = f"{holding} hold job {program.work.number}, whose owner is dead"
                    raise Breach("orphan", text)
                return False
        return True

    def _no_false_verdicts(self) -> None:
        if not self.plan.mixture.gentle:
            return
        for process in self.world.living():
            if process.core.me.incarnation > 1 and not process.core.dispatcher.draining:
                raise Breach("verdict", f"{process.name} was accused, though it never was silent")

    def _no_needless_work(self) -> None:
        """A lease expires only if its holder could not name it; no work is repeated without a reason."""
        kinds = self.plan.mixture.counts.keys()
        counters = counters_of(self.world)
        excused = CUTS | {"forget"}
        if any(wish.alone for _, wish in self.plan.wishes):
            # Nothing comes behind a report that could show that it is missing.
            excused |= {"disorder"}
        enough = self.plan.config.lease_seconds >= LEASE_SECONDS_ENOUGH and not kinds & excused
        if enough and counters["leases-expired"]:
            raise Breach("expiry", f"{counters['leases-expired']} leases ran out for no reason")
        harmless = kinds <= HARMLESS and not self.faults.alarms
        if harmless and not self._wastes_on_purpose():
            waste = counters["results-dropped"] + counters["items-run-for-nothing"]
            if waste:
                raise Breach("waste", f"{waste} items were run twice for no reason")

    def _wastes_on_purpose(self) -> bool:
        return any(w.cancels or w.speculate for _, w in self.plan.wishes)

    # ------------------------------------------------------------ telling

    def story(self) -> list[str]:
        """What a person needs to see of a failing world; the most important comes last."""
        lines = ["last events:", *self.world.trace.last_lines(60)]
        for process in self.world.living():
            if process.member.role is Role.CLIENT:
                lines += [f"story of {process.name}:", *process.core.journal.of()[-40:]]
        lines += [f"plan: {self.plan}", "faults:", *self.faults.told, "who lives:"]
        lines += [self._line(process) for process in self.world.living()]
        return lines

    def _line(self, process: Process) -> str:
        """What a process holds, and its links."""
        held = {
            self.world.work_behind(job)[0].number: list(job_held.bags.leases)[:4]
            for job, job_held in process.core.holder.jobs.items()
        }
        peers = process.core.links.peers.values()
        linked = sorted(peer.member.name for peer in peers if peer.link is not None)
        return f"{process.name} holds {held}, talks to {linked}, counted {process.core.counters}"


def address(number: int) -> str:
    """Where node `number` of a world listens."""
    return f"tcp://n{number}:7077"


class Drawn(Protocol):
    """A world that is ready to run, of any kind."""

    @property
    def world(self) -> World: ...

    @property
    def faults(self) -> Faults: ...

    def run(self, outcome: WorldOutcome) -> None: ...

    def story(self) -> list[str]: ...


def play(drawn: Drawn, outcome: WorldOutcome, *, watch: bool) -> None:
    """Run a world and write down what became of it; `watch` prints every event."""
    world = drawn.world
    begun = time.perf_counter()
    if watch:
        world.trace.on_event = print
    try:
        drawn.run(outcome)
    except Breach as breach:
        outcome.breach = str(breach)
    except Exception as error:  # noqa: BLE001 - anything that a core raises is a finding, not our end
        outcome.breach = f"{type(error).__name__}: {error}"
        outcome.story = traceback.format_exc().splitlines()
    if outcome.breach:
        outcome.story = drawn.story() + outcome.story
    outcome.wall_seconds = time.perf_counter() - begun
    outcome.virtual_seconds = world.now
    outcome.events = world.trace.events
    outcome.messages = world.network.messages
    outcome.crashes = drawn.faults.crashes
    outcome.faults = len(drawn.faults.told)
    outcome.counters = dict(counters_of(world))
    outcome.trace = world.trace.hash()


def counters_of(world: World) -> Counter[str]:
    """What all cores of all lives counted, and how often they refuted a verdict."""
    total: Counter[str] = Counter()
    for process in world.processes:
        total.update(process.core.counters)
        total["refuted"] += process.core.me.incarnation - 1
    return total


def run(
    seed: int,
    *,
    watch: bool = False,
    unlike: bool = False,
    placed: bool = False,
    side: bool = False,
    valued: bool = False,
    control: bool = False,
    speculate: bool = False,
    actors: bool = False,
    alone: bool = False,
) -> WorldOutcome:
    """Draw, run and judge one world; in an `unlike` one not every node can run every job, in a `placed` one
    jobs ask for bounds, resources and turns, in a `valued` one they need values. With `side` workers run many
    items at once; with `control` items run again later or are stopped. With `speculate` the last stragglers are
    lent twice, with `actors` some jobs are actors, and `alone` most programs wait for each call."""
    plan = draw(seed)
    if placed:
        make_placed(plan)
    if unlike:
        make_unlike(plan)
    if side:
        make_side_by_side(plan)
    if valued:
        make_valued(plan)
    if control:
        make_controlled(plan)
    if speculate:
        make_speculating(plan)
    if actors:
        make_actors(plan)
    if alone:
        make_alone(plan)
    outcome = WorldOutcome(seed, nodes=plan.nodes, jobs=len(plan.wishes))
    drawn = RandomWorld(plan)
    play(drawn, outcome, watch=watch)
    world = drawn.world
    outcome.steals = sum(p.core.victim.given for p in world.processes)
    outcome.false_verdicts = sum(
        1 for p in world.living() if p.core.me.incarnation > 1 and not p.core.dispatcher.draining
    )
    outcome.needed = world.checkers.values.needed
    outcome.hired, outcome.moved = world.hires.served, world.hires.moved
    outcome.placed = world.checkers.placing.begun
    outcome.rate_max = world.checkers.rate_max
    outcome.queue_max = world.checkers.queue_max
    return outcome
