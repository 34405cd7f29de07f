"""Show a running mesh: its nodes, its jobs, and what was refused or dropped.

Joins as a client through --seed (default: the mesh that `stealmesh start` runs on this host),
looks once, and leaves. With --json: one object, the same as `Mesh.status()` returns.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, Ended
from stealmesh.cli.joining import join_as_client

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh

LOOKS_MAX = 12
LOOK_SECONDS = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    shared.add_seeds(parser)
    shared.add_key_file(parser)
    shared.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        try:
            status = settled(mesh)
        except TimeoutError:
            raise Ended(NOT_JOINED, "the mesh did not answer in time: try again") from None
    if arguments.json:
        print(json.dumps(status))
    else:
        show(status)
    return DONE


def settled(mesh: Mesh) -> dict[str, Any]:
    """A look at the whole mesh: just after joining, a client knows one node and is told of the
    others, so look until two looks in a row see the same ones."""
    status = mesh.status()
    for _ in range(LOOKS_MAX):
        time.sleep(LOOK_SECONDS)
        before, status = status, mesh.status()
        if _ids(before) == _ids(status):
            break
    return status


def show(status: dict[str, Any], width: int | None = None) -> None:
    """Tables for people, on standard output."""
    from rich.console import Console

    console = Console(width=width, highlight=False)
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    clients = len(status["nodes"]) - len(nodes)
    workers = sum(node["workers"] for node in nodes)
    console.print(
        f"[bold]{_count(len(nodes), 'node')}[/], {_count(workers, 'worker')}, {_count(clients, 'client')} (one is this command)"
    )
    console.print(_nodes_table(nodes))
    if status["jobs"]:
        console.print(_jobs_table(status["jobs"]))
    else:
        console.print("no jobs")
    counted = {name: count for name, count in sorted(status["counters"].items()) if count}
    if counted:
        console.print(
            "counted: " + ", ".join(f"{name} {count:,}" for name, count in counted.items())
        )


def _ids(status: dict[str, Any]) -> set[str]:
    return {node["id"] for node in status["nodes"]}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _nodes_table(nodes: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("node", "address", "role", "state", "runs"):
        table.add_column(name, overflow="fold")
    for name in ("pid", "workers", "queued", "steals in", "out"):
        table.add_column(name, justify="right")
    for node in sorted(nodes, key=lambda node: str(node["name"])):
        table.add_row(
            node["name"],
            node["address"],
            node["role"],
            node["state"],
            node.get("runtime", ""),
            str(node["pid"]),
            str(node["workers"]),
            f"{node['queued_seconds']:.2f} s",
            f"{node['steals_in']:,}",
            f"{node['steals_out']:,}",
        )
    return table


def _jobs_table(jobs: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "kind", "name", "state"):
        table.add_column(name, overflow="fold")
    for name in ("done", "total", "failed", "leased", "free", "rerun", "dropped"):
        table.add_column(name, justify="right")
    for job in jobs:
        figures = (
            f"{job[name]:,}"
            for name in ("done", "total", "failed", "leased", "free", "rerun", "duplicates_dropped")
        )
        table.add_row(str(job["id"])[-16:], job["kind"], job["name"], job["state"], *figures)
    return table
