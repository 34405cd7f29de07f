"""A mesh on a network of its own: one node a host, programs that join it, and what they must see."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.namespaces.net import PATIENCE_SECONDS, Net, Process

from stealmesh.host.security import MeshKey
from stealmesh_bench.workloads.logged import executions

PORT = 7077


class Program:
    """A program on one of the hosts (see program.py), and the line to it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._log: Path | None = None
        self._items = 0
        self._from = 0

    def joined(self) -> None:
        self._answer("joined")

    def start_map(self, items: int, seconds: float, log: Path, octets: int = 0) -> None:
        self._log, self._items, self._from = log, items, len(self.process.lines)
        self.process.tell(f"map {items} {seconds} {octets} {log}")

    def has_done(self, count: int) -> None:
        """Wait until this many results have come."""
        self.process.wait_for(
            lambda line: line.startswith('{"done"') and json.loads(line)["done"] >= count,
            self._from,
        )

    def is_exactly_right(self) -> int:
        """The job ends with every result once; returns how many executions were one too many."""
        over = self._answer("over", self._from)
        assert over == {"lost": [], "doubled": [], "wrong": 0, "came": self._items}
        assert self._log is not None
        ran = executions(str(self._log))
        assert set(ran) == set(range(self._items)), "results of tasks that never ran"
        return ran.total() - self._items

    def sees(self) -> dict[str, int]:
        """The nodes that answer this program, and how many live nodes each of them knows."""
        nodes = self.status()["nodes"]
        return {each["name"]: each["sees"] for each in nodes if each["role"] != "client"}

    def status(self) -> dict[str, Any]:
        start = len(self.process.lines)
        self.process.tell("status")
        told: dict[str, Any] = self._answer("status", start)
        return told

    def until_it_sees(self, wanted: dict[str, int]) -> float:
        """Ask again until the nodes' views are as wanted; returns the seconds that took."""
        begin = time.monotonic()
        while (seen := self.sees()) != wanted:
            assert time.monotonic() - begin < PATIENCE_SECONDS, f"{seen}, never {wanted}"
            threading.Event().wait(0.05)
        return time.monotonic() - begin

    def _answer(self, kind: str, start: int = 0) -> Any:
        line = self.process.wait_for(lambda line: line.startswith(f'{{"{kind}"'), start)
        return json.loads(line)[kind]


class Scene:
    """A node on each of the first hosts of a network; the first one is the seed of the others."""

    def __init__(self, net: Net, directory: Path, nodes: int) -> None:
        self.net = net
        self.directory = directory
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STEALMESH_")}
        self._environment = inherited | {
            "XDG_CONFIG_HOME": str(directory / "config"),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        self._key = directory / "mesh.key"
        MeshKey.generate().save(self._key)
        self.nodes: dict[str, Process] = {}
        for host in net.hosts[:nodes]:
            self.start_node(host)
        self.programs: list[Program] = []

    @staticmethod
    def address(host: int) -> str:
        return f"tcp://{Net.address(host)}:{PORT}"

    def start_node(self, host: int, *options: str, seeds: tuple[int, ...] = (1,)) -> Process:
        """Start the node of a host and wait until it listens."""
        name = f"node{host}"
        argv = [
            sys.executable, "-m", "stealmesh", "node", "--name", name, "--nworkers", "1",
            "--listen", self.address(host), "--key-file", str(self._key), *options,
        ]  # fmt: skip
        for seed in seeds:
            argv += ["--seed", self.address(seed)]
        node = self.net.start(host, argv, self._environment, self.directory)
        node.wait_for(lambda line: "listens at tcp://" in line)
        self.nodes[name] = node
        return node

    def start_program(self, host: int, entry: int) -> Program:
        """Start a program on a host; it knows one node of the mesh."""
        script = Path(__file__).with_name("program.py")
        argv = [sys.executable, str(script), self.address(entry), str(self._key)]
        program = Program(self.net.start(host, argv, self._environment, self.directory))
        program.joined()
        self.programs.append(program)
        return program

    def all_see_all(self, *but: str) -> dict[str, int]:
        """What every node sees when nobody is cut off (`but` those who are dead)."""
        living = [name for name in self.nodes if name not in but]
        return dict.fromkeys(living, len(living))

    def log(self) -> Path:
        return self.directory / "executions"
