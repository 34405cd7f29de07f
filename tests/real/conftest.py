"""Real processes and real sockets: one small mesh for many tests, fresh ones where nodes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.real.durable_nodes import Nodes

import stealmesh

FAILED = pytest.StashKey[bool]()
"""Has the test itself failed?"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


@pytest.fixture
def four_nodes() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(nodes=4, workers=1) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def nodes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Nodes]:
    three = Nodes(tmp_path, 3)
    for number in range(3):
        three.start(number)
    try:
        three.listening()
        yield three
        if request.node.stash.get(FAILED, False):
            three.tell()
    finally:
        three.stop()


def node_pids(mesh: stealmesh.Mesh) -> list[int]:
    return [node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client"]


def kill_node(mesh: stealmesh.Mesh, number: int = 0) -> int:
    """SIGKILL one node process; returns its pid."""
    pid = node_pids(mesh)[number]
    os.kill(pid, signal.SIGKILL)
    return pid
