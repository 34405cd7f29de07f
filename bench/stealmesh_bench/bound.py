"""Values of many GiB through nodes that may keep little of them in memory: does it end, right, and leave nothing?

`python -m stealmesh_bench.bound [--gib 10] [--nodes 2] [--memory-mib 1024] [--value-mib 32]`. All values are made on
the nodes, held at once, and each is read on a node and looked at. Then the same is begun again in a program of its
own; that program and its nodes are ended with SIGKILL in the midst of it, and a new mesh begins in the same place.

Exit status 1 if a value is wrong, a node passes its bound, nothing has gone to disk, or a file is left there. Decides
nothing; refuses to know where values lie.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stealmesh
from stealmesh_bench.pipeline import BLOCK, block_of, scored

PATIENCE_SECONDS = 3600.0
GONE_SECONDS = 60.0


def make(number: int, octets: int) -> bytes:
    return block_of(number) * (octets // BLOCK)


def look(data: bytes) -> str:
    return scored(data)


class Watch:
    """The most that any node kept in memory, and all of them on disk, as `status` says every second."""

    def __init__(self, mesh: stealmesh.Mesh) -> None:
        self.memory = self.disk = self.spilled = 0
        self._mesh = mesh
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(1.0):
            self.look()

    def look(self) -> None:
        for each in (told := [node["values"] for node in self._mesh.status()["nodes"]]):
            self.memory = max(self.memory, each.get("memory_octets", 0))
        self.disk = max(self.disk, sum(each.get("disk_octets", 0) for each in told))
        self.spilled = max(self.spilled, sum(each.get("spilled_octets", 0) for each in told))

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def bounded(nodes: int, memory: int) -> stealmesh.Mesh:
    return stealmesh.Mesh(nodes=nodes, workers=1, config={"store_memory_octets": memory})


def through(nodes: int, memory: int, count: int, octets: int) -> dict[str, Any]:
    """All values are made, held, and looked at."""
    began = time.perf_counter()
    with bounded(nodes, memory) as mesh:
        watch = Watch(mesh)
        try:
            keep = mesh.options(keep=True)
            values = [keep.submit(make, number, octets) for number in range(count)]
            for each in values:
                each.exception(PATIENCE_SECONDS)
            made = time.perf_counter() - began
            watch.look()
            looks = [mesh.submit(look, each) for each in values]
            found = [each.result(PATIENCE_SECONDS) for each in looks]
        finally:
            watch.end()
        del values
    wrong = sum(
        told != scored(block_of(number) * (octets // BLOCK)) for number, told in enumerate(found)
    )
    return {
        "values": count,
        "gib": round(count * octets / 2**30, 2),
        "wrong": wrong,
        "made_seconds": round(made, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "memory_mib_of_a_node": watch.memory >> 20,
        "disk_mib": watch.disk >> 20,
        "spilled_mib": watch.spilled >> 20,
    }


def fill(nodes: int, memory: int, count: int, octets: int) -> None:
    """A program that makes values until it is killed. It says its processes, and when half of them are there."""
    with bounded(nodes, memory) as mesh:
        told = [each for each in mesh.status()["nodes"] if each["role"] != "client"]
        print(json.dumps([each["pid"] for each in told]), flush=True)
        keep = mesh.options(keep=True)
        values = [keep.submit(make, number, octets) for number in range(count)]
        for each in values[: count // 2]:
            each.exception(PATIENCE_SECONDS)
        print("half", flush=True)
        for each in values:
            each.exception(PATIENCE_SECONDS)
        time.sleep(PATIENCE_SECONDS)


def killed(asked: argparse.Namespace, arguments: list[str]) -> int:
    """Octets that the file system got back when the program and all of its nodes had gone."""
    program = subprocess.Popen(
        [sys.executable, "-m", "stealmesh_bench.bound", "--fill", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    pids = [*json.loads(program.stdout.readline()), program.pid]
    assert program.stdout.readline() == "half\n"
    full = free_octets()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    until(lambda: not files_of_any(tempfile.gettempdir()))
    return free_octets() - full


def free_octets() -> int:
    found = os.statvfs(tempfile.gettempdir())
    return found.f_bavail * found.f_frsize


def files_of_any(directory: str) -> list[str]:
    """Files in this directory, with or without a name, that some process of ours has open."""
    found = []
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(each)
        except OSError:
            continue  # it has just been closed, or belongs to somebody else
        if target.startswith(directory + "/") and "stealmesh-value" in target:
            found.append(target)
    return found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.1)


def left(directory: str) -> list[str]:
    """What is left there. (The sockets of a killed node are no values; the next node sweeps them away.)"""
    return [str(each) for each in Path(directory).rglob("*") if each.is_file()]


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--value-mib", type=float, default=32.0)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    octets = max(1, int(asked.value_mib * 2**20) // BLOCK) * BLOCK
    count, memory = int(asked.gib * 2**30 / octets), asked.memory_mib << 20
    if asked.fill:
        fill(asked.nodes, memory, count, octets)
        return 0
    with tempfile.TemporaryDirectory(prefix="stealmesh-bound-", dir=place()) as directory:
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        row = through(asked.nodes, memory, count, octets)
        row["left"] = left(directory)
        row["given_back_mib_after_sigkill"] = killed(asked, arguments) >> 20
        row["left_after_sigkill"] = left(directory)
        again = through(asked.nodes, memory, 4, octets)
        row["wrong_after_restart"] = again["wrong"]
        row["left_after_restart"] = left(directory)
        tempfile.tempdir = None
    print(json.dumps(row))
    fine = not (row["wrong"] or row["left"] or row["left_after_sigkill"] or again["wrong"])
    fine &= not row["left_after_restart"] and row["memory_mib_of_a_node"] <= asked.memory_mib
    return 0 if fine and row["spilled_mib"] else 1


def place() -> str:
    """On a disk: /tmp is memory on many machines."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()


if __name__ == "__main__":
    sys.exit(main())
