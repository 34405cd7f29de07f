"""From a function and the options of a view to the specification of a job.

Decides what the mesh is told about a job: its name, its digest of code, the size of its chunks. Refuses
to know which items the job has and what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh.client.arguments import Options, fitting_name
from stealmesh.client.needs import must_fit_one_order
from stealmesh.client.session import ProgramLink
from stealmesh.functions import LATELY, Shipped, Shipper, name_of
from stealmesh.host.identity import runtime
from stealmesh.tasks import RetryOn, is_coroutine
from stealmesh_protocol.messages import JobKind, JobSpec, Output

CHUNK_ITEMS_MAX = 1 << 40
"""More than any job has. A `chunksize` may say a larger number; both mean all items."""


class SpecMaker:
    """Ships functions and makes the specifications of one mesh's jobs."""

    def __init__(
        self, link: ProgramLink, shipper: Shipper, *, one_by_one: bool, concurrency: int = 100
    ) -> None:
        """`one_by_one`: workers are replaced after a number of tasks, so a chunk is one item.
        `concurrency`: coroutines that a worker runs side by side."""
        self._link = link
        self._shipper = shipper
        self._one_by_one = one_by_one
        self._concurrency = concurrency
        self._runtime = shipper.runtime or runtime()
        self._lately: dict[tuple[int, tuple[type[BaseException], ...]], RetryOn] = {}

    def refuses(self, what: str, instead: str) -> None:
        """Raises CannotShip if the mesh has functions by name only."""
        self._shipper.refuses(what, instead)

    def ship(self, options: Options, fn: Callable[..., Any]) -> Shipped:
        """The function as it travels. Raises TypeError, CannotShip."""
        if not callable(fn):
            raise TypeError(f"a function is needed, not a {type(fn).__qualname__}")
        if options.retries and options.retry_on != (Exception,):
            fn = self._choosy(fn, options.retry_on)
        return self._shipper.ship(fn, options.ship, options.no_ship)

    def _choosy(
        self, fn: Callable[..., Any], kinds: tuple[type[BaseException], ...]
    ) -> Callable[..., Any]:
        """The function with its `retry_on`: the same object each time, so that it is packed once."""
        key = (id(fn), kinds)
        known = self._lately.get(key)
        if known is None or known.function is not fn:
            while len(self._lately) >= LATELY:
                self._lately.pop(next(iter(self._lately)))
            known = self._lately[key] = RetryOn(fn, kinds)
        return known

    def spec(
        self,
        kind: JobKind,
        options: Options,
        shipped: Shipped,
        fn: Callable[..., Any],
        domain: range | None = None,
        *,
        combiner: Shipped | None = None,
        vectorized: bool = False,
        stays_from: int = 0,
    ) -> JobSpec:
        """A new job of this kind. `domain`: its items, where they are a range. Raises TypeError, CannotShip."""
        awaits = is_coroutine(fn)
        if options.output is Output.CALLER:
            self._link.printer.expects = True
        if awaits and (vectorized or kind is JobKind.EXPLORE):
            kinds = "a vectorized function" if vectorized else "the visit of explore()"
            raise TypeError(f"{kinds} must be a plain function, not async def: {name_of(fn)}")
        needs = shipped.needs
        if combiner is not None and combiner.needs:
            needs = tuple(sorted({*needs, *combiner.needs}))
        must_fit_one_order(needs, name_of(fn))
        job = self._link.new_job_id()
        if options.report_file:
            self._link.wants_story(job, options.report_file)
        return JobSpec(
            job=job,
            kind=kind,
            owner=self._link.me,
            name=options.name or fitting_name(name_of(fn)),
            function=shipped.digest,
            combine=b"" if combiner is None else combiner.digest,
            start=0 if domain is None else domain.start,
            step=0 if domain is None else domain.step,
            vectorized=vectorized,
            priority=options.priority,
            retries=options.retries,
            timeout=options.timeout or 0.0,
            chunk_items=1 if self._one_by_one else min(options.chunksize or 0, CHUNK_ITEMS_MAX),
            # A function that travels by its name may also be other code in another Python.
            runtime=self._runtime,
            code=self._link.carries(shipped.code if combiner is None else combiner.code),
            max_parallel=options.max_parallel or 0,
            resources=options.resources,
            together=self._concurrency if awaits else 0,
            needs=needs,
            stays_from=0 if self._shipper.by_name else stays_from,
            output=options.output,
        )
