"""Does anything listen there? A bare connect() that we give up as soon as it is answered.

"Refused" is the only proof of absence that a network gives; any other answer proves nothing. It looks
up no name: that could take seconds, and the loop would stand still for them.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket as sockets

PROBE_SECONDS = 1.0
_ABSENT = (errno.ECONNREFUSED, errno.ENOENT)
_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class ProbeCall:
    """One connect() under way; `fd` becomes writable when it is decided."""

    __slots__ = ("_socket", "endpoint", "fd")

    def __init__(self, endpoint: str, socket: sockets.socket) -> None:
        self.endpoint = endpoint
        self.fd = socket.fileno()
        self._socket = socket

    def outcome(self) -> bool | None:
        return _verdict(self._socket, self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_ERROR))

    def close(self) -> None:
        self._socket.close()


def call(endpoint: str) -> ProbeCall | bool | None:
    """Start a probe, or return the answer if it is known at once."""
    parsed = _address_of(endpoint)
    if parsed is None:
        return None
    family, address = parsed
    try:
        socket = sockets.socket(family, sockets.SOCK_STREAM)
    except OSError:  # out of descriptors, or no such address family here: no answer either way
        return None
    socket.setblocking(False)
    try:
        code = socket.connect_ex(address)
    except OSError:  # a path that is too long
        code = errno.EINVAL
    if code in _UNDER_WAY and family != sockets.AF_UNIX:
        return ProbeCall(endpoint, socket)
    with contextlib.closing(socket):
        return _verdict(socket, code)


def _verdict(socket: sockets.socket, code: int) -> bool | None:
    if code in _ABSENT:
        return False
    if code == errno.EAGAIN and socket.family == sockets.AF_UNIX:
        return True  # its queue of callers is full, so a process owns that queue
    if code != 0:
        return None
    # A free port on this very machine can be answered by our own call (TCP simultaneous open).
    try:
        itself = socket.family != sockets.AF_UNIX and socket.getsockname() == socket.getpeername()
    except OSError:
        return None  # it was answered, and reset before we looked: a process is just dying there
    return not itself


def _address_of(endpoint: str) -> tuple[int, str | tuple[str, int]] | None:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return sockets.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    address = parse_host(host)
    if address is None:
        return None
    return (sockets.AF_INET if address.version == 4 else sockets.AF_INET6), (
        str(address),
        int(port),
    )


def parse_host(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A numeric host, in brackets or not; None for a name other than localhost."""
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_same_host(endpoint: str) -> bool:
    """Is the endpoint on this machine? Bulk between its processes is not worth compressing."""
    if endpoint.startswith("ipc://"):
        return True
    address = parse_host(endpoint.removeprefix("tcp://").rpartition(":")[0])
    return address is not None and address.is_loopback
