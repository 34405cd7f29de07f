"""Slices of large durable jobs: one job for the program, even if slices are lost or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stealmesh_engine import effects as fx
from stealmesh_engine.durable.client import DurableClient, Word
from stealmesh_engine.durable.slices import RANGE_SLICES, Slices, cut, slice_items_of, sum_of
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, LaunchJob, SupplyJob
from stealmesh_protocol.ids import JobId, job_id, slice_id, slice_of, whole_of
from stealmesh_protocol.messages import Block, JobKind, JobLine, JobSpec, Kept, Part

JOB = job_id(bytes(16), 7)
SIZE = 8
WHOLE = slice_id(JOB, 3, 0)


class StandInPrimary:
    """What one slice's primary would know."""

    def __init__(self, job: JobId, total: int, *, closed: bool) -> None:
        self.job, self.total, self.closed = job, total, closed
        self.start = 0
        self.blocks: list[Block] = []
        self.fetched_upto = 0
        self.want = False
        self.state = "waiting"

    @property
    def line(self) -> JobLine:
        done = self.total if self.state == "done" else 0
        return JobLine(
            self.job, JobKind.MAP, "j", self.state, self.total, done, 0, 0, 0, 0, 0, True
        )


class StandInClient(DurableClient):
    """Primaries that answer when the test says so."""

    tell: Callable[[Word, float], None]

    def __init__(self) -> None:
        self.primaries: dict[JobId, StandInPrimary] = {}
        self.attached: list[JobId] = []
        self.abolished: list[JobId] = []

    def launch(self, event: LaunchJob, now: float) -> None:
        spec = event.spec
        primary = self.primaries[spec.job] = StandInPrimary(
            spec.job, event.total, closed=bool(spec.step)
        )
        primary.start = spec.start

    def attach(self, event: AttachJob, now: float) -> None:
        self.attached.append(event.job)

    def supply(self, event: SupplyJob, now: float) -> None:
        primary = self.primaries[event.job]
        assert not primary.closed
        if event.block is not None:
            assert event.block.lo == primary.total
            primary.blocks.append(event.block)
            primary.total = event.block.hi
        primary.closed = event.closed

    def fetch(self, event: FetchResults, now: float) -> None:
        primary = self.primaries[event.job]
        primary.fetched_upto, primary.want = event.lo, event.want

    def abolish(self, event: AbolishJob, now: float) -> None:
        self.abolished.append(event.job)

    def accept(self, primary: StandInPrimary, refusal: str = "") -> None:
        self.tell(fx.Accepted(primary.job, primary.total, primary.closed, refusal), 0.0)

    def answer(self, primary: StandInPrimary, upto: int | None = None) -> None:
        """Results of all items that were asked for, or up to here."""
        lo, hi = primary.fetched_upto, primary.total if upto is None else upto
        found = primary.want and lo < hi
        results = [Kept(lo, hi, Part(1, lo, hi, 0, 0.0))] if found else []
        if found:
            primary.fetched_upto, primary.want = hi, False
        word = fx.Results(
            primary.job, lo, primary.line, results, [b"r"] * found, primary.closed, []
        )
        self.tell(word, 0.0)


class Program:
    """Reads one job to its end, as client/durable_job.py does."""

    def __init__(self, *, step: int, total: int) -> None:
        self.effects: list[Any] = []
        self.client = StandInClient()
        self.slices = Slices(self.client, self.effects)
        self.client.tell = self.slices.tell
        self.spec = JobSpec(WHOLE, JobKind.MAP, bytes(16), "j", bytes(16), start=100, step=step)
        self.total = total
        self.position = 0

    def launch(self) -> None:
        given = self.total if self.spec.step else 0
        self.slices.launch(LaunchJob(self.spec, given, [b"f"]), 0.0)

    def feed(self, items: int) -> None:
        for lo in range(0, items, 4):
            block = Block(lo, min(lo + 4, items), 0)
            self.slices.of(WHOLE).supply(SupplyJob(WHOLE, block, b"i"), 0.0)
        self.slices.of(WHOLE).supply(SupplyJob(WHOLE, closed=True), 0.0)

    @property
    def primaries(self) -> list[StandInPrimary]:
        return list(self.client.primaries.values())

    def fetch(self) -> None:
        self.slices.of(WHOLE).fetch(FetchResults(WHOLE, self.position), 0.0)

    def collect(self) -> Iterator[fx.Results]:
        """What came since the last look; the position goes with it."""
        told, self.effects[:] = list(self.effects), []
        for effect in told:
            if isinstance(effect, fx.Results):
                assert effect.job == WHOLE
                if effect.lo == self.position:
                    for kept in effect.results:
                        assert (kept.lo, kept.part.lo) == (self.position, self.position)
                        self.position = kept.hi
                yield effect


def test_the_id_says_it_all() -> None:
    assert slice_of(JOB) is None
    assert whole_of(JOB) == JOB
    third = slice_id(WHOLE, 3, 2)
    assert slice_of(third) == (8, 2)
    assert whole_of(third) == WHOLE
    with pytest.raises(AssertionError):
        slice_id(JOB, 3, 1 << 16)


@pytest.mark.parametrize(
    ("total", "most", "size"),
    [
        (8, 8, None),
        (9, 8, 8),
        (None, 8, 8),
        (None, 5, 8),
        (None, 1, 1),
        (8 * RANGE_SLICES, 8, 8),
        (8 * RANGE_SLICES + 1, 8, 16),
        (10**9, 1 << 20, 1 << 26),
    ],
)
def test_how_a_job_is_cut(total: int | None, most: int, size: int | None) -> None:
    assert slice_items_of(cut(JOB, total, most)) == size


@pytest.mark.parametrize(("total", "sizes"), [(20, [8, 8, 4]), (16, [8, 8, 0]), (3, [3])])
@pytest.mark.parametrize("step", [0, 5])
def test_slices_have_their_items_and_the_last_is_not_full(
    total: int, sizes: list[int], step: int
) -> None:
    program = Program(step=step, total=total)
    program.launch()
    if not step:
        program.feed(total)
    assert [primary.total for primary in program.primaries] == sizes
    assert all(primary.closed for primary in program.primaries)
    if step:
        assert [primary.start for primary in program.primaries] == [
            100 + 5 * 8 * number for number in range(len(sizes))
        ]


def test_it_is_accepted_when_all_of_it_is() -> None:
    program = Program(step=0, total=20)
    program.launch()
    program.feed(20)
    told = []
    for number in (2, 0, 1):
        program.client.accept(program.primaries[number])
        told.append((program.effects[-1].upto, program.effects[-1].closed))
    assert told == [(0, False), (8, False), (20, True)]


def test_one_refusal_is_one_too_many() -> None:
    program = Program(step=1, total=20)
    program.launch()
    program.client.accept(program.primaries[0])
    program.client.accept(program.primaries[1], "no room")
    assert program.effects[-1].refusal == "no room"
    assert len(program.client.abolished) == 3


@pytest.mark.parametrize("launched_here", [True, False])
@pytest.mark.parametrize("total", [20, 16, 3])
def test_it_is_read_in_order_to_its_end(total: int, launched_here: bool) -> None:
    program = Program(step=1, total=total)
    program.launch()
    if not launched_here:
        before, program = program, Program(step=1, total=total)
        program.client.primaries = before.client.primaries
        program.slices.attach(AttachJob(WHOLE), 0.0)
    program.fetch()
    over = False
    for _ in range(20):
        assert not over
        for primary in program.primaries:
            primary.state = "done"
            program.client.answer(primary, upto=min(primary.total, primary.fetched_upto + 3))
        for told in program.collect():
            over = told.closed and program.position == told.line.total
        if over:
            break
        program.fetch()
    assert over, program.position
    assert program.position == total
    assert told.line.state == "done"
    if not launched_here:
        assert len(program.client.attached) == total // SIZE + 1


def test_the_reader_waits_for_a_slice_that_does_not_exist_yet() -> None:
    """The first slice is read before the second is begun (sliced world 25)."""
    program = Program(step=0, total=12)
    program.launch()
    program.slices.of(WHOLE).supply(SupplyJob(WHOLE, Block(0, 8, 0), b"i"), 0.0)
    program.fetch()
    program.client.answer(program.primaries[0])
    list(program.collect())
    program.fetch()
    program.slices.of(WHOLE).supply(SupplyJob(WHOLE, Block(8, 12, 0), b"i"), 0.0)
    assert program.primaries[1].want


def test_a_slice_that_is_read_may_make_room() -> None:
    program = Program(step=1, total=20)
    program.launch()
    program.fetch()
    for _ in range(2):
        program.client.answer(program.primaries[0], upto=program.position + 4)
        list(program.collect())
        program.fetch()
    assert program.primaries[0].fetched_upto == SIZE
    assert not program.primaries[0].want


def test_reading_again_from_the_start() -> None:
    program = Program(step=1, total=20)
    program.launch()
    program.position = 17
    program.fetch()
    assert [primary.fetched_upto for primary in program.primaries] == [8, 8, 1]
    program.position = 0
    program.fetch()
    assert (program.primaries[0].fetched_upto, program.primaries[0].want) == (0, True)
    program.position = 17
    program.fetch()
    assert [primary.fetched_upto for primary in program.primaries] == [8, 8, 1]


def test_what_a_former_reader_asked_for_does_not_move_the_next_one() -> None:
    program = Program(step=1, total=20)
    program.launch()
    program.position = 17
    program.fetch()
    program.position = 0
    program.fetch()
    program.client.answer(program.primaries[2])
    assert program.slices.jobs[WHOLE].lo == 0
    list(program.collect())
    assert program.position == 0


def test_a_lost_slice_is_named_where_it_is_missed() -> None:
    program = Program(step=1, total=20)
    program.launch()
    for primary in program.primaries:
        program.client.answer(primary)
    program.client.tell(fx.JobGone(program.primaries[1].job, "nobody knows it"), 0.0)
    assert program.effects[-1].missing == [(8, 16)]
    assert program.effects[-1].line.state == "lost"
    program.position = 8
    program.fetch()
    *_, told = program.collect()
    assert (told.lo, told.missing) == (8, [(8, 16)])
    program.position = 16
    program.fetch()
    program.client.answer(program.primaries[2])
    *_, told = program.collect()
    assert not told.missing, "what the program has is not missed"


def test_a_job_that_nobody_knows_is_gone() -> None:
    program = Program(step=1, total=20)
    program.slices.attach(AttachJob(WHOLE), 0.0)
    program.client.tell(fx.JobGone(WHOLE, "nobody knows it"), 0.0)
    assert isinstance(program.effects[-1], fx.JobGone)
    program.slices.attach(AttachJob(WHOLE), 0.0)
    assert program.client.attached == [WHOLE, WHOLE]


def test_a_slice_found_after_the_end_was_wished_is_ended_too() -> None:
    before = Program(step=1, total=20)
    before.launch()
    program = Program(step=1, total=20)
    program.client.primaries = before.client.primaries
    program.slices.attach(AttachJob(WHOLE), 0.0)
    program.slices.of(WHOLE).abolish(AbolishJob(WHOLE), 0.0)
    program.client.answer(program.primaries[0])
    assert program.client.abolished == [primary.job for primary in program.primaries[:2]]


def test_the_account_of_the_whole() -> None:
    def line(state: str, total: int, done: int) -> JobLine:
        return JobLine(WHOLE, JobKind.MAP, "j", state, total, done, 1, 2, 3, 4, 5, True)

    assert sum_of([line("done", 8, 8)]) == line("done", 8, 8)
    summed = sum_of([line("done", 8, 8), line("running", 8, 3), line("waiting", 4, 0)])
    assert (summed.state, summed.total, summed.done) == ("running", 20, 11)
    assert (summed.failed, summed.leased, summed.free, summed.rerun) == (3, 6, 9, 12)
    assert sum_of([line("done", 8, 8), line("waiting", 8, 0)]).state == "waiting"
    assert sum_of([line("running", 8, 8), line("lost", 8, 0)]).state == "lost"
