"""The server of one page: standard-library asyncio, GET only, server-sent events.

    /            the page, its scripts and styles (they hold nothing of the mesh, so everybody may have them)
    /live        a stream of frames, one a second; `?first=N` adds the task stream of nodes N, N+1, …
    /look        one job, item or node: why it is not running, and the stacks of who runs it
    /metrics     the figures for Prometheus
    /meanings    what each counter means
    /login       gives a cookie for a view token

Decides what a visitor gets and how much of it at once: connections, streams and the time that a reader may take are
bounded, and each refusal is counted. Refuses to know how the mesh is asked (`gathering.py`), who may look (`gate.py`)
and what HTTP is (`requests.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine
from typing import Any

from stealmesh.metrics import exposition
from stealmesh.page.files import load
from stealmesh.page.gate import PageGate
from stealmesh.page.gathering import PageGathering, TooManyLooks, Visitor
from stealmesh.page.looks import look_at
from stealmesh.page.requests import (
    HEAD_OCTETS_MAX,
    Request,
    RequestRefused,
    answer,
    head_of,
    read_request,
)
from stealmesh_engine.base.counters import FAMILIES, MEANINGS
from stealmesh_protocol.errors import MeshError

CONNECTIONS_MAX = 128
STREAMS_MAX = 32
SLOW_SECONDS = 10.0
"""A reader that has not taken what we wrote by then is dropped."""
BUFFER_OCTETS = 1 << 18
"""What waits for one reader before we wait for it."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
FIRST_MAX = 1 << 20


class PageServer:
    """Serves one page at one address."""

    def __init__(self, gathering: PageGathering, gate: PageGate, here: dict[str, str]) -> None:
        self._gathering = gathering
        self._gate = gate
        self._here = here
        """What the page says of itself: whose page it is."""
        self._files = load()
        self.connections = 0
        self._streams = 0
        self._routes = {
            "/look": self._look,
            "/metrics": self._metrics,
            "/meanings": self._meanings,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.connections >= CONNECTIONS_MAX:
            self._gathering.count("page-connections-refused")
            writer.transport.abort()
            return
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except TimeoutError:
            self._gathering.count("page-readers-dropped")
            writer.transport.abort()
        except ConnectionError:
            writer.transport.abort()  # its visitor has left
        finally:
            self.connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=BUFFER_OCTETS)
        try:
            request = await read_request(reader)
            if request is None:
                return
            if request.path == "/live":
                await self._live(request, reader, writer)
                return
            body = await self._answer(request)
        except RequestRefused as refused:
            self._gathering.count("page-requests-refused")
            body = refusal(refused)
        await _write(writer, body)

    async def _answer(self, request: Request) -> bytes:
        file = self._files.get(request.path)
        if file is not None:
            self._gate.check_origin(request, data=False)
            return answer(200, file[0], file[1])
        self._gate.check_origin(request, data=True)
        if request.path == "/login":
            return await self._login(request)
        route = self._routes.get(request.path)
        if route is None:
            raise RequestRefused(404, "there is no such page")
        self._gate.check_visitor(request, time.time())
        try:
            return await route(request)
        except TimeoutError:
            raise RequestRefused(504, "the mesh did not answer in time: try again") from None
        except MeshError as error:
            raise RequestRefused(503, str(error)) from None
        except TooManyLooks:
            raise RequestRefused(503, "other looks are still open: try again") from None

    # ------------------------------------------------------------ what there is

    async def _login(self, request: Request) -> bytes:
        if self._gate.locked:
            with contextlib.suppress(TimeoutError, MeshError):
                await self._gathering.status()  # so that revoked tokens are known
            value = self._gate.enter(request.bearer(), time.time())
            cookie = f"Set-Cookie: {self._gate.cookie}={value}; Path=/; HttpOnly; SameSite=Strict"
            return head_of(204, "", None, cookie)
        return head_of(204, "", None)

    async def _metrics(self, request: Request) -> bytes:
        status = await self._gathering.status()
        # The answer may say that its token is revoked.
        self._gate.check_visitor(request, time.time())
        text = exposition(status, time.time())
        return answer(200, "text/plain; version=0.0.4; charset=utf-8", text.encode())

    async def _look(self, request: Request) -> bytes:
        found = await look_at(self._gathering, request.query)
        return answer(200, JSON, json_of(found))

    async def _meanings(self, request: Request) -> bytes:
        del request
        return answer(200, JSON, json_of({"names": MEANINGS, "families": FAMILIES}))

    async def _live(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._gate.check_origin(request, data=True)
        self._gate.check_visitor(request, time.time())
        if self._streams >= STREAMS_MAX:
            self._gathering.count("page-connections-refused")
            raise RequestRefused(503, f"{STREAMS_MAX} pages are open already")
        viewer = Visitor(first_of(request.query.get("first", "")))
        self._streams += 1
        self._gathering.add(viewer)
        try:
            await _write(writer, head_of(200, "text/event-stream", None))
            await _write(writer, event("hello", self._here))
            await _until_it_leaves(reader, self._follow(request, viewer, writer))
        finally:
            self._gathering.remove(viewer)
            self._streams -= 1

    async def _follow(
        self, request: Request, viewer: Visitor, writer: asyncio.StreamWriter
    ) -> None:
        """One frame after the other. A slow reader misses frames: it gets the latest, and the task stream from where
        it was."""
        number = -1 if self._gathering.latest.frame else 0
        while True:
            gathered = await self._gathering.after(number)
            number = gathered.number
            try:
                self._gate.check_visitor(request, time.time())
            except RequestRefused:
                await _write(writer, event("login", {}))
                return
            if gathered.trouble:
                await _write(writer, event("trouble", {"text": gathered.trouble}))
                continue
            await _write(writer, event("frame", gathered.frame))
            if viewer.first >= 0:
                await _write(writer, event("stream", self._gathering.stream_for(viewer)))


def refusal(refused: RequestRefused) -> bytes:
    extra = ["WWW-Authenticate: Bearer"] if refused.status == 401 else []
    return answer(refused.status, TEXT, f"{refused}\n".encode(), *extra)


def event(name: str, what: Any) -> bytes:
    """JSON has no line ends of its own."""
    return b"event: " + name.encode() + b"\ndata: " + json_of(what) + b"\n\n"


def json_of(what: Any) -> bytes:
    return json.dumps(what, separators=(",", ":"), allow_nan=False).encode("ascii")


def first_of(text: str) -> int:
    """-1: no task stream is wanted."""
    return min(int(text), FIRST_MAX) if text.isdecimal() and len(text) < 8 else -1


async def _write(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Raises TimeoutError for a reader that takes too long."""
    writer.write(octets)
    # Not wait_for: before Python 3.12 that may swallow the cancelling of what has just been done.
    async with asyncio.timeout(SLOW_SECONDS):
        await writer.drain()


async def _until_it_leaves(reader: asyncio.StreamReader, work: Coroutine[Any, Any, None]) -> None:
    """Work for a visitor. Who has left is known at once: its place is free, and the mesh is not asked for it."""
    leaves = asyncio.create_task(reader.read(1))
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({leaves, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        leaves.cancel()
        working.cancel()
        await asyncio.gather(leaves, working, return_exceptions=True)


async def started(
    server: PageServer, host: str, port: int
) -> tuple[asyncio.Server, tuple[str, int]]:
    """The open server, and where it listens. Raises OSError."""
    opened = await asyncio.start_server(
        server.serve, host, port, limit=HEAD_OCTETS_MAX, backlog=CONNECTIONS_MAX
    )
    name = opened.sockets[0].getsockname()
    return opened, (name[0], name[1])
