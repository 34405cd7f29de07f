"""A chunk taken back from a worker is untouched again, whatever the core believed it to be by then.

The host takes back what its worker has not read. Between the order and the answer the worker
may finish the chunk before it, and a worker that got no core has not even read the one that
the core believes to be running.
"""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import pytest

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.effects import Effect, RunChunk
from stealmesh_engine.events import ChunkDone, Retracted
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import Grant, JobKind, JobSpec, Lease

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

OWNER = b"o" * 16
SPEC = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
MILLISECONDS = 0.001
ITEMS = 1_000


@pytest.fixture
def holder() -> Holder:
    """With a chunk at worker 0 and another behind it."""
    effects: list[Effect] = []
    links = Mock(Links)  # a holder only sends through them
    links.unacked_octets.return_value = 0
    holder = Holder(
        Context(Config(), effects, Counters(), Journal(100), Random(1)), links, Mock(Values)
    )
    holder.functions.blobs[b"f"] = b"function"
    holder.answers.worker_ready(0)
    holder.granted(OWNER, Grant(SPEC, [Lease(granted_lease(1), 0, ITEMS)]), 0.0)
    holder.dispatcher.dispatch(0.0)
    (first,) = [e for e in effects if isinstance(e, RunChunk)]
    holder.answers.chunk_done(ChunkDone(0, first.chunk, 0, b"", MILLISECONDS, 0), 0.0)
    holder.dispatcher.dispatch(0.0)
    assert _at_worker(holder) == [2, 3]
    return holder


def _at_worker(holder: Holder) -> list[int]:
    holder.audit()
    return [chunk.number for chunk in holder.dispatcher.slots.chunks()]


def _items_left(holder: Holder) -> int:
    return holder.jobs[SPEC.job].bags.queued_items


def test_the_waiting_chunk_comes_back(holder: Holder) -> None:
    left = _items_left(holder)
    holder.answers.retracted(Retracted(0, 3), 1.0)
    assert _at_worker(holder) == [2]
    assert _items_left(holder) > left


def test_it_comes_back_although_it_has_moved_up(holder: Holder) -> None:
    left = _items_left(holder)
    holder.answers.chunk_done(ChunkDone(0, 2, 0, b"", MILLISECONDS, 0), 0.0)
    holder.answers.retracted(Retracted(0, 3), 1.0)
    assert _at_worker(holder) == []
    assert _items_left(holder) > left


def test_the_first_comes_back_if_the_worker_has_read_neither(holder: Holder) -> None:
    left = _items_left(holder)
    holder.answers.retracted(Retracted(0, 2), 1.0)
    assert _at_worker(holder) == [3]
    assert _items_left(holder) > left


def test_too_late_changes_nothing(holder: Holder) -> None:
    left = _items_left(holder)
    holder.answers.retracted(Retracted(0, None), 1.0)
    assert _at_worker(holder) == [2, 3]
    assert _items_left(holder) == left
