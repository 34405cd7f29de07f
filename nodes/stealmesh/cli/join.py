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
from stealmesh.cli.exits import DONE, NOT_JOINED, USAGE, CommandEnded, say
from stealmesh.cli.joining import key_path, key_problems, resolved, seeds_now, the_mesh_key
from stealmesh.cli.node import add_join_timeout, default_listen
from stealmesh.cli.serving import serve

if TYPE_CHECKING:
    from stealmesh.host.security import AnyKey

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
    key = token.key if arguments.key_only else _nodes_key(token.key)
    store_key(key, path, replace=arguments.replace)
    if arguments.key_only:
        return keep_addresses(key, path, specs)
    listen = arguments.listen or default_listen(specs)
    return serve(arguments, key=the_mesh_key(key), key_path=path, specs=specs, listen=listen)


def _nodes_key(key: AnyKey) -> AnyKey:
    """A token of a lesser role makes no node, but its holder may keep it."""
    from stealmesh.host.security import MeshKey

    if isinstance(key, MeshKey):
        return key
    raise CommandEnded(
        NOT_JOINED,
        f"a {key} cannot be a node: keep it for programs and commands with `stealmesh join --key-only`, or paste "
        "the line that `stealmesh start` printed",
    )


def keep_addresses(key: AnyKey, path: str, specs: list[str]) -> int:
    """Store the addresses, so that commands of this user find the mesh from now on."""
    from stealmesh.host.peer_cache import PeerCache, token_path
    from stealmesh.host.security import default_key_path

    addresses = resolved(specs)
    PeerCache(token_path(key.mesh_mark())).save(addresses)
    option = "" if path == str(default_key_path()) else f", key={path!r}"
    say(
        f'programs join with stealmesh.Mesh("{",".join(addresses)}"{option}), commands by themselves: '
        "try `stealmesh status`"
    )
    return DONE


def store_key(key: AnyKey, path: str, *, replace: bool) -> None:
    """Store the key unless it is there; replaces another one only if `replace` says so. A later key of the same mesh
    needs no `replace`: the mesh has it."""
    from stealmesh.host.security import MeshKey, keep_key, load_key

    with key_problems():
        if os.path.lexists(path) and not replace:
            stored = load_key(path)
            if stored == key:
                return
            same = isinstance(stored, MeshKey) and isinstance(key, MeshKey) and key.follows(stored)
            if not same:
                raise CommandEnded(
                    USAGE,
                    f"{path} holds {_what(stored, key)}: "
                    "add --replace to forget that one, or --key-file to keep both",
                )
            replace = True
        keep_key(key, path, replace=replace)
    what = (
        f"the mesh key {key.fingerprint()}"
        if isinstance(key, MeshKey)
        else f"a {key} of the mesh key {key.fingerprint()}"
    )
    say(f"stored {what} in {path}")


def _what(stored: AnyKey, key: AnyKey) -> str:
    from stealmesh.host.security import MeshKey

    if stored.mesh_id() != key.mesh_id():
        return f"the key of another mesh ({stored.fingerprint()})"
    if isinstance(stored, MeshKey):
        return f"the mesh key {stored.fingerprint()}"
    return f"a {stored}"


def _pasted(argument: str) -> str:
    """The token; people also paste the whole line."""
    return sys.stdin.read(TOKEN_CHARS_MAX) if argument.strip() == "-" else argument
