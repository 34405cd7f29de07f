"""The ZeroMQ transport: the only package that imports zmq.

Start reading at `transport`, which has the whole public face. `links` is one socket and its links,
`link_table` all of them and how they end, `outbox` what waits to be sent. `sockets` sets up each kind
of socket and says why, `keys` has the CURVE keys of each role, `zap` lets their holders in, `accepted` knows which connection a peer came by,
`flow` bounds what is under way, `probes` asks whether anything listens, `reasons` has words for people,
`wire` is where messages become frames.
"""

from stealmesh.transport.keys import CurveKeys, curve_keys
from stealmesh.transport.sockets import (
    TransportError,
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
