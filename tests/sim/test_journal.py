"""The journal of virtual meshes: the same code as in real nodes, told by events alone."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import JournalsReady
from stealmesh_engine.events import AskJournals, Drain
from stealmesh_protocol.journal_messages import JournalEntry, RingKind
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .scenes import Scene, scene


def entries(process: Process, *kinds: RingKind) -> list[JournalEntry]:
    bits = sum(1 << kind for kind in kinds)
    found, more = process.core.journal.rings.page(0, bits, 1 << 30)
    assert not more or not kinds
    return found


def told(process: Process, kind: RingKind) -> list[tuple[str, str]]:
    return [(entry.what, entry.name) for entry in entries(process, kind)]


def eventful(*, seed: int = 1) -> Scene:
    """A job, a worker that dies, a node that is killed, one that leaves."""
    story = scene(4, workers=2, seed=seed)
    program = story.map(600)
    story.until(lambda: all(story.holds(node, program) for node in story.nodes))
    slots = story.nodes[1].core.holder.slots
    story.until(lambda: slots.by_worker[0].running is not None)
    story.run(0.002)
    story.nodes[1].workers[0].kill()
    story.run(0.3)
    story.world.crash(story.nodes[2])
    story.finish()
    story.world.tell(story.nodes[3], Drain())
    story.until(lambda: story.nodes[3].left)
    story.run(2.0)
    return story


@pytest.fixture(scope="module")
def story() -> Scene:
    return eventful()


def test_every_item_that_ran_is_in_a_chunk(story: Scene) -> None:
    """Those of the dead node went with it."""
    dead = story.nodes[2]
    ran = [
        item
        for node in story.nodes
        for entry in entries(node, RingKind.CHUNK)
        if entry.what in ("done", "unwanted")
        for item in range(entry.lo, entry.hi)
    ]
    lost = {
        item
        for entry in entries(dead, RingKind.CHUNK)
        if entry.what == "done"
        for item in range(entry.lo, entry.hi)
    }
    assert set(ran) == set(range(600))
    assert len(ran) - len(set(ran)) <= len(lost), "only what the dead node had ran twice"


def test_bars_of_one_worker_do_not_overlap(story: Scene) -> None:
    for node in story.nodes:
        ends: dict[int, float] = {}
        for entry in entries(node, RingKind.CHUNK):
            assert ends.get(entry.worker, 0.0) <= entry.begun <= entry.at
            ends[entry.worker] = entry.at


def test_the_deaths_are_told_with_who_says_so_and_why(story: Scene) -> None:
    [death] = entries(story.nodes[1], RingKind.DEATH)
    assert (death.what, death.worker) == ("worker died", 0)
    assert death.detail
    died = [e for e in entries(story.nodes[1], RingKind.CHUNK) if e.what == "died"]
    assert [e.worker for e in died] == [0]
    verdicts = [
        (entry.name, entry.detail)
        for node in story.nodes
        if node.alive
        for entry in entries(node, RingKind.VERDICT)
        if entry.what == "is declared dead"
    ]
    assert verdicts
    assert {name for name, _ in verdicts} == {"n2"}
    assert all("nothing listens at its address: n" in why for _, why in verdicts)


def test_members_come_serve_drain_and_leave(story: Scene) -> None:
    members = [each for node in story.nodes for each in told(node, RingKind.MEMBER)]
    assert ("joined", "n1") in members
    assert ("drains", "n3") in members
    assert ("left", "n3") in members
    assert any(what == "serves as a supernode" for what, _ in members)


def test_steals_are_told_by_both_sides(story: Scene) -> None:
    gave = {
        (node.name, entry.name, entry.count)
        for node in story.nodes
        for entry in entries(node, RingKind.STEAL)
        if entry.what == "gave"
    }
    got = {
        (entry.name, node.name)
        for node in story.nodes
        for entry in entries(node, RingKind.STEAL)
        if entry.what == "got"
    }
    assert gave
    assert got
    assert all(items > 0 for *_, items in gave)
    assert got <= {(victim, thief) for victim, thief, _ in gave}


def test_leases_of_the_dead_are_told_by_the_owner(story: Scene) -> None:
    assert ("fenced", "n2") in told(story.client, RingKind.LEASE)


def test_the_same_seed_writes_the_same_journals() -> None:
    first, second = eventful(seed=3), eventful(seed=3)
    for one, other in zip(first.nodes, second.nodes, strict=True):
        assert entries(one) == entries(other)
        assert entries(one)


def test_a_core_outside_of_the_world_that_hears_the_same_writes_the_same() -> None:
    """The host has no hand in it: feed the events of a virtual node to a bare core."""
    heard: dict[int, list[tuple[float, list[Any]]]] = {}
    steps = NodeCore.steps

    def listening(core: NodeCore, now: float, events: list[Any]) -> list[Any]:
        heard.setdefault(id(core), []).append((now, list(events)))
        return steps(core, now, events)

    NodeCore.steps = listening  # type: ignore[method-assign, assignment]
    try:
        story = eventful()
    finally:
        NodeCore.steps = steps  # type: ignore[method-assign]
    node = story.nodes[1]
    bare = NodeCore(
        node.member, config=node.core.config, rng=Random(f"{story.world.seed}/core/{node.number}")
    )
    for now, events in heard[id(node.core)]:
        bare.steps(now, events)
    assert bare.journal.rings.page(0, 0, 1 << 30) == node.core.journal.rings.page(0, 0, 1 << 30)
    assert bare.journal.rings.told() == node.core.journal.rings.told()


def test_a_client_gathers_all_nodes_page_by_page(story: Scene) -> None:
    from stealmesh_engine.effects import Effect

    ready: list[JournalsReady] = []
    story = eventful()
    step = story.client.core.steps

    def listening(now: float, events: list[Any]) -> list[Effect]:
        effects = step(now, events)
        ready.extend(e for e in effects if isinstance(e, JournalsReady))
        return effects

    story.client.core.steps = listening  # type: ignore[method-assign]
    marks: dict[bytes, int] = {}
    found: dict[str, list[JournalEntry]] = {}
    only: list[bytes] | None = None
    rounds = 0
    while only is None or only:
        ready.clear()
        story.world.tell(story.client, AskJournals(9, marks, 0, 2000, only))
        story.until(lambda: bool(ready))
        rounds += 1
        only = [told.peer for told in ready[0].pages if told.page.more]
        for each in ready[0].pages:
            assert each.asked_at <= each.page.clock <= each.came_at
            marks[each.peer] = each.page.following
            found.setdefault(each.name, []).extend(each.page.entries)
    assert rounds > 3
    assert found.keys() == {"n0", "n1"}, "those that live"
    for node in story.nodes[:2]:
        assert found[node.name][: len(found[node.name])] == entries(node)[: len(found[node.name])]


def test_a_ring_is_bounded_however_much_happens() -> None:
    from stealmesh_engine.config import Config

    story = scene(2, config=Config(journal_chunks_max=16, journal_entries_max=4))
    story.map(500, law=CostLaw("const", 0.02))
    story.finish(within=60.0)
    for node in story.nodes:
        found = entries(node, RingKind.CHUNK)
        assert len(found) == 16
        assert node.core.journal.rings.told()[RingKind.CHUNK] > 100
        assert len(entries(node, RingKind.STEAL)) <= 4
