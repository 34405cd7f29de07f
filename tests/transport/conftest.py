"""Every test closes what it opened and leaves no descriptor behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from stealmesh.host.security import MeshKey
from stealmesh.transport import WireCodec

from .sides import KEY, Side

MakeSide = Callable[..., Side]


@pytest.fixture(scope="session", autouse=True)
def _shared_frames_collector() -> None:
    """pyzmq starts its thread for shared frames once and keeps it: not a leak of ours."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        one.bind("inproc://warm")
        two.connect("inproc://warm")
        one.send(bytes(1 << 20), copy=False)
        two.recv()


@pytest.fixture
def make_side() -> Iterator[MakeSide]:
    before = set(os.listdir("/proc/self/fd"))
    sides: list[Side] = []

    def make(
        *listen: str,
        key: MeshKey | None = KEY,
        public: bool = False,
        codec: WireCodec | None = None,
    ) -> Side:
        sides.append(Side(list(listen), key, public=public, codec=codec))
        return sides[-1]

    yield make
    for side in sides:
        side.transport.close()
    left = {fd: _target(fd) for fd in set(os.listdir("/proc/self/fd")) - before}
    left = {fd: target for fd, target in left.items() if target}
    threads = [thread.name for thread in threading.enumerate()]
    # The mesh of another file may still be open in this process when a test was moved here: it has its own come and go.
    assert not left or "stealmesh" in threads, (
        f"close() left descriptors behind: {left}; threads: {threads}"
    )


def _target(fd: str) -> str:
    """Empty: it was the one that looked."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


@pytest.fixture
def ipc_dir() -> Iterator[Path]:
    """Short, unlike tmp_path: an ipc address has at most 107 octets."""
    path = Path(tempfile.mkdtemp(prefix="sm-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest, ipc_dir: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{ipc_dir}/inbox"
