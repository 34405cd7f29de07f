"""Large durable jobs, cut into slices: each is a durable job of its own, with a primary of its own.

Decides into how many slices a job is cut, which of them holds an item, and how their states add up; a
program sees one job. Refuses to know how a slice is kept, found again or rebuilt: for its primary, its
holders and its replicas it is a job like any other (primary.py, client.py).

A program that attaches has only the job's id, and the rest follows from that. The id says how many
items a slice has. Each slice but the last is full, and a full slice is followed by another (which may be
empty). So no slice needs to know of the next, none can be forgotten when replicas are lost, and its end
can be found without the program that launched it.

Idea: one server for each region of a large table (Bigtable's tablets).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine import effects as fx
from stealmesh_engine.durable.client import DurableClient, Word
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, LaunchJob, SupplyJob
from stealmesh_engine.ledger.item_progress import WORDS_IN_LINE_MAX
from stealmesh_protocol.ids import JobId, slice_id, slice_of, whole_of
from stealmesh_protocol.messages import Block, JobLine, Kept

RANGE_SLICES = 16
"""A longer range has larger slices rather than more."""
_UNHAPPY_ENDS = ("cancelled", "lost", "expired")


def cut(job: JobId, total: int | None, slice_items: int) -> JobId:
    """The id under which to launch a job with `total` items (None: not known yet)."""
    if total is not None and total <= slice_items:
        return job
    least = slice_items if total is None else max(slice_items, -(-total // RANGE_SLICES))
    return slice_id(job, (least - 1).bit_length(), 0)


def slice_items_of(job: JobId) -> int | None:
    """How many items each slice of this job has; None if the job is not cut."""
    found = slice_of(job)
    return None if found is None else found[0]


def sum_of(lines: list[JobLine]) -> JobLine:
    """The state of a job, from those of its slices."""
    if len(lines) == 1:
        return lines[0]
    states = [line.state for line in lines]
    unhappy = [state for state in _UNHAPPY_ENDS if state in states]
    going = [state for state in states if state != "done"]
    state = "running" if "running" in states else going[0] if going else "done"
    return replace(
        lines[0],
        state=unhappy[0] if unhappy else state,
        total=sum(line.total for line in lines),
        done=sum(line.done for line in lines),
        failed=sum(line.failed for line in lines),
        leased=sum(line.leased for line in lines),
        free=sum(line.free for line in lines),
        rerun=sum(line.rerun for line in lines),
        duplicates_dropped=sum(line.duplicates_dropped for line in lines),
        told=tuple(word for line in lines for word in _told(line))[:WORDS_IN_LINE_MAX],
        rate=sum(line.rate for line in lines),
        error=next((line.error for line in reversed(lines) if line.error), ""),
        ended=max(line.ended for line in lines) if all(line.ended for line in lines) else 0.0,
    )


def _told(line: JobLine) -> list[tuple[int, float, float]]:
    """What it says of running items, by the whole job's numbers of them."""
    size, number = slice_of(line.job) or (0, 0)
    return [(size * number + item, done, total) for item, done, total in line.told]


@dataclass(slots=True)
class Slice:
    job: JobId
    accepted: int = 0
    accepted_closed: bool = False
    line: JobLine | None = None
    closed: bool = False
    read: bool = False
    """The program has all of it."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    gone: str = ""


class SlicedJob:
    """One job that the program follows and that is cut."""

    def __init__(
        self,
        job: JobId,
        size: int,
        client: DurableClient,
        effects: list[Effect],
        launch: LaunchJob | None = None,
    ) -> None:
        self.job = job
        self.size = size
        """Items of a full slice."""
        self.client = client
        self.effects = effects
        self._launch = launch
        """What the program launched; None if another program did."""
        self.slices: list[Slice] = []
        """Those that we know of; the first is always among them."""
        self.lo = 0
        """The program has everything below."""
        self.want = False
        self.is_gone = False
        """No node knows any slice."""
        self._given = 0
        self._given_all = False
        self._abolished: AbolishJob | None = None

    # ------------------------------------------------------------ the program's wishes

    def launch(self, now: float) -> None:
        assert self._launch is not None
        if not self._launch.spec.step:
            self._open(0, now)
            return
        self._given, self._given_all = self._launch.total, True
        for at in range(0, self._given + 1, self.size):
            self._open(min(self.size, self._given - at), now)

    def supply(self, event: SupplyJob, now: float) -> None:
        block = event.block
        if block is not None:
            self._make_room(block.lo, now)
            base = (len(self.slices) - 1) * self.size
            assert base <= block.lo < block.hi <= base + self.size, "a block in two slices"
            inside = Block(block.lo - base, block.hi - base, block.codec)
            self.client.supply(SupplyJob(self.slices[-1].job, inside, event.blob), now)
            self._given = block.hi
        if event.closed:
            self._make_room(self._given, now)
            self._given_all = True
            self.client.supply(SupplyJob(self.slices[-1].job, closed=True), now)

    def fetch(self, event: FetchResults, now: float) -> None:
        self.lo, self.want = event.lo, event.want
        reading = event.lo // self.size
        for number, part in enumerate(self.slices):
            if part.read != (number < reading):
                part.read = number < reading
                if part.read:  # it may make room
                    self.client.fetch(FetchResults(part.job, self.size, want=False), now)
        if reading < len(self.slices):
            part = self.slices[reading]
            self.client.fetch(FetchResults(part.job, event.lo % self.size, event.want), now)
            if part.gone:
                self._show(self.lo)

    def abolish(self, event: AbolishJob, now: float) -> None:
        self._abolished = event
        for part in self.slices:
            self.client.abolish(AbolishJob(part.job, event.stop), now)

    # ------------------------------------------------------------ what comes back

    def told(self, word: Word, now: float) -> None:
        """There is news of a slice: say it of the whole."""
        found = slice_of(word.job)
        assert found is not None
        number = found[1]
        if isinstance(word, fx.Accepted):
            self._accepted(self.slices[number], word, now)
        elif isinstance(word, fx.Results):
            self._results(number, word, now)
        else:
            self._gone(self.slices[number], word.why)

    def _accepted(self, part: Slice, word: fx.Accepted, now: float) -> None:
        part.accepted = max(part.accepted, word.upto)
        part.accepted_closed = part.accepted_closed or word.closed
        upto = 0
        for each in self.slices:
            upto += each.accepted
            if not each.accepted_closed:
                break
        everything = self._given_all and all(each.accepted_closed for each in self.slices)
        self.effects.append(fx.Accepted(self.job, upto, everything, word.refusal))
        if word.refusal:  # a part of a job is of no use
            self.abolish(AbolishJob(self.job), now)

    def _results(self, number: int, word: fx.Results, now: float) -> None:
        part = self.slices[number]
        part.line, part.closed, part.missing = word.line, word.closed, word.missing
        is_full = word.line.total == self.size
        if part is self.slices[-1] and part.closed and is_full and self._launch is None:
            self.follow(now)
        base = number * self.size
        results = [_shifted(kept, base) for kept in word.results]
        if results and base + word.lo == self.lo:  # otherwise a former reader asked for them
            self.lo = results[-1].hi
        self._show(base + word.lo, results, word.blobs)

    def _gone(self, part: Slice, why: str) -> None:
        part.gone = why
        known = [each.line for each in self.slices if each.line is not None]
        if not known:
            self.is_gone = True
            self.effects.append(fx.JobGone(self.job, why))
            return
        # The slice before it is full, so this one existed. How much was in it is not known.
        part.line = replace(part.line or replace(known[0], total=self.size, done=0), state="lost")
        part.missing = [(0, part.line.total)]
        self._show(self.lo)

    def _show(
        self, at: int, results: list[Kept] | None = None, blobs: list[bytes] | None = None
    ) -> None:
        lines = [each.line for each in self.slices if each.line is not None]
        line = replace(sum_of(lines), job=self.job)
        missing = [
            (number * self.size + lo, number * self.size + hi)
            for number, each in enumerate(self.slices)
            for lo, hi in each.missing
            if number * self.size + hi > self.lo
        ]
        self.effects.append(
            fx.Results(self.job, at, line, results or [], blobs or [], self._is_closed, missing)
        )

    @property
    def _is_closed(self) -> bool:
        """Is the total final? (When a full slice closes, `follow` adds another.)"""
        last = self.slices[-1]
        known = all(each.line is not None for each in self.slices)
        return known and (bool(last.gone) or last.closed)

    # ------------------------------------------------------------ one slice more

    def follow(self, now: float) -> None:
        """Another program launched the job, and there is one slice more than we knew."""
        part = self._add()
        self.client.attach(AttachJob(part.job), now)
        self._read_on(now)
        if self._abolished is not None:
            self.client.abolish(AbolishJob(part.job, self._abolished.stop), now)

    def _open(self, total: int, now: float) -> None:
        """Launch the next slice, with this many items of a range."""
        assert self._launch is not None
        base = len(self.slices) * self.size
        part = self._add()
        spec = self._launch.spec
        spec = replace(spec, job=part.job, start=spec.start + base * spec.step)
        self.client.launch(LaunchJob(spec, total, self._launch.functions), now)
        self._read_on(now)

    def _make_room(self, lo: int, now: float) -> None:
        """The next item is this one: begin a slice if the last is full."""
        if lo == len(self.slices) * self.size:
            self.client.supply(SupplyJob(self.slices[-1].job, closed=True), now)
            self._open(0, now)

    def _read_on(self, now: float) -> None:
        """The program may be waiting for what is in the new slice."""
        if self.want and self.lo // self.size == len(self.slices) - 1:
            at = self.lo % self.size
            self.client.fetch(FetchResults(self.slices[-1].job, at, self.want), now)

    def _add(self) -> Slice:
        doublings = self.size.bit_length() - 1
        part = Slice(slice_id(self.job, doublings, len(self.slices)))
        self.slices.append(part)
        return part


class Slices:
    """All durable jobs of a program: the sliced ones, and a way past them for the others."""

    def __init__(self, client: DurableClient, effects: list[Effect]) -> None:
        self.client = client
        self.effects = effects
        self.jobs: dict[JobId, SlicedJob] = {}

    def of(self, job: JobId) -> SlicedJob | DurableClient:
        """What takes the program's wishes for this job."""
        return self.jobs.get(job, self.client)

    def launch(self, event: LaunchJob, now: float) -> None:
        job, size = event.spec.job, slice_items_of(event.spec.job)
        if size is None:
            self.client.launch(event, now)
        else:
            self.jobs[job] = SlicedJob(job, size, self.client, self.effects, event)
            self.jobs[job].launch(now)

    def attach(self, event: AttachJob, now: float) -> None:
        job, size = event.job, slice_items_of(event.job)
        if size is None:
            self.client.attach(event, now)
        elif job not in self.jobs:
            self.jobs[job] = SlicedJob(job, size, self.client, self.effects)
            self.jobs[job].follow(now)

    def tell(self, word: Word | None, now: float) -> None:
        """Pass the client's word on to the program."""
        if word is None:
            return
        sliced = self.jobs.get(whole_of(word.job))
        if sliced is None:
            self.effects.append(word)
            return
        sliced.told(word, now)
        if sliced.is_gone:
            del self.jobs[sliced.job]


def _shifted(kept: Kept, by: int) -> Kept:
    part = kept.part
    return Kept(kept.lo + by, kept.hi + by, replace(part, lo=part.lo + by, hi=part.hi + by))
