"""A local mesh: node processes that belong to one program, kept alive and taken down with it.

Starts `nodes` processes, each with its own worker processes, and starts a new one in place of
one that dies, so that a program on its own machine never runs out of mesh. The nodes hold
the other end of a socket, and know this process: when it ends, however it ends, they end.

A forked child of the program has no nodes: `disown` lets go of them there, and touches none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stealmesh.host import interpreter
from stealmesh.host.hideout import sweep
from stealmesh.host.node import NodeOptions
from stealmesh.host.restarts import Restarts
from stealmesh_protocol.errors import CannotStart, MeshError

START_SECONDS_MAX = 30.0
QUICK_DEATH_SECONDS = 1.0
STOP_SECONDS = 3.0
HUNG_UP_SECONDS = 1.0
"""How long a node may take to end after it has closed its socket to us."""


@dataclass
class LocalNode:
    process: subprocess.Popen[bytes]
    wire: socket.socket
    started: float
    endpoints: list[str]
    too_slow: bool = False
    """We killed it because it did not come up."""


class LocalMesh:
    """The node processes of one program. `on_new_node(endpoints)` is called for each replacement."""

    def __init__(
        self,
        count: int,
        options: NodeOptions,
        on_new_node: Callable[[list[str]], None],
        on_broken: Callable[[str], None],
        *,
        respawn: bool = True,
    ) -> None:
        self._options = options
        self._on_new_node = on_new_node
        self._on_broken = on_broken
        self._respawn = respawn
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._nodes: list[LocalNode | None] = [None] * count
        self._start_path = interpreter.start_path(options.import_paths)
        self._keepers = [
            threading.Thread(
                target=self._keep, args=(number,), name=f"stealmesh-keep-{number}", daemon=True
            )
            for number in range(count)
        ]
        started: list[LocalNode] = []
        try:
            started.extend(self._launch(number) for number in range(count))
            for number, node in enumerate(started):
                self._nodes[number] = self._ready(node, time.monotonic() + START_SECONDS_MAX)
            for keeper in self._keepers:
                keeper.start()
        except BaseException:
            self._closing.set()
            for node in started:
                node.process.kill()
                node.process.wait()
                node.wire.close()
            sweep()
            raise

    def endpoints(self) -> list[list[str]]:
        """Where each living node listens."""
        return [node.endpoints for node in self._nodes if node is not None]

    def pids(self) -> list[int]:
        return [node.process.pid for node in self._nodes if node is not None]

    def close(self) -> None:
        """End all nodes and wait until they and their workers are gone."""
        self._closing.set()
        with self._lock:
            nodes = [node for node in self._nodes if node is not None]
            for node in nodes:
                _hang_up(node.wire)
        deadline = time.monotonic() + STOP_SECONDS
        for node in nodes:
            try:
                node.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
                sweep()
        for keeper in self._keepers:
            keeper.join()

    def disown(self) -> None:
        """In a forked child: let go of nodes that are the parent's. They notice nothing."""
        self._closing.set()
        for node in self._nodes:
            if node is not None:
                node.wire.close()
                node.process.returncode = 0  # not our child: never polled, waited for or killed
        self._nodes = []

    # ------------------------------------------------------------ inside

    def _launch(self, number: int) -> LocalNode:
        try:
            ours, theirs = socket.socketpair()
            with interpreter.above_standard_files(theirs) as theirs:
                process = self._start(ours, theirs.fileno())
        except OSError as error:
            raise interpreter.cannot_start("a local node", error) from None
        told = dataclasses.asdict(self._options)
        told.pop("parent_fd")
        told["parent_pid"] = os.getpid()
        told["name"] = f"local-{number}" if not told["name"] else f"{told['name']}-{number}"
        told["seeds"] = [each.endpoints[0] for each in self._nodes if each and each.endpoints]
        told["authkey"] = _authkey()
        for name in ("key", "initializer", "code", "authkey"):
            told[name] = None if told[name] is None else told[name].hex()
        # A node that has died already is found out by its missing answer.
        with contextlib.suppress(ConnectionError):
            ours.sendall((json.dumps(told) + "\n").encode())
        return LocalNode(process, ours, time.monotonic(), [])

    def _start(self, ours: socket.socket, theirs: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                interpreter.command(self._start_path, "stealmesh.host.node:main", theirs),
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is the program's to handle
            )
        except BaseException:
            ours.close()
            raise

    def _ready(self, node: LocalNode, deadline: float) -> LocalNode:
        """Wait for the node's one line."""
        node.wire.settimeout(max(0.1, deadline - time.monotonic()))
        line = b""
        try:
            while not line.endswith(b"\n"):
                piece = node.wire.recv(4096)
                if not piece:
                    break
                line += piece
        except TimeoutError:
            pass
        if not line.endswith(b"\n"):
            status = _end(node)
            raise CannotStart(
                f"a local node did not start (exit status {status}); its own words are above"
            )
        told = json.loads(line)
        if "broken" in told:
            node.process.wait()
            raise CannotStart(told["broken"])
        node.wire.settimeout(None)
        node.endpoints = told["endpoints"]
        return node

    def _keep(self, number: int) -> None:
        """Wait for the node's end; replace it unless the program is ending."""
        restarts = Restarts(time.monotonic())
        while True:
            node = self._nodes[number]
            assert node is not None
            node.process.wait()
            last_words = _last_words(node.wire)
            if last_words:
                self._on_broken(last_words)
                return
            hopeless = _has_died(node, restarts, time.monotonic())
            if self._closing.is_set() or not self._respawn:
                return
            if hopeless:
                self._on_broken(f"local node {number} dies as soon as it is started")
                return
            with self._lock:
                if self._closing.is_set():
                    return
                node.wire.close()
                self._nodes[number] = None
                self._nodes[number] = fresh = self._launch(number)
            try:
                self._ready(fresh, time.monotonic() + START_SECONDS_MAX)
            except (MeshError, OSError):
                continue  # dead already: its wait() returns at once and counts as a quick death
            self._on_new_node(fresh.endpoints)


def _has_died(node: LocalNode, restarts: Restarts, now: float) -> bool:
    """True: do not start another one."""
    killed = node.process.returncode == -signal.SIGKILL
    if node.endpoints and (killed or now - node.started >= QUICK_DEATH_SECONDS):
        restarts.well(now)
    return restarts.died(None if node.too_slow else node.process.returncode, now)


def _end(node: LocalNode) -> int:
    """Wait for a node that has hung up, and kill one that has not. Returns its exit status."""
    try:
        return node.process.wait(HUNG_UP_SECONDS)
    except subprocess.TimeoutExpired:
        node.too_slow = True
        node.process.kill()
        return node.process.wait()


def _authkey() -> bytes:
    """The key by which this program's managers (`multiprocessing.Manager`) know their clients. Called while
    the node boots, as the import takes 7 ms."""
    from multiprocessing.process import current_process

    return bytes(current_process().authkey)


def _last_words(wire: socket.socket) -> str:
    """Why the node ended, if it said so."""
    try:
        wire.settimeout(0)
        line = wire.recv(1 << 20)
        return str(json.loads(line).get("broken", "")) if line else ""
    except (OSError, ValueError):
        return ""


def _hang_up(wire: socket.socket) -> None:
    """Closing our descriptor is not enough: a child that the program forked may hold another one."""
    with contextlib.suppress(OSError):  # the node has hung up first
        wire.shutdown(socket.SHUT_RDWR)
    wire.close()
