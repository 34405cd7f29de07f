"""The node's side of its fork server: starts it, orders births and kills, hears what became of them.

Decides how the server is started and ended, and that one that stands still is made to go on. Refuses
to know what a worker is for: it carries numbers (`workers/wire.py` has the packets).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from io import FileIO
from typing import Any

from stealmesh.host import interpreter
from stealmesh.host.restarts import Restarts
from stealmesh.workers import wire
from stealmesh.workers.wire import Word

CLOSE_SECONDS_MAX = 5.0

End = socket.socket | FileIO


class ForkClient:
    """`flags` is the descriptor of the shared words, which workers inherit."""

    def __init__(
        self,
        epoll: select.epoll,
        flags: int,
        start_path: list[str],
        surroundings: interpreter.Surroundings,
    ) -> None:
        self.restarts = Restarts(time.monotonic())
        self.fd = -1
        """Readable when the server has something to say; -1 while there is no server."""
        self._epoll = epoll
        self._flags = flags
        self._start_path = start_path
        self._surroundings = surroundings
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._letters: deque[tuple[bytes, tuple[End, ...]]] = deque()

    def start(self) -> None:
        """Raises OSError if no process can be started."""
        assert self._process is None
        ours, theirs = wire.packets()
        ours.setblocking(False)
        with theirs:
            fds = (theirs.fileno(), self._flags)
            self._process = subprocess.Popen(
                interpreter.command(
                    self._start_path,
                    "stealmesh.workers.fork_server:main",
                    *fds,
                    self._surroundings.restored,
                    surroundings=self._surroundings,
                ),
                stdin=subprocess.DEVNULL,
                env=self._surroundings.variables,
                pass_fds=fds,
                start_new_session=True,  # a terminal's Ctrl-C and hang-up are the node's to judge
            )
        self._control, self.fd = ours, ours.fileno()
        self._epoll.register(ours, select.EPOLLIN)

    def stop(self) -> int | None:
        """End the server and all its workers. Its exit status; None: it did not end by itself."""
        if self._control is not None:
            self._control.close()
            self._control, self.fd = None, -1
        for _, sockets in self._letters:
            for sock in sockets[1:]:  # the first one is a handle's (`orders_back`), which closes it
                sock.close()
        self._letters.clear()
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            return process.wait(CLOSE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()  # its workers die with it
            process.wait()
            return None

    def rouse(self) -> bool:
        """Make a stopped server go on; True if it was stopped. Stopped, it would bury and rouse no worker."""
        if self._process is None:
            return False
        # No child: the embedding program has reaped it, and the end of its socket says so, too.
        with contextlib.suppress(ChildProcessError):
            look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self._process.pid, look) is not None:
                self._process.send_signal(signal.SIGCONT)
                return True
        return False

    # ------------------------------------------------------------ letters

    def spawn(self, worker: int, life: int, ends: tuple[End, ...]) -> None:
        """Fork a worker around these ends: orders (which the node keeps, too), stream, questions, output,
        sheet, ring."""
        self._letters.append((wire.pack([Word.SPAWN, worker, life]), ends))
        self.post()

    def kill(self, worker: int, life: int) -> None:
        """Kill that process with all that it started."""
        self._letters.append((wire.pack([Word.KILL, worker, life]), ()))
        self.post()

    def post(self) -> None:
        """Send letters. What does not fit waits; when the server is dead they are void."""
        control = self._control
        if control is None:
            return
        while self._letters:
            letter, sockets = self._letters[0]
            try:
                socket.send_fds(control, [letter], [sock.fileno() for sock in sockets])
            except BlockingIOError:
                self._epoll.modify(control, select.EPOLLIN | select.EPOLLOUT)
                return
            except ConnectionError:
                return  # its end of file says so too, and is handled in one place
            self._letters.popleft()
            for sock in sockets[1:]:
                sock.close()  # the worker's ends: only it may hold them, but for that of the orders
        self._epoll.modify(control, select.EPOLLIN)

    def read(self) -> list[Any] | None:
        """The next message (word, worker, life, text or pid); None when there is none at the moment.
        Raises StreamEnded when the server is gone."""
        assert self._control is not None
        try:
            packet = self._control.recv(wire.PACKET_OCTETS_MAX)
        except BlockingIOError:
            return None
        except ConnectionError:
            packet = b""
        if not packet:
            raise wire.StreamEnded
        message: list[Any] = wire.unpack(packet)
        return message
