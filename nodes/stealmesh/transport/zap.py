"""The ZAP handler: a tiny thread that tells libzmq which CURVE clients may come in (RFC 27).

It answers "200" for our domain and our one client key, "400" for everything else, and counts. It fails
closed: if this thread ends, ZAP_ENFORCE_DOMAIN makes libzmq refuse all clients.

It has a thread of its own. pyzmq's authenticator lives in the event loop instead: there every handshake
waits while the loop is busy, and one exception ends all admissions.
"""

from __future__ import annotations

import hmac
import threading

import zmq
from zmq.utils import z85

from stealmesh.transport.sockets import DOMAIN, CurveKeys

_ADDRESS = "inproc://zeromq.zap.01"
_POISON = b"close"


class ZapHandler:
    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys) -> None:
        self.refused = 0
        self._context = context
        self._client_key = z85.decode(keys.peer_public)
        self._door = context.socket(zmq.REP)
        self._door.setsockopt(zmq.LINGER, 0)
        self._door.bind(_ADDRESS)  # before any inbox is bound, so that no client comes in unchecked
        self._thread = threading.Thread(target=self._stand, name="stealmesh-zap", daemon=True)
        self._thread.start()

    def _stand(self) -> None:
        try:
            while (request := self._door.recv_multipart()) != [_POISON]:
                self._door.send_multipart(self._answer(request))
        except zmq.ContextTerminated:
            pass
        finally:
            self._door.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, domain, mechanism, key = (*request[:3], *request[5:7], *[b""] * 7)[:5]
        welcome = (
            (version, domain, mechanism) == (b"1.0", DOMAIN, b"CURVE")
            and hmac.compare_digest(key, self._client_key)
        )  # fmt: skip
        if welcome:
            return [b"1.0", number, b"200", b"OK", b"peer", b""]
        self.refused += 1
        return [b"1.0", number, b"400", b"not a key of this mesh", b"", b""]

    def close(self) -> None:
        messenger = self._context.socket(zmq.REQ)
        messenger.setsockopt(zmq.LINGER, 0)
        messenger.setsockopt(zmq.SNDTIMEO, 0)
        messenger.connect(_ADDRESS)
        messenger.send(_POISON)
        self._thread.join(timeout=2.0)
        messenger.close()
