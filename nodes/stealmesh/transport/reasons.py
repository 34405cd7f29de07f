"""Why a link could not be made or a transport not be opened, in words for people.

The wire itself is silent about a wrong key, on purpose; what its monitor tells has to do. Decides
nothing else.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable

import zmq

from stealmesh.transport.links import Link, LinkPhase
from stealmesh.transport.probes import is_same_host
from stealmesh.transport.sockets import (
    CONNECT_SECONDS,
    FILES_REMEDY,
    MECHANISM_MISMATCH,
    TransportError,
)

_OUT_OF_FILES = f"out of file descriptors: {FILES_REMEDY}"
_DIAL_REFUSALS = {
    errno.EMFILE: _OUT_OF_FILES,
    errno.ENFILE: _OUT_OF_FILES,
    errno.EINVAL: "not an address: use tcp://host:port or ipc:///path",
    errno.EPROTONOSUPPORT: "not an address: use tcp://host:port or ipc:///path",
    errno.ENAMETOOLONG: "the path of the ipc address is too long",
}


def why_undialled(error: zmq.ZMQError) -> str:
    """Dialling failed at once."""
    return _DIAL_REFUSALS.get(error.errno or 0, f"cannot be dialled: {error}")


def why_down(link: Link, kind: int, value: int, ours: str) -> str:
    """The monitor of a dialled link told this of its end. `ours` describes the key of this side."""
    if link.state is not LinkPhase.DIALLING:
        return "connection closed"
    if not link.connected:
        late = time.monotonic() - link.dialled_at >= CONNECT_SECONDS
        return "no answer" if late else "connection refused"
    if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISM_MISMATCH:
        return f"is a mesh with other security: one side is --insecure ({ours})"
    if kind == zmq.EVENT_DISCONNECTED:
        return "something else than a Stealmesh node listens there"
    if value in (errno.ETIMEDOUT, errno.EAGAIN):
        return "no answer"
    return f"did not accept this mesh key ({ours})"


def refuse_open_doors(addresses: Iterable[str]) -> None:
    """Without a key only loopback is safe. Raises TransportError for any other address."""
    for address in addresses:
        if not is_same_host(address):
            raise TransportError(
                f"without a key anyone who reaches {address} could run code here: use a mesh key, "
                "or listen on 127.0.0.1"
            )
