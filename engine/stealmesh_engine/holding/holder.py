"""The work that this node holds for others.

Decides what is reported to whom, what happens to a chunk whose worker died, and what is given up
when the ledger says so. Refuses to know which worker gets which chunk (dispatcher.py), where the work
came from (shares.py, trade.py) and what its ledger does with a report (owner.py).

Poison has a limit: a chunk that dies with its worker is run again in ever smaller pieces, so that the
guilty item is found and its neighbours are saved (fragile.py); an item that has killed `attempts_max`
workers on its own fails by name. A node that is told that a lease is not its own lets go at
once and becomes an ordinary thief.
"""

from __future__ import annotations

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.functions import ShippedFunctions, needed
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Effect, ForgetJob
from stealmesh_engine.events import BagStep, ChunkDone, ChunkPart, Retracted, WorkerLost
from stealmesh_engine.holding.bags import Bags, ExploreBags, IndexedBags
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.failures import timed_out, worker_died
from stealmesh_engine.holding.held_job import HeldJob, Unsaid
from stealmesh_engine.holding.retained import Spares
from stealmesh_engine.holding.sizes import cut_by_size
from stealmesh_engine.holding.slots import Chunk
from stealmesh_engine.ledger.declined import has_runtime, reason_in
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, owner_of
from stealmesh_protocol.messages import (
    Beat,
    Claim,
    Commit,
    Declined,
    FnGet,
    FnPut,
    Grant,
    JobKind,
    JobLoad,
    JobSpec,
    Launch,
    Lease,
    Part,
    Report,
    Returned,
    Revoked,
    Settled,
    Withdraw,
)
from stealmesh_protocol.values import LACKING

REPORT_OCTETS_MAX = 512 * 1024
UNDER_WAY_OCTETS_MIN = 1024 * 1024
"""From here on what was said to an owner may take seconds to get there."""
LEASES_IN_BEAT_MAX = 8192
JOBS_IN_BEAT_MAX = 512
CLAIMS_MAX = 4096
"""Leases and results in one claim."""
RUNNING_WORTH_TELLING_SECONDS = 0.25
DECLINED_AGAIN_SECONDS = 1.0
"""Whoever grants us more of a job that we have declined knows of nobody else: then we try all of it."""


class Holder:
    """All held work of a node."""

    def __init__(
        self,
        config: Config,
        links: Links,
        journal: Journal,
        effects: list[Effect],
        counters: Counters,
    ) -> None:
        self.config = config
        self.links = links
        self.journal = journal
        self.effects = effects
        self.counters = counters
        self.jobs: dict[JobId, HeldJob] = {}
        self.spares = Spares(config, counters)
        self.functions = ShippedFunctions(config, counters)
        self.dispatcher = Dispatcher(config, links, effects, self.jobs, self.functions)
        self._returning: list[Chunk] = []
        """Running explore bags that have taken stock since this node wants to leave."""
        self.executed = 0
        """Items that workers of this node have finished."""
        self._unsaid: dict[JobId, Unsaid] = {}
        self.report_at: float | None = None

    # ------------------------------------------------------------ what owners say

    def granted(self, message: Grant, now: float) -> None:
        spec = message.spec
        if spec.runtime and not has_runtime(spec, self.links.view.me):
            reason = f"it runs {self.links.view.me.runtime}, the job needs {spec.runtime}"
            parts = [Lease(lease.lid, lease.lo, lease.hi) for lease in message.leases]
            self.links.send(spec.owner, Declined(spec.job, parts, reason), now)
            return
        held = self.jobs.get(spec.job)
        if held is None:
            bags: Bags = ExploreBags(spec) if spec.kind is JobKind.EXPLORE else IndexedBags(spec)
            held = self.jobs[spec.job] = HeldJob(spec, bags)
            for digest in self.functions.want(spec, now):
                self.links.send(spec.owner, FnGet(digest), now)
        elif spec.term:
            self.home_found(spec.job, spec.term, spec.owner, now)
            held.counted(spec.count)
        held.granted_by(spec.owner, spec.term)
        if isinstance(held.bags, ExploreBags):
            bags_came = zip(message.leases, message.blobs, strict=True)
            taken = [held.bags.receive(lease, items) for lease, items in bags_came]
        else:
            for block, blob in zip(message.blocks, message.blobs, strict=True):
                held.bags.inputs.add(block, blob)
                if spec.term:
                    self.spares.add(spec.job, block, blob)
            taken = [held.bags.receive(lease) for lease in message.leases]
        if not all(taken):
            self.counters.count("grants-refused", taken.count(False))
        for lease in message.leases:
            self.journal.tell(now, "received", spec.job, lease.lid, (lease.lo, lease.hi))
        self.dispatcher.restock(held)
        if self.dispatcher.draining:
            self.return_untouched(now)

    def revoked(self, message: Revoked, now: float) -> None:
        """These leases are not ours: whatever is done under them is dropped."""
        held = self.jobs.get(message.job)
        if held is None:
            return
        self._let_go(held, message.lids, now)
        self.dispatcher.restock(held)

    def _let_go(self, held: HeldJob, lids: list[LeaseId], now: float) -> None:
        job = held.spec.job
        for lid in lids:
            if held.bags.drop(lid):
                self.journal.tell(now, "let go", job, lid)
            self._void(job, lid)

    def obeys(self, job: JobId, peer: PeerId) -> bool:
        """Has this peer a say in what we hold of the job? A durable one's former homes have none."""
        held = self.jobs.get(job)
        return held is None or not held.spec.term or held.spec.owner == peer

    def follows(self, job: JobId, home: PeerId) -> bool:
        """Do we hold parts of this durable job, of which this peer is the home as far as we know?"""
        held = self.jobs.get(job)
        return held is not None and bool(held.spec.term) and held.spec.owner == home

    def outranks(self, job: JobId, term: int, home: PeerId) -> JobSpec | None:
        """The later home of this durable job that we know, if the one named is a former one."""
        held = self.jobs.get(job)
        if held is None or (term, home) >= (held.spec.term, held.spec.owner):
            return None
        return held.spec

    def settled(self, message: Settled) -> None:
        """The home holds these results safely; until the job is over we keep them, too, if we can."""
        held = self.jobs.get(message.job)
        if held is None:
            return
        held.asked = False
        held.counted(message.count)
        for interval in message.intervals:
            kept = held.unsettled.pop(interval, None)
            if kept is not None:
                held.unsettled_octets -= len(kept[1])
                self.spares.add(message.job, *kept)

    def calls_for_home(self, job: JobId, now: float) -> Launch | None:
        """What to say to a node that is to be the home of a job of which no keeper is left."""
        held = self.jobs[job]
        assert held.homeless_since is not None
        if now - max(held.homeless_since, held.keeper_at) < self.config.rebuild_after_seconds:
            return None
        return Launch(held.spec, held.spec.count, self.functions.of(held.spec))

    def home_found(
        self, job: JobId, term: int, home: PeerId, now: float, *, rebuilt: bool = False
    ) -> None:
        """This peer leads a durable job: if that is news, tell it what we have."""
        held = self.jobs.get(job)
        if held is None or not held.spec.term:
            return
        known = (held.spec.term, held.spec.owner)
        if (term, home) < known or ((term, home) == known and held.homeless_since is None):
            return
        self._let_go(held, held.follow(home, term), now)
        held.homeless_since, held.asked = None, False
        self.journal.tell(now, "claims from", job, 0, home)
        if rebuilt:
            for keep in held.whole(self.spares):
                self.links.send(home, keep, now)
        self._claim(held, now)
        self.dispatcher.restock(held)

    def withdrawn(self, message: Withdraw) -> None:
        held = self.jobs.get(message.job)
        if held is not None and isinstance(held.bags, IndexedBags):
            for lo, hi in message.intervals:
                held.bags.withdraw(lo, hi)
            self.dispatcher.restock(held)

    def closed(self, job: JobId, now: float, *, stop: bool) -> None:
        """The job is over. Running chunks may finish for nothing, or are stopped with their worker."""
        held = self.jobs.pop(job, None)
        self.dispatcher.stock.pop(job, None)
        self._unsaid.pop(job, None)
        self.spares.drop(job)
        if held is None:
            return
        self.journal.tell(now, "closed", job)
        for chunk in self.dispatcher.slots.chunks():
            if chunk.job == job:
                chunk.void = True
                if chunk.explore or stop:
                    self.dispatcher.stop(chunk.worker, "its job is over", blame=False)
        self.functions.tidy(held.spec for held in self.jobs.values())
        self.effects.append(ForgetJob(job))

    def works_for(self, owner: PeerId) -> list[JobId]:
        """The jobs here that die with this owner."""
        return [j for j, h in self.jobs.items() if owner_of(j) == owner and not h.spec.term]

    def owner_gone(self, owner: PeerId, now: float) -> None:
        """Nobody is left to whom results of these jobs could matter."""
        for held in self.jobs.values():
            if held.spec.term and held.spec.owner == owner and held.homeless_since is None:
                held.homeless_since = now
        for job in self.works_for(owner):
            self.counters.count("jobs-orphaned")
            self.closed(job, now, stop=True)

    def homeless(self, now: float) -> list[JobId]:
        """Durable jobs whose home we look for; what nobody claims for too long is given up."""
        found = []
        for job, held in list(self.jobs.items()):
            since = held.homeless_since
            if since is None:
                continue
            if now - since < self.config.home_patience_seconds:
                found.append(job)
            else:
                self.counters.count("jobs-orphaned")
                self.closed(job, now, stop=True)
        return found

    def forget_unreached(self, now: float) -> None:
        """Leases that could not be renewed are over, here as at their owner. (Found by seed 17030: an
        owner hung up for want of anything to say, then died, and no link was there to break.)"""
        for job, held in list(self.jobs.items()):
            owner = held.spec.owner
            if held.spec.term or self.links.is_ready(owner) or owner == self.links.view.me.id:
                held.unreached_since = None
            elif held.unreached_since is None:
                held.unreached_since = now
            elif now - held.unreached_since >= self.config.lease_seconds:
                self.counters.count("jobs-orphaned")
                self.closed(job, now, stop=True)

    def forget_empty(self, now: float) -> None:
        """A job of which nothing has been here for long may be over without our having been told
        (its owner held us for dead at the end); if it is not, the next grant brings it back."""
        busy = {chunk.job for chunk in self.dispatcher.slots.chunks()}
        for job, held in list(self.jobs.items()):
            if (
                held.bags.leases
                or job in busy
                or held.homeless_since is not None
                or job in self._under_way(held.spec.owner)
            ):
                held.empty_since = None
            elif held.empty_since is None:
                held.empty_since = now
            elif now - held.empty_since >= self.config.lease_seconds:
                if held.unsettled or held.asked:
                    held.homeless_since = now  # whoever leads it now is to hear of these results
                elif self.spares.has(job):
                    # What we still have may be needed, unless the job is over.
                    held.asked, held.empty_since = True, now
                    self.links.send(held.spec.owner, Claim(job), now)
                else:
                    self.closed(job, now, stop=False)

    def function_came(self, message: FnPut) -> None:
        if self.functions.came(message):
            for held in self.jobs.values():
                self.dispatcher.restock(held)

    def ask_for_functions(self, now: float) -> None:
        """A request or its answer may have been lost with a link: ask again."""
        for held in self.jobs.values():
            for digest in needed(held.spec):
                if digest in self.functions.awaited and held.homeless_since is None:
                    self.links.send(held.spec.owner, FnGet(digest), now)

    # ------------------------------------------------------------ what workers say

    def worker_ready(self, worker: int) -> None:
        self.dispatcher.slots.ready(worker)

    def chunk_done(self, event: ChunkDone, now: float) -> None:
        chunk = self._finished(event.worker, event.chunk, now)
        if chunk is None:
            return
        upto = chunk.hi if event.upto is None else event.upto
        lacking = event.codec == LACKING
        held = self._part_came(chunk, event, upto, upto, now)
        if held is None or upto == chunk.lo:
            return
        if lacking:
            self._decline(held, event.blob, now)
            return
        seconds = event.seconds + chunk.carried_seconds
        held.bags.cost.learn(upto - chunk.lo, seconds, len(event.blob))

    def chunk_part(self, event: ChunkPart, now: float) -> None:
        """A worker was asked: it has finished this much, and gives back what it has not begun."""
        slot = self.dispatcher.slots.by_worker.get(event.worker)
        chunk = slot.running if slot is not None else None
        if chunk is None or chunk.number != event.chunk:
            self.counters.count("results-unasked")
            return
        items, late = event.upto - chunk.lo, chunk.is_overdue(now, wanted=True)
        held = self._part_came(chunk, event, event.upto, event.kept, now)
        chunk.lo, chunk.hi, chunk.told_at = event.upto, event.kept, now
        if held is None:
            return
        if event.codec == LACKING:
            # A worker keeps this for its last word; but if one says it now it means the same.
            if items:
                self._decline(held, event.blob, now)
            return
        cost = held.bags.cost
        if late and cost.known:
            # What its worker's time was not needed for, the item that is running has taken.
            chunk.carried_seconds += max(0.0, event.seconds - cost.seconds(items))
            cost.stumbled(chunk.carried_seconds)
            chunk.expected_seconds = None
            # Others may have asked for this and found it too little.
            self.dispatcher.turned_long = True
        elif items:
            cost.learn(items, event.seconds + chunk.carried_seconds, len(event.blob))
            chunk.carried_seconds = 0.0
        else:
            chunk.carried_seconds += event.seconds

    def bag_step(self, event: BagStep, now: float) -> None:
        slot = self.dispatcher.slots.by_worker.get(event.worker)
        chunk = slot.running if slot is not None else None
        if slot is None or chunk is None or chunk.number != event.chunk:
            return
        slot.sharing = False
        if not event.remaining:
            self._finished(event.worker, event.chunk, now)
        self.executed += event.items
        held = self.jobs.get(chunk.job)
        if held is None or chunk.void or not isinstance(held.bags, ExploreBags):
            self._wasted(event.items)
            return
        bags = held.bags
        if event.items:
            bags.cost.learn(event.items, event.seconds, len(event.rest))
        seq = bags.step(chunk.lid, event.remaining, event.rest)
        if not seq:
            self._wasted(event.items)
            return
        children = [bags.spawn(chunk.lid, size, items) for size, items in event.spares]
        blobs = [event.partial, event.rest, *(items for _, items in event.spares)]
        commit = Commit(
            chunk.job,
            chunk.lid,
            seq,
            event.remaining,
            children,
            event.seconds,
            event.items,
            event.failed,
            blobs,
        )
        self.links.send(held.spec.owner, commit, now)
        self.dispatcher.restock(held)
        if event.failed and event.partial[:1] == bytes([LACKING]):
            self._decline(held, event.partial[1:], now)
        if self.dispatcher.draining and event.remaining:
            self._returning.append(chunk)

    def worker_lost(self, event: WorkerLost, now: float) -> None:
        slot = self.dispatcher.slots.lost(event.worker)
        if slot is None:
            return
        if not event.retired:
            self.counters.count("workers-lost")
        queued, running = slot.queued, slot.running
        if running is not None and event.running != running.number:
            # It had finished the one and died before or within the other, or died unread.
            if queued is not None and event.running == queued.number:
                self._put_back(running)
                queued, running = None, queued
            else:
                self._put_back(running)
                running = None
        if queued is not None:
            self._put_back(queued)
        if running is not None:
            self._bereaved(running, event, now)

    def retracted(self, event: Retracted) -> None:
        slot = self.dispatcher.slots.by_worker.get(event.worker)
        if slot is None:
            return
        slot.retracting = False
        if slot.queued is not None and event.chunk == slot.queued.number:
            chunk, slot.queued = slot.queued, None
            self._put_back(chunk)
        elif slot.running is not None and event.chunk == slot.running.number:
            # It had moved up meanwhile, or a worker that got no core had not read that one either.
            chunk, slot.running, slot.queued = slot.running, slot.queued, None
            self._put_back(chunk)

    # ------------------------------------------------------------ giving work away

    def give(self, held: HeldJob, items: int) -> list[Lease]:
        """Cut parts off for a thief; the caller tells the ledger in this same step."""
        if held.homeless_since is not None:
            return []  # there is no ledger to tell
        parts = held.bags.give(items)
        self.dispatcher.restock(held)
        return parts

    def _decline(self, held: HeldJob, blob: bytes, now: float) -> None:
        """A worker lacked something. If nothing of the job has ever ended well here, others are to have
        the rest of it; if they cannot either, it comes back."""
        if held.bags.cost.known or now - held.declined_at < DECLINED_AGAIN_SECONDS:
            return
        held.declined_at = now
        parts = self.give(held, held.bags.queued_items)
        self.journal.tell(now, "declined", held.spec.job)
        self.links.send(held.spec.owner, Declined(held.spec.job, parts, reason_in(blob)), now)

    def return_untouched(self, now: float) -> None:
        """Hand everything that no worker has back to its ledger (we are leaving)."""
        for job in list(self.dispatcher.stock):
            held = self.jobs[job]
            parts = self.give(held, held.bags.queued_items)
            if parts:
                self.links.send(held.spec.owner, Returned(job, parts), now)

    def return_explore(self, now: float) -> None:
        """Running explore bags go back when they take stock, not before: what their workers are at is
        as dear as any other task. (World 120198 lost two items of a bag to an orderly end.)"""
        if not self._returning:
            return
        returning, self._returning = self._returning, []
        for chunk in returning:
            held = self.jobs.get(chunk.job)
            if held is None or chunk.void or not held.bags.drop(chunk.lid):
                continue
            parts = [Lease(chunk.lid, chunk.lo, chunk.hi)]
            self.links.send(held.spec.owner, Returned(chunk.job, parts), now)
            chunk.void = True
            self.dispatcher.stop(chunk.worker, "its node is leaving", blame=False)
        self.return_untouched(now)  # what was split off

    # ------------------------------------------------------------ telling owners

    def flush_reports(self, now: float, patience: float) -> None:
        """What workers finished goes to its owners, together.

        An owner has as many reporters as there are nodes, so in a large mesh each collects for
        a moment (`patience`) while it still has work of the job; the last word never waits.
        """
        self.report_at = None
        for job, unsaid in list(self._unsaid.items()):
            held = self.jobs[job]
            until = unsaid.since + patience
            if (
                now < until
                and held.bags.leases
                and held.spec.kind is not JobKind.SUBMIT
                and unsaid.octets < REPORT_OCTETS_MAX
                and not self.dispatcher.draining
            ):
                self.report_at = until if self.report_at is None else min(self.report_at, until)
                continue
            del self._unsaid[job]
            if held.spec.term:
                self._keep_unsettled(held, unsaid)
                if held.homeless_since is not None:
                    continue  # it goes to the next home, with our claim
            if unsaid.octets <= REPORT_OCTETS_MAX:
                self.links.send(held.spec.owner, Report(job, unsaid.parts, unsaid.blobs), now)
                continue
            for lo, hi in cut_by_size(list(map(len, unsaid.blobs)), REPORT_OCTETS_MAX):
                report = Report(job, unsaid.parts[lo:hi], unsaid.blobs[lo:hi])
                self.links.send(held.spec.owner, report, now)

    def tell_running(self, now: float) -> None:
        """Calls that have run for a moment: whoever submitted them may ask, and must not cancel them."""
        untold, self.dispatcher.untold = self.dispatcher.untold, []
        self._tell_running(untold, now)

    def tell_all_running(self, owner: PeerId, now: float) -> None:
        """The owner asks how things stand: what it has submitted and runs here comes first."""
        running = self.dispatcher.slots.running()
        self._tell_running([chunk for chunk in running if owner_of(chunk.job) == owner], now)

    def _tell_running(self, chunks: list[Chunk], now: float) -> None:
        for chunk in chunks:
            held = self.jobs.get(chunk.job)
            if held is not None and not chunk.void and held.spec.kind is JobKind.SUBMIT:
                load = JobLoad(chunk.job, [chunk.lid], [(chunk.lo, chunk.hi)])
                beat = Beat(self.links.view.me.incarnation, 0, 0.0, [load], [])
                self.links.send(held.spec.owner, beat, now)

    def loads_for(self, owner: PeerId, now: float) -> list[list[JobLoad]]:
        """The leases that we hold of this owner's jobs: one list for each beat that they fill."""
        pages: list[list[JobLoad]] = []
        leases = LEASES_IN_BEAT_MAX
        under_way = self._under_way(owner)
        for job, held in self.jobs.items():
            if held.spec.owner == owner and (held.bags.leases or job in under_way):
                running = [
                    (chunk.lo, chunk.hi)
                    for chunk in self.dispatcher.slots.running()
                    if chunk.job == job
                    and not chunk.explore
                    and now - chunk.started > RUNNING_WORTH_TELLING_SECONDS
                ]
                lids = list(held.bags.leases | under_way.get(job, {}))
                for start in range(0, len(lids), LEASES_IN_BEAT_MAX):
                    page = lids[start : start + LEASES_IN_BEAT_MAX]
                    if (
                        leases + len(page) > LEASES_IN_BEAT_MAX
                        or len(pages[-1]) >= JOBS_IN_BEAT_MAX
                    ):
                        pages.append([])
                        leases = 0
                    leases += len(page)
                    pages[-1].append(JobLoad(job, page, running))
        return pages

    def _under_way(self, owner: PeerId) -> dict[JobId, dict[LeaseId, None]]:
        """Leases that we have finished, whose results have not come to their owner's ears: if they
        expired, all that would have to be done and said once more."""
        found: dict[JobId, dict[LeaseId, None]] = {}
        if self.links.unacked_octets(owner) >= UNDER_WAY_OCTETS_MIN:
            for message in self.links.unheard(owner):
                if isinstance(message, Report):
                    lids = dict.fromkeys(part.lid for part in message.parts)
                elif isinstance(message, Commit):
                    lids = dict.fromkeys([message.lid, *(child.lid for child in message.children)])
                else:
                    continue
                found.setdefault(message.job, {}).update(lids)
        return found

    def audit(self) -> None:
        for job, held in self.jobs.items():
            held.bags.audit()
            if isinstance(held.bags, IndexedBags):
                busy = sum(lease.busy for lease in held.bags.leases.values())
                mine = sum(
                    c.hi - c.lo
                    for c in self.dispatcher.slots.chunks()
                    if c.job == job and not c.void and c.lid in held.bags.leases
                )
                assert busy == mine, f"{busy} items are said to be with workers, {mine} are"

    # ------------------------------------------------------------ inside

    def _keep_unsettled(self, held: HeldJob, unsaid: Unsaid) -> None:
        for part, blob in zip(unsaid.parts, unsaid.blobs, strict=True):
            if part.codec == LACKING:
                continue  # no result: if the home is lost before it has heard it, others are asked
            held.unsettled[part.lo, part.hi] = (part, blob)
            held.unsettled_octets += len(blob)

    def _claim(self, held: HeldJob, now: float) -> None:
        """Tell a durable job's new home what we have: what is open of our leases, and results."""
        job = held.spec.job
        assert isinstance(held.bags, IndexedBags)
        unsaid = self._unsaid.pop(job, None)
        if unsaid is not None:
            self._keep_unsettled(held, unsaid)
        leases = [
            Lease(lid, lo, hi)
            for lid, lease in held.bags.leases.items()
            for lo, hi in lease.untouched
        ]
        leases += [
            Lease(chunk.lid, chunk.lo, chunk.hi)
            for chunk in self.dispatcher.slots.chunks()
            if chunk.job == job and not chunk.void and chunk.lid in held.bags.leases
        ]
        parts = [part for part, _ in held.unsettled.values()]
        blobs = [blob for _, blob in held.unsettled.values()]
        for at in range(0, max(len(leases), len(parts), 1), CLAIMS_MAX):
            to = at + CLAIMS_MAX
            claim = Claim(job, leases[at:to], parts[at:to], blobs[at:to])
            self.links.send(held.spec.owner, claim, now)

    def _finished(self, worker: int, number: int, now: float) -> Chunk | None:
        slot = self.dispatcher.slots.by_worker.get(worker)
        chunk = self.dispatcher.slots.finished(slot, number, now) if slot is not None else None
        if chunk is None:
            self.counters.count("results-unasked")
        return chunk

    def _part_came(
        self, chunk: Chunk, event: ChunkDone | ChunkPart, upto: int, kept: int, now: float
    ) -> HeldJob | None:
        """Of a chunk that a worker has, [lo, upto) is finished and [kept, hi) not begun. None: nobody
        wants it."""
        assert chunk.lo <= upto <= kept <= chunk.hi, "a worker answers for what it does not have"
        items = upto - chunk.lo
        if event.codec != LACKING:
            self.executed += items
        held = self.jobs.get(chunk.job)
        if held is None or chunk.void or not isinstance(held.bags, IndexedBags):
            self._wasted(items)
            return None
        if kept < chunk.hi:
            self.journal.tell(now, "got back", chunk.job, chunk.lid, (kept, chunk.hi))
            held.bags.put_back(chunk.lid, kept, chunk.hi)
            self.dispatcher.restock(held)
            if self.dispatcher.draining:
                self.return_untouched(now)
        if items:
            part = Part(chunk.lid, chunk.lo, upto, event.codec, event.seconds, event.failed)
            self._settle(held, part, event.blob, now)
        return held

    def _settle(self, held: HeldJob, part: Part, blob: bytes, now: float) -> None:
        """Items are done, one way or the other: out of the bag, into the next report."""
        if not held.bags.finish(part.lid, part.lo, part.hi):  # type: ignore[union-attr]
            self._wasted(part.hi - part.lo)
            return
        job = held.spec.job
        unsaid = self._unsaid.get(job)
        if unsaid is None:
            unsaid = self._unsaid[job] = Unsaid(now)
        unsaid.parts.append(part)
        unsaid.blobs.append(blob)
        unsaid.octets += len(blob)

    def _put_back(self, chunk: Chunk, *, died: bool = False) -> None:
        """A chunk that nobody has started, or whose worker died: it is untouched again."""
        held = self.jobs.get(chunk.job)
        if held is not None and not chunk.void:
            back = held.bags.died if died else held.bags.put_back
            back(chunk.lid, chunk.lo, chunk.hi)
            self.dispatcher.restock(held)

    def _bereaved(self, chunk: Chunk, event: WorkerLost, now: float) -> None:
        """The worker died while it ran this chunk."""
        held = self.jobs.get(chunk.job)
        if held is None or chunk.void:
            return
        if chunk.timed_out:
            self._gave_up(held, chunk, timed_out(held.spec, chunk.lo), now)
            return
        if not event.blame:
            self._put_back(chunk)
            return
        self.journal.tell(now, "worker died", chunk.job, chunk.lid, (chunk.lo, chunk.hi))
        if isinstance(held.bags, IndexedBags) and chunk.hi - chunk.lo > 1:
            self._put_back(chunk, died=True)
            return
        culprit = chunk.lid if chunk.explore else chunk.lo
        attempts = held.attempts.setdefault(culprit, [])
        attempts.append(event.reason)
        if len(attempts) < held.spec.attempts_max:
            self._put_back(chunk, died=True)
            return
        codec, blob = worker_died(held.spec, chunk.lo, attempts)
        del held.attempts[culprit]
        if isinstance(held.bags, IndexedBags):
            self._gave_up(held, chunk, (codec, blob), now)
        else:
            seq = held.bags.step(chunk.lid, 0, b"")
            if seq:
                commit = Commit(
                    chunk.job, chunk.lid, seq, 0, [], 0.0, 0, 1, [bytes([codec]) + blob, b""]
                )
                self.links.send(held.spec.owner, commit, now)

    def _gave_up(self, held: HeldJob, chunk: Chunk, failure: tuple[int, bytes], now: float) -> None:
        """No worker will ever say how the one item of this chunk ended, so we do."""
        codec, blob = failure
        part = Part(chunk.lid, chunk.lo, chunk.hi, codec, now - chunk.started, 1)
        self._settle(held, part, blob, now)

    def _void(self, job: JobId, lid: LeaseId) -> None:
        for chunk in self.dispatcher.slots.chunks():
            if chunk.job == job and chunk.lid == lid and not chunk.void:
                chunk.void = True
                if chunk.explore:
                    self.dispatcher.stop(chunk.worker, "its lease was revoked", blame=False)

    def _wasted(self, items: int) -> None:
        self.counters.count("items-run-for-nothing", items)
