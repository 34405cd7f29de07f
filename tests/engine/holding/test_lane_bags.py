"""Lanes at a holder: one chunk at a time, given away whole, their rest handed back."""

from __future__ import annotations

from stealmesh_engine.holding.lane_bags import LaneBags
from stealmesh_protocol.ids import digest_of, job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease

OWNER = b"o" * 16


def bags(*leases: Lease) -> LaneBags:
    spec = JobSpec(
        job_id(OWNER, 1), JobKind.MAP, OWNER, "f", digest_of(b""), step=1, max_parallel=3
    )
    made = LaneBags(spec)
    for lease in leases:
        assert made.receive(lease)
    return made


def test_a_lane_has_one_chunk_at_a_time() -> None:
    lanes = bags(Lease(1, 0, 10), Lease(2, 10, 20))
    first, second = lanes.cut(4), lanes.cut(4)
    assert first is not None
    assert second is not None
    assert (first.lid, second.lid) == (1, 2)
    assert lanes.queued_items == 0
    assert lanes.cut(4) is None
    lanes.finish(1, 0, 4)
    assert lanes.queued_items == 6
    again = lanes.cut(4)
    assert again is not None
    assert (again.lid, again.lo, again.hi) == (1, 4, 8)
    lanes.audit(8)


def test_a_thief_gets_whole_lanes_that_no_worker_has() -> None:
    lanes = bags(Lease(1, 0, 10), Lease(2, 10, 20), Lease(3, 20, 30))
    lanes.cut(4)
    assert lanes.give(2) == [Lease(3, 20, 30)]
    assert lanes.give(100) == [Lease(2, 10, 20)]
    assert lanes.give(100) == []
    assert list(lanes.leases) == [1]
    lanes.audit(4)


def test_the_rest_of_a_lane_goes_back_and_its_head_goes_on() -> None:
    lanes = bags(Lease(1, 0, 10))
    lanes.cut(4)
    assert lanes.give_rest(1) == [Lease(1, 4, 10)]
    assert lanes.give_rest(1) == []
    assert lanes.give_rest(99) == []
    lanes.audit(4)
    lanes.finish(1, 0, 4)
    assert lanes.empty


def test_what_died_with_its_worker_is_the_lane_s_next_chunk() -> None:
    lanes = bags(Lease(1, 0, 10))
    lanes.cut(10)
    lanes.died(1, 0, 10)
    piece = lanes.cut(10)
    assert piece is not None
    assert piece.hi - piece.lo == 1
    assert lanes.cut(10) is None
