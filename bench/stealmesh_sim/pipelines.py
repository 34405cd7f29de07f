"""A virtual program whose calls are made of each other's results, which stay on the nodes.

Does what a program with `keep=True` does: it submits a call when its input is there, lets go of a result when
nothing of its own needs it any more, and forgets its recipe when nothing is left that was made of it. Decides
nothing about copies. Each stage is a job, and item k of a stage needs one item of the stage before.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from stealmesh_engine.effects import Deliver, JobDone
from stealmesh_engine.events import CloseInput, Event, Feed, ForgetRecipe, OpenJob, ReleaseValue
from stealmesh_protocol.ids import JobId, ValueId, value_of_item
from stealmesh_protocol.messages import Block, JobKind
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish, watch, work_of
from stealmesh_sim.work import CostLaw, Work, block_blob
from stealmesh_sim.world import World


class Stage:
    """One job of a pipeline."""

    def __init__(self, pipeline: VirtualPipeline, number: int, work: Work) -> None:
        self.pipeline = pipeline
        self.number = number
        self.work = work
        self.lines: list[int] = []
        """Item → which line of the pipeline it belongs to."""
        self.done_at: float | None = None

    @property
    def job(self) -> JobId:
        return self.work.spec.job

    def value(self, line: int) -> ValueId:
        return value_of_item(self.job, self.lines.index(line))

    def shown(self, effect: Any) -> None:
        if isinstance(effect, JobDone):
            self.done_at = self.pipeline.world.now
        elif isinstance(effect, Deliver):
            for item in range(effect.lo, effect.hi):
                self.pipeline.delivered(self.number, self.lines[item], failed=effect.part.failed)


class VirtualPipeline:
    """`lines` chains of `stages` calls each. Every third result of the program's is held to the end."""

    def __init__(
        self,
        world: World,
        owner: Process,
        lines: int,
        *,
        stages: int = 3,
        octets: int = 50_000,
        law: CostLaw | None = None,
        releases: bool = True,
        last_law: CostLaw | None = None,
    ) -> None:
        self.world = world
        self.owner = owner
        self.count = lines
        self.releases = releases
        """False: it holds all futures until `let_go`."""
        self.failed = 0
        self._over_at: list[set[int]] = [set() for _ in range(stages)]
        self._held: set[tuple[int, int]] = set()
        self.stages: list[Stage] = []
        for number in range(stages):
            costs = last_law if number == stages - 1 and last_law is not None else law
            work = work_of(world, owner, Wish(JobKind.SUBMIT, lines, costs or CostLaw()))
            if number < stages - 1:
                work.spec = replace(work.spec, stays_from=octets)
            world.works[work.spec.job] = work
            world.checkers.opened(work)
            stage = Stage(self, number, work)
            self.stages.append(stage)
            watch(owner, stage)
            for line in range(lines):
                world.values[value_of_item(work.spec.job, line)] = octets
            functions = {work.spec.function: work.function}
            owner.hear(OpenJob(work.spec, 0, 0, True, functions))
        for line in range(lines):
            self._feed(0, line)

    @property
    def done(self) -> bool:
        return all(stage.done_at is not None for stage in self.stages)

    def _tell(self, event: Event) -> None:
        self.world.at(self.world.now, self.owner.hear, event)

    def _feed(self, number: int, line: int) -> None:
        stage = self.stages[number]
        item = len(stage.lines)
        stage.lines.append(line)
        needs = (self.stages[number - 1].value(line),) if number else ()
        blob = block_blob(stage.work.number, item, item + 1)
        self._tell(Feed(stage.job, Block(item, item + 1, 1, needs), blob))
        if item + 1 == self.count:
            self._tell(CloseInput(stage.job))

    def delivered(self, number: int, line: int, *, failed: int) -> None:
        """A call is over: what it needed is not needed for it any more."""
        self.failed += failed
        self._over_at[number].add(line)
        last = len(self.stages) - 1
        if number < last:
            self._held.add((number, line))
            self._feed(number + 1, line)
        if number and (line % 3 or number == last) and self.releases:
            self.release(number - 1, line)
        if number == last and self.releases:
            self._over(line)

    def results_of(self, number: int) -> set[int]:
        """Lines whose call of this stage is over."""
        return self._over_at[number]

    def release(self, number: int, line: int) -> None:
        """The program needs this result no more."""
        if (number, line) in self._held:
            self._held.discard((number, line))
            self._tell(ReleaseValue(self.stages[number].value(line)))

    def _over(self, line: int) -> None:
        """The program has the last result: nothing of this line is needed, the last recipe first."""
        for number in reversed(range(len(self.stages) - 1)):
            self.release(number, line)
            self._tell(ForgetRecipe(self.stages[number].value(line)))

    def let_go(self) -> None:
        """The program drops its futures, all of them."""
        for line in sorted(self._over_at[-1]):
            self._over(line)
