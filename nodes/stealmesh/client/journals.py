"""All nodes' journals as one: page by page, on one clock, in order.

Decides when an entry happened in our time of day. Each node has a clock of its own, and its idea of the time of
day may be wrong. A page was written between our question and its arrival, so each round trip bounds the
difference of the two clocks; within these bounds we believe what the node says. Nodes of one host come out
exact, nodes whose time is wrong as exact as the shortest round trip.

Refuses to know what entries mean (`host/happened.py`).

Idea: Cristian's algorithm, and NTP's habit of keeping the best sample.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from stealmesh_engine.effects import JournalsReady, ToldPage
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import BESIDE, JournalEntry, RingKind
from stealmesh_protocol.limits import JOURNAL_OCTETS_MAX

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink

ANSWER_SECONDS = 5.0
OCTETS_AT_ONCE = 32 << 20
"""All pages of one round together: less from each node, the more there are."""
PAGE_OCTETS_MIN = 4096
ASKED_AGAIN_MAX = 2
"""How often a node that did not answer within a second is asked again in one reading."""
ENTRIES_A_READ_MAX = 1 << 18
"""From one node in one reading. A peer may invent entries as fast as we read them."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An entry, where and when."""

    at: float
    """In our time of day."""
    begun: float
    node: str
    peer: PeerId
    entry: JournalEntry


@dataclass(slots=True)
class Teller:
    """One node, as far as we have read it."""

    name: str
    mark: int = 0
    lowest: float = -inf
    """Bounds of what leads from its clock to ours."""
    highest: float = inf
    read: dict[int, int] = field(default_factory=dict)
    """By kind: entries that we have read."""
    missed: int = 0
    """Entries that had made room before we could read them."""

    def offset(self, page: ToldPage, our_wall: float) -> float:
        """What leads from its clock to our time of day."""
        clock = page.page.clock
        lowest, highest = page.asked_at - clock, page.came_at - clock
        if max(lowest, self.lowest) <= min(highest, self.highest):
            lowest, highest = max(lowest, self.lowest), min(highest, self.highest)
        self.lowest, self.highest = lowest, highest  # else clocks drift: the latest look counts
        claimed = page.page.wall - our_wall
        return our_wall + min(max(claimed, lowest), highest)


class JournalReader:
    """Reads the journals of all nodes, each entry once."""

    def __init__(self, link: ProgramLink, *, kinds: int = 0, node: str = "") -> None:
        self._link = link
        self._kinds = kinds
        self._node = node
        self.tellers: dict[PeerId, Teller] = {}
        self.silent: list[str] = []
        """Nodes that did not answer in the last reading."""

    @property
    def missed(self) -> int:
        return sum(teller.missed for teller in self.tellers.values())

    def read(self) -> list[Happening]:
        """What has happened since the last reading, in order of time."""
        found: list[Happening] = []
        counts: dict[PeerId, int] = {}
        asked_again: dict[PeerId, int] = {}
        silent: dict[PeerId, str] = {}
        only: list[PeerId] | None = None
        while only is None or only:
            ready = self._ask(only)
            only = []
            for peer, name in ready.silent:
                asked_again[peer] = asked_again.get(peer, 0) + 1
                silent[peer] = name or peer.hex()[:8]
                if asked_again[peer] <= ASKED_AGAIN_MAX:
                    only.append(peer)  # it may be busy, or dead: then it is asked no more
            for page in ready.pages:
                silent.pop(page.peer, None)
                found += self._taken(page)
                counts[page.peer] = counts.get(page.peer, 0) + len(page.page.entries)
                if page.page.more and counts[page.peer] < ENTRIES_A_READ_MAX:
                    only.append(page.peer)
        self.silent = list(silent.values())
        return sorted(in_turn(found), key=lambda each: (each.at, each.peer, each.entry.number))

    def _ask(self, only: list[PeerId] | None) -> JournalsReady:
        nodes = len(only if only is not None else self.tellers) or 1
        octets = max(PAGE_OCTETS_MIN, min(JOURNAL_OCTETS_MAX, OCTETS_AT_ONCE // nodes))
        since = {peer: teller.mark for peer, teller in self.tellers.items()}
        wanted: dict[str, Any] = {
            "since": since, "kinds": self._kinds, "octets": octets, "only": only, "named": self._node,
        }  # fmt: skip
        return self._link.ask_journals(**wanted).result(timeout=ANSWER_SECONDS)

    def _taken(self, told: ToldPage) -> list[Happening]:
        page = told.page
        teller = self.tellers.setdefault(told.peer, Teller(told.name))
        teller.name = told.name or teller.name
        offset = teller.offset(told, time.time() - time.monotonic())
        teller.mark = page.following
        for entry in page.entries:
            teller.read[entry.kind] = teller.read.get(entry.kind, 0) + 1
        if not page.more:
            wanted = {
                kind: count
                for kind, count in enumerate(page.told)
                if not self._kinds or self._kinds >> kind & 1
            }
            unread = (count - teller.read.get(kind, 0) for kind, count in wanted.items())
            teller.missed = max(0, sum(unread))
        return [
            Happening(entry.at + offset, entry.begun + offset, teller.name, told.peer, entry)
            for entry in page.entries
        ]


def in_turn(found: list[Happening]) -> list[Happening]:
    """The same with the chunks of each worker one after the other, as they ran. A node writes down when it hears that
    a chunk is over, and a busy one hears of several at once: each had ended before the next one began."""
    began: dict[tuple[PeerId, int], float] = {}
    told: list[Happening] = []
    for each in sorted(found, key=lambda each: each.entry.number, reverse=True):
        entry = each.entry
        if entry.kind == RingKind.CHUNK and not entry.detail.startswith(BESIDE):
            late = each.at - began.get((each.peer, entry.worker), inf)
            if late > 0.0:
                each = replace(each, at=each.at - late, begun=each.begun - late)
            began[each.peer, entry.worker] = each.begun
        told.append(each)
    return told[::-1]


def kinds_called(names: list[str]) -> int:
    """The set of bits for these names."""
    return sum(1 << RingKind[name.upper()] for name in set(names))
