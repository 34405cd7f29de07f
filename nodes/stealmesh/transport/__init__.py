"""The ZeroMQ transport: the only package that imports zmq.

Read `hub` first: it has the whole of the public face. `ports` is one socket and its links,
`sockets` is how each kind of socket is set up and why, `doorman` lets key holders in, `callers` knows who they are, `probes`
asks whether anything listens, `wire` is where messages become frames.
"""

from stealmesh.transport.sockets import (
    CurveKeys,
    TransportError,
    curve_keys,
    raise_descriptor_limit,
    zmq_versions,
)
from stealmesh.transport.transport import Transport
from stealmesh.transport.wire import Codec, IncomingMessage, MessageReader, Unreadable, WireCodec

__all__ = [
    "Codec",
    "CurveKeys",
    "IncomingMessage",
    "MessageReader",
    "Transport",
    "TransportError",
    "Unreadable",
    "WireCodec",
    "curve_keys",
    "raise_descriptor_limit",
    "zmq_versions",
]
