"""A small network of its own: namespaces as hosts, veth pairs as cables, bridges as switches.

Everything lives in namespaces that carry this process's id in their names: nothing is added to
the machine's own network, and all of it goes with the namespaces. Each host has a host name
of its own (a UTS namespace), so nodes do not take each other for neighbours on one machine and
really use TCP. Refuses to know what runs on the hosts, beyond ending it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PREFIX = "stealmesh-test-"
SUBNET = "10.77.0"
PATIENCE_SECONDS = 60.0
"""Far beyond what anything here takes: only a hang gets there."""


class CannotDo(Exception):
    """This machine does not let us do that; the text says what."""


def run(*words: str) -> str:
    """A command of the system that must succeed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", "") or str(error)
        raise CannotDo(f"{' '.join(words)}: {why.strip()}") from None
    return done.stdout


class Process:
    """Something that runs on a host; everything it says is kept, line by line."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, wanted: Callable[[str], bool], start: int = 0) -> str:
        """The first line from number `start` on that is wanted; waits until it is said."""

        def found() -> str | None:
            return next((line for line in self.lines[start:] if wanted(line)), None)

        with self._heard:
            self._heard.wait_for(lambda: found() or self._ended, PATIENCE_SECONDS)
            line = found()
        assert line is not None, f"never said, but:\n{''.join(self.lines[-40:])}"
        return line

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()


class Net:
    """Hosts on one switch. What can go wrong with a network has a method here, and its undoing."""

    def __init__(self, count: int) -> None:
        sweep()
        self._tag = f"{PREFIX}{os.getpid()}-"
        self._hub = f"{self._tag}hub"
        self.hosts = list(range(1, count + 1))
        self._processes: list[Process] = []
        try:
            self._namespace(self._hub)
            for bridge in ("one", "two"):
                self._in_hub("link", "add", bridge, "type", "bridge")
                self._in_hub("link", "set", bridge, "up")
            for host in self.hosts:
                self._add(host)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for name in [self._hub, *map(self.name, self.hosts)]:
            if name in _existing():
                _empty(name)
                run("ip", "netns", "delete", name)

    def name(self, host: int) -> str:
        return f"{self._tag}h{host}"

    @staticmethod
    def address(host: int) -> str:
        return f"{SUBNET}.{host}"

    def start(
        self, host: int, argv: Sequence[str], environment: dict[str, str], cwd: Path
    ) -> Process:
        """Run a program on a host, under its host name."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', f"host{host}"]
        process = Process(["ip", "netns", "exec", self.name(host), *named, *argv], environment, cwd)
        self._processes.append(process)
        return process

    # ------------------------------------------------------------ what goes wrong

    def pull_cable(self, host: int) -> None:
        self._in_hub("link", "set", f"port{host}", "down")

    def plug_cable(self, host: int) -> None:
        self._in_hub("link", "set", f"port{host}", "up")

    def part(self, hosts: Sequence[int]) -> None:
        """Move these hosts to a switch of their own."""
        for host in hosts:
            self._in_hub("link", "set", f"port{host}", "master", "two")

    def join(self, hosts: Sequence[int]) -> None:
        for host in hosts:
            self._in_hub("link", "set", f"port{host}", "master", "one")

    def lose_route(self, host: int, to: Sequence[int]) -> None:
        """Whatever `host` sends to these others vanishes, and it is not told."""
        for other in to:
            self._on(host, "route", "add", "blackhole", f"{self.address(other)}/32")

    def find_route(self, host: int, to: Sequence[int]) -> None:
        for other in to:
            self._on(host, "route", "delete", "blackhole", f"{self.address(other)}/32")

    def mute(self, host: int) -> None:
        """It hears everybody, and nobody hears it."""
        self._queue(host, "add", "blackhole")

    def throttle(self, host: int, kilobits_a_second: int) -> None:
        """What it sends goes through a narrow pipe with half a second of buffer."""
        rate = f"{kilobits_a_second}kbit"
        self._queue(host, "add", "tbf", "rate", rate, "burst", "16kb", "latency", "500ms")

    def unhinder(self, host: int) -> None:
        """Undo `mute` or `throttle`."""
        self._queue(host, "delete")

    # ------------------------------------------------------------ inside

    def _add(self, host: int) -> None:
        name = self.name(host)
        self._namespace(name)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", name)
        self._in_hub("link", "add", f"port{host}", *cable)
        self._in_hub("link", "set", f"port{host}", "master", "one")
        self._in_hub("link", "set", f"port{host}", "up")
        self._on(host, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        self._on(host, "link", "set", "eth0", "up")

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def _in_hub(self, *words: str) -> None:
        run("ip", "-n", self._hub, *words)

    def _on(self, host: int, *words: str) -> None:
        run("ip", "-n", self.name(host), *words)

    def _queue(self, host: int, verb: str, *words: str) -> None:
        run("tc", "-n", self.name(host), "qdisc", verb, "dev", "eth0", "root", *words)


def why_not() -> str:
    """Why no network can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found"
    try:
        net = Net(1)
        try:
            name = net.start(1, ["hostname"], dict(os.environ), Path.cwd())
            name.wait_for("host1\n".__eq__)
        finally:
            net.close()
    except CannotDo as error:
        return str(error)
    return ""


def sweep() -> None:
    """Remove what earlier runs left that were killed."""
    for name in _existing():
        if name.startswith(PREFIX):
            pid = int(name.removeprefix(PREFIX).partition("-")[0])
            if pid != os.getpid() and not Path(f"/proc/{pid}").exists():
                _empty(name)
                run("ip", "netns", "delete", name)


def _existing() -> list[str]:
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines()]


def _empty(namespace: str) -> None:
    """Wait for the last process of a namespace of ours to go (workers follow their node)."""
    until = time.monotonic() + 10.0
    while pids := run("ip", "netns", "pids", namespace).split():
        if time.monotonic() > until:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        threading.Event().wait(0.02)
