"""Stop a durable job, also one that another program launched; the mesh drops its results."""

from __future__ import annotations

import argparse

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, say
from stealmesh.cli.jobs import job_called
from stealmesh.cli.joining import join_as_client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="its id, as `stealmesh jobs` shows it")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        job = job_called(mesh, arguments.job)
        if job.done():
            say(f"job {job.name} had ended already")
        job.cancel()
        job.wait()
    return DONE
