"""What tasks say of how far they are: from a worker through its node to the program, and no further than that."""

from __future__ import annotations

from tests.engine.wire import Host, Wire

from stealmesh_engine.effects import ItemsProgress
from stealmesh_engine.events import CancelItems, ItemTold
from stealmesh_protocol.messages import Beat, JobKind, Report, Role


def world() -> tuple[Wire, Host, Host]:
    wire = Wire()
    node = wire.add("node", workers=1)
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=[node.endpoint])
    return wire, node, client


def tell(node: Host, done: float, *, item: int | None = None) -> None:
    chunk = node.running()
    assert chunk is not None
    node.step(ItemTold(0, chunk.chunk, chunk.lo if item is None else item, done, 4.0))


def test_the_program_hears_what_a_running_item_says() -> None:
    _, node, client = world()
    job = client.open(3)
    tell(node, 1.0)
    assert client.take_told(ItemsProgress) == [ItemsProgress(job, [(0, 1.0, 4.0)])]
    (line,) = client.core.owner.lines()
    assert line.told == ((0, 1.0, 4.0),)


def test_the_last_word_comes_before_the_result() -> None:
    wire, node, client = world()
    client.open(1, JobKind.SUBMIT)
    chunk = node.running()
    assert chunk is not None
    with wire.held():
        tell(node, 3.0)
        node.finish()
    said = [
        type(each.message)
        for each in wire.said
        if isinstance(each.message, Beat | Report)
        and (isinstance(each.message, Report) or each.message.told)
    ]
    assert said == [Beat, Report]
    assert client.take_told(ItemsProgress)
    (line,) = client.core.owner.lines()
    assert line.told == (), "the item is over"


def test_what_no_one_waits_for_is_dropped_and_counted() -> None:
    _, node, client = world()
    job = client.open(3)
    tell(node, 1.0, item=99)
    chunk = node.running()
    assert chunk is not None
    client.step(CancelItems(job, [(0, 1)]))
    tell(node, 2.0)
    node.finish()
    node.step(ItemTold(0, chunk.chunk, 0, 4.0, 4.0))
    assert client.take_told(ItemsProgress) == []
    dropped = node.core.counters["progress-dropped"] + client.core.counters.get(
        "progress-dropped", 0
    )
    assert dropped == 3
