"""Which addresses and peers are dialled: seeds, back-off, addresses that only mean something elsewhere."""

from __future__ import annotations

import pytest
from tests.engine.links.cores import core
from tests.engine.wire import Wire, pair

from stealmesh_engine.effects import Dial, JoinFailed
from stealmesh_engine.links.dialling import BACKOFF_SECONDS_MIN
from stealmesh_protocol.messages import (
    Member,
    Role,
)


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


def test_an_address_that_only_means_something_elsewhere_is_not_dialled() -> None:
    node = core()
    there = Member(b"y" * 16, "you", "elsewhere", Role.PLAIN, ["ipc:///tmp/x", "tcp://you:1"], 0)
    here = Member(b"z" * 16, "she", "me", Role.PLAIN, ["ipc:///tmp/x", "tcp://she:1"], 0)
    assert node.links.endpoints_of(there) == ["tcp://you:1"]
    assert node.links.endpoints_of(here)[0] == "ipc:///tmp/x"
