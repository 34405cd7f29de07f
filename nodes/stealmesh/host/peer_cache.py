"""The peer cache: a small file that remembers where our peers live, for the next life of this node.

One file for each mesh, host and listening address, in the user's state directory. A thread of its own
writes it, whole or not at all, now and then and at the end (a slow disk must not stop the loop). It
trusts nothing in the file: what is no address is skipped and counted, and a peer at a remembered
address still has to prove the mesh key. It keeps the addresses seen last, and forgets after a week.

Decides nothing about dialling: that is the engine's (links/known_addresses.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from pathlib import Path
from random import Random

from stealmesh.host.saying import say
from stealmesh_protocol.messages import Member, Role

PEERS_MAX = 64
FIRST_LOOK_SECONDS = 1.0
LOOK_SECONDS = 10.0
REFRESH_SECONDS = 3600.0
"""Write the file again after this time, even if nothing changes."""
FORGET_SECONDS = 7 * 86400.0
CLOCK_SECONDS = 3600.0
"""How far the clock may be set back between two lives."""
FILE_OCTETS_MAX = 64 * 1024
ADDRESS_CHARS_MAX = 256
_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def cache_path(
    mesh: str, host: str, listen: str, environment: Mapping[str, str] = os.environ
) -> Path:
    """The cache of the node that listens there. `mesh` is the fingerprint of its first key."""
    where = re.sub(r"[^A-Za-z0-9.]+", "_", f"{host} {listen.removeprefix('tcp://')}")
    return state_directory(environment) / "peers" / f"{mesh}-{where}.json"


def token_path(mesh: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where `join --key-only` keeps a token's addresses, for programs and commands of this user."""
    return state_directory(environment) / "peers" / f"{mesh}-token.json"


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "stealmesh"


def all_addresses(mesh: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """All addresses at which this user's nodes ever saw this mesh, the latest first, of any age and from
    any listening address."""
    seen: dict[str, float] = {}
    for path in sorted((state_directory(environment) / "peers").glob(f"{mesh}-*.json")):
        for address, when in PeerCache(path, forget_seconds=inf).entries():
            seen[address] = max(when, seen.get(address, when))
    return sorted(seen, key=lambda address: -seen[address])[:PEERS_MAX]


def addresses_of(members: Iterable[Member], me: Member, rng: Random) -> list[str]:
    """Where others can be found: supernodes first, the rest in random order, so that nodes remember
    different ones."""
    others = [m for m in members if m.id != me.id and m.role is not Role.CLIENT]
    rng.shuffle(others)
    others.sort(key=lambda member: member.role is not Role.SUPER)
    found = (next(filter(_is_network, member.endpoints), "") for member in others)
    return [address for address in dict.fromkeys(found) if address][:PEERS_MAX]


class PeerCache:
    """One cache file. `refused` counts its defects by reason."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], float] = time.time,
        forget_seconds: float = FORGET_SECONDS,
    ) -> None:
        self.path = path
        self._forget_seconds = forget_seconds
        self.refused: dict[str, int] = {}
        self._now = now
        self._seen: dict[str, float] = {}
        """Address → when a peer was last seen there, the latest first."""
        self._written: set[str] = set()
        self._written_at = 0.0

    def load(self) -> list[str]:
        """The addresses that an earlier life left; none if there is no readable file."""
        self._seen = dict(self.entries())
        return list(self._seen)

    def entries(self) -> list[tuple[str, float]]:
        """Each address with the time when a peer was last seen there."""
        try:
            with self.path.open("rb") as file:
                text = file.read(FILE_OCTETS_MAX + 1)
        except FileNotFoundError:
            return []
        except OSError:
            self._refuse("unreadable")
            return []
        return list(self._entries(text))

    def save(self, living: list[str]) -> None:
        """Remember these addresses first, then earlier ones as far as there is room."""
        if not living:
            return  # alone: the peers of before are better than none
        now = self._now()
        merged = dict.fromkeys(living, now) | {
            address: seen
            for address, seen in self._seen.items()
            if address not in living and now - seen < FORGET_SECONDS
        }
        self._seen = dict(list(merged.items())[:PEERS_MAX])
        if self._seen.keys() == self._written and now - self._written_at < REFRESH_SECONDS:
            return
        try:
            self._write(json.dumps({"peers": list(self._seen.items())}))
            self._written, self._written_at = set(self._seen), now
        except OSError as error:
            if not self.refused.get("peer-cache-unwritable"):
                say(f"cannot remember peers: {error}")
            self._refuse("unwritable")

    def _entries(self, text: bytes) -> Iterator[tuple[str, float]]:
        try:
            if len(text) > FILE_OCTETS_MAX:
                raise ValueError("too long")
            entries = json.loads(text)["peers"]
            if not isinstance(entries, list):
                raise TypeError("no list")
        except (ValueError, TypeError, KeyError, RecursionError):
            self._refuse("garbled")
            return
        for entry in entries[:PEERS_MAX]:
            try:
                address, seen = entry
                age = self._now() - seen
            except (ValueError, TypeError, OverflowError):
                self._refuse("garbled")
                continue
            if not _is_address(address):
                self._refuse("garbled")
            elif not -CLOCK_SECONDS < age < self._forget_seconds:
                # A clock that was wrong once must not keep an address for ever.
                self._refuse("stale")
            else:
                yield address, seen

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            os.replace(draft, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def _refuse(self, why: str) -> None:
        name = f"peer-cache-{why}"
        self.refused[name] = self.refused.get(name, 0) + 1


@contextlib.contextmanager
def kept(
    cache: PeerCache,
    living: Callable[[], list[str]],
    looked: Callable[[list[str]], None] = lambda found: None,
) -> Iterator[None]:
    """While this lasts, save what `living` returns now and then, and at the end. `looked` gets each look."""
    over = threading.Event()

    def keep() -> None:
        wait = FIRST_LOOK_SECONDS
        while not over.wait(wait):
            found = living()
            looked(found)
            cache.save(found)
            wait = LOOK_SECONDS

    keeper = threading.Thread(target=keep, name="stealmesh-peer-cache", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        cache.save(living())


def _is_network(endpoint: str) -> bool:
    return endpoint.startswith("tcp://")


def _is_address(text: object) -> bool:
    if not isinstance(text, str) or len(text) > ADDRESS_CHARS_MAX:
        return False
    match = _ADDRESS.fullmatch(text)
    return match is not None and 0 < int(match[2]) < 65536
