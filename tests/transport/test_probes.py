"""Probes of a process that is dying: it still answers, and is gone before we look."""

from __future__ import annotations

import select
import socket
import struct

from stealmesh.transport import probes


def test_a_call_that_was_answered_and_reset_proves_nothing() -> None:
    """The reset may come between asking for its error and asking who answered; asking for the error
    twice puts it there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        call = probes.call(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        assert isinstance(call, probes.ProbeCall)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        waiting = select.poll()
        waiting.register(call.fd, select.POLLIN)
        assert waiting.poll(5000)
        assert call.outcome() is None
        assert call.outcome() is None
        call.close()
