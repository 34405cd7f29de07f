"""Nodes at fixed addresses with disks of their own, which tests kill and start again."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stealmesh
from stealmesh.host.security import MeshKey

PATIENCE_SECONDS = 60.0


class Nodes:
    """Nodes at fixed addresses with disks of their own; killed and started again at will."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.key = directory / "mesh.key"
        MeshKey.generate().save(self.key)
        self.addresses = [f"tcp://127.0.0.1:{port}" for port in _free_ports(count)]
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self._said: list[Path] = []

    def start(self, number: int, python_path: Sequence[Path] = ()) -> None:
        """`python_path`: where it finds another version of us."""
        seeds = [part for address in self.addresses for part in ("--seed", address)]
        said = self.directory / f"node{number}-{len(self._said)}.log"
        self._said.append(said)
        with said.open("w") as log:
            self.processes[number] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "stealmesh", "node", "--nworkers", "1"),
                    *("--listen", self.addresses[number], "--key-file", str(self.key), *seeds),
                    *("--state", str(self.directory / f"state{number}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env=self._environment(python_path),
            )

    @staticmethod
    def _environment(python_path: Sequence[Path]) -> dict[str, str]:
        places = [*map(str, python_path), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}

    def listening(self) -> None:
        """Wait until those that were started last can be dialled."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for said in self._said[-len(self.processes) :]:
            while "listens at" not in said.read_text():
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.01)

    def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for number in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                self.kill(number)

    def tell(self) -> None:
        """Print what the nodes that live know, for the report of a test that has failed."""
        lives = [self.addresses[number] for number in self.processes]
        mesh = ["--key-file", str(self.key), *(part for each in lives for part in ("--seed", each))]
        looks = [["status"], ["jobs"], ["events"], *(["stacks", each] for each in lives)]
        for look in looks if lives else ():
            command = [sys.executable, "-m", "stealmesh", *look, *mesh]
            print("$ stealmesh", *look, flush=True)
            subprocess.run(
                command, timeout=PATIENCE_SECONDS, env=self._environment(()), check=False
            )
        for said in self._said:
            print(f"{said.name}:", said.read_text(), sep="\n")

    def mesh(self, *numbers: int, **config: float) -> stealmesh.Mesh:
        """A client that knows these nodes (or all)."""
        seeds = [self.addresses[number] for number in numbers or range(len(self.addresses))]
        return stealmesh.Mesh(seeds, key=str(self.key), config=config)

    def complete(self, mesh: stealmesh.Mesh) -> None:
        """Wait until as many nodes as there are processes know each other."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(nodes_of(mesh)) < len(self.processes):
            assert time.monotonic() < deadline, [each.read_text() for each in self._said]
            time.sleep(0.05)

    def supernodes(self, mesh: stealmesh.Mesh, wanted: int) -> list[int]:
        """The numbers of those who serve, once there are as many."""
        by_address = {address: number for number, address in enumerate(self.addresses)}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            nodes = [node for node in nodes_of(mesh) if node["role"] == "super"]
            if len(nodes) == wanted:
                return [by_address[node["address"]] for node in nodes]
            time.sleep(0.05)
        raise AssertionError([each.read_text() for each in self._said])

    def home_of(self, mesh: stealmesh.Mesh, job: stealmesh.Job) -> int:
        """The number of the node that leads this job."""
        by_address = {address: number for number, address in enumerate(self.addresses)}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for node in nodes_of(mesh):
                if job.id in node.get("leads", []):
                    return by_address[node["address"]]
            time.sleep(0.05)
        raise AssertionError("nobody leads the job")


def nodes_of(mesh: stealmesh.Mesh) -> list[dict[str, Any]]:
    return [node for node in mesh.status()["nodes"] if node["role"] != "client"]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


def said_by_the_dead(code: str, *arguments: object) -> list[str]:
    """The words of the only line that this program prints. It is killed as soon as it has."""
    program = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    words = program.stdout.readline().split()
    program.kill()
    program.communicate()
    return words
