"""Four one-worker nodes; some will be killed, with replacements or without.

With: the local mesh that a program gets by default. Without: nodes of their own, which the
program joins as a client through any of them, as it would nodes on other machines.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stealmesh.host.local import LocalMesh
from stealmesh.host.node import NodeOptions
from stealmesh.host.security import MeshKey
from stealmesh.mesh import Mesh
from stealmesh_bench.stand import BenchError

NODES = 4
MEETING_SECONDS_MAX = 15.0


@contextmanager
def four_nodes(respawn: bool) -> Iterator[tuple[Mesh, list[int]]]:
    """A mesh with all nodes connected to its client, and the process ids of the nodes."""
    if respawn:
        with Mesh(nodes=NODES, workers=1) as mesh:
            yield mesh, _met(mesh)
        return
    key = MeshKey.generate()
    options = NodeOptions(
        workers=1, key=key.secret, import_paths=[os.path.abspath(path) for path in sys.path]
    )
    nodes = LocalMesh(NODES, options, _nobody_new, _report, respawn=False)
    try:
        with Mesh([endpoints[0] for endpoints in nodes.endpoints()], key=key) as mesh:
            yield mesh, _met(mesh)
    finally:
        nodes.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _met(mesh: Mesh) -> list[int]:
    until = time.monotonic() + MEETING_SECONDS_MAX
    while time.monotonic() < until:
        pids = [node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client"]
        if len(set(pids)) == NODES:
            return pids
        time.sleep(0.02)
    raise BenchError(f"only {len(pids)} of {NODES} nodes met the client")


def _nobody_new(endpoints: list[str]) -> None:
    raise AssertionError(f"nobody asked for a new node at {endpoints}")


def _report(reason: str) -> None:
    print(f"stealmesh bench: {reason}", file=sys.stderr)
