"""How much of a line a value gets: beside a bare TCP stream between the same two network namespaces, in the same run.

`python -m stealmesh_bench.lines [--mebibytes 256] [--runs 5] [--megabits 1000]`, as root on Linux: it makes two network
namespaces with host names of their own and a cable between them, and nothing outside of them changes. A program on one
scatters a value and gives it to a task on the other, and brings a result home. Beside it one Python process sends as
many octets to another. `--megabits` bounds what either end may send; without it the processors are the bound.

Says medians, and what an octet takes of the processors, of the program and the node together. Decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import stealmesh
from stealmesh.host.security import MeshKey
from stealmesh_bench.paths import python_path

HERE, THERE = "10.78.0.1", "10.78.0.2"
MESH_PORT, BARE_PORT = 7078, 7079
CHUNK = 1 << 20
PATIENCE_SECONDS = 600.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def two_hosts(megabits: float) -> Iterator[tuple[str, str]]:
    names = [f"stealmesh-lines-{os.getpid()}-{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        cable = ("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        ip("-n", names[0], *cable)
        for name, address in zip(names, (HERE, THERE), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            if megabits:
                narrow = ["rate", f"{megabits}mbit", "burst", "256kb", "latency", "50ms"]
                words = ["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf", *narrow]
                subprocess.run(words, check=True)
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def on(host: str, *words: str) -> subprocess.Popen[str]:
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host[-1] * 5]
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *named, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )


def line_of(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if wanted in line:
            return line
        said.append(line)
    raise RuntimeError(f"it ended and never said {wanted!r}, but {''.join(said)}")


# ---------------------------------------------------------------- on the hosts


def take() -> None:
    """The bare stream's other end."""
    with socket.create_server((THERE, BARE_PORT)) as server:
        print("listens", flush=True)
        room = memoryview(bytearray(CHUNK))
        while True:
            caller, _ = server.accept()
            with caller:
                left = int.from_bytes(caller.recv(8), "big")
                while left:
                    left -= caller.recv_into(room, min(left, CHUNK))
                caller.sendall(b"!")


def bare(octets: int) -> float:
    """Seconds until all has come."""
    chunk = memoryview(os.urandom(CHUNK))
    began = time.perf_counter()
    with socket.create_connection((THERE, BARE_PORT)) as stream:
        stream.sendall(octets.to_bytes(8, "big"))
        for _ in range(octets // CHUNK):
            stream.sendall(chunk)
        assert stream.recv(1) == b"!"
    return time.perf_counter() - began


def size(data: bytes) -> int:
    return len(data)


def make(octets: int) -> bytes:
    return os.urandom(CHUNK) * (octets // CHUNK)


def program(key: str, octets: int, runs: int) -> None:
    """Measures when it is told to, so that nothing else is up meanwhile."""
    data = os.urandom(CHUNK) * (octets // CHUNK)
    with stealmesh.Mesh(f"tcp://{THERE}:{MESH_PORT}", key=key) as mesh:
        assert mesh.submit(size, b"1").result(PATIENCE_SECONDS) == 1
        node = next(each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client")
        print("joined", flush=True)
        for _ in range(runs):
            sys.stdin.readline()
            took = {"bare": bare(octets)}
            ref = mesh.scatter(data)
            began, used = time.perf_counter(), processor_seconds(node)
            assert mesh.submit(size, ref).result(PATIENCE_SECONDS) == octets
            took["out"] = time.perf_counter() - began
            took["out_processor"] = processor_seconds(node) - used
            del ref
            made = mesh.options(keep=True).submit(make, octets)
            made.exception(PATIENCE_SECONDS)
            began, used = time.perf_counter(), processor_seconds(node)
            assert len(made.result(PATIENCE_SECONDS)) == octets
            took["home"] = time.perf_counter() - began
            took["home_processor"] = processor_seconds(node) - used
            del made
            print(json.dumps(took), flush=True)


def processor_seconds(node: int) -> float:
    """Of the node and of this program."""
    with open(f"/proc/{node}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- here


def measure(octets: int, runs: int, megabits: float) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    me = [sys.executable, "-m", "stealmesh_bench.lines"]
    with tempfile.TemporaryDirectory() as directory, two_hosts(megabits) as (here, there):
        key = os.path.join(directory, "mesh.key")
        MeshKey.generate().save(key)
        node = ["node", "--nworkers", "1", "--listen", f"tcp://{THERE}:{MESH_PORT}"]
        node += ["--key-file", key, "--state", directory]
        started: list[subprocess.Popen[str]] = []
        try:
            started.append(on(there, sys.executable, "-m", "stealmesh", *node))
            line_of(started[-1], "listens at tcp://")
            started.append(on(there, *me, "--take"))
            line_of(started[-1], "listens")
            caller = on(here, *me, "--program", key, "--runs", str(runs), "--octets", str(octets))
            started.append(caller)
            line_of(caller, "joined")
            for _ in range(runs):
                asks: IO[str] | None = caller.stdin
                assert asks is not None
                asks.write("go\n")
                asks.flush()
                for what, seconds in json.loads(line_of(caller, '{"bare"')).items():
                    found[what].append(seconds)
            caller.wait(PATIENCE_SECONDS)
        finally:
            for each in reversed(started):
                each.terminate()
                each.wait(PATIENCE_SECONDS)
                for stream in (each.stdin, each.stdout):
                    assert stream is not None
                    stream.close()
    nanoseconds = {what: statistics.median(took) * 1e9 / octets for what, took in found.items()}
    row = {f"{what}_gb_s": 1.0 / nanoseconds[what] for what in ("bare", "out", "home")}
    for what in ("out", "home"):
        row[f"{what}_ratio"] = statistics.median(
            bare / took for bare, took in zip(found["bare"], found[what], strict=True)
        )
        row[f"{what}_processor_ns_an_octet"] = nanoseconds[f"{what}_processor"]
    return {name: round(value, 3) for name, value in row.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabits", type=float, default=0.0, help="0: as fast as it goes")
    parser.add_argument("--take", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--program", metavar="KEY", help=argparse.SUPPRESS)
    parser.add_argument("--octets", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.take:
        take()
    elif asked.program:
        program(asked.program, asked.octets, asked.runs)
    else:
        print(json.dumps(measure(asked.mebibytes << 20, asked.runs, asked.megabits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
