"""How journals are read, shown, traced and counted: without a mesh."""

from __future__ import annotations

import json
import math
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from stealmesh.cli.events import WIDTH, EventLines, as_line
from stealmesh.cli.trace import lines_of, trace_of
from stealmesh.cli.trace_steals import first_chunks
from stealmesh.client.journals import (
    ASKED_AGAIN_MAX,
    Happening,
    JournalReader,
    Teller,
    in_turn,
    kinds_called,
)
from stealmesh.futures import Future
from stealmesh.host.happened import facts_of, words_of
from stealmesh.host.terminal import BURST, Terminal
from stealmesh.job_story import of_job, page, shares_of
from stealmesh.metrics import exposition
from stealmesh_engine.effects import JournalsReady, ToldPage
from stealmesh_protocol.journal_messages import BESIDE, JournalEntry, JournalPage, RingKind

JOB, OTHER = bytes(19) + b"\1", bytes(19) + b"\2"
ADA, BOB = b"a" * 16, b"b" * 16


def chunk(number: int, begun: float, at: float, **more: Any) -> JournalEntry:
    wanted: dict[str, Any] = {"what": "done", "name": "square", "about": JOB, "worker": 0}
    return JournalEntry(
        number, at, RingKind.CHUNK, begun=begun, **{**wanted, "lo": 0, "hi": 1, **more}
    )


def happened(entry: JournalEntry, node: str = "n0", peer: bytes = ADA) -> Happening:
    return Happening(entry.at, entry.begun, node, peer, entry)


# ---------------------------------------------------------------- clocks


def page_of(clock: float, wall: float, asked_at: float, came_at: float) -> ToldPage:
    return ToldPage(ADA, "n0", asked_at, came_at, JournalPage(1, clock, wall, 0))


@pytest.mark.parametrize(
    ("claimed", "found"),
    [
        (1000.0, 1000.0),  # within what the round trip allows: believed
        (4000.0, 1000.1),  # an hour wrong: as near as the round trip allows
        (-4000.0, 999.9),
    ],
)
def test_a_nodes_time_is_believed_as_far_as_the_round_trip_allows(
    claimed: float, found: float
) -> None:
    """Our clock shows 50 where the node's shows 50 as well, give or take 0.1."""
    teller = Teller("n0")
    offset = teller.offset(page_of(50.0, claimed, 49.9, 50.1), our_wall=1000.0)
    assert math.isclose(offset, found)


def test_the_best_round_trip_counts() -> None:
    teller = Teller("n0")
    teller.offset(page_of(50.0, 0.0, 49.99, 50.01), 1000.0)
    assert abs(teller.offset(page_of(60.0, 9e9, 59.0, 61.0), 1000.0) - 1000.0) <= 0.011


def test_a_clock_that_went_to_sleep_is_measured_anew() -> None:
    teller = Teller("n0")
    teller.offset(page_of(50.0, 0.0, 49.99, 50.01), 1000.0)
    assert abs(teller.offset(page_of(60.0, 0.0, 159.9, 160.1), 1000.0) - 1100.0) <= 0.11


class Mesh:
    """Answers as nodes would: a number of entries a page."""

    def __init__(self, rings: dict[bytes, list[JournalEntry]], *, a_page: int = 3) -> None:
        self.rings = rings
        self.fallen = 0
        self.busy: dict[bytes, int] = {}
        """Node → how many questions it will leave without an answer."""
        self._a_page = a_page

    def ask_journals(self, **wanted: Any) -> Future[JournalsReady]:
        pages: list[ToldPage] = []
        silent: list[tuple[bytes, str]] = []
        for peer, entries in self.rings.items():
            if wanted["only"] is not None and peer not in wanted["only"]:
                continue
            if self.busy.get(peer, 0) > 0:
                self.busy[peer] -= 1
                silent.append((peer, "slow"))
                continue
            since = wanted["since"].get(peer, 0)
            left = [e for e in entries if e.number >= since]
            now, told = left[: self._a_page], [len(entries) + self.fallen]
            mark = now[-1].number + 1 if now else since
            page = JournalPage(1, 100.0, 0.0, mark, len(left) > len(now), told, now)
            pages.append(ToldPage(peer, peer[:1].decode(), 100.0, 100.0, page))
        future: Future[JournalsReady] = Future()
        future.set_result(JournalsReady(1, pages, silent))
        return future


def test_each_entry_is_read_once_in_order_of_time() -> None:
    mesh = Mesh({
        ADA: [chunk(n, n, n + 1.0) for n in range(8)],
        BOB: [chunk(n, n, n + 1.5) for n in range(5)],
    })  # fmt: skip
    reader = JournalReader(mesh)  # type: ignore[arg-type]
    found = reader.read()
    assert len(found) == 13
    assert [each.at for each in found] == sorted(each.at for each in found)
    assert reader.read() == []
    mesh.rings[ADA].append(chunk(8, 8.0, 9.0))
    assert [each.entry.number for each in reader.read()] == [8]
    assert reader.missed == 0
    mesh.fallen = 4
    reader.read()
    assert reader.missed == 8, "four at each node were never read"


def test_a_node_that_does_not_answer_in_time_is_asked_again_but_not_for_ever() -> None:
    mesh = Mesh({ADA: [chunk(0, 0.0, 1.0)], BOB: [chunk(0, 0.0, 1.0), chunk(1, 1.0, 2.0)]})
    reader = JournalReader(mesh)  # type: ignore[arg-type]
    mesh.busy[BOB] = ASKED_AGAIN_MAX + 1
    assert len(reader.read()) == 1
    assert reader.silent == ["slow"]
    mesh.busy[BOB] = ASKED_AGAIN_MAX
    assert len(reader.read()) == 2
    assert reader.silent == []


def test_kinds_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    from stealmesh.cli import main

    assert kinds_called(["chunk", "steal", "chunk"]) == 0b11
    assert main(["events", "--kind", "chunk,nonsense"]) == 2
    assert "'nonsense' is none of chunk, steal" in capsys.readouterr().err


# ---------------------------------------------------------------- lines


ONE_OF_EACH = [
    chunk(0, 1.0, 1.25, lo=5, hi=6),
    chunk(1, 1.0, 1.25, what="died", detail="signal 9 (SIGKILL)", lo=5, hi=900),
    JournalEntry(2, 2.0, RingKind.STEAL, "gave", "n1", JOB, BOB, lo=5, hi=9, count=4),
    JournalEntry(3, 2.0, RingKind.STEAL, "got nothing", "n1", b"", BOB, count=12),
    JournalEntry(4, 2.0, RingKind.VALUE, "fetched", "", bytes(24), BOB, count=5_000_000),
    JournalEntry(5, 2.0, RingKind.DEATH, "worker died", "square", JOB, worker=3, lo=5, hi=6, detail="signal 11"),
    JournalEntry(6, 2.0, RingKind.DEATH, "the fork server died", count=1),
    JournalEntry(7, 2.0, RingKind.VERDICT, "is declared dead", "n1", b"", BOB, detail="it is silent: n0, n2"),
    JournalEntry(8, 2.0, RingKind.MEMBER, "joined", "n1", b"", BOB, count=3),
    JournalEntry(9, 2.0, RingKind.REFUSED, "refused:wrong-key", count=1234),
    JournalEntry(10, 2.0, RingKind.REFUSED, "rude-journal-goes-back", "n1", b"", BOB, count=1),
    JournalEntry(11, 2.0, RingKind.LEASE, "expired", "n1", JOB, BOB, count=1),
    JournalEntry(12, 2.0, 17, "of a kind that comes later", "n1"),
]  # fmt: skip
WORDS = [
    "done square 5 in 0.250 s, worker 0",
    "died square 5:900 in 0.250 s, worker 0: signal 9 (SIGKILL)",
    "gave 4 items 5:9 to n1",
    "got nothing from n1 (12 times)",
    "value 00000000 fetched (4.8 MiB)",
    "worker 3 died at square 5: signal 11",
    "the fork server died",
    "n1 is declared dead: it is silent: n0, n2",
    "n1 joined (3 nodes)",
    "refused 1,234 connections: wrong-key",
    "refused 1 message of n1: rude-journal-goes-back",
    "lease of n1 expired",
    "of a kind that comes later n1",
]


@pytest.mark.parametrize(("entry", "words"), list(zip(ONE_OF_EACH, WORDS, strict=True)))
def test_each_kind_is_said_in_words_and_as_data(entry: JournalEntry, words: str) -> None:
    assert words_of(entry) == words
    assert json.loads(json.dumps(facts_of(entry)))["what"] == entry.what


def test_lines_fit_a_narrow_terminal_and_have_no_control_characters() -> None:
    evil = JournalEntry(0, 1.0, RingKind.VERDICT, "is\x1b[2J" * 9, "\x1b]0;x\a" * 9, b"", BOB, detail="y\n" * 99)  # fmt: skip
    for entry in (*ONE_OF_EACH, evil):
        line = as_line(happened(entry, "a-node-with-a-long-name.example"), 12, WIDTH)
        assert len(line) <= WIDTH
        assert line.isprintable()


def test_what_several_nodes_say_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    dead = JournalEntry(0, 5.0, RingKind.VERDICT, "is declared dead", "n3", b"", b"c" * 16)
    heard = JournalEntry(0, 5.1, RingKind.VERDICT, "is told dead", "n3", b"", b"c" * 16)
    steal = JournalEntry(1, 5.2, RingKind.STEAL, "got nothing", "n3", b"", b"c" * 16)
    shown = EventLines(as_json=False)
    shown.show([happened(dead), happened(heard, "n1", BOB), happened(steal)])
    shown.show([happened(JournalEntry(7, 6.0, *_rest(heard)), "n2", b"d" * 16)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("n3 is declared dead [2 say so]")
    shown.show([happened(JournalEntry(8, 60.0, *_rest(dead)))])
    assert "dead" in capsys.readouterr().out, "another death of the name, much later"


def test_what_a_node_gave_within_a_second_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def gave(at: float, to: str, job: bytes = JOB) -> Happening:
        entry = JournalEntry(0, at, RingKind.STEAL, "gave", to, job, BOB, lo=1, hi=9, count=1000)
        return happened(entry)

    many = [gave(5.0 + at / 10, f"n{at % 7}") for at in range(10)]
    EventLines(as_json=False).show([*many, gave(5.2, "n1", OTHER), gave(6.5, "n9")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("steal")[2].strip() for line in lines] == [
        "gave 10,000 items to n0, n1, n2, n3, ..",
        "gave 1,000 items 1:9 to n1",
        "gave 1,000 items 1:9 to n9",
    ]
    EventLines(as_json=True).show(many)
    assert len(capsys.readouterr().out.splitlines()) == 10, "JSON has all"


def _rest(entry: JournalEntry) -> list[Any]:
    return [getattr(entry, name) for name in JournalEntry.__struct_fields__[2:]]


def test_json_has_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    EventLines(as_json=True).show([happened(each) for each in ONE_OF_EACH])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(ONE_OF_EACH)
    assert all(row.keys() >= {"time", "node", "kind", "what"} for row in rows)
    assert rows[0]["count"] == 0, "no item failed"


def test_a_terminal_is_not_flooded_and_says_what_it_left_out() -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    terminal = Terminal(lambda text, **facts: said.append((text, facts)))
    for _ in range(500):
        terminal.tell(ONE_OF_EACH[7], 1000.0)
    assert len(said) == BURST
    terminal.tell(ONE_OF_EACH[8], 1010.0)
    assert said[-1][0] == f"n1 joined (3 nodes) ({500 - BURST} lines before this one left out)"
    assert said[-1][1]["left_out"] == 500 - BURST


# ---------------------------------------------------------------- traces


def story() -> list[Happening]:
    """Ada gives half to Bob; one of Bob's workers dies; another job runs meanwhile."""
    return [
        happened(chunk(0, 10.0, 10.5, lo=0, hi=5)),
        happened(JournalEntry(1, 10.6, RingKind.STEAL, "gave", "bob", JOB, BOB, lo=5, hi=9, count=4)),
        happened(chunk(0, 10.7, 11.0, lo=5, hi=7, worker=2), "bob", BOB),
        happened(chunk(1, 10.8, 11.2, lo=7, hi=8, worker=2), "bob", BOB),
        happened(chunk(2, 11.2, 11.4, what="died", lo=8, hi=9, worker=2), "bob", BOB),
        happened(JournalEntry(3, 11.4, RingKind.DEATH, "worker died", "square", JOB, worker=2), "bob", BOB),
        happened(chunk(2, 10.5, 10.6, name="other", about=OTHER)),
        happened(JournalEntry(4, 11.3, RingKind.VERDICT, "is suspected", "n7", b"", b"c" * 16)),
        happened(JournalEntry(5, 99.0, RingKind.VERDICT, "is suspected", "n8", b"", b"d" * 16)),
    ]  # fmt: skip


def check_schema(events: list[dict[str, Any]]) -> None:
    """What the trace event format asks of the events that we write, and Perfetto of arrows and bars."""
    ends: dict[tuple[int, int], float] = {}
    arrows: dict[int, dict[str, Any]] = {}
    bars = [event for event in events if event["ph"] == "X"]
    for event in events:
        assert event["ph"] in "MXsfi"
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["args"]
            continue
        assert event["ts"] >= 0
        assert event["cat"]
        if event["ph"] == "i":
            assert event["s"] in "gpt"
        if event["ph"] == "s":
            arrows[event["id"]] = event
        if event["ph"] == "f":
            assert event["bp"] == "e"
            assert arrows.pop(event["id"])["ts"] <= event["ts"]
        if event["ph"] in "sf":
            place = (event["pid"], event["tid"])
            assert any(
                (bar["pid"], bar["tid"]) == place
                and bar["ts"] <= event["ts"] <= bar["ts"] + bar["dur"]
                for bar in bars
            ), "an arrow begins and ends at a bar"
    assert not arrows
    for bar in sorted(bars, key=lambda bar: bar["ts"]):
        place = (bar["pid"], bar["tid"])
        assert bar["dur"] > 0
        assert ends.get(place, 0.0) <= bar["ts"] + 1.0, "bars of a thread overlap"
        ends[place] = bar["ts"] + bar["dur"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert {(bar["pid"], bar["tid"]) for bar in bars} <= named


def test_a_trace_has_bars_arrows_and_marks() -> None:
    events = trace_of(list(of_job(story(), "square")))
    check_schema(events)
    bars = [e for e in events if e["ph"] == "X" and e["name"] == "square"]
    assert len(bars) == 4
    assert len({(bar["pid"], bar["tid"]) for bar in bars}) == 3, "side by side in lanes"
    assert [e["ts"] for e in events if e["ph"] in "sf"] == [600000.0, 700000.0]
    marks = [e["name"] for e in events if e["ph"] == "i"]
    assert marks == ["worker 2 died at square", "n7 is suspected"]
    names = {e["args"]["name"] for e in events if e["name"] in ("process_name", "thread_name")}
    assert {"node n0", "node bob", "worker 2", "worker 2, beside 1"} <= names


def test_a_node_that_gives_often_has_one_row_of_bars() -> None:
    gifts = [
        happened(JournalEntry(at, 10.0 + at // 3 * 2e-5, RingKind.STEAL, "gave", "bob", JOB, BOB, lo=at, hi=at + 1, count=1))
        for at in range(30)
    ]  # fmt: skip
    made = [happened(chunk(at, 10.1 + at, 10.2 + at, lo=at, hi=at + 1), "bob", BOB) for at in range(30)]  # fmt: skip
    events = trace_of([*gifts, *made])
    check_schema(events)
    assert sum(event["ph"] == "s" for event in events) == 30
    assert (
        len({event["ts"] for event in events if event.get("cat") == "steal" and event["ph"] == "X"})
        == 30
    )
    bars = sorted((e["ts"], e["dur"]) for e in events if e.get("cat") == "steal" and e["ph"] == "X")
    assert all(ts + dur <= later + 1e-6 for (ts, dur), (later, _) in pairwise(bars)), "one row"
    assert bars[-1][0] - bars[0][0] < 9 * 20 + 50, "and hardly later than they were given"


def test_a_chunk_that_ends_as_it_begins_has_a_bar() -> None:
    """Its worker was dead at once."""
    (bar,) = [e for e in trace_of([happened(chunk(1, 2.0, 2.0, what="died"))]) if e["ph"] == "X"]
    assert bar["dur"] > 0


def test_a_steal_leads_to_the_first_chunk_of_what_it_gave() -> None:
    def gave(at: float, lo: int, hi: int, job: bytes = JOB) -> Happening:
        return happened(JournalEntry(0, at, RingKind.STEAL, "gave", "bob", job, BOB, lo=lo, hi=hi, count=1))  # fmt: skip

    def made(number: int, begun: float, lo: int, **more: Any) -> Happening:
        return happened(chunk(number, begun, begun + 0.5, lo=lo, hi=lo + 2, **more), "bob", BOB)

    chunks = [made(1, 3.0, 4), made(2, 2.0, 6), made(3, 1.0, 8), made(4, 9.0, 4), made(5, 1.5, 20)]
    steps = [made(6, 5.0, 0, what="step", about=OTHER), made(7, 4.0, 0, what="step", about=OTHER)]
    gifts = [
        gave(1.2, 4, 8),
        gave(2.7, 4, 8),
        gave(5.0, 4, 5),
        gave(4.2, 0, 0, OTHER),
        gave(9.9, 4, 8),
    ]
    steps.append(happened(chunk(8, 3.9, 6.0, what="step", about=OTHER), "bob", BOB))
    led_to = [each and each.entry.number for _, each in first_chunks([*gifts, *chunks, *steps])]
    assert led_to == [2, 1, 4, 8, None]


@pytest.mark.parametrize(
    "job", [JOB.hex(), JOB.hex()[:39] + "1", f"{JOB.hex()[:8]}..{JOB.hex()[-4:]}", "square"]
)
def test_a_job_is_called_by_id_short_form_or_name(job: str) -> None:
    chosen = list(of_job(story(), job))
    assert {e.entry.name for e in chosen if e.entry.kind == RingKind.CHUNK} == {"square"}
    assert len(list(of_job(story(), "all"))) == len(story())
    assert not list(of_job(story(), "nothing"))


def test_chunks_that_a_busy_node_heard_of_at_once_lie_one_after_the_other() -> None:
    """They took what their worker says, and ran in turn; what runs side by side stays where it is."""
    late = [chunk(0, 10.0, 12.0), chunk(1, 11.5, 12.0), chunk(2, 11.999, 12.0)]
    beside = [chunk(at, 11.0, 12.0, worker=7, detail=BESIDE) for at in (3, 4)]
    found = in_turn([happened(each) for each in [*late, *beside]])
    assert [round(each.begun, 6) for each in found] == [9.499, 11.499, 11.999, 11.0, 11.0]
    assert [round(each.at, 6) for each in found] == [11.499, 11.999, 12.0, 12.0, 12.0]
    events = trace_of(found)
    check_schema(events)
    assert all(bar["dur"] > 0 for bar in events if bar["ph"] == "X")
    threads = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads == {"node", "worker 0", "worker 7", "worker 7, beside 1"}


def test_the_trace_is_json_also_when_it_is_large() -> None:
    many = [happened(chunk(n, n * 0.01, n * 0.01 + 0.01)) for n in range(5_000)]
    told = json.loads("\n".join(lines_of(trace_of(many))))
    assert len([e for e in told["traceEvents"] if e["ph"] == "X"]) == 5_000
    check_schema(json.loads("\n".join(lines_of(trace_of(story()))))["traceEvents"])


# ---------------------------------------------------------------- reports


class Reader(HTMLParser):
    """The words of a page, and whether its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "img", "iframe"), "nothing from outside"
        assert not {"href", "src"} & attributes.keys()
    assert "url(" not in text
    assert "@import" not in text
    return reader


def test_a_report_tells_who_did_what_and_what_went_wrong() -> None:
    reader = read_page(page("square", list(of_job(story(), "square")), missed=7))
    assert "8 items ran, 0 failed" in reader.words
    assert "7 older entries had made room" in reader.words
    assert "worker 2 died at square" in reader.words
    assert "n7 is suspected" in reader.words
    given = {share.name: (share.gave, share.got) for share in shares_of(story()).values()}
    assert given == {"n0": (4, 0), "bob": (0, 4)}
    bars = [
        "lost" if attributes.get("class") == "bad" else "well"
        for tag, attributes in reader.tags
        if tag == "rect" and (attributes.get("class") == "bad" or "fill" in attributes)
    ]
    assert bars[:3] == ["well", "lost", "well"], "bars that touch are one; bob comes first"


def test_a_report_is_no_larger_than_its_picture_and_escapes_names() -> None:
    many = [happened(chunk(n, n * 0.01, n * 0.01 + 0.01, name="<b>&")) for n in range(5_000)]
    text = page("<script>", many)
    assert len(text) < 5_000
    assert "<script>" not in read_page(text).words.replace("Job <script>", "")
    read_page(page("nothing", []))


# ---------------------------------------------------------------- figures


STATUS: dict[str, Any] = {
    "nodes": [
        {
            "role": "super", "workers": 2, "queued_seconds": 30.0, "executed": 100, "run_seconds": 50.0,
            "steals_in": 3, "steals_out": 4, "steals_asked": 9,
        },
        {"role": "client", "workers": 0, "queued_seconds": 0.0, "steals_in": 0, "steals_out": 0},
    ],
    "jobs": [
        {"state": "open", "done": 100, "failed": 2, "leased": 60, "free": 40, "started": 900.0, "ended": None},
        {"state": 'we"ird\\\n', "done": 5, "failed": 0, "leased": 0, "free": 0, "started": 1.0, "ended": 2.0},
    ],
    "counters": {"workers-lost": 3, "refused:wrong-key": 1},
}  # fmt: skip
SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


def check_exposition(text: str) -> dict[str, float]:
    """The rules of the text format, and those that promtool checks. Returns the samples."""
    assert text.endswith("\n")
    samples: dict[str, float] = {}
    helped: set[str] = set()
    kinds: dict[str, str] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in helped, "each family once"
            assert line.split(" ", 3)[3].strip()
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, "TYPE follows its HELP"
            assert kind in ("counter", "gauge")
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, number = match.groups()
            assert name == family, "samples follow their family"
            assert name in kinds
            assert name == name.lower()
            assert name.startswith("stealmesh_")
            assert math.isfinite(float(number))
            sample = f"{name}{{{labels}}}" if labels else name
            assert sample not in samples, "each sample once"
            assert (kinds[name] == "counter") is name.endswith("_total")
            assert not re.search(r"_(milliseconds|minutes|kilobytes)", name), "base units"
            samples[sample] = float(number)
    assert kinds.keys() == helped
    return samples


def test_the_figures_follow_the_rules_of_the_format() -> None:
    samples = check_exposition(exposition(STATUS, 1000.0))
    assert samples['stealmesh_tasks{state="done"}'] == 105
    assert samples['stealmesh_tasks{state="free"}'] == 40
    assert samples["stealmesh_task_run_seconds_total"] == 50.0
    assert samples["stealmesh_work_expected_seconds"] == 30.0
    assert samples["stealmesh_oldest_queued_seconds"] == 100.0
    assert samples['stealmesh_steals_total{result="given"}'] == 4
    assert samples["stealmesh_desired_workers"] == 5, "30 s wait, and 40 tasks of half a second"
    assert samples['stealmesh_jobs{state="we\\"ird\\\\\\n"}'] == 1
    assert samples['stealmesh_counted_total{what="refused:wrong-key"}'] == 1


def test_an_idle_mesh_wants_no_workers() -> None:
    idle: dict[str, Any] = {"nodes": [], "jobs": [], "counters": {}}
    samples = check_exposition(exposition(idle, time.time()))
    assert samples["stealmesh_desired_workers"] == 0
    assert samples["stealmesh_oldest_queued_seconds"] == 0


@pytest.mark.parametrize(
    "broken",
    [
        "stealmesh_x 1\n",
        "# HELP stealmesh_x y\n# TYPE stealmesh_x gauge\nstealmesh_x{a=\"b} 1\n",
        "# HELP stealmesh_x y\n# TYPE stealmesh_x counter\nstealmesh_x 1\n",
        "# HELP stealmesh_x y\n# TYPE stealmesh_x gauge\nstealmesh_x 1\nstealmesh_x 2\n",
        "# HELP stealmesh_x y\n# TYPE stealmesh_x gauge\nstealmesh_x nan\n",
    ],
)  # fmt: skip
def test_the_checker_bites(broken: str) -> None:
    with pytest.raises(AssertionError):
        check_exposition(broken)
