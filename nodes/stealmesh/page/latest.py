"""The newest entries of some nodes' journals, again and again, for a picture that moves.

Decides that a picture shows now: of a node that is looked at for the first time, and of one that writes faster than we
read, the oldest entries are left out. How many entries there ever were is exact all the same: each page says it.
Refuses to know what is drawn (`picture.py`), and which nodes are looked at.

`client/journals.py` reads the same journals whole, for reports; its bounds of clocks count here, too.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from stealmesh.client.journals import Happening, Teller, in_turn
from stealmesh_engine.effects import JournalsReady, ToldPage
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.limits import INDEX_MAX

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink

ANSWER_SECONDS = 5.0
PAGE_OCTETS = 1 << 16
"""Of one node, at once."""
PAGES_A_READING = 3
ENTRIES_BEHIND_MAX = 1_500
"""A reader that is further behind goes on where it is no further."""


class LatestReader:
    """The marks of one reader."""

    def __init__(self, link: ProgramLink) -> None:
        self._link = link
        self._tellers: dict[PeerId, Teller] = {}
        self.chunks: dict[PeerId, int] = {}
        """Node → chunks that it ever ran. Exact."""

    async def read(self, peers: list[PeerId]) -> list[Happening]:
        """What is new at these nodes, in order of time. Others are forgotten. Raises TimeoutError."""
        wanted = set(peers)
        for peer in [peer for peer in self._tellers if peer not in wanted]:
            del self._tellers[peer]
            self.chunks.pop(peer, None)
        found: list[Happening] = []
        only = peers
        for _ in range(PAGES_A_READING):
            if not only:
                break
            ready = await self._ask(only)
            only = [page.peer for page in ready.pages if self._taken(page, found)]
        return sorted(in_turn(found), key=lambda each: (each.at, each.peer, each.entry.number))

    async def _ask(self, peers: list[PeerId]) -> JournalsReady:
        # The end of a journal is not known before its first page: a mark far beyond brings an empty one.
        since = {
            peer: self._tellers[peer].mark if peer in self._tellers else INDEX_MAX for peer in peers
        }
        wanted: dict[str, Any] = {"since": since, "kinds": 0, "octets": PAGE_OCTETS, "only": peers}
        future = self._link.ask_journals(**wanted)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.wrap_future(future)

    def _taken(self, told: ToldPage, found: list[Happening]) -> bool:
        """True: there is more to read now."""
        page, known = told.page, told.peer in self._tellers
        teller = self._tellers.setdefault(told.peer, Teller(told.name))
        offset = teller.offset(told, time.time() - time.monotonic())
        written = sum(page.told)
        self.chunks[told.peer] = page.told[RingKind.CHUNK] if page.told else 0
        found += (
            Happening(entry.at + offset, entry.begun + offset, told.name, told.peer, entry)
            for entry in page.entries
        )
        behind = max(0, written - ENTRIES_BEHIND_MAX)
        if not known:
            teller.mark = behind
            return written > 0
        teller.mark = max(page.following, behind)
        return bool(page.more)
