"""A node process: workers first, then sockets, then the loop until it is told to leave.

The order matters. The worker pool's nursery is started before libzmq and its threads exist,
and boots while this process is still importing them.

First SIGTERM or SIGINT: drain (hand queued work back, finish what runs, say goodbye, exit
status 0). Second: at once. A node started by a program for itself (`parent_fd`) also ends
when that program does, however it ends: its pipe closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from stealmesh.refusals import refusal
from stealmesh.workers.pool import WorkerPool
from stealmesh_engine import effects as fx
from stealmesh_engine.config import Config
from stealmesh_engine.events import Drain, Event, Join
from stealmesh_protocol.errors import JoinRefused

if TYPE_CHECKING:
    from stealmesh.store import Log
    from stealmesh_engine.core import NodeCore
    from stealmesh_protocol.messages import Member

EXIT_WORKERS_BROKEN = 1
EXIT_LOG_FAILED = 1
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
    """The mesh key's octets; None: no encryption (`--insecure`)."""
    insecure_public: bool = False
    memory_limit_bytes: int | None = None
    initializer: bytes | None = None
    import_paths: list[str] = field(default_factory=list)
    authkey: bytes | None = None
    """The program's key of multiprocessing: workers talk to its managers with it."""
    max_tasks_per_child: int = 0
    """A worker process is replaced after so many tasks; 0: never."""
    parent_fd: int | None = None
    """Write one line of JSON here when listening; end when the other side closes it."""
    join_or_exit: bool = False
    """Give up (exit status 3) when no seed lets us in, instead of trying for ever."""
    join_seconds_max: float | None = None
    """Likewise, but keep trying for so long; None: for ever."""
    peer_cache: Path | None = None
    """Where peers are remembered for the next life; None: nowhere."""
    config: Config = field(default_factory=Config)
    state: str = ""
    """Directory of the log of durable jobs; empty: they are kept in memory only."""


class NodeProgram:
    """What a node needs of the world besides sockets and workers: its parent, and an exit status."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self.exit_status: int | None = None
        self.stop: Any = lambda: None
        self.orphaned = False
        self._joined = False
        self._refusal: JoinRefused | None = None

    def has_wishes(self) -> bool:
        return False

    def pull(self) -> list[Event]:
        return []

    def ready(self, fd: int) -> None:
        """The parent's pipe: anything on it means that the parent is gone or wants us gone."""
        del fd
        self.orphaned = True
        self.exit_status = 0
        self.stop()

    def workers_broken(self, why: str) -> None:
        """A node whose workers cannot start is of no use, and its parent should hear why."""
        if self.exit_status is not None:
            return
        print(f"stealmesh: the workers cannot start: {why}", file=sys.stderr)
        if self._options.parent_fd is not None:
            os.write(self._options.parent_fd, (json.dumps({"broken": why}) + "\n").encode())
        self.exit_status = EXIT_WORKERS_BROKEN
        self.stop()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, fx.Left):
            self.exit_status = 0
            self.stop()
        elif isinstance(effect, fx.JoinFailed):
            self._refusal = refusal(effect)
            going_on = "" if self._options.join_or_exit else "; trying on"
            print(
                f"stealmesh: could not join: {self._refusal}{going_on}", file=sys.stderr, flush=True
            )
            if self._options.join_or_exit:
                self.exit_status = EXIT_JOIN_FAILED
                self.stop()
        elif isinstance(effect, fx.Joined):
            self._joined = True
        # The effects of owners concern nobody here: a node owns no jobs.

    def log_failed(self, error: OSError) -> None:
        """Nothing more can be kept safely here, so others must (called by the log's thread)."""
        del error
        self.exit_status = EXIT_LOG_FAILED
        self.stop()

    def give_up_joining(self) -> None:
        """The time for joining is over (called by another thread)."""
        if self._joined:
            return
        why = self._refusal or JoinRefused("no-answer", "no seed has answered")
        seconds = self._options.join_seconds_max
        print(f"stealmesh: could not join within {seconds:g} s: {why}", file=sys.stderr, flush=True)
        self.exit_status = EXIT_JOIN_FAILED
        self.stop()


def run_node(options: NodeOptions) -> int:
    """Be a node until told to leave. Returns the process's exit status."""
    pool = WorkerPool(
        options.workers,
        memory_limit_bytes=options.memory_limit_bytes,
        initializer=options.initializer,
        import_paths=options.import_paths,
        authkey=options.authkey,
        tasks_max=options.max_tasks_per_child,
        node_name=options.name,
    )
    pool.start(time.monotonic())
    try:
        with _private_directory() as directory, _log(options) as log:
            return _serve(options, pool, directory, log)
    finally:
        pool.close()


def _serve(options: NodeOptions, pool: WorkerPool, directory: str, log: Log | None) -> int:
    # Late on purpose: the nursery exists before libzmq's threads do.
    from stealmesh.driver import Driver
    from stealmesh.identity import new_member, new_rng, runtime
    from stealmesh.security import MeshKey
    from stealmesh.transport import Transport
    from stealmesh_engine.core import NodeCore
    from stealmesh_protocol.messages import Role

    key = None if options.key is None else MeshKey(options.key)
    epoll = select.epoll()
    transport = Transport(
        key,
        [f"ipc://{directory}/inbox", options.listen],
        epoll=epoll,
        insecure_public=options.insecure_public,
    )
    try:
        endpoints = _advertised(transport.endpoints, options.advertise)
        role = Role.SUPER if options.role == "super" else Role.PLAIN
        member = new_member(
            role, options.name, endpoints, options.workers, eligible=options.role == "auto"
        )
        core = NodeCore(
            member,
            config=options.config,
            rng=new_rng(),
            mesh=key.mesh_id() if key is not None else b"insecure",
            runtime=runtime(),
        )
        program = NodeProgram(options)
        driver = Driver(core, transport, epoll, program, pool, log)
        program.stop = driver.stop
        if log is not None:
            log.on_failure = program.log_failed
            driver.post(log.recall())
        with (
            _signals(driver),
            _parent(options, epoll, endpoints),
            _join_deadline(program, options),
            _peers_remembered(options, driver) as remembered,
        ):
            driver.post(Join(options.seeds, remembered))
            driver.run()
        return program.exit_status or 0
    finally:
        transport.close()
        epoll.close()


@contextlib.contextmanager
def _log(options: NodeOptions) -> Iterator[Log | None]:
    """The log of durable jobs, if there is to be one."""
    if not options.state:
        yield None
        return
    from stealmesh.store import Log

    log = Log(Path(options.state))
    try:
        yield log
    finally:
        log.close()


def _advertised(bound: list[str], advertise: list[str]) -> list[str]:
    """Where others should dial us: local sockets as bound, network addresses as told or as bound."""
    local = [endpoint for endpoint in bound if endpoint.startswith("ipc://")]
    network = [endpoint for endpoint in bound if not endpoint.startswith("ipc://")]
    return local + (advertise or [_reachable(endpoint) for endpoint in network])


def _reachable(endpoint: str) -> str:
    """A wildcard address is no address: name this host instead."""
    import socket

    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if host not in ("0.0.0.0", "[::]", "*"):
        return endpoint
    return f"tcp://{socket.gethostbyname(socket.gethostname())}:{port}"


@contextlib.contextmanager
def _private_directory() -> Iterator[str]:
    """Where the local socket lives: for this user only, named after this process."""
    _sweep()
    directory = tempfile.mkdtemp(prefix=f"stealmesh-{os.getpid()}-")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sweep() -> None:
    """Remove what nodes of this user left behind that were killed."""
    for left in Path(tempfile.gettempdir()).glob("stealmesh-*-*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(left.name.split("-")[1])
            if left.stat().st_uid == os.getuid() and not _is_running(pid):
                shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    return True


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
    """What an earlier life knew; and see to it that the next one will know what we do."""
    if options.peer_cache is None:
        yield []
        return
    from stealmesh.peercache import PeerCache, addresses_of, kept

    cache, chance = PeerCache(options.peer_cache), Random()

    def living() -> list[str]:
        def look(core: NodeCore) -> list[Member]:
            core.counters.update(cache.refused)
            return [core.view.members[peer] for peer in core.view.nodes()]

        return addresses_of(driver.consult(look), driver.core.me, chance)

    own = driver.core.me.endpoints
    remembered = [address for address in cache.load() if address not in own]
    driver.core.counters.update(cache.refused)
    with kept(cache, living):
        yield remembered


@contextlib.contextmanager
def _parent(options: NodeOptions, epoll: select.epoll, endpoints: list[str]) -> Iterator[None]:
    """Tell the parent where we listen, and watch for its end."""
    fd = options.parent_fd
    if fd is None:
        yield
        return
    line = json.dumps({"endpoints": endpoints, "pid": os.getpid()}) + "\n"
    os.write(fd, line.encode())
    epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
    try:
        yield
    finally:
        epoll.unregister(fd)


def main() -> int:
    """A node for a program: its options come as pickle-free JSON on the parent's socket."""
    fd = int(sys.argv[1])
    with os.fdopen(os.dup(fd), "r", encoding="utf-8") as parent:
        line = parent.readline()
    if not line:
        return 0  # the program ended before it had told us anything
    told = json.loads(line)
    config = Config(**told.pop("config"))
    for name in ("key", "initializer", "authkey"):
        told[name] = None if told[name] is None else bytes.fromhex(told[name])
    return run_node(NodeOptions(**told, parent_fd=fd, config=config))


if __name__ == "__main__":
    sys.exit(main())
