"""Join a mesh with the line that `stealmesh start` printed on another machine.

Stores the mesh key for this user (other users cannot read it) and is a node from then on. With
--key-only it starts no node, and programs and commands of this user can use the mesh. Other users of
this machine can see a token on the command line while it runs: `stealmesh join -` reads it from
standard input instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, USAGE, CommandEnded, say
from stealmesh.cli.joining import key_path, key_problems, resolved, seeds_now
from stealmesh.cli.node import add_join_timeout, default_listen
from stealmesh.cli.serving import serve

if TYPE_CHECKING:
    from stealmesh.host.security import MeshKey

TOKEN_CHARS_MAX = 16 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "token",
        metavar="TOKEN|-",
        nargs="+",
        help="stealmesh1-…, or - to read it from standard input",
    )
    parser.add_argument(
        "--replace", action="store_true", help="forget the key of another mesh that is stored here"
    )
    parser.add_argument(
        "--key-only",
        action="store_true",
        help="store the key and the addresses, start no node: for programs and commands that only use the mesh",
    )
    shared.add_seeds(parser)
    shared.add_node_options(parser)
    add_join_timeout(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.host.security import JoinToken, TokenRefused

    try:
        token = JoinToken.decode(_pasted(" ".join(arguments.token)))
    except TokenRefused as refusal:
        raise CommandEnded(USAGE, str(refusal)) from None
    specs = [*token.seeds, *seeds_now(arguments.seeds)]
    if not specs:
        raise CommandEnded(USAGE, "this token names no node: add --seed tcp://host:port")
    path = key_path(arguments)
    keep_key(token.key, path, replace=arguments.replace)
    if arguments.key_only:
        return keep_addresses(token.key, path, specs)
    listen = arguments.listen or default_listen(specs)
    return serve(arguments, key=token.key, key_path=path, specs=specs, listen=listen)


def keep_addresses(key: MeshKey, path: str, specs: list[str]) -> int:
    """Store the addresses, so that commands of this user find the mesh from now on."""
    from stealmesh.host.peer_cache import PeerCache, token_path
    from stealmesh.host.security import default_key_path

    addresses = resolved(specs)
    PeerCache(token_path(key.fingerprint())).save(addresses)
    option = "" if path == str(default_key_path()) else f", key={path!r}"
    say(
        f'programs join with stealmesh.Mesh("{",".join(addresses)}"{option}), commands by themselves: '
        "try `stealmesh status`"
    )
    return DONE


def keep_key(key: MeshKey, path: str, *, replace: bool) -> None:
    """Store the key unless it is there; replaces another one only if `replace` says so."""
    from stealmesh.host.security import MeshKey

    with key_problems():
        if os.path.lexists(path) and not replace:
            stored = MeshKey.load(path)
            if stored != key:
                raise CommandEnded(
                    USAGE,
                    f"{path} holds the key of another mesh ({stored.fingerprint()}): "
                    "add --replace to forget that one, or --key-file to keep both",
                )
            return
        key.save(path, replace=replace)
    say(f"stored the mesh key {key.fingerprint()} in {path}")


def _pasted(argument: str) -> str:
    """The token; people also paste the whole line."""
    return sys.stdin.read(TOKEN_CHARS_MAX) if argument.strip() == "-" else argument
