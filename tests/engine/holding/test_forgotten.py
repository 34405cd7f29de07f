"""A job that has had nothing here for long is forgotten: it may be over. What is finished is told before that."""

from __future__ import annotations

from tests.engine.wire import CODE, FUNCTION, ring

from stealmesh_engine.config import Config
from stealmesh_engine.events import ChunkDone, Feed, OpenJob, Tick
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec

LEASE_SECONDS = Config().lease_seconds
BEAT_SECONDS = Config().beat_seconds


def test_a_result_that_is_not_told_yet_is_not_forgotten_with_its_job() -> None:
    """Seen in ten minutes of everything at once, where nothing was killed: a call was late by the 15 s that a
    lease lives. Each heartbeat of its node had found nothing of the job, as its calls came and
    ended between two of them; the last one saw the end of a call, and forgot it with the job."""
    wire, client, (node,) = ring(1)
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.SUBMIT, client.id, "calls", FUNCTION)
    client.step(OpenJob(spec, 0, 0, True, {FUNCTION: CODE}))
    client.step(Feed(job, Block(0, 1, 0), b"x"))
    node.finish()
    wire.advance(LEASE_SECONDS - 2 * BEAT_SECONDS)
    assert job in node.core.holder.jobs
    client.step(Feed(job, Block(1, 2, 0), b"x"))
    chunk = node.work[0].popleft()
    wire.now += 3 * BEAT_SECONDS
    node.step(ChunkDone(0, chunk.chunk, 0, b"r", 0.001), Tick())
    assert client.delivered(job) == {0: 1, 1: 1}


def test_a_job_with_nothing_here_is_forgotten_and_comes_back() -> None:
    wire, client, (node,) = ring(1)
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.SUBMIT, client.id, "calls", FUNCTION)
    client.step(OpenJob(spec, 0, 0, True, {FUNCTION: CODE}))
    for number in range(3):
        client.step(Feed(job, Block(number, number + 1, 0), b"x"))
        node.finish()
        assert job in node.core.holder.jobs
        wire.advance(LEASE_SECONDS / 2)
    assert job in node.core.holder.jobs, "a grant came since"
    wire.advance(LEASE_SECONDS)
    assert job not in node.core.holder.jobs
    client.step(Feed(job, Block(3, 4, 0), b"x"))
    node.finish()
    assert client.delivered(job) == dict.fromkeys(range(4), 1)
