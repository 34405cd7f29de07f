"""Large things on a slow line: a lease does not expire while its grant, or what came of it, is under way."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.wire import CODE, FUNCTION, Host, Wire

from stealmesh_engine.config import Config
from stealmesh_engine.events import CloseInput, Feed, Heard, OpenJob
from stealmesh_engine.holding import reports
from stealmesh_engine.links import deliveries
from stealmesh_engine.links.deliveries import Deliveries
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import Block, Commit, FnPut, Grant, JobKind, JobSpec, Report, Role

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

SECONDS = 40.0
"""Longer than a lease."""


class Slow:
    """Holds back one kind of message until it is let go, and every numbered message behind it."""

    def __init__(self, host: Host, *kinds: type) -> None:
        self._host = host
        self._kinds = kinds
        self._kept: list[Any] = []
        self._inbox = host.inbox
        host.inbox = self  # type: ignore[assignment]

    def append(self, event: Any) -> None:
        numbered = isinstance(event, Heard) and event.seq
        if numbered and (self._kept or isinstance(event.message, self._kinds)):
            self._kept.append(event)
        else:
            self._inbox.append(event)

    def popleft(self) -> Any:
        return self._inbox.popleft()

    def __len__(self) -> int:
        return len(self._inbox)

    def let_go(self) -> None:
        self._host.inbox = self._inbox
        self._inbox.extend(self._kept)


def fed(client: Host, octets: int) -> bytes:
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.MAP, client.id, "job", FUNCTION)
    client.step(
        OpenJob(spec, open_ended=True, functions={FUNCTION: CODE}),
        Feed(job, Block(0, 1, 1), bytes(octets)),
        CloseInput(job),
    )
    return job


@pytest.mark.parametrize("octets", [2 * 1024 * 1024])
def test_a_grant_that_takes_long_is_not_said_again(octets: int) -> None:
    wire = Wire()
    node = wire.add("node", workers=1)
    client = wire.add("client", seeds=[node.endpoint], role=Role.CLIENT, workers=0)
    wire.advance(1.0)
    line = Slow(node, Grant)
    job = fed(client, octets)
    wire.advance(SECONDS)
    assert client.core.counters.get("leases-expired", 0) == 0
    line.let_go()
    wire.advance(1.0)
    node.finish()
    wire.advance(1.0)
    assert client.is_done(job)
    assert client.delivered(job) == {0: 1}


def test_the_result_that_takes_long_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "UNDER_WAY_OCTETS_MIN", 50)
    wire = Wire()
    node = wire.add("node", workers=1)
    client = wire.add("client", seeds=[node.endpoint], role=Role.CLIENT, workers=0)
    wire.advance(1.0)
    job = fed(client, 10)
    line = Slow(client, Report, Commit)
    node.finish()
    wire.advance(SECONDS)
    assert client.core.counters.get("leases-expired", 0) == 0
    line.let_go()
    wire.advance(1.0)
    assert client.is_done(job)
    assert client.delivered(job) == {0: 1}


class Peers:
    """Just enough of Links."""

    def __init__(self) -> None:
        from stealmesh_engine.links.custody import Channel

        self.channel = Channel()
        self.link: int | None = 1
        self.peers = {b"p": self}


def test_what_does_not_get_on_is_given_up() -> None:
    peers: Any = Peers()
    config = Config()
    watched = Deliveries(config, peers)
    assert not watched.get_on(b"p", 0.0)
    for _ in range(3):
        peers.channel.number(FnPut(bytes(16), [bytes(deliveries.OCTETS_MIN)]))
    patience = config.lease_seconds + deliveries.OCTETS_MIN / deliveries.SLOW_OCTETS_A_SECOND
    assert watched.get_on(b"p", 0.0)
    assert watched.get_on(b"p", patience - 1)
    assert not watched.get_on(b"p", patience + 1)
    peers.channel.acknowledged(1)
    assert watched.get_on(b"p", patience + 2), "one has arrived"
    peers.channel.acknowledged(3)
    assert not watched.get_on(b"p", patience + 3), "all has: now its holder can name it"


def test_a_link_that_is_gone_carries_nothing() -> None:
    peers: Any = Peers()
    watched = Deliveries(Config(), peers)
    peers.channel.number(FnPut(bytes(16), [bytes(deliveries.OCTETS_MIN)]))
    peers.link = None
    assert not watched.get_on(b"p", 0.0)
