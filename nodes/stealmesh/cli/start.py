"""Start a mesh on this machine and print the one line to paste on the others.

Makes the user's key if there is none, listens at this host's address (port 7077), prints
`stealmesh join …` on standard output (and on standard error the line for a Python program), and is a
node from then on. That line lets everybody who has it run code on the mesh: treat it like a password.
"""

from __future__ import annotations

import argparse
from typing import IO

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import say
from stealmesh.cli.joining import key_path, key_problems, the_mesh_key, token_from_environment
from stealmesh.cli.serving import serve
from stealmesh.host.addresses import address_towards, is_loopback, listen_at
from stealmesh.host.seeds import PORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_node_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.host.security import JoinToken, MeshKey

    token = None if arguments.key_file else token_from_environment()
    path = "" if token is not None else key_path(arguments)
    with key_problems():
        key = the_mesh_key(token.key) if token is not None else MeshKey.load_or_create(path)

    def invite(addresses: list[str], out: IO[str]) -> None:
        told = JoinToken(key, tuple(addresses)).encode()
        if all(map(is_loopback, addresses)):
            say("this line works on this machine only: use --listen tcp://0.0.0.0:7077 for others")
        else:
            say("paste this line on another machine:")
        print(f"stealmesh join {told}", file=out, flush=True)
        say(f'or use this mesh from a program: mesh = stealmesh.Mesh("{told}")')

    listen = arguments.listen or listen_at(address_towards(), PORT)
    return serve(arguments, key=key, key_path=path, specs=[], listen=listen, on_listening=invite)
