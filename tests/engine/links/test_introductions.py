"""HELLO, WELCOME and REFUSED between two cores: races, refusals and older introductions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.engine.links.cores import core, hello, lines_between, member, replace_epoch, said
from tests.engine.wire import Wire, pair

from stealmesh_engine.effects import Hangup
from stealmesh_engine.events import Garbled, Heard, Join, LinkUp
from stealmesh_engine.links.introductions import PROTOCOL_VERSION
from stealmesh_protocol.messages import (
    Ack,
    Beat,
    Bye,
    Closed,
    FnPut,
    Hello,
    Message,
    PeerState,
    Refused,
    Steal,
    Welcome,
)

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


# ---------------------------------------------------------------- refusals


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


def test_link_up_for_a_link_that_was_given_up_is_ignored() -> None:
    node = core()
    assert said(node.step(1.0, LinkUp(4711))) == []
    assert PeerState.ALIVE is node.me.state


# ---------------------------------------------------------------- sessions


def test_who_is_forgotten_forgets_as_well() -> None:
    """A node that was held for dead comes back with old work: it is told by the new epoch to
    drop it, and what it does afterwards counts."""
    wire, client, node = pair()
    # It is more patient with the client than the client is with it: so it still has the old work.
    patient = replace(node.core.config, owner_gone_seconds=5.0)
    node.core.config = node.core.membership.config = patient
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
