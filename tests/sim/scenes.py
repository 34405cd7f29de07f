"""Small virtual worlds for stories: some nodes, a client, a few jobs, and what must be true in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_protocol.messages import JobKind, PeerState
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw, VirtualTree
from stealmesh_sim.world import World

SEED_ADDRESS = "tcp://n0:7077"
FINE = CostLaw("const", 0.01)
SWEEP_SECONDS = 0.05


@dataclass
class Scene:
    """A world with nodes n0, n1, … and a client that knows n0."""

    world: World
    nodes: list[Process]
    client: Process
    programs: list[VirtualProgram] = field(default_factory=list)

    def submit(self, wish: Wish) -> VirtualProgram:
        program = VirtualProgram(self.world, self.client, wish)
        self.programs.append(program)
        self.until(lambda: program.opened_at is not None)
        return program

    def map(self, items: int, *, law: CostLaw = FINE, **wishes: object) -> VirtualProgram:
        return self.submit(Wish(JobKind.MAP, items, law, self.world.now, **wishes))  # type: ignore[arg-type]

    def explore(self, *, depth: int = 8, seed: int = 5, seconds: float = 0.005) -> VirtualProgram:
        tree = VirtualTree(seed, depth, 4)
        law = CostLaw("const", seconds)
        return self.submit(Wish(JobKind.EXPLORE, 1, law, self.world.now, tree=tree))

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def until(self, holds: Callable[[], bool], *, within: float = 20.0) -> None:
        """Let time pass until something has happened, event by event."""
        limit = self.world.now + within
        while not holds():
            assert self.world.now < limit, f"it did not happen within {within} s"
            if not self.world.step():
                raise AssertionError("nothing is going to happen any more")

    def finish(self, *, within: float = 30.0) -> None:
        """All jobs end, no node keeps anything of them, and all agree on who lives."""
        self.until(lambda: all(program.done for program in self.programs), within=within)
        jobs = [program.job for program in self.programs]
        check = self.world.checkers
        self.until(lambda: not any(check.still_holding(job) for job in jobs), within=20.0)
        self.until(lambda: not check.disagreement(), within=10.0)

    def owned(self, program: VirtualProgram) -> OwnedJob:
        return self.client.core.owner.jobs[program.job]

    def holds(self, node: Process, program: VirtualProgram) -> bool:
        """Has this node a lease of the job?"""
        held = node.core.holder.jobs.get(program.job)
        return held is not None and bool(held.bags.leases)

    def counted(self, name: str, process: Process | None = None) -> int:
        return (process or self.client).core.counters.get(name, 0)

    def state_of(self, seen_by: Process, node: Process) -> PeerState | None:
        member = seen_by.core.view.members.get(node.member.id)
        return None if member is None else member.state


def scene(
    nodes: int = 3,
    *,
    workers: int = 2,
    seed: int = 1,
    config: Config | None = None,
    settle_seconds: float = 2.0,
    one_host: bool = False,
) -> Scene:
    """Everybody has met, nothing has been submitted yet."""
    world = World(seed, config=config)
    world.one_host = one_host
    members = [
        world.node(f"n{number}", seeds=[SEED_ADDRESS] if number else [], workers=workers)
        for number in range(nodes)
    ]
    client = world.client("client", seeds=[SEED_ADDRESS])

    def sweep() -> None:
        world.checkers.sweep()
        world.after(SWEEP_SECONDS, sweep)

    sweep()
    world.run(settle_seconds)
    assert not world.checkers.disagreement()
    assert client.core.links.joined
    return Scene(world, members, client)


def must_notice(
    story: Callable[[], None],
    mutant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without this rule the story must not go well."""
    mutant(monkeypatch)
    with pytest.raises((Breach, AssertionError)):
        story()
