"""Mesh: the public face. A `concurrent.futures.Executor` over a local or a running mesh.

Decides how a mesh begins and ends for its program: it starts node processes or finds running ones,
joins them as a client (a core without workers, in a thread of its own), and shuts down. Refuses to know
what is submitted (`submitter.py`), what comes back (`client/`), and where work runs (the engine).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, SupportsIndex

from stealmesh.client.arguments import (
    Options,
    check_workers,
    checked_resources,
    checked_side_by_side,
)
from stealmesh.client.arguments import memory_limit as memory_limit_of
from stealmesh.client.by_name import shipper_for
from stealmesh.client.looking import Looking
from stealmesh.client.spec_maker import SpecMaker
from stealmesh.client.submitted import Submitted
from stealmesh.functions import module_names, must_be_no_import, packed_call
from stealmesh.host.entrance import (
    UNSAID,
    Address,
    UnsaidAddress,
    address_from_environment,
    entrance,
    the_key,
    whole_number,
)
from stealmesh.host.guest_key import OTHERS_JOBS, GuestKey
from stealmesh.host.interpreter import program_path
from stealmesh.host.lifetime import JOIN_SECONDS_MAX, Lifetime
from stealmesh.host.node import NodeOptions
from stealmesh.host.security import AnyKey, MeshKey
from stealmesh.host.settings import load_config
from stealmesh.submitter import MeshView, Submitter
from stealmesh_engine.config import Config
from stealmesh_protocol.errors import MeshClosed
from stealmesh_protocol.passes import KeyRole


class Mesh(Submitter):
    """A mesh of nodes to run functions on.

    `Mesh()` starts a local one that lives as long as this object; `Mesh("tcp://host:port")`
    joins a running one through any of its nodes. Use it as a context manager (also `async
    with`), or call `shutdown()`.

    Arguments:
        address: where a running mesh is: `tcp://host:port`, several separated by commas, an iterable
            of them, or the token that `stealmesh start` printed (it brings the key). Also file://,
            dns://, slurm:// and env://, as for `--seed`. None: a local mesh. Left out: the mesh of the
            token in STEALMESH_TOKEN if that is set, unless an argument is for a local mesh only.
        nodes: node processes to start (local only; default: 1).
        workers: worker processes a node (local only; default: one a core, divided among the
            nodes). `max_workers` means the same.
        threads: plain functions that one worker runs side by side, in threads (local only; default: 1).
            For functions that release the interpreter's lock.
        concurrency: `async def` functions that one worker runs side by side, on its event loop.
        initializer, initargs: called once in every new worker (local only).
        max_tasks_per_child: after this number of tasks a fresh process replaces a worker (local only;
            default: never). For libraries that leak memory; tasks then go to workers one by one.
        memory_limit: memory that each worker process may have, as octets or as in "4GiB" (local only;
            default: no limit). A task that needs more fails with TaskOutOfMemory; a worker that keeps
            more than three quarters of it between two tasks is replaced.
        resources: what each node has beside its workers, `{"GPU": 2}` (local only); see `options`.
        functions: modules whose public functions run by name, on plain data and arrays of numbers: data-only
            mode, for a local mesh, or one whose nodes run with `--functions`. Nothing is pickled or unpickled
            in this process from then on, so all its meshes are of this kind.
        key: the mesh key: the path of a key file, a token (of `stealmesh start` or `stealmesh token`), or a
            `stealmesh.Key`; default: that of STEALMESH_TOKEN, then STEALMESH_KEY_FILE, then the user's key file.
            A local mesh makes one for itself.
        config: a `stealmesh.Config`, or a mapping with some of its fields.

    Raises JoinRefused when no seed lets us in, ValueError and TypeError for arguments without sense,
    CannotShip for an initializer that cannot be pickled.
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
        threads: SupportsIndex = 1,
        concurrency: SupportsIndex = 100,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        memory_limit: int | str | None = None,
        resources: Mapping[str, int] | None = None,
        functions: Iterable[str | ModuleType] | None = None,
        key: str | os.PathLike[str] | AnyKey | None = None,
        config: Config | Mapping[str, Any] | None = None,
    ) -> None:
        must_be_no_import()
        if address is UNSAID:
            # A key alone is that of a local mesh; the other arguments make no sense elsewhere.
            only_local = (
                nodes, workers, max_workers, initializer, max_tasks_per_child, memory_limit,
                resources, key
            )  # fmt: skip
            local = any(each is not None for each in only_local)
            address = address_from_environment(local=local)
        if address is not None and nodes is not None:
            raise ValueError("nodes: only a local mesh starts nodes; leave it out, or the address")
        if address is not None and resources is not None:
            raise ValueError("resources: a running mesh has its own; nodes declare them")
        if max_workers is not None:
            workers = whole_number("max_workers", max_workers)
        elif workers is not None:
            workers = whole_number("workers", workers)
        count = 1 if nodes is None else whole_number("nodes", nodes)
        side_by_side = checked_side_by_side(threads, concurrency, local=address is None)
        check_workers(initializer, max_tasks_per_child, local=address is None)
        octets = memory_limit_of(memory_limit, local=address is None)
        self.config = load_config(config)
        shipper, modules = shipper_for(functions, initializer)
        self._key_path = ""
        cores = os.cpu_count() or 1
        if address is None:
            own = MeshKey.generate()
            if key is not None:
                given, self._key_path = the_key(key)
                if isinstance(given, GuestKey):
                    raise given.not_allowed("be a node")
                own = given
            self._key: AnyKey = own
            per_node = max(1, cores // count) if workers is None else workers
            all_workers = per_node * count
        else:
            way = entrance(address, key)
            self._key, self._key_path = way.key, way.key_path
            all_workers = cores if workers is None else workers
        self._life = Lifetime(self, self._key, self.config, by_name=shipper.by_name)
        # These two hold no mesh: what was submitted outlives it.
        submitted = Submitted(self._life.link, shipper, self.config.pending_calls_max)
        maker = SpecMaker(
            self._life.link,
            shipper,
            one_by_one=max_tasks_per_child is not None,
            concurrency=side_by_side[1],
        )
        self._output = output = self._life.link.printer.default()
        super().__init__(
            submitted,
            maker,
            Options(output=output),
            workers=all_workers,
            slice_items=self.config.slice_items,
            inline_octets=self.config.inline_octets,
        )
        self._life.accepted = submitted.wait
        if isinstance(self._key, GuestKey):
            self._link.looking.refusal = self._key.not_allowed(OTHERS_JOBS)
            if self._key.role is KeyRole.VIEW:
                submitted.refuse(self._key.not_allowed("submit, collect or cancel"))
        try:
            if address is not None:
                seeds = way.addresses
            else:
                options = NodeOptions(
                    workers=per_node,
                    threads=side_by_side[0],
                    key=own.packed(),
                    import_paths=program_path(),
                    config=self.config,
                    max_tasks_per_child=max_tasks_per_child or 0,
                    memory_limit_bytes=octets,
                    resources=dict(checked_resources(resources)),
                    initializer=None if initializer is None else packed_call(initializer, initargs),
                    code=None if initializer is None else shipper.bundle().blob,
                    functions=modules,
                )
                seeds = self._life.start_nodes(count, options, respawn=self._replace_dead_nodes)
                self._life.link.printer.node_names = count > 1
            self._local = self._life.local
            self._driver, self._thread = self._life.join(seeds)
            if address is None and count > 1:
                self._await_nodes(count)
        except BaseException:
            self._life.close(MeshClosed("the mesh could not be joined"))
            raise

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
        report: Callable[[int, float, float | None], object] | str | os.PathLike[str] | None = None,
        max_parallel: int | None = None,
        resources: Mapping[str, int] | None = None,
        retry_on: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
        speculate: bool = False,
        restarts: int = 0,
        keep: bool = False,
        output: str | None = None,
    ) -> MeshView:
        """The same methods, with these settings for what is submitted through the view.

        Arguments:
            name: what `status` and progress bars call it.
            priority: higher first, at every node, and when work is placed or stolen. It stops nothing
                that runs.
            retries: how often an item that raises is run again before its exception counts: after
                a random wait of up to 0.1 s, 0.2 s, 0.4 s … 30 s, during which no worker is held. (Items
                of `map_reduce` and `explore`, and chunks of a vectorized function: at once.)
            timeout: seconds after which a running item is stopped (its worker with it).
            progress: draw a bar.
            durable: what is submitted outlives this program once it is accepted (see `launch`). The
                futures of `submit`, `map_reduce` and `explore` have an `accepted()`, which waits for that and
                returns the id for `attach`.
            chunksize: how many items a worker gets at once, at most (see `map`).
            ship: modules or packages that travel with the program's own although they are installed.
            no_ship: modules of the program that do not travel, because nodes have them.
            report: called as `report(index, done, total)`, in a thread of this program, when a task
                says `stealmesh.report(done, total)`. `index` is the item's place in the input; of
                `submit`, the call's number among those of this function through views like this one.
                A path: there the story of the job is written when it has ended, also when it has failed, as one
                HTML file: who did how much, what went wrong, which worker was busy when (`stealmesh report` prints
                the same). Calls of one function are one job; a later job overwrites the file. Of a durable job it
                is written if this program is there when the job ends; otherwise `stealmesh report` tells it.
            max_parallel: how many items of one job, or calls of one function, may run at once in the
                whole mesh.
            resources: what an item takes up of its node while it runs, `{"GPU": 1}`; see
                `stealmesh node --resources`. If no node has it, items fail with ResourcesMissing.
            retry_on: the exceptions that are worth a retry; all others count at once.
            speculate: when all of a job has begun, and an item takes much longer than the others did, an
                idle node gets it as well, and the first result counts. So an item may run twice, at the
                same time: its effects must bear that. For `map` and `submit`; `map_reduce`, `explore`
                and durable jobs raise ValueError.
            restarts: how often an actor is made again after its death (see `actor`).
            keep: what `submit` returns stays on the node that made it, however small. The future's `result()`
                fetches it; given to another call it goes as a name, and the call goes to the data. If its
                nodes die it is made again from its call, as long as the future or a call needs it. Not for
                actors and for other methods than `submit`.
            output: where what tasks print goes (`print`, `logging`, their child processes): "caller": to standard
                error of this program, each line with its node and item; "node": to the standard files of
                the node that runs them; "none": nowhere. Default: "caller" if standard error of this program
                is a terminal, or in a notebook; "node" otherwise. With "caller" the last 16 KiB go with an item's
                failure (`task_output` of its exception), too. Of too many lines the first are shown,
                and how many are missing.

        Raises TypeError and ValueError for settings without sense.
        """
        options = Options(
            name, priority, retries, timeout, progress, durable, chunksize,
            module_names(ship), module_names(no_ship, "no_ship"),
            report,  # type: ignore[arg-type]  # a path is moved elsewhere there
            max_parallel, checked_resources(resources),
            retry_on,  # type: ignore[arg-type]  # checked there
            speculate,
            restarts,
            keep,
            self._output if output is None else output,  # type: ignore[arg-type]  # checked there
        )  # fmt: skip
        return MeshView(self, options)

    # ------------------------------------------------------------ looking

    @property
    def address(self) -> str:
        """Where others may join this mesh (`tcp://host:port`). Raises MeshClosed after shutdown."""
        self._link.must_work()
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
        """The path of the key with which others may join this mesh. The file of a local mesh, or of one
        that was joined by a token, is deleted at shutdown; after that this raises MeshClosed."""
        if self._key_path:
            return self._key_path
        self._submitted.must_be_ours()
        return self._life.key_file()

    @property
    def looking(self) -> Looking:
        """Looks at single jobs and workers (`stealmesh explain` and `stacks`)."""
        return self._link.looking

    def status(self) -> dict[str, Any]:
        """A plain-data snapshot of nodes, jobs and counters, the same as `stealmesh status --json`.

        Raises TimeoutError when no answer comes within 5 s, MeshClosed after shutdown.
        """
        return self._link.status()

    # ------------------------------------------------------------ ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the standard library's: no more submissions; wait for what is pending, or let it
        finish in the background; `cancel_futures` cancels what has not started. Idempotent.

        A `map` is computed to the end of its input, or as far as its `buffersize` allows; its iterator
        still yields what was computed. With `cancel_futures` it raises CancelledError.
        """
        self._shut_down(wait, cancel_futures, hurried=False)

    def _shut_down(self, wait: bool, cancel_futures: bool, *, hurried: bool) -> None:
        first = self._submitted.close()
        if cancel_futures:
            self._submitted.cancel_pending(self._max_workers)
        if wait:
            self._life.finish(hurried=hurried)
        elif first:
            self._life.finish_later()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._abandon()  # after Ctrl-C no one waits for the results
        self._shut_down(True, False, hurried=kind is not None)

    async def __aenter__(self) -> Mesh:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        import asyncio  # 25 ms that most programs can spare

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self.__exit__(kind, error, trace))

    def __repr__(self) -> str:
        state = "closed" if self._submitted.closed else "open"
        key = f"key {self._key.fingerprint()}"
        return f"<stealmesh.Mesh {state}, {self._max_workers} workers, {key}>"

    def _repr_html_(self) -> str:
        """For notebooks: what this program knows of it."""
        from stealmesh.notebook import looks

        return looks.html_of(looks.mesh, self)

    # ------------------------------------------------------------ inside

    def _await_nodes(self, count: int) -> None:
        """Wait until all nodes of a local mesh are there, for at most JOIN_SECONDS_MAX."""
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        while time.monotonic() < deadline:
            if len(self._link.ask_status().result(timeout=5.0)) > count:  # and this client
                return
            time.sleep(0.002)

    def _abandon(self) -> None:
        """Drop everything that is pending."""
        self._link.await_output()
        self._submitted.close_at_once()
        self._life.close(MeshClosed("this mesh was left in a hurry"))

    def end_with_program(self) -> None:
        """The program ends and has not called `shutdown` (see `host/lifetime.py`)."""
        self._shut_down(True, False, hurried=True)

    def disown(self, error: MeshClosed) -> None:
        """This process was forked from the program that the mesh belongs to (see `host/lifetime.py`)."""
        self._submitted.disown(error)
