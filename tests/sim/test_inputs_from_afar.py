"""Items that wait at one node for results of another: stories, bounds, and mutants that are noticed.

What the owner makes of reports that come too early: test_early_reports.py.

Random worlds have them, too (`drawn_grid` in stealmesh_sim/graphs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.test_graphs import chain, counted, finish, graph, stencil

from stealmesh_engine.effects import Send
from stealmesh_engine.events import Drain
from stealmesh_engine.holding import handed_across
from stealmesh_engine.holding.follow_ons import FollowOns
from stealmesh_engine.holding.handed_across import HandedAcross
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.reports import FOLLOWED_SECONDS, FOLLOWED_SECONDS_MAX
from stealmesh_engine.holding.why_here import why_here
from stealmesh_engine.ledger.from_afar import PATIENCE_SECONDS, TOGETHER_SECONDS, FromAfar
from stealmesh_engine.ledger.graph import Graph
from stealmesh_engine.ledger.queues import Queues
from stealmesh_engine.links.links import Links
from stealmesh_engine.stealing import shares
from stealmesh_protocol import given
from stealmesh_protocol import values as vx
from stealmesh_protocol.messages import (
    Block,
    Grant,
    InputGet,
    InputPut,
    Lease,
    Message,
    Part,
    Returned,
)
from stealmesh_sim.graphs import GraphProgram
from stealmesh_sim.network import Connection
from stealmesh_sim.process import Process

from .scenes import Scene, scene

Mutate = Callable[[pytest.MonkeyPatch], None]


def said(told: Scene, kind: type[Message]) -> list[tuple[Process, Any]]:
    """From now on, what nodes and the client say of this kind."""
    heard: list[tuple[Process, Any]] = []
    right = told.world.network.send

    def send(process: Any, effect: Any) -> None:
        if type(effect.message) is kind:
            heard.append((process, effect.message))
        right(process, effect)

    told.world.network.send = send  # type: ignore[method-assign]
    return heard


def pair_of_columns(told: Scene, rows: int = 20, *, seconds: float = 0.005) -> GraphProgram:
    """Two nodes with two columns each."""
    return graph(told, stencil(2, rows), seconds=seconds)


def maker_for(told: Scene, program: GraphProgram, item: int, stream: int = 0) -> Process:
    """The node that makes what this item waits for at the other one."""
    edges = told.client.core.owner.jobs[program.streams[stream].job].edges
    assert edges is not None
    here = edges.follows[item][0]
    nodes = {node.member.id: node for node in told.nodes}
    return next(node for peer, node in nodes.items() if peer != here)


def line(told: Scene, one: Process, other: Process) -> Connection:
    """Between these two."""
    return next(
        each
        for each in told.world.network.open_connections()
        if {pipe.source for pipe in each.pipes} == {one, other}
    )


def waiting(told: Scene) -> tuple[Process, tuple[Any, bytes]]:
    """A node that waits for a result of another, and for which one from whom."""
    across = {node.name: node.core.holder.follow_ons.across for node in told.nodes}
    told.until(lambda: any(each._makers for each in across.values()))
    user = next(node for node in told.nodes if across[node.name]._makers)
    return user, next(iter(across[user.name]._makers.items()))


def late_reports(told: Scene, program: GraphProgram, item: int, *, stream: int = 0) -> Process:
    """The maker of what this item waits for: its reports to the owner are held up from now on."""
    maker = maker_for(told, program, item, stream)
    holder = maker.core.holder
    told.until(lambda: bool(holder.follow_ons.across.wanted and holder.slots.running()))
    told.world.network.stall(line(told, maker, told.client), 0.15)
    return maker


def busy(seconds: float, nodes: int = 4, steps: int = 30) -> float:
    """The share of the time in which the workers of a stencil have something to do."""
    told = scene(nodes, workers=1)
    program = graph(told, stencil(nodes, steps), seconds=seconds)
    begun = told.world.now
    told.until(lambda: program.streams[0].done)
    assert counted(told, "follow-ons-withdrawn") == 0
    return 2 * steps * seconds / (told.world.now - begun)


# ---------------------------------------------------------------- stories


@pytest.mark.parametrize("seconds", [0.0005, 0.002])
def test_no_item_waits_for_its_owner(seconds: float) -> None:
    """Four nodes with two columns each. By way of the owner they are busy for 0.61 and 0.96 of the time."""
    assert busy(seconds) > (0.85 if seconds < 0.001 else 0.97)


def test_each_result_goes_from_its_maker_to_its_user() -> None:
    told = scene(2, workers=1)
    program = pair_of_columns(told)
    finish(told)
    assert len(program.account.results) == 80
    assert counted(told, "inputs-from-others") == 2 * 19
    assert counted(told, "inputs-sent-again") == 0
    assert counted(told, "inputs-unasked") == 0
    for node in told.nodes:
        assert not node.core.holder.follow_ons.across.wanted


@pytest.mark.parametrize("loss", ["user", "maker", "worker", "drain"])
def test_what_is_lost_runs_again_and_what_was_made_of_it(loss: str) -> None:
    """With the result of the second run. (The world compares each result with those that it was made of.)"""
    told = scene(3, workers=1)
    program = graph(told, stencil(3, 30), seconds=0.02)
    told.until(lambda: counted(told, "inputs-from-others") > 20)
    user, (_, maker) = waiting(told)
    if loss == "drain":
        told.world.tell(user, Drain())
    elif loss == "worker":
        user.workers[0].kill()
    elif loss == "user":
        told.world.crash(user)
    else:
        told.world.crash(next(node for node in told.nodes if node.member.id == maker))
    finish(told)
    assert len(program.account.results) == 180


def test_two_nodes_that_do_not_reach_each_other_get_results_from_the_owner() -> None:
    """It waits a moment first: they may be at it."""
    told = scene(2, workers=1)
    program = pair_of_columns(told, 30, seconds=0.001)
    told.until(lambda: counted(told, "inputs-from-others") > 4)
    one, other = told.nodes
    told.world.network.cut(one.place, other.place)
    told.world.network.cut(other.place, one.place)
    told.run(1.0)
    assert counted(told, "inputs-sent-again") > 0
    told.until(lambda: program.streams[0].done)
    assert len(program.account.results) == 120


def test_what_one_did_not_hear_is_asked_for_again() -> None:
    """The request is lost with the link. The next link brings it."""
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 2), seconds=0.1)
    told.until(lambda: counted(told, "follow-ons") == 4)
    asked = said(told, InputGet)
    told.world.network.reset(line(told, *told.nodes))
    told.until(lambda: len(asked) == 2)
    finish(told)
    assert len(program.account.results) == 8
    assert counted(told, "inputs-from-others") == 2
    assert counted(told, "inputs-sent-again") == 0


def test_a_result_of_another_peer_is_not_taken() -> None:
    """Only from the one that the owner has named."""
    told = scene(3, workers=1)
    program = pair_of_columns(told, 4, seconds=0.5)
    user, (name, maker) = waiting(told)
    follow_ons, now = user.core.holder.follow_ons, told.world.now
    job, item, lid = name
    put = InputPut(job, [Part(lid, item, item + 1, vx.PLAIN, 0.1)], [b"\x91\x07"])
    follow_ons.put(b"another".ljust(16), put, now)
    assert name in follow_ons.awaited
    assert counted(told, "inputs-unasked") == 1
    everything = InputPut(job, [Part(lid + 1, 0, 1 << 60, vx.PLAIN, 0.1)], [b"\x91\x07"])
    follow_ons.put(maker, everything, now)
    assert name in follow_ons.awaited
    assert counted(told, "inputs-unasked") == 2
    finish(told)
    assert len(program.account.results) == 16


@pytest.mark.parametrize(
    ("codec", "stays"), [(vx.AGAIN, False), (vx.LACKING, False), (vx.PLAIN, True)]
)
def test_what_is_no_result_goes_into_nothing(codec: int, stays: bool) -> None:
    told = scene(2, workers=1)
    pair_of_columns(told, 4, seconds=0.5)
    user, (name, maker) = waiting(told)
    follow_ons = user.core.holder.follow_ons
    kept = ((name[1], 1000),) if stays else ()
    part = Part(name[2], name[1], name[1] + 1, codec, 0.1, 0, kept)
    follow_ons.put(maker, InputPut(name[0], [part], [b"\x92\x01\x02"]), told.world.now)
    assert name in follow_ons.awaited
    finish(told)


def test_a_result_that_comes_twice_is_taken_once() -> None:
    told = scene(2, workers=1)
    pair_of_columns(told, 4, seconds=0.5)
    user, (name, maker) = waiting(told)
    follow_ons = user.core.holder.follow_ons
    part = Part(name[2], name[1], name[1] + 1, vx.PLAIN, 0.1)
    follow_ons.put(maker, InputPut(name[0], [part, part], [b"\x91\x07"] * 2), told.world.now)
    assert name not in follow_ons.awaited
    assert name not in follow_ons.across._makers


def granted(told: Scene, block: Block, blob: bytes, leases: list[Lease]) -> list[Message]:
    """What a node answers to a grant of its owner."""
    core = told.nodes[0].core
    held = next(iter(core.holder.jobs.values()))
    core.holder.granted(
        held.spec.owner, Grant(held.spec, leases, [block], 0, [blob]), told.world.now
    )
    core.holder.audit()
    said = [effect.message for effect in core.effects if isinstance(effect, Send)]
    core.effects.clear()
    return said


def test_a_grant_that_makes_no_sense_goes_back_and_leaves_nothing() -> None:
    """An item without places for its inputs; one of whose inputs the node has nothing, and the other is elsewhere; one
    that is leased by nobody."""
    told = scene(1, workers=1)
    program = graph(told, chain(3), seconds=1.0)
    told.until(lambda: counted(told, "follow-ons") == 2)
    told.until(lambda: bool(told.nodes[0].core.holder.follow_ons.waiting))
    job = program.streams[0].job
    blob = given.item_apart((0, b"\x90"), 2, {})
    names, makers = ((job, 70, 900), (job, 71, 901)), (b"other".ljust(16), b"")
    for item, octets in ((9, blob), (10, b"\x91\xc0")):
        block = Block(item, item + 1, vx.ITEMS, (), names, makers)
        answer = granted(told, block, octets, [Lease(800 + item, item, item + 1)])
        assert answer == [Returned(job, [Lease(800 + item, item, item + 1)])]
    follow_ons = told.nodes[0].core.holder.follow_ons
    waits = dict(follow_ons.waiting[job])
    again = Block(1, 2, vx.ITEMS, (), ((job, 70, 900),))
    known = told.nodes[0].core.holder.jobs[job].bags
    assert isinstance(known, IndexedBags)
    fed = known.inputs.at(1)
    assert fed is not None
    assert granted(told, again, fed[1], []) == []
    assert follow_ons.waiting[job] == waits
    known.inputs.add(*fed)
    finish(told)
    assert len(program.account.results) == 3


def test_what_is_complete_has_no_makers_left() -> None:
    """A block of an item that waits for nothing names nobody: another node would refuse it."""
    told = scene(2, workers=1)
    program = pair_of_columns(told, 3, seconds=0.5)
    user, (name, maker) = waiting(told)
    follow_ons = user.core.holder.follow_ons
    item = next(at for at, one in follow_ons.waiting[name[0]].items() if name in one.block.inputs)
    bags = user.core.holder.jobs[name[0]].bags
    assert isinstance(bags, IndexedBags)
    bags.complete(item, b"whole")
    found = bags.inputs.at(item)
    assert found is not None
    assert found[0] == Block(item, item + 1, vx.ITEMS)
    assert maker
    assert program.streams


def test_what_is_done_already_is_given_at_once() -> None:
    """The owner has not heard of it yet, as its line stands still."""
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 3), seconds=0.01)
    told.until(lambda: counted(told, "follow-ons") == 8)
    maker = late_reports(told, program, 5)
    across = maker.core.holder.follow_ons.across
    (job, item, lid), peers = next(iter(across.wanted.items()))
    told.until(lambda: (job, item, lid) not in across.wanted)
    gave = said(told, InputPut)
    maker.core.holder.follow_ons.wanted(
        peers[0], InputGet(job, [(item, lid), (99, 1)]), told.world.now
    )
    assert (job, 99, 1) in across.wanted
    assert (job, item, lid) not in across.wanted
    (sent,) = [each for each in maker.core.effects if isinstance(each, Send)]
    assert isinstance(sent.message, InputPut)
    assert (sent.message.parts[0].lo, sent.message.parts[0].lid) == (item, lid)
    maker.core.effects.clear()
    assert not gave
    finish(told)


def test_only_who_is_met_is_asked_again() -> None:
    told = scene(3, workers=1)
    core = told.nodes[0].core
    across = HandedAcross(core.context, core.links)
    one, other = (node.member.id for node in told.nodes[1:])
    names = [((b"job".ljust(20), at, 1), (one, other)[at % 2]) for at in range(4)]
    across.ask(names, told.world.now)
    core.effects.clear()
    across.met(other, told.world.now)
    (sent,) = [effect.message for effect in core.effects if isinstance(effect, Send)]
    assert sent == InputGet(b"job".ljust(20), [(1, 1), (3, 1)])
    core.effects.clear()


def test_a_job_that_is_over_is_wanted_no_more() -> None:
    told = scene(2, workers=1)
    program = pair_of_columns(told, 4, seconds=0.5)
    waiting(told)
    told.until(lambda: any(node.core.holder.follow_ons.across.wanted for node in told.nodes))
    for node in told.nodes:
        node.core.holder.closed(program.streams[0].job, told.world.now, stop=False)
    for node in told.nodes:
        across = node.core.holder.follow_ons.across
        assert not across.wanted
        assert not across._makers


@pytest.mark.parametrize(
    ("inputs", "leased", "best"),
    [
        ([("a", 0)], {"a": 3, "b": 1}, "a"),
        ([("a", 0), ("a", 2)], {"a": 3, "b": 1}, "a"),
        ([("a", 2), ("b", 0)], {"a": 3, "b": 3}, "a"),
        ([("a", 0), ("b", 2)], {"a": 3, "b": 3}, "b"),
        ([("a", 2), ("b", 1), ("b", 2)], {"a": 3, "b": 3}, "b"),
        ([("b", 1), ("b", 2), ("a", 2)], {"a": 3, "b": 3}, "b"),
        ([("a", 2), ("a", 1), ("b", 2)], {"a": 3, "b": 3}, "a"),
        ([("a", 5), ("b", 0)], {"a": 6, "b": 1}, "a"),
    ],
)
def test_an_item_goes_where_it_begins_first(
    inputs: list[tuple[str, int]], leased: dict[str, int], best: str
) -> None:
    """Of two nodes that make its inputs; of equals where most of these are."""
    queues = Queues()
    for node, items in leased.items():
        queues.joins(node.encode(), items)
    places = [(node.encode(), place) for node, place in inputs]
    assert queues.best_maker(places, lambda node: 1)[0] == best.encode()


@pytest.mark.parametrize(("others", "better"), [({"c": 0}, False), ({"c": 8}, True)])
def test_an_item_far_from_its_inputs_does_better_at_an_idle_node(
    others: dict[str, int], better: bool
) -> None:
    queues = Queues()
    queues.joins(b"a", 8)
    idle = [(node.encode(), 1) for node in others]
    for node, items in others.items():
        if items:
            queues.joins(node.encode(), items)
    near, far = [(b"a", 6)], [(b"a", 1)]
    assert queues.does_better(b"a", 8.0, far, lambda node: 1, idle) is better
    assert queues.does_better(b"a", 8.5, near, lambda node: 1, idle), "half an item is no reason"


# ---------------------------------------------------------------- bounds


def test_others_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for and never made costs a bounded number of names."""
    monkeypatch.setattr(handed_across, "WANTED_MAX", 3)
    told = scene(2, workers=1)
    across = told.nodes[0].core.holder.follow_ons.across
    for item in range(5):
        across.wants(b"peer".ljust(16), (b"job", item, 1))
        across.wants(b"peer".ljust(16), (b"job", item, 1))
    assert [name[1] for name in across.wanted] == [2, 3, 4]
    assert all(len(peers) == 1 for peers in across.wanted.values())
    assert counted(told, "inputs-forgotten") == 2
    across.job_over(b"job")
    assert not across.wanted


def test_what_is_forgotten_comes_from_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_across, "WANTED_MAX", 0)
    told = scene(2, workers=1)
    program = pair_of_columns(told, 4, seconds=0.001)
    finish(told)
    assert len(program.account.results) == 16
    assert counted(told, "inputs-from-others") == 0
    assert counted(told, "inputs-sent-again") > 0


def test_a_large_chunk_comes_from_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_across, "OCTETS_MAX", 0)
    told = scene(2, workers=1)
    program = pair_of_columns(told, 4, seconds=0.001)
    finish(told)
    assert len(program.account.results) == 16
    assert counted(told, "inputs-from-others") == 0


def test_requests_are_cut_into_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_across, "INPUTS_ASKED_MAX", 2)
    told = scene(2, workers=1)
    node, maker = told.nodes
    asked = said(told, InputGet)
    sent: list[Message] = []
    across = HandedAcross(node.core.context, node.core.links)
    monkeypatch.setattr(Links, "send", lambda self, peer, message, now: sent.append(message))
    names = [((b"job".ljust(20), item, 1), maker.member.id) for item in range(5)]
    across.ask(names, told.world.now)
    across.ask(names, told.world.now)
    assert [len(each.items) for each in sent if isinstance(each, InputGet)] == [2, 2, 1]
    assert not asked


# ---------------------------------------------------------------- what is told, and when


def test_a_report_that_nobody_waits_for_goes_along_or_goes_late() -> None:
    """With the first step after a millisecond; the node does not wake up for it before the fourth."""
    told = scene(1, workers=1)
    program = graph(told, [[], [0], [1]], seconds=0.5, in_one_step=True)
    reports = told.nodes[0].core.reports
    told.until(lambda: bool(reports.unsaid))
    since = reports.unsaid[program.streams[0].job].since
    assert reports.due == since + FOLLOWED_SECONDS_MAX
    reports.flush(since + 0.9 * FOLLOWED_SECONDS, 0.0)
    assert reports.unsaid
    reports.flush(since + 1.1 * FOLLOWED_SECONDS, 0.0)
    assert not reports.unsaid
    finish(told)
    assert len(program.account.results) == 3


def test_it_is_told_where_an_input_is_made() -> None:
    told = scene(2, workers=1)
    program = pair_of_columns(told, 3, seconds=0.5)
    user, (name, maker) = waiting(told)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    item = next(
        item for _, item in edges.waiting_for(name[1]) if edges.follows[item][0] == user.member.id
    )
    fact = why_here(user.core.holder, name[0], item, told.world.now)
    assert fact is not None
    where = next(node.name for node in told.nodes if node.member.id == maker)
    assert f"/{name[1]} on {where}" in fact.text
    assert fact.text.count(" on ") == 1
    finish(told)


def test_the_owner_looks_at_many_at_once() -> None:
    told = scene(2, workers=1)
    program = pair_of_columns(told, 3, seconds=0.5)
    told.until(lambda: counted(told, "follow-ons") == 8)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    from_afar = FromAfar(told.client.core.context, told.client.core.links, {})
    for seconds in (0.0, 0.001):
        from_afar.complete(edges, 5, b"holder".ljust(16), 1)
        from_afar.settle(1.0 + seconds)
    due = from_afar.due
    assert due == 1.0 + PATIENCE_SECONDS + TOGETHER_SECONDS
    from_afar.look(due)
    assert not from_afar.due
    finish(told)


# ---------------------------------------------------------------- what is not worth a journey


@pytest.mark.parametrize("follows", [False, True])
def test_what_others_follow_is_given_away_later(follows: bool) -> None:
    told = scene(1, workers=1)
    graph(told, [[]] * 4, seconds=0.004)
    held = next(iter(told.nodes[0].core.holder.jobs.values()), None)
    told.until(lambda: bool(told.nodes[0].core.holder.jobs))
    held = next(iter(told.nodes[0].core.holder.jobs.values()))
    told.until(lambda: held.bags.cost.known and held.bags.queued_items > 0)
    held.bags.some_follow = follows
    config = told.nodes[0].core.config
    assert bool(shares.share_of(held.bags, sharers=1, nodes=2, config=config)) is not follows
    assert (shares.worth_of(held.bags, config)[0] == 2) is not follows
    held.bags.some_follow = False
    finish(told)


# ---------------------------------------------------------------- each rule has a mutant that is noticed


def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HandedAcross, "ask", lambda *args: None)


def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HandedAcross, "give", lambda *args: None)


def nobody_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HandedAcross, "met", lambda *args: None)


def results_come_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def came(self: HandedAcross, peer: bytes, message: InputPut) -> list[Any]:
        return [
            (name, part, blob)
            for part, blob in zip(message.parts, message.blobs, strict=True)
            for name in self._within(message.job, part)
        ]

    monkeypatch.setattr(HandedAcross, "came", came)


def the_owner_sends_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FromAfar, "complete", lambda *args: None)


def what_is_complete_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FollowOns.came_in

    def came_in(self: FollowOns, held: Any, grant: Grant, now: float) -> None:
        if grant.leases:
            right(self, held, grant, now)

    monkeypatch.setattr(FollowOns, "came_in", came_in)


def all_go_to_the_first_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queues, "best_maker", lambda self, inputs, workers: (inputs[0][0], 0.0))


def what_moved_is_still_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "moved", lambda *args: None)


def a_few_lines_are_cut() -> None:
    test_two_nodes_that_do_not_reach_each_other_get_results_from_the_owner()


def a_stencil() -> None:
    test_each_result_goes_from_its_maker_to_its_user()


def a_maker_dies() -> None:
    test_what_is_lost_runs_again_and_what_was_made_of_it("maker")


@pytest.mark.parametrize(
    ("mutant", "story"),
    [
        (nobody_asks, a_stencil),
        (nobody_answers, a_stencil),
        (nobody_asks_again, test_what_one_did_not_hear_is_asked_for_again),
        (results_come_from_anybody, test_a_result_of_another_peer_is_not_taken),
        (the_owner_sends_nothing_again, a_few_lines_are_cut),
        (what_is_complete_waits_on, a_few_lines_are_cut),
        (all_go_to_the_first_maker, lambda: test_no_item_waits_for_its_owner(0.002)),
        (what_moved_is_still_followed, a_maker_dies),
    ],
)
def test_a_mutant_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutate, story: Callable[[], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  an assertion, a breach, or what a core raises
        story()
