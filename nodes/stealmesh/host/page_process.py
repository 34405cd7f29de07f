"""The process that serves a node's page: started beside the node, told what it needs, and ended with it.

Decides what that process gets: a view token, the secret that seals tokens, and no mesh key. Refuses to know what it
does (`page/beside.py`). A page that ends takes nothing along: the node says so and goes on.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from stealmesh.host import interpreter
from stealmesh.host.saying import say

if TYPE_CHECKING:
    from stealmesh.host.security import MeshKey

PAGE_NAME = "page"
"""The name of the tokens that pages have."""
STOP_SECONDS = 5.0
LINE_OCTETS_MAX = 4096


@contextlib.contextmanager
def page_beside(
    where: str, name: str, key: MeshKey, endpoints: list[str], told: Callable[[str], None]
) -> Iterator[None]:
    """While this lasts, the node has a page at `where`. `told` hears its address, and later "" if it has ended; in a
    thread."""
    from stealmesh.host.issuing import issued, pass_secrets
    from stealmesh_protocol.passes import KeyRole

    order = {
        "where": where,
        "name": name,
        "seeds": [each for each in endpoints if each.startswith("tcp://")] or endpoints,
        "token": issued(key, KeyRole.VIEW, PAGE_NAME).packed().hex(),
        "secrets": [[mark, secret.hex()] for mark, secret in pass_secrets(key)],
    }
    try:
        ours, theirs = socket.socketpair()
        with interpreter.above_standard_files(theirs) as theirs:
            process = _start(theirs.fileno())
    except OSError as error:
        raise interpreter.cannot_start("the node's page", error) from None
    ours.sendall((json.dumps(order) + "\n").encode())
    ending = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(ours, ending, told), name="stealmesh-page", daemon=True
    )
    listener.start()
    try:
        yield
    finally:
        ending.set()
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        _end(process)
        listener.join()
        ours.close()


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    paths = interpreter.start_path(interpreter.program_path())
    return subprocess.Popen(
        interpreter.command(paths, "stealmesh.page.beside:main", descriptor),
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is the node's to handle
    )


def _listen(ours: socket.socket, ending: threading.Event, told: Callable[[str], None]) -> None:
    with ours.makefile("rb") as lines:
        line = lines.readline(LINE_OCTETS_MAX)
        said: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        if url := said.get("url", ""):
            told(url)
            say(f"the page of this node is at {url}{said.get('more', '')}")
            lines.read()  # until it ends
    if not ending.is_set():
        told("")
        say(said.get("why") or "the page of this node has ended; the node goes on without it")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
