"""A node process: workers first, then sockets, then the loop until it is told to leave.

The order matters. The worker pool starts its fork server before libzmq and its threads exist; it
boots while this process is still importing them.

First SIGTERM or SIGINT: drain (hand queued work back, finish what runs, say goodbye, exit
status 0). Second: at once. A node started by a program for itself (`parent_fd`) also ends
when that program does, however it ends (see parent.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from stealmesh.host import parent
from stealmesh.host.heap import keep_freed_memory
from stealmesh.host.hideout import hideout
from stealmesh.host.interpreter import cannot_start, fill_standard_files, fresh_signals, hash_seed
from stealmesh.host.refusals import refusal
from stealmesh.host.saying import say
from stealmesh.host.terminal import Terminal
from stealmesh.values import room
from stealmesh.workers import wire
from stealmesh.workers.pool import WorkerPool
from stealmesh_engine import effects as fx
from stealmesh_engine.config import Config
from stealmesh_engine.events import BarTokens, Drain, Event, Join
from stealmesh_protocol.data_only import RUNTIME as DATA_ONLY
from stealmesh_protocol.errors import JoinRefused, MeshError

if TYPE_CHECKING:
    from stealmesh.host.driver import Driver
    from stealmesh.host.security import MeshKey
    from stealmesh.store import Log
    from stealmesh_engine.core import NodeCore
    from stealmesh_protocol.messages import Member

EXIT_WORKERS_BROKEN = 1
EXIT_LOG_FAILED = 1
EXIT_CANNOT_START = 1
EXIT_JOIN_FAILED = 3


@dataclass
class NodeOptions:
    """Everything that a node is started with."""

    seeds: list[str] = field(default_factory=list)
    listen: str = "tcp://127.0.0.1:0"
    advertise: list[str] = field(default_factory=list)
    workers: int = 1
    threads: int = 1
    name: str = ""
    role: str = "auto"
    """auto: a supernode if the mesh wants one; super: always; plain: never."""
    key: bytes | None = None
    """The mesh key, packed; None: no encryption (`--insecure`)."""
    insecure_public: bool = False
    memory_limit_bytes: int | None = None
    initializer: bytes | None = None
    code: bytes | None = None
    """The bundle of the program's modules that the initializer needs."""
    import_paths: list[str] = field(default_factory=list)
    authkey: bytes | None = None
    """The program's key of multiprocessing: workers talk to its managers with it."""
    max_tasks_per_child: int = 0
    """A worker process is replaced after this number of tasks; 0: never."""
    parent_fd: int | None = None
    """Write one line of JSON here when listening; end when the other side closes it."""
    parent_pid: int | None = None
    """Our parent process, if we belong to it: end when it does."""
    join_or_exit: bool = False
    """Give up (exit status 3) when no seed lets us in, instead of trying for ever."""
    join_seconds_max: float | None = None
    """The same after this time of trying; None: try for ever."""
    peer_cache: Path | None = None
    """Where peers are remembered for the next life; None: nowhere."""
    config: Config = field(default_factory=Config)
    runtime: str = ""
    """For tests: the Python that this node claims to run; empty: its own."""
    functions: list[str] = field(default_factory=list)
    """Data-only mode: the modules whose functions it runs by name. Empty: it runs what programs send."""
    resources: dict[str, int] = field(default_factory=dict)
    """What it has beside its workers, as it declares it."""
    says: bool = False
    """Somebody reads its standard error: it says who comes and goes there."""
    state: str = ""
    """Directory of the log of durable jobs; empty: they are kept in memory only."""
    page: str = ""
    """HOST:PORT of the page that this node serves; empty: none."""

    def runs(self) -> str:
        """What it tells others that it runs."""
        from stealmesh.host.identity import runtime

        return DATA_ONLY if self.functions else self.runtime or runtime()


class NodeProgram:
    """What surrounds a node besides sockets and workers: its parent, and its exit status."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self.exit_status: int | None = None
        self.stop: Any = lambda: None
        self._terminal = Terminal()
        self.orphaned = False
        self.fds: frozenset[int] = frozenset()
        """Those that tell of the end of its parent."""
        self._joined = False
        self._refusal: JoinRefused | None = None

    def has_wishes(self) -> bool:
        return False

    def pull(self) -> list[Event]:
        return []

    def ready(self, fd: int) -> None:
        """The parent's socket or process: any sign means that it is gone or wants us gone."""
        del fd
        self.orphan()

    def orphan(self) -> None:
        """The parent is gone: end (from any thread)."""
        self.orphaned = True
        self.exit_status = 0
        self.stop()

    def workers_broken(self, why: str) -> None:
        """Without workers this node is of no use: end it, and tell the parent why."""
        if self.exit_status is not None:
            return
        say(f"the workers cannot start: {why}")
        if self._options.parent_fd is not None:
            parent.tell(self._options.parent_fd, broken=why)
        self.exit_status = EXIT_WORKERS_BROKEN
        self.stop()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, fx.Left):
            self.exit_status = 0
            self.stop()
        elif isinstance(effect, fx.JoinFailed):
            self._refusal = refusal(effect)
            going_on = "" if self._options.join_or_exit else "; trying on"
            say(f"could not join: {self._refusal}{going_on}")
            if self._options.join_or_exit:
                self.exit_status = EXIT_JOIN_FAILED
                self.stop()
        elif isinstance(effect, fx.Joined):
            self._joined = True
        elif isinstance(effect, fx.OtherRuntime):
            ours = self._options.runs()
            modes = DATA_ONLY in (ours, effect.runtime)
            programs = "for that kind of node" if modes else "with that Python"
            say(
                f"this node runs {ours}, {effect.name} runs {effect.runtime}: programs {programs} "
                "get nothing run here"
            )
        elif isinstance(effect, fx.WorthSaying) and self._options.says:
            self._terminal.tell(effect.entry, time.monotonic())
        # A node owns no jobs, so the effects of owners do not concern it.

    def log_failed(self, error: OSError) -> None:
        """The log has failed: end, so that other nodes keep the jobs (called by the log's thread)."""
        del error
        self.exit_status = EXIT_LOG_FAILED
        self.stop()

    def give_up_joining(self) -> None:
        """The time for joining is over (called by another thread)."""
        if self._joined:
            return
        why = self._refusal or JoinRefused("no-answer", "no seed has answered")
        seconds = self._options.join_seconds_max
        say(f"could not join within {seconds:g} s: {why}")
        self.exit_status = EXIT_JOIN_FAILED
        self.stop()


def run_node(options: NodeOptions) -> int:
    """Be a node until told to leave. Returns the process's exit status."""
    options.config = room.resolved(options.config, options.state)
    if options.state:
        from stealmesh.store import bounds

        options.config = bounds.fitting(options.config, options.state, say)
    pool = _started_pool(options)
    keep_freed_memory()  # workers come from a process that began before
    try:
        with hideout() as socket_path, _log(options) as log:
            return _serve(options, pool, socket_path, log)
    finally:
        pool.close()


def _started_pool(options: NodeOptions) -> WorkerPool:
    pool: WorkerPool | None = None
    try:
        pool = WorkerPool(
            options.workers,
            threads=options.threads,
            memory_limit_bytes=options.memory_limit_bytes,
            initializer=options.initializer,
            import_paths=options.import_paths,
            hash_seed=_hash_seed(options),
            node_name=options.name,
            code=options.code or b"",
            authkey=options.authkey,
            tasks_max=options.max_tasks_per_child,
            functions=options.functions,
            say=say,
        )
        pool.shelf.room = room.Room.of(options.config, options.state)
        pool.start(time.monotonic())
    except OSError as error:
        if pool is not None:
            pool.close()
        raise cannot_start("a node's workers", error) from None
    return pool


def _serve(options: NodeOptions, pool: WorkerPool, socket_path: str | None, log: Log | None) -> int:
    # Late on purpose: the fork server exists before libzmq's threads do.
    from stealmesh.host.driver import Driver
    from stealmesh.host.identity import new_life, new_member, new_rng, wall_offset
    from stealmesh.host.issuing import WORKERS_NAME, issued, pass_secrets
    from stealmesh.host.kernel import close_to_others
    from stealmesh.host.security import MeshKey
    from stealmesh.transport import Transport
    from stealmesh_engine.core import NodeCore
    from stealmesh_protocol.messages import Role
    from stealmesh_protocol.passes import KeyRole, TokenSecrets

    key = None if options.key is None else MeshKey.unpacked(options.key)
    if key is not None:
        close_to_others()
    epoll = select.epoll()
    transport = Transport(
        key,
        [*([f"ipc://{socket_path}"] if socket_path else []), options.listen],
        epoll=epoll,
        insecure_public=options.insecure_public,
    )
    try:
        endpoints = _advertised(transport.endpoints, options.advertise)
        if key is not None and not options.functions:
            # What runs in workers submits as a guest: it has no business with the mesh key.
            theirs = issued(key, KeyRole.SUBMIT, WORKERS_NAME)
            pool.inside.door = wire.pack([endpoints[:1], theirs.packed()])
        role = Role.SUPER if options.role == "super" else Role.PLAIN
        life, proof = new_life()
        member = new_member(
            role,
            options.name,
            endpoints,
            options.workers,
            eligible=options.role == "auto",
            runs=options.runs(),
            resources=tuple(sorted(options.resources.items())),
            life=life,
        )
        core = NodeCore(
            member,
            config=options.config,
            rng=new_rng(),
            mesh=key.mesh_id() if key is not None else b"insecure",
            runtime=options.runs(),
            wall_offset=wall_offset(),
            threads=options.threads,
            tokens=TokenSecrets(proof, () if key is None else pass_secrets(key)),
        )
        program = NodeProgram(options)
        driver = Driver(core, transport, epoll, program, pool, log)
        program.stop = driver.stop
        driver.machine.state = options.state
        if log is not None:
            log.on_failure = program.log_failed
            driver.post(log.recall())
            _remember_revoked(driver, Path(options.state), key)
        with (
            _signals(driver),
            _parent(options, epoll, endpoints, program),
            _join_deadline(program, options),
            _peers_remembered(options, driver) as remembered,
            _page(options, driver, key, endpoints),
        ):
            driver.post(Join(options.seeds, remembered))
            driver.run()
        return program.exit_status or 0
    finally:
        transport.close()
        epoll.close()


def _remember_revoked(driver: Driver, directory: Path, key: MeshKey | None) -> None:
    """Tell the core which tokens were revoked in an earlier life, and keep the names for the next."""
    from stealmesh.host.issuing import pass_secrets
    from stealmesh.store.revoked import RevokedFile

    if key is None:
        return
    file = RevokedFile(directory, pass_secrets(key))
    names = file.load()

    def keep(names: list[str]) -> None:
        try:
            file.save(names)
            driver.remembers = True
        except OSError as error:
            driver.remembers = False
            say(
                f"cannot keep the names of revoked tokens in {file.path} ({error.strerror}): make room there"
            )

    driver.keep_barred, driver.remembers = keep, True
    if names:
        driver.post(BarTokens(names))


@contextlib.contextmanager
def _log(options: NodeOptions) -> Iterator[Log | None]:
    """The log of durable jobs, if this node keeps one."""
    if not options.state:
        yield None
        return
    from stealmesh.host.security import MeshKey
    from stealmesh.store import Log

    key = options.key
    log = Log(Path(options.state), *([] if key is None else [MeshKey.unpacked(key).mesh_id()]))
    try:
        yield log
    finally:
        log.close()


def _advertised(bound: list[str], advertise: list[str]) -> list[str]:
    """Where others should dial us: local sockets as bound, network addresses as told, or those of our
    interfaces, if we listen at all of them."""
    from stealmesh.host.interfaces import reachable_at

    local = [endpoint for endpoint in bound if endpoint.startswith("ipc://")]
    network = [endpoint for endpoint in bound if not endpoint.startswith("ipc://")]
    return local + (advertise or [each for endpoint in network for each in reachable_at(endpoint)])


@contextlib.contextmanager
def _signals(driver: Any) -> Iterator[None]:
    """First signal: drain. Second: now."""
    received: list[int] = []

    def heard(number: int, frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            driver.post(Drain())
        else:
            driver.stop()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _join_deadline(program: NodeProgram, options: NodeOptions) -> Iterator[None]:
    """Give up on seeds that do not let us in for too long."""
    if options.join_seconds_max is None:
        yield
        return
    timer = threading.Timer(options.join_seconds_max, program.give_up_joining)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _peers_remembered(options: NodeOptions, driver: Any) -> Iterator[list[str]]:
    """Yields the peers that an earlier life knew, and remembers ours for the next life."""
    if options.peer_cache is None:
        yield []
        return
    from stealmesh.host.lonely import Lonely
    from stealmesh.host.peer_cache import PeerCache, addresses_of, all_addresses, kept
    from stealmesh.host.security import MeshKey

    cache, chance = PeerCache(options.peer_cache), Random()

    def living() -> list[str]:
        def look(core: NodeCore) -> list[Member]:
            core.counters.update(cache.refused)
            return [core.view.members[peer] for peer in core.view.nodes()]

        return addresses_of(driver.consult(look), driver.core.me, chance)

    own = driver.core.me.endpoints
    known = dict.fromkeys(cache.load())
    if not options.seeds and options.key is not None:
        # It listened elsewhere when it was told where its mesh is.
        known |= dict.fromkeys(all_addresses(MeshKey.unpacked(options.key).mesh_mark()))
    remembered = [address for address in known if address not in own]
    driver.core.counters.update(cache.refused)
    lonely = Lonely([] if options.seeds else remembered, say)
    with kept(cache, living, lambda found: lonely.looked(found, time.monotonic())):
        yield remembered


@contextlib.contextmanager
def _page(
    options: NodeOptions, driver: Driver, key: MeshKey | None, endpoints: list[str]
) -> Iterator[None]:
    """The process that serves this node's page, if it is to have one."""
    if not options.page or key is None:
        yield
        return
    from stealmesh.host.page_process import page_beside

    def told(url: str) -> None:
        driver.page = url

    with page_beside(options.page, driver.core.me.name, key, endpoints, told):
        yield


@contextlib.contextmanager
def _parent(
    options: NodeOptions, epoll: select.epoll, endpoints: list[str], program: NodeProgram
) -> Iterator[None]:
    """Tell the parent where we listen, and watch for its end."""
    fd = options.parent_fd
    if fd is None:
        yield
        return
    parent.tell(fd, endpoints=endpoints, pid=os.getpid())
    with parent.watched(epoll, fd, options.parent_pid, program.orphan) as program.fds:
        yield


def _hash_seed(options: NodeOptions) -> int:
    """The workers' hash seed: while the mesh key is changed, that of the old one. Without a key nothing is secret,
    so it is 0."""
    from stealmesh.host.security import MeshKey

    if options.key is None:
        return 0
    key = MeshKey.unpacked(options.key)
    return hash_seed((key.before() or key).derive)


def main(parent_fd: int) -> int:
    """A node for a program: its options come as pickle-free JSON on the parent's socket."""
    fresh_signals()
    fill_standard_files()
    with os.fdopen(os.dup(parent_fd), "r", encoding="utf-8") as lines:
        line = lines.readline()
    if not line:
        return 0  # the program ended before it had told us anything
    told = json.loads(line)
    config = Config(**told.pop("config"))
    for name in ("key", "initializer", "code", "authkey"):
        told[name] = None if told[name] is None else bytes.fromhex(told[name])
    try:
        return run_node(NodeOptions(**told, parent_fd=parent_fd, config=config))
    except MeshError as error:  # it says what to do, and the program says it to its user
        parent.tell(parent_fd, broken=str(error))
        return EXIT_CANNOT_START
