"""The life of a steal, message by message; and of thieves that find nothing."""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import pytest
from tests.engine.wire import Host, Wire, ring

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.base.rings import Rings
from stealmesh_engine.config import Config
from stealmesh_engine.events import WorkerLost
from stealmesh_engine.stealing.thief import SILENCE_SECONDS_MAX, Thief
from stealmesh_protocol.ids import granted_lease
from stealmesh_protocol.messages import (
    Grant,
    JobKind,
    Lease,
    Nothing,
    Report,
    Sated,
    Split,
    Steal,
    Withdraw,
)

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

PATIENT = Config(ask_patience_seconds=1.0)


def busy_pair() -> tuple[Wire, Host, Host, Host, bytes]:
    """A client, a busy node that knows what its items cost, and an idle node; before any steal."""
    wire, client, nodes = ring(2)
    wire.losing.append(lambda said: isinstance(said.message, Steal))
    for node in nodes:
        node.core.victim.hungry.clear()
    job = client.open(1000)
    victim, thief = sorted(nodes, key=lambda node: node.running() is None)
    victim.finish(seconds=0.01)
    wire.losing.clear()
    wire.hush()
    return wire, client, victim, thief, job


def test_a_steal_is_written_down_before_the_thief_hears_of_it() -> None:
    wire, client, victim, thief, job = busy_pair()
    wire.until(lambda: thief.running() is not None)
    asked = {steal.nonce for steal in wire.take(Steal, by=thief)}
    kinds = [type(said.message) for said in wire.said]
    assert kinds.index(Split) < kinds.index(Grant)
    split, granted = wire.take(Split, by=victim)[0], wire.take(Grant, by=client)[0]
    assert split.thief == thief.id
    assert granted.nonce == split.nonce
    assert split.nonce in asked
    (part,), (lease,) = split.parts, granted.leases
    assert (lease.lo, lease.hi) == (part.lo, part.hi)
    assert part.lid == granted_lease(1)
    assert lease.lid == granted_lease(2), "under a name of its own"
    assert part.hi == 1000, "from the back"
    assert 450 <= part.hi - part.lo <= 550, "about half"
    assert client.core.owner.jobs[job].ledger.held_by(thief.id) == [lease.lid]
    assert wire.take(Report) == []


def test_a_victim_lowers_its_end_before_it_tells() -> None:
    wire, client, victim, _thief, job = busy_pair()
    wire.until(lambda: bool(wire.take(Split)))
    held = victim.core.holder.jobs[job].bags.leases[granted_lease(1)]
    ledger = client.core.owner.jobs[job].ledger
    mine = ledger.leases[granted_lease(1)].open
    assert held.untouched.end <= mine.end


def test_unknown_cost_gives_a_small_share() -> None:
    wire, client, nodes = ring(1)
    client.open(1000)
    wire.add("thief", seeds=[nodes[0].endpoint])
    wire.until(
        lambda: any(said.by == "node-0" for said in wire.said if isinstance(said.message, Split))
    )
    (split,) = wire.take(Split)
    assert sum(part.hi - part.lo for part in split.parts) == 249  # a quarter of 999


def test_work_that_is_not_worth_the_journey_stays() -> None:
    wire, client, nodes = ring(1)
    job = client.open(300)
    nodes[0].finish(seconds=0.00001)
    thief = wire.add("thief", seeds=[nodes[0].endpoint])
    wire.until(lambda: bool(wire.take(Nothing)))
    assert wire.take(Split) == []
    waiting = nodes[0].core.holder.jobs[job].bags.queued_items
    assert waiting > 0
    # ... unless it would have to wait: a quick job must not end with somebody else's slow item.
    wire.until(lambda: thief.running() is not None)
    (split,) = wire.take(Split)
    assert sum(part.hi - part.lo for part in split.parts) == waiting


def test_a_node_without_workers_gives_away_what_has_waited_longest() -> None:
    """A single quick call lay there for as long as new jobs came that were worth more. Seen in 10 minutes of
    everything at once with 8 nodes, whose nurseries were killed every half second."""
    wire, client, (node,) = ring(1)
    quick = client.open(120)
    node.finish(seconds=0.00001)
    chunks = node.work.pop(0)
    node.step(WorkerLost(0, chunks[0].chunk, "killed by signal 9", False))
    for number in (2, 3, 4):
        client.open(1000, number=number)
    assert node.core.holder.jobs[quick].bags.queued_items
    wire.losing.append(lambda said: isinstance(said.message, Steal))
    thief = wire.add("thief", seeds=[node.endpoint])
    wire.advance(2.0)  # the owner meets it, too
    wire.losing.clear()
    wire.hush()
    wire.until(lambda: thief.running() is not None)
    assert wire.take(Split)[0].job == quick
    assert not node.core.holder.jobs[quick].bags.queued_items, "all of it, although it is quick"


def test_a_thief_that_finds_nothing_leaves_its_name_and_falls_silent() -> None:
    wire, _, nodes = ring(3)
    wire.advance(20.0)
    wire.hush()
    wire.advance(SILENCE_SECONDS_MAX)
    asked = [said for said in wire.said if isinstance(said.message, Steal)]
    assert len(asked) <= 24, "two questions and a name a node, every one or two seconds"
    assert all(node.core.victim.hungry for node in nodes)


def test_a_thief_that_gets_work_feeds_the_hungry() -> None:
    """Nobody needs to ask again: the names that were left do it."""
    wire, client, nodes = ring(5)
    wire.advance(20.0)
    wire.hush()
    client.open(5000)
    first = next(node for node in nodes if node.running() is not None)
    first.finish(seconds=0.02)
    wire.until(lambda: all(node.running() is not None for node in nodes), 30.0)
    assert wire.take(Sated)


def test_a_thief_takes_its_name_off_the_lists_when_it_has_work() -> None:
    wire, client, nodes = ring(2)
    wire.advance(20.0)
    client.open(1000)
    busy, idle = sorted(nodes, key=lambda node: node.running() is None)
    busy.finish(seconds=0.01)
    wire.until(lambda: idle.running() is not None)
    wire.advance(0.1)
    assert not idle.core.thief.standing
    assert not busy.core.victim.hungry


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    wire, client, nodes = ring(3)
    silent, asker, _helper = nodes
    wire.losing.append(lambda said: isinstance(said.message, Nothing) and said.by == silent.name)
    wire.advance(30.0)
    assert asker.core.thief.asked > 4
    assert asker.core.thief.asking is None or (wire.now - asker.core.thief.asking.since <= 1.0)
    job = client.open(200)
    wire.work(lambda: client.is_done(job))


def test_a_thief_that_dies_before_its_grant_costs_nothing() -> None:
    wire, client, _victim, thief, job = busy_pair()
    wire.losing.append(lambda said: isinstance(said.message, Grant) and said.to == thief.name)
    wire.until(lambda: any(isinstance(said.message, Split) for said in wire.said))
    wire.kill(thief)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == dict.fromkeys(range(1000), 1)


def test_a_victim_that_dies_with_its_split_unsaid_loses_nothing() -> None:
    wire, client, nodes = ring(2)
    wire.losing.append(lambda said: isinstance(said.message, Split))
    job = client.open(1000)
    victim = next(node for node in nodes if node.running() is not None)
    victim.finish(seconds=0.01)
    wire.until(lambda: any(isinstance(said.message, Split) for said in wire.said))
    wire.losing.clear()
    wire.kill(victim)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == dict.fromkeys(range(1000), 1)


def test_prefetched_chunks_are_given_before_a_slow_item_holds_them_up() -> None:
    wire, client, nodes = ring(1)
    job = client.open(100)
    nodes[0].finish(seconds=0.001)
    assert len(nodes[0].work[0]) == 2, "one runs, one waits behind it"
    waiting = nodes[0].work[0][1]
    wire.advance(0.5)  # it was expected to take milliseconds
    assert len(nodes[0].work[0]) == 1
    held = nodes[0].core.holder.jobs[job].bags.leases[granted_lease(1)]
    assert held.untouched.covers(waiting.lo, waiting.hi)


def test_a_cancelled_part_is_withdrawn_from_its_holder() -> None:
    from stealmesh_engine.events import CancelItems

    wire, client, nodes = ring(1)
    job = client.open(10)
    client.step(CancelItems(job, [(5, 10)]))
    (withdrawn,) = wire.take(Withdraw)
    assert withdrawn.intervals == [(5, 10)]
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == dict.fromkeys(range(5), 1)
    assert nodes[0].core.answers.executed == 5


# ---------------------------------------------------------------- explore


def test_an_explore_worker_is_asked_to_share_and_its_spare_bag_is_stolen() -> None:
    wire, client, nodes = ring(1)
    victim = nodes[0]
    job = client.open(1, JobKind.EXPLORE)
    thief = wire.add("thief", seeds=[victim.endpoint])
    wire.until(lambda: 0 in victim.sharing)
    wire.hush()
    victim.visit(0, b"ab", spares=[b"cd"])
    wire.until(lambda: thief.running() is not None, 5.0)
    split = wire.take(Split)[0]
    assert split.parts == [Lease(granted_lease(1) + 1, 0, 2)]
    chunk = thief.running()
    assert chunk is not None
    assert chunk.blocks[0][1] == b"cd"
    victim.visit(0, b"", items=2)
    thief.visit(0, b"", items=2)
    assert not client.is_done(job), "more roots may come"
    from stealmesh_engine.events import CloseInput

    client.step(CloseInput(job))
    assert client.is_done(job)


def test_a_beat_that_overtakes_a_commit_does_not_cost_the_new_bag() -> None:
    """Control messages may overtake custody on the wire: the beat names a bag that its owner has
    not heard of yet, and the owner must not revoke it."""
    from stealmesh_engine.events import CloseInput
    from stealmesh_protocol.messages import Commit, Revoked

    wire, client, nodes = ring(1)
    node = nodes[0]
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    with wire.held():
        node.visit(0, b"", spares=[b"ab"])
        late = [
            event for event in client.inbox if isinstance(getattr(event, "message", None), Commit)
        ]
        assert late
        client.inbox = type(client.inbox)(e for e in client.inbox if e not in late)
    wire.advance(1.2)  # two beats
    assert wire.take(Revoked) == []
    client.inbox.extend(late)
    wire.settle()
    wire.advance(0.1)
    assert node.running() is not None
    node.visit(0, b"", items=2)
    assert client.is_done(job)


# ---------------------------------------------------------------- the thief's memory


def alone() -> Thief:
    """A thief without a mesh."""
    context = Context(PATIENT, [], Counters(), Journal(0, Rings(0, 0, [])), Random(1))
    return Thief(context, Mock(), Mock())


def test_victims_that_had_nothing_are_not_asked_again_at_once() -> None:
    thief = alone()
    asked = thief.ask(b"a", 10.0)
    thief.refused(b"a", Nothing(asked.nonce), 10.0)
    assert thief.asking is None
    assert {thief.choose([b"a", b"b"], 10.01) for _ in range(20)} == {b"b"}
    assert thief.choose([b"a"], 10.01) is None
    assert thief.choose([b"a"], 11.0) == b"a"


def test_victims_are_chosen_evenly() -> None:
    thief = alone()
    chosen = [thief.choose([b"a", b"b", b"c", b"d"], 0.0) for _ in range(4000)]
    assert all(900 < chosen.count(peer) < 1100 for peer in (b"a", b"b", b"c", b"d"))


def test_an_answer_that_takes_too_long_is_no_answer() -> None:
    thief = alone()
    thief.ask(b"a", 10.0)
    thief.give_up_waiting(10.09, 0.1)
    assert thief.asking is not None
    thief.give_up_waiting(10.2, 0.1)
    assert thief.asking is None


def test_an_outdated_answer_does_not_end_a_newer_question() -> None:
    thief = alone()
    first = thief.ask(b"a", 10.0)
    thief.give_up_waiting(10.2, 0.1)
    second = thief.ask(b"b", 10.2)
    thief.refused(b"a", Nothing(first.nonce), 10.3)
    thief.received(first.nonce, 10.4)
    assert thief.asking == second


def test_silence_doubles_up_to_its_bound_and_ends_with_work() -> None:
    thief = alone()
    waits = []
    for _ in range(12):
        thief.fall_silent(100.0)
        waits.append(thief.silent_until - 100.0)
    assert waits[0] <= 0.05
    assert max(waits) <= SILENCE_SECONDS_MAX
    assert max(waits) >= SILENCE_SECONDS_MAX / 2
    thief.received(0, 200.0)
    assert thief.silent_until == 0.0
