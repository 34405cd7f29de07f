"""What a lone task costs in the two cores that it passes: counts, which no busy machine changes.

A program that waits for each call sends one at a time through client, node and worker. What is done for it
there is done for nothing else, so each message, step and call is part of its latency. A feature that needs
something for each task shows here.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

import pytest

from stealmesh_engine.effects import Deliver, RunChunk, Send
from stealmesh_engine.events import ChunkDone, Feed, OpenJob
from stealmesh_protocol.ids import JobId, job_id
from stealmesh_protocol.messages import Block, Grant, JobKind, JobSpec, Report

from .wire import CODE, FUNCTION, Host, Wire, pair

ROUND_TRIP_SECONDS = 0.0006
CLIENT_CALLS_MAX = 89
"""Calls in a program's core for one task: 89 today, one of them counts those that come alone (`hires.py`)."""
NODE_CALLS_MAX = 133
"""And in a node's: 133 today, one of them for the entry of the chunk in the node's journal."""

Parts = tuple[Wire, Host, Host, JobId]


@pytest.fixture
def parts() -> Parts:
    """A node and a program that have had a few calls of one function. Without the audits of tests."""
    wire, client, node = pair()
    for host in wire.hosts:
        host.core.auditing = False
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.SUBMIT, client.id, "f", FUNCTION)
    client.step(OpenJob(spec, open_ended=True, functions={FUNCTION: CODE}))
    for item in range(5):
        call(wire, node, client, job, item)
    wire.hush()
    return wire, node, client, job


def call(wire: Wire, node: Host, client: Host, job: JobId, item: int) -> None:
    """One call from the program to its result."""
    client.step(Feed(job, Block(item, item + 1, 0), b"argument"))
    wire.now += ROUND_TRIP_SECONDS / 2
    node.finish(0, 2e-6)
    wire.now += ROUND_TRIP_SECONDS / 2


def test_two_messages_and_no_step_more(parts: Parts) -> None:
    """There: a grant, and the order to the worker. Back: a report, and the delivery."""
    wire, node, client, job = parts
    fed = client.core.steps(wire.now, [Feed(job, Block(5, 6, 0), b"argument")])
    assert [type(effect) for effect in fed] == [Send]
    assert isinstance(fed[0], Send)
    assert isinstance(fed[0].message, Grant)
    with wire.held():
        client._perform(fed)
        ordered = node.core.steps(wire.now, [node.inbox.popleft()])
        assert [type(effect) for effect in ordered] == [RunChunk]
        assert isinstance(ordered[0], RunChunk)
        done = ChunkDone(0, ordered[0].chunk, 0, b"result", 2e-6)
        told = node.core.steps(wire.now, [done])
        assert [type(effect) for effect in told] == [Send]
        assert isinstance(told[0], Send)
        assert isinstance(told[0].message, Report)
        node._perform(told)
        delivered = client.core.steps(wire.now, [client.inbox.popleft()])
        assert [type(effect) for effect in delivered] == [Deliver]


def test_acknowledgements_ride_on_the_next_call(parts: Parts) -> None:
    wire, node, client, job = parts
    for item in range(5, 105):
        call(wire, node, client, job, item)
    said = Counter(type(each.message).__name__ for each in wire.said)
    assert said == {"Grant": 100, "Report": 100}


def test_the_calls_in_both_cores(parts: Parts) -> None:
    wire, node, client, job = parts
    calls: Counter[str] = Counter()
    where = ""

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "stealmesh_engine" in frame.f_code.co_filename:
            calls[where] += 1

    def counted(host: Host, event: object) -> list[object]:
        nonlocal where
        where = host.name
        sys.setprofile(note)
        try:
            return list(host.core.steps(wire.now, [event]))  # type: ignore[list-item]
        finally:
            sys.setprofile(None)

    (grant,) = counted(client, Feed(job, Block(5, 6, 0), b"argument"))
    with wire.held():
        client._perform([grant])  # type: ignore[list-item]
        (order,) = counted(node, node.inbox.popleft())
        assert isinstance(order, RunChunk)
        wire.now += ROUND_TRIP_SECONDS / 2
        node._perform(counted(node, ChunkDone(0, order.chunk, 0, b"result", 2e-6)))  # type: ignore[arg-type]
        counted(client, client.inbox.popleft())
    assert calls["client"] <= CLIENT_CALLS_MAX, calls
    assert calls["node"] <= NODE_CALLS_MAX, calls
