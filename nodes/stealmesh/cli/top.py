"""Show what a mesh does, live: nodes, jobs and what runs longest, drawn anew every second until Ctrl-C.

With --once it prints one picture and ends. What it shows of items (JOB/ITEM) is what `stealmesh explain` and
`stealmesh stacks` take.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import drawing, tables
from stealmesh.cli.exits import DONE
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.status import first_look, look_again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="one picture")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        status = first_look(mesh)
        if arguments.once:
            drawing.show(picture(status, drawing.width()))
        else:
            drawing.watch(lambda: picture(look_again(mesh), drawing.width()))
    return DONE


def picture(status: dict[str, Any], width: int | None, now: float | None = None) -> list[str]:
    """One screen: what runs longest comes first, as that is what may be stuck."""
    now = time.time() if now is None else now
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    lines = [f"stealmesh at {clock}", *tables.summary(status, nodes, width)]
    long = tables.long_lines(nodes, status["jobs"], width)
    lines += ["", *(long or ["nothing runs"]), ""]
    going = [job for job in status["jobs"] if not job.get("ended")]
    lines += tables.jobs_lines(going, width, all_of_it=False, now=now)
    return [*lines, "", *tables.nodes_lines(nodes, width)]
