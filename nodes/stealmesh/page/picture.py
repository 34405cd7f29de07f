"""The task stream: which worker ran what when, who stole from whom, and what went wrong, of the last minute.

Pure: entries of journals go in, what a browser has not seen yet comes out. Decides what is drawn. Chunks of one worker
that touch and look the same are one bar, so a thousand chunks a second are a few bars. Everything is bounded, and how
many chunks there were is said beside the picture, exactly: nodes count them. Refuses to know who looks and how entries
come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stealmesh.host.faults import faults_of
from stealmesh.host.happened import kind_of, words_of
from stealmesh.page.frames import number, text
from stealmesh_protocol.ids import PeerId, number_in_whole, whole_of
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening

WINDOW_SECONDS = 60.0
BARS_MAX = 40_000
"""Of all nodes that are looked at."""
MARKS_MAX = 4_000
BARS_AT_ONCE = 4_000
MARKS_AT_ONCE = 500
TOUCHING_SECONDS = 0.02
BAR_SECONDS_MAX = 1.0
"""A bar that was drawn may not grow, so a long one is begun anew."""
ENDED_WELL = ("done", "step")
FAULT_CHARS_MAX = 300
"""Of what went wrong: a failure's words say more than a name."""


@dataclass(slots=True)
class StreamBar:
    """What one worker did without a pause that can be seen."""

    seq: int
    node: PeerId
    worker: int
    begun: float
    at: float
    name: str
    what: str
    failed: int
    job: str
    lo: int
    hi: int
    chunks: int = 1


@dataclass(slots=True)
class StreamMark:
    """A moment: a steal, a death, a verdict, a newcomer."""

    seq: int
    node: PeerId
    at: float
    kind: str
    words: str
    fault: bool
    worker: int = -1
    to: PeerId = b""
    """A steal: the thief."""
    items: int = 0
    """That were stolen, or that failed; otherwise how often it happened."""
    key: str = ""
    """Of what went wrong: what has the same one is the same (`host/faults.py`)."""
    of_items: bool = False
    job: str = ""
    item: int = -1
    """One that failed; -1: none is known."""


@dataclass(slots=True)
class StreamPicture:
    """What the pages of one process may draw."""

    bars: deque[StreamBar] = field(default_factory=lambda: deque(maxlen=BARS_MAX))
    marks: deque[StreamMark] = field(default_factory=lambda: deque(maxlen=MARKS_MAX))
    seq: int = 0
    """Of the last entry. A browser has seen all up to some number."""

    def add(self, found: Iterable[Happening]) -> None:
        """Entries of one reading, in order of time. What went wrong in the same way at one node is one mark,
        and so is what one node gave to another: in a flood of steals nothing else may be lost."""
        last: dict[tuple[PeerId, int], StreamBar] = {}
        same: dict[tuple[PeerId, str], StreamMark] = {}
        for each in found:
            if each.entry.kind == RingKind.CHUNK:
                self._chunk(each, last)
            for mark in _marks_of(each):
                alike = (mark.node, f"to {mark.to.hex()}" if mark.to else mark.key)
                known = same.get(alike) if alike[1] else None
                if known is not None:
                    known.items += mark.items
                    known.at, known.words, known.item = mark.at, mark.words, mark.item
                    continue
                self.seq += 1
                mark.seq = self.seq
                same[alike] = mark
                self.marks.append(mark)

    def forget(self, before: float, nodes: Container[PeerId]) -> None:
        """What is older, and what is of no node that is looked at."""
        for kept in (self.bars, self.marks):
            stay = [each for each in kept if each.at >= before and each.node in nodes]
            if len(stay) < len(kept):
                kept.clear()
                kept.extend(stay)  # type: ignore[arg-type]

    def since(self, seq: int, rows: dict[PeerId, int]) -> dict[str, Any]:
        """What came after `seq`, of these nodes; each has the number of its row. How many are left out is said."""
        bars = [bar for bar in _after(self.bars, seq) if bar.node in rows]
        marks = [mark for mark in _after(self.marks, seq) if mark.node in rows]
        return {
            "bars": [_bar(bar, rows) for bar in bars[-BARS_AT_ONCE:]],
            "marks": [_mark(mark, rows) for mark in marks[-MARKS_AT_ONCE:]],
            "left_out": max(0, len(bars) - BARS_AT_ONCE) + max(0, len(marks) - MARKS_AT_ONCE),
        }

    def _chunk(self, each: Happening, last: dict[tuple[PeerId, int], StreamBar]) -> None:
        entry = each.entry
        before = last.get((each.peer, entry.worker))
        name = text(entry.name)
        if (
            before is not None
            and (before.name, before.what) == (name, entry.what)
            and bool(before.failed) == bool(entry.count)
            and 0 <= each.begun - before.at <= TOUCHING_SECONDS
            and each.at - before.begun <= BAR_SECONDS_MAX
        ):
            before.at = each.at
            before.chunks += 1
            before.failed += entry.count
            return
        self.seq += 1
        job = whole_of(entry.about)
        lo = number_in_whole(entry.about, entry.lo) if entry.about else entry.lo
        bar = StreamBar(
            self.seq, each.peer, entry.worker, each.begun, each.at, name, text(entry.what),
            entry.count, job.hex(), lo, lo + entry.hi - entry.lo,
        )  # fmt: skip
        self.bars.append(bar)
        last[each.peer, entry.worker] = bar


def _after(kept: deque[Any], seq: int) -> list[Any]:
    found = []
    for each in reversed(kept):
        if each.seq <= seq:
            break
        found.append(each)
    return found[::-1]


def _marks_of(each: Happening) -> Iterable[StreamMark]:
    """None: the bar says it all."""
    entry = each.entry
    kind = kind_of(entry)
    for fault in faults_of(entry):
        yield StreamMark(
            0, each.peer, each.at, kind, text(fault.said, FAULT_CHARS_MAX), True, entry.worker, b"", fault.many,
            fault.key[:FAULT_CHARS_MAX], fault.of_items, fault.job.hex(), fault.item,
        )  # fmt: skip
    if entry.kind == RingKind.STEAL and entry.what == "gave":
        yield StreamMark(
            0, each.peer, each.at, "steal", text(words_of(entry)), False,
            to=entry.peer, items=entry.count,
        )  # fmt: skip
    # Who was met has come to the other, and the other says so.
    if entry.kind >= RingKind.MEMBER and entry.kind != RingKind.LEASE and entry.what != "met":
        yield StreamMark(
            0,
            each.peer,
            each.at,
            kind,
            text(words_of(entry)),
            False,
            entry.worker,
            items=entry.count,
        )


def _bar(bar: StreamBar, rows: dict[PeerId, int]) -> list[Any]:
    """As short as it can be: there are many."""
    return [
        rows[bar.node], bar.worker, round(number(bar.begun), 4), round(number(bar.at), 4), bar.name,
        bar.what, bar.failed, bar.job, bar.lo, bar.hi, bar.chunks,
    ]  # fmt: skip


def _mark(mark: StreamMark, rows: dict[PeerId, int]) -> list[Any]:
    to = rows.get(mark.to, -1) if mark.to else -1
    return [
        rows[mark.node], round(number(mark.at), 4), mark.kind, mark.words, mark.fault, mark.worker,
        to, mark.items, mark.key, mark.of_items, mark.job, mark.item,
    ]  # fmt: skip
