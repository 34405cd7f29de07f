"""A node whose own workers starve has bags divided and children exported, also when nobody else asks."""

from __future__ import annotations

from tests.engine.wire import Host, Wire

from stealmesh_engine.effects import Export
from stealmesh_engine.events import TaskNests
from stealmesh_protocol.messages import JobKind, Role


def alone(workers: int) -> tuple[Wire, Host, Host]:
    """A node without neighbours, and a program."""
    wire = Wire()
    node = wire.add("node", workers=workers)
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    wire.advance(0.1)
    return wire, node, client


def test_an_idle_worker_has_the_other_share_its_bag() -> None:
    _, node, client = alone(2)
    client.open(10, JobKind.EXPLORE)
    assert node.sharing == {0}


def test_a_bag_that_waited_behind_another_is_shared_later() -> None:
    """Nothing could be shared when the node looked, and something can be now."""
    _, node, client = alone(2)
    client.open(1, number=1, chunk_items=1)
    client.open(1, number=2, chunk_items=1)
    client.open(10, JobKind.EXPLORE, number=3)
    assert not node.sharing
    node.finish(0)
    node.finish(1)
    assert len(node.sharing) == 1


def test_an_idle_worker_gets_a_child_of_the_others_task() -> None:
    wire, node, client = alone(2)
    client.open(1, JobKind.SUBMIT)
    chunk = node.running(0)
    assert chunk is not None
    node.step(TaskNests(0, chunk.chunk))
    wire.advance(0.1)
    assert node.take_told(Export)
