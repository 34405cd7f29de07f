"""Tasks inside tasks in virtual time: children leave their workers for the idle, and count once whatever dies."""

from __future__ import annotations

from random import Random

import pytest

from stealmesh_sim.nested import Nest, NestedProgram, NestingWorker, Task
from stealmesh_sim.process import Process
from stealmesh_sim.work import VirtualTree, mix
from stealmesh_sim.world import World

SEED_ADDRESS = "tcp://n0:7077"
LEFT_SECONDS = 40.0
"""An unused client leaves after five seconds; the records of dead ones go later."""


class NestedHome:
    """A mesh of nodes whose tasks have children, and a program."""

    def __init__(
        self, nodes: int, workers: int, *, seed: int = 1, tree: VirtualTree | None = None
    ) -> None:
        self.world = World(seed)
        self.nest = Nest(self.world, tree or VirtualTree(seed, 6, 3))
        self.workers = workers
        self.nodes = [self.node(number) for number in range(nodes)]
        self.client = self.world.client("client", seeds=[SEED_ADDRESS])
        self.programs: list[NestedProgram] = []
        self.world.run(2.0)

    def node(self, number: int, life: str = "") -> Process:
        process = self.world.node(
            f"n{number}{life}",
            seeds=[SEED_ADDRESS, "tcp://n1:7077"] if number or life else [],
            workers=self.workers,
            endpoint=f"tcp://n{number}:7077",
        )
        return self.nest.settle(process)

    def submit(self, roots: list[Task], *, max_parallel: int = 0) -> NestedProgram:
        self.programs.append(self.nest.submit(self.client, roots, max_parallel=max_parallel))
        return self.programs[-1]

    def sweep(self) -> None:
        self.world.checkers.sweep()

    def until_done(self, *, within: float) -> float:
        """How long it takes."""
        since = self.world.now
        while not all(program.done for program in self.programs):
            assert self.world.now < since + within, "it does not end"
            assert self.world.step(), "nothing is going to happen any more"
        return self.world.now - since

    def nothing_is_left(self) -> None:
        self.world.run(self.world.now + LEFT_SECONDS)
        living = list(self.world.living())
        jobs = [(p.name, job.hex()) for p in living for job in p.core.holder.jobs]
        assert not jobs
        assert {p.name for p in living if not p.member.workers} == {"client"}
        for process in living:
            extra = [n for n in process.core.holder.slots.by_worker if n >= self.workers]
            assert not extra
            relief = [w for w in process.workers[self.workers :] if w.ready]
            assert not relief


def root(seed: int) -> Task:
    return mix(seed, 0), 0


@pytest.mark.parametrize(("nodes", "workers"), [(1, 2), (2, 1), (4, 2)])
def test_all_workers_share_the_children_of_one_task(nodes: int, workers: int) -> None:
    home = NestedHome(nodes, workers, tree=VirtualTree(3, 9, 4))
    home.submit([root(3)])
    alone = home.nest.worth(root(3))[0] * home.nest.seconds
    took = home.until_done(within=alone * 2)
    assert took < 1.35 * alone / (nodes * workers) + 0.5
    assert home.nest.came > 0
    home.nothing_is_left()


def test_nobody_is_asked_while_all_work() -> None:
    """One worker alone: its children stay."""
    home = NestedHome(1, 1)
    home.submit([root(1)])
    home.until_done(within=60.0)
    assert home.nest.given == 0


def test_children_of_a_bounded_job_stay() -> None:
    """What one of its items has submitted must not run beside more of them than the program allows."""
    home = NestedHome(2, 2)
    home.submit([root(1)], max_parallel=1)
    home.until_done(within=60.0)
    assert home.nest.given == 0


def test_a_worker_that_waits_is_relieved() -> None:
    """Both workers have children elsewhere again and again; more than two workers take part."""
    home = NestedHome(1, 2, tree=VirtualTree(3, 9, 4))
    home.submit([root(3)])
    home.until_done(within=120.0)
    assert home.nest.relieved > 0
    home.nothing_is_left()


def test_what_has_not_begun_comes_back() -> None:
    """A node is asked for children, and then all its workers have other things to do."""
    home = NestedHome(1, 2, tree=VirtualTree(3, 5, 4))
    home.submit([root(n) for n in range(2, 6)])
    home.until_done(within=120.0)
    home.nothing_is_left()


def play(seed: int) -> NestedHome:
    """A random world: workers and nodes die while they have children elsewhere."""
    rng = Random(f"{seed}/nested")
    nodes, workers = rng.randint(1, 4), rng.randint(1, 3)
    tree = VirtualTree(rng.getrandbits(32), rng.randint(3, 8), rng.randint(2, 4))
    home = NestedHome(nodes, workers, seed=seed, tree=tree)
    world, nest = home.world, home.nest
    roots = [(mix(seed, n), rng.randint(0, 2)) for n in range(rng.randint(1, 5))]
    roots = [each for each in roots if nest.worth(each)[0] < 1500] or [(1, tree.depth_max)]
    home.submit(roots)
    lives = 0
    for _ in range(rng.randint(0, 4)):
        world.run(world.now + rng.uniform(0.05, 1.5))
        home.sweep()
        node = rng.choice([each for each in home.nodes if each.alive] or home.nodes)
        deed = rng.choice(["worker", "worker", "node", "pause"])
        if deed == "worker" and node.alive:
            worker = rng.choice([each for each in node.workers if each.ready] or node.workers)
            assert isinstance(worker, NestingWorker)
            if worker.ready:
                worker._end(worker.life, "killed by signal 9", False)
        elif deed == "pause" and node.alive:
            world.pause(node)
            world.after(rng.uniform(0.1, 3.0), world.resume, node)
        elif deed == "node" and node.alive and nodes > 1:
            nest.crash(node)
            lives += 1
            number = home.nodes.index(node)
            world.run(world.now + 0.1)
            home.nodes[number] = home.node(number, f".{lives}")
    home.until_done(within=300.0)
    home.sweep()
    return home


@pytest.mark.parametrize("seed", range(12))
def test_random_worlds_of_tasks_inside_tasks(seed: int) -> None:
    """Each task counts each of its descendants once (`NestingWorker` checks it), and nothing is left."""
    play(seed).nothing_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 500))
def test_more_random_worlds_of_tasks_inside_tasks(seed: int) -> None:
    play(seed).nothing_is_left()
