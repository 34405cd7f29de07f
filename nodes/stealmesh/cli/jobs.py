"""Show the jobs of a running mesh: what runs, and what has ended lately.

The ids of the durable ones (Mesh.launch, options(durable=True)) are what `stealmesh results`,
`stealmesh cancel` and `Mesh.attach` take, shortened as they are shown here or whole.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, USAGE, CommandEnded
from stealmesh.cli.joining import join_as_client

if TYPE_CHECKING:
    from stealmesh.client.durable_job import Job
    from stealmesh.mesh import Mesh


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a job")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.cli.status import settled

    with join_as_client(arguments) as mesh:
        show(settled(mesh)["jobs"], as_json=arguments.json)
    return DONE


def show(jobs: list[dict[str, Any]], *, as_json: bool) -> None:
    from stealmesh.cli.status import console, jobs_table

    if as_json:
        for job in jobs:
            print(json.dumps(job))
    else:
        console().print(jobs_table(jobs) if jobs else "no jobs")


def job_called(mesh: Mesh, text: str) -> Job:
    """The durable job with this name on a command line. Raises CommandEnded."""
    try:
        return mesh.attach(text)
    except ValueError as error:
        raise CommandEnded(USAGE, str(error)) from None
