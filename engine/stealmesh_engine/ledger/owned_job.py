"""A job that this peer owns: its ledger, and what the owner remembers of it.

Decides nothing. Knows the job's ledger and the nodes that cannot run it; refuses to know links and effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import ItemsProgress
from stealmesh_engine.events import OpenJob
from stealmesh_engine.ledger.dealing import Lanes
from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.explore import ExploreLedger
from stealmesh_engine.ledger.hired_hand import AGAIN_SECONDS, HiredHand
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.item_progress import ItemProgress
from stealmesh_engine.ledger.job_ledger import JobLedger
from stealmesh_engine.ledger.job_pace import JobPace
from stealmesh_engine.ledger.lent_twice import TwiceLentLedger
from stealmesh_engine.ledger.lives import Homes, Lives
from stealmesh_engine.ledger.mishaps import Mishaps
from stealmesh_engine.ledger.passed_over import PassedOver
from stealmesh_engine.ledger.requirements import may_be_hired_for
from stealmesh_engine.ledger.verdicts import Stepped
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.limits import NAME_CHARS_MAX
from stealmesh_protocol.messages import Block, Commit, JobKind, JobLine, JobSpec, Part
from stealmesh_protocol.values import OUTCOMES

WEIGHT_OF_NEWEST = 0.3
UNWANTED_MAX = 1024
"""Intervals of cancelled items that are remembered for people who ask."""


class Keeping(Protocol):
    """What the primary of a durable job (durable/primary.py) is asked and told."""

    crowded: bool
    """There is no room for more results."""

    def credited(self, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int) -> None:
        """The items [lo, hi) count, for the first and only time."""

    def stepped(self, holder: PeerId, message: Commit, partial: bytes, step: Stepped) -> None:
        """A step of an explore job counts."""

    def dismissed(self, holder: PeerId, part: Part) -> None:
        """This result does not count; the holder need not keep it."""

    def may_lease(self) -> bool:
        """Is it known by now what others hold, and is there room for results?"""

    def may_end(self) -> bool:
        """Is everything that was credited held safely?"""


@dataclass(slots=True)
class OwnedJob:
    """A job, its ledger, and what is needed to lease any part of it again."""

    spec: JobSpec
    ledger: JobLedger[Any]
    open_ended: bool
    """More items may come."""
    told: dict[PeerId, None] = field(default_factory=dict)
    """Nodes that have heard of the job and must hear of its end."""
    lapsed: dict[PeerId, None] = field(default_factory=dict)
    """Nodes that beat, and yet let a lease of this job expire: others come first until one reports."""
    failed: int = 0
    """Items with an error as their result."""
    duplicates_dropped: int = 0
    done: bool = False
    keeping: Keeping | None = None
    """The primary that makes a durable job outlive this process."""
    submitter: str = ""
    """Of an ordinary job, since its spec does not say it with every grant."""
    submitted: float = 0.0
    ended: float = 0.0
    """Like `submitted`, in seconds since 1970."""
    passed: PassedOver | None = None
    """Nodes that cannot run it; None until one has declined."""
    stuck_since: float | None = None
    """Since when there are nodes, and none that has its Python and its resources."""
    why_stuck: str = ""
    said_stuck: bool = False
    progress: ItemProgress | None = None
    """What its tasks say of how far they are; None until one has."""
    lanes: Lanes | None = None
    """Of a job with a bound on what runs at once."""
    lives: Lives | None = None
    """Of an actor."""
    edges: JobEdges | None = None
    """What its items wait for, and what waits for them; None as long as there is neither."""
    mishaps: Mishaps | None = None
    """How its items failed lately; None until one has."""
    began: tuple[float, int] = (0.0, 0)
    """When its ledger was opened here, and how much was done then."""
    pace: JobPace | None = None
    """None until somebody has looked."""
    item_seconds: float | None = None
    """What one item takes lately; None until it matters where one runs (soonest.py)."""
    lone: int = 0
    """How many items in a row came alone, when no other was open; -1: no worker is hired for such a job."""
    hire: HiredHand | None = None
    """A worker that is hired for it, or asked for."""
    hire_at: float = 0.0
    """Not before this time another one is asked for."""
    hire_wait: float = AGAIN_SECONDS
    """How long that is after a hire that was not worth it: twice as long each time."""

    def __post_init__(self) -> None:
        if self.spec.max_parallel:
            self.lanes = Lanes(self.spec.max_parallel)
        if not may_be_hired_for(self.spec):
            self.lone = -1

    def submitted_by(self, submitter: str, now: float, wall_offset: float) -> None:
        """An ordinary job begins."""
        self.submitter, self.submitted = submitter, now + wall_offset
        self.begins(now)

    def begins(self, now: float) -> None:
        """Its ledger is opened here, with what is done by now."""
        self.began = (now, self.ledger.figures().done)

    def passing(self) -> PassedOver:
        """The memory of nodes that declined, from now on at the latest."""
        if self.passed is None:
            self.passed = PassedOver(lasting=self.ledger.lasting_refusals)
        return self.passed

    def comes(self, block: Block) -> None:
        """These items come: one alone, when no other is open, or more."""
        if self.lone >= 0:
            alone = block.hi - block.lo == 1 and not self.ledger.leases
            self.lone = self.lone + 1 if alone else 0

    def may_end(self) -> bool:
        """Is all of it credited, and safe?"""
        return (
            self.ledger.complete
            and not self.open_ended
            and (self.keeping is None or self.keeping.may_end())
        )

    def has_told(self, holder: PeerId) -> None:
        """This holder knows the job, and must hear of its end."""
        self.told[holder] = None

    def let_lapse(self, holder: PeerId) -> None:
        """This holder beats, and yet let a lease of ours expire: others come first."""
        self.lapsed[holder] = None

    def has_reported(self, holder: PeerId) -> None:
        """It does its work again, if it ever let a lease lapse."""
        self.lapsed.pop(holder, None)

    def count_failed(self, items: int) -> None:
        """This number of items has an error as its result."""
        self.failed += items

    def count_dropped(self, items: int) -> None:
        """This number of results came a second time, or too late."""
        self.duplicates_dropped += items

    def close_input(self) -> None:
        """No more items come."""
        self.open_ended = False

    def is_led_elsewhere(self) -> None:
        """Another peer is its primary now: here it is over."""
        self.done = True

    def is_stuck(self, why: str, now: float) -> float:
        """No node can run it. Returns for how many seconds that has been so."""
        self.why_stuck = why
        if self.stuck_since is None:
            self.stuck_since = now
        return now - self.stuck_since

    def is_not_stuck(self) -> None:
        self.stuck_since, self.why_stuck = None, ""

    def says_once_that_it_is_stuck(self) -> bool:
        """True the first time: the program is told once."""
        first, self.said_stuck = not self.said_stuck, True
        return first

    def copies_say(self, failed: int, *, open_ended: bool) -> None:
        """Of a durable job: how many items have failed in all, and whether more may come."""
        self.failed, self.open_ended = failed, open_ended

    def hear_progress(
        self, holder: PeerId, lid: LeaseId, item: int, done: float, total: float
    ) -> bool:
        """A holder passes on what a task says. Does it count?"""
        if self.progress is None:
            self.progress = ItemProgress()
        return self.progress.hear(self.ledger, holder, lid, item, done, total)

    def has_failed(self, lo: int, codec: int, blob: bytes) -> None:
        """Items from `lo` on have failed as this outcome says."""
        if codec == OUTCOMES:
            if self.mishaps is None:
                self.mishaps = Mishaps()
            self.mishaps.add(lo, blob)

    def took(self, items: int, seconds: float) -> None:
        """A worker took this time (seconds) for this number of items."""
        if self.item_seconds is not None and items:
            self.item_seconds += WEIGHT_OF_NEWEST * (seconds / items - self.item_seconds)

    def last_error(self) -> str:
        """How the last item that failed did."""
        return "" if self.mishaps is None else self.mishaps.last()

    def _rate(self, done: int, now: float | None) -> float:
        """Items a second, lately."""
        if now is None or self.done:
            return 0.0
        if self.pace is None:
            self.pace = JobPace(*self.began)
        return self.pace.looked(now, done)

    def end(self, at: float) -> None:
        """It is over, at this time of day."""
        self.done, self.ended = True, at
        if self.lives is not None:
            self.lives.leave()

    def line(self, now: float | None = None) -> JobLine:
        """The job in figures; with its rate, if the time is told."""
        ledger, spec = self.ledger, self.spec
        figures = ledger.figures()
        state = "running" if ledger.leases else "waiting"
        if self.why_stuck and not ledger.leases:
            state = f"waiting: {self.why_stuck}"[:NAME_CHARS_MAX]
        if figures.done == figures.total and not ledger.complete:
            state = "keeps results"
        if self.done:
            state = "done" if ledger.complete else "cancelled"
        return JobLine(
            spec.job,
            spec.kind,
            spec.name,
            state,
            figures.total,
            figures.done,
            self.failed,
            figures.leased,
            figures.free,
            ledger.rerun,
            self.duplicates_dropped,
            self.keeping is not None,
            self.submitter or spec.submitter,
            self.submitted or spec.submitted,
            self.ended,
            () if self.progress is None else self.progress.line(ledger),
            self._rate(figures.done, now),
            self.last_error(),
        )


@dataclass(slots=True)
class IndexedJob(OwnedJob):
    """A map, a reduction or a durable job."""

    ledger: IndexedLedger
    unwanted: IntervalSet | None = None
    """Items that the program has cancelled, as long as there are not too many; None: none."""

    def counted(self, items: int) -> None:
        """The number of items is final: holders are to know it."""
        self.spec = replace(self.spec, count=items)

    def cancel(self, lo: int, hi: int, until: float) -> dict[PeerId, list[tuple[int, int]]]:
        """[lo, hi) is not wanted any more. Returns who has something of it."""
        self.linger(lo, hi, until)
        if self.unwanted is None:
            self.unwanted = IntervalSet()
        if len(self.unwanted) < UNWANTED_MAX and not self.ledger.credited.covers(lo, hi):
            self.unwanted.add(lo, hi)
        told = self.ledger.cancel(lo, hi)
        if self.passed is not None:
            self.passed.settled(lo, hi)
        return told

    def keeps_results(self) -> list[tuple[int, int]]:
        """The program wants nothing more of it, and has results that may have to be made again: it goes on for them
        alone. Returns the items that are not wanted any more."""
        self.close_input()
        self.ledger.release(self.ledger.total)
        unwanted = IntervalSet([(0, self.ledger.total)])
        for item in self.ledger.again:
            unwanted.remove(item, item + 1)
        return list(unwanted)

    def linger(self, lo: int, hi: int, until: float) -> None:
        """[lo, hi) is going to be cancelled: what holders have of it takes up its lanes for a while."""
        for piece in () if self.lanes is None else self.ledger.pieces(lo, hi):
            assert self.lanes is not None
            self.lanes.linger(piece.holder, piece.lid, [(piece.lo, piece.hi)], until)


@dataclass(slots=True)
class ExploreJob(OwnedJob):
    ledger: ExploreLedger


def opened(event: OpenJob, homes: Homes) -> OwnedJob:
    """A new job with the ledger of its kind. `homes`: of the actors of this owner."""
    spec = event.spec
    if event.speculate:
        assert spec.kind in (JobKind.MAP, JobKind.SUBMIT), "parts of this cannot be lent twice"
        assert not spec.life, "the calls of an actor run in one place"
        twice = TwiceLentLedger(event.total, event.released)
        return IndexedJob(spec, twice, event.open_ended, lone=-1)
    if spec.kind is JobKind.EXPLORE:
        return ExploreJob(spec, ExploreLedger(), event.open_ended)
    whole_parts = spec.kind is JobKind.REDUCE
    ledger = IndexedLedger(event.total, event.released, whole_parts=whole_parts)
    job = IndexedJob(spec, ledger, event.open_ended)
    if spec.life:
        job.lives = Lives(spec, ledger, homes)
    return job


def words_that_count(
    jobs: Mapping[JobId, OwnedJob],
    holder: PeerId,
    told: list[tuple[JobId, LeaseId, int, float, float]],
    counters: Counters,
) -> list[ItemsProgress]:
    """Tasks say how far they are. The program of a durable job hears of it when it asks."""
    words: dict[JobId, list[tuple[int, float, float]]] = {}
    for job_id, lid, item, done, total in told:
        job = jobs.get(job_id)
        if job is None or not job.hear_progress(holder, lid, item, done, total):
            counters.count("progress-dropped")
        elif job.keeping is None:
            words.setdefault(job_id, []).append((item, done, total))
    return [ItemsProgress(*each) for each in words.items()]
