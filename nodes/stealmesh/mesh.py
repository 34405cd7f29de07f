"""Mesh: the public face. A `concurrent.futures.Executor` over a local or a running mesh.

Starts or joins a mesh as a client (a core without workers in a thread of its own) and turns
calls into jobs. Everything that happens afterwards is in `program/` (what comes back) and in
the engine (where it runs).
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import select
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import cloudpickle

from stealmesh.driver import Driver
from stealmesh.functions import Shipped, Shipper, name_of
from stealmesh.futures import Future
from stealmesh.identity import new_member, new_rng, runtime
from stealmesh.local import LocalMesh
from stealmesh.node import NodeOptions
from stealmesh.program.durable import Job, attached
from stealmesh.program.ending import cancel_pending
from stealmesh.program.folds import MISSING, FoldJob
from stealmesh.program.launching import launch, value_later
from stealmesh.program.link import ProgramLink
from stealmesh.program.maps import MapJob, MapResults, size_of
from stealmesh.program.outcomes import pack_tagged
from stealmesh.program.streams import Streams
from stealmesh.security import KeyRefused, MeshKey, default_key_path
from stealmesh.settings import load_config
from stealmesh.tasks import Each, Star, is_vectorized
from stealmesh.transport import Transport
from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import CloseInput, Drain, Feed, Join, OpenJob
from stealmesh_engine.status import merge_status
from stealmesh_protocol.errors import CannotShip, JoinRefused, MeshClosed
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Role

T = TypeVar("T")

JOIN_SECONDS_MAX = 15.0
LEAVE_SECONDS_MAX = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of what is submitted through one view of a mesh."""

    name: str = ""
    priority: int = 0
    retries: int = 0
    timeout: float | None = None
    progress: bool = False
    durable: bool = False

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, not {self.retries}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, not {self.timeout}")


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
        address: a seed, several separated by commas, or an iterable of seeds. None: local.
        nodes: node processes to start (local only).
        workers: worker processes a node (local only; default: one a core, divided among the
            nodes). `max_workers` means the same.
        threads: tasks side by side in one worker; only 1 in this version.
        initializer, initargs: called once in every new worker (local only).
        max_tasks_per_child: a worker process makes room for a fresh one after so many tasks (local
            only; default: never). For libraries that leak; tasks are handed out one by one then.
        key: the mesh key, a path or a `stealmesh.Key`; default: STEALMESH_KEY_FILE, else the
            user's key file. A local mesh makes one for itself.
        config: knobs (`stealmesh.Config`).

    Raises JoinRefused when no seed lets us in, ValueError for senseless arguments.
    """

    _replace_dead_nodes = True
    """A local mesh starts a new node in place of one that dies (measurements switch it off)."""

    def __init__(
        self,
        address: str | Iterable[str] | None = None,
        *,
        nodes: int = 1,
        workers: int | None = None,
        max_workers: int | None = None,
        threads: int = 1,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        key: str | os.PathLike[str] | MeshKey | None = None,
        config: Config | Mapping[str, Any] | None = None,
    ) -> None:
        if max_workers is not None:
            if max_workers <= 0:
                raise ValueError("max_workers must be greater than 0")
            workers = max_workers
        if workers is not None and workers <= 0:
            raise ValueError("workers must be greater than 0")
        if nodes <= 0:
            raise ValueError("nodes must be greater than 0")
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
        self._shipper = Shipper()
        self._maps: weakref.WeakSet[MapJob] = weakref.WeakSet()
        self._folds: weakref.WeakSet[FoldJob] = weakref.WeakSet()
        self._submit_lock = threading.Lock()
        self._default = Options()
        self._shutdown = False
        self._closed = threading.Event()
        self._directory: str | None = None
        self._local: LocalMesh | None = None
        if address is None:
            self._key = (
                key if isinstance(key, MeshKey) else _load_key(key) if key else MeshKey.generate()
            )
            per_node = workers or max(1, (os.cpu_count() or 1) // nodes)
            self._max_workers = per_node * nodes
            seeds = self._start_local(nodes, per_node, initializer, initargs)
        else:
            if initializer is not None:
                raise ValueError("initializer: only a local mesh starts workers of its own")
            seeds = _parse_seeds(address)
            self._key = key if isinstance(key, MeshKey) else _load_key(key)
            self._max_workers = workers or os.cpu_count() or 1
        try:
            self._connect(seeds)
            if address is None and nodes > 1:
                self._await_nodes(nodes)
        except BaseException:
            self._close(MeshClosed("the mesh could not be joined"))
            raise
        _open_meshes.add(self)

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
            chunksize: accepted for drop-in use; the engine sizes chunks from measured time.
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
        """The handle on a durable job, whoever launched it. `combine` (and `initial`) are those of
        a reduction whose one value is wanted. A job that nobody knows ends with JobLost after
        `Config.home_patience_seconds`."""
        self._must_be_open()
        return attached(self._link, job_id, combine, initial)

    def jobs(self) -> list[Job]:
        """All durable jobs that the mesh keeps, its ended ones too."""
        return [self.attach(line["id"]) for line in self.status()["jobs"] if line["durable"]]

    def options(
        self,
        *,
        name: str = "",
        priority: int = 0,
        retries: int = 0,
        timeout: float | None = None,
        progress: bool = False,
        durable: bool = False,
    ) -> MeshView:
        """The same methods, with these settings for what is submitted through the view.

        Arguments:
            name: what `status` and progress bars call it.
            priority: higher first, within a node.
            retries: how often an item that raises is run again before its exception counts.
            timeout: seconds after which a running item is stopped (its worker with it).
            progress: draw a bar.
            durable: `map` and `map_reduce` become jobs that outlive this program (see `launch`).
        """
        return MeshView(self, Options(name, priority, retries, timeout, progress, durable))

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
        """The key with which others may join this mesh; a local mesh's file goes with it."""
        if self._local is None:
            return str(default_key_path())
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="stealmesh-key-")
            self._key.save(os.path.join(self._directory, "mesh.key"))
        return os.path.join(self._directory, "mesh.key")

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
        if cancel_futures:
            everything = (self._streams, self._maps, self._folds)
            cancel_pending(self._link, *everything, self._max_workers)
        if wait:
            if first:
                self._finish(hurried=hurried)
            self._closed.wait()
        elif first:
            threading.Thread(
                target=self._finish, kwargs={"hurried": hurried}, name="stealmesh-finish"
            ).start()

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
            and not last[3].seen
            and not self._shutdown
        ):
            future: Future[T] | None = last[2].submit(args, kwargs)
            if future is not None:
                return future
        with self._submit_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if not callable(fn):
                raise TypeError(f"{fn!r} is not callable")
            if options.durable:
                raise ValueError("durable: a single call is no job of its own; use launch()")
            try:
                shipped = self._shipper.ship(fn)
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
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._must_be_open()
        until = None if timeout is None else time.monotonic() + timeout
        if options.durable:
            source = iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False)
            function = fn if len(iterables) == 1 else Star(fn)
            return self._launch(options, function, source, None, MISSING).results(timeout)
        single = len(iterables) == 1
        source = iterables[0] if single else zip(*iterables, strict=False)
        function = fn if single else Star(fn)
        shipped = self._shipper.ship(function)
        on_progress = _bar(options, fn)
        a_range = isinstance(source, range)
        spec = self._spec(
            JobKind.MAP,
            options,
            shipped,
            function,
            source if isinstance(source, range) else None,
            vectorized=is_vectorized(fn),
        )
        job = MapJob(
            self._link,
            spec,
            total=len(source) if isinstance(source, range) else None,
            size=size_of(iterables),
            ordered=ordered,
            buffersize=buffersize,
            until=until,
            on_progress=on_progress,
        )
        self._maps.add(job)
        functions = {shipped.digest: shipped.blob}
        if a_range:
            job.start_range(functions)
        else:
            job.start_blocks(iter(source), functions)
        return MapResults.over(job)

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
        shipped, combiner = self._shipper.ship(fn), self._shipper.ship(combine)
        a_range = items if isinstance(items, range) else None
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
        shipped, combiner = self._shipper.ship(visit), self._shipper.ship(combine)
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
        return launch(self._link, self._shipper, make_spec, fn, items, combine, initial, most)

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
            name=options.name or name_of(fn),
            function=shipped.digest,
            combine=b"" if combiner is None else combiner.digest,
            start=0 if domain is None else domain.start,
            step=0 if domain is None else domain.step,
            vectorized=vectorized,
            priority=options.priority,
            retries=options.retries,
            timeout=options.timeout or 0.0,
            chunk_items=1 if self._max_tasks else 0,
        )

    def _must_be_open(self) -> None:
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")

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
            import_paths=[os.path.abspath(path) for path in sys.path],
            config=self.config,
            max_tasks_per_child=self._max_tasks,
            initializer=None
            if initializer is None
            else cloudpickle.dumps((initializer, initargs), protocol=5),
        )
        self._local = LocalMesh(
            nodes,
            options,
            self._new_local_node,
            self._local_broken,
            respawn=self._replace_dead_nodes,
        )
        return [endpoints[0] for endpoints in self._local.endpoints()]

    def _new_local_node(self, endpoints: list[str]) -> None:
        self._driver.post(Join(endpoints[:1]))

    def _local_broken(self, reason: str) -> None:
        self._link.close(MeshClosed(reason))

    def _connect(self, seeds: list[str]) -> None:
        epoll = select.epoll()
        self._transport = Transport(self._key, epoll=epoll)
        member = new_member(Role.CLIENT, f"client-{os.getpid()}", [], 0)
        core = NodeCore(
            member,
            config=self.config,
            rng=new_rng(),
            mesh=self._key.mesh_id(),
            runtime=runtime(),
        )
        self._link = ProgramLink(member.id)
        self._driver = Driver(core, self._transport, epoll, self._link)
        self._link.wake, self._link.act = self._driver.wake, self._driver.act
        self._streams = Streams(self._link, self._shipper, self._submit_lock)
        self._thread = threading.Thread(target=self._drive, name="stealmesh", daemon=True)
        self._thread.start()
        self._driver.post(Join(seeds))
        try:
            self._link.joined.result(timeout=JOIN_SECONDS_MAX)
        except TimeoutError:
            raise JoinRefused("no-answer", f"no answer from {', '.join(seeds)}") from None

    def _await_nodes(self, count: int) -> None:
        """A local mesh is complete when it is handed to the program (or as good as it gets)."""
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        while time.monotonic() < deadline:
            if len(self._link.ask_status().result(timeout=5.0)) > count:  # and this client
                return
            time.sleep(0.002)

    def _drive(self) -> None:
        try:
            self._driver.run()
        except MeshClosed as error:
            self._link.close(error)
        except BaseException as error:
            self._link.close(MeshClosed(f"the mesh's own thread failed: {error!r}"))
            raise
        finally:
            self._transport.close()

    def _finish(self, *, hurried: bool) -> None:
        """Let everything that was accepted end, then go."""
        self._link.wait_for_all(self._streams, self._maps, self._folds, hurried=hurried)
        self._close(MeshClosed("this mesh has been shut down"))

    def _abandon(self) -> None:
        """Drop everything that is pending."""
        self._shutdown = True
        self._close(MeshClosed("this mesh was left in a hurry"))

    def _close(self, error: MeshClosed) -> None:
        if self._closed.is_set():
            return
        try:
            if getattr(self, "_driver", None) is not None:
                self._driver.post(Drain())
                self._link.left.wait(LEAVE_SECONDS_MAX)
                self._driver.stop()
                self._thread.join()
                self._link.close(error)
        finally:
            if self._local is not None:
                self._local.close()
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._closed.set()
            _open_meshes.discard(self)


def _load_key(path: str | os.PathLike[str] | None) -> MeshKey:
    try:
        return MeshKey.load(path or default_key_path())
    except (KeyRefused, OSError) as error:
        raise JoinRefused("key", f"no usable mesh key: {error}") from error


def _parse_seeds(address: str | Iterable[str]) -> list[str]:
    seeds = address.split(",") if isinstance(address, str) else list(address)
    seeds = [seed.strip() for seed in seeds if seed.strip()]
    for seed in seeds:
        if not seed.startswith(("tcp://", "ipc://")):
            raise ValueError(f"not an address: {seed!r}; write tcp://host:port")
    if not seeds:
        raise ValueError("no address given")
    return seeds


def _bar(options: Options, fn: Callable[..., Any]) -> Any:
    if not options.progress:
        return None
    from stealmesh.progress import Bar

    return Bar(options.name or name_of(fn))


_open_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that ends without shutting down: finish what is pending, as the standard library
    does, unless it ends by Ctrl-C."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for mesh in list(_open_meshes):
        if interrupted:
            mesh._abandon()
        mesh._shut_down(True, False, hurried=True)
