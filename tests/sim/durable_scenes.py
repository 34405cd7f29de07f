"""Small virtual worlds with durable jobs: some nodes with disks, clients that come and go."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from stealmesh_engine.config import Config
from stealmesh_engine.durable.primary import Primary
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.disks import COMMIT_SECONDS, VirtualDisk
from stealmesh_sim.durable_programs import DurableReader, Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .scenes import FINE, SEED_ADDRESS, SWEEP_SECONDS, Scene


class DurableScene(Scene):
    """A scene with nodes that keep durable jobs."""

    def launch(
        self,
        items: int,
        *,
        kind: JobKind = JobKind.MAP,
        law: CostLaw = FINE,
        collects: bool = True,
        accepted: bool = True,
        **wishes: object,
    ) -> Launcher:
        wish = Wish(kind, items, law, self.world.now, **wishes)  # type: ignore[arg-type]
        launcher = Launcher(self.world, self.client, wish, collects=collects)
        if accepted:
            self.until(lambda: launcher.accepted)
        return launcher

    def newcomer(self, name: str, node: Process | None = None) -> Process:
        """Another program joins, through some living node."""
        node = node or next(n for n in self.nodes if n.alive)
        return self.world.client(name, seeds=node.member.endpoints)

    def attach(self, launcher: Launcher, node: Process | None = None) -> DurableReader:
        return DurableReader(self.world, self.newcomer("other", node), launcher.work)

    def home(self, reader: DurableReader) -> Process | None:
        """Who leads the job, as far as the home itself knows; the highest reign if there are two."""
        leading = [
            n for n in self.nodes if n.alive and reader.job in n.core.durable.state.primaries
        ]
        return max(
            leading, key=lambda n: self.lead(n, reader).replica.configuration.term, default=None
        )

    def at_home(self, reader: DurableReader) -> Process:
        home = self.home(reader)
        assert home is not None
        return home

    def lead(self, node: Process, reader: DurableReader) -> Primary:
        return node.core.durable.state.primaries[reader.job]

    def safe_items(self, reader: DurableReader) -> int:
        home = self.home(reader)
        return 0 if home is None else self.lead(home, reader).replication.safe.size

    def half_done(self, reader: DurableReader) -> None:
        self.until(lambda: self.safe_items(reader) >= reader.work.total // 2)

    def crash(self, node: Process) -> None:
        self.world.checkers.note_safe()
        self.world.crash(node)

    def restart(self, node: Process) -> Process:
        fresh = self.world.restart(node, seeds=[SEED_ADDRESS])
        self.nodes[self.nodes.index(node)] = fresh
        return fresh

    def keepers(self, reader: DurableReader) -> list[Process]:
        return [n for n in self.nodes if n.alive and reader.job in n.core.durable.state.replicas]

    def repeated(self, reader: DurableReader) -> int:
        """Items that were handed to a worker after they had been credited for good."""
        return self.world.checkers.repeated.get(reader.job, 0)

    def collected(self, reader: DurableReader, *, within: float = 30.0) -> None:
        """Everything came, once and right, and no node holds anything of the job."""
        self.until(lambda: reader.done, within=within)
        assert not reader.gone, reader.gone
        assert not reader.missing
        assert reader.position == reader.work.total
        held = self.world.checkers.still_holding
        self.until(lambda: not held(reader.job), within=40.0)


def durable_scene(
    nodes: int = 3,
    *,
    workers: int = 2,
    seed: int = 1,
    disks: bool = True,
    settle_seconds: float = 2.0,
    commit_seconds: float = COMMIT_SECONDS,
    **knobs: object,
) -> DurableScene:
    world = World(seed, config=replace(Config(), **knobs))  # type: ignore[arg-type]
    rng = Random(f"{seed}/disks")
    members = [
        world.node(
            f"n{number}",
            seeds=[SEED_ADDRESS] if number else [],
            workers=workers,
            disk=VirtualDisk(rng, commit_seconds) if disks else None,
        )
        for number in range(nodes)
    ]
    client = world.client("client", seeds=[SEED_ADDRESS])

    def sweep() -> None:
        world.checkers.sweep()
        world.after(SWEEP_SECONDS, sweep)

    sweep()
    world.run(settle_seconds)
    return DurableScene(world, members, client)
