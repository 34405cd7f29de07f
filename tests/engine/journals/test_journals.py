"""A program asks nodes for pages of their journals; what a peer answers is an input."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.engine.wire import Host, Wire, pair

from stealmesh_engine.base.rings import REPEATS_SECONDS
from stealmesh_engine.config import Config
from stealmesh_engine.effects import JournalsReady, WorthSaying
from stealmesh_engine.events import AskJournals, HostNoted, WorkerLost
from stealmesh_engine.journals.journals import PATIENCE_SECONDS
from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.field_checks import Fault
from stealmesh_protocol.journal_messages import JournalEntry, RingKind
from stealmesh_protocol.messages import JournalGet, JournalPage

CHUNKS = 1 << RingKind.CHUNK


def ask(client: Host, **wanted: object) -> JournalsReady:
    client.step(AskJournals(1, **wanted))  # type: ignore[arg-type]
    (ready,) = client.take_told(JournalsReady)
    return ready


def all_pages(client: Host, node: Host, **wanted: object) -> Iterator[JournalPage]:
    more, since = True, 0
    while more:
        (told,) = ask(client, since={node.id: since}, **wanted).pages
        yield told.page
        more, since = told.page.more, told.page.following


def worked() -> tuple[Wire, Host, Host]:
    wire, client, node = pair()
    job = client.open(40)
    while not client.is_done(job):
        wire.advance(0.01)
        for worker in (0, 1):
            if node.running(worker):
                node.finish(worker)
    return wire, client, node


def test_chunks_come_page_by_page_and_cover_the_job() -> None:
    _, client, node = worked()
    pages = list(all_pages(client, node, kinds=CHUNKS, octets=400))
    assert len(pages) > 1
    entries = [entry for page in pages for entry in page.entries]
    assert sorted(item for e in entries for item in range(e.lo, e.hi)) == list(range(40))
    assert {(e.what, e.name) for e in entries} == {("done", "job-1")}
    assert all(e.begun < e.at for e in entries)
    assert pages[-1].told[RingKind.CHUNK] == len(entries)


def test_only_nodes_that_are_meant_are_asked() -> None:
    _, client, node = worked()
    assert len(ask(client, named=node.core.me.name).pages) == 1
    assert ask(client, named="another") == JournalsReady(1, [], [])
    assert ask(client, only=[]) == JournalsReady(1, [], [])


def test_a_silent_node_is_not_waited_for_for_ever() -> None:
    wire, client, node = worked()
    wire.losing.append(lambda said: isinstance(said.message, JournalPage))
    client.step(AskJournals(1))
    assert client.take_told(JournalsReady) == []
    wire.advance(PATIENCE_SECONDS + 0.1)
    (ready,) = client.take_told(JournalsReady)
    assert ready.silent == [(node.id, node.core.me.name)]


def test_a_page_that_nobody_asked_for_is_counted() -> None:
    wire, client, node = worked()
    node.core.links.send(client.id, JournalPage(77, wire.now, 0.0, 0), wire.now)
    node.step()
    assert client.core.counters["journals-unasked"] == 1


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (JournalPage(1, 9e9, 0.0, 6, False, [], [JournalEntry(5, 1.0, 0, "done")]), "journal-goes-back"),
        (JournalPage(1, 9e9, 0.0, 3), "journal-goes-back"),
        (JournalPage(1, 9e9, 0.0, 30, False, [], [JournalEntry(20, 1.0, 1, "x")]), "journal-of-other-kinds"),
        (JournalPage(1, 9e9, 0.0, 30, True), "journal-without-end"),
    ],
)  # fmt: skip
def test_a_lying_page_is_refused_and_told(page: JournalPage, reason: str) -> None:
    wire, client, node = worked()
    wire.losing.append(lambda said: isinstance(said.message, JournalGet))
    client.step(AskJournals(1, {node.id: 10}, CHUNKS))
    node.core.links.send(client.id, page, wire.now)
    node.step()
    assert client.core.counters[f"rude-{reason}"] == 1
    found, _ = client.core.journal.rings.page(0, 1 << RingKind.REFUSED, 1 << 20)
    assert [(entry.what, entry.peer) for entry in found] == [(f"rude-{reason}", node.id)]
    wire.advance(PATIENCE_SECONDS + 0.1)
    (ready,) = client.take_told(JournalsReady)
    assert ready.pages == []


@pytest.mark.parametrize(
    "page",
    [
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 6.0, 0, "from the future")]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 4.0, 0, "ended before it began", begun=4.5)]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 4.0, 0, "a"), JournalEntry(3, 4.0, 0, "again")]),
        JournalPage(1, 5.0, 0.0, 3, False, [], [JournalEntry(3, 4.0, 0, "behind the mark")]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, float("nan"), 0, "never")]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 4.0, 0, "x" * 81)]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 4.0, 99, "a kind beyond the bits")]),
        JournalPage(1, 5.0, 0.0, 9, False, [], [JournalEntry(3, 4.0, 0, "x", about=b"?")]),
        JournalPage(1, 5.0, float("inf"), 9),
        JournalPage(1, 5.0, 0.0, 9, False, [0] * 33),
        JournalGet(1, 0, 0, 1 << 30),
        JournalGet(1, 0, 1 << 40),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_form(page: JournalPage | JournalGet) -> None:
    with pytest.raises(Fault):
        CHECKS[type(page)](page)


def test_a_worker_that_dies_is_said_aloud_and_its_chunk_is_in_the_ring() -> None:
    _wire, client, node = pair()
    client.open(4)
    run = node.running(0)
    assert run is not None
    node.work[0].clear()
    node.step(WorkerLost(0, run.chunk, "signal 9 (SIGKILL)"))
    told = [e.entry for e in node.take_told(WorthSaying) if e.entry.kind == RingKind.DEATH]
    assert [(e.what, e.worker, e.name, e.detail) for e in told] == [
        ("worker died", 0, "job-1", "signal 9 (SIGKILL)")
    ]
    found, _ = node.core.journal.rings.page(0, CHUNKS, 1 << 20)
    assert [(e.what, e.lo, e.hi) for e in found] == [("died", run.lo, run.hi)]


def test_the_host_tells_what_the_core_cannot_see() -> None:
    _, _, node = pair()
    node.step(HostNoted(RingKind.DEATH, "the fork server died"))
    node.step(HostNoted(RingKind.REFUSED, "refused:wrong-key", 7))
    told = {e.entry.what: e.entry.count for e in node.take_told(WorthSaying)}
    assert told["the fork server died"] == 1
    assert told["refused:wrong-key"] == 7


def test_nothing_is_written_where_the_rings_are_switched_off() -> None:
    off = Config(journal_chunks_max=0, journal_entries_max=0)
    _wire, client, node = pair(config=off)
    job = client.open(1)
    node.finish(0)
    assert client.is_done(job)
    assert node.core.journal.rings.page(0, 0, 1 << 20) == ([], False)


def test_what_a_crowd_at_the_door_was_is_told_in_full_a_while_later() -> None:
    wire, _, node = pair()
    for _ in range(51):
        node.step(HostNoted(RingKind.REFUSED, "refused:wrong-key"))
    wire.advance(REPEATS_SECONDS + 1.0)
    told = [e.entry for e in node.take_told(WorthSaying) if e.entry.kind == RingKind.REFUSED]
    assert [(entry.what, entry.count) for entry in told] == [
        ("refused:wrong-key", 1),
        ("refused:wrong-key", 50),
    ]
