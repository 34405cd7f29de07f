"""Scenarios in virtual time with work that depends on work: pipelines of kept results, trees of tasks, actors.

Does: keeps some of it going as long as the scenario lasts, and adds up what the checkers of the world saw. Of
graphs only chains of calls are played, with results that stay on the nodes. The workers of a tree are clients with
connections of their own, which a scenario does not cut. Refuses to know what is broken meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stealmesh_bench.chaos.report import ChaosReport, Measured
from stealmesh_bench.chaos.scenario import Scenario
from stealmesh_bench.chaos.simulated_stage import LOOK_SECONDS, LenientCheckers, SimulatedStage
from stealmesh_engine.effects import Deliver
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.nested import Nest, NestedProgram
from stealmesh_sim.pipelines import VirtualPipeline
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw, VirtualTree, mix
from stealmesh_sim.world import World

PIPELINE_NODES = 4
"""One pipeline runs for this number of nodes."""
LINES = 12
CALL_OF_PIPELINE_SECONDS = 0.05
STAGES_MIN, STAGES_MAX = 2, 5
OCTETS = (1_000, 50_000, 2_000_000)
TREE_DEPTH_MAX, TREE_BRANCHING = 5, 3
LATE_SECONDS = 0.3
CALL_SECONDS = 0.005
BURST = 5
BURST_SECONDS = 0.1
RESTARTS = (0, 3, 1, 100)


class JobCheckers(LenientCheckers):
    """Also tells what is delivered."""

    def __init__(self, world: World, delivers: Callable[[Deliver], None]) -> None:
        super().__init__(world)
        self._delivers = delivers

    def that(self, holds: bool, kind: str, text: str) -> None:
        super().that(holds, kind, text)
        self.wrong += not holds and kind == "nested"

    def delivered(self, effect: Deliver) -> None:
        super().delivered(effect)
        self._delivers(effect)


class SimulatedJobStage(SimulatedStage):
    """A world in which the program goes on submitting for as long as the scenario lasts."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        super().__init__(scenario, report)
        self.world.checkers = self.checkers = JobCheckers(self.world, self._delivered)
        self.draws = Random(f"{scenario.seed}/jobs")
        self.over = False
        """Nothing more is submitted."""

    def _begin_work(self, client: Process) -> None:
        self._submit_more(client)

    def _submit_more(self, client: Process) -> None:
        if self.world.now >= self.flow + self.scenario.seconds:
            self.over = True
            return
        self._keep_going(client)
        self.world.after(LOOK_SECONDS, self._submit_more, client)

    def _keep_going(self, client: Process) -> None:
        """Submit what is missing of as much as should be going on."""
        raise NotImplementedError

    def _jobs(self) -> list[JobId]:
        """All that was submitted."""
        raise NotImplementedError

    def _undone(self) -> int:
        raise NotImplementedError

    def _delivered(self, effect: Deliver) -> None:
        self.goodput.add(self.world.now - self.flow, effect.hi - effect.lo)

    def _is_done(self) -> bool:
        return self.over and not self._undone()

    def _how_far(self) -> str:
        return f"{self._undone()} of {len(self._jobs())} do not end"

    def _add_up(self) -> None:
        report, accounts = self.report, [self.checkers.accounts[job] for job in self._jobs()]
        report.accepted = sum(account.work.total for account in accounts)
        delivered = sum(hi - lo for account in accounts for lo, hi in account.delivered)
        report.lost = report.accepted - delivered if self._is_done() else 0
        report.duplicated, report.wrong = self.checkers.doubled, self.checkers.wrong
        report.run_twice = self._run_twice(delivered)

    def _run_twice(self, delivered: int) -> int | None:
        return None if self.rival is not None else max(0, self._ran() - delivered)

    def _recovery(self) -> Measured:
        return Measured(agreement=True)  # what comes is too uneven to see a recovery in it


class SimulatedPipelines(SimulatedJobStage):
    """`--job graph`."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        super().__init__(scenario, report)
        self.pipelines: list[VirtualPipeline] = []

    def _keep_going(self, client: Process) -> None:
        draws, world = self.draws, self.world
        wanted = max(2, self.scenario.nodes // PIPELINE_NODES)
        for _ in range(wanted - self._undone()):
            law = CostLaw(
                "exponential",
                max(CALL_OF_PIPELINE_SECONDS, self.item_seconds),
                draws.getrandbits(32),
            )
            stages, octets = draws.randint(STAGES_MIN, STAGES_MAX), draws.choice(OCTETS)
            self.pipelines.append(
                VirtualPipeline(world, client, LINES, stages=stages, octets=octets, law=law)
            )

    def _jobs(self) -> list[JobId]:
        return [stage.job for pipeline in self.pipelines for stage in pipeline.stages]

    def _undone(self) -> int:
        return sum(not pipeline.done for pipeline in self.pipelines)

    def _add_up(self) -> None:
        super()._add_up()
        failed = sum(pipeline.failed for pipeline in self.pipelines)
        if failed:
            self.report.breaches.append(f"{failed} calls failed")
        made = sum(p.core.counters.get("values-made-again", 0) for p in self.world.processes)
        self.report.notes.append(f"{made} values were made again")


class SimulatedTrees(SimulatedJobStage):
    """`--job nested`. What is counted are the tasks of all trees."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        super().__init__(scenario, report)
        tree = VirtualTree(scenario.seed, TREE_DEPTH_MAX, TREE_BRANCHING)
        self.nest = Nest(self.world, tree, max(0.01, scenario.nodes / 2000), LATE_SECONDS)
        self.trees: list[NestedProgram] = []

    def _seat(self, number: int, seeds: list[str] | None) -> None:
        super()._seat(number, seeds)
        self.nest.settle(self.seats[-1].process)

    def _restart(self, process: Process, seeds: list[str]) -> Process:
        endpoint = process.member.endpoints[0]
        return self.nest.settle(self.world.node(f"{process.name}'", seeds=seeds, endpoint=endpoint))

    def _crash(self, process: Process, *, silent: bool) -> None:
        self.nest.crash(process, silent=silent)

    def _keep_going(self, client: Process) -> None:
        for _ in range(self.scenario.nodes + 1 - self._undone()):
            root = mix(self.scenario.seed, len(self.trees)), 1
            self.trees.append(self.nest.submit(client, [root]))

    def _jobs(self) -> list[JobId]:
        return [tree.job for tree in self.trees]

    def _undone(self) -> int:
        return sum(not tree.done for tree in self.trees)

    def _add_up(self) -> None:
        super()._add_up()
        accepted = came = 0
        for tree in self.trees:
            tasks, _ = self.nest.worth(self.nest.roots[tree.job][0])
            accepted += tasks
            came += tasks if self.checkers.accounts[tree.job].delivered.size else 0
        self.report.accepted = accepted
        self.report.lost = accepted - came if self._is_done() else 0
        self.report.run_twice = max(0, self.nest.ran - came)


class SimulatedActors(SimulatedJobStage):
    """`--job actors`. The checkers of the world judge their lives."""

    def __init__(self, scenario: Scenario, report: ChaosReport) -> None:
        super().__init__(scenario, report)
        self.actors: list[VirtualProgram] = []

    def _keep_going(self, client: Process) -> None:
        if self.actors:
            return
        calls = max(BURST, int(self.scenario.seconds / BURST_SECONDS) * BURST)
        law = CostLaw("const", CALL_SECONDS)
        for number in range(max(len(RESTARTS), self.scenario.nodes)):
            wish = Wish(
                JobKind.SUBMIT, calls, law, self.world.now, block_items=BURST,
                feed_seconds=BURST_SECONDS, actor=True, restarts=RESTARTS[number % len(RESTARTS)],
            )  # fmt: skip
            self.actors.append(VirtualProgram(self.world, client, wish))

    def _jobs(self) -> list[JobId]:
        return [actor.job for actor in self.actors]

    def _undone(self) -> int:
        return sum(not actor.done for actor in self.actors)

    def _run_twice(self, delivered: int) -> int | None:
        lives = (self.checkers.actors.lives.get(job) for job in self._jobs())
        return sum(
            times - 1 for each in lives if each for times in each.times.values() if times > 1
        )

    def _add_up(self) -> None:
        super()._add_up()
        failed = sum(self.checkers.accounts[job].failed for job in self._jobs())
        deaths = sum(self.checkers.actors.deaths.values())
        self.report.notes.append(f"{failed} calls failed by name; {deaths} lives ended")


STAGES: dict[str, type[SimulatedJobStage]] = {
    "graph": SimulatedPipelines,
    "nested": SimulatedTrees,
    "actors": SimulatedActors,
}
