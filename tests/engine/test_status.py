"""What a peer says of itself, as another reads it: also with the compiled core, which takes no list for a tuple."""

from __future__ import annotations

import msgspec

from stealmesh_engine.events import ItemTold
from stealmesh_engine.status import merge_status, snapshot
from stealmesh_protocol.messages import JobKind

from .wire import pair


def test_a_job_is_read_as_it_was_told() -> None:
    """With how far its items say they are. (With the compiled core `status` raised as soon as there was a job.)"""
    wire, client, node = pair()
    job = client.open(3, JobKind.SUBMIT)
    chunk = node.running()
    assert chunk is not None
    node.step(ItemTold(0, chunk.chunk, chunk.lo, 1.0, 4.0))
    snapshots = [snapshot(host.core, wire.now) for host in wire.hosts]
    merged = merge_status([msgspec.msgpack.decode(each) for each in snapshots])
    (line,) = merged["jobs"]
    assert line["id"] == job.hex()
    assert line["told"] == ((chunk.lo, 1.0, 4.0),)
