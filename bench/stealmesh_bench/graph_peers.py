"""The same graphs for Stealmesh, dask.distributed and Ray, in turn.

    pip install '.[peers]'
    python -m stealmesh_bench.graph_peers [chain tree fan stencil] [--peers stealmesh,dask,dask-graph,ray]

Each peer has a program of its own (stand.py), and two workers; for the stencil as many nodes as `--nodes` says, with one
worker each. They run one after the other, again and again, and the line at the end has medians. All graphs are given to
the peer as fast as the program can: `dask` submits call by call, `dask-graph` gives the whole graph in one message, which
is dask's quickest way. A peer that is not installed is left out, and said so.

The stencil's figure is METG(50 %) (metg.py). A cell works until it has had the processor for as long as asked, and a
run's efficiency is cells × seconds / (cores × wall time), where the cores are those that can be of use: the lesser of
workers and of what the machine has. So 8 nodes on 2 cores are held against 2 cores, and what schedulers, nodes and the
program take of these is held against the peer.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib.util
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from stealmesh_bench import graph_shapes
from stealmesh_bench.compare import alternate
from stealmesh_bench.graph_shapes import TaskGraph
from stealmesh_bench.metg import Point, crossing, curve
from stealmesh_bench.stand import Stand, check

WORKERS = 2
PATIENCE_SECONDS = 280.0
START_SECONDS = 0.002
SHAPES: dict[str, Callable[..., TaskGraph]] = {
    "chain": graph_shapes.chain,
    "tree": graph_shapes.tree,
    "fan": graph_shapes.fan,
}


class GraphPeer(Protocol):
    def run(self, shape: TaskGraph) -> list[Any]:
        """Submit all of it. Returns the results that are wanted."""

    def close(self) -> None:
        """End its processes."""


class StealmeshGraphs:
    def __init__(self, nodes: int, workers: int) -> None:
        import stealmesh

        self.mesh = stealmesh.Mesh(nodes=nodes, workers=workers)

    def run(self, shape: TaskGraph) -> list[Any]:
        futures: list[Any] = []
        for call in shape.calls:
            inputs = [futures[at] for at in call.inputs]
            futures.append(self.mesh.submit(call.function, *call.constants, *inputs))
        return [futures[at].result(PATIENCE_SECONDS) for at in shape.wanted]

    def close(self) -> None:
        self.mesh.shutdown()


class DaskCalls:
    """`Client.submit`."""

    def __init__(self, nodes: int, workers: int) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=nodes * workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        )
        self.client = Client(self.cluster)

    def run(self, shape: TaskGraph) -> list[Any]:
        futures: list[Any] = []
        for call in shape.calls:
            inputs = [futures[at] for at in call.inputs]
            futures.append(self.client.submit(call.function, *call.constants, *inputs, pure=False))
        wanted: list[Any] = self.client.gather([futures[at] for at in shape.wanted])
        return wanted

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class DaskGraphs(DaskCalls):
    """`Client.get` of a dictionary."""

    runs = 0

    def run(self, shape: TaskGraph) -> list[Any]:
        self.runs += 1  # a key that is known already would not run again
        names = [f"{self.runs}-{at}" for at in range(len(shape.calls))]
        graph = {
            name: (call.function, *call.constants, *[names[at] for at in call.inputs])
            for name, call in zip(names, shape.calls, strict=True)
        }
        return list(self.client.get(graph, [names[at] for at in shape.wanted]))


class RayGraphs:
    def __init__(self, nodes: int, workers: int) -> None:
        import ray

        ray.init(num_cpus=nodes * workers, include_dashboard=False, log_to_driver=False)
        self.ray = ray
        self.remote: dict[Callable[..., Any], Any] = {}

    def run(self, shape: TaskGraph) -> list[Any]:
        references: list[Any] = []
        for call in shape.calls:
            if call.function not in self.remote:
                self.remote[call.function] = self.ray.remote(call.function)
            inputs = [references[at] for at in call.inputs]
            references.append(self.remote[call.function].remote(*call.constants, *inputs))
        wanted = [references[at] for at in shape.wanted]
        return list(self.ray.get(wanted, timeout=PATIENCE_SECONDS))

    def close(self) -> None:
        self.ray.shutdown()


PEERS: dict[str, Callable[[int, int], GraphPeer]] = {
    "stealmesh": StealmeshGraphs,
    "dask": DaskCalls,
    "dask-graph": DaskGraphs,
    "ray": RayGraphs,
}
NEEDS = {"dask": "distributed", "dask-graph": "distributed", "ray": "ray"}
"""What has to be importable."""


# ---------------------------------------------------------------- what runs at the stands

_OPEN: dict[str, GraphPeer] = {}
"""The one peer of this process."""


def open_peer(peer: None, name: str, nodes: int, workers: int) -> None:
    _OPEN[name] = PEERS[name](nodes, workers)
    atexit.register(_OPEN[name].close)


def tasks_a_second(peer: None, name: str, shape: str, size: int) -> float:
    made = SHAPES[shape](size)
    return len(made.calls) / _seconds(_OPEN[name], made)


def metg(peer: None, name: str, nodes: int, steps: int) -> tuple[float | None, list[Point]]:
    cores = min(nodes, os.cpu_count() or 1)
    width = 2 * nodes

    def efficiency(seconds: float) -> float:
        made = graph_shapes.stencil(width, steps, seconds)
        return width * steps * seconds / (cores * _seconds(_OPEN[name], made))

    points = curve(efficiency, START_SECONDS)
    return crossing(points), points


def _seconds(peer: GraphPeer, shape: TaskGraph) -> float:
    gc.collect()
    begun = perf_counter()
    results = peer.run(shape)
    took = perf_counter() - begun
    check(results == shape.results, "wrong results")
    return took


# ---------------------------------------------------------------- side by side


@contextmanager
def opened(peers: Sequence[str], nodes: int, workers: int) -> Iterator[dict[str, Stand]]:
    with ExitStack() as stack:
        stands = {peer: stack.enter_context(Stand()) for peer in peers}
        for peer, stand in stands.items():
            stand.run(open_peer, name=peer, nodes=nodes, workers=workers)
        yield stands


def measure_shape(stands: dict[str, Stand], shape: str, size: int, runs: int) -> dict[str, Any]:
    for peer, stand in stands.items():  # to warm up
        stand.run(tasks_a_second, name=peer, shape=shape, size=64)
    said = alternate(
        {
            peer: partial(stand.run, tasks_a_second, name=peer, shape=shape, size=size)
            for peer, stand in stands.items()
        },
        runs,
    )
    row: dict[str, Any] = {"shape": shape, "size": size, "unit": "tasks/s"}
    for peer, each in said.items():
        row[peer] = round(statistics.median(each))
        row[f"{peer}_runs"] = [round(value) for value in each]
    return row


def measure_stencil(
    stands: dict[str, Stand], nodes: int, steps: dict[str, int], runs: int
) -> dict[str, Any]:
    for peer, stand in stands.items():
        stand.run(metg, name=peer, nodes=nodes, steps=3)
    said = alternate(
        {
            peer: partial(stand.run, metg, name=peer, nodes=nodes, steps=steps[peer])
            for peer, stand in stands.items()
        },
        runs,
    )
    row: dict[str, Any] = {"shape": "stencil", "nodes": nodes, "unit": "ms, METG(50 %)"}
    for peer, each in said.items():
        found = [1e3 * value for value, _ in each if value is not None]
        row[peer] = round(statistics.median(found), 3) if len(found) == len(each) else None
        row[f"{peer}_steps"] = steps[peer]
        row[f"{peer}_runs"] = [round(value, 3) for value in found]
        row[f"{peer}_last_curve"] = [(1e3 * s, round(share, 3)) for s, share in each[-1][1]]
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=[*SHAPES, "stencil"])
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--length", type=int, default=10_000)
    parser.add_argument("--leaves", type=int, default=1 << 14)
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--peer-steps", type=int, default=100, help="of all but Stealmesh")
    parser.add_argument("--nodes", type=int, nargs="*", default=[2, 8])
    asked = parser.parse_args(arguments)
    sizes = {"chain": asked.length, "tree": asked.leaves, "fan": asked.width}
    peers = []
    for peer in asked.peers.split(","):
        if peer not in PEERS:
            parser.error(f"no peer {peer!r}; known: {', '.join(PEERS)}")
        if importlib.util.find_spec(NEEDS.get(peer, "stealmesh")) is None:
            print(f"{peer} is not installed, and left out", file=sys.stderr)
        else:
            peers.append(peer)
    for what in asked.what:
        if what not in {*SHAPES, "stencil"}:
            parser.error(f"no shape {what!r}; known: {', '.join([*SHAPES, 'stencil'])}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the stands are ended with us
    if shapes := [what for what in asked.what if what in SHAPES]:
        with opened(peers, 1, WORKERS) as stands:
            for shape in shapes:
                row = measure_shape(stands, shape, sizes[shape], asked.runs)
                print(json.dumps(row), flush=True)
    if "stencil" in asked.what:
        steps = {peer: asked.steps if peer == "stealmesh" else asked.peer_steps for peer in peers}
        for nodes in asked.nodes:
            with opened(peers, nodes, 1) as stands:
                row = measure_stencil(stands, nodes, steps, asked.runs)
                print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    # Stands find what they are to run by its module's name, and this one is called __main__ here.
    from stealmesh_bench import graph_peers

    sys.exit(graph_peers.main())
