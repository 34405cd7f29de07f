"""Which nodes of this user run on this host, and where they listen: so that commands need no --seed.

Each node has one small file in the user's state directory, and locks it as long as it lives. The lock
ends with the process, so a file without a lock is an old one. The file holds no secret: the fingerprint
of the key and the path of the key file. A forged file leads a command to an address that cannot prove
the mesh key.

Decides nothing about joining (cli/joining.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stealmesh.host.peer_cache import FILE_OCTETS_MAX, state_directory
from stealmesh.host.saying import say


@dataclass(frozen=True, slots=True)
class RunningNode:
    mesh: str
    """The fingerprint of the mesh's first key."""
    addresses: tuple[str, ...]
    key_path: str = ""
    """Where its key came from; empty: from no file."""


@contextlib.contextmanager
def known_to_commands(
    node: RunningNode, environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """While this lasts, `running_nodes` lists the node. Without a writable file it prints a warning."""
    path = _directory(environment) / f"{node.mesh}-{os.getpid()}.json"
    try:
        descriptor = _write(path, node)
    except OSError as error:
        say(f"commands will need --seed: cannot write {path} ({error.strerror})")
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def running_nodes(environment: Mapping[str, str] = os.environ) -> list[RunningNode]:
    """The nodes of this user on this host; what is left of dead ones is removed."""
    found = []
    for path in sorted(_directory(environment).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if (node := _read(path)) is not None:
                found.append(node)
    return found


def _read(path: Path) -> RunningNode | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            told = json.loads(file.read(FILE_OCTETS_MAX))
            addresses = tuple(str(each) for each in told["addresses"])
            return RunningNode(str(told["mesh"]), addresses, str(told["key_path"]))
        path.unlink()
        return None


def _write(path: Path, node: RunningNode) -> int:
    """Returns the descriptor that holds the lock. The file gets its name after it is locked."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = {"mesh": node.mesh, "addresses": node.addresses, "key_path": node.key_path}
        os.write(descriptor, json.dumps(told).encode())
        os.replace(draft, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _directory(environment: Mapping[str, str]) -> Path:
    """The directory of this host: hosts may share a home directory, and a lock may not reach that far."""
    from stealmesh.host.identity import host_id

    return state_directory(environment) / "nodes" / host_id().replace("/", "_")
