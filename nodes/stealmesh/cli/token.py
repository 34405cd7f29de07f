"""Print a token: a line with which another program joins, and may do no more than its role.

The roles: submit (runs its own jobs and collects their results), view (looks: status, jobs), peer (everything: the
line that `stealmesh start` prints, with the mesh key in it). A token of submit or view has a name, to revoke it by,
and may expire. It is used like the line of `start`: stealmesh.Mesh("stealmesh1-…"), or `stealmesh join --key-only`.

Making one needs the mesh key and no node. --revoke needs a running mesh: its nodes tell each other, and remember it
as long as one of them lives or has kept its --state.
"""

from __future__ import annotations

import argparse
import secrets
import time
from typing import TYPE_CHECKING

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, FAILED, USAGE, CommandEnded, say
from stealmesh.cli.joining import (
    FoundMesh,
    enter,
    load_mesh_key,
    resolved,
    seeds_now,
    the_mesh,
    this_users,
)

if TYPE_CHECKING:
    from stealmesh.host.security import MeshKey

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
REVOKE_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--role", choices=("peer", "submit", "view"), help="what its holder may do")
    what.add_argument(
        "--revoke", metavar="NAME", help="the token of this name counts no more, for good"
    )
    parser.add_argument(
        "--name", help="what it is called, to revoke it by (default: a random one); letters, digits, . - _"
    )  # fmt: skip
    parser.add_argument(
        "--expires", metavar="TIME", type=duration, help="how long it counts, as in 12h, 7d or 4w (default: until the mesh key is changed)"
    )  # fmt: skip
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    key, _ = load_mesh_key(arguments)
    if arguments.revoke is not None:
        return revoke(arguments, key, arguments.revoke)
    print(
        f"stealmesh join {'' if arguments.role == 'peer' else '--key-only '}{_token(arguments, key)}"
    )
    return DONE


def duration(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    seconds = UNITS.get(unit, 0.0) * (
        float(number) if number.replace(".", "", 1).isdecimal() else 0.0
    )
    if not 0.0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 12h, 7d or 4w")
    return seconds


def _token(arguments: argparse.Namespace, key: MeshKey) -> str:
    from stealmesh.host.issuing import WORKERS_NAME, issued
    from stealmesh.host.security import JoinToken
    from stealmesh_protocol.passes import KeyRole

    seeds = tuple(_addresses(arguments))
    if arguments.role == "peer":
        if arguments.name or arguments.expires:
            raise CommandEnded(
                USAGE,
                "a peer token is the mesh key itself, so it has no name and cannot expire: leave out --name and "
                "--expires, or change the key with `stealmesh rotate-key`",
            )
        say(f"this line has the mesh key {key.fingerprint()} in it: who has it may do everything")
        return JoinToken(key, seeds).encode()
    role = KeyRole[arguments.role.upper()]
    name = arguments.name or f"{arguments.role}-{secrets.token_hex(4)}"
    expires = time.time() + arguments.expires if arguments.expires else 0.0
    if name == WORKERS_NAME:
        raise CommandEnded(USAGE, f"{name!r} is the name that workers have: choose another")
    try:
        guest = issued(key, role, name, expires)
    except ValueError as error:
        raise CommandEnded(USAGE, str(error)) from None
    say(
        f"a {guest} of the mesh key {key.fingerprint()}; take it back with `stealmesh token --revoke {name}`"
    )
    return JoinToken(guest, seeds).encode()


def _addresses(arguments: argparse.Namespace) -> list[str]:
    """Where its holder finds the mesh: as said, or as we would find it."""
    specs = seeds_now(arguments.seeds)
    if specs:
        return resolved(specs)
    found = this_users(arguments)
    if found is None:
        raise CommandEnded(
            USAGE, "no node of this mesh is known here: name one with --seed tcp://host:port"
        )
    return found.addresses[:4]


# ---------------------------------------------------------------- taking back


def revoke(arguments: argparse.Namespace, key: MeshKey, name: str) -> int:
    from stealmesh.cli.status import settled
    from stealmesh.host.issuing import WORKERS_NAME, barred_names
    from stealmesh_protocol.limits import BARRED_MAX
    from stealmesh_protocol.passes import is_name

    if not is_name(name) or name == WORKERS_NAME:
        raise CommandEnded(USAGE, f"{name!r} is the name of no token")
    found: FoundMesh = the_mesh(arguments)
    with enter(arguments, found) as mesh:
        settled(mesh)  # so that it is said how many nodes know it, of all
        mesh._life.bar(barred_names(key, name))
        until = time.monotonic() + REVOKE_SECONDS_MAX
        while True:
            nodes = [node for node in mesh.status()["nodes"] if node["role"] != "client"]
            told = [node for node in nodes if name in node.get("revoked", [])]
            if told and len(told) == len(nodes):
                break
            if any(len(node.get("revoked", [])) >= BARRED_MAX for node in nodes):
                raise CommandEnded(
                    FAILED,
                    f"there are {BARRED_MAX} revoked tokens already: make a new mesh key with `stealmesh rotate-key`, "
                    "which makes all tokens void",
                )
            if time.monotonic() > until:
                break
            time.sleep(LOOK_SECONDS)
    if not told:
        raise CommandEnded(FAILED, "no node has confirmed it: try again")
    lasting = sum(bool(node.get("remembers")) for node in told)
    say(
        f"revoked {name}: {len(told)} of {len(nodes)} nodes know it, {lasting} of them keep it on disk"
        + ("" if lasting else "; none outlives a restart of all nodes: give one of them a --state")
    )
    return DONE if len(told) == len(nodes) else FAILED
