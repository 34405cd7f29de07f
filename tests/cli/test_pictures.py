"""Journals as a picture and as spans: `demo --picture`, `trace --format otlp`."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from tests.cli.test_events import BOB, JOB, chunk, happened, story

from stealmesh.cli.spans import lines_of
from stealmesh.task_picture import BARS_A_ROW_MAX, picture
from stealmesh_protocol.journal_messages import JournalEntry, RingKind

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*more: Any) -> ElementTree.Element:
    return ElementTree.fromstring(picture([*story(), *more], "a <title>"))


def test_the_picture_has_bars_arrows_and_deaths() -> None:
    told = drawn(
        happened(JournalEntry(9, 11.4, RingKind.VERDICT, "is declared dead", "bob", b"", BOB))
    )
    words = [each.text for each in told.iter(f"{SVG}text")]
    assert {"a <title>", "n0", "bob", "bob is dead", "worker died", "square", "other"} <= {*words}
    assert len([each for each in told.iter(f"{SVG}path") if each.get("class") == "s"]) == 1
    fills = [each.get("fill") for each in told.iter(f"{SVG}rect") if each.get("fill")]
    assert len(set(fills)) == 2, "a colour for each function"
    assert [each for each in told.iter(f"{SVG}rect") if each.get("class") == "bad"], "what was lost"
    assert not re.search(r"https?://(?!www\.w3\.org)|<script", picture(story(), "")), (
        "nothing from outside"
    )


def test_a_picture_of_a_million_chunks_is_small() -> None:
    many = [happened(chunk(at, at / 1e4, (at + 1) / 1e4)) for at in range(100_000)]
    assert len(picture(many, "")) < 5_000, "bars that touch are one"
    apart = [
        happened(chunk(at, at / 10, at / 10 + 0.001, name=f"f{at % 9}")) for at in range(100_000)
    ]
    assert len(picture(apart, "")) < 90 * BARS_A_ROW_MAX + 5_000


def test_nothing_is_a_picture_too() -> None:
    assert "0 workers" in picture([], "")


def spans() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in lines_of(story()):
        for resource in json.loads(line)["resourceSpans"]:
            assert {each["key"] for each in resource["resource"]["attributes"]} >= {"service.name"}
            for scope in resource["scopeSpans"]:
                found += scope["spans"]
    return found


def test_spans_have_the_form_that_the_protocol_asks_for() -> None:
    told = spans()
    ids = [each["spanId"] for each in told]
    assert len({*ids}) == len(ids)
    for each in told:
        assert re.fullmatch(r"[0-9a-f]{16}", each["spanId"])
        assert re.fullmatch(r"[0-9a-f]{32}", each["traceId"])
        assert int(each["startTimeUnixNano"]) <= int(each["endTimeUnixNano"])
        assert each.get("parentSpanId", ids[0]) in ids
        for attribute in each["attributes"]:
            assert len(attribute["value"]) == 1
    assert spans() == told, "the same ids whenever they are asked for"


def test_a_chunk_is_a_child_of_its_job_and_a_steal_is_a_link() -> None:
    told = spans()
    (job,) = [each for each in told if "parentSpanId" not in each and each["name"] == "square"]
    children = [each for each in told if each.get("parentSpanId") == job["spanId"]]
    assert len(children) == 5, "four chunks, and what Ada gave"
    assert {each["traceId"] for each in children} == {job["traceId"]}
    (linked,) = [each for each in told if "links" in each]
    (gave,) = [each for each in told if each["name"].startswith("gave")]
    assert linked["links"][0]["spanId"] == gave["spanId"]
    assert linked["startTimeUnixNano"] == str(int(10.7e9))
    failed = [each for each in told if each.get("status", {}).get("code") == 2]
    assert len(failed) == 1, "the chunk whose worker died"
    assert JOB.hex() in json.dumps(job)
