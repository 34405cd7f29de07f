"""Values that go from process to process of one host as descriptors: nothing is copied.

Each process that has values listens at a local address that follows from its peer id. Who asks there gets the
open file of a value, if it belongs to the same user. Decides that, and how long an answer is waited for.
Refuses to know which value is taken from whom (the engine), and how pieces travel when no neighbour answers.

Threads of its own do it: a driver waits for no other process.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable

from stealmesh.values.descriptors import received
from stealmesh.values.shelf import Shelf
from stealmesh_protocol.ids import PEER_ID_OCTETS, PeerId, ValueId

ANSWER_SECONDS = 2.0
"""A process that has not answered by then stands still; pieces come from it once it goes on."""
ACCEPTS_AGAIN_SECONDS = 0.2
"""A process without descriptors looks so often whether there is one for a caller."""
_CREDENTIALS = struct.Struct("3i")
"""Of the process at the other end: pid, uid, gid."""


OFFERS_MAX = 64
"""Ways to hired workers that nobody has asked for yet."""
HIRE_OCTETS = PEER_ID_OCTETS + 12


def _address(peer: PeerId) -> str:
    """In the namespace without files, so that nothing is left behind."""
    return f"\0stealmesh-values-{peer.hex()}"


def _is_ours(sock: socket.socket) -> bool:
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())


def _hire(owner: PeerId, hire: int) -> bytes:
    """The name of a hire. It has more octets than that of a value."""
    return owner + b"hire" + hire.to_bytes(8, "big")


def _has_ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Neighbours:
    """One process among those of its host."""

    def __init__(self, me: PeerId, shelf: Shelf) -> None:
        self._me = me
        self._shelf = shelf
        self._listener: socket.socket | None = None
        self._closed = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._hired: dict[bytes, socket.socket] = {}
        """The way to workers that are hired out, by the owner's name for it, until it asks."""

    # ------------------------------------------------------------ giving

    def serve(self) -> None:
        """Give values away from now on. Where that cannot be, pieces travel."""
        if self._listener is not None:
            return
        with self._lock:
            if self._listener is not None or self._closed:
                return
            try:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except OSError:
                return  # no descriptor is left; perhaps there is one the next time
            try:
                listener.bind(_address(self._me))
                listener.listen(16)
                threading.Thread(
                    target=self._accept, args=(listener,), name="stealmesh-values", daemon=True
                ).start()
            except (OSError, RuntimeError):  # RuntimeError: no thread can be started
                listener.close()
                return
            self._listener = listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                if self._ended.wait(ACCEPTS_AGAIN_SECONDS):
                    return
                continue  # no descriptor was left
            with caller:
                caller.settimeout(ANSWER_SECONDS)
                try:
                    self._answer(caller)
                except (OSError, KeyError):
                    continue  # it has gone, or has to take pieces

    def _answer(self, caller: socket.socket) -> None:
        if not _is_ours(caller):
            return
        asked = caller.recv(HIRE_OCTETS)
        if len(asked) == HIRE_OCTETS:
            with self._lock:
                sock = self._hired.pop(asked)
            with sock:
                socket.send_fds(caller, [b"\1"], [sock.fileno()])
            return
        descriptor = self._shelf.descriptor(asked)
        try:
            socket.send_fds(caller, [b"\1"], [descriptor])
        finally:
            os.close(descriptor)

    def offer(self, owner: PeerId, hire: int, sock: socket.socket) -> bool:
        """Give it to this owner when it asks. False: nobody can ask here."""
        self.serve()
        with self._lock:
            if self._listener is None:
                sock.close()
                return False
            self._drop_stale()
            self._hired[_hire(owner, hire)] = sock
            if len(self._hired) > OFFERS_MAX:
                self._hired.pop(next(iter(self._hired))).close()
            return True

    def _drop_stale(self) -> None:
        """Ways whose worker has left them: their owners died before they asked."""
        for name, sock in list(self._hired.items()):
            if _has_ended(sock):
                self._hired.pop(name).close()

    # ------------------------------------------------------------ taking

    def fetch_hired(
        self, node: PeerId, hire: int, told: Callable[[socket.socket | None], None]
    ) -> None:
        """`told` hears the way to a worker that this node has hired out to us; None: there is none."""

        def work() -> None:
            told(self._fetch_hired(node, hire))

        try:
            threading.Thread(target=work, name="stealmesh-hire", daemon=True).start()
        except RuntimeError:  # no thread can be started
            told(None)

    def _fetch_hired(self, node: PeerId, hire: int) -> socket.socket | None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(ANSWER_SECONDS)
                sock.connect(_address(node))
                if not _is_ours(sock):
                    return None
                sock.send(_hire(self._me, hire))
                _, descriptors = received(sock, 1, 1)
        except OSError:
            return None
        return socket.socket(fileno=descriptors[0]) if descriptors else None

    def take(self, value: ValueId, octets: int, peer: PeerId, told: Callable[[bool], None]) -> None:
        """Take the value over from this process of the same host; `told` hears whether that was done."""

        def work() -> None:
            told(self._take(value, octets, peer))

        try:
            threading.Thread(target=work, name="stealmesh-take", daemon=True).start()
        except RuntimeError:  # no thread can be started; it comes in pieces
            told(False)

    def _take(self, value: ValueId, octets: int, peer: PeerId) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(ANSWER_SECONDS)
                sock.connect(_address(peer))
                if not _is_ours(sock):
                    return False
                sock.send(value)
                _, descriptors = received(sock, 1, 1)
        except OSError:
            return False
        if not descriptors:
            return False
        if os.fstat(descriptors[0]).st_size != octets:
            os.close(descriptors[0])
            return False
        return self._shelf.adopt(value, descriptors[0], octets)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._ended.set()
            for sock in self._hired.values():
                sock.close()
            self._hired.clear()
            if self._listener is not None:
                # A thread that waits in `accept` keeps a socket that is only closed, and waits on.
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
