"""The task stream: what is one bar, what is marked, and how much is kept and sent."""

from __future__ import annotations

from typing import Any

from tests.page.stand import JOB, ONE, TWO, StillMesh

from stealmesh.client.journals import Happening
from stealmesh.page import picture
from stealmesh.page.latest import ENTRIES_BEHIND_MAX, LatestReader
from stealmesh.page.picture import StreamPicture
from stealmesh_protocol.journal_messages import JournalEntry, RingKind


def ran(begun: float, at: float, name: str = "f", what: str = "done", failed: int = 0) -> Happening:
    entry = JournalEntry(1, at, 0, what, name, JOB, worker=0, lo=3, hi=5, begun=begun, count=failed)
    return Happening(at, begun, "n1", ONE, entry)


def mark(kind: RingKind, what: str, peer: bytes = b"", **more: Any) -> Happening:
    return Happening(1.0, 0.0, "n1", ONE, JournalEntry(2, 1.0, kind, what, "n2", peer=peer, **more))


def news(*found: Happening) -> dict[str, Any]:
    stream = StreamPicture()
    stream.add(found)
    return stream.since(0, {ONE: 0, TWO: 1})


def test_chunks_that_touch_and_look_the_same_are_one_bar() -> None:
    told = news(ran(1.0, 1.1), ran(1.101, 1.2), ran(1.2, 1.3, "g"), ran(1.5, 1.6, "g"))
    assert [(bar[2:5], bar[10]) for bar in told["bars"]] == [
        ([1.0, 1.2, "f"], 2), ([1.2, 1.3, "g"], 1), ([1.5, 1.6, "g"], 1),
    ]  # fmt: skip
    assert told["bars"][0][7:10] == [JOB.hex(), 3, 5]
    assert told["marks"] == []


def test_what_failed_or_was_lost_is_a_bar_of_its_own_and_marked() -> None:
    told = news(ran(1.0, 1.1), ran(1.1, 1.2, failed=2), ran(1.2, 1.3), ran(1.3, 1.4, what="lost"))
    assert [bar[6] for bar in told["bars"]] == [0, 2, 0, 0]
    assert [(each[2], each[4]) for each in told["marks"]] == [("chunk", True), ("chunk", True)]


def test_a_steal_leads_from_victim_to_thief() -> None:
    (told,) = news(mark(RingKind.STEAL, "gave", TWO, about=JOB, count=7))["marks"]
    assert (told[0], told[2], told[6], told[7]) == (0, "steal", 1, 7)
    assert news(mark(RingKind.STEAL, "nothing", TWO))["marks"] == []


def test_deaths_are_faults_and_newcomers_are_not() -> None:
    marks = news(
        mark(RingKind.DEATH, "worker died"), mark(RingKind.MEMBER, "joined", TWO), mark(RingKind.MEMBER, "met", TWO)
    )["marks"]  # fmt: skip
    assert [(each[2], each[4]) for each in marks] == [("death", True), ("member", False)]


def test_a_browser_gets_each_entry_once_and_only_of_its_nodes() -> None:
    stream = StreamPicture()
    stream.add([ran(1.0, 1.1)])
    seen = stream.seq
    stream.add([ran(5.0, 5.1, "g")])
    assert [bar[4] for bar in stream.since(seen, {ONE: 4})["bars"]] == ["g"]
    assert stream.since(0, {ONE: 4})["bars"][0][0] == 4
    assert stream.since(0, {TWO: 0})["bars"] == []


def test_memory_and_traffic_are_bounded_and_what_is_left_out_is_said() -> None:
    stream = StreamPicture()
    stream.add(ran(float(at), at + 0.1) for at in range(picture.BARS_MAX + 10))
    assert len(stream.bars) == picture.BARS_MAX
    told = stream.since(0, {ONE: 0})
    assert len(told["bars"]) == picture.BARS_AT_ONCE
    assert told["bars"][-1][2] == picture.BARS_MAX + 9.0, "the newest are drawn"
    assert told["left_out"] == picture.BARS_MAX - picture.BARS_AT_ONCE
    stream.forget(picture.BARS_MAX, {ONE})
    assert len(stream.bars) == 10
    stream.forget(0.0, {TWO})
    assert not stream.bars


def entries(many: int, first: int = 0) -> list[JournalEntry]:
    return [
        JournalEntry(at, 1.0, 0, "done", "f", JOB, worker=0, lo=0, hi=1, begun=0.9)
        for at in range(first, first + many)
    ]


async def test_a_reader_begins_near_the_end_and_knows_how_many_there_were() -> None:
    mesh = StillMesh()
    mesh.entries[ONE] = entries(5000)
    reader = LatestReader(mesh)  # type: ignore[arg-type]
    first = await reader.read([ONE])
    assert len(first) == ENTRIES_BEHIND_MAX
    assert first[-1].entry.number == 4999
    assert reader.chunks[ONE] == 5000, "exact, whatever is drawn"
    mesh.entries[ONE] += entries(3, 5000)
    assert [each.entry.number for each in await reader.read([ONE])] == [5000, 5001, 5002]
    assert reader.chunks[ONE] == 5003
    await reader.read([TWO])
    assert ONE not in reader.chunks, "who is not looked at is forgotten"
