"""Where a page listens, what it is called, and how it runs until it is told to end.

Decides that a page which others than this host can reach is locked. Refuses to know who starts it: the command
`stealmesh dashboard`, or a node (`beside.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stealmesh.host.addresses import is_loopback
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.identity import host_id
from stealmesh.host.interfaces import LOOPBACK, WILDCARDS, own_addresses, reachable_at
from stealmesh.page.gate import LOOPBACK_NAMES, PageGate
from stealmesh.page.gathering import PageGathering
from stealmesh.page.server import PageServer, started
from stealmesh_protocol.passes import PassSecrets

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink

LOOK_SECONDS = 0.5
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class PagePlace:
    """Where to listen, as a person said it."""

    host: str = LOOPBACK
    port: int = 0

    @property
    def is_private(self) -> bool:
        return is_loopback(f"tcp://{self._bracketed}:{self.port}")

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, port: int) -> str:
        """For a browser; of a wildcard the address that others can reach best."""
        return reachable_at(f"tcp://{self._bracketed}:{port}")[0].replace("tcp://", "http://") + "/"

    def names(self) -> set[str]:
        """What visitors may call this host."""
        if self.is_private:
            return {*LOOPBACK_NAMES, self.host.lower()}
        found = {self.host.lower(), *LOOPBACK_NAMES}
        if self._bracketed in WILDCARDS:
            found |= {each.host.lower() for each in own_addresses()}
        host = socket.gethostname().lower()
        return found | {host, host.partition(".")[0]}


def place_of(words: str) -> PagePlace:
    """PORT, HOST, HOST:PORT or [ADDRESS]:PORT. Raises ValueError."""
    host, mark, port = words.rpartition(":")
    if words.isdecimal():
        host, port = LOOPBACK, words
    elif not mark or words.endswith("]"):
        host, port = words, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError(f"{words!r} is no place for a page: write HOST:PORT, as in 127.0.0.1:8787")
    return PagePlace(
        LOOPBACK if host == "localhost" else "0.0.0.0" if host == "*" else host, int(port)
    )


@dataclass(frozen=True, slots=True)
class VisitorKeys:
    """With which tokens of visitors are checked."""

    secrets: PassSecrets = ()
    own: GuestKey | None = None


async def show(
    link: ProgramLink,
    place: PagePlace,
    keys: VisitorKeys,
    on_open: Callable[[str], None],
    *,
    locked: bool = False,
    name: str = "",
) -> None:
    """Serve the page of this program's mesh until the mesh is over, or this is cancelled. Raises OSError."""
    gate = PageGate(place.names(), "", locked or not place.is_private, keys.secrets, keys.own)
    gathering = PageGathering(link, {}, gate.revoke)
    here = {"name": name, "host": host_id()}
    server, (_, port) = await started(PageServer(gathering, gate, here), place.host, place.port)
    gate.cookie = f"stealmesh-{port}"
    here["url"] = place.url(port)
    on_open(here["url"])
    async with server:
        rounds = asyncio.create_task(gathering.run())
        try:
            while link.failure is None and not rounds.done():
                await asyncio.wait([rounds], timeout=LOOK_SECONDS)
        finally:
            rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rounds
