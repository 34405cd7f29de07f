"""Messages over a link that breaks, repeats, and acknowledgements that no message carries."""

from __future__ import annotations

from tests.engine.links.cores import lines_between
from tests.engine.wire import pair

from stealmesh_engine.events import Heard
from stealmesh_protocol.messages import (
    Grant,
    Report,
)


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
