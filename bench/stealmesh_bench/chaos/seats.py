"""Seats for node processes: lives come and go, the address stays, and no process is left behind.

Starts, kills, pauses and drains node processes, and knows which ends it has caused. Every
process is ended by its id in `close`, in any state. If its owner is killed, too,
nodes see the end of their socket; those that stand still are woken and hung up by the kernel,
because their process group is then an orphan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stealmesh.host.node import NodeOptions
from stealmesh.store.logfile import FILE as LOG_FILE
from stealmesh_bench.chaos.proxied import ProxyProcess
from stealmesh_bench.paths import python_path

LOOPBACK = "127.0.0.1"
PORTS = range(18000, 32000)
"""Below the ports that the kernel gives to callers."""
READY_SECONDS_MAX = 60.0
STOP_SECONDS = 4.0
WORDS_MAX = 4000


class NodeFailed(Exception):
    """A node process did not do what it should; says which and how."""


@dataclass
class NodeLife:
    """One process life."""

    number: int
    process: subprocess.Popen[bytes]
    wire: socket.socket
    ready_at: float | None = None
    ended_at: float | None = None
    """When we ended it."""
    draining: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid


class Seats:
    """One seat for each node of the mesh. `directory` takes logs and local sockets and, with `disks`, what
    each node keeps for its next life."""

    def __init__(
        self, count: int, key: bytes, directory: str, *, proxied: bool, disks: bool = False
    ) -> None:
        self.lives: list[NodeLife] = []
        """Every life there ever was, in the order of their starts."""
        self.seats: list[NodeLife | None] = [None] * count
        self.glimpses = os.path.join(directory, "glimpses")
        self.words = os.path.join(directory, "words")
        """What nodes say on standard error."""
        for path in (self.glimpses, self.words):
            open(path, "xb").close()
        self._key = key
        self._states = os.path.join(directory, "state") if disks else ""
        self._lock = threading.Lock()
        self._inboxes = _free_ports(count)
        self._readers: list[threading.Thread] = []
        self.failures: list[str] = []
        """Lives that did not start."""
        self.accidents: dict[int, str] = {}
        """Process id → how it ended before we ended it."""
        self._may_end: set[int] = set()
        self._closing = False
        self.proxy: ProxyProcess | None = None
        self._ports = self._inboxes
        if proxied:
            self.proxy = ProxyProcess({**os.environ, "PYTHONPATH": python_path()})
            try:
                self._ports = [
                    self.proxy.tell("door", node=number, inbox=inbox)
                    for number, inbox in enumerate(self._inboxes)
                ]
            except BaseException:
                self.proxy.close()
                raise

    def address(self, number: int) -> str:
        return f"tcp://{LOOPBACK}:{self._ports[number]}"

    # ------------------------------------------------------------ lives

    def start(self, number: int, seeds: list[int]) -> NodeLife:
        """A new life; it is ready a little later (`wait_ready`)."""
        ours, theirs = socket.socketpair()
        host = f"chaos-{number}"
        with self._lock, theirs, open(self.words, "ab") as words:
            if self._closing:
                ours.close()
                raise NodeFailed("the mesh is being taken down")
            process = subprocess.Popen(
                [sys.executable, "-m", "stealmesh_bench.chaos.node",
                 str(theirs.fileno()), host, self.glimpses],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=words,
                # Not a session of its own: see above. Ctrl-C is ours to handle all the same.
                process_group=0,
                env={**os.environ, "PYTHONPATH": python_path()},
            )  # fmt: skip
            life = NodeLife(number, process, ours)
            self.lives.append(life)
            self.seats[number] = life
        if self.proxy is not None:
            self.proxy.tell("know", node=number, pid=process.pid)
        ours.sendall((json.dumps(self._told(number, seeds)) + "\n").encode())
        reader = threading.Thread(target=self._await_ready, args=(life,), daemon=True)
        self._readers.append(reader)
        reader.start()
        return life

    def _told(self, number: int, seeds: list[int]) -> dict[str, object]:
        options = NodeOptions(
            seeds=[self.address(each) for each in seeds],
            listen=f"tcp://{LOOPBACK}:{self._inboxes[number]}",
            advertise=[self.address(number)],
            name=f"chaos-{number}",
            state=f"{self._states}-{number}" if self._states else "",
            import_paths=[os.path.abspath(path) for path in sys.path],
        )
        told = dataclasses.asdict(options)
        del told["parent_fd"]
        told["key"] = self._key.hex()
        return told

    def _await_ready(self, life: NodeLife) -> None:
        """Wait for the node's one line (in a thread of its own)."""
        life.wire.settimeout(READY_SECONDS_MAX)
        line = b""
        try:
            while not line.endswith(b"\n") and (piece := life.wire.recv(4096)):
                line += piece
        except OSError:
            pass  # too slow, or taken down meanwhile: told apart below
        if line.endswith(b"\n") and b"endpoints" in line:
            life.ready_at = time.monotonic()
            if self.proxy is not None and life.ended_at is None and not self._closing:
                self.proxy.tell("open", node=life.number)
        elif life.ended_at is None and not self._closing:
            status = life.process.wait() if life.process.poll() is not None else "still running"
            self.failures.append(f"node {life.number} did not start (status {status})")

    def wait_ready(self, lives: list[NodeLife]) -> None:
        """Until these lives are listening; raises NodeFailed."""
        until = time.monotonic() + READY_SECONDS_MAX
        while any(life.ready_at is None and life.ended_at is None for life in lives):
            if self.failures:
                raise NodeFailed(self.failures[0])
            if time.monotonic() > until:
                raise NodeFailed(f"{len(lives)} nodes are not ready after {READY_SECONDS_MAX:g} s")
            time.sleep(0.01)

    # ------------------------------------------------------------ what is done to them

    def kill(self, number: int, *, silent: bool = False) -> NodeLife | None:
        """SIGKILL, at once; `silent`: the proxy swallows everything first, as if the machine were off."""
        life = self.seats[number]
        if life is None or life.ended_at is not None:
            return None
        if life.process.poll() is not None:
            life.ended_at = time.monotonic()
            if life.pid not in self._may_end:
                self.accidents[life.pid] = _ended(life)
            return None
        if silent:
            assert self.proxy is not None
            everybody = [*range(len(self.seats)), -1]
            self.proxy.tell("cut", nodes=[number], others=everybody)
            self.proxy.tell("cut", nodes=everybody, others=[number])
            self.proxy.tell("deafen", node=number)
        life.ended_at = time.monotonic()
        life.process.kill()
        if self.proxy is not None and not silent:
            self.proxy.tell("close", node=number)
        return life

    def disks(self) -> tuple[bytes, ...]:
        """The contents of all logs, once all nodes are dead."""
        for life in self.lives:
            life.process.wait()
        return tuple(self.logs().values())

    def state(self, number: int) -> Path:
        """What a node keeps for its next life."""
        assert self._states
        return Path(f"{self._states}-{number}")

    def logs(self) -> dict[int, bytes]:
        """The log of each node that has one."""
        paths = {number: self.state(number) / LOG_FILE for number in range(len(self.seats))}
        return {number: path.read_bytes() for number, path in paths.items() if path.exists()}

    def may_end(self, number: int) -> NodeLife | None:
        """This life may end by itself, because its disk fails."""
        life = self.seats[number]
        if life is not None:
            self._may_end.add(life.pid)
        return life

    def revive(self, number: int) -> None:
        """The machine of a node that was silenced is on again."""
        assert self.proxy is not None
        everybody = [*range(len(self.seats)), -1]
        self.proxy.tell("close", node=number)
        self.proxy.tell("mend", nodes=[number], others=everybody)
        self.proxy.tell("mend", nodes=everybody, others=[number])

    def signal(self, number: int, what: signal.Signals) -> NodeLife | None:
        life = self.seats[number]
        if life is None or life.ended_at is not None or life.process.poll() is not None:
            return None
        life.process.send_signal(what)
        return life

    def drain(self, number: int) -> NodeLife | None:
        life = self.signal(number, signal.SIGTERM)
        if life is not None:
            life.draining = True
        return life

    def living(self) -> list[NodeLife]:
        """Lives that we started and did not end."""
        return [
            life
            for life in self.seats
            if life is not None and life.ended_at is None and life.process.poll() is None
        ]

    def self_ended(self) -> list[str]:
        """Nodes that ended although we did not end them."""
        for life in self.lives:
            status = life.process.poll()
            if status is None or life.ended_at is not None or (life.draining and status == 0):
                continue
            if life.pid in self._may_end:
                continue
            self.accidents[life.pid] = _ended(life)
        return [*self.failures, *self.accidents.values()]

    def last_words(self) -> str:
        """The end of what nodes said on standard error."""
        with open(self.words, encoding="utf-8", errors="replace") as words:
            return words.read()[-WORDS_MAX:]

    def close(self) -> None:
        """End all processes, first with SIGTERM, and wait until they are gone."""
        with self._lock:
            self._closing = True
        for life in self.lives:
            if life.process.poll() is None:
                life.process.send_signal(signal.SIGCONT)
            with contextlib.suppress(OSError):  # the node was first
                life.wire.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + STOP_SECONDS
        for life in self.lives:
            try:
                life.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                life.process.kill()
                life.process.wait()
        if self.proxy is not None:
            self.proxy.close()
        for reader in self._readers:
            reader.join()
        for life in self.lives:
            life.wire.close()
            for left in Path(tempfile.gettempdir()).glob(f"stealmesh-{life.pid}-*"):
                shutil.rmtree(left, ignore_errors=True)  # of those that had no time to tidy up


def _ended(life: NodeLife) -> str:
    status = life.process.poll()
    return f"node {life.number} (process {life.pid}) ended by itself with status {status}"


def _free_ports(count: int) -> list[int]:
    """Free ports; a node's address stays through all its lives, so they are fixed."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue  # taken
        found.append(port)
        if len(found) == count:
            return found
    raise NodeFailed(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")
