"""What a worker said is heard although nothing announced it."""

from __future__ import annotations

import select
import threading
from typing import Any

from stealmesh.host.driver import Driver
from stealmesh.host.identity import new_member, new_rng, runtime
from stealmesh.transport import Transport
from stealmesh.values.shelf import Shelf
from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import Event, Join, WorkerReady
from stealmesh_protocol.messages import Role


class MutePool:
    """Workers with a descriptor that never becomes readable."""

    broken = ""
    shelf = Shelf()

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.told: list[Event] = [WorkerReady(0)]
        self.heard = threading.Event()

    def fileno(self) -> int:
        return self.epoll.fileno()

    def next_deadline(self) -> float | None:
        return None

    def collect(self, now: float) -> list[Event]:
        told, self.told = self.told, []
        return told

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class NoProgram:
    def has_wishes(self) -> bool:
        return False

    def pull(self) -> list[Event]:
        return []

    def perform(self, effect: Any) -> None:
        pass


def test_a_worker_whose_descriptor_is_silent_is_heard() -> None:
    epoll = select.epoll()
    transport = Transport(None, epoll=epoll)
    core = NodeCore(
        new_member(Role.PLAIN, "node", [], 1),
        config=Config(),
        rng=new_rng(),
        mesh=b"mesh",
        runtime=runtime(),
    )
    pool = MutePool()
    driver = Driver(core, transport, epoll, NoProgram(), pool)  # type: ignore[arg-type]
    ready = threading.Event()
    right = core.answers.worker_ready

    def worker_ready(worker: int) -> None:
        right(worker)
        ready.set()

    core.answers.worker_ready = worker_ready  # type: ignore[method-assign]
    driver.post(Join([]))
    loop = threading.Thread(target=driver.run)
    loop.start()
    try:
        assert ready.wait(20.0)
    finally:
        driver.stop()
        loop.join()
        transport.close()
        epoll.close()
        pool.epoll.close()
