"""A program that has work and no node is told so once, and once that it is over."""

from __future__ import annotations

from stealmesh_engine.effects import WaitsForNodes, WorksAgain
from stealmesh_engine.presence.waiting import TELL_AFTER_SECONDS
from stealmesh_protocol.messages import Role

from .wire import Wire, pair

BEAT_SECONDS = 0.6
"""The longest between two of them."""


def test_work_without_nodes_is_told_once_and_so_is_its_end() -> None:
    wire, client, node = pair()
    job = client.open(3)
    wire.kill(node)
    wire.advance(TELL_AFTER_SECONDS - 0.1)
    assert not client.take_told(WaitsForNodes)
    wire.advance(0.1 + 2 * BEAT_SECONDS)
    (told,) = client.take_told(WaitsForNodes)
    assert told.items == 3
    assert told.endpoints == ["tcp://node:1"]
    assert told.seconds >= TELL_AFTER_SECONDS
    wire.advance(30.0)
    assert not client.take_told(WaitsForNodes)

    again = wire.add("node", identity=b"another life".ljust(16, b"\0"))
    wire.work(lambda: client.is_done(job))
    wire.advance(BEAT_SECONDS)
    (over,) = client.take_told(WorksAgain)
    assert over.seconds > 30.0
    wire.kill(again)
    client.open(5, number=2)
    wire.advance(TELL_AFTER_SECONDS + 2 * BEAT_SECONDS)
    assert [each.items for each in client.take_told(WaitsForNodes)] == [5], "another time"


def test_nobody_waits_without_work() -> None:
    wire, client, node = pair()
    job = client.open(1)
    wire.work(lambda: client.is_done(job))
    wire.kill(node)
    wire.advance(20.0)
    assert not client.take_told(WaitsForNodes)
    client.open(1, number=2)
    wire.advance(TELL_AFTER_SECONDS - 0.5)
    assert not client.take_told(WaitsForNodes), "it has waited for as long as there was work"
    wire.advance(3 * BEAT_SECONDS)
    assert client.take_told(WaitsForNodes)


def test_a_short_absence_is_not_worth_a_word() -> None:
    wire, client, node = pair()
    client.open(2)
    for _ in range(5):
        wire.part([client], [node])
        wire.advance(0.5)
        wire.mend()
        wire.until(lambda: client.core.links.is_ready(node.id))
    assert not client.take_told(WaitsForNodes)
    assert not client.take_told(WorksAgain)


def test_other_programs_are_no_company() -> None:
    """A node that only programs have found goes on looking for the peers of an earlier life."""
    wire = Wire()
    node = wire.add("node")
    node.core.links.dialling.known_addresses.add(["tcp://peer:1"])
    wire.add("client", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    wire.advance(60.0)
    assert node.core.links.dialling.known_addresses, "it has not given up"
    peer = wire.add("peer")
    wire.until(lambda: node.core.links.is_ready(peer.id))


def test_nodes_that_are_only_silent_are_gone_as_well() -> None:
    """A pulled cable breaks no connection."""
    wire, client, _node = pair()
    client.open(2)
    wire.losing.append(lambda said: True)
    wire.until(lambda: any(isinstance(each, WaitsForNodes) for each in client.told), 20.0)
    wire.losing.clear()
    wire.until(lambda: any(isinstance(each, WorksAgain) for each in client.told), 20.0)
