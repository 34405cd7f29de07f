"""The proxy between raw sockets: every fault is seen from both ends.

A dialler in a process of its own is "node 1", an echo server in this process is "node 0".
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stealmesh_bench.chaos.proxied import ProxyProcess

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 20.0
QUIET_SECONDS = 0.3
"""In these seconds nothing must come through. Only a proxy that leaks could fail by it."""

DIALLER = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while line := sys.stdin.buffer.readline():
    sock.sendall(line)
"""


class Inbox:
    """What a node listens with: accepts, keeps, and reads when asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_SECONDS)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        accepted, _ = self.listener.accept()
        accepted.settimeout(PATIENCE_SECONDS)
        return accepted


@pytest.fixture
def proxy() -> Iterator[ProxyProcess]:
    running = ProxyProcess()
    yield running
    running.close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.listener.close()


@pytest.fixture
def door(proxy: ProxyProcess, inbox: Inbox) -> int:
    """Node 0's door; this process is node 1."""
    port: int = proxy.tell("door", node=0, inbox=inbox.port)
    proxy.tell("know", node=1, pid=os.getpid())
    return port


def dial(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    made.settimeout(PATIENCE_SECONDS)
    return made


@contextlib.contextmanager
def connected(port: int, inbox: Inbox) -> Iterator[tuple[socket.socket, socket.socket]]:
    with dial(port) as ours, inbox.accept() as theirs:
        ours.sendall(b"hello")
        assert theirs.recv(100) == b"hello"
        theirs.sendall(b"welcome")
        assert ours.recv(100) == b"welcome"
        yield ours, theirs


def says_nothing(sock: socket.socket) -> bool:
    sock.settimeout(QUIET_SECONDS)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE_SECONDS)
    return False


def is_reset(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_much_goes_through_unchanged(door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        blob = os.urandom(3_000_000)

        def send() -> None:
            ours.sendall(blob)
            ours.close()

        sender = threading.Thread(target=send)
        sender.start()
        with theirs.makefile("rb") as reader:
            assert reader.read() == blob
        sender.join()


def test_a_cut_keeps_what_is_said_until_it_is_mended(
    proxy: ProxyProcess, door: int, inbox: Inbox
) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("cut", nodes=[1], others=[0])
        ours.sendall(b"lost?")
        assert says_nothing(theirs)
        theirs.sendall(b"the other way is open")
        assert ours.recv(100) == b"the other way is open"
        proxy.tell("mend", nodes=[1], others=[0])
        assert theirs.recv(100) == b"lost?"


def test_two_cuts_need_two_mendings(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        for _ in range(2):
            proxy.tell("cut", nodes=[1], others=[0])
        ours.sendall(b"x")
        proxy.tell("mend", nodes=[1], others=[0])
        assert says_nothing(theirs)
        proxy.tell("mend", nodes=[1], others=[0])
        assert theirs.recv(1) == b"x"


def test_nobody_gets_in_through_a_cut(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    proxy.tell("cut", nodes=[1], others=[0])
    with dial(door) as ours:
        inbox.listener.settimeout(QUIET_SECONDS)
        with pytest.raises(TimeoutError):
            inbox.listener.accept()
        inbox.listener.settimeout(PATIENCE_SECONDS)
        proxy.tell("mend", nodes=[1], others=[0])
        with inbox.accept() as theirs:
            ours.sendall(b"at last")
            assert theirs.recv(100) == b"at last"


def test_a_cut_is_between_two_and_nobody_else(
    proxy: ProxyProcess, door: int, inbox: Inbox, tmp_path: Path
) -> None:
    """Who dials is found out by the process that owns the other end."""
    other = subprocess.Popen([sys.executable, "-c", DIALLER, str(door)], stdin=subprocess.PIPE)
    try:
        assert other.stdin is not None
        with inbox.accept() as from_other:
            other.stdin.write(b"early\n")
            other.stdin.flush()
            assert from_other.recv(100) == b"early\n"
            with connected(door, inbox) as (ours, theirs):
                proxy.tell("cut", nodes=[1], others=[0])
                ours.sendall(b"x")
                assert says_nothing(theirs)
                other.stdin.write(b"late\n")
                other.stdin.flush()
                assert from_other.recv(100) == b"late\n"
    finally:
        other.kill()
        other.communicate()


def test_delay_keeps_the_order(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("delay", nodes=[0], seconds=0.4)
        began = time.monotonic()
        for word in (b"a", b"b", b"c"):
            ours.sendall(word)
        heard = b""
        while len(heard) < 3:
            heard += theirs.recv(3 - len(heard))
        assert heard == b"abc"
        assert time.monotonic() - began >= 0.4
        proxy.tell("delay", nodes=[0], seconds=0.0)
        began = time.monotonic()
        ours.sendall(b"d")
        assert theirs.recv(1) == b"d"


def test_a_reset_is_heard_at_both_ends(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("reset", nodes=[1])
        assert is_reset(ours)
        assert is_reset(theirs)
    with connected(door, inbox):
        pass


def test_half_open_is_heard_at_one_end(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("half_open", nodes=[0])
        assert is_reset(theirs)
        assert says_nothing(ours)
        ours.sendall(b"into the void")
        assert says_nothing(ours)
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("half_open", nodes=[1])
        assert is_reset(ours)
        assert says_nothing(theirs)


def test_one_octet_is_flipped(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("corrupt", nodes=[0])
        ours.sendall(b"abcde")
        assert theirs.recv(100) == b"ab#de"
        ours.sendall(b"abcde")
        assert theirs.recv(100) == b"abcde"


def test_the_door_of_the_dead_refuses(proxy: ProxyProcess, door: int, inbox: Inbox) -> None:
    with connected(door, inbox) as (ours, theirs):
        proxy.tell("close", node=0)
        assert is_reset(ours)
        assert is_reset(theirs)
    with pytest.raises(ConnectionRefusedError):
        dial(door)
    proxy.tell("open", node=0)
    with connected(door, inbox):
        pass


def test_a_machine_that_is_off_does_not_even_refuse(
    proxy: ProxyProcess, door: int, inbox: Inbox
) -> None:
    with connected(door, inbox) as (ours, _):
        proxy.tell("deafen", node=0)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", door), QUIET_SECONDS)
        assert says_nothing(ours)
        proxy.tell("close", node=0)
        assert is_reset(ours)
    with pytest.raises(ConnectionRefusedError):
        dial(door)
    proxy.tell("open", node=0)
    with connected(door, inbox):
        pass


def test_nobody_at_home_is_a_reset(proxy: ProxyProcess) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen; so no other process can, either
        door = proxy.tell("door", node=0, inbox=silent.getsockname()[1])
        # It may come before the dialler has noticed that it was let in.
        with contextlib.suppress(ConnectionResetError), dial(door) as ours:
            assert is_reset(ours)


def test_the_proxy_ends_with_its_owner(proxy: ProxyProcess) -> None:
    proxy._process.stdin.close()  # type: ignore[union-attr]
    assert proxy._process.wait(PATIENCE_SECONDS) == 0
