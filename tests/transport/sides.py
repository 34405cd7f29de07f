"""Transports pumped by hand, so that a test waits for facts and never for a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from stealmesh.host.security import AnyKey, MeshKey
from stealmesh.transport import Transport, WireCodec
from stealmesh_engine.events import Event, Garbled, Heard, LinkDown, LinkUp

from .standin import StandInCodec

LIMIT_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[2]
KEY = MeshKey(b"k" * 32)
E = TypeVar("E", bound=Event)


class Side:
    """One transport and everything that it has told so far."""

    def __init__(
        self,
        listen: list[str] | None = None,
        key: AnyKey | None = KEY,
        *,
        public: bool = False,
        codec: StandInCodec | WireCodec | None = None,
    ) -> None:
        self.codec = StandInCodec() if codec is None else codec
        self.transport = Transport(key, listen or [], codec=self.codec, insecure_public=public)
        self.events: list[Event] = []
        self._numbers = iter(range(0, 1 << 20, 2))

    @property
    def endpoint(self) -> str:
        return self.transport.endpoints[0]

    def pump(self) -> None:
        for fd, _ in self.transport.epoll.poll(0):
            self.events += self.transport.ready(fd)
        self.events += self.transport.settle()

    def dial(self, endpoint: str) -> int:
        link = next(self._numbers)
        self.transport.dial(link, endpoint)
        return link

    def told(self, kind: type[E], link: int | None = None) -> list[E]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (link is None or getattr(event, "link", None) == link)
        ]

    def heard(self, link: int | None = None) -> list[Heard]:
        return self.told(Heard, link)

    def is_up(self, link: int) -> bool:
        return bool(self.told(LinkUp, link))

    def down_reason(self, link: int) -> str | None:
        downs = self.told(LinkDown, link)
        assert len(downs) < 2, "a link goes down once"
        return downs[0].reason if downs else None

    def garbled(self) -> list[str]:
        return [event.reason for event in self.told(Garbled)]


def until(condition: Callable[[], object], *sides: Side) -> None:
    """Pump the sides until the condition holds."""
    deadline = time.monotonic() + LIMIT_SECONDS
    with contextlib.closing(select.epoll()) as anyone:
        for side in sides:
            anyone.register(side.transport.epoll.fileno(), select.EPOLLIN)
        while True:
            for side in sides:
                side.pump()
            if condition():
                return
            now = time.monotonic()
            assert now < deadline, f"never happened: {[side.events[-5:] for side in sides]}"
            waits = [side.transport.wait_seconds() for side in sides]
            anyone.poll(min(0.25, *waits))


def link_between(dialler: Side, acceptor: Side, endpoint: str = "") -> int:
    link = dialler.dial(endpoint or acceptor.endpoint)
    until(lambda: dialler.is_up(link), dialler, acceptor)
    return link


def accepted_by(acceptor: Side) -> int:
    """The newest accepted link that has said something."""
    return max(event.link for event in acceptor.told(Heard))


class Process:
    """Another process with a transport of its own (peer.py), told what to do line by line."""

    def __init__(self, *arguments: str) -> None:
        path = os.pathsep.join(str(ROOT / name) for name in ("", "protocol", "engine", "nodes"))
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.transport.peer", KEY.secret.hex(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            bufsize=0,
        )
        self.pid = self._popen.pid
        self.endpoint = ""

    def line(self) -> str:
        """What the process says next; one that says nothing is made to print its stacks."""
        assert self._popen.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            if not select.select([self._popen.stdout], [], [], LIMIT_SECONDS)[0]:
                self.signal(signal.SIGABRT)
                raise AssertionError("the process says nothing; its stacks are on stderr")
            octet = self._popen.stdout.read(1)
            assert octet, "the process ended"
            said += octet
        return str(json.loads(said))

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[Process]:
    running = Process(*arguments)
    try:
        running.endpoint = running.line()
        yield running
    finally:
        running.close()
