"""Jobs whose chunks a worker runs side by side: which worker begins the next one, and who runs with whom.

`async def` functions wait most of the time, so one worker runs a hundred of them at once (`JobSpec.together`);
plain functions run side by side at nodes whose workers have several threads. Each of these chunks is small
and goes its own way like any other, so one that is slow holds up nothing: the place of one that ends goes to
the next. Decides places, and looks after those that run. Refuses to know how large a chunk is
(`dispatcher.py`), and what a death means (`answers.py`).

They share a process, and that has three consequences. They die together, and then run again in smaller
company (`poison.py`): a suspect only beside suspects, and not beside too many. Those of two programs do not
mix. So that a busy job cannot keep others out for ever, one worker then gets nothing more until they fit.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from stealmesh_engine.effects import Divide, Effect, RetractSide, StopItem, StopWorker
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import PATROL_SECONDS, Chunk, Slots
from stealmesh_engine.holding.stock import Stock
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind, JobSpec

COROUTINE_GRACE_SECONDS = 2.0
"""A worker cancels a coroutine whose time is up by itself. For this long we wait before we end its process,
and all that runs beside it, because it does not heed that."""


class SideBySide:
    """The places where chunks run side by side."""

    def __init__(self, effects: list[Effect], jobs: HeldJobs, slots: Slots, stock: Stock) -> None:
        self._effects = effects
        self._jobs = jobs
        self._slots = slots
        self._stock = stock
        self._kept_free: tuple[int, JobId] | None = None
        """A worker that begins nothing until this job fits there."""
        self._places: dict[JobId, int] = {}

    # ------------------------------------------------------------ places

    def plan_places(self) -> None:
        """Before chunks are handed out: is a job kept out everywhere by what it cannot run beside?"""
        self._kept_free = None
        there = self._slots.beside
        if len(there) < len(self._slots) - len(self._slots.relief):
            return
        jobs = [held for held in map(self._jobs.get, self._stock.beside) if held is not None]
        ready = [held for held in jobs if not self._stock.is_held_up(held)]
        most_urgent = max((held.spec.priority for held in ready), default=0)
        for held in ready:
            if held.spec.priority == most_urgent and all(
                self._is_kept_out(held, running.values()) for running in there.values()
            ):
                fewest = min(there, key=lambda worker: len(there[worker]))
                self._kept_free = (fewest, held.spec.job)
                return

    def next(self) -> tuple[HeldJob, int] | None:
        """The job that is next, and the worker with most room for it. None: no job has room."""
        self._places.clear()
        held = self._stock.next_job(self._fits) if self._stock.beside else None
        return None if held is None else (held, self._places[held.spec.job])

    def _fits(self, held: HeldJob) -> bool:
        if not held.bags.together or self._stock.is_outranked(held):
            return False
        best, fewest = None, 0
        for worker in self._slots.by_worker:
            if worker in self._slots.relief:
                continue
            running = self._slots.beside.get(worker, {}).values()
            free = self._kept_free is None or self._kept_free[0] != worker
            if (
                (best is None or len(running) < fewest)
                and (free or self._kept_free == (worker, held.spec.job))
                and self.has_room(held, running)
            ):
                best, fewest = worker, len(running)
        if best is None:
            return False
        self._places[held.spec.job] = best
        return True

    def has_room(self, held: HeldJob, running: Collection[Chunk]) -> bool:
        """May the next chunk of this job run beside these?"""
        together, company = held.bags.together, held.bags.company
        if not running:
            return True
        if self._is_kept_out(held, running):
            return False
        if company:
            return len(running) < min(company, *(chunk.company for chunk in running))
        return sum(chunk.together == together for chunk in running) < together

    def is_kept_out_everywhere(self, held: HeldJob) -> bool:
        """Is there at every worker something that the next chunk of this job must not run beside?"""
        there = self._slots.beside
        workers = self._slots.by_worker.keys() - self._slots.relief
        return bool(workers) and all(
            worker in there and self._is_kept_out(held, there[worker].values())
            for worker in workers
        )

    def _is_kept_out(self, held: HeldJob, running: Collection[Chunk]) -> bool:
        """Do suspects run there, or is it one; or do chunks of another program run there?"""
        code, company = held.spec.code, held.bags.company
        return any(
            bool(chunk.company) != bool(company)
            or bool(code and chunk.code and code != chunk.code)
            or (company and len(running) >= company)
            for chunk in running
        )

    # ------------------------------------------------------------ while they run

    def timeout_at(self, spec: JobSpec, worker: int, now: float) -> float | None:
        """When the process is ended in which an item of this job begins now; None: not as far as we know, as
        the process is not up yet, and it may take long to prepare itself."""
        if not spec.timeout or worker not in self._slots.side_ready:
            return None
        return now + spec.timeout + (COROUTINE_GRACE_SECONDS if spec.together else 0.0)

    def ready(self, worker: int, now: float) -> None:
        """The process is up."""
        for chunk in self._slots.begin_now(worker, now):
            held = self._jobs.get(chunk.job)
            if held is not None:
                timeout_at = self.timeout_at(held.spec, worker, now)
                chunk.begins(awaited=held.spec.kind is JobKind.SUBMIT, timeout_at=timeout_at)

    def ends_at(self, worker: int) -> float:
        """When the first of them is expected to end there; in the past: not known."""
        ends = (
            chunk.started + chunk.expected_seconds
            for chunk in self._slots.beside[worker].values()
            if chunk.expected_seconds is not None
        )
        return min(ends, default=-inf)

    def look_at(self, now: float, *, wanted: bool) -> float:
        """When to look after them next; inf: never."""
        return min(chunk.look_at(now, wanted=wanted) for chunk in self._slots.all_beside())

    def cancelled(self, job: JobId, intervals: list[tuple[int, int]], now: float) -> None:
        """These items are not wanted: what of them has not begun in a worker's process comes back."""
        workers: dict[int, None] = {}
        for chunk in self._slots.all_beside():
            if chunk.job != job or not any(chunk.lo < hi and lo < chunk.hi for lo, hi in intervals):
                continue
            workers[chunk.worker] = None
            if chunk.can_be_asked and not chunk.whole:
                self._ask(chunk, now, give=True)
        self._effects.extend(RetractSide(worker) for worker in workers)

    def stop_items(self, job: JobId, lo: int, hi: int, now: float) -> None:
        """The tasks among these items that run are to end, soon; the caller has cancelled them before."""
        for chunk in self._slots.all_beside():
            stopped = chunk.stop(lo, hi, now) if chunk.job == job else None
            if stopped is not None:
                self._effects.append(StopItem(chunk.worker, chunk.number, *stopped, side=True))

    def patrol(self, now: float, *, wanted: bool) -> None:
        """Stop what has run too long, take back what is part of a slow chunk, ask for results that wait."""
        for chunk in self._slots.all_beside():
            reason = chunk.must_end(now)
            if reason:
                self._effects.append(StopWorker(chunk.worker, reason, False, side=True))
            elif chunk.can_be_asked and now >= chunk.asked_at + PATROL_SECONDS:
                give = chunk.is_overdue(now, wanted=wanted) and not chunk.whole
                if give or now >= chunk.results_wait_at:
                    self._ask(chunk, now, give=give)

    def _ask(self, chunk: Chunk, now: float, *, give: bool) -> None:
        chunk.asked_at = now
        self._effects.append(Divide(chunk.worker, chunk.number, give))
