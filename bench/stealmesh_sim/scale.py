"""One large world: P nodes, one map_reduce, one client that knows one node.

Does: measures how fast work spreads from the node that got it all, and how little of the machine
is wasted until the last result is in. Refuses to judge: tests/sim has the bounds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from stealmesh_engine.config import Config
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.network import Latency
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

WARM_UP_SECONDS = 3.0
ITEM_SECONDS = 0.001


@dataclass(slots=True)
class Scale:
    """Figures of one run."""

    nodes: int
    seconds_a_node: float
    efficiency: float
    makespan_seconds: float
    all_busy_seconds: float
    steals_a_node: float
    asked_a_node: float
    success: float
    """The share of requests that were granted, lifelines included."""
    messages_a_node: float
    leases_max: int
    owner_events_a_second: float
    wall_seconds: float


def run(
    nodes: int,
    *,
    seconds_a_node: float = 10.0,
    latency_seconds: float = 0.00025,
    grain_seconds: float = 0.02,
    seed: int = 1,
    law: str = "const",
    config: Config | None = None,
) -> Scale:
    """`nodes` nodes of one worker; efficiency is W / (P · makespan)."""
    begun = time.perf_counter()
    config = config or replace(
        Config(), chunk_seconds_max=grain_seconds, fold_seconds_max=grain_seconds
    )
    latency = Latency(latency_seconds, 0.3)
    world = World(seed, latency=latency, config=config, audit=False, hashing=False)
    first = "tcp://n0:7077"
    members = [world.node(f"n{number}", seeds=None) for number in range(nodes)]
    world.preset_views()
    client = world.client("client", seeds=[first])
    for process in members:
        process.wake()
    world.run(WARM_UP_SECONDS)
    before = _Counts.of(members, client)
    items = int(nodes * seconds_a_node / ITEM_SECONDS)
    wish = Wish(JobKind.REDUCE, items, CostLaw(law, ITEM_SECONDS, seed), world.now)
    program = VirtualProgram(world, client, wish)
    work_seconds = program.work.ideal_seconds
    leases_max = _run(world, program, WARM_UP_SECONDS + 20 * seconds_a_node)
    assert program.done_at is not None
    makespan = program.done_at - WARM_UP_SECONDS
    spent = _Counts.of(members, client)
    asked = spent.asked - before.asked
    given = spent.given - before.given
    return Scale(
        nodes,
        seconds_a_node,
        work_seconds / (nodes * makespan),
        makespan,
        max(p.first_busy_at or 1e9 for p in members) - WARM_UP_SECONDS,
        given / nodes,
        asked / nodes,
        given / max(1, asked),
        (spent.messages - before.messages) / nodes,
        leases_max,
        (spent.heard - before.heard) / makespan,
        time.perf_counter() - begun,
    )


def _run(world: World, program: VirtualProgram, until: float) -> int:
    """Run until the job is done; returns the largest number of leases that were out."""
    most = 0
    while not program.done and world.now < until:
        world.run(world.now + 0.01, unless=lambda: program.done)
        job = program.owner.core.owner.jobs.get(program.job)
        if job is not None:
            most = max(most, len(job.ledger.leases))
    return most


@dataclass(slots=True)
class _Counts:
    asked: int
    given: int
    messages: int
    heard: int

    @classmethod
    def of(cls, members: list[Process], client: Process) -> _Counts:
        return cls(
            client.world.network.steals,
            sum(p.core.victim.given for p in members),
            sum(p.sent for p in (*members, client)),
            client.heard,
        )
