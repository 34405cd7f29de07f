"""The page of a node: a process of its own beside it, which ends with it.

Decides that the node itself serves nobody. A browser, a slow reader or a flood costs this process its time, and the
system gives it less than the node. It has no mesh key, but a view token that the node makes for it, and the secret
that seals tokens, to check those of visitors. What it tells the node is one line: where the page is.

    node  → page: one line of JSON (the token, the seeds, where to listen); its end of the socket is closed: end
    page  → node: one line of JSON (the address, or why there is none)

The node's side is `host/page_process.py`. Refuses to know what the page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from stealmesh.host import interpreter
from stealmesh.host.page_process import STOP_SECONDS

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh

NICE = 5
JOIN_AGAIN_SECONDS = 2.0


def main(descriptor: int) -> int:
    interpreter.fresh_signals()
    interpreter.fill_standard_files()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    wire = socket.socket(fileno=descriptor)
    lines = wire.makefile("rb")
    line = lines.readline()
    if not line:
        return 0
    order = json.loads(line)
    node = _Node(wire)
    threading.Thread(target=node.watch, args=(lines,), daemon=True).start()
    mesh = _joined(order)
    try:
        asyncio.run(_serve(mesh, order, node))
    except OSError as error:
        node.tell(why=f"no page at {order['where']}: {error.strerror or error}")
        return 1
    finally:
        mesh.shutdown(wait=False, cancel_futures=True)
    return 0


class _Node:
    """The node whose page this is."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._gone = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._page: asyncio.Task[None] | None = None

    def tell(self, **what: str) -> None:
        with contextlib.suppress(OSError):  # it is gone: then it need not know
            self._wire.sendall((json.dumps(what) + "\n").encode())

    def serve(self, page: asyncio.Task[None]) -> None:
        """Called in the loop: this is what ends with the node."""
        self._loop, self._page = asyncio.get_running_loop(), page
        if self._gone.is_set():
            page.cancel()

    def watch(self, lines: Any) -> None:
        with contextlib.suppress(OSError):
            lines.read()
        self._gone.set()
        if self._loop is not None and self._page is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._page.cancel)
            time.sleep(STOP_SECONDS / 2)
        os._exit(0)  # whatever it waits for, it does not outlive its node


def _joined(order: dict[str, Any]) -> Mesh:
    """Its node may still look for its mesh, so this tries for ever."""
    from stealmesh.host.guest_key import GuestKey
    from stealmesh.mesh import Mesh
    from stealmesh_protocol.errors import JoinRefused

    key = GuestKey.unpacked(bytes.fromhex(order["token"]))
    assert key is not None, "its node has made it"
    while True:
        try:
            return Mesh(order["seeds"], key=key)
        except JoinRefused:
            time.sleep(JOIN_AGAIN_SECONDS)


async def _serve(mesh: Mesh, order: dict[str, Any], node: _Node) -> None:
    from stealmesh.page.place import VisitorKeys, place_of, show

    place = place_of(order["where"])
    keys = VisitorKeys(tuple((mark, bytes.fromhex(secret)) for mark, secret in order["secrets"]))
    more = "" if place.is_private else " (it wants a view token)"
    page = asyncio.create_task(
        show(mesh._link, place, keys, lambda url: node.tell(url=url, more=more), name=order["name"])
    )
    node.serve(page)
    with contextlib.suppress(asyncio.CancelledError):
        await page
