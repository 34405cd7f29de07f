"""Print the figures of a running mesh in the text format of Prometheus.

For its textfile collector (`stealmesh metrics > stealmesh.prom`), or for any script that reads the format. The
counters add up the nodes that live: they fall when a node goes, as any counter does at a restart.
"""

from __future__ import annotations

import argparse
import sys
import time

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, CommandEnded
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.output import written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.cli.status import settled
    from stealmesh.metrics import exposition

    with join_as_client(arguments) as mesh:
        try:
            status = settled(mesh)
        except TimeoutError:
            raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None
    with written():
        sys.stdout.write(exposition(status, time.time()))
    return DONE
