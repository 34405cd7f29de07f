"""Mesh: the public face. A `concurrent.futures.Executor` over a local or a running mesh.

Starts or joins a mesh as a client (a core without workers in a thread of its own) and turns
calls into jobs. Everything that happens afterwards is in `program/` (what comes back) and in
the engine (where it runs).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from types import ModuleType
from typing import Any, SupportsIndex, TypeVar

from stealmesh.client.arguments import Options, as_range, checked_sizes, fitting_name, seconds
from stealmesh.client.durable_job import Job, attached
from stealmesh.client.ending import cancel_pending
from stealmesh.client.job_ids import job_named
from stealmesh.client.launching import launch, value_later
from stealmesh.client.map import MapJob, MapResults, size_of
from stealmesh.client.reduce import MISSING, FoldJob
from stealmesh.client.results import pack_tagged
from stealmesh.client.streams import Streams
from stealmesh.functions import (
    Shipped,
    Shipper,
    module_names,
    must_be_no_import,
    name_of,
    packed_call,
)
from stealmesh.futures import Future
from stealmesh.host.entrance import (
    UNSAID,
    Address,
    UnsaidAddress,
    address_from_environment,
    entrance,
    the_key,
    whole_number,
)
from stealmesh.host.identity import runtime
from stealmesh.host.interpreter import program_path
from stealmesh.host.lifetime import JOIN_SECONDS_MAX, Lifetime
from stealmesh.host.node import NodeOptions
from stealmesh.host.security import MeshKey
from stealmesh.host.settings import load_config
from stealmesh.tasks import Each, Star, is_vectorized
from stealmesh_engine.config import Config
from stealmesh_engine.events import CloseInput, Feed, OpenJob
from stealmesh_engine.status import line_from, merge_status
from stealmesh_protocol.errors import CannotShip, MeshClosed
from stealmesh_protocol.messages import Block, JobKind, JobSpec

T = TypeVar("T")

CHUNK_ITEMS_MAX = 1 << 40
"""More than anybody has: all of them, for who says so."""


class MeshView(Executor):
    """A mesh with certain options: what `Mesh.options()` returns."""

    def __init__(self, mesh: Mesh, options: Options) -> None:
        self._mesh = mesh
        self._options = options
        self._max_workers = mesh._max_workers

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self._mesh._submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool | None = None,
    ) -> Iterator[T]:
        options = self._options
        if progress is not None:
            options = dataclasses.replace(options, progress=progress)
        return self._mesh._map(options, fn, iterables, timeout, chunksize, buffersize, ordered)

    def map_reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        return self._mesh._map_reduce(self._options, fn, items, combine, initial)

    def explore(
        self,
        visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
        roots: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        return self._mesh._explore(self._options, visit, roots, combine, initial)

    def launch(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = MISSING,
    ) -> Job:
        return self._mesh._launch(self._options, fn, items, combine, initial)

    def attach(
        self,
        job_id: str,
        combine: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = MISSING,
    ) -> Job:
        return self._mesh.attach(job_id, combine, initial=initial)

    def jobs(self) -> list[Job]:
        return self._mesh.jobs()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._mesh.shutdown(wait, cancel_futures=cancel_futures)


class Mesh(Executor):
    """A mesh of nodes to run functions on.

    `Mesh()` starts a local one that lives as long as this object; `Mesh("tcp://host:port")`
    joins a running one through any of its nodes. Use it as a context manager (also `async
    with`), or call `shutdown()`.

    Arguments:
        address: where a running mesh is: `tcp://host:port`, several separated by commas, an iterable
            of them, or the token that `stealmesh start` printed (it brings the key). Also file://, dns://,
            slurm:// and env://, as for `--seed`. None: local. Nothing at all: the mesh of the token in
            STEALMESH_TOKEN, if that is set and nothing is given that is for a local mesh only.
        nodes: node processes to start (local only).
        workers: worker processes a node (local only; default: one a core, divided among the
            nodes). `max_workers` means the same.
        threads: tasks side by side in one worker; only 1 in this version.
        initializer, initargs: called once in every new worker (local only).
        max_tasks_per_child: a worker process makes room for a fresh one after so many tasks (local
            only; default: never). For libraries that leak; tasks are handed out one by one then.
        key: the mesh key, a path or a `stealmesh.Key`; default: that of STEALMESH_TOKEN, else
            STEALMESH_KEY_FILE, else the user's key file. A local mesh makes one for itself.
        config: knobs (`stealmesh.Config`).

    Raises JoinRefused when no seed lets us in, ValueError and TypeError for senseless arguments.
    """

    _replace_dead_nodes = True
    """A local mesh starts a new node in place of one that dies (measurements switch it off)."""

    def __init__(
        self,
        address: Address | UnsaidAddress | None = UNSAID,
        *,
        nodes: SupportsIndex | None = None,
        workers: SupportsIndex | None = None,
        max_workers: SupportsIndex | None = None,
        threads: int = 1,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        key: str | os.PathLike[str] | MeshKey | None = None,
        config: Config | Mapping[str, Any] | None = None,
    ) -> None:
        must_be_no_import()
        if address is UNSAID:
            # A key alone is that of a local mesh, and the rest means nothing elsewhere.
            only_local = (nodes, workers, max_workers, initializer, max_tasks_per_child, key)
            local = any(each is not None for each in only_local)
            address = address_from_environment(local=local)
        if address is not None and nodes is not None:
            raise ValueError("nodes: only a local mesh starts nodes; leave it out, or the address")
        if max_workers is not None:
            workers = whole_number("max_workers", max_workers)
        elif workers is not None:
            workers = whole_number("workers", workers)
        nodes = 1 if nodes is None else whole_number("nodes", nodes)
        if threads != 1:
            raise ValueError("threads: this version runs one task at a time in a worker process")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if address is not None:
                raise ValueError("max_tasks_per_child: only a local mesh starts workers of its own")
        self._max_tasks = max_tasks_per_child or 0
        self.config = load_config(config)
        self._runtime = runtime()
        self._shipper = Shipper()
        self._maps: weakref.WeakSet[MapJob] = weakref.WeakSet()
        self._folds: weakref.WeakSet[FoldJob] = weakref.WeakSet()
        self._submit_lock = threading.Lock()
        self._default = Options()
        self._shutdown = False
        self._key_path = ""
        self._disowned: MeshClosed | None = None
        if address is None:
            self._key = MeshKey.generate()
            if key is not None:
                self._key, self._key_path = the_key(key)
            per_node = max(1, (os.cpu_count() or 1) // nodes) if workers is None else workers
            self._max_workers = per_node * nodes
            seeds = []
        else:
            if initializer is not None:
                raise ValueError("initializer: only a local mesh starts workers of its own")
            way = entrance(address, key)
            seeds, self._key, self._key_path = way.addresses, way.key, way.key_path
            self._max_workers = (os.cpu_count() or 1) if workers is None else workers
        self._life = Lifetime(self, self._key, self.config)
        self._link = self._life.link
        # These hold no mesh: what was submitted outlives it.
        self._streams = Streams(self._link, self._shipper, self._submit_lock)
        all_submitted = (self._streams, self._maps, self._folds)
        self._life.accepted = partial(self._link.wait_for_all, *all_submitted)
        try:
            if address is None:
                seeds = self._start_local(nodes, per_node, initializer, initargs)
            self._local = self._life.local
            self._driver, self._thread = self._life.join(seeds)
            if address is None and nodes > 1:
                self._await_nodes(nodes)
        except BaseException:
            self._life.close(MeshClosed("the mesh could not be joined"))
            raise

    # ------------------------------------------------------------ work

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn(*args, **kwargs)` once on the mesh. Two equal submissions run twice.

        The future's exception is the task's own, with the remote traceback as its cause;
        WorkerDied when the task ended its worker process again and again; TaskTimeout after
        the `timeout` of `options`.
        """
        return self._submit(self._default, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[T]:
        """A lazy iterator over the results, in order unless `ordered` is False.

        Arguments:
            timeout: seconds from this call after which waiting for a result raises TimeoutError.
            chunksize: how many items a worker is handed at once, at most. Default: the engine
                decides by measured time, and divides what turns out dear while it runs. What has
                a size of yours runs as a whole; its results come while it runs all the same.
            buffersize: how many items the mesh may be ahead of the reader. Default: so many
                that unread results stay within a few megabytes.
            progress: draw a bar.

        Leaving the iterator early (or its `close()`) cancels the rest. A `range` is never
        materialised; other iterables are read by a thread of their own as they are needed, so one that
        works in the thread that made it only (a sqlite cursor) has to be given as a list.

        Leaving the `with` block computes the whole input, as the standard pools do, or as far as
        `buffersize` allows; leaving it by an exception does not wait for a map that is half read.
        """
        options = dataclasses.replace(self._default, progress=progress)
        return self._map(options, fn, iterables, timeout, chunksize, buffersize, ordered)

    def map_reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over `fn(item)` of all items, in index order.

        `combine` must be associative; it need not be commutative. Only partial results
        travel, so a billion items need no more memory than a thousand. Without `initial`, no
        items at all are a TypeError.
        """
        return self._map_reduce(self._default, fn, items, combine, initial)

    def explore(
        self,
        visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
        roots: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over a tree (or any set of items that breed items) of unknown size.

        `visit(bag, limit) -> (partial, rest)` consumes up to `limit` items of the list `bag`
        and returns what they contributed and the items still to do. `each(expand)` makes one
        of a function for a single item. `combine` must be associative and commutative. Every
        item's contribution counts exactly once, also when nodes die.
        """
        return self._explore(self._default, visit, roots, combine, initial)

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

        Returns once the job and all its items are held by two nodes (a `range` stays a range;
        another iterable is read to its end first). From then on this program may be killed, and
        so may any node: another program collects with `attach(job.id)`, through any node. With
        `combine`, as in `map_reduce`, only partial results are kept. Raises JobRefused when the
        mesh has no room.
        """
        if not durable:
            raise ValueError("durable=False: for work that ends with this program there is map()")
        return self._launch(self._default, fn, items, combine, initial)

    def attach(
        self,
        job_id: str,
        combine: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = MISSING,
    ) -> Job:
        """The handle on a durable job, whoever launched it: by its id, a beginning of it that is
        its own, or the short form that `stealmesh status` shows. `combine` (and `initial`) are those
        of a reduction whose one value is wanted. A whole id that nobody knows ends with JobLost
        after `Config.home_patience_seconds`."""
        self._must_be_open()
        job = job_named(job_id, lambda: self.status()["jobs"])
        return attached(self._link, job, combine, initial)

    def jobs(self) -> list[Job]:
        """All durable jobs that the mesh keeps, its ended ones too, the oldest first."""
        self._must_be_open()
        lines = [line_from(each) for each in self.status()["jobs"] if each["durable"]]
        lines.sort(key=lambda line: line.started)
        return [attached(self._link, line.job, line=line) for line in lines]

    def options(
        self,
        *,
        name: str = "",
        priority: int = 0,
        retries: int = 0,
        timeout: float | None = None,
        progress: bool = False,
        durable: bool = False,
        chunksize: int | None = None,
        ship: Iterable[str | ModuleType] = (),
        no_ship: Iterable[str | ModuleType] = (),
    ) -> MeshView:
        """The same methods, with these settings for what is submitted through the view.

        Arguments:
            name: what `status` and progress bars call it.
            priority: higher first, within a node.
            retries: how often an item that raises is run again before its exception counts.
            timeout: seconds after which a running item is stopped (its worker with it).
            progress: draw a bar.
            durable: `map` and `map_reduce` become jobs that outlive this program (see `launch`).
            chunksize: how many items a worker is handed at once, at most (see `map`).
            ship: modules or packages that travel with the program's own although they are installed.
            no_ship: modules of the program that do not travel: nodes have them.
        """
        options = Options(
            name, priority, retries, timeout, progress, durable, chunksize,
            module_names(ship), module_names(no_ship),
        )  # fmt: skip
        return MeshView(self, options)

    # ------------------------------------------------------------ looking

    @property
    def address(self) -> str:
        """Where others may join this mesh."""
        if self._local is not None:
            for endpoints in self._local.endpoints():
                for endpoint in endpoints:
                    if endpoint.startswith("tcp://"):
                        return endpoint
        for node in self.status()["nodes"]:
            if node["role"] != "client" and node["address"]:
                return str(node["address"])
        return ""

    @property
    def key_file(self) -> str:
        """The key with which others may join this mesh; the file of a local mesh, or of a mesh that
        was joined by a token, goes with this object."""
        if self._key_path:
            return self._key_path
        self._must_be_ours()
        return self._life.key_file()

    def status(self) -> dict[str, Any]:
        """A plain-data snapshot: nodes, jobs and counters (the same as `stealmesh status --json`)."""
        snapshots = self._link.ask_status().result(timeout=5.0)
        return merge_status(snapshots)

    # ------------------------------------------------------------ ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the standard library's: no more submissions; wait for what is pending, or let it
        finish in the background; `cancel_futures` cancels what has not started. Idempotent.

        A `map` is computed to the end of its input, or as far as its `buffersize` allows; whoever
        still has its iterator reads what was computed. With `cancel_futures` it raises CancelledError.
        """
        self._shut_down(wait, cancel_futures, hurried=False)

    def _shut_down(self, wait: bool, cancel_futures: bool, *, hurried: bool) -> None:
        with self._submit_lock:
            first, self._shutdown = not self._shutdown, True
        life = self._life
        if cancel_futures:
            everything = (self._streams, self._maps, self._folds)
            cancel_pending(self._link, *everything, self._max_workers)
        if wait:
            life.finish(hurried=hurried)
        elif first:
            life.finish_later()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._abandon()  # Ctrl-C: do not wait for what nobody wants any more
        self._shut_down(True, False, hurried=kind is not None)

    async def __aenter__(self) -> Mesh:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(
            None, lambda: self.__exit__(kind, error, trace)
        )

    def __repr__(self) -> str:
        state = "closed" if self._shutdown else "open"
        return f"<stealmesh.Mesh {state}, {self._max_workers} workers>"

    # ------------------------------------------------------------ inside: jobs

    def _submit(
        self, options: Options, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[T]:
        last = self._streams.last
        if (
            last is not None
            and last[0] is fn
            and last[1] is options
            and last[3].seen.holds()
            and not self._shutdown
        ):
            future: Future[T] | None = last[2].submit(args, kwargs)
            if future is not None:
                return future
        with self._submit_lock:
            self._must_be_open()
            if options.durable:
                raise ValueError("durable: a single call is no job of its own; use launch()")
            try:
                shipped = self._ship(options, fn)
            except CannotShip as error:
                failed: Future[T] = Future(self._link.condition)
                failed.set_exception(error)
                return failed

            def make_spec() -> JobSpec:
                return self._spec(JobKind.SUBMIT, options, shipped, fn)

            stream = self._streams.own(options, shipped, make_spec)
            if stream is None:
                stream = self._streams.shared(options, make_spec())
                args = (shipped.blob, *args)
            else:
                self._streams.last = (fn, options, stream, shipped)
            future = stream.submit(args, kwargs)
            assert future is not None, "streams are closed under the lock only"
            return future

    def _map(
        self,
        options: Options,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> Iterator[T]:
        if not iterables:
            return iter(())  # as the standard library's
        chunksize, buffersize = checked_sizes(chunksize, buffersize)
        if chunksize is not None:
            options = dataclasses.replace(options, chunksize=chunksize)
        self._must_be_open()
        until = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
        if options.durable:
            source = iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False)
            function = fn if len(iterables) == 1 else Star(fn)
            return self._launch(options, function, source, None, MISSING).results(timeout)
        single = len(iterables) == 1
        source = iterables[0] if single else zip(*iterables, strict=False)
        function = fn if single else Star(fn)
        shipped = self._ship(options, function)
        on_progress = _bar(options, fn)
        a_range = as_range(source)
        spec = self._spec(
            JobKind.MAP,
            options,
            shipped,
            function,
            a_range,
            vectorized=is_vectorized(fn),
        )
        job = MapJob(
            self._link,
            spec,
            total=None if a_range is None else len(a_range),
            size=size_of(iterables),
            ordered=ordered,
            buffersize=buffersize,
            until=until,
            on_progress=on_progress,
        )
        self._maps.add(job)
        functions = {shipped.digest: shipped.blob}
        if a_range is not None:
            job.start_range(functions)
        else:
            job.start_blocks(iter(source), functions)
        results: MapResults[T] = MapResults.over(job)
        results.mesh = self
        return results

    def _map_reduce(
        self,
        options: Options,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        initial: Any,
    ) -> Future[Any]:
        self._must_be_open()
        if options.durable:
            return value_later(self._link, self._launch(options, fn, items, combine, initial))
        shipped, combiner = self._ship(options, fn), self._ship(options, combine)
        a_range = as_range(items, whole=True)
        spec = self._spec(
            JobKind.REDUCE,
            options,
            shipped,
            fn,
            a_range,
            combiner=combiner,
            vectorized=is_vectorized(fn),
        )
        total = len(a_range) if a_range is not None else None
        job = FoldJob(self._link, spec, combine, initial, total, _bar(options, fn))
        self._folds.add(job)
        functions = {each.digest: each.blob for each in (shipped, combiner)}
        if total is not None:
            self._link.open(spec.job, job, OpenJob(spec, total, total, functions=functions))
        else:
            job.start_blocks(iter(items), functions)
        return job.future

    def _explore(
        self,
        options: Options,
        visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
        roots: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        initial: Any,
    ) -> Future[Any]:
        self._must_be_open()
        if options.durable:
            raise ValueError("durable: explore() is not in this version; launch() and map() are")
        if isinstance(visit, Each):
            visit = Each(visit.expand, combine)
        shipped, combiner = self._ship(options, visit), self._ship(options, combine)
        spec = self._spec(JobKind.EXPLORE, options, shipped, visit, combiner=combiner)
        bag = list(roots)
        blob = pack_tagged(bag, spec.name)
        job = FoldJob(self._link, spec, combine, initial, None, _bar(options, visit))
        self._folds.add(job)
        functions = {each.digest: each.blob for each in (shipped, combiner)}
        events: list[Any] = [OpenJob(spec, open_ended=True, functions=functions)]
        if bag:
            events.append(Feed(spec.job, Block(0, len(bag), 0), blob))
        self._link.open(spec.job, job, *events, CloseInput(spec.job))
        return job.future

    def _launch(
        self,
        options: Options,
        fn: Callable[..., Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any] | None,
        initial: Any,
    ) -> Job:
        self._must_be_open()

        def make_spec(kind: JobKind, *args: Any, **more: Any) -> JobSpec:
            return self._spec(kind, options, *args, **more)

        most = self.config.slice_items

        def ship(fn: Callable[..., Any]) -> Shipped:
            return self._ship(options, fn)

        return launch(self._link, ship, make_spec, fn, items, combine, initial, most)

    def _spec(
        self,
        kind: JobKind,
        options: Options,
        shipped: Shipped,
        fn: Callable[..., Any],
        domain: range | None = None,
        *,
        combiner: Shipped | None = None,
        vectorized: bool = False,
    ) -> JobSpec:
        return JobSpec(
            job=self._link.new_job_id(),
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
            chunk_items=1 if self._max_tasks else min(options.chunksize or 0, CHUNK_ITEMS_MAX),
            # Also what is named and not sent may be other code in another Python.
            runtime=self._runtime,
            code=self._link.carries(shipped.code if combiner is None else combiner.code),
        )

    def _ship(self, options: Options, fn: Callable[..., Any]) -> Shipped:
        if not callable(fn):
            raise TypeError(f"a function is needed, not a {type(fn).__qualname__}")
        return self._shipper.ship(fn, options.ship, options.no_ship)

    def _must_be_open(self) -> None:
        self._must_be_ours()
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _must_be_ours(self) -> None:
        if self._disowned is not None:
            raise self._disowned

    # ------------------------------------------------------------ inside: life

    def _start_local(
        self,
        nodes: int,
        workers: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> list[str]:
        options = NodeOptions(
            workers=workers,
            key=self._key.secret,
            import_paths=program_path(),
            config=self.config,
            max_tasks_per_child=self._max_tasks,
            initializer=None if initializer is None else packed_call(initializer, initargs),
            code=None if initializer is None else self._shipper.bundle().blob,
        )
        return self._life.start_nodes(nodes, options, respawn=self._replace_dead_nodes)

    def _await_nodes(self, count: int) -> None:
        """A local mesh is complete when it is handed to the program (or as good as it gets)."""
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        while time.monotonic() < deadline:
            if len(self._link.ask_status().result(timeout=5.0)) > count:  # and this client
                return
            time.sleep(0.002)

    def _abandon(self) -> None:
        """Drop everything that is pending."""
        self._shutdown = True
        self._life.close(MeshClosed("this mesh was left in a hurry"))

    def end_with_program(self) -> None:
        """The program ends, and has not shut us down (see lifetime.py)."""
        self._shut_down(True, False, hurried=True)

    def disown(self, error: MeshClosed) -> None:
        """This process was forked from the program that the mesh belongs to (see lifetime.py)."""
        self._submit_lock = threading.Lock()
        self._shutdown = True
        self._disowned = error


def _bar(options: Options, fn: Callable[..., Any]) -> Any:
    if not options.progress:
        return None
    from stealmesh.progress import Bar

    return Bar(options.name or name_of(fn))
