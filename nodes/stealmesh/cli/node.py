"""Be a node of a mesh until told to leave.

With --seed: join the mesh that is there; without: be its first node, or find the peers of an earlier
life again (and say so as long as none of them answers). The first SIGTERM or
SIGINT (Ctrl-C) drains: queued work goes back, what runs is finished, then exit status 0. The
second ends at once.

A seed that cannot be reached is tried again and again; the reason is said once, and after
--join-timeout the node gives up with exit status 3. A node that finds its own address among the
seeds is one of the first and waits for ever.
"""

from __future__ import annotations

import argparse

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import USAGE, CommandEnded
from stealmesh.cli.joining import load_key, seeds_now, token_from_environment
from stealmesh.cli.serving import JOIN_SECONDS_DEFAULT, serve
from stealmesh.host.addresses import address_towards, listen_at
from stealmesh.host.interfaces import LOOPBACK
from stealmesh.host.seeds import PORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_seeds(parser)
    shared.add_node_options(parser)
    add_join_timeout(parser)
    parser.add_argument(
        "--insecure", action="store_true", help="no key and no encryption: whoever reaches the port runs code here"
    )  # fmt: skip
    parser.add_argument(
        "--i-understand", action="store_true", help="allow --insecure on other addresses than loopback"
    )  # fmt: skip


def add_join_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join-timeout", metavar="SECONDS", type=shared.not_negative, default=JOIN_SECONDS_DEFAULT,
        help="give up when no seed lets us in for so long (default: %(default)g)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    specs = seeds_now(arguments.seeds)
    if arguments.i_understand and not arguments.insecure:
        raise CommandEnded(USAGE, "--i-understand means nothing without --insecure")
    key, path = (None, "") if arguments.insecure else load_key(arguments)
    token = None if arguments.insecure else token_from_environment()
    if token is not None and token.key == key:
        specs = specs or list(token.seeds)
    listen = arguments.listen or default_listen(specs, loopback=arguments.insecure)
    return serve(arguments, key=key, key_path=path, specs=specs, listen=listen)


def default_listen(specs: list[str], *, loopback: bool = False) -> str:
    """The address from which the first plain seed is reached, any port; the usual port for a first node."""
    towards = next((seed for seed in specs if seed.startswith("tcp://")), None)
    host = LOOPBACK if loopback else address_towards(towards)
    return listen_at(host, 0 if specs else PORT)
