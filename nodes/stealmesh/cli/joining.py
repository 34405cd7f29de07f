"""What every command that needs a mesh does first: settings, key, seeds, joining.

Decides which mesh is meant when a person does not say it. It tries, in this order: the mesh of
STEALMESH_TOKEN; the mesh of a node of this user that runs on this host; the addresses at which this
user last knew nodes (a token that `join --key-only` stored, the peers of an earlier node); this host's
usual port. Turns every failure into one line and an exit status. Heavy imports are inside of functions.
"""

from __future__ import annotations

import argparse
import os
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stealmesh.cli.exits import NOT_JOINED, USAGE, CommandEnded, say
from stealmesh.host import seeds as seeds_module
from stealmesh.host.addresses import address_towards, listen_at
from stealmesh.host.interfaces import LOOPBACK

if TYPE_CHECKING:
    from stealmesh.host.running import RunningNode
    from stealmesh.host.security import AnyKey, JoinToken, MeshKey
    from stealmesh.mesh import Mesh
    from stealmesh_engine.config import Config

LOOK_AGAIN_SECONDS = 0.5
ADDRESSES_MAX = 16
"""At most this many remembered addresses are dialled: an old mesh may have had thousands."""


@dataclass(frozen=True, slots=True)
class FoundMesh:
    """A mesh, and the way in."""

    key: AnyKey
    addresses: list[str]
    hint: str = ""
    """Appended to the error when no node there lets us in."""
    is_guess: bool = False
    """These addresses are only remembered: there may be no mesh any more."""


def config_of(arguments: argparse.Namespace) -> Config:
    """The settings of the file in `--config` or of the user's own. Raises CommandEnded."""
    from stealmesh.host.settings import load_config

    environment = dict(os.environ)
    if arguments.config:
        environment["STEALMESH_CONFIG_FILE"] = arguments.config
    try:
        return load_config(environment=environment)
    except (ValueError, OSError, tomllib.TOMLDecodeError) as error:
        raise CommandEnded(USAGE, f"cannot use these settings: {error}") from None


def key_path(arguments: argparse.Namespace) -> str:
    from stealmesh.host.security import default_key_path

    return str(arguments.key_file or default_key_path())


@contextmanager
def key_problems() -> Iterator[None]:
    """Turns the errors of a key that cannot be used into CommandEnded."""
    from stealmesh.host.security import KeyRefused

    try:
        yield
    except (KeyRefused, OSError) as error:
        raise CommandEnded(NOT_JOINED, f"no usable mesh key: {error}") from None


def load_key(arguments: argparse.Namespace) -> tuple[AnyKey, str]:
    """The key, and the path of its file ("" for the key of the token in the environment)."""
    from stealmesh.host.security import load_key

    if not arguments.key_file and (token := token_from_environment()) is not None:
        return token.key, ""
    with key_problems():
        return load_key(key_path(arguments)), key_path(arguments)


def load_mesh_key(arguments: argparse.Namespace) -> tuple[MeshKey, str]:
    """The same, and it must be the mesh key: a node needs it, and making tokens does."""
    key, path = load_key(arguments)
    return the_mesh_key(key), path


def the_mesh_key(key: AnyKey) -> MeshKey:
    """This key, if it is no lesser one. Raises CommandEnded."""
    from stealmesh.host.security import MeshKey

    if isinstance(key, MeshKey):
        return key
    raise CommandEnded(NOT_JOINED, f"no usable mesh key: {key.not_allowed('be a node')}")


def token_from_environment() -> JoinToken | None:
    from stealmesh.host.entrance import token_from
    from stealmesh.host.security import TokenRefused

    try:
        return token_from()
    except TokenRefused as refusal:
        raise CommandEnded(USAGE, str(refusal)) from None


def seeds_now(given: list[list[str]]) -> list[str]:
    """All addresses of the `--seed` options; each option may be a list."""
    return [seed for several in given for seed in several]


def resolved(specs: list[str], seconds_max: float = 0.0) -> list[str]:
    """The addresses that the seeds stand for; retries for `seconds_max` while there are none."""
    until = time.monotonic() + seconds_max
    told = False
    while True:
        try:
            return seeds_module.resolve(specs)
        except ValueError as error:
            raise CommandEnded(USAGE, str(error)) from None
        except seeds_module.SeedsUnknown as error:
            if time.monotonic() >= until:
                raise CommandEnded(NOT_JOINED, f"could not join: {error}") from None
            if not told:
                say(f"no seed yet: {error}; trying on")
                told = True
        time.sleep(min(LOOK_AGAIN_SECONDS, max(0.0, until - time.monotonic())))


def join_as_client(arguments: argparse.Namespace) -> Mesh:
    """The running mesh behind `--seed`, or this user's without one."""
    return enter(arguments, the_mesh(arguments))


def enter(
    arguments: argparse.Namespace, found: FoundMesh, *, functions: list[str] | None = None
) -> Mesh:
    """`functions`: as for `Mesh`."""
    from stealmesh.mesh import Mesh
    from stealmesh_protocol.errors import JoinRefused

    try:
        return Mesh(
            found.addresses, key=found.key, functions=functions, config=config_of(arguments)
        )
    except JoinRefused as refusal:
        raise CommandEnded(NOT_JOINED, f"could not join: {refusal}{found.hint}") from None


# ---------------------------------------------------------------- finding


def the_mesh(arguments: argparse.Namespace) -> FoundMesh:
    """The mesh that is meant. Raises CommandEnded if there is no usable key."""
    specs = seeds_now(arguments.seeds)
    if specs:
        key, _ = load_key(arguments)
        return FoundMesh(key, resolved(specs))
    return this_users(arguments) or _on_this_host(arguments)


def this_users(arguments: argparse.Namespace) -> FoundMesh | None:
    """The mesh of a person who does not say which; None if we know none."""
    token = None if arguments.key_file else token_from_environment()
    if token is not None and token.seeds:
        return FoundMesh(token.key, resolved(list(token.seeds)), "; STEALMESH_TOKEN says so")
    return _running_here(arguments) or _remembered(arguments)


def _running_here(arguments: argparse.Namespace) -> FoundMesh | None:
    """The mesh of a node that this user runs here: one with the user's key, or the only other one."""
    from stealmesh.host.running import running_nodes
    from stealmesh.host.security import load_key

    nodes = running_nodes()
    key = _key_if_any(arguments)
    own = [node for node in nodes if key is not None and node.mesh == key.mesh_mark()]
    if key is not None and own:
        return FoundMesh(key, _addresses(own), "; the node that listened there has just ended")
    if arguments.key_file or token_from_environment() is not None:
        return None
    others: dict[str, list[RunningNode]] = {}
    for node in nodes:
        if node.key_path:
            others.setdefault(node.key_path, []).append(node)
    if not others or (key is not None and _remembered(arguments) is not None):
        return None
    if len(others) > 1:
        paths = " or ".join(f"--key-file {path}" for path in sorted(others))
        raise CommandEnded(
            USAGE, f"several meshes of yours run on this host: say which, with {paths}"
        )
    [(path, chosen)] = others.items()
    with key_problems():
        return FoundMesh(load_key(path), _addresses(chosen))


def _remembered(arguments: argparse.Namespace) -> FoundMesh | None:
    """The addresses at which this user last knew nodes of the mesh with the user's key."""
    from stealmesh.host.peer_cache import all_addresses

    key = _key_if_any(arguments)
    addresses = [] if key is None else all_addresses(key.mesh_mark())[:ADDRESSES_MAX]
    if key is None or not addresses:
        return None
    hint = "; no node of yours runs on this host, and none that was known before answers: name one with --seed"
    return FoundMesh(key, addresses, hint, is_guess=True)


def _on_this_host(arguments: argparse.Namespace) -> FoundMesh:
    """Where `stealmesh start` listens; another user, who gave us the key, may have started it."""
    key, _ = load_key(arguments)
    hosts = dict.fromkeys((address_towards(), LOOPBACK))
    addresses = [listen_at(host, seeds_module.PORT) for host in hosts]
    return FoundMesh(
        key, addresses, "; name a node with --seed, or start one with `stealmesh start`"
    )


def _addresses(nodes: list[RunningNode]) -> list[str]:
    return list(dict.fromkeys(address for node in nodes for address in node.addresses))


def _key_if_any(arguments: argparse.Namespace) -> AnyKey | None:
    """The key that commands use; None if the usual place has none."""
    if not arguments.key_file and token_from_environment() is None:
        from stealmesh.host.security import default_key_path

        if not os.path.lexists(default_key_path()):
            return None
    return load_key(arguments)[0]
