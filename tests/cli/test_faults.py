"""What went wrong, grouped: in the report, on the page, and as a node writes it down."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.cli.test_events import ADA, BOB, JOB, chunk, happened

from stealmesh.host.faults import OTHERS, UNSAID, FaultGroups, faults_of
from stealmesh.job_story import TROUBLES_MAX, page
from stealmesh.page.picture import StreamPicture
from stealmesh_protocol import values
from stealmesh_protocol.failed_words import line_of, read_line
from stealmesh_protocol.journal_messages import BESIDE, BESIDE_AND, JournalEntry, RingKind
from stealmesh_protocol.limits import ENTRY_DETAIL_CHARS_MAX
from stealmesh_protocol.values import RAISED, Failure


def outcomes(*texts: str) -> tuple[int, bytes]:
    failures = [
        Failure(at, RAISED, b"pickled", text, "a traceback") for at, text in enumerate(texts)
    ]
    return values.pack_outcomes(None, failures)


def failed(number: int, at: float, detail: str, count: int = 1, **more: Any) -> JournalEntry:
    return chunk(number, at - 0.1, at, count=count, detail=detail, **more)


# ---------------------------------------------------------------- as a node writes it


def test_a_node_says_which_item_failed_and_how() -> None:
    assert line_of(*outcomes("ValueError: no"), 17) == "item 17: ValueError: no"
    assert line_of(*outcomes("E: a", "E: b", "E: b"), 10) == "item 12 (2 of 3): E: b"
    assert line_of(*outcomes("E: a")) == "E: a", "items of a bag have no numbers"
    assert line_of(values.PLAIN, b"", 0) == ""
    assert line_of(values.OUTCOMES, b"\xff nonsense", 0) == ""
    assert line_of(values.OUTCOMES, b"\x91" * 5000, 0) == ""
    for first in (0, None):
        assert len(line_of(*outcomes("E: " + "x" * 999), first)) == ENTRY_DETAIL_CHARS_MAX


def test_what_is_written_can_be_read() -> None:
    one = read_line(line_of(*outcomes("E: a\nb", "E: b", "E: b"), 10))
    assert one is not None
    assert (one.item, one.alike, one.text) == (12, 2, "E: b")
    assert read_line("signal 9") is None
    assert read_line("item " + "9" * 99 + ": no") is None


# ---------------------------------------------------------------- groups


def groups(*entries: tuple[JournalEntry, str]) -> list[tuple[str, int, int, list[str]]]:
    found = FaultGroups()
    for entry, node in entries:
        found.add(entry, entry.at, node, ADA)
    return [(each.said, each.many, each.item, sorted(each.nodes)) for each in found.newest_first()]


def test_the_same_failure_is_one_line_the_newest_first() -> None:
    told = groups(
        (failed(1, 1.0, "item 5: ValueError: item 5 is bad"), "n1"),
        (failed(2, 3.0, "item 7: ValueError: item 7 is bad"), "n2"),
        (failed(3, 2.0, f"{BESIDE}{BESIDE_AND}item 6: ValueError: item 6 is bad", 3), "n1"),
        (failed(4, 4.0, "item 9: KeyError: 'x'"), "n3"),
        (failed(5, 1.5, "item 9: KeyError: 'x'", name="other"), "n3"),
    )
    assert told == [
        ("square: KeyError: 'x'", 1, 9, ["n3"]),
        ("square: ValueError: item 7 is bad", 5, 7, ["n1", "n2"]),
        ("other: KeyError: 'x'", 1, 9, ["n3"]),
    ]


def test_a_chunk_that_failed_in_several_ways_counts_all_of_its_items() -> None:
    told = groups((failed(1, 1.0, "item 12 (2 of 5): E: b", 5, lo=8, hi=20), "n1"))
    assert told == [("square: E: b", 2, 12, ["n1"]), (f"square: {OTHERS}", 3, 12, ["n1"])]


@pytest.mark.parametrize("detail", ["", BESIDE])
def test_a_node_that_does_not_say_how_is_believed_as_far(detail: str) -> None:
    assert groups((failed(1, 1.0, detail, 2, lo=3, hi=9), "n1")) == [
        (f"square: {UNSAID}", 2, -1, ["n1"])
    ]


def test_deaths_and_verdicts_are_told_apart_and_good_chunks_are_no_faults() -> None:
    def death(number: int, signal: int) -> JournalEntry:
        return JournalEntry(
            number, 2.0, RingKind.DEATH, "worker died", "square", JOB, worker=3, lo=5, hi=6,
            count=1, detail=f"signal {signal}",
        )  # fmt: skip

    verdict = JournalEntry(9, 5.0, RingKind.VERDICT, "is declared dead", "n7", b"", BOB, detail="a")
    echo = JournalEntry(9, 4.0, RingKind.VERDICT, "is told dead", "n7", b"", BOB, detail="by n1")
    told = groups(
        (death(1, 9), "n1"), (death(2, 9), "n1"), (death(3, 11), "n1"), (verdict, "n1"), (echo, "n2")
    )  # fmt: skip
    assert [each[1] for each in told] == [2, 1, 2]
    assert told[0][0] == "n7 is declared dead: a"
    assert told[0][3] == ["n1", "n2"]
    assert not faults_of(chunk(1, 1.0, 2.0))
    assert not faults_of(chunk(1, 1.0, 2.0, what="unwanted"))
    assert faults_of(chunk(1, 1.0, 2.0, what="timed out", hi=7, detail="signal 9"))[0].many == 7
    assert not faults_of(chunk(1, 1.0, 2.0, what="died")), "the death of its worker says it"


def test_groups_are_bounded_and_what_has_no_room_is_counted() -> None:
    found = FaultGroups(2)
    for at, name in enumerate("abcc"):
        found.add(failed(at, float(at), "item 1: E", 5, name=name), float(at), "n", ADA)
    assert [each.said for each in found.newest_first()] == ["b: E", "a: E"]
    assert found.left_out == 10


# ---------------------------------------------------------------- where it is shown


def test_a_report_has_a_line_for_what_is_the_same() -> None:
    many = [
        happened(failed(at, float(at), f"item {at}: ValueError: <b>{at}</b>"), f"n{at % 6}")
        for at in range(1, 61)
    ]
    told = page("j", many)
    assert told.count("ValueError") == 1
    assert "square: ValueError: &lt;b&gt;60&lt;/b&gt;" in told
    assert "60 items" in told
    assert "item 60<" in told
    assert "n0, n1, n2, n3 and 2 more" in told
    words = [f"E{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(TROUBLES_MAX + 3)]
    apart = [happened(failed(at, 1.0, f"item 1: {word}")) for at, word in enumerate(words)]
    assert "3 older kinds of failure" in page("j", apart)


def test_a_page_gets_what_is_the_same_once_for_each_node_and_reading() -> None:
    stream = StreamPicture()
    stream.add(
        happened(failed(at, at / 1000, f"item {at}: ValueError: no {at}")) for at in range(5000)
    )
    (mark,) = stream.since(0, {ADA: 0})["marks"]
    assert mark[3] == "square: ValueError: no 4999"
    assert mark[7:] == [5000, mark[8], True, JOB.hex(), 4999]
    assert re.fullmatch(r"0 square: ValueError: no #", mark[8])
    seen = stream.seq
    stream.add([happened(failed(1, 9.0, "item 1: ValueError: no 1"))])
    (more,) = stream.since(seen, {ADA: 0})["marks"]
    assert more[7:9] == [1, mark[8]]


def test_chunks_that_touch_are_one_bar_with_all_that_failed_but_none_that_did_not() -> None:
    stream = StreamPicture()
    entries = [chunk(at, at * 0.1, at * 0.1 + 0.1, count=(2 if at < 3 else 0)) for at in range(5)]
    stream.add(happened(each) for each in entries)
    bars = stream.since(0, {ADA: 0})["bars"]
    assert [(bar[6], bar[10]) for bar in bars] == [(6, 3), (0, 2)]


def test_a_page_gets_what_one_node_gave_to_another_once_for_each_reading() -> None:
    def gave(number: int, to: bytes) -> JournalEntry:
        return JournalEntry(
            number, 1.0, RingKind.STEAL, "gave", "bob", JOB, to, lo=1, hi=2, count=3
        )

    stream = StreamPicture()
    stream.add(happened(gave(at, (ADA, BOB)[at % 2])) for at in range(1000))
    told = stream.since(0, {ADA: 0, BOB: 1})["marks"]
    assert [(mark[2], mark[6], mark[7], mark[8]) for mark in told] == [
        ("steal", 0, 1500, ""), ("steal", 1, 1500, ""),
    ]  # fmt: skip
