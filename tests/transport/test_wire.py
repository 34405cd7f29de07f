"""The same sockets with the real codec: sizes small and large, and octets that are no message."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq

from stealmesh.transport import WireCodec, probes
from stealmesh_engine.events import Garbled, Heard
from stealmesh_protocol.messages import Ack, Beat, FnPut, Message, Status, Steal

from .conftest import MakeSide
from .sides import KEY, Side, link_between, until
from .test_hostile import give_key

pytestmark = pytest.mark.real

MIB = 1 << 20


@pytest.fixture
def pair(make_side: MakeSide, address: str) -> tuple[Side, Side, int]:
    a, b = make_side(codec=WireCodec()), make_side(address, codec=WireCodec())
    return a, b, link_between(a, b)


@pytest.mark.parametrize("octets", [0, 100, 5_000, 300_000, 2 * MIB, 64 * MIB])
def test_blobs_of_all_sizes_arrive_whole(pair: tuple[Side, Side, int], octets: int) -> None:
    a, b, link = pair
    blob = os.urandom(min(octets, MIB)) * (max(octets, MIB) // MIB)
    a.transport.send(link, FnPut(b"d" * 16, [blob]), seq=1)
    a.transport.send(link, Steal(1, 1))
    a.transport.send(link, Status(5, [blob]))
    until(lambda: len(b.heard()) == 3, a, b)
    by_kind: dict[type[Message], Heard] = {type(event.message): event for event in b.heard()}
    assert by_kind[FnPut].message.blobs == [blob]  # type: ignore[attr-defined]
    assert by_kind[Status].message.blobs == [blob]  # type: ignore[attr-defined]
    assert by_kind[FnPut].octets >= octets
    assert a.transport.queued_octets(link) == 0


def test_garbage_from_a_key_holder_is_counted_by_reason(
    make_side: MakeSide, stranger: zmq.Socket[bytes]
) -> None:
    b = make_side("tcp://127.0.0.1:0", codec=WireCodec())
    give_key(stranger, KEY)
    stranger.connect(b.endpoint)
    stranger.send(b"x" * 40)
    until(lambda: b.told(Garbled), b)
    assert b.garbled() == ["magic"]
    assert b.transport.counters["garbled:magic"] == 1


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, b"\x01stranger")
        yield dealer


@pytest.mark.parametrize(
    ("endpoint", "same"),
    [
        ("ipc:///tmp/x", True),
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.8.8.8:1", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://[::ffff:127.0.0.1]:1", True),
        ("tcp://10.0.0.1:1", False),
        ("tcp://[2001:db8::1]:1", False),
        ("tcp://some.host:1", False),
        ("tcp://*:1", False),
        ("tcp://0.0.0.0:1", False),
    ],
)
def test_what_is_the_same_host(endpoint: str, same: bool) -> None:
    assert probes.is_same_host(endpoint) is same


def test_both_sides_count_what_is_said_by_what_it_is_about(pair: tuple[Side, Side, int]) -> None:
    a, b, link = pair
    before = b.transport.traffic.facts()
    a.transport.send(link, Beat(1, 0))
    a.transport.send(link, Ack())
    a.transport.send(link, FnPut(b"d" * 16, [os.urandom(2 * MIB)]), seq=1)
    until(lambda: len(b.heard()) == 3, a, b)
    said, heard = a.transport.traffic.facts(), b.transport.traffic.facts()
    for name in ("control", "acks", "work"):
        assert said[name]["said"] == 1
        assert heard[name]["heard"] - before[name]["heard"] == 1
    assert said["control"]["said_octets"] == heard["control"]["heard_octets"] > 0
    assert said["work"]["said_octets"] == 2 * MIB
    assert heard["work"]["heard_octets"] >= 2 * MIB
    assert said["looks"]["said"] == 0
