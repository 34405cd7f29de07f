"""What a reader of a durable job hears when the next result takes too long."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stealmesh.client.durable_job import Job
from stealmesh_engine.effects import Results
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import JobKind, JobLine

JOB = job_id(b"p" * 16, 1)


def too_late(*, told: bool) -> str:
    job = Job(SimpleNamespace(post=lambda event: None), JOB)  # type: ignore[arg-type]
    if told:
        line = JobLine(JOB, JobKind.MAP, "f", "running", 2400, 1037, 0, 12, 1351, 0, 0)
        job.shown(Results(JOB, 0, line, [], [], True, []))
    with pytest.raises(TimeoutError) as caught:
        next(job.results(timeout=0))
    return str(caught.value)


def test_how_far_it_is_and_where_to_ask() -> None:
    said = too_late(told=True)
    assert "not come further than item 0: 1,037 of 2,400 are done, and nodes have 12" in said
    assert f"stealmesh explain {JOB.hex()}/0" in said


def test_nobody_has_answered() -> None:
    assert "no node has answered for it" in too_late(told=False)
