"""Work that depends on work: which items follow their inputs to a node, and what becomes of them if those move.

Decides that an item without all of its inputs is leased to a node that has some of those that are missing, behind
them (a *follow-on*): the node runs it as soon as it has their results, its own and those that it gets from other
nodes, and no journey to the owner and back lies in between. Decides also that it is withheld again as soon as one of them is not there any more, and
that a failure or a cancellation passes on at once. Refuses to know what results are, and what one job's edges
look like (edges.py).

The node decides nothing: the owner hears of everything that happens to an input, since each lease is in its
account, and withdraws what followed it in the same step. So a follow-on never runs with a result that does not
count: when its input's lease ends, its own does.

Idea: run-ahead of dependent tasks on one node, as in Legion's and PaRSEC's runtimes, with leases as the fence.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Deliver, InputFailed, InputWithdrawn
from stealmesh_engine.events import Feed
from stealmesh_engine.ledger.candidates import Candidates
from stealmesh_engine.ledger.early_reports import EarlyReport
from stealmesh_engine.ledger.edges import JobEdges, Name, within
from stealmesh_engine.ledger.from_afar import FromAfar
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.queues import Made, Queues
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.limits import INPUTS_MAX
from stealmesh_protocol.messages import Grant, JobSpec, Lease, Part, Withdraw
from stealmesh_protocol.values import STOPPED, Failure, good_in, pack_outcomes

FOLLOW_ONS_A_WORKER = 128
"""The most follow-ons that a node has for each worker; it gets more when it has half of them. More: more to withdraw
when something moves; fewer: a chain of short tasks waits for its owner. At 10,000 links a second half of them
are 6 ms, longer than a journey to the owner."""
WAITING_MAX = 4096
"""The most items that wait for room at one node; others are looked at again when an input of theirs is credited."""

Place = Callable[[OwnedJob, float], None]
"""Leases out what is free of a job."""
Judge = Callable[[IndexedJob, int, EarlyReport, float], None]
"""Judges what was said of an item before its inputs counted."""
Cause = tuple[JobId, int, Part, bytes]
"""An item of a job that failed, and the report that says how."""


def stopped(spec: JobSpec, item: int) -> Cause:
    """The program has stopped this item while it ran."""
    text = f"item {item} of {spec.name} was stopped by the program"
    codec, blob = pack_outcomes(None, [Failure(0, STOPPED, text=text)])
    return spec.job, item, Part(0, item, item + 1, codec, 0.0, 1), blob


class Graph:
    """The edges between the items of all jobs of this owner."""

    def __init__(
        self,
        context: Context,
        links: Links,
        candidates: Candidates,
        jobs: dict[JobId, OwnedJob],
    ) -> None:
        self._config = context.config
        self._links = links
        self._journal = context.journal
        self._effects = context.effects
        self._counters = context.counters
        self._candidates = candidates
        self._jobs = jobs
        self._lost: list[tuple[JobEdges, int, int]] = []
        self._look: deque[Name] = deque()
        self._changed: dict[JobId, None] = {}
        self._queues = Queues()
        self.from_afar = FromAfar(context, links, jobs)
        self._following: Counter[PeerId] = Counter()
        self._wait_for_room: dict[PeerId, deque[Name]] = {}
        self._planned: list[tuple[PeerId, JobId, int]] = []
        """Inputs come before what follows them, at their node as well."""
        self._withdrawn: dict[tuple[PeerId, JobId], list[tuple[int, int]]] = {}
        self.restless = False
        """Has something changed that `settle` is to look at?"""
        self.settling = False
        """Is what has changed being leased out now?"""

    # ------------------------------------------------------------ what the program says

    def feed(self, job: OwnedJob, event: Feed) -> None:
        """An item that results of others go into."""
        assert isinstance(job, IndexedJob), "only single calls wait for others"
        item = event.block.lo
        edges = self._edges_of(job)
        names: list[Name] = []
        missing = 0
        cause: tuple[JobId, int] | None = None
        for name in event.inputs:
            source, open_there = self._source(*name)
            names.append((source, name[1]))
            if open_there:
                source.feeds(name[1], (edges, item))
                missing += 1
            elif not self._known(source, name[1], (job.spec.job, item)):
                cause = cause or name
            elif source.results[name[1]].stays is not None:
                job.ledger.needy = True
        if missing or cause:
            job.ledger.feed_withheld(event.block, event.blob)
        else:
            job.ledger.feed(event.block, event.blob)
        edges.waits_for(item, names, missing)
        if cause is not None:
            self._passes_on_late(edges, item, cause)
        elif missing:
            self.look(edges, item)

    def _source(self, job_id: JobId, item: int) -> tuple[JobEdges, bool]:
        """The edges of an input's job, and whether the input is still to come."""
        job = self._jobs.get(job_id)
        if not isinstance(job, IndexedJob):
            return JobEdges(job_id, IndexedLedger(), self, self._queues, leads=False), False
        assert item < job.ledger.total, "an input comes before what it goes into"
        is_over = job.ledger.credited.covers(item, item + 1) or item in job.ledger.again
        return self._edges_of(job), not is_over

    def _known(self, source: JobEdges, item: int, user: tuple[JobId, int]) -> bool:
        """Is the result of this credited item here? It may have come in this very step."""
        if item not in source.results:
            told = self._told(source.job, item)
            result = (
                None if told is None else good_in(told.part.codec, told.blob, item - told.part.lo)
            )
            if result is None:
                return False
            assert told is not None
            source.keep(item, result, 0, source.name_of_staying(item, told.part))
        kept = source.results[item]
        kept.users += 1
        told = self._told(source.job, item) if kept.stays is not None else None
        if told is not None:
            told.into += ((item, *user),)
        return True

    def _told(self, job: JobId, item: int) -> Deliver | None:
        for effect in self._effects:
            if isinstance(effect, Deliver) and effect.job == job and effect.lo <= item < effect.hi:
                return effect
        return None

    def _passes_on_late(self, edges: JobEdges, item: int, cause: tuple[JobId, int]) -> None:
        """What goes into this new item is over without a result: it has failed in this very step, or was spared."""
        told = self._told(*cause)
        if told is None:
            self._end([(edges, item)], self._spared_by(*cause))
        else:
            self._end([(edges, item)], (cause[0], cause[1], told.part, told.blob))

    def _spared_by(self, job: JobId, item: int) -> Cause | None:
        """The failure, in this step, that keeps this item from running. None: it was cancelled."""
        for effect in self._effects:
            if (
                isinstance(effect, InputFailed)
                and effect.job == job
                and any(lo <= item < hi for lo, hi in effect.intervals)
            ):
                return effect.cause, effect.item, effect.part, effect.blob
        return None

    def _edges_of(self, job: IndexedJob) -> JobEdges:
        if job.edges is None:
            assert job.keeping is None, "a durable job has no edges"
            kept = job.spec.stays_from == 1  # no node may use them before we say that they count
            leads = job.ledger.copies is None and job.lives is None and not kept
            job.edges = JobEdges(job.spec.job, job.ledger, self, self._queues, leads=leads)
            job.ledger.edges = job.edges
        return job.edges

    # ------------------------------------------------------------ what the edges say

    def moved(self, edges: JobEdges, lo: int, hi: int) -> None:
        self._lost.append((edges, lo, hi))
        self.restless = True

    def changed(self, job: JobId) -> None:
        """Something of this job has become free, or is over."""
        self._changed[job] = None
        self.restless = True

    def look(self, edges: JobEdges, item: int) -> None:
        self._look.append((edges, item))
        self.restless = True

    def complete(self, edges: JobEdges, item: int, holder: PeerId, lid: LeaseId) -> None:
        self.from_afar.complete(edges, item, holder, lid)
        self.restless = True

    def came_early(self, edges: JobEdges, item: int) -> None:
        self.from_afar.came_early(edges, item)
        self.restless = True

    def follows_no_more(self, holder: PeerId) -> None:
        self._following[holder] -= 1
        if not self._following[holder]:
            del self._following[holder]
        if self._following[holder] > self._room(holder) // 2:
            return  # many go together
        if holder in self._wait_for_room:
            self._look.extend(self._wait_for_room.pop(holder))
            self.restless = True

    def failed(self, edges: JobEdges, item: int, part: Part, blob: bytes) -> None:
        self._end(self._dependents(edges, item), (edges.job, item, part, blob))

    # ------------------------------------------------------------ what is over without a result

    def cancelled(self, job: OwnedJob, lo: int, hi: int, *, fail: bool = False) -> None:
        """These items are not wanted: nor is what waits for them. `fail`: that fails as they did."""
        edges = job.edges
        assert edges is not None
        ended = [(item, self._dependents(edges, item)) for item in within(edges.dependents, lo, hi)]
        # The program did not know yet that these were done. What they went into must not be, either.
        ended += [(item, self._users(edges, item)) for item in within(edges.results, lo, hi)]
        edges.over(lo, hi)
        for item, waiting in ended:
            self._end(waiting, stopped(job.spec, item) if fail else None)

    def job_over(self, job: OwnedJob) -> None:
        """All of it is credited, or nothing of it is wanted any more."""
        if job.edges is not None:
            total = job.edges.ledger.total
            waiting = [job.edges.waiting_for(item) for item in job.edges.dependents]
            job.edges.dependents.clear()
            job.edges.over(0, total)
            self._end([name for names in waiting for name in names], None)
            job.edges.over_all()
            self._changed.pop(job.spec.job, None)

    def _users(self, edges: JobEdges, item: int) -> list[Name]:
        """All that this result goes into and that is not over. It takes as long as there are items with inputs."""
        name = (edges, item)
        return [
            (job.edges, other)
            for job in self._jobs.values()
            if job.edges is not None
            for other in job.edges.inputs
            if name in job.edges.into(other)
        ]

    def _dependents(self, edges: JobEdges, item: int) -> list[Name]:
        waiting = edges.waiting_for(item)
        del edges.dependents[item]
        return waiting

    def _end(self, waiting: list[Name], cause: Cause | None) -> None:
        """These end with the failure of what they waited for, or are cancelled with it; and what waits for
        them, as deep as the graph is."""
        over: dict[JobEdges, list[int]] = {}
        while waiting:
            edges, item = waiting.pop()
            if item not in edges.inputs or edges.job not in self._jobs:
                continue  # it waited for two of them
            over.setdefault(edges, []).append(item)
            for peer, intervals in edges.ledger.cancel(item, item + 1).items():
                self._withdrawn.setdefault((peer, edges.job), []).extend(intervals)
            if item in edges.dependents:
                waiting += self._dependents(edges, item)
            edges.over(item, item + 1)
        for edges, items in over.items():
            self.changed(edges.job)
            intervals = runs_of(items)
            if cause is None:
                self._effects.append(InputWithdrawn(edges.job, intervals))
            else:
                self._jobs[edges.job].count_failed(len(items))
                self._effects.append(InputFailed(edges.job, intervals, *cause))

    # ------------------------------------------------------------ follow-ons

    def settle(self, place: Place, judge: Judge, now: float) -> None:
        """Have judged what came early, and leased out what is free and what others wait for; then what waits."""
        while self._lost or self._look or self._changed or self.from_afar.has_early:
            for edges, item in self.from_afar.take_early():
                job, report = self._jobs.get(edges.job), edges.early.take(item)
                if isinstance(job, IndexedJob) and report is not None:
                    judge(job, item, report, now)
                    self.changed(edges.job)
            while self._lost:
                self._withhold(*self._lost.pop())
            self._say_withdrawn(now)
            self.settling = True
            for job in self._take_changed():
                if not job.done:
                    place(job, now)
            self.settling = False
            while self._look:
                self._try(*self._look.popleft(), now)
            self._lease_planned(now)
        self.from_afar.settle(now)
        self.restless = False

    def _take_changed(self) -> list[OwnedJob]:
        """Jobs that have something free, or are over; the most urgent first."""
        changed, self._changed = self._changed, {}
        jobs = [self._jobs[job] for job in changed if job in self._jobs]
        return sorted(jobs, key=lambda job: -job.spec.priority)

    def _withhold(self, edges: JobEdges, lo: int, hi: int) -> None:
        """What followed these is withheld again."""
        for item in within(edges.dependents, lo, hi):
            for other, at in edges.waiting_for(item):
                self.withhold(other, at)

    def withhold(self, edges: JobEdges, item: int) -> None:
        where = edges.leads_no_more(item)
        if where is not None:
            holder, lid = where
            edges.ledger.withhold_again(lid, item)
            self._withdrawn.setdefault((holder, edges.job), []).append((item, item + 1))
            self._counters.count("follow-ons-withdrawn")
            self.moved(edges, item, item + 1)
            self.changed(edges.job)  # a lease fewer: there may be room for another

    def _try(self, edges: JobEdges, item: int, now: float) -> None:
        """Is all that this item lacks made somewhere? Then it may follow to one of its makers."""
        job = self._jobs.get(edges.job)
        if item not in edges.missing or item in edges.follows or job is None or not edges.leads:
            return
        if job.lanes is not None or edges.missing[item] > INPUTS_MAX:
            return
        inputs: list[Made] = []
        for source, at in edges.into(item):
            if at in source.results:
                continue
            leads = source.leads and not source.stays
            where = source.places.at(at) if leads else None
            if where is None:
                return
            inputs.append((where[0], where[2] + at))
        assert inputs, "it lacks something"
        holder, begins = self._queues.best_maker(inputs, self._workers)
        if not self._may_have(job, item, holder, now):
            return
        if not self._queues.does_better(holder, begins, inputs, self._workers, self._others(job)):
            return
        if self._following[holder] >= self._room(holder):
            waiting = self._wait_for_room.setdefault(holder, deque(maxlen=WAITING_MAX))
            waiting.append((edges, item))
            return
        self._following[holder] += 1
        edges.follows[item] = (holder, 0)
        self._planned.append((holder, edges.job, item))
        edges.planned(item, holder)

    def _workers(self, node: PeerId) -> int:
        member = self._links.view.members.get(node)
        return max(1, 0 if member is None else member.workers)

    def _others(self, job: OwnedJob) -> Iterable[tuple[PeerId, int]]:
        members = self._links.view.members
        return (
            (peer, self._workers(peer))
            for peer in self._links.peers
            if peer in members and self._candidates.may_run(job, peer)
        )

    def _room(self, holder: PeerId) -> int:
        return FOLLOW_ONS_A_WORKER * self._workers(holder)

    def _may_have(self, job: OwnedJob, item: int, holder: PeerId, now: float) -> bool:
        if not self._candidates.may_run(job, holder):
            return False
        return job.passed is None or holder not in job.passed.barred(item, now)

    def _lease_planned(self, now: float) -> None:
        planned, self._planned = sorted(self._planned, key=itemgetter(0)), []
        leased = [
            (holder, job, self._lease(holder, job, [item for _, _, item in named], now))
            for (holder, job), named in groupby(planned, key=lambda each: each[:2])
        ]
        for holder, job_id, leases in leased:  # now each has its lease, which others name
            job = self._jobs[job_id]
            assert job.edges is not None
            told = [job.edges.named(item) for each in leases for item in range(each.lo, each.hi)]
            blocks, blobs = [block for block, _ in told], [blob for _, blob in told]
            if holder not in job.told:
                job.has_told(holder)
            self._counters.count("follow-ons", len(blocks))
            self._links.send(holder, Grant(job.spec, leases, blocks, 0, blobs), now)

    def _lease(self, holder: PeerId, job: JobId, items: list[int], now: float) -> list[Lease]:
        edges = self._jobs[job].edges
        assert edges is not None
        leases: list[Lease] = []
        alone = [(item, item + 1) for item in items if edges.needs_alone(item)]
        for lo, hi in [*alone, *runs_of(item for item in items if (item, item + 1) not in alone)]:
            lease = edges.ledger.lease_withheld(holder, now + self._config.lease_seconds, lo, hi)
            leases.append(lease)
            for item in range(lo, hi):
                edges.follows[item] = (holder, lease.lid)
            self._journal.tell(now, "follows", job, lease.lid, (holder, lo, hi))
        return leases

    def _say_withdrawn(self, now: float) -> None:
        withdrawn, self._withdrawn = self._withdrawn, {}
        for (peer, job), intervals in withdrawn.items():
            if self._links.view.is_alive(peer):
                self._links.send(peer, Withdraw(job, intervals), now)

    # ------------------------------------------------------------ looks

    @property
    def is_empty(self) -> bool:
        """Is nothing left of any graph, but for the edges of jobs that are open?"""
        left = self._following or self._wait_for_room or self.restless or self._withdrawn
        return not left and not any(
            job.edges is not None
            and (job.edges.inputs or job.edges.dependents or job.edges.results)
            for job in self._jobs.values()
        )

    def audit(self) -> None:
        following: Counter[PeerId] = Counter()
        for job in self._jobs.values():
            if job.edges is not None:
                following.update(holder for holder, _ in job.edges.follows.values())
        assert following == self._following, "a follow-on is not counted"
        assert not self._planned
        queued: Counter[PeerId] = Counter()
        for job in self._jobs.values():
            for lo, hi, (holder, _, _) in () if job.edges is None else job.edges.places:
                queued[holder] += hi - lo
        assert queued == self._queues.open, "a node's queue has another length"
        assert not self._withdrawn


def runs_of(items: Iterable[int]) -> list[tuple[int, int]]:
    """The intervals that these numbers make."""
    runs: list[tuple[int, int]] = []
    for item in sorted(items):
        if runs and runs[-1][1] == item:
            runs[-1] = (runs[-1][0], item + 1)
        else:
            runs.append((item, item + 1))
    return runs
