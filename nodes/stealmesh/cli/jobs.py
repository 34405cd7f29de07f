"""Show the jobs of a running mesh: what runs, and what has ended lately, also of programs that are gone.

Name a job by its id, the start of its id, the short form that is shown, or its name. `stealmesh results`,
`Mesh.attach` and `Mesh.jobs` take those of durable ones (Mesh.launch, options(durable=True)).
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, USAGE, CommandEnded
from stealmesh.cli.joining import join_as_client

if TYPE_CHECKING:
    from stealmesh.client.durable_job import Job
    from stealmesh.mesh import Mesh


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a job")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.cli.status import first_look

    with join_as_client(arguments) as mesh:
        show(first_look(mesh)["jobs"], as_json=arguments.json)
    return DONE


def show(jobs: list[dict[str, Any]], *, as_json: bool) -> None:
    from stealmesh.cli import drawing, tables

    if as_json:
        for job in jobs:
            print(json.dumps(job))
    else:
        drawing.show(tables.jobs_lines(jobs, drawing.width()))


def job_called(mesh: Mesh, text: str) -> Job:
    """The durable job with this name on a command line. Raises CommandEnded."""
    try:
        job = mesh.attach(text)
    except ValueError as error:
        raise CommandEnded(USAGE, str(error)) from None
    if not is_known(mesh, job):
        raise CommandEnded(
            USAGE, f"no job of this mesh is called {text!r}: `stealmesh jobs` lists them"
        )
    return job


def is_known(mesh: Mesh, job: Job) -> bool:
    """Has any node heard of it? A whole id is believed, as its primary may be dead at this moment: so this waits some
    seconds for a primary, and then asks for what is left of the job. With a replica it will have a primary again."""
    if job.name or job.latest() is not None or job.done():
        return True
    try:
        return bool(mesh.looking.explain(bytes.fromhex(job.id))["facts"])
    except TimeoutError:
        raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None


def line_called(mesh: Mesh, text: str) -> dict[str, Any]:
    """What is known of any job with this name on a command line. Raises CommandEnded."""
    from stealmesh.cli.status import first_look
    from stealmesh.client.job_ids import line_named

    try:
        return line_named(text, first_look(mesh)["jobs"])
    except ValueError as error:
        raise CommandEnded(USAGE, str(error)) from None
