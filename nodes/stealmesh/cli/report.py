"""Write the story of a job as one HTML file: who did what, what went wrong, which worker was busy when.

    stealmesh report JOB > job.html

The file needs nothing else, and shows what nodes remember now. JOB is as for `stealmesh trace`.
"""

from __future__ import annotations

import argparse
import sys

from stealmesh.cli import arguments as shared
from stealmesh.cli.events import say_missed
from stealmesh.cli.exits import DONE
from stealmesh.cli.output import written
from stealmesh.cli.trace import remembered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="its id or its name, or all")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.job_story import page

    chosen, reader = remembered(arguments)
    with written():
        sys.stdout.write(page(arguments.job, chosen, reader.missed))
    say_missed(reader)
    return DONE
