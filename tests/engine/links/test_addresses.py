"""Peers with several addresses: each is good for some of the others only."""

from __future__ import annotations

import pytest
from tests.engine.wire import Wire

from stealmesh_engine.links.addresses import is_proof, nearest_first, ways_to
from stealmesh_protocol.messages import Member, PeerState, Role


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["tcp://10.0.0.7:1"], ["tcp://10.0.0.5:1", "tcp://192.168.1.5:1"]),
        (["tcp://192.168.1.7:1"], ["tcp://192.168.1.5:1", "tcp://10.0.0.5:1"]),
        (["tcp://172.16.0.1:1", "tcp://192.168.1.7:1"], ["tcp://192.168.1.5:1", "tcp://10.0.0.5:1"]),
        (["tcp://[fd00::7]:1"], ["tcp://[fd00::5]:1", "tcp://10.0.0.5:1"]),
        ([], ["tcp://10.0.0.5:1", "tcp://192.168.1.5:1"]),  # a program: as their owner says
        (["tcp://host:1"], ["tcp://10.0.0.5:1", "tcp://name:1"]),
        (["tcp://10.0.0.7:1"], ["ipc:///x", "tcp://10.0.0.5:1", "tcp://name:1"]),
    ],
)  # fmt: skip
def test_the_nearest_comes_first(ours: list[str], theirs: list[str]) -> None:
    assert nearest_first(theirs, ours) == theirs
    if ours and "name" not in str(theirs):
        assert nearest_first(theirs[::-1], ours) == theirs


def test_local_sockets_are_for_their_own_host() -> None:
    def member(host: str, *endpoints: str) -> Member:
        return Member(bytes(16), "n", host, Role.PLAIN, list(endpoints), 0, workers=1)

    other = member("a", "tcp://10.0.0.5:1", "ipc:///x")
    assert ways_to(other, member("a")) == ["ipc:///x", "tcp://10.0.0.5:1"]
    assert ways_to(other, member("b")) == ["tcp://10.0.0.5:1"]


@pytest.mark.parametrize(
    ("absent", "proof"),
    [
        (["ipc:///x"], True),
        (["tcp://a:1"], False),
        (["tcp://b:1"], False),
        (["tcp://a:1", "tcp://b:1"], True),
        (["tcp://c:1"], False),
    ],
)
def test_one_address_of_several_proves_nothing(absent: list[str], proof: bool) -> None:
    assert is_proof(absent, ["ipc:///x", "tcp://a:1", "tcp://b:1"]) == proof
    assert is_proof(["tcp://a:1"], ["tcp://a:1"])


@pytest.mark.parametrize("elsewhere", ["nowhere", "stranger"])
def test_nobody_is_dead_because_one_of_its_addresses_is_not_for_us(elsewhere: str) -> None:
    """From here nothing listens at the first address that it tells, or another process does."""
    wire = Wire()
    wire.add("stranger", workers=1)
    node = wire.add("node", endpoints=[f"tcp://{elsewhere}:1", "tcp://node:1"])
    # A program: nodes cannot dial it, so all depends on which addresses it tries.
    other = wire.add("program", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    wire.advance(1.0)
    for _ in range(6):
        wire.cut(node, other)
        wire.advance(0.5)
        record = other.core.view.members[node.id]
        assert record.state < PeerState.DEAD
    wire.until(lambda: other.core.links.is_ready(node.id))
    wire.kill(node)
    wire.until(lambda: other.core.view.members[node.id].state >= PeerState.DEAD)
