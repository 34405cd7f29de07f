"""Look for what keeps a mesh from working, and say what to do: one line a finding.

Looks at this machine (versions, encryption, limits, room, clock, what killed meshes have left), at the key or token that
commands use, and at each node of the mesh: its version, whether it is reached where it says and reaches the
others, its clock and its room. Changes nothing. Finds the mesh as `status` does; without one it looks at this machine only.

Exit status: 0 all is well, 1 something is to be done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from stealmesh.cli import arguments as shared
from stealmesh.cli import drawing
from stealmesh.cli.exits import DONE, FAILED, NOT_JOINED, CommandEnded
from stealmesh.cli.joining import enter, key_path, the_mesh, token_from_environment
from stealmesh.cli.status import first_look

if TYPE_CHECKING:
    from stealmesh.doctor.diagnosis import Diagnosis


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--state", metavar="DIR", default="", help="where a node here keeps durable jobs (default: the user's state directory)"
    )  # fmt: skip
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.doctor.diagnosis import report

    found = list(findings(arguments))
    told = report(found)
    drawing.show([json.dumps(told)] if arguments.json else [each.line() for each in found])
    return DONE if told["well"] else FAILED


def findings(arguments: argparse.Namespace) -> Iterator[Diagnosis]:
    from stealmesh.doctor import here, keys
    from stealmesh.doctor.diagnosis import Diagnosis

    yield from here.findings(arguments.state)
    try:
        token = None if arguments.key_file else token_from_environment()
    except CommandEnded as refusal:
        yield Diagnosis("key", str(refusal), "make a new token with `stealmesh token`")
        return
    own = list(
        keys.findings(key_path(arguments), None if token is None else token.key, time.time())
    )
    yield from own
    if all(each.is_well for each in own):
        yield from _of_the_mesh(arguments)


def _of_the_mesh(arguments: argparse.Namespace) -> Iterator[Diagnosis]:
    """What can be asked of the nodes; a person who names none need not have any."""
    from stealmesh.doctor import mesh as nodes
    from stealmesh.doctor.diagnosis import Diagnosis
    from stealmesh.host.identity import build
    from stealmesh.transport.library import greeted_at

    dials = partial(greeted_at, seconds=nodes.DIAL_SECONDS)
    try:
        found = the_mesh(arguments)
        silent = nodes.silent(found.addresses, dials)
        if silent:  # joining would try for long
            raise CommandEnded(NOT_JOINED, f"unreachable: nobody answers at {silent}")
        with enter(arguments, found) as mesh:
            first_look(mesh)
            before = time.time()
            status = mesh.status()
            yield from nodes.findings(status, build(), (before, time.time()), dials)
    except CommandEnded as end:
        text = str(end)
        named = bool(arguments.seeds) or "STEALMESH_TOKEN" in text
        if named or not ("unreachable" in text or "no usable mesh key" in text):
            yield Diagnosis(
                "mesh", text, "see that a node runs there, and that this host reaches it"
            )
        else:
            yield Diagnosis(
                "mesh", "none runs where this user knows of; name a node with --seed to look at it"
            )
