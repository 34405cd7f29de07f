"""Real processes and real sockets: one small mesh for many tests, fresh ones where nodes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import stealmesh


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


@pytest.fixture
def four_nodes() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=4, workers=1) as running:
        yield running


def node_pids(mesh: stealmesh.Mesh) -> list[int]:
    return [node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client"]


def kill_node(mesh: stealmesh.Mesh, number: int = 0) -> int:
    """SIGKILL one node process; returns its pid."""
    pid = node_pids(mesh)[number]
    os.kill(pid, signal.SIGKILL)
    return pid
