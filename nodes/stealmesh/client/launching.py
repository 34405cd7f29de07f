"""Starting durable jobs: what is shipped, what the mesh is told, and when the job is safe.

Refuses to know how results come back (`durable_job`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from stealmesh import refs
from stealmesh.client.arguments import Options, as_range
from stealmesh.client.durable_call import DurableFuture
from stealmesh.client.durable_job import Job, supply
from stealmesh.client.feeding import REFS_END
from stealmesh.client.map import size_of
from stealmesh.client.results import FUNCTION_REMEDY, fault_of_size, pack_tagged
from stealmesh.client.session import ProgramLink
from stealmesh.client.spec_maker import SpecMaker
from stealmesh.client.stopping import end_stopped
from stealmesh.futures import Future, Outcome, settle
from stealmesh.host.identity import submitter
from stealmesh.tasks import is_vectorized
from stealmesh_engine.durable.slices import cut
from stealmesh_engine.events import LaunchJob, SupplyJob
from stealmesh_protocol.errors import CannotShip, MeshError
from stealmesh_protocol.messages import Block, JobKind, JobSpec


def launch(
    link: ProgramLink,
    maker: SpecMaker,
    options: Options,
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    combine: Callable[[Any, Any], Any] | None,
    initial: Any,
    slice_items: int,
) -> Job:
    """Start a durable job; returns once the mesh holds it and all its items safely.

    Raises JobRefused, JobLost, CannotShip, and what `items` raises.
    """
    options, story = without_story(options)
    shipped = maker.ship(options, fn)
    combiner = None if combine is None else maker.ship(options, combine)
    a_range = as_range(items, whole=True)
    kind = JobKind.MAP if combine is None else JobKind.REDUCE
    vectorized = is_vectorized(fn)
    spec = maker.spec(kind, options, shipped, fn, a_range, combiner=combiner, vectorized=vectorized)
    if spec.needs:
        raise CannotShip(REFS_END)
    size = size_of((items,))
    spec = replace(
        spec,
        # Slices have ledgers of their own, and only one ledger can count what runs at once.
        job=spec.job if spec.max_parallel else cut(spec.job, size, slice_items),
        submitter=submitter(),
        submitted=time.time(),
    )
    functions = [
        each.blob for each in (shipped, combiner, (combiner or shipped).code) if each and each.blob
    ]
    too_large = fault_of_size(sum(map(len, functions)), spec.name, FUNCTION_REMEDY)
    if too_large is not None:
        raise too_large
    job = Job(link, spec.job, combine, initial)
    _have_it_told(link, job, spec, story)
    total = 0 if a_range is None else len(a_range)
    link.follow(spec.job, job, LaunchJob(spec, total, functions))
    if a_range is not None:
        job.await_accepted(total, whole=True)
        return job
    try:
        supply(job, link, spec.name, items, spec.job)
    except BaseException:
        with contextlib.suppress(MeshError):  # a mesh that is gone is not told
            job.cancel()
        raise
    return job


def search(
    link: ProgramLink,
    maker: SpecMaker,
    options: Options,
    visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
    roots: Iterable[Any],
    combine: Callable[[Any, Any], Any],
    initial: Any,
) -> Job:
    """Start a durable explore job; returns once the mesh holds it and its roots safely.

    Raises JobRefused, JobLost, CannotShip, and what `roots` raises.
    """
    options, story = without_story(options)
    shipped, combiner = maker.ship(options, visit), maker.ship(options, combine)
    spec = maker.spec(JobKind.EXPLORE, options, shipped, visit, combiner=combiner)
    bag = list(roots)
    blob, needs = refs.noting(lambda: pack_tagged(bag, spec.name))
    if spec.needs or needs:
        raise CannotShip(REFS_END)
    spec = replace(spec, submitter=submitter(), submitted=time.time())
    functions = [each.blob for each in (shipped, combiner, combiner.code) if each.blob]
    job = Job(link, spec.job, combine, initial)
    _have_it_told(link, job, spec, story)
    block = Block(0, len(bag), 0) if bag else None
    link.follow(
        spec.job,
        job,
        LaunchJob(spec, 0, functions),
        SupplyJob(spec.job, block, blob if bag else b"", closed=True),
    )
    job.await_accepted(len(bag), whole=True)
    return job


def without_story(options: Options) -> tuple[Options, str]:
    """The file for the story of the job apart: only its handle knows when it is over, and under which id."""
    return dataclasses.replace(options, report_file=""), options.report_file


def _have_it_told(link: ProgramLink, job: Job, spec: JobSpec, path: str) -> None:
    if path:
        link.wants_story(spec.job, path)
        job.at_end = lambda: link.job_over(spec.job, spec.name)


class _ValueOfJob:
    """What the future of a durable job's value belongs to."""

    def __init__(self, link: ProgramLink, job: Job) -> None:
        self._link = link
        self._job = job

    def await_accepted(self, timeout: float | None) -> None:
        """It was, before there was a future."""

    def cancelled(self, future: Future[Any]) -> None:
        """Never: the job is taken to run from the first moment on."""
        raise AssertionError("a future that runs was cancelled")

    def stop(self, future: Future[Any]) -> bool:
        if not end_stopped(self._link, future, self.name_of(future)):
            return False
        self._job.stop()
        return True

    def name_of(self, future: Future[Any]) -> str:
        return f"job {self._job.id}"


def value_later(link: ProgramLink, job: Job) -> Future[Any]:
    """The future of a durable job's result."""
    future: DurableFuture[Any] = DurableFuture(link.condition, _ValueOfJob(link, job))
    future.job_id = job.id
    future.set_running_or_notify_cancel()

    def wait() -> None:
        outcome: Outcome
        try:
            outcome = future, job.result(), None
        except BaseException as error:  # noqa: BLE001  the task's exception: it is the caller's
            outcome = future, None, error
        settle(link.condition, link.tell, [outcome])

    threading.Thread(target=wait, name="stealmesh-durable", daemon=True).start()
    return future
