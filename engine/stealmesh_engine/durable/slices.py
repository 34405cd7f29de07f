"""Large durable jobs, cut into slices: each is a durable job of its own, with a home of its own.

Decides into how many slices a job is cut, which of them an item is in, and what their accounts come
to together; a program sees one job. Refuses to know how a slice is kept, found again or rebuilt:
for its home, its holders and its keepers it is a job like any other (primary.py, client.py).

Whoever attaches has only the job's id, so everything else follows from that: the id says how many
items a slice has, each slice but the last is full, and a full slice is followed by another (which may
be empty). So no slice needs to know of the next, none can be forgotten when keepers are lost, and
the program that launched the job is not needed to find its end.

Idea: the region of a large table has a server of its own (Bigtable's tablets).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine import effects as fx
from stealmesh_engine.durable.client import Patron
from stealmesh_engine.effects import Effect
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, LaunchJob, SupplyJob
from stealmesh_protocol.ids import JobId, slice_id, slice_of, whole_of
from stealmesh_protocol.messages import Block, JobLine, Kept

RANGE_SLICES = 16
"""The slices of a range are larger rather than more."""
_UNHAPPY_ENDS = ("cancelled", "lost", "expired")


def cut(job: JobId, total: int | None, slice_items: int) -> JobId:
    """The id under which a job with so many items (None: nobody knows yet) is to be launched."""
    if total is not None and total <= slice_items:
        return job
    least = slice_items if total is None else max(slice_items, -(-total // RANGE_SLICES))
    return slice_id(job, (least - 1).bit_length(), 0)


def slice_items_of(job: JobId) -> int | None:
    """How many items each slice of this job has; None if it is not cut."""
    found = slice_of(job)
    return None if found is None else found[0]


def sum_of(lines: list[JobLine]) -> JobLine:
    """The account of a job, from those of its slices."""
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
        ended=max(line.ended for line in lines) if all(line.ended for line in lines) else 0.0,
    )


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


@dataclass(slots=True)
class Whole:
    """One job that the program follows."""

    job: JobId
    size: int
    launch: LaunchJob | None = None
    """What was launched here; None: somebody else did."""
    slices: list[Slice] = field(default_factory=list)
    """Those that we know of; the first is always among them."""
    given: int = 0
    given_all: bool = False
    lo: int = 0
    """The program has everything below."""
    want: bool = False
    abolished: bool = False

    @property
    def closed(self) -> bool:
        """Is the total final? (Whoever follows a full slice knows that there is another.)"""
        last = self.slices[-1]
        known = all(each.line is not None for each in self.slices)
        return known and (bool(last.gone) or last.closed)

    def is_full(self, part: Slice) -> bool:
        return part.line is not None and part.line.total == self.size


class Slices:
    """All durable jobs of a program: those that are cut, and a door for those that are not."""

    def __init__(self, patron: Patron, effects: list[Effect]) -> None:
        self.patron = patron
        self.effects = effects
        self.wholes: dict[JobId, Whole] = {}
        patron.tell = self.told

    # ------------------------------------------------------------ the program's wishes

    def launch(self, event: LaunchJob, now: float) -> None:
        spec = event.spec
        size = slice_items_of(spec.job)
        if size is None:
            self.patron.launch(event, now)
            return
        whole = self.wholes[spec.job] = Whole(spec.job, size, event)
        if not spec.step:
            self._open(whole, 0, now)
            return
        whole.given, whole.given_all = event.total, True
        for at in range(0, event.total + 1, size):
            self._open(whole, min(size, event.total - at), now)

    def supply(self, event: SupplyJob, now: float) -> None:
        whole = self.wholes.get(event.job)
        if whole is None:
            self.patron.supply(event, now)
            return
        block = event.block
        if block is not None:
            self._make_room(whole, block.lo, now)
            last = whole.slices[-1]
            base = (len(whole.slices) - 1) * whole.size
            assert base <= block.lo < block.hi <= base + whole.size, "a block in two slices"
            inside = Block(block.lo - base, block.hi - base, block.codec)
            self.patron.supply(SupplyJob(last.job, inside, event.blob), now)
            whole.given = block.hi
        if event.closed:
            self._make_room(whole, whole.given, now)
            whole.given_all = True
            self.patron.supply(SupplyJob(whole.slices[-1].job, closed=True), now)

    def attach(self, event: AttachJob, now: float) -> None:
        size = slice_items_of(event.job)
        if size is None:
            self.patron.attach(event, now)
        elif event.job not in self.wholes:
            whole = self.wholes[event.job] = Whole(event.job, size)
            self._follow(whole, now)

    def fetch(self, event: FetchResults, now: float) -> None:
        whole = self.wholes.get(event.job)
        if whole is None:
            self.patron.fetch(event, now)
            return
        whole.lo, whole.want = event.lo, event.want
        reading = event.lo // whole.size
        for number, part in enumerate(whole.slices):
            if part.read != (number < reading):
                part.read = number < reading
                if part.read:  # it may make room
                    self.patron.fetch(FetchResults(part.job, whole.size, want=False), now)
        if reading < len(whole.slices):
            part = whole.slices[reading]
            self.patron.fetch(FetchResults(part.job, event.lo % whole.size, event.want), now)
            if part.gone:
                self._show(whole)

    def abolish(self, event: AbolishJob, now: float) -> None:
        whole = self.wholes.get(event.job)
        if whole is None:
            self.patron.abolish(event, now)
            return
        whole.abolished = True
        for part in whole.slices:
            self.patron.abolish(AbolishJob(part.job), now)

    # ------------------------------------------------------------ what comes back

    def told(self, effect: fx.Accepted | fx.Results | fx.JobGone, now: float) -> None:
        """The patron has news of a job: of a slice it is put into the words of the whole."""
        whole = self.wholes.get(whole_of(effect.job))
        if whole is None:
            self.effects.append(effect)
            return
        number = self._number_of(effect.job)
        if isinstance(effect, fx.Accepted):
            self._accepted(whole, whole.slices[number], effect, now)
        elif isinstance(effect, fx.Results):
            self._results(whole, number, effect, now)
        else:
            self._gone(whole, number, effect)

    def _accepted(self, whole: Whole, part: Slice, effect: fx.Accepted, now: float) -> None:
        part.accepted = max(part.accepted, effect.upto)
        part.accepted_closed = part.accepted_closed or effect.closed
        upto = 0
        for each in whole.slices:
            upto += each.accepted
            if not each.accepted_closed:
                break
        everything = whole.given_all and all(each.accepted_closed for each in whole.slices)
        self.effects.append(fx.Accepted(whole.job, upto, everything, effect.refusal))
        if effect.refusal:  # a part of a job is of no use
            self.abolish(AbolishJob(whole.job), now)

    def _results(self, whole: Whole, number: int, effect: fx.Results, now: float) -> None:
        part = whole.slices[number]
        part.line, part.closed, part.missing = effect.line, effect.closed, effect.missing
        last = whole.slices[-1]
        if part is last and part.closed and whole.is_full(part) and whole.launch is None:
            self._follow(whole, now)
        base = number * whole.size
        results = [_shifted(kept, base) for kept in effect.results]
        if results and base + effect.lo == whole.lo:  # else a former reader asked for them
            whole.lo = results[-1].hi
        self._show(whole, base + effect.lo, results, effect.blobs)

    def _gone(self, whole: Whole, number: int, effect: fx.JobGone) -> None:
        part = whole.slices[number]
        part.gone = effect.why
        known = [each.line for each in whole.slices if each.line is not None]
        if not known:
            del self.wholes[whole.job]
            self.effects.append(fx.JobGone(whole.job, effect.why))
            return
        # It was there, or the slice before it would not be full; how much was in it nobody can say.
        part.line = replace(part.line or replace(known[0], total=whole.size, done=0), state="lost")
        part.missing = [(0, part.line.total)]
        self._show(whole)

    def _show(
        self,
        whole: Whole,
        lo: int | None = None,
        results: list[Kept] | None = None,
        blobs: list[bytes] | None = None,
    ) -> None:
        lines = [each.line for each in whole.slices if each.line is not None]
        line = replace(sum_of(lines), job=whole.job)
        missing = [
            (base + lo, base + hi)
            for base, each in zip(_bases(whole), whole.slices, strict=True)
            for lo, hi in each.missing
            if base + hi > whole.lo
        ]
        at = whole.lo if lo is None else lo
        self.effects.append(
            fx.Results(whole.job, at, line, results or [], blobs or [], whole.closed, missing)
        )

    # ------------------------------------------------------------ inside

    def _open(self, whole: Whole, total: int, now: float) -> None:
        """Launch the next slice, with so many items of a range."""
        assert whole.launch is not None
        part = self._add(whole)
        spec = whole.launch.spec
        base = (len(whole.slices) - 1) * whole.size
        start = spec.start + base * spec.step
        self.patron.launch(
            LaunchJob(replace(spec, job=part.job, start=start), total, whole.launch.functions), now
        )
        self._read_on(whole, now)

    def _make_room(self, whole: Whole, lo: int, now: float) -> None:
        """The next item is this one: does it begin a slice?"""
        if lo == len(whole.slices) * whole.size:
            self.patron.supply(SupplyJob(whole.slices[-1].job, closed=True), now)
            self._open(whole, 0, now)

    def _follow(self, whole: Whole, now: float) -> None:
        """There is one slice more than we knew."""
        part = self._add(whole)
        self.patron.attach(AttachJob(part.job), now)
        self._read_on(whole, now)
        if whole.abolished:
            self.patron.abolish(AbolishJob(part.job), now)

    def _read_on(self, whole: Whole, now: float) -> None:
        """The program may be waiting for what is in the slice that has just become known."""
        if whole.want and whole.lo // whole.size == len(whole.slices) - 1:
            at = whole.lo % whole.size
            self.patron.fetch(FetchResults(whole.slices[-1].job, at, whole.want), now)

    def _add(self, whole: Whole) -> Slice:
        doublings = whole.size.bit_length() - 1
        part = Slice(slice_id(whole.job, doublings, len(whole.slices)))
        whole.slices.append(part)
        return part

    def _number_of(self, job: JobId) -> int:
        found = slice_of(job)
        assert found is not None
        return found[1]


def _bases(whole: Whole) -> range:
    return range(0, whole.size * len(whole.slices), whole.size)


def _shifted(kept: Kept, by: int) -> Kept:
    part = kept.part
    return Kept(kept.lo + by, kept.hi + by, replace(part, lo=part.lo + by, hi=part.hi + by))
