"""Show a running mesh: its nodes, its jobs, and what was refused or dropped.

Joins as a client through --seed (default: the mesh of STEALMESH_TOKEN, of a node of yours on this
host, or where you last knew one), looks once, and leaves. With --json it prints one object, the same
that `Mesh.status()` returns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, CommandEnded
from stealmesh.cli.joining import join_as_client

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh

PIPE_WIDTH = 240
LOOKS_MAX = 12
LOOK_SECONDS = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        try:
            status = settled(mesh)
        except TimeoutError:
            raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None
    if arguments.json:
        print(json.dumps(status))
    else:
        show(status)
    return DONE


def settled(mesh: Mesh) -> dict[str, Any]:
    """The status of the whole mesh. A client that has just joined knows one node and hears of the others,
    so this looks until two looks in a row see the same nodes."""
    status = mesh.status()
    for _ in range(LOOKS_MAX):
        time.sleep(LOOK_SECONDS)
        before, status = status, mesh.status()
        if _ids(before) == _ids(status):
            break
    return status


def show(status: dict[str, Any], width: int | None = None) -> None:
    """Tables for people, on standard output."""
    out = console(width)
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    clients = len(status["nodes"]) - len(nodes)
    workers = sum(node["workers"] for node in nodes)
    out.print(
        f"[bold]{_count(len(nodes), 'node')}[/], {_count(workers, 'worker')}, {_count(clients, 'client')} (one is this command)"
    )
    out.print(_nodes_table(nodes))
    if status["jobs"]:
        out.print(jobs_table(status["jobs"]))
    else:
        out.print("no jobs")
    counted = {name: count for name, count in sorted(status["counters"].items()) if count}
    if counted:
        out.print("counted: " + ", ".join(f"{name} {count:,}" for name, count in counted.items()))


def _ids(status: dict[str, Any]) -> set[str]:
    return {node["id"] for node in status["nodes"]}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _nodes_table(nodes: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("node", "address", "role", "state", "runs"):
        table.add_column(name, overflow="fold", no_wrap=name == "address")
    declare = any(node.get("resources") for node in nodes)
    if declare:
        table.add_column("resources in use", overflow="fold")
    for name in ("pid", "workers", "queued", "steals in", "out"):
        table.add_column(name, justify="right")
    for node in sorted(nodes, key=lambda node: str(node["name"])):
        table.add_row(
            node["name"],
            node["address"],
            node["role"],
            node["state"],
            node.get("runtime", ""),
            *([_resources(node)] if declare else []),
            str(node["pid"]),
            str(node["workers"]),
            f"{node['queued_seconds']:.2f} s",
            f"{node['steals_in']:,}",
            f"{node['steals_out']:,}",
        )
    return table


def _resources(node: dict[str, Any]) -> str:
    """GPU 1 of 2, licence 0 of 1"""
    taken = node.get("resources_taken", {})
    has = node.get("resources", {})
    return ", ".join(f"{name} {taken.get(name, 0)} of {count}" for name, count in has.items())


def jobs_table(jobs: list[dict[str, Any]]) -> Any:
    """A table of jobs. The columns `rerun` and `dropped` appear only if a job has a number there."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from stealmesh.client.job_ids import short_forms

    unusual = [name for name in ("rerun", "duplicates_dropped") if any(job[name] for job in jobs)]
    figures = ("failed", "leased", "free", *unusual)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", no_wrap=True)  # to be copied
    for name in ("name", "state", "owner", "started"):
        table.add_column(name, overflow="fold")
    for name in ("took", "done", *figures):
        table.add_column(name.removeprefix("duplicates_"), justify="right")
    shown = short_forms(job["id"] for job in jobs)
    for job in jobs:
        table.add_row(
            shown[job["id"]],
            f"{job['name']} ({job['kind']})",
            job["state"],
            job.get("owner", ""),
            _moment(job.get("started")),
            _took(job.get("started"), job.get("ended")),
            f"{job['done']:,} of {job['total']:,}",
            *(f"{job[name]:,}" for name in figures),
        )
    return table


def console(width: int | None = None) -> Any:
    """A console of the terminal's width; PIPE_WIDTH in a pipe or a file, for grep and awk."""
    from rich.console import Console

    if width is None and not sys.stdout.isatty():
        width = PIPE_WIDTH
    return Console(width=width, highlight=False)


def _moment(seconds: float | None) -> str:
    """The local time; with the date if that is not today."""
    if seconds is None:
        return "?"
    then, now = time.localtime(seconds), time.localtime()
    today = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def _took(started: float | None, ended: float | None) -> str:
    if started is None or ended is None:
        return ""
    seconds = max(0.0, ended - started)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
