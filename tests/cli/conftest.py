from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60.0
"""Far beyond what anything here takes: only a hang gets there."""


class Command:
    """A running `stealmesh …`, its output line by line."""

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        cwd: Path,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience = patience
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stealmesh", *argv],
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told: list[str] = []
        """Everything on standard error so far."""
        self._lines: dict[str, queue.Queue[str | None]] = {
            "out": queue.Queue(),
            "err": queue.Queue(),
        }
        self._readers = [
            threading.Thread(target=self._read, args=("out", self.process.stdout)),
            threading.Thread(target=self._read, args=("err", self.process.stderr)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            if name == "err":
                self.told.append(line)
            self._lines[name].put(line.rstrip("\n"))
        self._lines[name].put(None)

    def line(self, words: str, name: str = "err") -> str:
        """Wait for a line with these words."""
        until = time.monotonic() + self._patience
        while (
            line := self._lines[name].get(timeout=max(0.1, until - time.monotonic()))
        ) is not None:
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never said, but: {''.join(self.told)}")

    def address(self) -> str:
        """Where the node listens; awaited the first time, remembered after that."""
        said = next((line for line in self.told if "listens at tcp://" in line), None)
        line = said or self.line("listens at tcp://")
        return next(word for word in line.split() if word.startswith("tcp://"))

    def end(self) -> int:
        status = self.process.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        return status

    def rest(self, name: str = "out") -> list[str]:
        """Lines that nobody has read yet; the command has ended."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines[name].get_nowait()) is not None:
                lines.append(line)
        return lines


class Shell:
    """Starts commands with a configuration directory of their own, and cleans up after all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config"
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("STEALMESH_", "SLURM_"))
        }
        self.environment = inherited | {
            "XDG_CONFIG_HOME": str(self.config),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        self.patience = PATIENCE_SECONDS
        """For what a command says. A test that starts much at once, and has a longer limit itself, may want more."""
        self._commands: list[Command] = []

    @property
    def key_file(self) -> Path:
        return self.config / "stealmesh" / "mesh.key"

    def elsewhere(self, name: str) -> Shell:
        """Another user on another machine, so to speak."""
        other = Shell(self.directory)
        other.config = self.directory / name
        other.environment["XDG_CONFIG_HOME"] = str(other.config)
        other._commands = self._commands
        return other

    def start(
        self,
        *argv: str,
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Command:
        environment = self.environment | (environment or {})
        command = Command(list(argv), environment, cwd or self.directory, self.patience)
        self._commands.append(command)
        return command

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self._ended([sys.executable, "-m", "stealmesh", *argv], stdin=stdin)

    def bash(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """For redirections, pipes and limits. `{stealmesh}` in it is the command."""
        command = script.replace("{stealmesh}", f"{sys.executable} -m stealmesh")
        return self._ended(["bash", "-c", command], **environment)

    def _ended(
        self, argv: list[str], stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env=self.environment | environment,
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def node(self, *argv: str) -> Command:
        """A node that does not find what is in the clients' working directory."""
        self.config.mkdir(exist_ok=True)
        return self.start("node", "--nworkers", "1", *argv, cwd=self.config)

    def processes(self) -> list[int]:
        """Everything alive that inherited our environment, no matter who is its parent by now."""
        mark = f"={self.directory}/".encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and int(entry.name) != os.getpid() and mark in _environ(entry)
        ]

    def close(self) -> None:
        for command in self._commands:
            if command.process.poll() is None:
                command.process.terminate()
        for command in self._commands:
            try:
                command.process.wait(10)
            except subprocess.TimeoutExpired:
                command.process.kill()
            command.end()
            for stream in (command.process.stdin, command.process.stdout, command.process.stderr):
                assert stream is not None
                stream.close()


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:  # ended meanwhile, or not ours to read
        return b""


def no_process_is_left(shell: Shell) -> bool:
    """Wait for the last one to go."""
    until = time.monotonic() + PATIENCE_SECONDS
    while left := shell.processes():
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return False
        threading.Event().wait(0.02)
    return True


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.close()
        assert no_process_is_left(shell)


@pytest.fixture
def key(shell: Shell) -> Path:
    """The mesh key of the shell's user."""
    from stealmesh.host.security import MeshKey

    MeshKey.generate().save(shell.key_file)
    return shell.key_file


@pytest.fixture
def taken() -> Iterator[str]:
    """A loopback address at which somebody else listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """A loopback address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"
