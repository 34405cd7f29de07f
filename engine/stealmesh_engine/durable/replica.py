"""A keeper's copy of one durable job: what is known of it, joined and never overwritten.

Decides what a piece of news adds to a copy, what one copy lacks of another, and which results
can be read. Refuses to know who leads, who keeps and who is told what (primary.py, election.py).

Every credited result names exactly the items that it covers, so copies are joined like sets:
of two results for an item the first that came stays, inputs are added, an end is final. The
order and the number of deliveries do not matter, two copies that exchange what they have
agree, and no vote is needed to find out which of them is right: both are, and their join is
better. That is why the wire, the log on the disk and the merging of two homes after a cut all
speak in the same words (KEEP).

Ideas: join semilattices (CRDTs, Shapiro et al.); a log of joins that may be replayed from
anywhere after bitcask and Dynamo's anti-entropy.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.functions import needed
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.ids import Digest, digest_of
from stealmesh_protocol.messages import (
    Block,
    JobKind,
    JobLine,
    JobSpec,
    Keep,
    Kept,
    Offer,
    Part,
    Reign,
)

CANCELLED = "cancelled"
EXPIRED = "expired"
LOST = "lost"
BEYOND_REPAIR = "beyond repair"
"""All keepers were lost, and what others had was not enough to know even what is missing."""
PAGE_OCTETS = 512 * 1024
PAGE_ENTRIES = 2048
FETCH_OCTETS = 512 * 1024
OFFER_INTERVALS = 8192

Entry = tuple[Kept, bytes]


def above(a: Reign, b: Reign) -> bool:
    """Does reign `a` hold over reign `b` of the same job?"""
    return (a.term, a.primary, a.version) > (b.term, b.primary, b.version)


def quorum(seats: int) -> int:
    """So many of the seats have, together, everything that was ever said to be safe (two had it)."""
    return max(1, seats - 1)


@dataclass(slots=True)
class News:
    """What a join added."""

    results: list[Entry] = field(default_factory=list)
    blocks: list[tuple[Block, bytes]] = field(default_factory=list)
    functions: list[bytes] = field(default_factory=list)
    header: bool = False
    """The total, the end or the floor changed."""

    def __bool__(self) -> bool:
        return bool(self.results or self.blocks or self.functions or self.header)


class Copy:
    """One job, as far as this keeper knows."""

    def __init__(self, spec: JobSpec, reign: Reign) -> None:
        self.spec = spec
        self.reign = reign
        self.total = 0
        self.closed = False
        """No more items will come."""
        self.state = ""
        self.floor = 0
        self.functions: dict[Digest, bytes] = {}
        self.blocks = Blocks()
        self.covered = IntervalSet()
        self.octets = 0
        self.failed = 0
        self.lost: list[tuple[int, int]] = []
        """Items whose inputs no keeper has."""
        self.ended_at: float | None = None
        """When this keeper found it at its end."""
        self.was_over = False
        """It had ended when this keeper read it from its disk: nobody here knows when."""
        self._results: dict[int, Entry] = {}
        self._lows: list[int] = []

    # ------------------------------------------------------------ joining

    def join(self, keep: Keep) -> News:
        """Add what is new in it; the reign is the business of those who know about reigns."""
        news = News()
        blocks, results = len(keep.blocks), len(keep.results)
        news.header |= keep.total > self.total or keep.closed > self.closed
        self.total = max(self.total, keep.total)
        self.closed = self.closed or keep.closed
        if keep.state > self.state:
            self.state, news.header = keep.state, True
            self._empty()
        if keep.floor > self.floor:
            news.header = True
            self.raise_floor(keep.floor)
        for blob in keep.blobs[blocks + results :]:
            if self._add_function(blob):
                news.functions.append(blob)
        for block, blob in zip(keep.blocks, keep.blobs, strict=False):
            if self.add_block(block, blob):
                news.blocks.append((block, blob))
        for kept, blob in zip(keep.results, keep.blobs[blocks:], strict=False):
            news.results += self.add_result(kept.part, blob, kept.lo, kept.hi)
        return news

    def add_block(self, block: Block, blob: bytes) -> bool:
        if self.state or block.lo in self.blocks or self.covered.covers(block.lo, block.hi):
            return False
        self.blocks.add(block, blob)
        self.total = max(self.total, block.hi)
        self.octets += len(blob)
        return True

    def add_result(self, part: Part, blob: bytes, lo: int, hi: int) -> list[Entry]:
        """Enter what of [lo, hi) has no result yet; returns that."""
        if self.state:
            return []
        pieces = list(IntervalSet([(lo, hi)]).minus(self.covered.overlap(lo, hi)))
        if self.spec.kind is JobKind.REDUCE and pieces != [(part.lo, part.hi)]:
            return []  # a partial counts whole or not at all
        entries = [(Kept(*piece, part), blob) for piece in pieces]
        for entry in entries:
            kept = entry[0]
            self._results[kept.lo] = entry
            if self._lows and kept.lo < self._lows[-1]:
                insort(self._lows, kept.lo)
            else:
                self._lows.append(kept.lo)
            self.covered.add(kept.lo, kept.hi)
            self.octets += len(blob)
            self.failed += part.failed
        self._drop_blocks(pieces)
        return entries

    def give_way(self, keep: Keep) -> None:
        """Our home has other partials of a reduction than we: its own hold, or what it calls safe would
        be with it alone."""
        if self.spec.kind is not JobKind.REDUCE or self.state:
            return
        for kept in keep.results:
            at = max(0, bisect_right(self._lows, kept.lo) - 1)
            while at < len(self._lows) and self._lows[at] < kept.hi:
                ours, blob = self._results[self._lows[at]]
                if ours.hi <= kept.lo or (ours.lo, ours.hi) == (kept.lo, kept.hi):
                    at += 1
                    continue
                del self._results[self._lows.pop(at)]
                self.covered.remove(max(ours.lo, self.floor), ours.hi)
                self.octets -= len(blob)
                self.failed -= ours.part.failed

    def raise_floor(self, floor: int) -> None:
        """Results below were collected: they make room."""
        self.floor = max(self.floor, floor)
        keep_from = bisect_right(self._lows, floor)
        kept_lows = []
        for lo in self._lows[:keep_from]:
            kept, blob = self._results[lo]
            if kept.hi <= floor:
                del self._results[lo]
                self.octets -= len(blob)
            else:
                kept_lows.append(lo)
        self._lows[:keep_from] = kept_lows
        self.covered.add(0, floor)
        self._drop_blocks([(0, floor)])

    def reigned(self, reign: Reign) -> None:
        self.reign = reign
        self.spec = replace(self.spec, term=reign.term, owner=reign.primary)

    # ------------------------------------------------------------ reading

    @property
    def complete(self) -> bool:
        return self.closed and self.covered.size == self.total

    @property
    def ended(self) -> bool:
        lost = sum(hi - lo for lo, hi in self.lost)
        return bool(self.state) or (self.closed and self.covered.size + lost == self.total)

    @property
    def done_items(self) -> int:
        return self.covered.size

    @property
    def entries(self) -> int:
        """How many results can be read."""
        return len(self._lows)

    @property
    def weight(self) -> int:
        return self.covered.size + self.total + self.closed

    @property
    def fed(self) -> IntervalSet:
        """Items whose inputs are here."""
        return self.blocks.items

    @property
    def unbacked(self) -> list[tuple[int, int]]:
        """Items that can neither be read nor run: no result, no input."""
        if self.spec.step or self.state:
            return []
        return list(IntervalSet([(0, self.total)]).minus(self.covered, self.fed))

    def following(self, lo: int, upto: IntervalSet) -> list[Entry]:
        """Results without gaps from `lo` on, as many as fit a message, none that lies in `upto`."""
        found: list[Entry] = []
        octets = 0
        at = bisect_right(self._lows, lo) - 1
        while 0 <= at < len(self._lows) and octets < FETCH_OCTETS and len(found) < PAGE_ENTRIES:
            entry = self._results[self._lows[at]]
            kept, blob = entry
            if kept.lo > lo or upto.overlap(kept.lo, kept.hi):
                break
            if kept.hi > lo:
                found.append(entry)
                octets += len(blob)
                lo = kept.hi
            at += 1
        return found

    def line(self) -> JobLine:
        """The account of a job that nobody works on."""
        state = self.state or (LOST if self.lost else "done" if self.complete else "waiting")
        state = LOST if state == BEYOND_REPAIR else state
        figures = (self.total, self.done_items, self.failed, 0, self.total - self.done_items)
        spec = self.spec
        return JobLine(
            spec.job, spec.kind, spec.name, state, *figures, 0, 0, True, spec.submitter, spec.submitted
        )  # fmt: skip

    # ------------------------------------------------------------ telling others

    def header(self, number: int = 0) -> Keep:
        return Keep(self.spec, self.reign, number, self.total, self.closed, self.state, self.floor)

    def pages(
        self,
        results: list[tuple[int, int]] | None = None,
        blocks: list[tuple[int, int]] | None = None,
        *,
        functions: bool = True,
    ) -> Iterator[Keep]:
        """The copy, or what of it lies in these intervals, in messages of a bearable size."""
        page = self.header()
        octets = 0
        if functions:
            page.blobs.extend(self.functions.values())
            yield page
            page = self.header()
        for block, blob in self._blocks_in(blocks):
            page.blocks.append(block)
            page.blobs.append(blob)
            octets += len(blob)
            if octets >= PAGE_OCTETS or len(page.blocks) >= PAGE_ENTRIES:
                yield page
                page, octets = self.header(), 0
        if page.blocks:
            yield page
            page, octets = self.header(), 0
        for kept, blob in self._results_in(results):
            page.results.append(kept)
            page.blobs.append(blob)
            octets += len(blob)
            if octets >= PAGE_OCTETS or len(page.results) >= PAGE_ENTRIES:
                yield page
                page, octets = self.header(), 0
        if page.results or not functions:
            yield page

    def offers(self, seat: bytes) -> list[Offer]:
        """What this copy has."""
        covered = list(self.covered)
        fed = [(block.lo, block.hi) for block, _ in self.blocks]
        pages = max(len(covered), len(fed), 1)
        return [
            Offer(
                self.spec.job,
                seat,
                covered[at : at + OFFER_INTERVALS],
                fed[at : at + OFFER_INTERVALS],
                self.total,
                self.closed,
                self.state,
                self.floor,
                len(self.functions),
                at + OFFER_INTERVALS >= pages,
            )
            for at in range(0, pages, OFFER_INTERVALS)
        ]

    def lacks(self, covered: IntervalSet, fed: IntervalSet) -> tuple[list[tuple[int, int]], ...]:
        """Which of these results, and of these inputs, are not here."""
        return list(covered.minus(self.covered)), list(fed.minus(self.covered, self.fed))

    def audit(self) -> None:
        """What can be read and what was given up is what is covered, once."""
        readable = IntervalSet([(0, self.floor)])
        for lo in self._lows:
            kept = self._results[lo][0]
            assert kept.lo == lo
            assert not readable.overlap(max(kept.lo, self.floor), kept.hi)
            readable.add(kept.lo, kept.hi)
        assert self.state or readable == self.covered, "a result is in no account"

    # ------------------------------------------------------------ inside

    def _add_function(self, blob: bytes) -> bool:
        digest = digest_of(blob)
        if digest in self.functions or digest not in needed(self.spec):
            return False
        self.functions[digest] = blob
        self.octets += len(blob)
        return True

    def _blocks_in(self, where: list[tuple[int, int]] | None) -> Iterator[tuple[Block, bytes]]:
        for block, blob in self.blocks:
            if where is None or IntervalSet(where).overlap(block.lo, block.hi):
                yield block, blob

    def _results_in(self, where: list[tuple[int, int]] | None) -> Iterator[Entry]:
        wanted = None if where is None else IntervalSet(where)
        for lo in self._lows:
            entry = self._results[lo]
            if wanted is None or wanted.overlap(entry[0].lo, entry[0].hi):
                yield entry

    def _drop_blocks(self, pieces: list[tuple[int, int]]) -> None:
        """Inputs whose items all have results are not needed any more."""
        self.octets -= self.blocks.drop_covered(pieces, self.covered)

    def _empty(self) -> None:
        """It is over: nothing of it will be read or run again."""
        self.blocks.clear()
        self._results.clear()
        self._lows.clear()
        self.functions.clear()
        self.octets = 0
