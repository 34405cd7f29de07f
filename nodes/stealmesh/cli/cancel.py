"""Stop a durable job, also one that another program launched; the mesh drops its results.

A job that is not durable belongs to a program that runs: it ends with the program, and only the program can cancel
it. The command then says which program that is.
"""

from __future__ import annotations

import argparse

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, FAILED, CommandEnded, say
from stealmesh.cli.jobs import job_called, line_called
from stealmesh.cli.joining import join_as_client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", help="its id as `stealmesh jobs` shows it, or its name"
    )
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        line = line_called(mesh, arguments.job)
        if not line["durable"]:
            if line["ended"]:
                say(f"job {line['name']} had ended already: {line['state']}")
                return DONE
            raise CommandEnded(
                FAILED,
                f"job {line['name']} is not durable: it belongs to the program {line['owner'] or '?'}, which runs, "
                "and only that program can cancel it; end the program, and its job ends with it",
            )
        job = job_called(mesh, line["id"])
        if job.done():
            say(f"job {job.name} had ended already")
        job.cancel()
        job.wait()
    return DONE
