"""The fake wire itself, and the first thing that every story needs: peers that find each other."""

from __future__ import annotations

import pytest

from stealmesh_engine.effects import Joined
from stealmesh_protocol.messages import Beat, Grant, Role

from .wire import Wire, pair, ring


def test_two_peers_find_each_other() -> None:
    _, client, node = pair()
    assert client.core.links.is_ready(node.id)
    assert node.core.links.is_ready(client.id)
    assert client.take_told(Joined) == [Joined()]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_all_nodes_learn_of_all_nodes(count: int) -> None:
    _, client, nodes = ring(count)
    names = sorted(node.id for node in nodes)
    for node in nodes:
        assert node.core.view.nodes() == names
    assert client.core.view.nodes() == names
    assert len({node.core.view.digest for node in nodes}) == 1


def test_a_client_links_with_every_node() -> None:
    _, client, nodes = ring(4)
    assert all(client.core.links.is_ready(node.id) for node in nodes)


def test_clients_are_nobodys_members() -> None:
    wire, client, nodes = ring(2)
    assert all(client.id not in node.core.view.members for node in nodes)
    assert client.core.me.role is Role.CLIENT
    assert wire.custody_said() == []


def test_a_quiet_mesh_stays_within_its_beats() -> None:
    """Idle nodes cost their heartbeats and a rare look for work, nothing that grows."""
    wire, _, _ = ring(3)
    wire.advance(10.0)
    said = []
    for _ in range(2):
        wire.hush()
        wire.advance(10.0)
        beats = len(wire.take(Beat))
        said.append((beats, len(wire.said)))
    for beats, others in said:
        # Three supernodes that observe each other and a client with three homes: nine beats every
        # half second; the client's are answered; the rest are two questions a node every one or
        # two seconds, and the answers.
        assert 170 <= beats <= 200
        assert others <= 70 + 120


def test_what_was_taken_is_gone() -> None:
    wire, client, _ = pair()
    client.open(3)
    assert len(wire.take(Grant)) == 1
    assert wire.take(Grant) == []


def test_a_severed_wire_loses_what_was_under_way() -> None:
    wire = Wire()
    node = wire.add("node")
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    wire.part([node], [client])
    wire.advance(1.0)
    assert not client.core.links.is_ready(node.id)
    wire.mend()
    wire.until(lambda: client.core.links.is_ready(node.id))
