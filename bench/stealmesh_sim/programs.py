"""The programs that submit virtual jobs: they feed, wait, and change their minds.

Does what a user's program does to a core: opens jobs, feeds and releases their items, cancels
some, and collects what is delivered. Decides nothing about the work itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import msgpack

from stealmesh_engine.effects import Deliver, JobDone
from stealmesh_engine.events import (
    CancelItems,
    CloseInput,
    Feed,
    KeepValue,
    OpenJob,
    Release,
    ReleaseValue,
)
from stealmesh_protocol.ids import JobId, job_id, value_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Needs, Resources
from stealmesh_sim.process import Listener, Process
from stealmesh_sim.work import CostLaw, VirtualTree, Work, block_blob, function_blob
from stealmesh_sim.world import World


class Watcher(Protocol):
    """A part of a program that is shown what a core delivers of one job."""

    @property
    def job(self) -> JobId: ...

    def shown(self, effect: Any) -> None: ...


@dataclass(slots=True)
class Wish:
    """A job that a program is going to submit."""

    kind: JobKind = JobKind.MAP
    items: int = 100
    law: CostLaw = field(default_factory=CostLaw)
    at: float = 0.0
    fed: bool = False
    """The items come as blocks (always so for SUBMIT)."""
    block_items: int = 20
    feed_seconds: float = 0.0
    """Between two blocks."""
    alone: bool = False
    """It waits for each call before it makes the next."""
    think_seconds: float = 0.0
    """Between a result and the next call."""
    window: int | None = None
    """Of a range, how many items may be out at once; None: all."""
    killers: dict[int, int] = field(default_factory=dict)
    failing: frozenset[int] = frozenset()
    endless: frozenset[int] = frozenset()
    timeout: float = 0.0
    priority: int = 0
    max_parallel: int = 0
    speculate: bool = False
    resources: Resources = ()
    again: dict[int, list[float]] = field(default_factory=dict)
    """As in Work."""
    retries: int = 0
    cancels: list[tuple[float, int, int]] = field(default_factory=list)
    """When (after the start) which items are no longer wanted."""
    stops: bool = False
    """Those of them that run are stopped."""
    tree: VirtualTree | None = None
    chunk_items: int = 0
    actor: bool = False
    """Its items are calls of one actor."""
    restarts: int = 0
    together: int = 0
    """How many of them a worker runs side by side; 0: as the node has threads."""
    runtime: str = ""
    """The Python that the functions are made for; empty: any."""
    module: str = ""
    needy: frozenset[int] | None = None
    """As in Work."""
    values: int = 0
    """How many values the program puts on the mesh for it; the blocks need them in turn."""
    value_octets: int = 100_000
    function_needs: int = 0
    """How many of them the functions need, and so every item."""
    function: str = ""
    """Jobs may share one; empty: a function of its own."""


class VirtualProgram:
    """One job of a client, from its submission to its end."""

    def __init__(self, world: World, owner: Process, wish: Wish) -> None:
        self.world = world
        self.owner = owner
        self.wish = wish
        self.work = work_of(world, owner, wish)
        self.opened_at: float | None = None
        self.done_at: float | None = None
        self._fed = 0
        self._released = 0
        self._received = 0
        self.values = [
            value_id(owner.member.id, (self.work.number << 16) + each)
            for each in range(wish.values)
        ]
        world.works[self.job] = self.work
        world.values.update(dict.fromkeys(self.values, wish.value_octets))
        world.checkers.opened(self.work)
        if wish.speculate:
            self.work.lent_twice = True
            world.checkers.placing.lent_twice.add(self.job)
        watch(owner, self)
        world.at(max(world.now, wish.at), self._open)

    @property
    def job(self) -> JobId:
        return self.work.spec.job

    @property
    def done(self) -> bool:
        return self.done_at is not None

    # ------------------------------------------------------------ submitting

    def _open(self) -> None:
        if not self.owner.alive:
            return
        self.opened_at = self.world.now
        wish, work = self.wish, self.work
        for value in self.values:
            self.owner.shelf.put(value, wish.value_octets)
            self.owner.hear(KeepValue(value, wish.value_octets))
        functions = {work.spec.function: work.function}
        if work.combine:
            functions[work.spec.combine] = work.combine
        fed = wish.fed or wish.kind in (JobKind.SUBMIT, JobKind.EXPLORE)
        total = 0 if fed else wish.items
        self._released = total if wish.window is None else min(total, wish.window)
        self.owner.hear(OpenJob(work.spec, total, self._released, fed, functions, wish.speculate))
        if wish.kind is JobKind.EXPLORE:
            assert wish.tree is not None
            self.owner.hear(Feed(self.job, Block(0, 1, 0), msgpack.encode([wish.tree.root()])))
            self.owner.hear(CloseInput(self.job))
        elif fed:
            self._feed()
        for after, lo, hi in wish.cancels:
            self.world.after(after, self._cancel, lo, hi)

    def _feed(self) -> None:
        """Feed one block, and the next after a while."""
        if not self.owner.alive:
            return
        lo = self._fed
        hi = min(lo + (1 if self.wish.alone else self.wish.block_items), self.wish.items)
        if lo < hi:
            self._fed = hi
            blob = block_blob(self.work.number, lo, hi)
            needs = self._needs_of_block(lo // self.wish.block_items)
            self.owner.hear(Feed(self.job, Block(lo, hi, 1, needs), blob))
        if self._fed < self.wish.items:
            if not self.wish.alone:
                self.world.after(self.wish.feed_seconds, self._feed)
        else:
            self.owner.hear(CloseInput(self.job))

    def _needs_of_block(self, number: int) -> Needs:
        """One value, another one in the next block, and now and then all of them."""
        if not self.values or number % 7 == 3:
            return tuple(self.values)
        return (self.values[number % len(self.values)],)

    def _cancel(self, lo: int, hi: int) -> None:
        if not self.owner.alive or self.done:
            return
        hi = min(hi, self._fed or self._released)
        if lo < hi:
            if self.wish.alone and lo < self._fed <= hi and not self._is_over(self._fed - 1):
                self._next()  # its result will not come
            self.owner.hear(CancelItems(self.job, [(lo, hi)], self.wish.stops))
            if self.wish.window is not None:
                # Cancelled items never come, so the window cannot wait for them.
                self.wish.window = self.wish.items
                self.owner.hear(Release(self.job, self.wish.items))

    # ------------------------------------------------------------ collecting

    def shown(self, effect: Any) -> None:
        if isinstance(effect, JobDone):
            self.done_at = self.world.now
            for value in self.values:
                self.world.at(self.world.now, self.owner.hear, ReleaseValue(value))
        elif isinstance(effect, Deliver) and self.wish.alone:
            if effect.hi == self._fed:
                self._next()
        elif isinstance(effect, Deliver) and self.wish.window is not None:
            self._received += effect.hi - effect.lo
            upto = min(self._received + self.wish.window, self.wish.items)
            step = 1 if self.wish.block_items == 1 else max(1, self.wish.window // 4)
            if upto >= min(self._released + step, self.wish.items) > self._released:
                self._released = upto
                self.world.at(self.world.now, self.owner.hear, Release(self.job, upto))

    def _next(self) -> None:
        """The last call is over: make the next one after a while."""
        self.world.after(self.wish.think_seconds, self._feed)

    def _is_over(self, item: int) -> bool:
        account = self.world.checkers.accounts[self.job]
        return account.delivered.covers(item, item + 1) or account.unwanted.covers(item, item + 1)


class Audience:
    """The programs of one process: each is shown what is about its own job."""

    def __init__(self, before: Listener | None) -> None:
        self.by_job: dict[JobId, Watcher] = {}
        self._before = before

    def __call__(self, process: Process, effect: Any) -> None:
        job: JobId = getattr(effect, "job", b"")  # an answer to a look is about no job alone
        program = self.by_job.get(job)
        if program is not None:
            program.shown(effect)
        elif self._before is not None:
            self._before(process, effect)


def watch(owner: Process, program: Watcher) -> None:
    """Show this program what its owner delivers of its job."""
    audience = owner.listener
    if not isinstance(audience, Audience):
        audience = owner.listener = Audience(audience)
    audience.by_job[program.job] = program


def work_of(world: World, owner: Process, wish: Wish) -> Work:
    number = len(world.works) + 1
    function, digest = function_blob(wish.function or f"f{number}")
    combine, combine_digest = b"", b""
    if wish.kind in (JobKind.REDUCE, JobKind.EXPLORE):
        combine, combine_digest = function_blob(f"c{number}")
    fed = wish.fed or wish.kind is JobKind.SUBMIT
    spec = JobSpec(
        job_id(owner.member.id, number),
        wish.kind,
        owner.member.id,
        f"job{number}",
        digest,
        combine_digest,
        step=0 if fed or wish.kind is JobKind.EXPLORE else 1,
        priority=wish.priority,
        retries=wish.retries,
        timeout=wish.timeout,
        chunk_items=wish.chunk_items,
        runtime=wish.runtime,
        max_parallel=wish.max_parallel,
        resources=wish.resources,
        together=wish.together,
        needs=tuple(
            value_id(owner.member.id, (number << 16) + each) for each in range(wish.function_needs)
        ),
        life=int(wish.actor),
        restarts=wish.restarts,
    )
    expected = wish.tree.totals() if wish.tree is not None else (0, 0)
    return Work(
        number,
        spec,
        wish.items,
        wish.law,
        wish.tree,
        expected,
        function,
        combine,
        dict(wish.killers),
        wish.failing,
        wish.endless,
        {item: list(said) for item, said in wish.again.items()},
        module=wish.module,
        needy=wish.needy,
    )
