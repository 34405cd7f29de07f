"""What is in stock at a node: the jobs that have something for a worker, and which of them is next.

Decides the order of jobs: by priority, then by the fewest chunks at workers, then by the longest wait.
Refuses to know which worker is free and how large a chunk is (`dispatcher.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from stealmesh_engine.base.functions import ShippedFunctions
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import Chunk, Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Resources


class Stock(dict[JobId, None]):
    """Jobs with items that no worker has and with all their functions and values here, in the order in which they came."""

    def __init__(
        self,
        config: Config,
        links: Links,
        jobs: HeldJobs,
        slots: Slots,
        functions: ShippedFunctions,
        values: Values,
    ) -> None:
        super().__init__()
        self._config = config
        self._links = links
        self._jobs = jobs
        self._slots = slots
        self._functions = functions
        self.beside: dict[JobId, None] = {}
        """Those of them that workers run side by side."""
        self._values = values
        self.actors: dict[JobId, None] = {}
        """Actors with calls that wait. They are in no other list, so no thief and no worker gets them."""
        self._turns: dict[JobId, int] = {}
        """The number of the last chunk of each job that a worker got."""

    def restock(self, held: HeldJob) -> None:
        """Some of its items, or its functions, have come or gone."""
        job, needs = held.spec.job, held.spec.needs
        ready = held.bags.queued_items and not self._functions.lacks(held.spec)
        ready = ready and not (needs and self._values.lacks(needs))
        if held.spec.life:
            self.actors.pop(job, None)
            if ready:
                self.actors[job] = None
        elif ready:
            self.setdefault(job, None)
            if held.bags.together:
                self.beside[job] = None
        else:
            self.pop(job, None)
            self.beside.pop(job, None)

    def jobs(self) -> list[HeldJob]:
        return [self._jobs[job] for job in self]

    def handed_out(self, held: HeldJob, number: int) -> None:
        """A worker gets a chunk of this job; it has this number."""
        self._turns[held.spec.job] = number
        if held.bags.opaque:
            self._slots.gets_bag()
        self.restock(held)

    def job_over(self, job: JobId) -> None:
        self.pop(job, None)
        self.beside.pop(job, None)
        self.actors.pop(job, None)
        self._turns.pop(job, None)

    def next_job(self, fits: Callable[[HeldJob], bool] | None = None) -> HeldJob | None:
        """By priority, then by the fewest chunks at workers, then by the longest wait. None: all are
        held up, or there are none. Of the jobs that run side by side, those that `fits` finds room for;
        without it, of all others."""
        best: HeldJob | None = None
        best_rank = (0, 0, 0)
        at_workers: dict[JobId, int] = {}
        if len(self) > 1:
            for chunk in self._slots.chunks():
                at_workers[chunk.job] = at_workers.get(chunk.job, 0) + 1
        for held in self.jobs():
            job = held.spec.job
            rank = (held.spec.priority, -at_workers.get(job, 0), -self._turns.get(job, 0))
            if best is not None and rank <= best_rank:
                continue
            if held.bags.together if fits is None else not fits(held):
                continue
            if self.is_held_up(held):
                continue
            best, best_rank = held, rank
        return best

    def unserved(self) -> list[int]:
        """The priorities of the small jobs in stock with nothing at a worker. (A large one can wait until
        a chunk ends, and a bag runs for long in any case.)"""
        if len(self) == 1:
            (job,) = self
            if self._slots.is_running(job):
                return []  # the usual case
        at_workers = {chunk.job for chunk in self._slots.chunks()}
        waiting = (self._jobs[job] for job in self if job not in at_workers)
        small = self._config.chunk_seconds_max
        return [
            held.spec.priority
            for held in waiting
            if not (held.bags.opaque or held.bags.together)
            and held.bags.queued_seconds <= small
            and not self.is_held_up(held)
        ]

    def taken_up(self) -> list[str]:
        """The resources of this node that are all in use."""
        resources = self._links.view.me.resources
        return [name for name, count in resources if self._slots.taken(name) >= count]

    def rank(self, chunk: Chunk) -> int:
        """The priority of its job."""
        held = self._jobs.get(chunk.job)
        return 0 if held is None else held.spec.priority

    def is_held_up(self, held: HeldJob, *, taken_up: bool = False) -> bool:
        """Its owner or its replicas must take some of its results before more of it begins, or chunks at
        workers must give back what it needs of the node's resources (if it has not `taken_up` them)."""
        if held.spec.resources and not taken_up and self._lacks(held.spec.resources):
            return True
        most = self._config.unacked_octets_max
        unacked = self._links.unacked_octets(held.spec.owner)
        return unacked > most or held.unsettled_octets > most

    def is_outranked(self, held: HeldJob) -> bool:
        """It runs side by side, and what it needs of the node's resources is what a more urgent job needs that
        does not: a worker is free for that one."""
        if not held.spec.resources or not self._slots.some_free():
            return False
        wanted = {name for name, _ in held.spec.resources}
        return any(
            other.spec.priority > held.spec.priority
            and not other.bags.together
            and not wanted.isdisjoint(name for name, _ in other.spec.resources)
            and not self.is_held_up(other)
            for other in self.jobs()
        )

    def _lacks(self, wanted: Resources) -> bool:
        there = dict(self._links.view.me.resources)
        return any(self._slots.taken(name) + count > there.get(name, 0) for name, count in wanted)
