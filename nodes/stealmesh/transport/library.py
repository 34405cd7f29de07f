"""Which libzmq is here, and what it can do: for `stealmesh doctor`."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import zmq

GREETING_OCTETS = 10
"""The signature of ZMTP: 0xFF, eight octets, 0x7F."""


@dataclass(frozen=True, slots=True)
class Library:
    binding: str
    """The version of pyzmq."""
    version: str
    curve: bool


def library() -> Library:
    return Library(zmq.__version__, zmq.zmq_version(), bool(zmq.has("curve")))


def greeted_at(endpoint: str, seconds: float) -> str:
    """Empty if a peer of ZeroMQ answers at this address, otherwise why not."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), seconds) as line:
            line.settimeout(seconds)
            greeting = b""
            while len(greeting) < GREETING_OCTETS:
                piece = line.recv(GREETING_OCTETS - len(greeting))
                if not piece:
                    return "what listens there hangs up"
                greeting += piece
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (OSError, ValueError, UnicodeError) as error:
        return str(getattr(error, "strerror", None) or error)
    return (
        ""
        if greeting[:1] == b"\xff" and greeting[9:] == b"\x7f"
        else "what listens there is no node"
    )
