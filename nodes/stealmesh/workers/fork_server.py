"""The fork server: a small single-threaded process that forks workers, and reaps them.

A node has threads (ZeroMQ's), so a fork of it would copy locks that no thread will ever release.
The fork server has none, and has already imported what every worker needs: a fork from it is safe
and takes about a millisecond, at the start and for every replacement later. The node starts it by
exec, not by fork: so it inherits nothing from the node (no descriptor, no lock, no half-used heap),
and the node can replace it when it dies.

SPAWN forks a worker around the given sockets, KILL kills one, and the server tells the node the end
of every worker with its reason. When the node is gone (end of file), it kills every worker with all
that they started, and ends.

It refuses to know what workers do, why one is to be killed, and whether one should be replaced. It
runs no user code and unpickles nothing.

When a worker is stopped (SIGSTOP), the server makes it go on at once: nothing else would notice that
its task stands still, and killing it would run that task twice. To stop a machine's work, stop its
node. A debugger is left alone.

Every worker leads its own process group, so that what a task started goes with it. The server looks
at a dead worker with WNOWAIT and reaps it only after it has killed the group: until then the system
cannot give its number to another process.

A worker is like a child process of the program: it has no signal blocked or ignored but those that
Python ignores itself, and the environment that the program has. What the program had blocked, and
what the server ignores for itself, ends here.

Idea: CPython's forkserver and Android's zygote.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from stealmesh.host.interpreter import fresh_signals, restore_environment
from stealmesh.host.kernel import PR_SET_PDEATHSIG, prctl
from stealmesh.workers import wire
from stealmesh.workers.wire import Word

ENDS = 6
"""Descriptors that a worker is given."""
LOOK = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT


NOT_FORKED = "could not be forked"
"""How the word begins that the system had no process, or no memory, for a worker."""


@dataclass(slots=True)
class Child:
    number: int
    life: int
    pid: int


class NodeGone(Exception):
    """The node has closed its end: there is nothing left to do."""


def main(control: int, flags: int, restored: Mapping[str, str | None]) -> NoReturn:
    """The whole life of a fork server, on the descriptors that the node gave it."""
    restore_environment(restored)
    fresh_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Not at the top: tests and the node import this file, and must stay without these.
    from stealmesh.workers import process

    os.set_inheritable(control, False)
    server = ForkServer(socket.socket(fileno=control), mmap.mmap(flags, 0), process.live)
    os.close(flags)
    gc.collect()
    gc.freeze()
    try:
        server.serve()
    except NodeGone:
        pass
    finally:
        server.kill_all()
    os._exit(0)


class ForkServer:
    def __init__(
        self,
        control: socket.socket,
        flags: mmap.mmap,
        live: Callable[
            [socket.socket, socket.socket, socket.socket, int, memoryview, int, int], NoReturn
        ],
    ) -> None:
        self._control = control
        self._flags = flags
        self._live = live
        self._children: dict[int, Child] = {}
        """By pid."""
        self._wake, wake_writer = socket.socketpair()
        self._wake.setblocking(False)
        wake_writer.setblocking(False)
        self._wake_writer = wake_writer
        signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._prctl = prctl()

    def serve(self) -> NoReturn:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake.fileno() in ready:
                self._wake.recv(4096)
                self._look_after_all()
            if self._control.fileno() in ready:
                self._obey()

    def _obey(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, wire.PACKET_OCTETS_MAX, ENDS)
        except ConnectionError:
            raise NodeGone from None
        if not packet:
            raise NodeGone
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        word, number, life = wire.unpack(packet)
        if word == Word.SPAWN:
            self._spawn(number, life, *descriptors)
        else:
            assert word == Word.KILL, word
            self._kill(number, life)

    def _tell(self, *message: object) -> None:
        try:
            self._control.send(wire.pack(message))
        except ConnectionError:
            raise NodeGone from None

    # ------------------------------------------------------------ birth

    def _spawn(self, number: int, life: int, *ends: int) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no process or no memory to be had
            for end in ends:
                os.close(end)
            self._tell(Word.DIED, number, life, f"{NOT_FORKED}: {error}")
            return
        if pid == 0:
            self._be_worker(server, number, *ends)
        _make_group(pid)
        for end in ends:
            os.close(end)
        self._children[pid] = Child(number, life, pid)
        self._tell(Word.BORN, number, life, pid)

    def _be_worker(
        self,
        server: int,
        number: int,
        orders: int,
        stream: int,
        questions: int,
        output: int,
        sheet: int,
        ring: int,
    ) -> NoReturn:
        """In the child. It never returns or raises into the server's frames."""
        try:
            _make_group(0)
            if self._prctl is not None:
                self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != server:
                os._exit(0)  # it died before we could ask to die with it
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._control.close()
            self._wake.close()
            self._wake_writer.close()
            octets = wire.WORDS_A_WORKER * 8
            line = memoryview(self._flags)[number * octets : (number + 1) * octets].cast("Q")
            self._live(
                socket.socket(fileno=orders),
                socket.socket(fileno=stream),
                socket.socket(fileno=questions),
                output,
                line,
                sheet,
                ring,
            )
        except BaseException:  # noqa: BLE001 - any error ends here
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    # ------------------------------------------------------------ death

    def _kill(self, number: int, life: int) -> None:
        for child in self._children.values():
            if child.number == number and child.life == life:
                signal_group(child.pid, signal.SIGKILL)

    def _look_after_all(self) -> None:
        for pid in list(self._children):
            news = os.waitid(os.P_PID, pid, LOOK)
            if news is None:
                continue
            if news.si_code == os.CLD_STOPPED:
                self._rouse(pid)
            else:
                self._bury(pid)

    def _rouse(self, pid: int) -> None:
        signal_group(pid, signal.SIGCONT)
        child = self._children[pid]
        self._tell(Word.ROUSED, child.number, child.life, "")

    def _bury(self, pid: int) -> None:
        signal_group(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        child = self._children.pop(pid)
        self._tell(Word.DIED, child.number, child.life, cause_of_death(status))

    def kill_all(self) -> None:
        for pid in self._children:
            signal_group(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def signal_group(leader: int, number: signal.Signals) -> None:
    # Refused when all are gone, or when those that are left have changed their user: they are not ours.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def cause_of_death(status: int) -> str:
    """What waitpid reported, in words."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # real-time signals have numbers only
        return f"signal {number}"


def _make_group(pid: int) -> None:
    """Parent and child both call it, so that neither goes on before it is done (a shell's trick)."""
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it exec'd or died already
        os.setpgid(pid, pid)
