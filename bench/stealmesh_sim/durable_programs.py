"""Programs with durable virtual jobs: they launch, end or are killed; others attach and collect.

Decides nothing about the work itself. The checkers look at every result that a reader gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from stealmesh_engine.durable.slices import cut, slice_items_of
from stealmesh_engine.effects import Accepted, JobGone, Results
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, LaunchJob, SupplyJob
from stealmesh_protocol.accounts import NO_WORD
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Block, JobKind, Kept
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish, watch, work_of
from stealmesh_sim.work import PRIME, Work, block_blob
from stealmesh_sim.world import World

_partial = msgspec.msgpack.Decoder(tuple[int, int]).decode


@dataclass(slots=True)
class Found:
    """What the partials of a search come to."""

    count: int = 0
    total: int = 0

    def add(self, kept: Kept, blob: bytes) -> None:
        try:
            count, total = _partial(blob) if blob and not kept.part.failed else (0, 0)
        except msgspec.MsgspecError:
            count, total = -1, 0  # a liar's: the sum is wrong then, and is judged
        self.count += count
        self.total = (self.total + total) % PRIME


class DurableReader:
    """Collects the results of one durable job, in order, as a client attached to it."""

    def __init__(self, world: World, client: Process, work: Work, *, attach: bool = True) -> None:
        self.world = world
        self.owner = client
        self.work = work
        self.position = 0
        self.state = ""
        self.gone = ""
        self.missing: list[tuple[int, int]] = []
        self.done_at: float | None = None
        self.account = NO_WORD
        """Of an explore job: which account the results are of, and what they come to."""
        self.found = Found()
        watch(client, self)
        if attach:
            client.hear(AttachJob(self.job))
            client.hear(FetchResults(self.job, 0))

    @property
    def job(self) -> JobId:
        return self.work.spec.job

    @property
    def done(self) -> bool:
        return self.done_at is not None

    def shown(self, effect: Any) -> None:
        if isinstance(effect, Results):
            self._collect(effect)
        elif isinstance(effect, JobGone):
            self.gone, self.done_at = effect.why, self.world.now

    def _collect(self, effect: Results) -> None:
        if self.done:
            return
        self.state = effect.line.state
        is_search = self.work.spec.kind is JobKind.EXPLORE
        if is_search and effect.account != self.account:
            self.account, self.found = effect.account, Found()
            if self.position:
                self.position = 0
                self.owner.hear(FetchResults(self.job, 0))
                return
        for kept, blob in zip(effect.results, effect.blobs, strict=True):
            if is_search:
                self.found.add(kept, blob)
            else:
                self.world.checkers.fetched(self.work, self.position, kept, blob)
            self.position = kept.hi
        self.missing = effect.missing
        over = effect.closed and self.position == effect.line.total
        if over or effect.missing or effect.line.state == "cancelled":
            self.done_at = self.world.now
            if over and is_search:
                found, wanted = (self.found.count, self.found.total), self.work.expected
                text = f"durable job {self.work.number} came to {found}, not {wanted}"
                self.world.checkers.that(found == wanted, "delivery", text)
            elif over:
                total = self.work.total
                self.world.checkers.that(
                    self.position == total, "delivery", f"{self.position} of {total} items came"
                )
        if effect.results or over:
            self.owner.hear(FetchResults(self.job, self.position, not self.done))


class Launcher(DurableReader):
    """Submits a durable job and collects it, if it lives long enough."""

    def __init__(
        self,
        world: World,
        client: Process,
        wish: Wish,
        *,
        collects: bool = True,
        slice_items: int | None = None,
    ) -> None:
        work = work_of(world, client, wish)
        if slice_items is not None and wish.kind in (JobKind.MAP, JobKind.REDUCE):
            total = None if wish.fed else wish.items
            work.spec = replace(work.spec, job=cut(work.spec.job, total, slice_items))
        super().__init__(world, client, work, attach=False)
        self.wish = wish
        self.collects = collects
        self.opened_at: float | None = None
        self.accepted = False
        self.accepted_whole = False
        self.refusal = ""
        self._fed = 0
        world.works[self.job] = work
        world.at(max(world.now, wish.at), self._open)

    def shown(self, effect: Any) -> None:
        if isinstance(effect, Accepted):
            if effect.refusal:
                self.refusal, self.done_at = effect.refusal, self.world.now
                return
            if not self.accepted and self.collects:
                self.owner.hear(FetchResults(self.job, 0))
            self.accepted = True
            self.accepted_whole = self.accepted_whole or effect.closed
        else:
            super().shown(effect)

    def abolish(self, *, stop: bool = False) -> None:
        self.owner.hear(AbolishJob(self.job, stop))

    def _open(self) -> None:
        if not self.owner.alive:
            return
        self.opened_at = self.world.now
        work, wish = self.work, self.wish
        functions = [work.function, *([work.combine] if work.combine else [])]
        total = 0 if wish.fed or wish.tree else wish.items
        self.owner.hear(LaunchJob(work.spec, total, functions))
        if wish.tree is not None:
            roots = msgspec.msgpack.encode([wish.tree.root()])
            self.owner.hear(SupplyJob(self.job, Block(0, 1, 0), roots, True))
        elif wish.fed:
            self._feed()

    def _feed(self) -> None:
        if not self.owner.alive or self.done:
            return
        lo, hi = self._fed, min(self._fed + self.wish.block_items, self.wish.items)
        slice_items = slice_items_of(self.job)
        if slice_items is not None:
            hi = min(hi, lo - lo % slice_items + slice_items)
        self._fed = hi
        closed = hi == self.wish.items
        if lo < hi:
            blob = block_blob(self.work.number, lo, hi)
            self.owner.hear(SupplyJob(self.job, Block(lo, hi, 1), blob, closed))
        else:
            self.owner.hear(SupplyJob(self.job, closed=True))
        if not closed:
            self.world.after(self.wish.feed_seconds, self._feed)
