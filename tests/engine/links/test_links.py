"""Which links are closed: idle ones beyond the limit, and those of a forgotten peer."""

from __future__ import annotations

from msgspec import structs
from tests.engine.links.cores import core, hello, member, replace_epoch
from tests.engine.wire import ring

from stealmesh_engine.config import Config
from stealmesh_engine.events import Heard, Probed
from stealmesh_protocol.messages import (
    Bye,
)


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
    for node in nodes:
        client.core.links.connect(node.id, wire.now)
    wire.advance(0.1)
    assert all(client.core.links.is_ready(node.id) for node in nodes)
    wire.hush()
    wire.advance(5.0)
    ready = [node for node in nodes if client.core.links.is_ready(node.id)]
    assert len(ready) == 3, "it has dialled three"
    assert [bye.reason for bye in wire.take(Bye, by=client)] == ["idle"]
    assert all(client.core.view.is_alive(node.id) for node in nodes)
