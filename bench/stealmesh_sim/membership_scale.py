"""Large worlds without work: how soon the dead are noticed, how rarely the living are accused, at what cost.

Does: builds meshes of any size, kills, pauses and restarts their nodes, and measures. Refuses to
judge: tests/sim has the bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from stealmesh_engine.config import Config
from stealmesh_engine.effects import Send
from stealmesh_engine.membership.changes import Gone
from stealmesh_engine.view.observers import supers_wanted
from stealmesh_protocol import codec
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Role
from stealmesh_sim.network import Station
from stealmesh_sim.process import Process, Toil
from stealmesh_sim.world import World

SETTLE_SECONDS = 4.0
LOOK_SECONDS = 0.02
SEEDS = 3
HERD_TIMES = 20


@dataclass(slots=True)
class Detection:
    """From deaths to verdicts, in seconds."""

    kills: int
    first_p50: float
    """Until the first observer knew."""
    first_p99: float
    everybody_p99: float
    """Until all supernodes knew."""
    missed: int
    """Not found within the time allowed."""


@dataclass(slots=True)
class LeafLoad:
    """What a leaf says and hears while nothing happens."""

    messages_a_second: float
    octets_a_second: float
    links: float
    members: float
    super_messages_a_second_max: float
    wall_seconds_a_second: float
    """What a virtual second costs on this machine (processor time)."""


def mesh(
    nodes: int, *, seed: int = 1, workers: int = 0, config: Config | None = None
) -> tuple[World, list[Process]]:
    """A mesh of nodes that know each other already; all beats are out of step."""
    world = World(seed, config=config, audit=False, hashing=False)
    rng = Random(f"{seed}/mesh")
    members = [world.node(f"n{number}", seeds=None, workers=workers) for number in range(nodes)]
    world.preset_views()
    for process in members:
        world.at(rng.uniform(0.0, world.config.beat_seconds), process.wake)
    world.run(SETTLE_SECONDS)
    return world, members


def is_super(process: Process) -> bool:
    return process.core.me.role is Role.SUPER


def until(world: World, holds: Callable[[], bool], within: float, every: float = 0.1) -> float:
    """Seconds until `holds`, or infinity."""
    begun = world.now
    while not holds():
        if world.now - begun >= within:
            return float("inf")
        world.run(world.now + every)
    return world.now - begun


# ---------------------------------------------------------------- deaths


def detection(
    nodes: int, *, kills: int = 30, silent: bool = True, seed: int = 1, config: Config | None = None
) -> Detection:
    """Leaves die one after the other: with their machines (`silent`), or the process alone."""
    world, members = mesh(nodes, seed=seed, config=config)
    rng = Random(f"{seed}/kills")
    victims = rng.sample([p for p in members if not is_super(p)], min(kills, nodes // 4))
    observers = [p for p in members if is_super(p)]
    died: dict[bytes, float] = {}
    first: dict[bytes, float] = {}
    known: dict[bytes, float] = {}

    def kill(victim: Process) -> None:
        died[victim.member.id] = world.now
        world.crash(victim, silent=silent)

    for number, victim in enumerate(victims):
        world.at(world.now + rng.uniform(0.2, 0.4) * number, kill, victim)
    end = world.now + 0.4 * len(victims) + 8.0
    while world.now < end and len(known) < len(victims):
        world.run(world.now + LOOK_SECONDS)
        for victim_id in [v for v in died if v not in known]:
            missing = sum(not p.core.view.is_dead(victim_id) for p in observers)
            if missing < len(observers):
                first.setdefault(victim_id, world.now - died[victim_id])
            if not missing:
                known[victim_id] = world.now - died[victim_id]
    return Detection(
        len(victims),
        _percentile(list(first.values()), 0.5),
        _percentile(list(first.values()), 0.99),
        _percentile(list(known.values()), 0.99),
        len(victims) - len(known),
    )


def false_verdicts(
    nodes: int, *, node_hours: float = 10.0, seed: int = 1, config: Config | None = None
) -> tuple[int, int, float]:
    """Every 40 s each node stands still once, with a chance of 10 %, for 3 to 10 s; none dies.
    Returns how many were declared dead though they were running, how many while they stood still,
    and in how many node-hours."""
    world, members = mesh(nodes, seed=seed, config=config)
    by_id = {process.member.id: process for process in members}
    accused: list[bool] = []
    for process in members:
        _overhear(process, lambda peer: accused.append(by_id[peer].paused))
    rng = Random(f"{seed}/pauses")
    until_time = world.now + node_hours * 3600 / nodes
    begun = world.now
    while world.now < until_time:
        for process in members:
            if rng.random() < 0.1:
                seconds = rng.uniform(3.0, 10.0)
                at = world.now + rng.uniform(0.0, 40.0 - seconds)
                world.at(at, world.pause, process)
                world.at(at + seconds, world.resume, process)
        world.run(world.now + 40.0)
    return accused.count(False), accused.count(True), (world.now - begun) * nodes / 3600


def _overhear(process: Process, told: Callable[[PeerId], None]) -> None:
    """Call `told` with every peer that this process declares dead."""
    verdicts = process.core.membership.verdicts
    dead = verdicts.dead

    def declares(peer: PeerId, now: float, why: str) -> Gone:
        told(peer)
        return dead(peer, now, why)

    verdicts.dead = declares  # type: ignore[method-assign]


# ---------------------------------------------------------------- cost


def load(nodes: int, *, seconds: float = 10.0, workers: int = 0, seed: int = 1) -> LeafLoad:
    world, members = mesh(nodes, seed=seed, workers=workers)
    said = [0] * len(members)
    heard = [0] * len(members)
    octets = [0] * len(members)
    send = world.network.send

    def counting(process: Station, effect: Send) -> None:
        size = sum(map(len, codec.write(effect.message, effect.seq, effect.ack)))
        said[process.number] += 1
        octets[process.number] += size
        end = process.ends.get(effect.link)
        if end is not None:
            target = end[0].pipes[end[1]].target.number
            heard[target] += 1
            octets[target] += size
        send(process, effect)

    begun = time.process_time()
    world.run(world.now + 2.0)
    cost = (time.process_time() - begun) / 2.0
    world.network.send = counting  # type: ignore[method-assign]
    world.run(world.now + seconds)
    leaves = [p.number for p in members if not is_super(p)]
    supers = [p.number for p in members if is_super(p)]
    share = 1.0 / (len(leaves) * seconds)
    return LeafLoad(
        sum(said[n] + heard[n] for n in leaves) * share,
        sum(octets[n] for n in leaves) * share,
        sum(len(members[n].ends) for n in leaves) / len(leaves),
        sum(len(members[n].core.view.members) for n in leaves) / len(leaves),
        max(said[n] + heard[n] for n in supers) / seconds,
        cost,
    )


# ---------------------------------------------------------------- many at once


def bootstrap(nodes: int, *, seed: int = 1, within: float = 30.0) -> float:
    """All nodes but the first start at once and know only the first: seconds until all agree."""
    world = World(seed, audit=False, hashing=False)
    world.node("n0", seeds=[], workers=0)
    world.run(1.0)
    for number in range(1, nodes):
        world.node(f"n{number}", seeds=["tcp://n0:7077"], workers=0)
    return until(world, lambda: not world.checkers.disagreement(), within)


def herd(
    nodes: int, newcomers: int, *, seed: int = 1, within: float = 60.0, config: Config | None = None
) -> tuple[float, float, int]:
    """`newcomers` start at one instant and know one supernode each; introductions cost HERD_TIMES as
    much as usual. Returns the seconds until all agree, the longest time for which a message lay unread
    at a supernode of the old mesh, and the number of supernodes in the end."""
    world, members = mesh(nodes, seed=seed, config=config)
    world.toil = Toil().dearer(hello=HERD_TIMES)
    doors = [p for p in members if is_super(p)]
    for number in range(newcomers):
        door = doors[number % len(doors)].member.endpoints[0]
        world.node(f"late{number}", seeds=[door], workers=0)
    unread = 0.0

    def are_in() -> bool:
        nonlocal unread
        unread = max(unread, *(door.unread_seconds() for door in doors))
        return not world.checkers.disagreement()

    took = until(world, are_in, within)
    return took, unread, sum(is_super(p) for p in world.living())


def restart(nodes: int, *, seed: int = 1, within: float = 30.0) -> float:
    """All nodes die at once and start again, knowing three addresses: seconds until all agree."""
    world, members = mesh(nodes, seed=seed)
    seeds = [f"tcp://n{number}:7077" for number in range(min(SEEDS, nodes))]
    for process in members:
        world.crash(process)
    for process in members:
        world.restart(process, seeds=seeds)
    return until(world, lambda: not world.checkers.disagreement(), within)


def catastrophe(
    nodes: int, *, seed: int = 1, within: float = 40.0, silent: bool = True
) -> tuple[float, float]:
    """40 % of all nodes die at one instant, a quarter of the supernodes among them: seconds until
    there are as many supernodes as there should be, and until all agree."""
    world, members = mesh(nodes, seed=seed)
    rng = Random(f"{seed}/card")
    supers = [p for p in members if is_super(p)]
    leaves = [p for p in members if not is_super(p)]
    victims = rng.sample(supers, max(1, len(supers) // 4))
    victims += rng.sample(leaves, int(0.4 * nodes) - len(victims))
    for process in victims:
        world.crash(process, silent=silent)
    wanted = supers_wanted(nodes - len(victims))

    def restored() -> bool:
        return sum(is_super(p) for p in world.living()) >= wanted

    first = until(world, restored, within)
    if first == float("inf"):
        return first, first
    return first, first + until(world, lambda: not world.checkers.disagreement(), within)


def _percentile(values: list[float], share: float) -> float:
    if not values:
        return float("inf")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
