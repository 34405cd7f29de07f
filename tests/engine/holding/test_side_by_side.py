"""Chunks that run side by side in one worker: how many, beside what, and what their common death means."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from stealmesh_engine.base.rings import Rings
from stealmesh_engine.effects import Divide, RetractSide, RunChunk, StopWorker
from stealmesh_engine.events import ChunkDone, SideLost, SideRetracted
from stealmesh_engine.holding.poison import PIECES
from stealmesh_engine.holding.side_by_side import COROUTINE_GRACE_SECONDS
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.journal_messages import BESIDE, BESIDE_AND
from stealmesh_protocol.limits import ENTRY_DETAIL_CHARS_MAX
from stealmesh_protocol.messages import JobKind, JobSpec, Returned, Withdraw
from stealmesh_protocol.values import RAISED, Failure, pack_outcomes

from .test_division import EACH, OWNER, SPEC, Node

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

ASYNC = replace(SPEC, together=100)
OTHER = JobSpec(job_id(OWNER, 2), JobKind.MAP, OWNER, "other", b"f", step=1)


def ordered(node: Node) -> list[RunChunk]:
    return [effect for effect in node.effects if isinstance(effect, RunChunk)]


def running(node: Node, worker: int = 0) -> list[int]:
    return list(node.holder.slots.beside.get(worker, {}))


def stopped(node: Node) -> list[StopWorker]:
    return [effect for effect in node.effects if isinstance(effect, StopWorker)]


def lose(node: Node, now: float, worker: int = 0, *, blame: bool = True) -> None:
    event = SideLost(worker, running(node, worker), "signal 9", blame)
    node.holder.answers.side_lost(event, now)
    node.holder.audit()


def test_each_worker_begins_as_many_as_the_job_allows() -> None:
    node = Node(workers=2, spec=ASYNC, items=1000)
    node.dispatch(0.0)
    assert len(running(node, 0)) == len(running(node, 1)) == 100
    assert {chunk.hi - chunk.lo for chunk in ordered(node)} == {1}
    assert all(chunk.side for chunk in ordered(node))


def test_the_place_of_one_that_ends_goes_to_the_next() -> None:
    node = Node(spec=ASYNC, items=1000)
    node.dispatch(0.0)
    for chunk in ordered(node)[1:]:
        node.done(chunk, 0.2, seconds=0.2)
        node.dispatch(0.2)
    assert len(running(node)) == 100
    assert node.reported(0.2) == [(at, at + 1) for at in range(1, 100)], (
        "the slow one holds up nothing"
    )


def test_the_journal_says_how_long_each_took_and_what_ran_side_by_side() -> None:
    """Also if the node hears of several at once."""
    for spec, detail in ((ASYNC, BESIDE), (SPEC, "")):
        node = Node(spec=spec, items=100)
        node.holder.answers.rings = Rings(10, 10, [])
        node.dispatch(0.0)
        for now in (4.0, 9.0, 9.0):
            slots = node.holder.slots
            there = (each for each in ordered(node) if slots.running_chunk(each.worker, each.chunk))
            node.done(next(there), now, seconds=2.0)
            node.dispatch(now)
        found = node.holder.answers.rings.chunks.entries
        assert [(entry.begun, entry.at) for entry in found] == [(2.0, 4.0), (7.0, 9.0), (7.0, 9.0)]
        assert {entry.detail for entry in found} == {detail}


def test_the_journal_says_which_item_failed_and_how() -> None:
    failure = Failure(0, RAISED, text="ValueError: no", traceback="long")
    codec, blob = pack_outcomes(None, [failure])
    for spec, detail in (
        (ASYNC, f"{BESIDE}{BESIDE_AND}item 0: ValueError: no"),
        (SPEC, "item 0: ValueError: no"),
    ):
        node = Node(spec=spec, items=1)
        answers = node.holder.answers
        answers.rings = Rings(10, 10, [])
        node.dispatch(0.0)
        chunk = ordered(node)[0]
        answers.chunk_done(ChunkDone(chunk.worker, chunk.chunk, codec, blob, 1.0, 1), 1.0)
        assert [(e.count, e.detail) for e in answers.rings.chunks.entries] == [(1, detail)]


def test_what_the_journal_says_of_a_failure_fits_its_page() -> None:
    """Nobody accepts a longer entry."""
    codec, blob = pack_outcomes(None, [Failure(0, RAISED, text="x" * 999)])
    node = Node(spec=ASYNC, items=1)
    answers = node.holder.answers
    answers.rings = Rings(10, 10, [])
    node.dispatch(0.0)
    chunk = ordered(node)[0]
    answers.chunk_done(ChunkDone(chunk.worker, chunk.chunk, codec, blob, 1.0, 1), 1.0)
    (entry,) = answers.rings.chunks.entries
    assert len(entry.detail) == ENTRY_DETAIL_CHARS_MAX


def test_cheap_ones_go_in_chunks_as_ever() -> None:
    node = Node(spec=ASYNC)
    node.dispatch(0.0)
    node.done(ordered(node)[0], 0.0, seconds=EACH)
    node.dispatch(0.0)
    chunk = ordered(node)[-1]
    assert chunk.hi - chunk.lo == 200
    node.patrol(1.0)
    assert Divide(0, chunk.chunk, True) in node.effects, "it is late, and can be divided"


def test_other_jobs_run_one_by_one_meanwhile() -> None:
    node = Node(spec=ASYNC)
    node.dispatch(0.0)
    node.grant(OTHER, 0, 10)
    node.dispatch(0.0)
    chunk = ordered(node)[-1]
    assert (chunk.spec, chunk.side) == (OTHER, False)


def test_a_worker_with_room_is_hungry_and_a_full_one_is_not() -> None:
    node = Node(spec=ASYNC, items=99)
    node.dispatch(0.0)
    dispatcher = node.holder.dispatcher
    assert (dispatcher.room(), dispatcher.starves_at(0.0)) == (1, 0.0)
    node.grant(ASYNC, 99, 100)
    node.dispatch(0.0)
    assert (dispatcher.room(), dispatcher.starves_at(0.0)) == (0, None)


def test_a_node_with_threads_runs_plain_jobs_side_by_side() -> None:
    node = Node(items=0)
    node.holder.threads = 4
    node.grant(OTHER, 0, 10)
    node.dispatch(0.0)
    assert len(running(node)) == 4


def test_two_programs_do_not_mix_and_take_turns() -> None:
    node = Node(items=0)
    node.holder.functions.blobs.update({b"one": b"1", b"two": b"2"})
    node.grant(replace(ASYNC, job=job_id(OWNER, 3), code=b"one"), 0, 1000)
    node.dispatch(0.0)
    assert len(running(node)) == 100
    node.grant(replace(OTHER, code=b"two", together=50), 0, 500)
    for chunk in ordered(node)[:99]:
        node.done(chunk, 1.0)
        node.dispatch(1.0)
    assert len(running(node)) == 1, "it gets nothing more until the other program fits"
    node.done(ordered(node)[99], 1.0)
    node.dispatch(1.0)
    assert {chunk.job for chunk in node.holder.slots.all_beside()} == {OTHER.job}
    assert len(running(node)) == 50


# ---------------------------------------------------------------- deaths


def test_what_dies_in_company_runs_again_in_smaller_company() -> None:
    node = Node(spec=ASYNC, items=1000)
    node.dispatch(0.0)
    lose(node, 1.0)
    node.dispatch(1.0)
    first = -(-100 // PIECES)
    assert len(running(node)) == first
    lose(node, 2.0)
    node.dispatch(2.0)
    assert len(running(node)) == 1
    assert ordered(node)[-1].lo == 0


def test_innocent_neighbours_are_not_blamed() -> None:
    """Item 7 kills whatever runs it. It alone fails, after three deaths alone."""
    node = Node(spec=ASYNC, items=300)
    deaths = 0
    for turn in range(2000):
        node.dispatch(float(turn))
        side = node.holder.slots.beside.get(0, {})
        if not side:
            break
        if any(chunk.lo == 7 for chunk in side.values()):
            deaths += 1
            lose(node, float(turn))
            continue
        number = next(iter(side))
        node.done(next(e for e in ordered(node) if e.chunk == number), float(turn), seconds=0.2)
    assert deaths == 2 + 3, "a hundred, a sixteenth of them, and thrice alone"
    node.holder.reports.flush(1e6, 0.0)
    parts = [part for report in node.said for part in report.parts]  # type: ignore[attr-defined]
    assert sorted(part.lo for part in parts) == list(range(300))
    assert [part.lo for part in parts if part.failed] == [7]


def test_suspects_and_others_do_not_mix_and_take_turns() -> None:
    """One worker, one job full of coroutines, one with suspects that must be alone."""
    node = Node(spec=replace(ASYNC, together=10), items=10)
    node.dispatch(0.0)
    lose(node, 0.0)
    node.grant(replace(OTHER, together=10), 0, 10_000)
    alone = 0
    for _ in range(500):
        node.dispatch(0.0)
        side = node.holder.slots.beside[0]
        suspects = [chunk for chunk in side.values() if chunk.company]
        assert not suspects or len(side) == 1
        alone += len(suspects)
        oldest = next(iter(side))
        order = next(effect for effect in ordered(node) if effect.chunk == oldest)
        node.done(order, 0.0, seconds=0.2)
    assert alone == 10, "each has had its turn"
    assert SPEC.job not in node.holder.dispatcher.stock


def test_what_we_stopped_ourselves_is_no_suspect() -> None:
    node = Node(spec=replace(ASYNC, timeout=1.0), items=200)
    node.dispatch(-99.0)
    node.patrol(-1.0)
    assert not stopped(node), "its process is not up yet: no time runs"
    node.holder.dispatcher.side_ready(0, 0.0)
    node.patrol(1.0)
    assert not stopped(node), "coroutines are cancelled first"
    first = ordered(node)[0]
    for chunk in ordered(node)[1:]:
        node.done(chunk, 1.0, seconds=0.2)
        node.dispatch(1.0)
    node.patrol(1.0 + COROUTINE_GRACE_SECONDS)
    reason = "the task ran longer than its timeout"
    assert StopWorker(0, reason, False, side=True) in node.effects
    lose(node, 2.0, blame=False)
    assert (first.lo, first.hi) in node.reported(2.0)
    node.dispatch(2.0)
    assert len(running(node)) == 100
    assert not any(chunk.company for chunk in node.holder.slots.all_beside())


def test_what_was_not_begun_comes_back_unsuspected() -> None:
    node = Node(spec=ASYNC, items=100)
    node.dispatch(0.0)
    numbers = running(node)
    node.holder.answers.side_lost(SideLost(0, numbers[:1], "signal 9"), 0.0)
    assert node.untouched == 100
    assert list(node.holder.jobs[SPEC.job].bags.fragile) == [(0, 1)]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- what is cancelled, and what comes first


def cancel(node: Node, lo: int, hi: int, now: float) -> None:
    node.holder.withdrawn(Withdraw(SPEC.job, [(lo, hi)]), now)
    node.holder.audit()


def test_what_has_not_begun_in_its_process_is_cancelled_there() -> None:
    node = Node(spec=ASYNC, items=100)
    node.dispatch(0.0)
    numbers = running(node)
    cancel(node, 10, 20, 0.0)
    assert RetractSide(0) in node.effects
    node.holder.answers.side_retracted(SideRetracted(0, numbers[5:15]), 0.0)
    node.holder.audit()
    assert node.untouched == 5, "five of the ten are not wanted"
    node.dispatch(0.0)
    again = [(chunk.lo, chunk.hi) for chunk in ordered(node)[100:]]
    assert again == [(at, at + 1) for at in range(5, 10)]


def test_what_a_chunk_has_not_begun_is_cancelled() -> None:
    node = Node(spec=ASYNC)
    node.dispatch(0.0)
    for chunk in ordered(node):
        node.done(chunk, 0.01, seconds=EACH)
    node.dispatch(0.01)
    chunk = ordered(node)[100]
    assert chunk.hi - chunk.lo > 4
    cancel(node, chunk.lo + 2, chunk.lo + 4, 0.01)
    assert Divide(0, chunk.chunk, True) in node.effects
    left = node.untouched
    node.part(chunk, 0.01, chunk.lo, chunk.lo + 1)
    assert node.untouched == left + chunk.hi - chunk.lo - 1 - 2
    bags = node.holder.jobs[SPEC.job].bags
    there = [(lease.lo, lease.hi) for lease in bags.untouched_parts()]
    assert there[:2] == [(chunk.lo + 1, chunk.lo + 2), (chunk.lo + 4, chunk.hi)]


def test_a_lane_says_what_it_gave_back_and_nobody_wants() -> None:
    node = Node(spec=replace(ASYNC, max_parallel=2), items=1)
    node.dispatch(0.0)
    cancel(node, 0, 1, 0.0)
    assert not [message for message in node.said if isinstance(message, Returned)]
    node.holder.answers.side_retracted(SideRetracted(0, running(node)), 0.0)
    (returned,) = [message for message in node.said if isinstance(message, Returned)]
    assert [(part.lo, part.hi) for part in returned.parts] == [(0, 1)]
    assert node.holder.jobs[SPEC.job].bags.empty


def test_what_died_and_is_not_wanted_is_no_suspect() -> None:
    node = Node(spec=ASYNC, items=10)
    node.dispatch(0.0)
    cancel(node, 0, 9, 0.0)
    lose(node, 0.0)
    assert node.untouched == 1
    assert list(node.holder.jobs[SPEC.job].bags.fragile) == [(9, 10)]  # type: ignore[attr-defined]


def test_it_does_not_count_as_running_before_its_process_is_up() -> None:
    """Or its submitter could not cancel it."""
    node = Node(spec=replace(ASYNC, kind=JobKind.SUBMIT), items=3)
    node.dispatch(0.0)
    assert node.holder.dispatcher.patrol(1.0) == []
    node.holder.dispatcher.side_ready(0, 1.0)
    assert node.holder.dispatcher.patrol(1.01) == []
    assert len(node.holder.dispatcher.patrol(2.0)) == 3


def test_a_less_urgent_job_takes_no_resource_that_a_free_worker_needs() -> None:
    gpu = (("gpu", 1),)
    node = Node(items=0)
    node.holder.links.view = Mock(me=Mock(resources=gpu, runtime=""))
    urgent = replace(OTHER, resources=gpu, priority=1)
    node.grant(replace(ASYNC, job=job_id(OWNER, 3), resources=gpu), 0, 10)
    node.grant(urgent, 0, 1)
    node.dispatch(0.0)
    assert [chunk.spec.name for chunk in ordered(node)] == ["other"]
    node.done(ordered(node)[0], 0.1)
    node.dispatch(0.1)
    assert [chunk.spec.name for chunk in ordered(node)] == ["other", "range"]
