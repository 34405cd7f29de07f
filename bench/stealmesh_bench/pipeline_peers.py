"""The pipeline of pipeline.py with the same size and the same kills, for Stealmesh, dask.distributed and Ray.

    pip install '.[peers]'
    python -m stealmesh_bench.pipeline_peers [--peers stealmesh,dask,ray] [--lines 200] [--megabytes 50] [--runs 1]

Four nodes of one worker each; when a quarter and when half of the scores are there, a node is killed with all that it
holds: the fullest one of Stealmesh and dask, one by its number of Ray, which tells no one what its nodes hold. No peer
gets a new node. Runs are counted by what the tasks write down, as in pipeline.py, and so is need. All peers have their
defaults, but that Stealmesh's and Ray's nodes may keep `--memory-mib` in memory each.

Prints a line of JSON a run; its seconds begin when the nodes are up and have run a small pipeline. What a peer did not
bring within `--limit` seconds counts as wrong. Refuses to know why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from stealmesh_bench import pipeline
from stealmesh_bench.chaos_peers import WORKERS, open_dask
from stealmesh_bench.pipeline import BLOCK, STAGES, Outcome, expected, needless_runs

SHARES = (0.25, 0.5)


class PipelinePeer(Protocol):
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A handle, which may be an argument of another call."""

    def done(self, handles: list[Any]) -> list[Any]:
        """Those of them that are over, waiting a little for the first."""

    def result(self, handle: Any) -> Any:
        """Of a handle that is over. Any exception: it has none."""

    def kill_one(self, killed: set[int]) -> set[int]:
        """End one more node. Returns its processes."""

    def told(self) -> tuple[int | None, int | None]:
        """How many results it has made again, and MiB that went to disk, of nodes that live or that were killed. None:
        it does not tell."""


class StealmeshPipeline:
    def __init__(self, mesh: Any) -> None:
        self.mesh = mesh
        self.stores = pipeline.Stores(mesh)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.mesh.submit(function, *arguments)

    def done(self, handles: list[Any]) -> list[Any]:
        time.sleep(0.02)
        return [each for each in handles if each.done()]

    def result(self, handle: Any) -> Any:
        return handle.result()

    def kill_one(self, killed: set[int]) -> set[int]:
        return {self.stores.kill_fullest(killed)}

    def told(self) -> tuple[int | None, int | None]:
        return self.stores.told()


@contextmanager
def stealmesh_pipeline(memory_octets: int) -> Iterator[PipelinePeer]:
    import stealmesh

    config = {"store_memory_octets": memory_octets}
    with stealmesh.Mesh(nodes=WORKERS, workers=1, config=config) as mesh:
        yield StealmeshPipeline(mesh)


class DaskPipeline:
    def __init__(self, client: Any) -> None:
        self.client = client

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.client.submit(function, *arguments, pure=False)

    def done(self, handles: list[Any]) -> list[Any]:
        time.sleep(0.02)
        return [each for each in handles if each.done()]

    def result(self, handle: Any) -> Any:
        return handle.result(timeout=10)

    def kill_one(self, killed: set[int]) -> set[int]:
        nodes = [each for each in self.client.run(_held).values() if each[1] not in killed]
        _, worker, nanny = max(nodes)
        for pid in (nanny, worker):  # first who would start another one
            os.kill(pid, signal.SIGKILL)
        return {worker, nanny}

    def told(self) -> tuple[int | None, int | None]:
        return None, None


def _held(dask_worker: Any) -> tuple[int, int, int]:
    return len(dask_worker.data), os.getpid(), os.getppid()


@contextmanager
def dask_pipeline(memory_octets: int) -> Iterator[PipelinePeer]:
    with tempfile.TemporaryDirectory(prefix="pipeline-dask-") as name, open_dask_in(name) as peer:
        yield DaskPipeline(peer.client)


@contextmanager
def open_dask_in(name: str) -> Iterator[Any]:
    with open_dask(Path(name)) as peer:
        try:
            yield peer
        finally:
            peer.client.close()  # type: ignore[attr-defined]


class RayPipeline:
    def __init__(self, ray: Any, nodes: list[Any]) -> None:
        self.ray = ray
        self.nodes = nodes
        self.remote: dict[Callable[..., Any], Any] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if function not in self.remote:
            self.remote[function] = self.ray.remote(function)
        return self.remote[function].remote(*arguments)

    def done(self, handles: list[Any]) -> list[Any]:
        done, _ = self.ray.wait(handles, num_returns=len(handles), timeout=0.05, fetch_local=False)
        return list(done)

    def result(self, handle: Any) -> Any:
        return self.ray.get(handle, timeout=10)

    def kill_one(self, killed: set[int]) -> set[int]:
        node = self.nodes.pop()
        (raylet,) = (each.process.pid for each in node.all_processes["raylet"])
        os.kill(raylet, signal.SIGKILL)  # its workers and its store end with it
        return {raylet}

    def told(self) -> tuple[int | None, int | None]:
        return None, None


@contextmanager
def ray_pipeline(memory_octets: int) -> Iterator[PipelinePeer]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [
            cluster.add_node(num_cpus=1, object_store_memory=memory_octets) for _ in range(WORKERS)
        ]
        ray.init(address=cluster.address, log_to_driver=False)
        yield RayPipeline(ray, nodes)
    finally:
        ray.shutdown()
        cluster.shutdown()


def run_peer(
    peer: PipelinePeer, lines: int, octets: int, kill: int, limit: float, *, warm: bool = True
) -> Outcome:
    if warm:
        _run(peer, WORKERS, BLOCK, 0, limit)
    return _run(peer, lines, octets, kill, limit)


def _run(peer: PipelinePeer, lines: int, octets: int, kill: int, limit: float) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="pipeline-peers-") as directory:
        tally = os.path.join(directory, "tally")
        began = time.perf_counter()
        row = [peer.submit(pipeline.load, tally, line, octets) for line in range(lines)]
        for stage in STAGES[1:]:
            row = [peer.submit(stage, tally, line, data) for line, data in enumerate(row)]
        killed: set[int] = set()
        due = list(SHARES[:kill])
        left, scores = {id(each): line for line, each in enumerate(row)}, {}
        while left and time.perf_counter() < began + limit:
            for each in peer.done([each for each in row if id(each) in left]):
                line = left.pop(id(each))
                try:
                    scores[line] = peer.result(each)
                except Exception as error:  # noqa: BLE001  # whatever a peer says instead is no score
                    print(f"no score of line {line}: {type(error).__name__}", file=sys.stderr)
            if due and lines - len(left) >= due[0] * lines:
                del due[0]
                killed |= peer.kill_one(killed)
        seconds = time.perf_counter() - began
        with open(tally) as file:
            notes = [tuple(map(int, told.split())) for told in file]
    runs = sum(not over for over, *_ in notes)
    wrong = sum(scores.get(line) != expected(line, octets) for line in range(lines))
    needless = needless_runs(notes, killed)
    nodes_killed = kill - len(due)
    return Outcome(
        lines, octets / 1e6, WORKERS, nodes_killed, wrong, runs, runs - 4 * lines, needless,
        *peer.told(), round(seconds, 1),
    )  # fmt: skip


OPEN: dict[str, Callable[[int], Any]] = {
    "stealmesh": stealmesh_pipeline,
    "dask": dask_pipeline,
    "ray": ray_pipeline,
}
NEEDS = {"dask": "distributed", "ray": "ray"}


def measure(peer: str, lines: int, octets: int, kill: int, memory: int, limit: float) -> Outcome:
    with OPEN[peer](memory) as opened:
        return run_peer(opened, lines, octets, kill, limit)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="stealmesh,dask,ray")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--kill", type=int, default=2, choices=[0, 1, 2])
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a run")
    asked = parser.parse_args(arguments)
    octets = max(1, int(asked.megabytes * 1e6) // BLOCK) * BLOCK
    for _ in range(asked.runs):
        for peer in asked.peers.split(","):
            if peer not in OPEN:
                parser.error(f"no peer {peer!r}; known: {', '.join(OPEN)}")
            if importlib.util.find_spec(NEEDS.get(peer, "stealmesh")) is None:
                print(f"{peer} is not installed, and left out", file=sys.stderr)
                continue
            outcome = measure(
                peer, asked.lines, octets, asked.kill, asked.memory_mib << 20, asked.limit
            )
            row = asdict(outcome) | {"peer": peer, "needless": len(outcome.needless)}
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
