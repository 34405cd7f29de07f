"""A thousand strangers a second at the port of a node: what is left for its honest program?

``python -m stealmesh_bench.strangers``. Two meshes alike run on this machine, each a node on loopback TCP and a
program. Strangers knock at the first one only. The programs take turns, a second each, around the flood and during it:

    (attacked / twin during the flood) / (attacked / twin before and behind it)

So what the strangers' own processor time costs, and what else this machine does, is paid by both. What a stranger costs
the node is counted in processor time, too: on a busy machine that is the better figure. In the middle of the flood a new node joins, and a new program runs a task there. Exit status 1: a wrong result, a node that died or did not
join, or less than RATIO_MIN. Refuses to know why a node copes (`transport/sockets.py`, `host/strangers.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from stealmesh.host.security import MeshKey
from stealmesh.mesh import Mesh
from stealmesh_bench.paths import python_path
from stealmesh_bench.stand import BenchError, check

RATE, SECONDS, RATIO_MIN = 1000, 60.0, 0.8
TURN_SECONDS = 1.0
BATCH = 200
"""Calls that a program has under way at once."""
PATIENCE_SECONDS = 120.0
UNDER_WAY_MAX = 8000
"""Connections of one flood that are open at once. Beyond it the flood waits, and its rate falls."""
GREETING = b"\xff" + (1).to_bytes(8, "big") + b"\x7f\3\1" + b"CURVE".ljust(20, b"\0") + bytes(32)
SAYINGS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "no security": GREETING.replace(b"CURVE", b"NULL\0") + b"\4\x19\5READY" + bytes(19),
    "another key": GREETING + b"\4\xc8\5HELLO\1\0" + bytes(72) + os.urandom(120),
    "hangs up": b"",
    "half a greeting": GREETING[:11],
    "nothing": b"",
}
"""What strangers say, in turn. Who says another key costs the node CURVE's arithmetic; the last two stay until
the node hangs up."""
STAY = ("half a greeting", "nothing")


def add(a: int, b: int) -> int:
    return a + b


# ---------------------------------------------------------------- the flood, a process of its own


def flood(host: str, port: int, rate: int, seconds: float) -> dict[str, int]:
    """Knock `rate` times a second. Returns how often, and what came of it."""
    kinds = itertools.cycle(SAYINGS)
    open_ones = selectors.DefaultSelector()
    told: Counter[str] = Counter()
    begun, said = time.monotonic(), 0
    while (now := time.monotonic()) < begun + seconds:
        due = min(int((now - begun) * rate), said + rate // 20)
        while said < due and len(open_ones.get_map()) < UNDER_WAY_MAX:
            said += 1
            _knock(host, port, next(kinds), open_ones, told)
        for key, _ in open_ones.select(0.002):
            _hung_up(key, open_ones, told)
        told["open at once"] = max(told["open at once"], len(open_ones.get_map()))
    told["milliseconds"] = int(1000 * (time.monotonic() - begun))
    return dict(told)


def _knock(
    host: str, port: int, kind: str, open_ones: selectors.BaseSelector, told: Counter[str]
) -> None:
    caller = socket.socket()
    try:
        caller.settimeout(1.0)
        caller.connect((host, port))
        caller.setblocking(False)
        caller.send(SAYINGS[kind])
    except OSError as error:
        told[f"{type(error).__name__}"] += 1
        caller.close()
        return
    told["connections"] += 1
    if kind == "hangs up":
        caller.close()
    else:
        open_ones.register(caller, selectors.EVENT_READ, kind)


def _hung_up(
    key: selectors.SelectorKey, open_ones: selectors.BaseSelector, told: Counter[str]
) -> None:
    caller = key.fileobj
    assert isinstance(caller, socket.socket)
    with contextlib.suppress(ConnectionResetError, BlockingIOError):
        if caller.recv(4096):
            return  # the node's greeting; the end comes later
    told["ended by the node"] += 1
    open_ones.unregister(caller)
    caller.close()


@contextlib.contextmanager
def flooding(address: str, rate: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    arguments = ["--flood", host, port, "--rate", str(rate), "--seconds", str(seconds)]
    process = subprocess.Popen(
        [sys.executable, "-m", "stealmesh_bench.strangers", *arguments],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------- the meshes


class Side:
    """A node on loopback TCP, and an honest program of its mesh."""

    def __init__(self, directory: Path, name: str) -> None:
        self.key = MeshKey.generate()
        self.key_file = directory / f"{name}.key"
        self.key.save(self.key_file)
        self.directory, self.name = directory, name
        self.process, self.address = self.node(name)
        self.mesh = Mesh(self.address, key=self.key)
        self.rates: list[float] = []
        self.calls = 0

    def node(self, name: str, *options: str) -> tuple[subprocess.Popen[bytes], str]:
        """Another node of this mesh, and where it listens."""
        said = self.directory / f"{name}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "stealmesh", "node", "--name", name, "--nworkers", "1"),
                    *("--listen", "tcp://127.0.0.1:0", "--no-peer-cache"),
                    *("--key-file", str(self.key_file), *options),
                ],
                env={**os.environ, "PYTHONPATH": python_path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        until = time.monotonic() + PATIENCE_SECONDS
        while "listens at tcp://" not in (text := said.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise BenchError(f"{name} did not start: {text[-2000:]}")
            time.sleep(0.02)
        return process, next(word for word in text.split() if word.startswith("tcp://"))

    def turn(self) -> float:
        """Calls a second, for one turn."""
        begun, done = time.monotonic(), 0
        while time.monotonic() < begun + TURN_SECONDS:
            first, self.calls = self.calls, self.calls + BATCH
            futures = [self.mesh.submit(add, n, n) for n in range(first, self.calls)]
            results = [future.result(PATIENCE_SECONDS) for future in futures]
            check(results == [2 * n for n in range(first, self.calls)], "wrong results")
            done += BATCH
        self.rates.append(done / (time.monotonic() - begun))
        return self.rates[-1]

    def refused(self) -> dict[str, int]:
        counters: dict[str, int] = self.mesh.status()["counters"]
        return {name: count for name, count in counters.items() if name.startswith("refused:")}

    def memory(self, line: str) -> int:
        """Of its node, in KiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition(f"{line}:")[2].split()[0])

    def busy(self) -> float:
        """Processor seconds of its node so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.mesh.shutdown(cancel_futures=True)
        end(self.process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class NewNode(threading.Thread):
    """A node that joins while strangers knock, and a program that comes in by the attacked address."""

    def __init__(self, side: Side) -> None:
        super().__init__(name="new-node", daemon=True)
        self.side = side
        self.node_seconds = self.program_seconds = -1.0
        self.fault = ""

    def run(self) -> None:
        try:
            self._join()
        except Exception as error:  # noqa: BLE001  it is shown, and fails the run
            self.fault = repr(error)

    def _join(self) -> None:
        begun = time.monotonic()
        process, _ = self.side.node("newcomer", "--seed", self.side.address)
        try:
            while not any(n["name"] == "newcomer" for n in self.side.mesh.status()["nodes"]):
                check(time.monotonic() < begun + PATIENCE_SECONDS, "the new node did not join")
                time.sleep(0.05)
            self.node_seconds = time.monotonic() - begun
            begun = time.monotonic()
            with Mesh(self.side.address, key=self.side.key) as mesh:
                check(mesh.submit(add, 1, 2).result(PATIENCE_SECONDS) == 3, "wrong result")
            self.program_seconds = time.monotonic() - begun
        finally:
            end(process)


# ---------------------------------------------------------------- the run


def pairs(attacked: Side, twin: Side, seconds: float) -> list[tuple[float, float]]:
    """Turns of both, the first one changing, until the time is over."""
    until, made = time.monotonic() + seconds, list[tuple[float, float]]()
    while time.monotonic() < until:
        if len(made) % 2:
            later = twin.turn()
            made.append((attacked.turn(), later))
        else:
            made.append((attacked.turn(), twin.turn()))
    return made


def measured(rate: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        attacked, twin = (Side(Path(name), each) for each in ("attacked", "twin"))
        stack.callback(twin.close)
        stack.callback(attacked.close)
        pairs(attacked, twin, 4.0)  # to warm up
        before = pairs(attacked, twin, max(10.0, seconds / 3))
        memory, refused = attacked.memory("VmRSS"), Counter(attacked.refused())
        busy = [side.busy() for side in (attacked, twin)]
        calls = [side.calls for side in (attacked, twin)]
        newcomer = NewNode(attacked)
        with flooding(attacked.address, rate, seconds) as flooder:
            during = pairs(attacked, twin, seconds / 3)
            newcomer.start()
            newcomer.join()
            during += pairs(attacked, twin, seconds / 3)
            out, _ = flooder.communicate(timeout=seconds + PATIENCE_SECONDS)
        told = json.loads(out)
        turned_away = Counter(attacked.refused()) - refused
        lives = attacked.process.poll() is None
        worked = [side.busy() - b for side, b in zip((attacked, twin), busy, strict=True)]
        done = [side.calls - c for side, c in zip((attacked, twin), calls, strict=True)]
        told["node µs a stranger"] = int(
            1e6 * (worked[0] - worked[1] * done[0] / max(1, done[1])) / max(1, told["connections"])
        )
        grown = attacked.memory("VmHWM") - memory if lives else 0
        around = [*before, *(pairs(attacked, twin, max(10.0, seconds / 3)) if lives else ())]
    return report(around, during, told, turned_away, newcomer, lives=lives, grown=grown)


def report(
    around: list[tuple[float, float]], during: list[tuple[float, float]], told: dict[str, int],
    turned_away: Counter[str], newcomer: NewNode, *, lives: bool, grown: int,
) -> int:  # fmt: skip
    def ratio(turns: list[tuple[float, float]]) -> float:
        return median(ours / theirs for ours, theirs in turns)

    share = ratio(during) / ratio(around)
    a_second = 1000 * told.get("connections", 0) / max(1, told["milliseconds"])
    print(f"strangers: {told}: {a_second:.0f} connections/s")
    print(f"turned away: {dict(turned_away)}")
    for name, turns in (("around", around), ("during", during)):
        ours, theirs = (median(each) for each in zip(*turns, strict=True))
        print(f"{name}: {len(turns)} pairs, attacked {ours:.0f} calls/s, twin {theirs:.0f}, ratio {ratio(turns):.3f}")  # fmt: skip
    print(f"new node joined in {newcomer.node_seconds:.1f} s, new program in {newcomer.program_seconds:.1f} s {newcomer.fault}")  # fmt: skip
    print(f"the node {'lives' if lives else 'HAS DIED'}, {grown / 1024:.1f} MiB more at its height")
    print(f"honest throughput: {100 * share:.0f} % of undisturbed (wanted: {100 * RATIO_MIN:.0f} %)")  # fmt: skip
    joined = newcomer.node_seconds > 0 and newcomer.program_seconds > 0 and not newcomer.fault
    return 0 if lives and joined and share >= RATIO_MIN else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.strangers", description=__doc__
    )
    parser.add_argument("--rate", type=int, default=RATE, help="connections a second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long they knock")
    parser.add_argument("--flood", nargs=2, metavar=("HOST", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.flood:
        host, port = options.flood
        print(json.dumps(flood(host, int(port), options.rate, options.seconds)), flush=True)
        return 0
    return measured(options.rate, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
