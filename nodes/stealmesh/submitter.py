"""Submitter: what `Mesh` and the views of `Mesh.options()` have in common, which is all the work.

Turns calls into jobs: checks what the caller passes, ships the functions, makes the specification and
opens the job. Decides which kind of job a call becomes. Refuses to know how a mesh begins and ends
(`mesh.py`), and what comes back (`client/`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar, overload

from msgspec.structs import replace

from stealmesh import refs
from stealmesh.client.actors import Actor, make_actor
from stealmesh.client.arguments import (
    Options,
    as_range,
    checked_sizes,
    refuse_keeping,
    refuse_report,
    refuse_speculation,
    seconds,
)
from stealmesh.client.durable_job import Job, attached
from stealmesh.client.item_words import words_for
from stealmesh.client.job_ids import job_named
from stealmesh.client.launching import launch, search, value_later
from stealmesh.client.lone_calls import LoneCalls
from stealmesh.client.map import MapJob, MapResults, size_of
from stealmesh.client.map_futures import is_over_futures, map_futures
from stealmesh.client.needs import must_fit_one_order
from stealmesh.client.reduce import MISSING, FoldJob
from stealmesh.client.results import pack_tagged
from stealmesh.client.spec_maker import SpecMaker
from stealmesh.client.submitted import Submitted
from stealmesh.functions import holds_futures, name_of
from stealmesh.futures import Future
from stealmesh.gathering import gathered
from stealmesh.refs import Ref
from stealmesh.tasks import Each, Star, is_vectorized
from stealmesh_engine.events import CloseInput, Feed, OpenJob
from stealmesh_engine.status import line_from
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.limits import REFS_ONLY
from stealmesh_protocol.messages import Block, JobKind, JobSpec

T = TypeVar("T")


class Submitter(Executor):
    """A mesh with certain options, as far as work is concerned."""

    def __init__(
        self,
        submitted: Submitted,
        maker: SpecMaker,
        options: Options,
        *,
        workers: int,
        slice_items: int,
        inline_octets: int,
    ) -> None:
        self._submitted = submitted
        self._link = submitted.link
        self._streams = submitted.streams
        self._maker = maker
        self._options = options
        self._max_workers = workers
        self._slice_items = slice_items
        self._inline_octets = inline_octets
        self._calls = LoneCalls(submitted, maker, options, inline_octets)

    # ------------------------------------------------------------ work that ends with this program

    @overload
    def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> Future[T]: ...

    @overload
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)` once on the mesh. Two equal submissions run twice.

        The future's exception is the task's own, with the remote traceback as its cause; WorkerDied
        when the task ended its worker process `attempts_max` times; TaskTimeout after the `timeout` of
        `options`. Raises RuntimeError after shutdown. Waits while `pending_calls_max` calls are not over.

        With `options(durable=True)` the future is a DurableFuture: once it is accepted, the call and all durable calls
        among its arguments outlive this program. Raises ValueError for a pending future that does not.
        """
        self._submitted.pending_calls.one_more()
        last = self._streams.last
        if (
            last is not None
            and last[0] is fn
            and last[1] is self._options
            and last[3].seen.holds()
            and not self._submitted.closed
        ):
            future: Future[Any] | None = last[2].submit(args, kwargs)
            if future is not None:
                try:
                    return future
                finally:
                    del future  # an error of this call has this frame, and the future has the error
        return self._calls.submit(fn, args, kwargs)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[Any]:
        """A lazy iterator over the results, in order unless `ordered` is False.

        Arguments:
            timeout: seconds from this call after which waiting for a result raises TimeoutError.
            chunksize: how many items a worker gets at once, at most. Default: the engine decides by
                measured time, and divides a chunk that turns out expensive while it runs. A chunk of
                the size that you set is never divided; its results still come while it runs.
            buffersize: how many items the mesh may be ahead of the reader. Default: as many as keep
                the unread results within a few megabytes.
            progress: draw a bar; a view made by `options(progress=True)` draws one in any case.

        Leaving the iterator early (or its `close()`) cancels the rest. A `range` is never
        materialised. A thread of the mesh reads other iterables as they are needed, so pass a list
        for an input that works only in the thread that made it (a sqlite cursor).

        Leaving the `with` block computes the whole input, as the standard pools do, or as far as
        `buffersize` allows. Leaving it by an exception does not wait for a map that is half read.
        """
        if not iterables:
            return iter(())  # as the standard library's
        chunksize, buffersize = checked_sizes(chunksize, buffersize)
        self._submitted.must_be_open()
        refuse_keeping(self._options, "map")
        until = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
        options = self._options

        def call_by_call() -> Iterator[Any]:
            return map_futures(
                self.submit, fn, iterables, ahead=buffersize, until=until, ordered=ordered
            )

        if is_over_futures(iterables) and not options.durable:
            return call_by_call()
        if chunksize is not None:
            options = dataclasses.replace(options, chunksize=chunksize)
        single = len(iterables) == 1
        source = iterables[0] if single else zip(*iterables, strict=False)
        function = fn if single else Star(fn)
        if options.durable:
            return self._launch(options, function, source, None, MISSING).results(timeout)
        try:
            shipped = self._maker.ship(options, function)
        except CannotShip as error:
            if holds_futures(error):
                return call_by_call()
            raise
        bar = _bar(options, fn, progress)
        words = words_for(self._link.user_threads, options.report, bar)
        a_range = as_range(source)
        spec = self._maker.spec(
            JobKind.MAP,
            options,
            shipped,
            function,
            a_range,
            vectorized=is_vectorized(fn),
            stays_from=REFS_ONLY,
        )
        job = MapJob(
            self._link,
            spec,
            total=None if a_range is None else len(a_range),
            size=size_of(iterables),
            ordered=ordered,
            buffersize=buffersize,
            until=until,
            bar=bar,
            words=words,
            speculate=options.speculate,
        )
        self._submitted.maps.add(job)
        functions = {shipped.digest: shipped.blob}
        if a_range is not None:
            job.start_range(functions)
        else:
            job.start_blocks(iter(source), functions)
        results: MapResults[Any] = MapResults.over(job)
        results.mesh = self
        return results

    def map_reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over `fn(item)` of all items, in index order.

        `combine` must be associative; it need not be commutative. Only partial results travel, so a
        billion items need no more memory than a thousand. Without `initial`, no items at all are a
        TypeError.
        """
        options, maker = self._options, self._maker
        self._submitted.must_be_open()
        if options.durable:
            return value_later(self._link, self._launch(options, fn, items, combine, initial))
        refuse_speculation(options, "map_reduce")
        refuse_keeping(options, "map_reduce")
        shipped, combiner = maker.ship(options, fn), maker.ship(options, combine)
        a_range = as_range(items, whole=True)
        vectorized = is_vectorized(fn)
        spec = maker.spec(
            JobKind.REDUCE, options, shipped, fn, a_range, combiner=combiner, vectorized=vectorized
        )
        total = len(a_range) if a_range is not None else None
        job = self._fold(spec, combine, initial, total, fn)
        functions = {each.digest: each.blob for each in (shipped, combiner)}
        if total is not None:
            self._link.open(spec.job, job, OpenJob(spec, total, total, functions=functions))
        else:
            job.start_blocks(iter(items), functions)
        return job.future

    def explore(
        self,
        visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
        roots: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over a tree, or any set of items that make items, of unknown size.

        `visit(bag, limit) -> (partial, rest)` consumes up to `limit` items of the list `bag`
        and returns what they contributed and the items still to do. `each(expand)` makes a `visit`
        of a function for a single item. `combine` must be associative and commutative. Every item's
        contribution counts exactly once, also when nodes die.
        """
        options, maker = self._options, self._maker
        self._submitted.must_be_open()
        refuse_speculation(options, "explore")
        refuse_keeping(options, "explore")
        if isinstance(visit, Each):
            visit = Each(visit.expand, combine)
        if options.durable:
            refuse_report(options)
            return value_later(
                self._link, search(self._link, maker, options, visit, roots, combine, initial)
            )
        shipped, combiner = maker.ship(options, visit), maker.ship(options, combine)
        spec = maker.spec(JobKind.EXPLORE, options, shipped, visit, combiner=combiner)
        bag = list(roots)
        blob, needs = refs.noting(lambda: pack_tagged(bag, spec.name))
        if needs:
            needs = tuple(sorted({*spec.needs, *needs}))
            must_fit_one_order(needs, spec.name)
            spec = replace(spec, needs=needs)
        job = self._fold(spec, combine, initial, None, visit)
        functions = {each.digest: each.blob for each in (shipped, combiner)}
        events: list[Any] = [OpenJob(spec, open_ended=True, functions=functions)]
        if bag:
            events.append(Feed(spec.job, Block(0, len(bag), 0), blob))
        self._link.open(spec.job, job, *events, CloseInput(spec.job))
        return job.future

    # ------------------------------------------------------------ values that live on the mesh

    def scatter(self, value: T) -> Ref[T]:
        """Put a value on the mesh, once, and get a name for it that any call takes in its place.

        Give the Ref to `submit`, `map`, `map_reduce` or `explore`, anywhere in the arguments, in an item or in a
        partial: the task gets the value. A node fetches it once, from this program or from another node, and
        its workers map the same memory; each task may change its own view of it. The program keeps the first
        copy, so the value lives as long as the program, and goes when no Ref and no call needs it.

        A value that does not fit into memory beside the others (`store_memory_octets`) lies on disk.

        Raises CannotShip for a value that cannot be pickled, StoreFull when neither memory nor disk has room
        for it, RuntimeError after shutdown.
        """
        self._submitted.must_be_open()
        return self._link.values.scatter(value)

    def gather(self, values: Any, timeout: float | None = None) -> Any:
        """The same structure with values in the place of Refs, and results in that of futures.

        Looks into lists, tuples, sets and dicts, at any depth. `timeout`: seconds to wait for each future.
        Raises what a future raises, TimeoutError, and ValueLost for a value that is gone.
        """
        try:
            return gathered(values, timeout)
        finally:
            del values  # an error has this frame

    # ------------------------------------------------------------ actors

    def actor(self, cls: type[Any], /, *args: Any, **kwargs: Any) -> Actor:
        """One object `cls(*args, **kwargs)` in one process of one node; the handle calls its methods.

        `handle.method(...)` returns a future. Calls run one after the other, in the order in which they were
        made. The object is made with the first call; what its constructor raises, every call raises. It
        lives until `handle.shutdown()`, or until the program has forgotten the handle, and dies with its
        process or its node: calls that had begun fail with ActorDied then. With `options(restarts=n)` it is
        made again, from the same arguments, at most n times; later calls go to the new object. With
        `retries=n` a call that had begun runs again, at most n times. What a method raises is never retried.

        Futures among the arguments are waited for here. Raises what they raise, TypeError for what is no class,
        CannotShip, RuntimeError after shutdown.
        """
        self._submitted.must_be_open()
        refuse_keeping(self._options, "actor")
        return make_actor(self, self._submitted, self._maker, self._options, cls, args, kwargs)

    # ------------------------------------------------------------ work that outlives this program

    def launch(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = MISSING,
        durable: bool = True,
    ) -> Job:
        """Start a job that outlives this program: `fn(item)` for all items, kept by the mesh.

        Returns once two nodes hold the job and all its items (a `range` stays a range; another
        iterable is read to its end first). From then on this program may be killed, and so may any
        node: another program collects with `attach(job.id)`, through any node. With `combine`, as in
        `map_reduce`, only partial results are kept. Raises JobRefused when the mesh has no room.
        """
        if not durable:
            raise ValueError("durable=False: for work that ends with this program there is map()")
        return self._launch(self._options, fn, items, combine, initial)

    def attach(
        self,
        job_id: str,
        combine: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = MISSING,
    ) -> Job:
        """The handle on a durable job of any program.

        `job_id` is its id, an unambiguous beginning of it, or the short form that `stealmesh status`
        shows. `combine` (and `initial`) are those of a reduction, to get its one value. Raises
        ValueError when no job, or more than one, has that name. A whole id that no node knows ends
        with JobLost after `Config.primary_patience_seconds`.
        """
        self._submitted.must_be_open()
        job = job_named(job_id, lambda: self._link.status()["jobs"])
        return attached(self._link, job, combine, initial)

    def jobs(self) -> list[Job]:
        """All durable jobs that the mesh keeps, also those that have ended, the oldest first."""
        self._submitted.must_be_open()
        lines = [line_from(each) for each in self._link.status()["jobs"] if each["durable"]]
        lines.sort(key=lambda line: line.started)
        return [attached(self._link, line.job, line=line) for line in lines]

    # ------------------------------------------------------------ inside

    def _fold(
        self,
        spec: JobSpec,
        combine: Callable[[Any, Any], Any],
        initial: Any,
        total: int | None,
        fn: Callable[..., Any],
    ) -> FoldJob:
        bar = _bar(self._options, fn)
        words = words_for(self._link.user_threads, self._options.report, bar)
        job = FoldJob(self._link, spec, combine, initial, total, bar, words)
        self._submitted.folds.add(job)
        return job

    def _launch(
        self,
        options: Options,
        fn: Callable[..., Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any] | None,
        initial: Any,
    ) -> Job:
        self._submitted.must_be_open()
        refuse_speculation(options, "launch")
        refuse_keeping(options, "launch")
        refuse_report(options)
        return launch(
            self._link, self._maker, options, fn, items, combine, initial, self._slice_items
        )


class MeshView(Submitter):
    """A mesh with certain options: what `Mesh.options()` returns. Its methods are those of `Mesh`."""

    def __init__(self, mesh: Submitter, options: Options) -> None:
        super().__init__(
            mesh._submitted,
            mesh._maker,
            options,
            workers=mesh._max_workers,
            slice_items=mesh._slice_items,
            inline_octets=mesh._inline_octets,
        )
        self._mesh = mesh
        """Kept, because a mesh that the program drops ends."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the whole mesh down, as `Mesh.shutdown` does."""
        self._mesh.shutdown(wait, cancel_futures=cancel_futures)


def _bar(options: Options, fn: Callable[..., Any], wanted: bool = False) -> Any:
    """A progress bar; None if neither the call nor its view wants one."""
    if not (options.progress or wanted):
        return None
    from stealmesh.progress import Bar

    return Bar(options.name or name_of(fn))
