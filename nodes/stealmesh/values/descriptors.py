"""Packets that come with open files.

Decides nothing. `socket.recv_fds` takes flags and drops them (CPython 3.11 to 3.14): it waits although it
was told not to, and what a task starts would inherit the files.
"""

from __future__ import annotations

import socket
from array import array

_FILE = array("i").itemsize


def received(
    sock: socket.socket, octets: int, files_max: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """The next packet and its open files, which programs that are started do not inherit. Raises
    BlockingIOError with MSG_DONTWAIT, OSError."""
    packet, words, _, _ = sock.recvmsg(
        octets, socket.CMSG_SPACE(files_max * _FILE), flags | socket.MSG_CMSG_CLOEXEC
    )
    files = array("i")
    for level, kind, data in words:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % _FILE])
    return packet, list(files)
