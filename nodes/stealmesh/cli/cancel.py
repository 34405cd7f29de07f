"""Stop a job, also one of another program.

The mesh drops what a durable job has not delivered. A job that is not durable belongs to a program that runs: the
program is told, and ends it. Its calls that have not begun are cancelled there, those that run are stopped.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, FAILED, CommandEnded, say
from stealmesh.cli.jobs import job_called, line_called
from stealmesh.cli.joining import join_as_client
from stealmesh_protocol.errors import NotAllowed

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_job(parser)
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        line = line_called(mesh, arguments.job)
        if line["durable"]:
            _cancel_durable(mesh, line["id"])
        elif line["ended"]:
            say(f"job {line['name']} had ended already: {line['state']}")
        else:
            _call_off(mesh, line)
    return DONE


def _cancel_durable(mesh: Mesh, job_id: str) -> None:
    job = job_called(mesh, job_id)
    if job.done():
        say(f"job {job.name} had ended already")
    job.cancel()
    job.wait()


def _call_off(mesh: Mesh, line: dict[str, Any]) -> None:
    """Raises CommandEnded."""
    owner = line["owner"] or "?"
    try:
        done = mesh.looking.call_off(bytes.fromhex(line["id"]))
    except NotAllowed as error:
        raise CommandEnded(FAILED, f"job {line['name']} of {owner}: {error}") from None
    if not done:
        raise CommandEnded(
            FAILED,
            f"job {line['name']}: the program {owner} did not answer; it may have ended, or no node that answers "
            "has a link with it: look at `stealmesh jobs`, and try again",
        )
    say(f"the program {owner} has cancelled job {line['name']}")
