"""Being a node: what `node`, `start` and `join` have in common once key and seeds are known.

Hands everything to `stealmesh.host.node.run_node` and says on standard error where the node listens.
Draining at the first signal is the business of `run_node`; before its sockets exist there is nothing
to drain, and a signal ends the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stealmesh.cli.arguments import workers_default
from stealmesh.cli.exits import DONE, USAGE, CommandEnded, say
from stealmesh.cli.joining import config_of, resolved
from stealmesh.cli.output import standard_output_kept
from stealmesh.host.addresses import is_loopback, is_own
from stealmesh.host.saying import as_json
from stealmesh_protocol.errors import CannotStart

if TYPE_CHECKING:
    from stealmesh.host.node import NodeOptions
    from stealmesh.host.security import MeshKey

JOIN_SECONDS_DEFAULT = 30.0


class TooEarly(Exception):
    """A signal came before there was anything to drain, or after it was drained."""


def serve(
    arguments: argparse.Namespace,
    *,
    key: MeshKey | None,
    specs: list[str],
    listen: str,
    key_path: str = "",
    on_listening: Callable[[list[str], IO[str]], None] = lambda addresses, out: None,
) -> int:
    """Be a node until told to leave; returns the exit status. Only `on_listening` writes to standard
    output: prints of tasks go to standard error."""
    from stealmesh.host.running import RunningNode, known_to_commands

    as_json(arguments.log_json)
    try:
        with _signals_end_us(), standard_output_kept() as out:
            options = _options(arguments, key, specs, listen)
            with contextlib.ExitStack() as while_it_lives:

                def listening(addresses: list[str]) -> None:
                    if key is not None:
                        node = RunningNode(key.mesh_mark(), tuple(addresses), key_path)
                        while_it_lives.enter_context(known_to_commands(node))
                    try:
                        on_listening(addresses, out)
                        out.flush()
                    except OSError as error:  # the node is of use without it
                        say(f"cannot write to standard output: {error.strerror}")

                with _told_when_listening(options, key, listening):
                    return _run(options)
    except TooEarly:
        return DONE


def _options(
    arguments: argparse.Namespace, key: MeshKey | None, specs: list[str], listen: str
) -> NodeOptions:
    from stealmesh.host.entrance import unknown_hosts
    from stealmesh.host.node import NodeOptions

    join_seconds = getattr(arguments, "join_timeout", JOIN_SECONDS_DEFAULT)
    founding = any(is_own(seed, listen, arguments.advertise) for seed in specs)
    addresses = resolved(specs, join_seconds) if specs else []
    for why in unknown_hosts(addresses).values():
        say(f"{why}: check the spelling of the name; trying on")
    # A list of seeds may name us only once it is resolved (dns, slurm, a file).
    founding = founding or any(is_own(seed, listen, arguments.advertise) for seed in addresses)
    return NodeOptions(
        seeds=addresses,
        listen=listen,
        advertise=arguments.advertise,
        workers=arguments.nworkers or workers_default(),
        threads=arguments.nthreads,
        name=arguments.name or f"{socket.gethostname()}-{os.getpid()}",
        role=arguments.role,
        key=None if key is None else key.packed(),
        insecure_public=getattr(arguments, "i_understand", False),
        memory_limit_bytes=arguments.memory_limit,
        join_seconds_max=join_seconds if addresses and not founding else None,
        peer_cache=_peer_cache(arguments, key, listen),
        config=config_of(arguments),
        functions=arguments.functions,
        resources=arguments.resources,
        says=True,
        state=_state(arguments.state, key, listen),
        page=_page(arguments.dashboard or "", key),
    )


def _page(place: str, key: MeshKey | None) -> str:
    if place and key is None:
        raise CommandEnded(
            USAGE, "--dashboard needs a mesh with a key: leave --insecure out, or --dashboard"
        )
    return place


def _state(given: str, key: MeshKey | None, listen: str) -> str:
    """The directory of the log of durable jobs ("": none). A node that comes back to its address finds
    it again."""
    if given:
        return "" if given == "off" else _writable(given)
    place = listen.removeprefix("tcp://")
    if place.endswith(":0") or not listen.startswith("tcp://"):
        return ""  # the system chooses this port, so no node comes back to it
    from stealmesh.host.peer_cache import state_directory

    mesh = "insecure" if key is None else key.mesh_id().hex()[:16]
    directory = state_directory() / mesh / place.replace("/", "_").replace(":", "_")
    try:
        return _writable(str(directory))
    except CommandEnded as end:  # a user without a home can still be a node
        say(f"{end}; until then durable jobs that are kept here do not outlive this process")
        return ""


def _writable(directory: str) -> str:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise CommandEnded(
            USAGE,
            f"cannot keep durable jobs in {directory} ({error.strerror}): "
            "name another directory with --state, or --state off",
        ) from None
    return directory


def _peer_cache(arguments: argparse.Namespace, key: MeshKey | None, listen: str) -> Path | None:
    """The file of known peers; None without a key, because a node could find another mesh's peers there."""
    from stealmesh.host.peer_cache import cache_path

    if arguments.no_peer_cache or key is None:
        return None
    return cache_path(key.mesh_mark(), socket.gethostname(), listen)


def _run(options: NodeOptions) -> int:
    from stealmesh.host.node import run_node
    from stealmesh.store.log import LogUnusable

    try:
        return run_node(options)
    except LogUnusable as error:
        raise CommandEnded(USAGE, f"{error}; or name another directory with --state") from None
    except CannotStart as error:
        raise CommandEnded(USAGE, str(error)) from None
    except _transport_error() as error:
        raise CommandEnded(USAGE, str(error)) from None


def _transport_error() -> type[Exception]:
    """Imported only when it is needed: a node starts its workers before it loads ZeroMQ."""
    from stealmesh.transport import TransportError

    return TransportError


@contextlib.contextmanager
def _told_when_listening(
    options: NodeOptions, key: MeshKey | None, on_listening: Callable[[list[str]], None]
) -> Iterator[None]:
    """Read the one line that a node writes for its parent when its sockets are open."""
    ours, theirs = socket.socketpair()
    options.parent_fd = theirs.fileno()

    def wait() -> None:
        with ours.makefile(encoding="utf-8") as lines:
            line = lines.readline()
        endpoints = json.loads(line).get("endpoints") if line else None
        if endpoints:  # a node that cannot listen says itself why
            addresses = [each for each in endpoints if each.startswith("tcp://")]
            _announce(options, key, addresses or endpoints)
            on_listening(addresses or endpoints)

    waiter = threading.Thread(target=wait, name="stealmesh-announce", daemon=True)
    waiter.start()
    try:
        yield
    finally:
        theirs.close()
        waiter.join()
        ours.close()


def _announce(options: NodeOptions, key: MeshKey | None, addresses: list[str]) -> None:
    workers = "1 worker" if options.workers == 1 else f"{options.workers} workers"
    proof = _proof(key) if key else "INSECURE: no key, no encryption"
    say(f"node {options.name} listens at {', '.join(addresses)} with {workers} ({proof})")
    written = options.listen.startswith("tcp://") and is_loopback(options.listen)
    if all(each.startswith("tcp://") and is_loopback(each) for each in addresses) and not written:
        say(
            f"{addresses[0]} is for this host only, although {options.listen} looks different: others "
            "reach this node with --listen tcp://0.0.0.0:7077, or with --advertise and its real address"
        )


def _proof(key: MeshKey) -> str:
    if key.former is None:
        return f"key {key.fingerprint()}"
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(key.former.until))
    before = key.before()
    assert before is not None
    if time.time() < key.former.until:
        return f"key {key.fingerprint()}, and {before.fingerprint()} until {until}"
    return f"key {key.fingerprint()}; {before.fingerprint()} has expired"


@contextlib.contextmanager
def _signals_end_us() -> Iterator[None]:
    """Handlers for the time before `run_node` sets its own, and after it restores ours."""

    def end(number: int, frame: object) -> None:
        raise TooEarly

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
