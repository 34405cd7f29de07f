"""A store at its bound, with real nodes: values go to disk, copies go and come again, nothing is left on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh
from stealmesh.values.room import Room

from .running import environment, run
from .test_scattered import PATIENCE, slow_size

MIB = 1 << 20
SIZE = 2 * MIB


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all files go that have no other place."""
    found = tmp_path / "disk"
    found.mkdir()
    monkeypatch.setenv("TMPDIR", str(found))
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    yield found
    # The sockets of a killed node go with the next mesh once the system has buried it; values are files.
    left = [path for path in found.rglob("*") if path.is_file()]
    assert not left, "something is left on disk"


def bounded(octets: int = 3 * MIB, **more: Any) -> dict[str, Any]:
    return {"config": {"store_memory_octets": octets, **more}}


def look(data: bytearray) -> tuple[int, int]:
    return len(data), data[-1]


def facts(mesh: stealmesh.Mesh) -> list[dict[str, int]]:
    """The client's, then those of the nodes."""
    nodes = sorted(mesh.status()["nodes"], key=lambda node: str(node["role"] != "client"))
    return [node["values"] for node in nodes]


def scattered(mesh: stealmesh.Mesh, count: int) -> list[stealmesh.Ref[bytearray]]:
    return [mesh.scatter(bytearray([number]) * SIZE) for number in range(count)]


def in_pieces(mesh: stealmesh.Mesh) -> None:
    """The program answers no neighbour: its nodes have files of their own."""
    mesh._link.values.on_first = lambda: None


@pytest.mark.parametrize("pieces", [False, True])
def test_many_values_through_small_stores(directory: Path, pieces: bool) -> None:
    """Twelve values, and room for one in the memory of each process."""
    with stealmesh.Mesh(nodes=2, workers=2, **bounded()) as mesh:
        if pieces:
            in_pieces(mesh)
        refs = scattered(mesh, 12)
        futures = [mesh.submit(look, ref) for ref in refs * 3]
        assert [each.result(PATIENCE) for each in futures] == [(SIZE, n) for n in range(12)] * 3
        client, *nodes = facts(mesh)
        assert client["memory_octets"] <= 3 * MIB
        assert client["disk_octets"] == client["spilled_octets"] >= 11 * SIZE
        assert sum(node["fetched_octets"] for node in nodes) >= 12 * SIZE
        assert sum(node["dropped_octets"] for node in nodes) > 0
        assert all(node["memory_octets"] <= 3 * MIB for node in nodes)
        assert pieces == any(node["spilled_octets"] for node in nodes)
        assert not list(directory.rglob("*value*")), "the files have no names"
        assert refs[11].result() == bytearray([11]) * SIZE
        del refs
        until(lambda: not any(each["stored"] for each in facts(mesh)))
        assert not any(each["disk_octets"] or each["memory_octets"] for each in facts(mesh))


@pytest.mark.real
def test_a_killed_node_leaves_nothing_on_disk(directory: Path) -> None:
    with stealmesh.Mesh(nodes=3, workers=2, **bounded()) as mesh:
        in_pieces(mesh)
        refs = scattered(mesh, 9)
        futures = [mesh.submit(slow_size, ref, 0.02) for ref in refs * 4]
        until(lambda: any(node["spilled_octets"] for node in facts(mesh)[1:]))
        victims = [n for n in mesh.status()["nodes"] if n["role"] != "client"]
        os.kill(max(victims, key=lambda n: n["values"]["spilled_octets"])["pid"], signal.SIGKILL)
        assert {future.result(PATIENCE) for future in futures} == {SIZE}
        assert not list(directory.rglob("*value*"))


PROGRAM = """
import os, stealmesh
def look(data):
    return len(data)
if __name__ == "__main__":
    mesh = stealmesh.Mesh(nodes=2, workers=1, config={"store_memory_octets": 1_500_000})
    mesh._link.values.on_first = lambda: None
    refs = [mesh.scatter(bytearray(1_000_000)) for _ in range(6)]
    assert [mesh.submit(look, ref).result(60) for ref in refs] == [1_000_000] * 6
    pids = [node["pid"] for node in mesh.status()["nodes"]]
    print(*[pid for pid in pids if pid != os.getpid()], flush=True)
    input()
"""


@pytest.mark.real
def test_a_killed_mesh_leaves_nothing_on_disk(directory: Path) -> None:
    """The program and its nodes are killed at once, with values on disk."""
    program = directory.parent / "program.py"
    program.write_text(PROGRAM)
    argv = [sys.executable, str(program)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, env=environment(), **pipes) as killed:
        assert killed.stdout is not None
        nodes = [int(pid) for pid in killed.stdout.readline().split()]
        assert len(nodes) == 2
        on_disk = [
            link
            for pid in (killed.pid, *nodes)
            for fd in os.listdir(f"/proc/{pid}/fd")
            if (link := os.readlink(f"/proc/{pid}/fd/{fd}")).startswith(str(directory))
            and link.endswith("(deleted)")
        ]
        assert len(on_disk) >= 5
        for pid in (killed.pid, *nodes):
            os.kill(pid, signal.SIGKILL)
        killed.wait()
    assert not list(directory.rglob("*value*"))
    until(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in nodes))
    run(
        directory.parent,
        "import stealmesh\nif __name__ == '__main__':\n    stealmesh.Mesh(nodes=1).shutdown()",
    )


def test_scatter_beyond_the_disk_is_refused_by_name(directory: Path) -> None:
    with stealmesh.Mesh(nodes=1, workers=1, **bounded(store_disk_octets=3 * MIB)) as mesh:
        refs = scattered(mesh, 2)
        with pytest.raises(stealmesh.StoreFull, match="store_disk_octets"):
            mesh.scatter(bytearray(SIZE))
        assert mesh.submit(look, refs[1]).result(PATIENCE) == (SIZE, 1)
        del refs[0]
        until(lambda: mesh._link.values.shelf.room.memory == 0)
        assert mesh.submit(look, mesh.scatter(bytearray(SIZE))).result(PATIENCE) == (SIZE, 0)


def test_a_value_that_no_node_can_hold_fails_what_needs_it_by_name(directory: Path) -> None:
    with stealmesh.Mesh(nodes=1, workers=1, **bounded(store_disk_octets=1)) as mesh:
        in_pieces(mesh)
        mesh._link.values.shelf.room = Room()
        small, large = mesh.scatter(bytearray(SIZE)), mesh.scatter(bytearray(4 * MIB))
        assert mesh.submit(look, small).result(PATIENCE) == (SIZE, 0)
        with pytest.raises(stealmesh.ValueLost, match="store_memory_octets"):
            mesh.submit(look, large).result(PATIENCE)
        assert mesh.submit(look, small).result(PATIENCE) == (SIZE, 0)
        assert facts(mesh)[1]["lost_octets"] > 4 * MIB


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(600)
def test_large_values_through_nodes_of_100_mib(directory: Path) -> None:
    """1 GiB in values of 64 MiB, and a node killed on the way."""
    with stealmesh.Mesh(nodes=3, workers=1, **bounded(100 * MIB)) as mesh:
        in_pieces(mesh)
        refs = [mesh.scatter(bytearray([number]) * (64 * MIB)) for number in range(16)]
        futures = [mesh.submit(look, ref) for ref in refs]
        until(lambda: any(future.done() for future in futures))
        victim = next(n["pid"] for n in mesh.status()["nodes"] if n["role"] != "client")
        os.kill(victim, signal.SIGKILL)
        assert [f.result(300) for f in futures] == [(64 * MIB, number) for number in range(16)]
        client, *nodes = facts(mesh)
        assert client["disk_octets"] >= 15 * 64 * MIB
        assert all(node["memory_octets"] <= 100 * MIB for node in nodes)
        assert not list(directory.rglob("*value*"))
