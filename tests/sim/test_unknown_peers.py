"""Leaves of a large mesh that have something to say to peers which they do not know."""

from __future__ import annotations

import pytest
from tests.sim.test_graphs import counted, finish, graph, stencil

from stealmesh_bench.seeds import replay
from stealmesh_engine.effects import Send
from stealmesh_engine.membership import unknown_peers
from stealmesh_engine.membership.unknown_peers import UnknownPeers
from stealmesh_protocol.limits import STRANGERS_MAX
from stealmesh_protocol.messages import Member, Message, Role, View, WhoIs
from stealmesh_sim import graphs
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import durable_scene
from .scenes import Scene, scene

NODES = 40
STALLED_SECONDS = 10.0
"""A node that takes a value and gets nothing tells the owner after this time."""


@pytest.fixture
def large() -> Scene:
    told = scene(NODES, workers=1, settle_seconds=6.0)
    assert any(node.core.view.told is not None for node in told.nodes), "all know everybody"
    return told


def strangers(told: Scene) -> tuple[Process, Process]:
    """A leaf, and another one that it does not know."""
    leaves = [node for node in told.nodes if node.core.view.told is not None]
    return next(
        (leaf, other)
        for leaf in leaves
        for other in leaves
        if leaf.core.links.member_of(other.member.id) is None
    )


def said(process: Process) -> list[Message]:
    """What it is about to say."""
    return [effect.message for effect in process.core.effects if isinstance(effect, Send)]


def mixed(count: int) -> list[list[int]]:
    """A column of items, and as many more that each need two of these."""
    return [[]] * count + [[at, (at + count // 2) % count] for at in range(count)]


def values_travel(told: Scene) -> None:
    program = graph(told, mixed(36), seconds=0.2, stays={0: 300_000})
    told.until(lambda: program.streams[0].done, within=STALLED_SECONDS / 2)
    assert len(program.account.results) == 72
    assert counted(told, "sent-to-unknown") > 0


def test_a_value_comes_from_a_stranger(large: Scene) -> None:
    """Two leaves that do not know each other: one has a value that the other needs."""
    values_travel(large)
    finish(large)


def test_a_result_comes_from_a_stranger(large: Scene) -> None:
    program = graph(large, stencil(36, 6), seconds=0.05)
    finish(large)
    assert len(program.account.results) == 72 * 6
    assert counted(large, "sent-to-unknown") > 0
    assert counted(large, "inputs-from-others") > 0


@pytest.mark.parametrize("seed", [1270, 1514])
def test_a_call_does_not_wait_for_ever(seed: int) -> None:
    outcome = graphs.run(seed)
    assert not outcome.breach, f"{outcome.breach}\n    {replay(seed, 'graphs')}"


def test_a_leaf_asks_once_a_moment(large: Scene) -> None:
    """An observer is asked again when it has not answered, and there still is something to say."""
    leaf, other = strangers(large)
    core, now = leaf.core, large.world.now
    core.links.send(other.member.id, View([]), now)
    core.links.send(other.member.id, View([]), now)
    unknown = core.membership.unknown
    unknown.ask(now)
    assert said(leaf) == [WhoIs([other.member.id])]
    core.effects.clear()
    core.links.send(other.member.id, View([]), now + 0.5)
    unknown.ask(now + 0.5)
    assert not core.effects
    core.links.send(other.member.id, View([]), now + unknown_peers.AGAIN_SECONDS)
    unknown.ask(now + unknown_peers.AGAIN_SECONDS)
    assert len(core.effects) == 1
    core.effects.clear()


def test_an_observer_that_is_there_is_asked(large: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf, other = strangers(large)
    core = leaf.core
    first, *rest = core.membership.leaf.observers
    core.links.hang_up(first, "idle")
    core.effects.clear()
    core.links.send(other.member.id, View([]), large.world.now)
    core.membership.unknown.ask(large.world.now)
    assert said(leaf) == [WhoIs([other.member.id])], "one of the others"
    core.effects.clear()
    for peer in rest:
        core.links.hang_up(peer, "idle")
    core.effects.clear()
    core.links.send(other.member.id, View([]), large.world.now + 2.0)
    core.membership.unknown.ask(large.world.now + 2.0)
    assert not core.effects


def test_what_is_asked_for_has_a_bound(large: Scene) -> None:
    leaf, _ = strangers(large)
    core, now = leaf.core, large.world.now
    for number in range(3 * STRANGERS_MAX):
        core.links.send(number.to_bytes(16, "big"), View([]), now)
    assert len(core.links.strangers) == STRANGERS_MAX
    core.membership.unknown.ask(now)
    for number in range(STRANGERS_MAX):
        core.links.send((1 << 60 | number).to_bytes(16, "big"), View([]), now)
    core.membership.unknown.ask(now)
    assert len(core.membership.unknown._asked) == STRANGERS_MAX
    core.effects.clear()


def test_who_knows_all_asks_nobody(large: Scene) -> None:
    """For it an unknown peer is one that is gone."""
    supernode = next(node for node in large.nodes if node.core.view.told is None)
    for core in (supernode.core, large.client.core):
        core.links.send(bytes(16), View([]), large.world.now)
        core.membership.unknown.ask(large.world.now)
        assert not core.effects
        assert not core.links.strangers


def test_an_observer_tells_what_it_knows(large: Scene) -> None:
    supernode = next(node for node in large.nodes if node.core.view.told is None)
    leaf, other = strangers(large)
    core = supernode.core
    asked = WhoIs([other.member.id, bytes(16)])
    core.membership.unknown.asked(leaf.member.id, asked, large.world.now)
    assert said(supernode) == [View([core.view.members[other.member.id]])]
    core.effects.clear()
    core.membership.unknown.asked(leaf.member.id, WhoIs([bytes(16)]), large.world.now)
    assert not core.effects, "nothing to tell"


def test_only_who_was_sought_is_dialled(large: Scene) -> None:
    leaf, other = strangers(large)
    core = leaf.core
    record = large.nodes[0].core.view.members[other.member.id]
    assert isinstance(record, Member)
    assert record.role is Role.PLAIN
    core.membership.unknown.learned(record, large.world.now)
    assert other.member.id not in core.links.peers
    core.links.send(record.id, View([]), large.world.now)
    core.membership.unknown.ask(large.world.now)
    core.membership.learn(record, large.world.now)
    assert other.member.id in core.links.peers
    core.effects.clear()


@pytest.mark.parametrize("mutant", ["ask", "asked"])
def test_a_mutant_is_noticed(large: Scene, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    monkeypatch.setattr(UnknownPeers, mutant, lambda self, *args: self.links.take_strangers())
    with pytest.raises(AssertionError):
        values_travel(large)


def test_who_leads_a_durable_job_feeds_nodes_that_it_does_not_know() -> None:
    """After a full stop a leaf leads it. What unknown thieves were given stayed where it was: of 64 nodes 36 had nothing
    to do until the job was over."""
    told = durable_scene(NODES, workers=1, settle_seconds=6.0)
    launcher = told.launch(60 * NODES, law=CostLaw("const", 0.2), collects=False)
    before = list(told.nodes)
    for node in before:
        told.crash(node)
    told.run(0.5)
    for node in before:
        told.restart(node)
    told.run(2.0)
    reader = told.attach(launcher)
    told.until(lambda: told.home(reader) is not None)
    assert told.at_home(reader).core.view.told is not None, "a leaf leads"
    told.run(5.0)
    idle = [node.name for node in told.nodes if node.alive and not node.core.holder.slots.running()]
    assert len(idle) <= 3, f"{idle} have nothing to do"
    told.until(lambda: reader.done, within=60.0)
