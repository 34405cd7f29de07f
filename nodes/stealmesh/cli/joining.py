"""What every command that needs a mesh does first: settings, key, seeds, joining.

Turns each way in which that can fail into one line and an exit status. The heavy imports are
inside: `--help` never gets here.
"""

from __future__ import annotations

import argparse
import os
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stealmesh import seeds as seeds_module
from stealmesh.addresses import LOOPBACK, address_towards, listen_at
from stealmesh.cli.exits import NOT_JOINED, USAGE, Ended, say

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh
    from stealmesh.security import MeshKey
    from stealmesh_engine.config import Config

LOOK_AGAIN_SECONDS = 0.5


def config_of(arguments: argparse.Namespace) -> Config:
    from stealmesh.settings import load_config

    environment = dict(os.environ)
    if arguments.config:
        environment["STEALMESH_CONFIG_FILE"] = arguments.config
    try:
        return load_config(environment=environment)
    except (ValueError, OSError, tomllib.TOMLDecodeError) as error:
        raise Ended(USAGE, f"cannot use these settings: {error}") from None


def key_path(arguments: argparse.Namespace) -> str:
    from stealmesh.security import default_key_path

    return str(arguments.key_file or default_key_path())


@contextmanager
def key_problems() -> Iterator[None]:
    """A key that cannot be used is a mesh that cannot be joined."""
    from stealmesh.security import KeyRefused

    try:
        yield
    except (KeyRefused, OSError) as error:
        raise Ended(NOT_JOINED, f"no usable mesh key: {error}") from None


def load_key(arguments: argparse.Namespace) -> MeshKey:
    from stealmesh.security import MeshKey

    with key_problems():
        return MeshKey.load(key_path(arguments))


def seeds_now(given: list[list[str]]) -> list[str]:
    """What `--seed` options name; nested because each may be a list."""
    return [seed for several in given for seed in several]


def resolved(specs: list[str], seconds_max: float = 0.0) -> list[str]:
    """The addresses behind seeds; looks again and again for so long when there are none yet."""
    until = time.monotonic() + seconds_max
    told = False
    while True:
        try:
            return seeds_module.resolve(specs)
        except ValueError as error:
            raise Ended(USAGE, str(error)) from None
        except seeds_module.SeedsUnknown as error:
            if time.monotonic() >= until:
                raise Ended(NOT_JOINED, f"could not join: {error}") from None
            if not told:
                say(f"no seed yet: {error}; trying on")
                told = True
        time.sleep(min(LOOK_AGAIN_SECONDS, max(0.0, until - time.monotonic())))


def default_seeds() -> list[str]:
    """Where `stealmesh start` listens on this very host."""
    hosts = dict.fromkeys((address_towards(), LOOPBACK))
    return [listen_at(host, seeds_module.PORT) for host in hosts]


def join_as_client(arguments: argparse.Namespace) -> Mesh:
    """The running mesh behind `--seed` (default: the one on this host)."""
    specs = seeds_now(arguments.seeds)
    key = load_key(arguments)
    addresses = resolved(specs) if specs else default_seeds()

    from stealmesh.mesh import Mesh
    from stealmesh_protocol.errors import JoinRefused

    try:
        return Mesh(addresses, key=key, config=config_of(arguments))
    except JoinRefused as refusal:
        hint = "" if specs else "; name a node with --seed, or start one with `stealmesh start`"
        raise Ended(NOT_JOINED, f"could not join: {refusal}{hint}") from None
