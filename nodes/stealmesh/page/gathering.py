"""What the page asks of the mesh, and when: once a second, only while somebody looks.

Decides how often and for whom. One status a second serves all visitors; journals are read of
those nodes only whose task stream is on somebody's screen, and never of more than NODES_WATCHED_MAX. Looks at single
items and workers are asked for when a visitor wants one, a few at a time. Refuses to know HTTP and what is drawn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stealmesh.page.frames import frame_of
from stealmesh.page.latest import LatestReader
from stealmesh.page.picture import WINDOW_SECONDS, StreamPicture
from stealmesh_engine.status import merge_status
from stealmesh_protocol.errors import MeshError
from stealmesh_protocol.ids import PeerId

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink

EVERY_SECONDS = 1.0
ANSWER_SECONDS = 5.0
FRESH_SECONDS = 0.5
"""Questions that come within this time of an answer get the same one."""
NODES_AT_ONCE = 16
"""Whose task stream one visitor sees."""
NODES_WATCHED_MAX = 64
LOOKS_MAX = 4
"""That are open at once."""


class TooManyLooks(Exception):
    """Other visitors' questions are still open."""


@dataclass(eq=False, slots=True)
class Visitor:
    """A visitor whose page is open."""

    first: int = -1
    """The place of the first node whose task stream is wanted, among all by name; -1: none is."""
    seen: int = 0
    """The last entry of the task stream that was sent."""


@dataclass(slots=True)
class Gathered:
    """The latest that is known."""

    number: int = 0
    """Counts the rounds."""
    frame: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""


class PageGathering:
    """Asks one mesh for all visitors of one page."""

    def __init__(
        self,
        link: ProgramLink,
        counters: dict[str, int],
        on_revoked: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        self._link = link
        self._on_revoked = on_revoked
        self.counters = counters
        """Of this page itself: they are shown among those of the mesh."""
        self.viewers: set[Visitor] = set()
        self.latest = Gathered()
        self.stream = StreamPicture()
        self._reader = LatestReader(link)
        self._changed = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._asking: asyncio.Task[dict[str, Any]] | None = None
        self._answered_at = 0.0
        self._looks = 0
        self._nodes: list[tuple[str, str]] = []
        """Name and id of each node, in the order of names."""

    # ------------------------------------------------------------ visitors

    def add(self, viewer: Visitor) -> None:
        self.viewers.add(viewer)
        self._wanted.set()

    def remove(self, viewer: Visitor) -> None:
        self.viewers.discard(viewer)
        if not self.viewers:
            self._wanted.clear()

    async def after(self, number: int) -> Gathered:
        """The next round behind this one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.latest.number > number)
            return self.latest

    def stream_for(self, viewer: Visitor) -> dict[str, Any]:
        """What this visitor has not seen of the task stream."""
        shown = self._shown(viewer)
        rows = {bytes.fromhex(peer): row for row, (_, peer) in enumerate(shown)}
        news = self.stream.since(viewer.seen, rows)
        viewer.seen = self.stream.seq
        chunks = [self._reader.chunks.get(peer) for peer in rows]
        return {
            "rows": shown,
            "first": max(0, viewer.first),
            "of": len(self._nodes),
            "at_once": NODES_AT_ONCE,
            "chunks": chunks,
            **news,
        }

    # ------------------------------------------------------------ the mesh

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            began = time.monotonic()
            await self._round()
            await asyncio.sleep(max(0.05, EVERY_SECONDS - (time.monotonic() - began)))

    async def status(self) -> dict[str, Any]:
        """Of the whole mesh; who asks at the same time gets the same answer. Raises TimeoutError, MeshError."""
        fresh = time.monotonic() - self._answered_at < FRESH_SECONDS
        if self._asking is None or (
            self._asking.done() and not (fresh and _went_well(self._asking))
        ):
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def explain(self, job: bytes, item: int) -> dict[str, Any]:
        """Raises TimeoutError, MeshError, TooManyLooks."""
        found: dict[str, Any] = await self._look(self._link.looking.explain, job, item)
        return found

    async def stacks(self, job: bytes, item: int, peer: PeerId) -> list[Any]:
        """Raises TimeoutError, MeshError, TooManyLooks."""
        found: list[Any] = await self._look(self._link.looking.stacks, job, item, peer)
        return found

    # ------------------------------------------------------------ inside

    async def _look(self, ask: Callable[..., Any], *what: Any) -> Any:
        if self._looks >= LOOKS_MAX:
            self.count("page-looks-refused")
            raise TooManyLooks
        self._looks += 1
        try:
            return await asyncio.to_thread(ask, *what)
        finally:
            self._looks -= 1

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    async def _ask(self) -> dict[str, Any]:
        future = self._link.ask_status()
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await asyncio.wrap_future(future)
        status = merge_status(found)
        self._answered_at = time.monotonic()
        for name, much in self.counters.items():
            status["counters"][name] = status["counters"].get(name, 0) + much
        self._on_revoked(
            [
                name
                for node in status["nodes"]
                if isinstance(node.get("revoked"), list)
                for name in node["revoked"]
                if isinstance(name, str)
            ]
        )
        return status

    async def _round(self) -> None:
        frame, trouble = self.latest.frame, ""
        try:
            status = await self.status()
            frame = frame_of(status, time.time())
            self._nodes = sorted(
                (node["name"], node["id"])
                for node in status["nodes"]
                if node["role"] != "client" and _is_id(node["id"])
            )
            await self._read_stream()
        except TimeoutError:
            trouble = "the mesh does not answer at this moment"
        except MeshError as error:
            trouble = str(error)
        async with self._changed:
            self.latest = Gathered(self.latest.number + 1, frame, trouble)
            self._changed.notify_all()

    async def _read_stream(self) -> None:
        watched: dict[PeerId, None] = {}
        for viewer in self.viewers:
            watched |= {bytes.fromhex(peer): None for _, peer in self._shown(viewer)}
        peers = list(watched)[:NODES_WATCHED_MAX]
        self.stream.forget(time.time() - WINDOW_SECONDS, watched)
        self.stream.add(await self._reader.read(peers))

    def _shown(self, viewer: Visitor) -> list[tuple[str, str]]:
        if viewer.first < 0:
            return []
        return self._nodes[viewer.first : viewer.first + NODES_AT_ONCE]


def _is_id(text: Any) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except (TypeError, ValueError):
        return False


def _went_well(task: asyncio.Task[dict[str, Any]]) -> bool:
    return not task.cancelled() and task.exception() is None
