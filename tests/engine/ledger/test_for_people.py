"""What a ledger remembers for people who ask: how items failed lately, and how fast a job gets on."""

from __future__ import annotations

from msgspec.structs import replace
from tests.engine.wire import pair

from stealmesh_engine.events import ChunkDone
from stealmesh_engine.ledger.job_pace import JobPace
from stealmesh_engine.ledger.mishaps import OCTETS_MAX, OUTCOMES_MAX, Mishaps
from stealmesh_engine.ledger.why import Fact, Why, how_it_ended, how_it_failed
from stealmesh_engine.looks import Answer, story_of
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import JobKind
from stealmesh_protocol.parts import JobLine
from stealmesh_protocol.values import OUTCOMES, Failure, pack_outcomes


def outcome(text: str, *offsets: int) -> bytes:
    return pack_outcomes(None, [Failure(each, "raised", text=text) for each in offsets])[1]


def test_the_last_failure_is_told_and_each_that_is_remembered() -> None:
    mishaps = Mishaps()
    assert (mishaps.last(), mishaps.of(3)) == ("", "")
    mishaps.add(10, outcome("ValueError: first", 0, 2))
    mishaps.add(4, outcome("KeyError: second", 1))
    assert mishaps.last() == "item 5: KeyError: second"
    assert mishaps.of(12) == "ValueError: first"
    assert mishaps.of(11) == ""
    mishaps.add(0, b"garbage")
    assert mishaps.last() == "item 5: KeyError: second", (
        "the program says so when it opens the blob"
    )


def test_what_is_remembered_has_a_bound() -> None:
    mishaps = Mishaps()
    mishaps.add(0, bytes(OCTETS_MAX + 1))
    assert (mishaps._octets, mishaps.forgot) == (0, True)
    for item in range(1000):
        mishaps.add(item, outcome("x" * 100_000, 0))
    assert mishaps._octets <= OCTETS_MAX
    assert mishaps.last().startswith("item 999: xxx")
    for item in range(1000):
        mishaps.add(item, outcome("y", 0))
    assert len(mishaps._outcomes) <= OUTCOMES_MAX
    assert mishaps._octets == sum(len(blob) for _, blob in mishaps._outcomes)


def test_a_job_tells_how_its_last_item_failed() -> None:
    wire, client, node = pair()
    job = client.open(2)
    chunk = node.work[0].popleft()
    codec, blob = pack_outcomes(None, [Failure(0, "raised", text="ValueError: no")])
    assert codec == OUTCOMES
    node.step(ChunkDone(0, chunk.chunk, codec, blob, 0.01, failed=1))
    wire.advance(1.0)
    (line,) = client.core.owner.lines(wire.now)
    assert (line.job, line.failed, line.error) == (job, 1, "item 0: ValueError: no")
    assert line.rate > 0.0


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = JobPace(100.0, 0)
    assert pace.looked(100.0, 0) == 0.0, "nothing is known yet"
    assert pace.looked(110.0, 50) == 5.0, "the first look: since the beginning"
    for second in range(1, 31):
        rate = pace.looked(110.0 + second, 50 + 2 * second)
    assert 1.9 < rate < 2.2
    assert len(pace._marks) < 40
    assert pace.looked(141.0, 10) == 0.0, "a result that was lost is no negative rate"


def test_a_job_that_is_over_says_what_failed() -> None:
    """`explain` of an item whose resource nobody has said "its job is over: done"."""
    well = JobLine(job_id(bytes(16), 1), JobKind.SUBMIT, "f", "done", 1, 1, 0, 0, 0, 0, 0)
    assert how_it_ended(well) == "done"
    failed = replace(well, failed=1, error="item 0: nobody has a gpu")
    assert how_it_ended(failed) == "done, 1 failed, the last: item 0: nobody has a gpu"
    assert how_it_failed(well, 0) == how_it_failed(failed, -1) == ""
    assert how_it_failed(failed, 0) == "nobody has a gpu"
    some = replace(failed, total=9, done=9, error="item 3: no")
    assert (how_it_failed(some, 3), how_it_failed(some, 4)) == ("no", ""), "it may have gone well"
    all_of_them = replace(some, failed=9)
    assert how_it_failed(all_of_them, 4) == "as all of the job did, the last: item 3: no"


def test_a_node_that_knows_how_a_job_ended_is_heard_before_one_that_knows_only_the_end() -> None:
    gone = Answer("a", kept=[Fact(Why.OWNER_GONE)])
    knows = Answer("b", kept=[Fact(Why.FAILED, text="no")])
    for answers in ([gone, knows], [knows, gone]):
        assert story_of(answers, bytes(20), 0)["told"] == "it failed: no"
