"""Be a node of a mesh until told to leave.

With --seed it joins the mesh there. Without, it is the first node, or finds the peers of its earlier
life again (and says so while none of them answers). The first SIGTERM or SIGINT (Ctrl-C) drains: queued
work goes back, running work is finished, then exit status 0. The second ends the node at once.

A node retries a seed that it cannot reach, and says the reason once. After --join-timeout it gives up
with exit status 3. A node that finds its own address among the seeds is one of the first: it
waits for the others without a limit.
"""

from __future__ import annotations

import argparse

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import USAGE, CommandEnded
from stealmesh.cli.joining import load_mesh_key, seeds_now, token_from_environment
from stealmesh.cli.serving import JOIN_SECONDS_DEFAULT, serve
from stealmesh.host.addresses import address_towards, listen_at
from stealmesh.host.interfaces import LOOPBACK
from stealmesh.host.seeds import PORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_seeds(parser)
    shared.add_node_options(parser)
    add_join_timeout(parser)
    parser.add_argument(
        "--insecure", action="store_true", help="no key and no encryption: everybody who reaches the port can run code here"
    )  # fmt: skip
    parser.add_argument(
        "--i-understand", action="store_true", help="allow --insecure on other addresses than loopback"
    )  # fmt: skip


def add_join_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join-timeout", metavar="SECONDS", type=shared.not_negative, default=JOIN_SECONDS_DEFAULT,
        help="give up when no seed has let us in after this time (default: %(default)g)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    specs = seeds_now(arguments.seeds)
    if arguments.i_understand and not arguments.insecure:
        raise CommandEnded(USAGE, "--i-understand means nothing without --insecure")
    key, path = (None, "") if arguments.insecure else load_mesh_key(arguments)
    token = None if arguments.insecure else token_from_environment()
    if token is not None and token.key == key:
        specs = specs or list(token.seeds)
    listen = arguments.listen or default_listen(specs, loopback=arguments.insecure)
    return serve(arguments, key=key, key_path=path, specs=specs, listen=listen)


def default_listen(specs: list[str], *, loopback: bool = False) -> str:
    """The address of this host towards the first plain seed, with any port; a first node has the usual
    port."""
    towards = next((seed for seed in specs if seed.startswith("tcp://")), None)
    host = LOOPBACK if loopback else address_towards(towards)
    return listen_at(host, 0 if specs else PORT)
