"""Introductions, races, refusals and memories: what two cores make of each other's connections."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from msgspec import structs
from tests.engine.wire import Host, Wire, pair, ring

from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Dial, Effect, Hangup, JoinFailed, Send
from stealmesh_engine.events import Garbled, Heard, Join, LinkUp, Probed
from stealmesh_engine.links.dialling import BACKOFF_SECONDS_MIN
from stealmesh_engine.links.introductions import PROTOCOL_VERSION
from stealmesh_protocol.messages import (
    Ack,
    Beat,
    Bye,
    Closed,
    FnPut,
    Grant,
    Hello,
    Member,
    Message,
    PeerState,
    Refused,
    Report,
    Role,
    Steal,
    Welcome,
)


def member(name: str, role: Role = Role.PLAIN) -> Member:
    return Member(
        name.encode().ljust(16, b"\0"), name, name, role, [f"tcp://{name}:1"], 0, workers=1
    )


def core(name: str = "me", **more: object) -> NodeCore:
    node = NodeCore(member(name), config=Config(), rng=Random(1), audit=True, **more)  # type: ignore[arg-type]
    node.step(0.0, Join([]))
    return node


def said(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def hello(
    sender: Member, to: bytes = b"", *, versions: tuple[int, int] = (1, 1), mesh: bytes = b""
) -> Hello:
    return Hello(versions, mesh, sender, to, "", 7)


def replace_epoch(introduction: Hello, epoch: int) -> Hello:
    return structs.replace(introduction, epoch=epoch)


def lines_between(a: Host, b: Host) -> list[int]:
    return [link for link, line in a.core.links.lines.items() if line.peer == b.id]


# ---------------------------------------------------------------- the race


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("order", range(40))
def test_two_that_dial_each_other_end_with_one_link_each(
    names: tuple[str, str], order: int
) -> None:
    wire = Wire(order=order)
    one = wire.add(names[0])
    other = wire.add(names[1])
    with wire.held():
        one.step(Join([other.endpoint]))
        other.step(Join([one.endpoint]))
    wire.advance(1.0)
    assert len(lines_between(one, other)) == len(lines_between(other, one)) == 1
    (link,), (back,) = lines_between(one, other), lines_between(other, one)
    assert one.far[link] == (other, back), "both talk on the same connection"
    assert one.core.links.peers[other.id].link == link
    assert other.core.links.peers[one.id].link == back
    assert len(one.far) == len(other.far) == 1


@pytest.mark.parametrize("order", range(40))
def test_nothing_is_lost_or_doubled_in_the_race(order: int) -> None:
    """Custody that is under way while links are exchanged arrives once and in order."""
    wire, client, node = pair(order=order)
    job = client.open(3)
    with wire.held():
        wire.cut(client, node)
        client.core.links.connect(node.id, wire.now)
        for _ in range(3):
            node.finish()
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == dict.fromkeys(range(3), 1)


@pytest.mark.parametrize("order", range(10))
def test_many_that_start_at_once_find_each_other(order: int) -> None:
    wire = Wire(order=order)
    nodes = [wire.add(f"n{n}") for n in range(5)]
    with wire.held():
        for node in nodes:
            node.step(Join([other.endpoint for other in nodes]))
    wire.advance(3.0)
    for one in nodes:
        assert len(one.core.view.nodes()) == 5
        for other in nodes:
            if one is not other:
                assert len(lines_between(one, other)) <= 1


# ---------------------------------------------------------------- whom we refuse


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (hello(member("you"), versions=(2, 3)), "version"),
        (hello(member("you"), versions=(0, 0)), "version"),
        (hello(member("you"), mesh=b"other"), "mesh"),
        (hello(member("you"), to=b"x" * 16), "wrong-node"),
        (hello(member("me")), "self"),
    ],
    ids=["too-new", "too-old", "mesh", "wrong-node", "self"],
)
def test_refusals(greeting: Hello, code: str) -> None:
    node = core()
    effects = node.step(1.0, Heard(1, greeting))
    (refusal,) = [m for m in said(effects) if isinstance(m, Refused)]
    assert refusal.code == code
    assert refusal.text
    assert Hangup(1) in effects
    assert node.counters[f"refused-{code}"] == 1
    assert node.links.lines == {}


def test_every_version_that_includes_ours_will_do() -> None:
    node = core()
    effects = node.step(1.0, Heard(1, hello(member("you"), versions=(0, PROTOCOL_VERSION + 5))))
    (welcome,) = [m for m in said(effects) if isinstance(m, Welcome)]
    assert welcome.version == PROTOCOL_VERSION


@pytest.mark.parametrize("message", [Beat(0, 0), Steal(1, 1), Closed(b"j" * 20), Ack(), Bye("x")])
def test_who_does_not_say_hello_first_is_shown_the_door(message: Message) -> None:
    node = core()
    effects = node.step(1.0, Heard(1, message))
    assert [m.code for m in said(effects) if isinstance(m, Refused)] == ["no-session"]
    assert Hangup(1) in effects
    assert node.counters["rude-no-session"] == 1


def test_garbage_ends_the_link_and_is_counted() -> None:
    wire, client, node = pair()
    (link,) = lines_between(node, client)
    node.step(Garbled(link, "bad-body"))
    assert node.core.counters["rude-bad-body"] == 1
    wire.until(lambda: client.core.links.is_ready(node.id), 5.0)


def test_an_unasked_welcome_ends_the_link() -> None:
    node = core()
    node.step(1.0, Join(["tcp://you:1"]))
    (link,) = node.links.lines
    effects = node.step(1.0, Heard(link, Welcome(1, member("you"), node.me.id)))  # before LinkUp
    assert Hangup(link) in effects
    assert node.counters["rude-welcome-unasked"] == 1


def test_someone_else_answers_where_a_peer_was_expected() -> None:
    wire, client, node = pair()
    job = client.open(4)
    other = wire.add("other")
    other.endpoint = node.endpoint  # a new process on the dead one's port
    wire.kill(node)
    wire.advance(5.0)
    assert other.core.counters["refused-wrong-node"] >= 1
    assert not client.core.view.is_alive(node.id)
    assert not client.core.links.is_ready(node.id)
    # The address was a seed, so the new life is found there; its predecessor's mail is not its.
    wire.work(lambda: client.is_done(job))
    assert client.core.links.is_ready(other.id)
    assert client.delivered(job) == dict.fromkeys(range(4), 1)


# ---------------------------------------------------------------- seeds


def test_a_seed_that_is_not_there_is_reported_once_and_tried_again() -> None:
    wire = Wire()
    node = wire.add("node", seeds=["tcp://nobody:1"])
    wire.advance(10.0)
    (failure,) = node.take_told(JoinFailed)
    assert failure.code == "unreachable"
    assert "tcp://nobody:1" in failure.text
    late = wire.add("nobody")
    wire.until(lambda: node.core.links.is_ready(late.id), 20.0)


def test_a_seed_of_another_mesh_says_so() -> None:
    wire = Wire()
    stranger = wire.add("stranger", mesh=b"one")
    node = wire.add("node", mesh=b"two", seeds=[stranger.endpoint])
    wire.advance(1.0)
    (failure,) = node.take_told(JoinFailed)
    assert failure.code == "mesh"
    assert not stranger.core.links.peers


def test_one_good_seed_is_enough() -> None:
    wire = Wire()
    good = wire.add("good")
    node = wire.add("node", seeds=["tcp://nobody:1", good.endpoint])
    wire.advance(3.0)
    assert node.core.links.is_ready(good.id)
    assert node.take_told(JoinFailed) == []


def test_ones_own_address_among_the_seeds_is_harmless() -> None:
    wire = Wire()
    node = wire.add("node", seeds=["tcp://node:1"])
    other = wire.add("other", seeds=["tcp://node:1", "tcp://other:1"])
    wire.advance(5.0)
    assert node.core.links.is_ready(other.id)
    assert node.core.links.seeds["tcp://node:1"].own
    assert node.core.counters["refused-self"] == 1, "it is not asked twice"


@pytest.mark.parametrize("attempts", range(12))
def test_redialling_waits_longer_and_longer_up_to_its_bound(attempts: int) -> None:
    node = core()
    ceiling = min(BACKOFF_SECONDS_MIN * 2.0**attempts, node.config.dial_backoff_seconds_max)
    waits = [node.links.dialling._jitter(attempts) for _ in range(300)]
    assert 0 <= min(waits) < 0.2 * ceiling
    assert 0.8 * ceiling < max(waits) <= ceiling


def test_a_peer_that_cannot_be_dialled_is_not_dialled() -> None:
    wire, client, node = pair()
    wire.cut(client, node)
    assert [e for e in node.told if isinstance(e, Dial)] == []
    wire.until(lambda: node.core.links.is_ready(client.id), 5.0)  # it comes back by itself


# ---------------------------------------------------------------- memories


def test_a_short_break_loses_nothing() -> None:
    wire, client, node = pair()
    job = client.open(4)
    wire.part([client], [node])
    while node.running() is not None:
        node.finish()
    assert not client.delivered(job)
    wire.mend()
    wire.until(lambda: client.is_done(job), 10.0)
    assert client.delivered(job) == dict.fromkeys(range(4), 1)
    assert client.core.counters.get("peers-declared-dead", 0) == 0


def test_who_is_forgotten_forgets_as_well() -> None:
    """A node that was held for dead comes back with old work: it is told by the new epoch to
    drop it, and what it does afterwards counts."""
    wire, client, node = pair()
    # It is more patient with the client than the client is with it: so it still has the old work.
    node.core.config = replace(node.core.config, owner_gone_seconds=5.0)
    job = client.open(4)
    spare = wire.add("spare", seeds=[node.endpoint])
    wire.advance(1.0)
    wire.part([client, spare], [node])
    wire.until(lambda: not client.core.view.is_alive(node.id), 10.0)
    assert job in node.core.holder.jobs
    held = set(node.core.holder.jobs[job].bags.leases)
    wire.mend()
    wire.until(lambda: client.core.links.is_ready(node.id), 120.0)
    kept = node.core.holder.jobs[job].bags.leases if job in node.core.holder.jobs else {}
    assert not held & set(kept)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == dict.fromkeys(range(4), 1)


def test_a_node_that_forgot_its_owner_is_granted_anew() -> None:
    wire, client, node = pair()
    job = client.open(4)
    node.core.holder.owner_gone(client.id, wire.now)
    node.core.links.forget(client.id)
    wire.advance(0.1)
    wire.work(lambda: client.is_done(job))
    assert any("was forgotten by" in line for line in client.core.journal.of())
    assert client.delivered(job) == dict.fromkeys(range(4), 1)


def test_what_was_sent_before_we_were_forgotten_is_not_taken_for_new() -> None:
    """Both connections bring numbers from 1 on; the first ones belong to a memory that is gone."""
    node, peer = core(), member("peer")
    told = node.step(1.0, Heard(1, hello(peer, node.me.id), 0, 0, 100))
    assert any(isinstance(message, Welcome) for message in said(told))
    node.step(1.1, Heard(1, FnPut(b"d" * 16), 1, 0, 100))
    node.step(2.0, Heard(2, replace_epoch(hello(peer, node.me.id), 8), 0, 0, 100))
    channel = node.links.peers[peer.id].channel
    assert channel.heard == 0
    told = node.step(2.1, Heard(1, FnPut(b"d" * 16), 1, 0, 100))
    assert [message.code for message in said(told) if isinstance(message, Refused)] == [
        "no-session"
    ]
    assert channel.heard == 0
    node.step(2.2, Heard(2, FnPut(b"d" * 16), 1, 0, 100))
    assert channel.heard == 1


def test_an_introduction_from_before_we_were_forgotten_changes_nothing() -> None:
    node, peer = core(), member("peer")
    node.step(1.0, Heard(1, replace_epoch(hello(peer, node.me.id), 8), 0, 0, 100))
    node.step(1.1, Heard(1, FnPut(b"d" * 16), 1, 0, 100))
    node.step(1.2, Heard(2, hello(peer, node.me.id), 0, 0, 100))
    assert node.links.peers[peer.id].link == 1
    assert node.links.peers[peer.id].channel.heard == 1
    assert node.counters["introductions-too-late"] == 1


def test_an_older_introduction_over_the_link_in_use_ends_it() -> None:
    """No sound peer sends this. The link stayed in use after it was closed, and `renew` raised KeyError."""
    node, peer = core(), member("peer")
    node.step(1.0, Heard(1, replace_epoch(hello(peer, node.me.id), 8), 0, 0, 100))
    node.step(1.1, Heard(1, hello(peer, node.me.id), 0, 0, 100))
    assert not node.links.is_ready(peer.id)
    node.links.renew(peer.id, 1.2)


def test_a_peer_whose_addresses_change_is_forgotten_at_all_of_them() -> None:
    """No sound peer does this within one life. Its old address led to a forgotten peer: KeyError."""
    node, peer = core(), member("peer")
    node.step(1.0, Heard(1, hello(peer, node.me.id), 0, 0, 100))
    moved = structs.replace(peer, endpoints=["tcp://other:1"])
    node.step(1.1, Heard(2, replace_epoch(hello(moved, node.me.id), 8), 0, 0, 100))
    node.links.forget(peer.id)
    node.step(1.2, Probed("tcp://peer:1", False))
    assert node.links.living_at("tcp://peer:1") == []


def test_idle_links_beyond_the_limit_are_closed_the_oldest_first() -> None:
    wire, client, nodes = ring(4, config=Config(links_max=2))
    wire.advance(5.0)
    ready = [node for node in nodes if client.core.links.is_ready(node.id)]
    assert len(ready) >= 2
    byes = wire.take(Bye, by=client)
    assert all(bye.reason == "idle" for bye in byes)
    assert all(client.core.view.is_alive(node.id) for node in nodes)


def test_acknowledgements_are_not_owed_for_long() -> None:
    wire, client, node = pair()
    client.open(1)
    node.finish()
    wire.advance(0.2)
    for host, other in ((client, node), (node, client)):
        assert not host.core.links.peers[other.id].channel.unacked
        assert not host.core.links.owing


def test_a_repeat_on_the_wire_is_dropped_and_counted() -> None:
    wire, client, node = pair()
    job = client.open(2)
    node.finish()
    (report,) = wire.take(Report)
    (link,) = lines_between(client, node)
    client.step(Heard(link, report, 1, 0, 100))
    assert client.core.counters["repeats-dropped"] == 1
    assert client.delivered(job) == {0: 1}
    assert len(wire.take(Grant)) == 1


def test_an_address_that_only_means_something_elsewhere_is_not_dialled() -> None:
    node = core()
    there = Member(b"y" * 16, "you", "elsewhere", Role.PLAIN, ["ipc:///tmp/x", "tcp://you:1"], 0)
    here = Member(b"z" * 16, "she", "me", Role.PLAIN, ["ipc:///tmp/x", "tcp://she:1"], 0)
    assert node.links.endpoints_of(there) == ["tcp://you:1"]
    assert node.links.endpoints_of(here)[0] == "ipc:///tmp/x"


def test_link_up_for_a_link_that_was_given_up_is_ignored() -> None:
    node = core()
    assert said(node.step(1.0, LinkUp(4711))) == []
    assert PeerState.ALIVE is node.me.state


@pytest.mark.parametrize("order", range(40))
def test_two_that_redial_each_other_after_a_break_end_with_one_link_each(order: int) -> None:
    wire = Wire(order=order)
    one = wire.add("a")
    other = wire.add("b", seeds=[one.endpoint])
    wire.advance(1.0)
    for _ in range(3):
        with wire.held():
            wire.cut(one, other)
        wire.advance(1.0)
        (link,), (back,) = lines_between(one, other), lines_between(other, one)
        assert one.far == {link: (other, back)}
        assert other.far == {back: (one, link)}
    assert one.core.counters.get("peers-declared-dead", 0) == 0
