"""Serve the page: nodes, jobs, what runs where, what is stuck, what was counted, live in a browser.

Joins as other looking commands do, listens at 127.0.0.1 (--listen HOST:PORT: elsewhere), prints the address, and goes
on until Ctrl-C. It needs no node in particular: when one dies it goes on with the others. A node serves the same page
with `stealmesh node --dashboard`. /metrics has the figures for Prometheus.

At another address than loopback, or with --login, the page wants a view token (`stealmesh token --role view`): in the
browser once, or as "Authorization: Bearer stealmesh1-…". What travels is not encrypted: behind a network that you do not
trust use `ssh -L`, or a proxy with TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, USAGE, CommandEnded, say
from stealmesh.cli.joining import enter, the_mesh
from stealmesh.cli.output import written

if TYPE_CHECKING:
    from stealmesh.host.security import AnyKey
    from stealmesh.mesh import Mesh
    from stealmesh.page.place import VisitorKeys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", metavar="HOST:PORT", type=shared.page_place, default="127.0.0.1:0",
        help="where the page is (default: any free port of 127.0.0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--login", action="store_true", help="want a view token on loopback, too: other users of this host reach it"
    )  # fmt: skip
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    found = the_mesh(arguments)
    with enter(arguments, found) as mesh:
        try:
            asyncio.run(_serve(mesh, found.key, arguments))
        except OSError as error:
            raise CommandEnded(
                USAGE, f"cannot listen at {arguments.listen}: {error.strerror or error}"
            ) from None
        if mesh._link.failure is not None:
            raise CommandEnded(NOT_JOINED, f"the mesh is gone: {mesh._link.failure}")
    return DONE


async def _serve(mesh: Mesh, key: AnyKey, arguments: argparse.Namespace) -> None:
    from stealmesh.page.place import place_of, show

    place = place_of(arguments.listen)
    page = asyncio.create_task(
        show(mesh._link, place, _keys(key), _told(not place.is_private or arguments.login), locked=arguments.login)
    )  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, page.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await page


def _told(locked: bool) -> Callable[[str], None]:
    def told(url: str) -> None:
        with written():
            print(url, flush=True)
        if locked:
            say("visitors need a view token: `stealmesh token --role view` prints one")

    return told


def _keys(key: AnyKey) -> VisitorKeys:
    from stealmesh.host.guest_key import GuestKey
    from stealmesh.host.issuing import pass_secrets
    from stealmesh.page.place import VisitorKeys

    return VisitorKeys(own=key) if isinstance(key, GuestKey) else VisitorKeys(pass_secrets(key))
