"""A virtual program that reads a map whose results have Refs in them: their values stay on the nodes.

Does what a program does that keeps these Refs beyond the map: it reads some results, ends the map as the end of its
iterator does, wants some of the values later, and drops its Refs one by one. Decides nothing about copies.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from stealmesh_engine.effects import Deliver, JobDone
from stealmesh_engine.events import (
    CancelJob,
    CloseInput,
    Event,
    Feed,
    ForgetRecipe,
    OpenJob,
    ReleaseValue,
    WantValue,
)
from stealmesh_protocol.ids import JobId, ValueId, value_of_item
from stealmesh_protocol.messages import Block, JobKind
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish, watch, work_of
from stealmesh_sim.work import CostLaw, block_blob
from stealmesh_sim.world import World


class VirtualReader:
    """One map over `items`. It reads the first `reads` results that come."""

    def __init__(
        self,
        world: World,
        owner: Process,
        items: int,
        *,
        reads: int | None = None,
        octets: int = 50_000,
        law: CostLaw | None = None,
        fed: bool = False,
        block_items: int = 5,
    ) -> None:
        self.world = world
        self.owner = owner
        self.items = items
        self.octets = octets
        self.done_at: float | None = None
        self.held: list[ValueId] = []
        """The Refs that it has, in the order in which they came."""
        self.came = 0
        self._reads = items if reads is None else reads
        self.has_left = False
        """It reads no more."""
        work = work_of(world, owner, Wish(JobKind.MAP, items, law or CostLaw(), fed=fed))
        work.spec = replace(work.spec, stays_from=octets)
        self.work = work
        world.works[self.job] = work
        world.checkers.opened(work)
        world.values |= {value_of_item(self.job, item): octets for item in range(items)}
        watch(owner, self)
        total = 0 if fed else items
        functions = {work.spec.function: work.function}
        owner.hear(OpenJob(work.spec, total, total, fed, functions))
        if fed:
            for lo in range(0, items, block_items):
                hi = min(lo + block_items, items)
                self._tell(Feed(self.job, Block(lo, hi, 1, ()), block_blob(work.number, lo, hi)))
            self._tell(CloseInput(self.job))

    @property
    def job(self) -> JobId:
        return self.work.spec.job

    def _tell(self, event: Event) -> None:
        self.world.at(self.world.now, self.owner.hear, event)

    def shown(self, effect: Any) -> None:
        if isinstance(effect, JobDone):
            self.done_at = self.world.now
        elif isinstance(effect, Deliver):
            for item, _ in effect.part.stays:
                if effect.lo <= item < effect.hi:
                    self.came += 1
                    self._came(value_of_item(self.job, item))
            if self.came >= self._reads:
                self.leave()

    def _came(self, value: ValueId) -> None:
        self.held.append(value)
        if self.has_left:
            self.drop(value)  # nobody reads it

    def leave(self) -> None:
        """The iterator ends."""
        if not self.has_left:
            self.has_left = True
            self.world.at(self.world.now, self._cancel)

    def _cancel(self) -> None:
        """Behind the step that delivered the last result that it reads: more may have come with that."""
        self.world.checkers.accounts[self.job].unwanted.add(0, self.items)
        self.owner.hear(CancelJob(self.job))

    def want(self, value: ValueId) -> None:
        """`ref.result()`."""
        self._tell(WantValue(value))

    def has(self, value: ValueId) -> bool:
        return self.owner.shelf.is_right(value, self.octets)

    def drop(self, value: ValueId) -> None:
        """The last Ref of this value goes."""
        self.held.remove(value)
        self._tell(ReleaseValue(value))
        self._tell(ForgetRecipe(value))

    def drop_all(self) -> None:
        for value in list(self.held):
            self.drop(value)
