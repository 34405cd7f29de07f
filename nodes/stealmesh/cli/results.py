"""Collect the results of a durable job: JSON lines on standard output, in order, as they come.

An item that failed is {"index": …, "error": …} and does not stop the others; the exit status is then 1.
Values are written as by `stealmesh run`.
The results stay with the mesh, to be collected again, until they expire or the mesh needs their room.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, FAILED, CommandEnded, say
from stealmesh.cli.function import working_directory
from stealmesh.cli.jobs import job_called
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.output import written

if TYPE_CHECKING:
    from stealmesh.client.durable_job import Job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_job(parser)
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    if (here := working_directory()) and here not in sys.path:
        sys.path.insert(0, here)  # modules there may define the types of results
    with join_as_client(arguments) as mesh:
        return collect(job_called(mesh, arguments.job))


def collect(job: Job) -> int:
    from concurrent.futures import CancelledError

    from stealmesh.cli.run import as_json
    from stealmesh_protocol.errors import JobLost, MeshClosed

    failed = count = 0
    try:
        for value in job.results(return_exceptions=True):
            row: dict[str, Any] = {"index": count}
            if isinstance(value, BaseException):
                failed += 1
                row["error"] = f"{type(value).__name__}: {value}"
            else:
                row["result"] = value
            with written():
                print(as_json(row))
            count += 1
    except (JobLost, MeshClosed, CancelledError) as error:
        raise CommandEnded(FAILED, f"the results from {count} on cannot be had: {error}") from None
    if failed:
        say(f"{failed:,} of {count:,} items failed")
    return FAILED if failed else DONE
