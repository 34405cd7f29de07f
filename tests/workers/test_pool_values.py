"""Orders that come with the descriptors of values: all, some, taken back, of a worker that dies."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from stealmesh import refs
from stealmesh.refs import Ref
from stealmesh.values import parts, warm
from stealmesh_engine.events import WorkerLost
from stealmesh_protocol import values
from stealmesh_protocol.messages import Block, JobKind

from .conftest import Gate
from .host import Host

pytestmark = pytest.mark.real
OCTETS = 200_000


def put(host: Host, number: int, octets: int = OCTETS) -> Ref[bytearray]:
    """A value on the node's shelf, as a program's Ref names it."""
    name = b"p" * 16 + number.to_bytes(8, "big")
    packed = parts.packed(bytearray([number]) * octets)
    host.pool.shelf.put(name, packed.octets, packed)
    return Ref(name, packed.octets, None)


def needy(*items: object) -> tuple[Block, bytes]:
    (codec, blob), needs = refs.noting(lambda: values.pack_list(list(items)))
    return Block(0, len(items), codec, needs), blob


def first(data: bytearray) -> int:
    found = data[0]
    data[0] = 99
    return found


def files() -> int:
    """Values that this process, the node, has open. Without what other tests in it have kept warm."""
    warm.clear_all()
    return sum("stealmesh-value" in os.readlink(f"/proc/self/fd/{fd}") for fd in open_fds())


def open_fds() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]


def test_items_find_their_values(host: Host) -> None:
    one, two = put(host, 1), put(host, 2, 100)
    spec = host.spec(first)
    for _ in range(3):
        chunk = host.order(spec, 0, 3, [needy(one, two, one)], first)
        assert host.results(chunk) == [1, 2, 1]
    assert host.results(host.run(len, ["without"])) == [7]
    assert files() == 1


def test_a_large_order_finds_them_too(host: Host) -> None:
    one = put(host, 1)
    spec = host.spec(len, JobKind.MAP)
    block = needy(*[one, os.urandom(500)] * 400)
    assert host.results(host.order(spec, 0, 800, [block], len)) == [OCTETS, 500] * 400


def test_many_values_at_once(host: Host) -> None:
    block = needy([put(host, number % 256, 1000 * (number % 90 + 1)) for number in range(240)])
    function: Callable[[list[bytearray]], int] = len
    assert host.results(host.order(host.spec(len), 0, 1, [block], function)) == [240]


def test_an_order_that_is_taken_back_leaves_nothing_open(host: Host, gate: Gate) -> None:
    """Unread in the kernel, or not even sent: a later order gets its own values."""
    one, two = put(host, 1), put(host, 2)
    spec = host.spec(first)
    for _ in range(2):
        running = host.run(gate.task(), ["a"])
        gate.wait_until_entered()
        waiting = host.order(spec, 0, 1, [needy(one)], first)
        assert host.pool.retract(0).chunk == waiting
        plain = host.run(str, [1])
        other = host.order(spec, 0, 1, [needy(two)], first)
        gate.let_go()
        assert host.results(running) == ["a"]
        assert host.results(plain) == ["1"]
        assert host.results(other) == [2]
    assert files() == 2


def test_a_worker_that_dies_leaves_nothing_open(host: Host, gate: Gate) -> None:
    one = put(host, 1)
    host.run(gate.task(), ["a"])
    gate.wait_until_entered()
    host.order(host.spec(first), 0, 1, [needy(one)], first)
    host.pool.stop(0, "for the test", blame=False)
    host.take(WorkerLost)
    assert files() == 1
