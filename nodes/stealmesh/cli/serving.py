"""Being a node: what `node`, `start` and `join` have in common once key and seeds are known.

Hands everything to `stealmesh.node.run_node` and says on standard error where the node listens.
Draining at the first signal is run_node's business; before its sockets exist there is nothing
to drain, and a signal simply ends us.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stealmesh.cli.addresses import is_own
from stealmesh.cli.arguments import workers_default
from stealmesh.cli.exits import DONE, USAGE, Ended, say
from stealmesh.cli.joining import config_of, resolved

if TYPE_CHECKING:
    from stealmesh.node import NodeOptions
    from stealmesh.security import MeshKey

JOIN_SECONDS_DEFAULT = 30.0


class TooEarly(Exception):
    """A signal came when there was nothing to drain yet, or nothing any more."""


def serve(
    arguments: argparse.Namespace,
    *,
    key: MeshKey | None,
    specs: list[str],
    listen: str,
    on_listening: Callable[[list[str]], None] = lambda addresses: None,
) -> int:
    """Be a node until told to leave; returns the exit status."""
    try:
        with _signals_end_us():
            options = _options(arguments, key, specs, listen)
            with _told_when_listening(options, key, on_listening):
                return _run(options)
    except TooEarly:
        return DONE


def _options(
    arguments: argparse.Namespace, key: MeshKey | None, specs: list[str], listen: str
) -> NodeOptions:
    from stealmesh.node import NodeOptions

    join_seconds = getattr(arguments, "join_timeout", JOIN_SECONDS_DEFAULT)
    founding = any(is_own(seed, listen, arguments.advertise) for seed in specs)
    addresses = resolved(specs, join_seconds) if specs else []
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
        key=None if key is None else key.secret,
        insecure_public=getattr(arguments, "i_understand", False),
        memory_limit_bytes=arguments.memory_limit,
        join_seconds_max=join_seconds if addresses and not founding else None,
        peer_cache=_peer_cache(arguments, key, listen),
        config=config_of(arguments),
        state=_state(arguments.state, key, listen),
    )


def _state(given: str, key: MeshKey | None, listen: str) -> str:
    """The directory of the log of durable jobs: a node that comes back to its address finds it again."""
    if given:
        return "" if given == "off" else given
    place = listen.removeprefix("tcp://")
    if place.endswith(":0") or not listen.startswith("tcp://"):
        return ""  # nobody comes back to a port of chance
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    mesh = "insecure" if key is None else key.mesh_id().hex()[:16]
    return os.path.join(base, "stealmesh", mesh, place.replace("/", "_").replace(":", "_"))


def _peer_cache(arguments: argparse.Namespace, key: MeshKey | None, listen: str) -> Path | None:
    """Without a key all meshes look alike: a node must not be led into another one."""
    from stealmesh.peercache import cache_path

    if arguments.no_peer_cache or key is None:
        return None
    return cache_path(key.fingerprint(), socket.gethostname(), listen)


def _run(options: NodeOptions) -> int:
    from stealmesh.node import run_node
    from stealmesh.store.log import LogUnusable

    try:
        return run_node(options)
    except LogUnusable as error:
        raise Ended(USAGE, f"{error}; or name another directory with --state") from None
    except _transport_error() as error:
        raise Ended(USAGE, str(error)) from None


def _transport_error() -> type[Exception]:
    """Found only when it is needed: a node starts its workers before it loads ZeroMQ."""
    from stealmesh.transport import TransportError

    return TransportError


@contextlib.contextmanager
def _told_when_listening(
    options: NodeOptions, key: MeshKey | None, on_listening: Callable[[list[str]], None]
) -> Iterator[None]:
    """Read the one line that a node writes when its sockets are open (to whoever started it)."""
    ours, theirs = socket.socketpair()
    options.parent_fd = theirs.fileno()

    def wait() -> None:
        with ours.makefile(encoding="utf-8") as lines:
            line = lines.readline()
        endpoints = json.loads(line).get("endpoints") if line else None
        if endpoints:  # else it never came to listening, and says itself why
            addresses = [each for each in endpoints if each.startswith("tcp://")]
            _announce(options, key, addresses or endpoints)
            on_listening(addresses)

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
    proof = f"key {key.fingerprint()}" if key else "INSECURE: no key, no encryption"
    say(f"node {options.name} listens at {', '.join(addresses)} with {workers} ({proof})")


@contextlib.contextmanager
def _signals_end_us() -> Iterator[None]:
    """As long as run_node has not set its own handlers, and once it has taken them back."""

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
