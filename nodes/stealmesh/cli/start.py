"""Start a mesh on this machine and print the one line to paste on the others.

Makes the user's key if there is none, listens at this host's address (port 7077), prints
`stealmesh join …` on standard output, and is a node from then on. Whoever has that line is a full
member of the mesh: treat it like a password.
"""

from __future__ import annotations

import argparse

from stealmesh.cli import arguments as shared
from stealmesh.addresses import address_towards, is_loopback, listen_at
from stealmesh.cli.exits import say
from stealmesh.cli.joining import key_path, key_problems
from stealmesh.seeds import PORT
from stealmesh.cli.serving import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_node_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.security import JoinToken, MeshKey

    with key_problems():
        key = MeshKey.load_or_create(key_path(arguments))

    def invite(addresses: list[str]) -> None:
        if all(map(is_loopback, addresses)):
            say("this line works on this machine only: use --listen tcp://0.0.0.0:7077 for others")
        else:
            say("paste this line on another machine:")
        print(f"stealmesh join {JoinToken(key, tuple(addresses)).encode()}", flush=True)

    listen = arguments.listen or listen_at(address_towards(), PORT)
    return serve(arguments, key=key, specs=[], listen=listen, on_listening=invite)
