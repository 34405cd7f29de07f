"""Bounded rings of what happened at this node: what `stealmesh events` and `stealmesh trace` show.

Decides how much is kept of each kind, that what falls out is counted, how a flood of refusals becomes a few
entries, and what is on a page. Refuses to know who asks (`journals`) and how it looks. `journal.py` beside it
is for us, in our words, and stays here; this is for people, in fields, and peers may ask for it.

All that an entry is made of comes from events, so the simulator keeps the same rings as a real node.

Idea: the task stream of dask's scheduler, without the scheduler.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import count, islice
from operator import attrgetter

from stealmesh_engine.config import Config
from stealmesh_engine.effects import Effect, WorthSaying
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.journal_messages import NO_WORKER, JournalEntry, RingKind
from stealmesh_protocol.limits import (
    ENTRY_DETAIL_CHARS_MAX,
    ENTRY_WORDS_CHARS_MAX,
    JOURNAL_ENTRIES_MAX,
)

REPEATS_SECONDS = 5.0
"""Refusals for one reason are one entry in this time, with a count, and so are steals that brought nothing: a
flood must not drive all else out."""
REASONS_MAX = 64
"""Reasons that are counted apart. More would be a peer's invention."""
ENTRY_OCTETS = 96
"""What an entry takes on the wire at most, without its texts."""

_number = attrgetter("number")


@dataclass(slots=True)
class Ring:
    """The latest entries of one kind."""

    most: int
    told: int = 0
    """How many there ever were."""
    entries: deque[JournalEntry] = field(init=False)

    def __post_init__(self) -> None:
        self.entries = deque(maxlen=self.most)

    def since(self, number: int) -> Iterator[JournalEntry]:
        return islice(self.entries, bisect_left(self.entries, number, key=_number), None)


@dataclass(slots=True)
class Repeats:
    """What happened again after its entry, and has none yet."""

    since: float
    """When the last entry was made."""
    waiting: int = 0
    peer: PeerId = b""
    name: str = ""
    aloud: bool = False


class Rings:
    """All rings of one node. 0 entries: nothing of that kind is kept, and nobody at the node hears of it."""

    def __init__(self, chunks_max: int, entries_max: int, effects: list[Effect]) -> None:
        self._rings = {kind: Ring(entries_max) for kind in RingKind}
        self.chunks = self._rings[RingKind.CHUNK] = Ring(chunks_max)
        self._effects = effects
        self._next = count().__next__
        self._repeats: dict[tuple[RingKind, str], Repeats] = {}

    @classmethod
    def of(cls, config: Config, effects: list[Effect]) -> Rings:
        return cls(config.journal_chunks_max, config.journal_entries_max, effects)

    # ------------------------------------------------------------ writing

    def ran(
        self,
        now: float,
        what: str,
        job: JobId,
        name: str,
        worker: int,
        lo: int,
        hi: int,
        begun: float,
        failed: int = 0,
        detail: str = "",
    ) -> None:
        """A worker had these items of a job. Once a chunk, so it is written for speed."""
        chunks = self.chunks
        if chunks.most:
            chunks.told += 1
            chunks.entries.append(
                JournalEntry(
                    self._next(), now, 0, what, name[:ENTRY_WORDS_CHARS_MAX], job, b"",
                    worker, lo, hi, begun, failed, detail,
                )
            )  # fmt: skip

    def note(
        self,
        now: float,
        kind: RingKind,
        what: str,
        *,
        name: str = "",
        about: bytes = b"",
        peer: PeerId = b"",
        worker: int = NO_WORKER,
        items: tuple[int, int] = (0, 0),
        count: int = 0,
        detail: str = "",
        aloud: bool = False,
    ) -> None:
        """Something rarer happened. `aloud`: a person at this node wants to know at once."""
        ring = self._rings[kind]
        if not ring.most:
            return
        words, more = name[:ENTRY_WORDS_CHARS_MAX], detail[:ENTRY_DETAIL_CHARS_MAX]
        entry = JournalEntry(
            self._next(), now, kind, what[:ENTRY_WORDS_CHARS_MAX], words, about, peer, worker, *items, 0.0, count, more
        )  # fmt: skip
        ring.told += 1
        ring.entries.append(entry)
        if aloud:
            self._effects.append(WorthSaying(entry))

    def often(
        self,
        now: float,
        kind: RingKind,
        what: str,
        peer: PeerId = b"",
        name: str = "",
        times: int = 1,
        *,
        aloud: bool = False,
    ) -> None:
        """Something happened that may happen very often: it has one entry in a while, with a count, and names the
        peer that it came from last."""
        if (kind, what) not in self._repeats and len(self._repeats) >= REASONS_MAX:
            what = "other"
        known = self._repeats.get((kind, what))
        if known is not None and now - known.since < REPEATS_SECONDS:
            known.waiting += times
            known.peer, known.name, known.aloud = peer, name, known.aloud or aloud
            return
        self._repeats[kind, what] = Repeats(now)
        self.note(now, kind, what, name=name, peer=peer, count=times, aloud=aloud)

    def refused(
        self,
        now: float,
        what: str,
        peer: PeerId = b"",
        name: str = "",
        times: int = 1,
        *,
        aloud: bool = True,
    ) -> None:
        """Connections or messages were refused for this reason."""
        self.often(now, RingKind.REFUSED, what, peer, name, times, aloud=aloud)

    def settle(self, now: float) -> None:
        """Once a beat: tell of what has waited for company long enough."""
        for (kind, what), each in list(self._repeats.items()):
            if now - each.since < REPEATS_SECONDS:
                continue
            if not each.waiting:
                del self._repeats[kind, what]
                continue
            self._repeats[kind, what] = Repeats(now)
            self.note(
                now,
                kind,
                what,
                name=each.name,
                peer=each.peer,
                count=each.waiting,
                aloud=each.aloud,
            )

    # ------------------------------------------------------------ reading

    def told(self) -> list[int]:
        """By kind: how many entries there ever were. Those that are not there any more had to make room."""
        return [self._rings[kind].told for kind in RingKind]

    def page(self, since: int, kinds: int, octets: int) -> tuple[list[JournalEntry], bool]:
        """The first entries from `since` on, of these kinds (bits; 0: all), as many as fit, and at least one.
        True: there are more."""
        wanted = [ring for kind, ring in self._rings.items() if not kinds or kinds >> kind & 1]
        found: list[JournalEntry] = []
        left = octets
        for entry in merge(*(ring.since(since) for ring in wanted), key=_number):
            left -= octets_of(entry)
            if found and (left < 0 or len(found) >= JOURNAL_ENTRIES_MAX):
                return found, True
            found.append(entry)
        return found, False


def octets_of(entry: JournalEntry) -> int:
    """At most, on the wire."""
    letters = len(entry.what) + len(entry.name) + len(entry.detail)
    return ENTRY_OCTETS + len(entry.about) + len(entry.peer) + 4 * letters
