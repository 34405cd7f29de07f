"""The ZAP handler: a tiny thread that tells libzmq which CURVE clients may come in (RFC 27).

It answers "200" for our domain and the client keys of our roles, "400" for everything else, and counts. Which
role it was stands in the user id, which libzmq shows with each message of the connection. It fails closed: while this
thread does not run, ZAP_ENFORCE_DOMAIN makes libzmq refuse all clients. So its owner looks after it now and then,
and starts another one if it has ended, whatever ended it.

It has a thread of its own. pyzmq's authenticator lives in the event loop instead: there every handshake
waits while the loop is busy, and one exception ends all admissions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import partial

import zmq

from stealmesh.host.saying import say
from stealmesh.transport.keys import LetIn
from stealmesh.transport.sockets import DOMAIN

_ADDRESS = "inproc://zeromq.zap.01"
_POISON = b"close"


class ZapHandler:
    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], let_in: Mapping[bytes, LetIn]
    ) -> None:
        self.refused = 0
        self.restarts = 0
        """How often the thread had ended and was started again."""
        self._context = context
        self._let_in = let_in
        """By public key: not a secret, so its look-up may take as long as it takes."""
        self._closed = False
        self._open()

    def _open(self) -> None:
        door = self._context.socket(zmq.REP)
        door.setsockopt(zmq.LINGER, 0)
        door.bind(_ADDRESS)  # before any inbox is bound, so that no client comes in unchecked
        stand = partial(self._stand, door)
        self._thread = threading.Thread(target=stand, name="stealmesh-zap", daemon=True)
        self._thread.start()

    def _stand(self, door: zmq.Socket[bytes]) -> None:
        try:
            while (request := door.recv_multipart()) != [_POISON]:
                door.send_multipart(self._answer(request))
        except zmq.ContextTerminated:
            pass
        finally:
            door.close()

    def counters(self) -> dict[str, int]:
        told = {"refused:unknown-client-key": self.refused, "restarted:admission": self.restarts}
        return {reason: count for reason, count in told.items() if count}

    def look(self) -> None:
        """Nobody can come in any more? Then start again. Called by the owner, now and then."""
        if self._thread.is_alive() or self._closed:
            return
        self.restarts += 1
        say(
            "the thread that lets peers in had ended: it is started again; please report what it said above"
        )
        try:
            self._open()
        except (OSError, RuntimeError, zmq.ZMQError) as error:
            say(f"nobody can come in ({error}): trying again")

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, domain, mechanism, key = (*request[:3], *request[5:7], *[b""] * 7)[:5]
        known = self._let_in.get(key)
        if known is not None and known.until and time.time() >= known.until:
            known = None
        if known is not None and (version, domain, mechanism) == (b"1.0", DOMAIN, b"CURVE"):
            return [b"1.0", number, b"200", b"OK", known.user_id(), b""]
        self.refused += 1
        return [b"1.0", number, b"400", b"not a key of this mesh", b"", b""]

    def close(self) -> None:
        self._closed = True
        if not self._thread.is_alive():
            return
        messenger = self._context.socket(zmq.REQ)
        messenger.setsockopt(zmq.LINGER, 0)
        messenger.setsockopt(zmq.SNDTIMEO, 0)
        messenger.connect(_ADDRESS)
        messenger.send(_POISON)
        self._thread.join(timeout=2.0)
        messenger.close()
