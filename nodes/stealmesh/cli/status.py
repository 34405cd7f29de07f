"""Show a running mesh: its nodes, its jobs, what runs long, and what was refused or dropped.

Joins as a client through --seed (default: the mesh of STEALMESH_TOKEN, of a node of yours on this
host, or where you last knew one), looks once, and leaves. With --watch it looks again and again, until
Ctrl-C. With --json it prints one object a look, the same that `Mesh.status()` returns.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import drawing, tables
from stealmesh.cli.exits import DONE, NOT_JOINED, CommandEnded
from stealmesh.cli.joining import join_as_client

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh

LOOKS_MAX = 12
LOOK_SECONDS = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--watch", action="store_true", help="look again every second, until Ctrl-C"
    )
    parser.add_argument(
        "--all", action="store_true", help="every node and every job of a large mesh"
    )
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        status = first_look(mesh)
        if not arguments.watch:
            drawing.show(_lines(status, arguments))
            return DONE
        drawing.watch(lambda: _lines(look_again(mesh), arguments))
    return DONE


def _lines(status: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    if arguments.json:
        return [json.dumps(status)]
    return tables.frame(status, drawing.width(), all_of_it=arguments.all)


def first_look(mesh: Mesh) -> dict[str, Any]:
    """`settled`, or the command ends."""
    try:
        return settled(mesh)
    except TimeoutError:
        raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None


def look_again(mesh: Mesh) -> dict[str, Any]:
    """The status; of a mesh that does not answer at this moment, nothing."""
    try:
        return mesh.status()
    except TimeoutError:
        return {"nodes": [], "jobs": [], "counters": {}}


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
    """For people, on standard output."""
    drawing.show(tables.frame(status, width))


def _ids(status: dict[str, Any]) -> set[str]:
    return {node["id"] for node in status["nodes"]}
