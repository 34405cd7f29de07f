"""A real node that is attacked, and an honest program of its mesh that must not notice.

Decides what unharmed means: the same process lives, its memory has grown by at most 32 MiB at its height,
each result of the honest job is right, during the attack and after it. Refuses to know the attacks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.insider import Insider
from tests.patience import until

import stealmesh
from stealmesh.host.security import MeshKey
from stealmesh_protocol.messages import StatusGet

MIB = 1 << 20
GROWTH_OCTETS_MAX = 32 * MIB
PATIENCE_SECONDS = 60.0


def square(number: int) -> int:
    return number * number


class NodeProcess:
    """A real `stealmesh node`, and what it says on standard error."""

    def __init__(
        self, directory: Path, name: str, *options: str, key: Path | None = None,
        environment: dict[str, str] | None = None, rigged: tuple[str, ...] = (),
        before: Callable[[], None] | None = None, command: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`rigged`: faults of its surroundings (see rigged.py). `before`: limits of the process; `command`:
        words in front of its own."""
        module = ["tests.hostile.rigged", *rigged, "--"] if rigged else ["stealmesh"]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STEALMESH_")}
        inherited |= {"XDG_CONFIG_HOME": str(directory), "XDG_STATE_HOME": str(directory / "state")}
        root = str(Path(__file__).parents[2])
        inherited["PYTHONPATH"] = os.pathsep.join([root, inherited.get("PYTHONPATH", "")])
        self.name = name
        self._said = directory / f"{name}.stderr"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [
                    *(*command, sys.executable, "-m", *module, "node", "--name", name),
                    *("--nworkers", "1", "--no-peer-cache", "--listen", "tcp://127.0.0.1:0"),
                    *([] if key is None else ["--key-file", str(key)]),
                    *options,
                ],
                env=inherited | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=directory,
                preexec_fn=before,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def says(self, words: str) -> str:
        """Wait for a line with these words; returns it."""

        def found() -> str | None:
            lines = [line for line in self.said().splitlines() if words in line]
            assert lines or self.process.poll() is None, f"ended: {self.said()}"
            return lines[0] if lines else None

        return until(found, f"{words!r} in {self.said()[-3000:]!r}")

    def address(self) -> str:
        line = self.says("listens at tcp://")
        return next(word for word in line.split() if word.startswith("tcp://"))

    def lives(self) -> bool:
        return self.process.poll() is None

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def octets(self, line: str = "VmRSS") -> int:
        """Resident memory now, or (VmHWM) at its height."""
        for each in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if each.startswith(line):
                return int(each.split()[1]) * 1024
        raise AssertionError(f"no {line}: the process has ended")

    def forget_height(self) -> None:
        """Measure the height of its memory from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


WAITS = os.environ.get("HOSTILE_WAITS", "")
"""A file: there each attack leaves how long the honest calls took beside it, and before and behind it. See
`stealmesh_bench.disturbed`; no test looks at it."""
QUIET_CALLS, QUIET_CALLS_MIN, QUIET_SECONDS = 300, 15, 10.0
"""Undisturbed calls that a test with all its cases needs, and one case; how long to wait for them at most. (It was 300
for each case, without a bound: on a busy machine that was longer than a test may take, and the bench never ended.)"""
_quiet_calls: Counter[str] = Counter()
"""By test, of all cases so far."""


class HonestJob:
    """Calls, one after the other, for as long as it is let; each result is compared."""

    def __init__(self, mesh: stealmesh.Mesh, node: NodeProcess) -> None:
        self.done = 0
        self.seconds: list[float] = []
        """Of each call."""
        self._mesh, self._node = mesh, node
        self._wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.goes_on()

    def _run(self) -> None:
        while not self._over.wait(0.002):
            number, begun = self.done, time.perf_counter()
            try:
                result = self._result(number)
            except Exception as error:  # noqa: BLE001  # whatever it is, the job was harmed
                self._wrong.append(f"{number}: {error!r}")
                return
            if result != number * number:
                self._wrong.append(f"{number}: {result!r}")
            self.seconds.append(time.perf_counter() - begun)
            self.done += 1

    @property
    def peer(self) -> str:
        """The id of its program."""
        name, nodes = f"client-{os.getpid()}", self._mesh.status()["nodes"]
        return str(next(node["id"] for node in nodes if node["name"] == name))

    def _result(self, number: int) -> int:
        future = self._mesh.submit(square, number)
        while self._node.lives():
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=1.0)
        raise AssertionError(f"the node has ended: {self._node.process.returncode}")

    def goes_on(self) -> None:
        """Wait for results that were asked for from now on."""
        wanted = self.done + 3
        until(lambda: self.done >= wanted or self._wrong, "the honest job")
        assert not self._wrong

    def quiet(self) -> None:
        """Nobody attacks. Where it is measured: long enough for a percentile of this test's calls."""
        if not WAITS:
            return
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].partition("[")[0]
        before, deadline = len(self.seconds), time.monotonic() + QUIET_SECONDS
        wanted = before + max(QUIET_CALLS_MIN, (QUIET_CALLS - _quiet_calls[test]) // 2)
        until(lambda: len(self.seconds) >= wanted or self._wrong or time.monotonic() > deadline)
        _quiet_calls[test] += len(self.seconds) - before

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        assert not self._wrong, self._wrong


class MeasuredJob(HonestJob):
    """The same in a process of its own, whose calls do not wait for our Python."""

    def __init__(self, place: Place) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.honest", place.address, str(place.key_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._program.stdout is not None
        self._peer = self._program.stdout.readline().strip()
        super().__init__(place.mesh, place.node)

    @property
    def peer(self) -> str:
        return self._peer

    def _run(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            try:
                self.seconds.append(float(line))
            except ValueError:
                self._wrong.append(line)
                return
            self.done += 1

    def end(self) -> None:
        assert self._program.stdin is not None
        with self._program:
            self._program.stdin.close()
            super().end()
        assert self._program.returncode == 0


class Place:
    """One node, its mesh key, an honest program, and doors for attackers."""

    def __init__(self, directory: Path, *options: str, name: str = "node", **more: Any) -> None:
        self.key = MeshKey.generate()
        self.key_file = directory / f"{name}.key"
        self.key.save(self.key_file)
        self.node = NodeProcess(directory, name, *options, key=self.key_file, **more)
        self.address = self.node.address()
        self.mesh = stealmesh.Mesh(self.address, key=self.key)
        assert list(self.mesh.map(square, range(100))) == [n * n for n in range(100)]

    def insider(self, **more: Any) -> Insider:
        return Insider(self.address, self.key, **more)

    def status(self) -> dict[str, Any]:
        """The node's own part of the mesh's status, and all counters."""
        return self.mesh.status()

    def me(self) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = self.status()["nodes"]
        return next(node for node in nodes if node["pid"] == self.node.pid)

    def counters(self) -> dict[str, int]:
        found: dict[str, int] = self.status()["counters"]
        return found

    @contextlib.contextmanager
    def counts(self, *names: str, times: int = 1) -> Iterator[None]:
        """These counters together rise by so much, at the latest soon after the block. A name that ends
        with a colon is all that begin with it."""
        before = self.counters()
        yield
        risen: dict[str, int] = {}

        def have() -> bool:
            risen.update(changed(before, self.counters()))
            fitting = [
                count for name, count in risen.items()
                if name in names or name[: name.find(":") + 1] in names
            ]  # fmt: skip
            return sum(fitting) >= times

        try:
            until(have)
        except AssertionError:
            raise AssertionError(f"{names} did not rise by {times}, but {risen}") from None

    def ignores(self, liar: Insider) -> None:
        """What comes over this connection is dropped."""
        with self.counts("dropped:"):
            liar.say(StatusGet(1))

    @contextlib.contextmanager
    def unharmed(self, growth_max: int = GROWTH_OCTETS_MAX) -> Iterator[HonestJob]:
        """What happens in the block harms neither the node nor the honest job beside it."""
        node = self.node
        job = MeasuredJob(self) if WAITS else HonestJob(self.mesh, self.node)
        try:
            node.forget_height()
            before, pid = node.octets(), self.me()["pid"]
            job.quiet()
            first = len(job.seconds)
            yield job
            last = len(job.seconds)
            job.goes_on()
            job.quiet()
            if WAITS:
                told = [os.environ.get("PYTEST_CURRENT_TEST", ""), job.seconds, first, last]
                with Path(WAITS).open("a") as file:
                    file.write(json.dumps(told) + "\n")
        finally:
            job.end()
        assert list(self.mesh.map(square, range(50))) == [n * n for n in range(50)]
        assert node.lives(), node.said()[-3000:]
        assert self.me()["pid"] == pid == node.pid
        grown = node.octets("VmHWM") - before
        assert grown <= growth_max, f"{grown / MIB:.1f} MiB more at its height"

    def close(self) -> None:
        try:
            if self.node.lives():
                self.mesh.shutdown(cancel_futures=True)
            else:
                self.mesh._abandon()  # nobody is left who could finish anything
        finally:
            self.node.close()


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count != before.get(name, 0)
    }
