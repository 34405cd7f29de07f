"""A mesh that is none, for the page: it answers what it is told to, and counts what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from stealmesh.futures import Future
from stealmesh.page.gate import LOOPBACK_NAMES, PageGate
from stealmesh.page.gathering import PageGathering
from stealmesh.page.server import PageServer, started
from stealmesh_engine.effects import JournalsReady, ToldPage
from stealmesh_protocol.journal_messages import JournalEntry, JournalPage, RingKind

PATIENCE_SECONDS = 60.0
ONE, TWO = b"\x01" * 16, b"\x02" * 16
JOB = b"\x09" * 16 + b"\0\0\0\1"


def node(peer: bytes = ONE, name: str = "n1", **more: Any) -> dict[str, Any]:
    return {
        "id": peer.hex(), "name": name, "pid": 7, "host": "h", "address": "tcp://127.0.0.1:1",
        "role": "plain", "state": "alive", "workers": 2, "worker_pids": [], "busy": 1, "running": [],
        "queued_seconds": 1.5, "steals_in": 1, "steals_out": 2, "executed": 10, "run_seconds": 4.0,
        "steals_asked": 3, "sees": 2, "build": "", "runtime": "", "resources": {}, "leads": [],
        "values": {}, "jobs": [], "counters": {}, **more,
    }  # fmt: skip


def job(**more: Any) -> dict[str, Any]:
    return {
        "id": JOB.hex(), "kind": "map", "name": "f", "state": "running", "total": 30, "done": 20,
        "failed": 1, "leased": 6, "free": 4, "rerun": 0, "duplicates_dropped": 0, "durable": False,
        "owner": "me@here:1", "started": 1000.0, "ended": None, "told": [], "rate": 2.0, "error": "",
        **more,
    }  # fmt: skip


class StillMesh:
    """What the page sees of a program: its link."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes) or [node()]
        self.asked: list[str] = []
        self.failure: BaseException | None = None
        self.silent = False
        self.entries: dict[bytes, list[JournalEntry]] = {}
        self.since: list[dict[bytes, int]] = []
        self.looking = SimpleNamespace(explain=self._explain, stacks=lambda *what: [])
        self.on_explain: Callable[[], None] = lambda: None

    def ask_status(self) -> Future[list[dict[str, Any]]]:
        self.asked.append("status")
        future: Future[list[dict[str, Any]]] = Future()
        if not self.silent:
            future.set_result([{**each} for each in self.nodes])
        return future

    def ask_journals(self, **wanted: Any) -> Future[JournalsReady]:
        self.asked.append("journals")
        self.since.append(dict(wanted["since"]))
        pages = [
            ToldPage(peer, "n", 5.0, 5.0, self._page(peer, wanted["since"].get(peer, 0)))
            for peer in wanted["only"]
        ]
        future: Future[JournalsReady] = Future()
        future.set_result(JournalsReady(1, pages, []))
        return future

    def _page(self, peer: bytes, since: int) -> JournalPage:
        entries = self.entries.get(peer, [])
        told = [sum(each.kind == kind for each in entries) for kind in RingKind]
        news = [each for each in entries if each.number >= since]
        following = news[-1].number + 1 if news else since
        return JournalPage(1, 5.0, 0.0, following, False, told, news)

    def _explain(self, what: bytes, item: int) -> dict[str, Any]:
        self.asked.append("explain")
        self.on_explain()
        return {
            "job": what.hex(), "item": item, "why": "free", "told": "it is free\x1b[31m", "node": "",
            "tried": [], "facts": [], "owner_answered": True, "nodes_answered": 1,
        }  # fmt: skip


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait for what no event tells of."""
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


class Page:
    """An open page over such a mesh."""

    def __init__(self, mesh: StillMesh, gate: PageGate) -> None:
        self.mesh, self.gate = mesh, gate
        self.gathering = PageGathering(mesh, {}, gate.revoke)  # type: ignore[arg-type]
        self.server = PageServer(self.gathering, gate, {"name": "here", "host": "h"})
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def counted(self) -> dict[str, int]:
        return self.gathering.counters

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def listen(
        self, path: str, *headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream that goes on."""
        reader, writer = await self.open()
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        return reader, writer

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await until(lambda: not self.server.connections, "all connections are over")

    async def get(self, path: str, *headers: str, host: str = "127.0.0.1") -> tuple[int, str, str]:
        """Status, head and body."""
        return await self.say(
            "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""])
        )

    async def say(self, text: str) -> tuple[int, str, str]:
        reader, writer = await self.open()
        writer.write(text.encode())
        whole = (await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)).decode()
        head, _, body = whole.partition("\r\n\r\n")
        return int(head.split(" ")[1]), head, body


@asynccontextmanager
async def page(mesh: StillMesh | None = None, gate: PageGate | None = None) -> AsyncIterator[Page]:
    told = Page(mesh or StillMesh(), gate or PageGate(LOOPBACK_NAMES, "c"))
    server, (_, told.port) = await started(told.server, "127.0.0.1", 0)
    rounds = asyncio.create_task(told.gathering.run())
    try:
        async with server:
            yield told
    finally:
        await told.close()
        rounds.cancel()
