"""A replica of one durable job: what one node knows of it, joined and never overwritten.

Decides what a message adds to the replica, what it lacks of another, and which results can be read.
Refuses to know which node leads, which nodes keep the job and who hears of it (primary.py, election.py).

Every credited result names exactly the items that it covers, so replicas are joined like sets: of two
results for an item the first stays, inputs are added, and an end is final. The order and the number of
deliveries do not matter. Two replicas that exchange what they have agree, and they need no vote on which
is right: both are, and their join is better. The wire, the log on the disk and the merging of two
primaries after a cut therefore all use the same message (KEEP).

Ideas: join semilattices (CRDTs, Shapiro et al.); a log of joins that may be replayed from any point,
after bitcask and Dynamo's anti-entropy.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.functions import needed
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.accounts import BagAccount
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
"""All replicas are lost, and the rest does not even say what is missing."""
PAGE_OCTETS = 512 * 1024
PAGE_ENTRIES = 2048
FETCH_OCTETS = 512 * 1024
OFFER_INTERVALS = 8192

Entry = tuple[Kept, bytes]


def supersedes(a: Reign, b: Reign) -> bool:
    """Is configuration `a` of a job later than `b`?"""
    return (a.term, a.primary, a.version) > (b.term, b.primary, b.version)


def quorum(replicas: int) -> int:
    """How many replicas of a configuration hold, together, everything that was ever safe.

    A result is safe once two replicas have it, so all but one are enough."""
    return max(1, replicas - 1)


@dataclass(slots=True)
class Added:
    """What a join added."""

    results: list[Entry] = field(default_factory=list)
    blocks: list[tuple[Block, bytes]] = field(default_factory=list)
    functions: list[bytes] = field(default_factory=list)
    header: bool = False
    """The total, the end or the floor changed."""
    replaced: bool = False
    """Another account took the place of ours (bag_replica.py)."""

    def __bool__(self) -> bool:
        return bool(self.results or self.blocks or self.functions or self.header or self.replaced)


class Replica:
    """One job, as far as this node knows."""

    def __init__(self, spec: JobSpec, configuration: Reign) -> None:
        self.spec = spec
        self.configuration = configuration
        """The term, its primary, and the nodes that have a replica, each with the id of its store."""
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
        """Items that have neither input nor result on any replica."""
        self.ended_at: float | None = None
        """When this node found that the job had ended."""
        self.was_over = False
        """It had ended before this node read it from its disk, so the time of its end is unknown."""
        self._results: dict[int, Entry] = {}
        self._lows: list[int] = []

    # ------------------------------------------------------------ joining

    def join(self, keep: Keep) -> Added:
        """Add what is new in a message, and return that. The configuration is left as it is."""
        added = Added()
        blocks, results = len(keep.blocks), len(keep.results)
        added.header |= keep.total > self.total or keep.closed > self.closed
        self.total = max(self.total, keep.total)
        self.closed = self.closed or keep.closed
        if keep.state > self.state:
            self.state, added.header = keep.state, True
            self._empty()
        if keep.floor > self.floor:
            added.header = True
            self.raise_floor(keep.floor)
        for blob in keep.blobs[blocks + results :]:
            if self._add_function(blob):
                added.functions.append(blob)
        for block, blob in zip(keep.blocks, keep.blobs, strict=False):
            if self.add_block(block, blob):
                added.blocks.append((block, blob))
        for kept, blob in zip(keep.results, keep.blobs[blocks:], strict=False):
            added.results += self.add_result(kept.part, blob, kept.lo, kept.hi)
        return added

    def may_have(self, total: int) -> bool:
        """Can this number of items be true? A closed range has as many as it was launched with."""
        return total <= self.total or not (self.spec.step and self.closed)

    def add_block(self, block: Block, blob: bytes) -> bool:
        if self.state or block.lo in self.blocks or self.covered.covers(block.lo, block.hi):
            return False
        self.blocks.add(block, blob)
        self.total = max(self.total, block.hi)
        self.octets += len(blob)
        return True

    def add_result(self, part: Part, blob: bytes, lo: int, hi: int) -> list[Entry]:
        """Enter the part of [lo, hi) that has no result yet, and return it."""
        if self.state:
            return []
        pieces = list(IntervalSet([(lo, hi)]).minus(self.covered.overlap(lo, hi)))
        if self.spec.kind is JobKind.REDUCE and pieces != [(part.lo, part.hi)]:
            return []  # a partial counts as a whole or not at all
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
            self.failed += min(part.failed, kept.hi - kept.lo)
        self._drop_blocks(pieces)
        return entries

    def give_way(self, keep: Keep) -> None:
        """Drop partials of a reduction that overlap those of our primary.

        Two replicas may have combined the same items differently. The primary's partials count: were ours
        to stay, its own would be on no other replica, although it calls them safe."""
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
                self.failed -= min(ours.part.failed, ours.hi - ours.lo)

    def end(self, state: str) -> Added:
        """The job ends in this state: nothing of it will be read or run again."""
        return self.join(Keep(self.spec, self.configuration, state=state))

    def close(self) -> None:
        """No more items will come."""
        self.closed = True

    def end_at(self, total: int) -> Added:
        """The job has this many items; those that never came are lost."""
        self.total, self.closed = total, True
        return self.give_up(self.unbacked)

    def extend(self, total: int) -> bool:
        """There are at least this many items. True if that is news."""
        grows = total > self.total
        self.total = max(self.total, total)
        return grows

    def give_up(self, lost: list[tuple[int, int]]) -> Added:
        """These items will have no result."""
        self.lost = lost
        return Added(header=True)

    def find_again(self) -> None:
        """An item that was given up may come after all, with a late replica."""
        if self.lost:
            self.lost = list(IntervalSet(self.lost).minus(self.covered))

    def count_items(self) -> bool:
        """Put the final number of items into the spec. True if that is news."""
        if not self.closed or self.spec.count == self.total:
            return False
        self.spec = replace(self.spec, count=self.total)
        return True

    def note_end(self, now: float) -> None:
        """Remember since when the job is over."""
        if not self.ended:
            self.ended_at = None
        elif self.ended_at is None:
            self.ended_at = now

    def recalled(self) -> None:
        """All records of it have been read from the disk."""
        self.was_over = self.ended

    def raise_floor(self, floor: int) -> None:
        """Drop the results below: a client has collected them."""
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

    def reconfigure(self, configuration: Reign) -> None:
        self.configuration = configuration
        self.spec = replace(self.spec, term=configuration.term, owner=configuration.primary)

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
    def inputs(self) -> IntervalSet:
        """Items with an input here."""
        return self.blocks.items

    @property
    def unbacked(self) -> list[tuple[int, int]]:
        """Items that can be neither read nor run: they have no result and no input."""
        if self.spec.step or self.state:
            return []
        return list(IntervalSet([(0, self.total)]).minus(self.covered, self.inputs))

    def following(self, lo: int, unsettled: IntervalSet) -> list[Entry]:
        """Results from `lo` on without a gap, as many as fit a message; ends before the first in `unsettled`."""
        found: list[Entry] = []
        octets = 0
        at = bisect_right(self._lows, lo) - 1
        while 0 <= at < len(self._lows) and octets < FETCH_OCTETS and len(found) < PAGE_ENTRIES:
            entry = self._results[self._lows[at]]
            kept, blob = entry
            if kept.lo > lo or unsettled.overlap(kept.lo, kept.hi):
                break
            if kept.hi > lo:
                found.append(entry)
                octets += len(blob)
                lo = kept.hi
            at += 1
        return found

    def line(self) -> JobLine:
        """The state of a job that no owner runs."""
        state = self.state or (LOST if self.lost else "done" if self.complete else "waiting")
        state = LOST if state == BEYOND_REPAIR else state
        waiting = max(0, self.total - self.done_items)
        figures = (self.total, self.done_items, self.failed, 0, waiting)
        spec = self.spec
        return JobLine(
            spec.job, spec.kind, spec.name, state, *figures, 0, 0, True, spec.submitter, spec.submitted
        )  # fmt: skip

    # ------------------------------------------------------------ telling others

    def header(self, number: int = 0) -> Keep:
        return Keep(
            self.spec, self.configuration, number, self.total, self.closed, self.state, self.floor
        )

    def pages(
        self,
        results: list[tuple[int, int]] | None = None,
        blocks: list[tuple[int, int]] | None = None,
        *,
        functions: bool = True,
    ) -> Iterator[Keep]:
        """The replica as messages of at most about `PAGE_OCTETS`; with intervals, only what lies in them."""
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

    def offers(self, store: bytes) -> list[Offer]:
        """Which results and inputs this replica has, under the id of its store."""
        covered = list(self.covered)
        inputs = [(block.lo, block.hi) for block, _ in self.blocks]
        pages = max(len(covered), len(inputs), 1)
        return [
            Offer(
                self.spec.job,
                store,
                covered[at : at + OFFER_INTERVALS],
                inputs[at : at + OFFER_INTERVALS],
                self.total,
                self.closed,
                self.state,
                self.floor,
                len(self.functions),
                at + OFFER_INTERVALS >= pages,
            )
            for at in range(0, pages, OFFER_INTERVALS)
        ]

    def told_by(self, offer: Offer) -> Keep:
        """What an offer says beside what can be had: it is to be joined."""
        told = Keep(self.spec, self.configuration)
        told.total, told.closed = offer.total, offer.closed
        told.state, told.floor = offer.state, offer.floor
        return told

    def takes(self, keep: Keep) -> bool:
        """May we join what another replica sends us, the primary?"""
        return True

    def stamp(self, keep: Keep) -> None:
        """This word of ours, the primary's, is to be said. (The order of words does not matter.)"""

    def lacks(
        self, covered: IntervalSet, inputs: IntervalSet, account: BagAccount | None = None
    ) -> tuple[list[tuple[int, int]], ...]:
        """The intervals of these results, and of these inputs, that are not here."""
        results = covered.minus(self.covered)
        return list(results), list(inputs.minus(self.covered, self.inputs))

    def audit(self) -> None:
        """Check that each covered item is either readable once or below the floor."""
        readable = IntervalSet([(0, self.floor)])
        for lo in self._lows:
            kept = self._results[lo][0]
            assert kept.lo == lo
            assert not readable.overlap(max(kept.lo, self.floor), kept.hi)
            readable.add(kept.lo, kept.hi)
        assert self.state or readable == self.covered, "covered items and readable results differ"

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
        """Drop the inputs of items that all have results."""
        self.octets -= self.blocks.drop_covered(pieces, self.covered)

    def _empty(self) -> None:
        """Drop everything: an ended job is neither read nor run."""
        self.blocks.clear()
        self._results.clear()
        self._lows.clear()
        self.functions.clear()
        self.octets = 0
