"""Hired workers of a virtual world: what goes between a program and a worker past the worker's node.

Does: HireOut, EndHire, FetchHired, OrderHired, DropHired. Decides nothing about work. Every way takes a time of its own,
drawn from the seed, so that orders, answers and ends meet in all orders. What a worker has said lies in its box at
once, as in a socket, and is told a moment later; who drops the hire is told it first.

Harder than life: the hired worker of a node that has died may take one order more, and another one.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any, Protocol

from stealmesh_engine import effects as fx
from stealmesh_engine.events import (
    ChunkDone,
    Event,
    HireCame,
    HiredAnswer,
    HireEnded,
    HireReadOut,
    ItemTold,
)
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Part
from stealmesh_sim.kernel import Clock

WAYS_SECONDS = (0.00002, 0.00005, 0.0004, 0.003)


OwnLeases = dict[tuple[JobId, LeaseId], bool]
"""Leases that somebody speaks of → does the ledger name the speaker as their holder?"""


class HiredBody(Protocol):
    """A worker's process."""

    number: int
    ready: bool
    lo: int
    queue: deque[fx.RunChunk]
    running: fx.RunChunk | None
    hire: VirtualHire | None

    def run(self, effect: fx.RunChunk) -> None: ...


class HireHost(Protocol):
    """A process at one end of a hire."""

    alive: bool
    inbox: list[Event]

    @property
    def member(self) -> Any: ...

    def worker_at(self, number: int) -> Any: ...

    @property
    def world(self) -> Any: ...

    def hear(self, event: Event) -> None: ...


class VirtualHires:
    """All hires of a world, by owner and number."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.rng = Random(f"{seed}/hires")
        self.by_name: dict[tuple[PeerId, int], VirtualHire] = {}
        self.begun = 0
        self.served = 0
        """Items that hired workers have answered."""
        self.moved = 0
        """Items that ended as their node's."""

    def way(self) -> float:
        return self.rng.choice(WAYS_SECONDS)

    # ------------------------------------------------------------ the node's host

    def hire_out(self, node: HireHost, effect: fx.HireOut) -> None:
        worker = node.worker_at(effect.worker)
        if not worker.ready:  # it has died, as the core is about to hear
            node.hear(HireEnded(effect.worker, effect.chunk))
            return
        self.begun += 1
        hire = VirtualHire(self, node, worker, effect)
        self.by_name[effect.owner, effect.hire] = hire

    def end(self, node: HireHost, effect: fx.EndHire) -> None:
        hire = node.worker_at(effect.worker).hire
        if hire is not None:
            self.clock.after(self.way(), hire.end, effect.chunk)

    # ------------------------------------------------------------ the owner's host

    def fetch(self, owner: HireHost, effect: fx.FetchHired) -> None:
        self.clock.after(self.way(), self._fetched, owner, effect)

    def _fetched(self, owner: HireHost, effect: fx.FetchHired) -> None:
        hire = self.by_name.get((owner.member.id, effect.hire))
        here = hire is not None and not hire.over and hire.node.alive
        if here and hire is not None:
            hire.owner = owner
        owner.hear(HireCame(effect.hire, effect.job, here))

    def order(self, owner: HireHost, effect: fx.OrderHired) -> None:
        hire = self.by_name.get((owner.member.id, effect.hire))
        if hire is not None:
            owner.world.checkers.later.leased(hire.job, [effect.lease])
            self.clock.after(self.way(), hire.read, effect)

    def drop(self, owner: HireHost, effect: fx.DropHired) -> None:
        hire = self.by_name.get((owner.member.id, effect.hire))
        if hire is not None:
            hire.dropped = True
            while hire.box:
                owner.hear(hire.box.popleft())
            self.clock.after(self.way(), hire.end, hire.number)  # it reads the end
        owner.hear(HireReadOut(effect.hire, effect.job))

    def owner_gone(self, owner: HireHost) -> None:
        """Its ends of all hires close."""
        for (peer, _), hire in self.by_name.items():
            if peer == owner.member.id and not hire.over:
                hire.dropped = True
                self.clock.after(self.way(), hire.end, hire.number)


class VirtualHire:
    """One worker that takes orders from a program."""

    def __init__(
        self, hires: VirtualHires, node: HireHost, worker: HiredBody, effect: fx.HireOut
    ) -> None:
        check = node.world.checkers
        idle = worker.ready and worker.running is None and not worker.queue
        check.that(idle and worker.hire is None, "hire", "a busy worker is hired out")
        self.hires = hires
        self.node = node
        self.worker = worker
        self.number = effect.chunk
        self.hire = effect.hire
        self.job: JobId = effect.spec.job
        self.effect = effect
        self.owner: HireHost | None = None
        self.box: deque[HiredAnswer] = deque()
        self.dropped = False
        self.over = False
        self.handing = False
        self.lid = 0
        worker.hire = self

    def read(self, order: fx.OrderHired) -> None:
        """The worker reads an order, unless the hire has ended before."""
        worker, lease, spec = self.worker, order.lease, self.effect.spec
        if not self.node.alive and self.hires.rng.random() < 0.5:
            self.over = True  # its node's end has reached it
        if self.over:
            return
        idle = worker.running is None and not worker.queue
        self.node.world.checkers.that(idle, "hire", "a hired worker gets a second item")
        self.lid = lease.lid
        chunk = fx.RunChunk(
            worker.number, self.number, spec, lease.lo, lease.hi, [(order.block, order.blob)],
            self.effect.function,
        )  # fmt: skip
        self.handing = True
        worker.run(chunk)
        self.handing = False

    def hears(self, event: Event) -> bool:
        """The worker says this. False: it says it to its node, as the hire ends by that."""
        if isinstance(event, ItemTold) or (isinstance(event, ChunkDone) and event.stays):
            told = event.item if isinstance(event, ItemTold) else (event.upto or 0) - 1
            self.end(self.number, told)
            return False
        assert isinstance(event, ChunkDone), "a single item is done, or not"
        upto = event.upto if event.upto is not None else 0
        part = Part(self.lid, upto - 1, upto, event.codec, event.seconds, event.failed)
        node = self.node.member.id
        self.box.append(HiredAnswer(self.hire, self.job, node, part, event.blob))
        self.hires.served += 1
        self.hires.clock.after(self.hires.way(), self._tell)
        return True

    def _tell(self) -> None:
        if self.box and self.owner is not None and not self.dropped:
            self.owner.hear(self.box.popleft())

    def end(self, number: int, told: int = -1) -> None:
        """The worker is its node's again. What it is at goes on."""
        if self.over or number != self.number:
            return
        self.over = True
        worker = self.worker
        worker.hire = None
        if worker.running is None:
            worker.queue.clear()  # not begun
        item = worker.lo if worker.running is not None else told
        self.hires.moved += item >= 0
        ended = HireEnded(worker.number, self.number, self.lid if item >= 0 else 0, item)
        if worker.ready:
            self.node.hear(ended)
        else:  # its node hears of both together
            self.node.inbox.append(ended)


def leases_of(owner: Any, event: HiredAnswer) -> OwnLeases:
    """Lease of this answer → does the ledger name its node as the holder now?"""
    job, lid = owner.core.owner.jobs.get(event.job), event.part.lid
    return {} if job is None else {(event.job, lid): job.ledger.holds(event.node, lid)}
