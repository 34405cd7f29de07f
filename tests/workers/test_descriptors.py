"""Open files that come with packets."""

from __future__ import annotations

import os
import socket
from array import array

import pytest

from stealmesh.values.descriptors import received


def test_who_is_told_not_to_wait_does_not_and_files_are_not_inherited() -> None:
    """`socket.recv_fds` drops its flags: a worker's loop waited for an order that its node had taken back."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        with pytest.raises(BlockingIOError):
            received(there, 10, 2, socket.MSG_DONTWAIT)
        one, other = os.pipe()
        here.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [one, other]))])
        packet, files = received(there, 10, 2)
        assert packet == b"x"
        assert len(files) == 2
        assert not any(map(os.get_inheritable, files))
        for each in (one, other, *files):
            os.close(each)
