"""What a node asks a busy worker, and what it makes of the answer."""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.effects import Divide, Effect, Retract, RunChunk
from stealmesh_engine.events import ChunkDone, ChunkPart, Retracted, WorkerLost
from stealmesh_engine.holding.cost import Cost
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.slots import PATROL_SECONDS, TURN_SECONDS, WANTED_SECONDS
from stealmesh_engine.ledger.passed_over import cannot_load
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import Block, Declined, Grant, JobKind, JobSpec, Lease, Report
from stealmesh_protocol.values import LACKING

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

OWNER = b"o" * 16
SPEC = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
OTHER = JobSpec(job_id(OWNER, 2), JobKind.SUBMIT, OWNER, "small", b"f")
EACH = 0.0001
ITEMS = 100_000
LATE = 4 * 0.02 + 0.01


class Node:
    """A holder with some workers, and everything that it has done."""

    def __init__(self, workers: int = 1, spec: JobSpec = SPEC, items: int = ITEMS) -> None:
        self.effects: list[Effect] = []
        links = Mock(Links)  # a holder only sends through them
        links.unacked_octets.return_value = 0
        links.send.side_effect = lambda peer, message, now: self.said.append(message)
        self.said: list[object] = []
        self.holder = Holder(
            Context(
                Config(prefetch_seconds_max=0.0), self.effects, Counters(), Journal(100), Random(1)
            ),
            links,
            Mock(Values),
        )
        self.holder.functions.blobs[b"f"] = b"function"
        for worker in range(workers):
            self.holder.answers.worker_ready(worker)
        self.grant(spec, 0, items)

    def grant(self, spec: JobSpec, lo: int, hi: int, now: float = 0.0) -> None:
        lid = granted_lease(lo + int.from_bytes(spec.job[-1:], "big"))
        blocks, blobs = ([], []) if spec.step else ([Block(lo, hi, 1)], [b"items"])
        self.holder.granted(OWNER, Grant(spec, [Lease(lid, lo, hi)], blocks, 0, blobs), now)

    def learn(self, worker: int = 0) -> RunChunk:
        """The first item says what items cost; the next chunk is one of many."""
        self.dispatch(0.0)
        self.done(self.running(worker), 0.0, seconds=EACH)
        self.dispatch(0.0)
        return self.running(worker)

    def dispatch(self, now: float) -> None:
        self.holder.dispatcher.dispatch(now)
        self.holder.audit()

    def patrol(self, now: float) -> None:
        self.holder.dispatcher.patrol(now)

    def running(self, worker: int = 0) -> RunChunk:
        return [e for e in self.effects if isinstance(e, RunChunk) and e.worker == worker][-1]

    def done(
        self, chunk: RunChunk, now: float, *, seconds: float = EACH, upto: int | None = None
    ) -> None:
        event = ChunkDone(chunk.worker, chunk.chunk, 0, b"", seconds, 0, upto)
        self.holder.answers.chunk_done(event, now)
        self.holder.audit()

    def part(
        self, chunk: RunChunk, now: float, upto: int, kept: int, blob: bytes = b"", codec: int = 0
    ) -> None:
        event = ChunkPart(chunk.worker, chunk.chunk, codec, blob, now, 0, upto, kept)
        self.holder.answers.chunk_part(event, now)
        self.holder.audit()

    @property
    def asked(self) -> list[Divide]:
        return [e for e in self.effects if isinstance(e, Divide)]

    @property
    def untouched(self) -> int:
        return self.holder.jobs[SPEC.job].bags.queued_items

    def reported(self, now: float) -> list[tuple[int, int]]:
        self.holder.reports.flush(now, 0.0)
        reports = [message for message in self.said if isinstance(message, Report)]
        return [(part.lo, part.hi) for report in reports for part in report.parts]


# ---------------------------------------------------------------- the answer


def test_what_comes_back_is_untouched_and_what_is_finished_is_reported() -> None:
    node = Node()
    chunk = node.learn()
    assert (chunk.lo, chunk.hi) == (1, 201)
    left = node.untouched
    node.part(chunk, LATE, 100, 101)
    assert node.untouched == left + 100
    assert node.reported(LATE) == [(0, 1), (1, 100)]
    node.done(chunk, LATE, upto=101)
    assert node.reported(LATE) == [(0, 1), (1, 100), (100, 101)]


def test_a_last_word_may_stop_short_of_what_was_kept() -> None:
    node = Node()
    chunk = node.learn()
    left = node.untouched
    node.part(chunk, LATE, 100, 101)
    node.done(chunk, LATE, upto=100)
    assert node.untouched == left + 101
    assert node.reported(LATE) == [(0, 1), (1, 100)]


def test_an_answer_for_more_than_the_worker_has_is_a_defect() -> None:
    node = Node()
    chunk = node.learn()
    node.part(chunk, LATE, 100, 101)
    with pytest.raises(AssertionError, match="does not have"):
        node.part(chunk, LATE, 101, 201)
    with pytest.raises(AssertionError, match="does not have"):
        node.done(chunk, LATE, upto=201)


def test_a_part_that_lacks_something_is_declined_like_a_whole_chunk() -> None:
    """Our workers keep that for their last word. One that says it earlier taught its node what items
    cost that were never run, and the node, which seemed able, went on asking for more of them."""
    node = Node(spec=replace(SPEC, chunk_items=10))
    node.dispatch(0.0)
    node.part(node.running(), LATE, 3, 10, cannot_load("no pandas here", 3)[1], LACKING)
    held = node.holder.jobs[SPEC.job]
    assert not held.bags.cost.known
    assert node.holder.answers.executed == 0
    (declined,) = [message for message in node.said if isinstance(message, Declined)]
    assert "pandas" in declined.reason
    assert node.untouched == 0, "others are to have the rest"
    assert node.reported(LATE) == [(0, 3)]
    node.done(node.running(), LATE)
    assert node.reported(LATE) == [(0, 3), (3, 10)]
    assert node.holder.answers.executed == 7


def test_a_lacking_part_of_nothing_and_one_after_good_ones() -> None:
    node = Node()
    chunk = node.learn()
    cost = node.holder.jobs[SPEC.job].bags.cost
    known, done = cost.seconds_per_item, node.holder.answers.executed
    node.part(chunk, LATE, 1, 101, b"", LACKING)
    node.part(chunk, LATE, 51, 101, b"no failures", LACKING)
    assert (cost.seconds_per_item, node.holder.answers.executed) == (known, done)
    assert not [message for message in node.said if isinstance(message, Declined)]
    assert node.untouched == ITEMS - 101


def test_an_answer_about_a_chunk_that_is_over_is_counted_and_changes_nothing() -> None:
    node = Node()
    chunk = node.learn()
    node.done(chunk, LATE)
    left = node.untouched
    node.part(chunk, LATE, 100, 101)
    assert node.untouched == left
    assert node.holder.counters["results-unasked"] == 1


def test_a_part_of_a_lease_that_is_gone_is_for_nothing() -> None:
    node = Node()
    chunk = node.learn()
    node.reported(0.0)
    node.holder.closed(SPEC.job, LATE, stop=False)
    node.part(chunk, LATE, 100, 101)
    node.done(chunk, LATE, upto=101)
    assert node.holder.counters["items-run-for-nothing"] == 100


def test_the_dead_worker_is_suspected_of_what_it_had_not_reported() -> None:
    node = Node()
    chunk = node.learn()
    node.part(chunk, LATE, 100, 101)
    node.holder.answers.worker_lost(WorkerLost(0, chunk.chunk, "signal 11"), LATE)
    held = node.holder.jobs[SPEC.job]
    assert isinstance(held.bags, IndexedBags)
    assert list(held.bags.fragile) == [(100, 101)]
    assert held.attempts.by_suspect == {100: ["signal 11"]}


def test_those_behind_a_dear_item_are_handed_out_as_if_they_were_alike() -> None:
    node = Node(workers=2)
    chunk = node.learn()
    node.part(chunk, LATE, 100, 101)
    held = node.holder.jobs[SPEC.job]
    assert held.bags.cost.seconds(1) > 0.05
    assert node.holder.dispatcher.turned_long, "others are told that there is work"


def test_an_estimate_that_was_far_too_high_is_soon_right_again() -> None:
    cost = Cost(seconds_per_item=1e-6)
    cost.stumbled(0.05)
    chunks = 0
    items = 1
    while items < 1_000:
        cost.learn(items, items * 1e-6, 0)
        chunks += 1
        items = cost.chunk_items(
            ITEMS, 2, chunk_seconds_min=0.001, chunk_seconds_max=0.02, chunk_octets_max=1 << 20
        )
    assert chunks < 30
    assert cost.seconds_per_item is not None
    cost.stumbled(1e-9)
    assert cost.seconds_per_item > 1e-9, "nothing is cheaper for having been late"


def test_a_worker_that_has_answered_for_everything_may_die_before_its_last_word() -> None:
    """The node took its empty chunk for a suspect, and died of an assertion."""
    node = Node()
    chunk = node.learn()
    node.part(chunk, LATE, 201, 201)
    left = node.untouched
    node.holder.answers.worker_lost(WorkerLost(0, chunk.chunk, "signal 11"), LATE)
    assert node.untouched == left
    assert node.reported(LATE) == [(0, 1), (1, 201)]


# ---------------------------------------------------------------- the question


def test_a_late_chunk_is_asked_once_in_a_while() -> None:
    node = Node()
    chunk = node.learn()
    node.patrol(0.01)
    assert not node.asked
    node.patrol(LATE)
    assert node.asked == [Divide(0, chunk.chunk, True)]
    node.patrol(LATE + 0.01)
    assert len(node.asked) == 1
    node.patrol(LATE + PATROL_SECONDS)
    assert len(node.asked) == 2


def test_it_is_asked_sooner_when_others_have_nothing_to_do() -> None:
    node = Node(workers=2, items=40)
    node.dispatch(0.0)
    node.done(node.running(0), 0.0, seconds=EACH)
    node.dispatch(0.0)
    node.done(node.running(1), 0.0, seconds=EACH)
    node.dispatch(0.0)
    while node.untouched:
        node.done(node.running(1), 0.001)
        node.dispatch(0.001)
    node.done(node.running(1), 0.001)
    node.dispatch(0.001)
    patrol_at = node.holder.dispatcher.patrol_at
    assert patrol_at is not None
    assert patrol_at <= 0.001 + 2 * WANTED_SECONDS
    node.patrol(patrol_at)
    assert [each.worker for each in node.asked] == [0]


def test_thieves_that_wait_are_as_good_a_reason() -> None:
    node = Node()
    node.learn()
    node.patrol(0.045)
    assert not node.asked
    node.holder.dispatcher.thieves_wait(0.045)
    node.patrol(0.045)
    assert node.asked


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, vectorized=True),
        replace(SPEC, timeout=100.0),
        replace(SPEC, kind=JobKind.REDUCE, chunk_items=50),
    ],
    ids=["vectorized", "one at a time", "a reduction of fixed chunks"],
)
def test_who_could_not_answer_is_not_asked(spec: JobSpec) -> None:
    node = Node(spec=spec)
    node.learn()
    node.patrol(10.0)
    assert not node.asked


def test_a_chunk_of_a_fixed_size_is_asked_for_its_results_only() -> None:
    node = Node(spec=replace(SPEC, chunk_items=50))
    node.dispatch(0.0)
    chunk = node.running()
    assert chunk.hi - chunk.lo == 50
    node.patrol(PATROL_SECONDS)
    assert node.asked == [Divide(0, chunk.chunk, False)]


# ---------------------------------------------------------------- the turn


def test_a_job_with_nothing_at_a_worker_has_its_turn_soon() -> None:
    node = Node()
    chunk = node.learn()
    node.grant(OTHER, 0, 1, 0.001)
    node.dispatch(0.001)
    assert not node.asked, "a chunk that has just begun gets a moment"
    assert node.holder.dispatcher.patrol_at == TURN_SECONDS
    node.dispatch(TURN_SECONDS)
    assert node.asked == [Divide(0, chunk.chunk, True)]
    node.done(chunk, 0.005, upto=50)
    node.dispatch(0.005)
    assert node.running().spec.job == OTHER.job


def test_it_waits_for_what_ends_anyhow_but_not_for_long() -> None:
    node = Node()
    node.learn()
    node.grant(OTHER, 0, 1, 0.0185)
    node.dispatch(0.0185)
    assert not node.asked
    patrol_at = node.holder.dispatcher.patrol_at
    assert patrol_at == 0.0185 + TURN_SECONDS
    node.dispatch(patrol_at)
    assert node.asked


def test_what_has_a_higher_rank_is_not_divided_for_it() -> None:
    node = Node(spec=replace(SPEC, priority=1))
    node.learn()
    node.grant(OTHER, 0, 1, 0.005)
    node.dispatch(0.005)
    assert not node.asked


def test_a_large_job_waits_for_the_end_of_a_chunk() -> None:
    node = Node()
    node.learn()
    node.grant(OTHER, 0, 1_000, 0.005)
    node.holder.jobs[OTHER.job].bags.cost.learn(1, EACH, 0)
    node.dispatch(0.005)
    assert not node.asked


def test_what_waits_behind_the_running_chunk_makes_room_as_well() -> None:
    node = Node()
    node.holder.dispatcher.config = node.holder.config = Config()
    node.learn()
    behind = node.running()  # the last that it was handed
    node.grant(OTHER, 0, 1, 0.001)
    node.dispatch(0.001)
    assert Retract(0) in node.effects
    node.holder.answers.retracted(Retracted(0, behind.chunk), 1.0)
    node.dispatch(0.001)
    node.holder.audit()


def test_of_equal_jobs_the_one_with_the_fewest_chunks_is_next() -> None:
    node = Node(workers=3)
    node.grant(replace(SPEC, job=job_id(OWNER, 3)), 0, ITEMS)
    node.dispatch(0.0)
    jobs = [node.running(worker).spec.job for worker in range(3)]
    assert jobs[0] != jobs[1]
    node.done(node.running(0), 0.0)
    node.dispatch(0.0)
    assert sorted(jobs.count(job) for job in set(jobs)) == [1, 2]
    jobs = [node.running(worker).spec.job for worker in range(3)]
    assert len(set(jobs)) == 2
