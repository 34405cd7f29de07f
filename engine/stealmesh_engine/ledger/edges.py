"""What of one job waits for other items, what waits for its own, and the results that are still needed.

Decides when an item lacks nothing any more, and until when a result is kept. Refuses to know leases and links
(graph.py). An item is named by these edges of its job and its number there.

Invariant: an item lacks exactly those of its inputs that are neither credited nor failed; a result is here as
long as an item that it goes into is not over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Input
from stealmesh_engine.base.places import Places
from stealmesh_engine.base.small_numbers import SmallNumbers
from stealmesh_engine.ledger.early_reports import EarlyReports
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.queues import Queues
from stealmesh_protocol import given
from stealmesh_protocol.given import Result
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId, value_of_item
from stealmesh_protocol.messages import Block, Inputs, Part
from stealmesh_protocol.values import ITEMS, good_in

GRANTED_TOGETHER = 500
"""Items with inputs that one grant covers."""
OCTETS_TOGETHER = 512 * 1024

Name = tuple["JobEdges", int]
"""An item of any job of this owner."""
Short = int | Name | list[Name]
"""One name or several; a number alone is an item of the same job. There are two for each edge."""


class News(Protocol):
    """Is told what may let items follow, or what they followed (graph.py)."""

    def moved(self, edges: JobEdges, lo: int, hi: int) -> None:
        """Some of [lo, hi), which others wait for, have left their lease undone."""

    def changed(self, job: JobId) -> None:
        """Something of this job has become free, or is over."""

    def look(self, edges: JobEdges, item: int) -> None:
        """This item may be able to follow its inputs."""

    def withhold(self, edges: JobEdges, item: int) -> None:
        """This item must not follow any more. It is withheld again, if it did."""

    def follows_no_more(self, holder: PeerId) -> None:
        """There is room for one more follow-on there."""

    def complete(self, edges: JobEdges, item: int, holder: PeerId, lid: LeaseId) -> None:
        """All that goes into this item counts. Its node, which has it already, has to get some of it from others."""

    def came_early(self, edges: JobEdges, item: int) -> None:
        """This item's report may be judged now: all that went into it counts, or it is not there any more."""

    def failed(self, edges: JobEdges, item: int, part: Part, blob: bytes) -> None:
        """An item that others wait for has failed."""


@dataclass(slots=True)
class NeededResult:
    """A result that items still need."""

    result: Result
    users: int
    stays: ValueId | None = None
    """Its octets are on the node that made it; what needs it needs this value."""


class JobEdges:
    """The edges of one job. They are made with its first item that waits, or that another waits for."""

    __slots__ = (
        "_from_afar",
        "_news",
        "dependents",
        "early",
        "follows",
        "inputs",
        "job",
        "leads",
        "ledger",
        "missing",
        "places",
        "queues",
        "results",
        "stays",
    )

    def __init__(
        self, job: JobId, ledger: IndexedLedger, news: News, queues: Queues, *, leads: bool
    ) -> None:
        self.job = job
        self.ledger = ledger
        self.leads = leads
        """May items follow to where those of this job are?"""
        self._news = news
        self.inputs: dict[int, Short] = {}
        """Of each item that is not over: what goes into it, in the order of its places."""
        self.missing = SmallNumbers()
        """How many of them are not there yet."""
        self.dependents: dict[int, Short] = {}
        """Of each item that is not over: what waits for it, and some that do not any more."""
        self.results: dict[int, NeededResult] = {}
        """Of those that are over, as long as items that they go into are not."""
        self.stays = False
        """Did the last result stay where it was made? Then the next ones may, and nothing follows them: it would
        be withdrawn each time, with all behind it."""
        self.queues = queues
        self.places: Places[tuple[PeerId, LeaseId, int]] = Places()
        """Which node has an item, under which lease, and its place in the node's queue, less its number."""
        for lid, lent in ledger.leases.items():
            for lo, hi in lent.open:
                self._put(lo, hi, lent.holder, lid)
        self.follows: dict[int, tuple[PeerId, LeaseId]] = {}
        """Items that a node has before their inputs are all there."""
        self._from_afar: set[int] = set()
        """Those that need a result of another node."""
        self.early = EarlyReports()
        """Those that are over already, as their holder says."""

    # ------------------------------------------------------------ growing

    def waits_for(self, item: int, names: list[Name], missing: int) -> None:
        """A new item: these go into it, and `missing` of them are not over."""
        self.inputs[item] = self._short(names[0]) if len(names) == 1 else names
        if missing:
            self.missing[item] = missing

    def feeds(self, item: int, into: Name) -> None:
        """This item of ours, which is not over, goes into another."""
        known = self.dependents.get(item)
        if known is None:
            self.dependents[item] = self._short(into)
        elif isinstance(known, list):
            known.append(into)
        else:
            self.dependents[item] = [*self._names(known), into]

    def _short(self, name: Name) -> int | Name:
        return name[1] if name[0] is self else name

    def _names(self, held: Short | None) -> list[Name]:
        if isinstance(held, int):
            return [(self, held)]
        if held is None:
            return []
        return held if isinstance(held, list) else [held]

    def keep(self, item: int, result: Result, users: int, stays: ValueId | None = None) -> None:
        """This result of ours is needed by `users` items."""
        known = self.results.get(item)
        if known is None:
            self.results[item] = NeededResult(result, users, stays)
        else:
            known.users += users

    def into(self, item: int) -> list[Name]:
        """What goes into this item."""
        return self._names(self.inputs.get(item))

    def waiting_for(self, item: int) -> list[Name]:
        """The items that lack this one."""
        return [
            name for name in self._names(self.dependents.get(item)) if name[1] in name[0].missing
        ]

    # ------------------------------------------------------------ what the ledger says

    def lent(self, lo: int, hi: int, holder: PeerId, lid: LeaseId) -> None:
        """A node has these from now on."""
        planned = self.places.at(lo)
        if planned is None:
            self._put(lo, hi, holder, lid)
            self._look_at_dependents(lo, hi)
        else:
            self.places.put(lo, hi, (holder, lid, planned[2]))

    def planned(self, item: int, holder: PeerId) -> None:
        """It is going to be leased there in this step, behind its inputs."""
        self._put(item, item + 1, holder, 0)
        self._look_at_dependents(item, item + 1)

    def _put(self, lo: int, hi: int, holder: PeerId, lid: LeaseId) -> None:
        self.places.put(lo, hi, (holder, lid, self.queues.joins(holder, hi - lo) - lo))

    def _look_at_dependents(self, lo: int, hi: int) -> None:
        if self.leads and self.dependents:
            for item in within(self.dependents, lo, hi):
                for edges, other in self._names(self.dependents[item]):
                    self._news.look(edges, other)

    def left(self, lo: int, hi: int, holder: PeerId) -> None:
        """These are in no lease any more, done or not."""
        self.places.remove(lo, hi)
        self.queues.leaves(holder, hi - lo)

    def over_all(self) -> None:
        """The job is over."""
        for lo, hi, (holder, _, _) in list(self.places):
            self.left(lo, hi, holder)

    def lost(self, lo: int, hi: int) -> list[int]:
        """They have left their lease undone. Returns those that lack inputs."""
        if self.dependents:
            self._news.moved(self, lo, hi)
        lacking = within(self.follows, lo, hi)
        for item in lacking:
            self.leads_no_more(item)
        return lacking

    def leads_no_more(self, item: int) -> tuple[PeerId, LeaseId] | None:
        """It does not follow any more: it has all that it needs, or is not there."""
        where = self.follows.pop(item, None)
        if where is not None:
            self._from_afar.discard(item)
            if item in self.early:
                self._news.came_early(self, item)
            self._news.follows_no_more(where[0])
        return where

    def reach(self, lo: int, hi: int) -> int:
        """How far the items from `lo` on, which may run, go together in one grant. `lo`: it has no inputs."""
        upto, octets = lo, 0
        while upto < min(hi, lo + GRANTED_TOGETHER) and upto in self.inputs:
            fed = self.ledger.inputs.at(upto)
            assert fed is not None, "what has inputs was fed"
            needed = [edges.results[at] for edges, at in self.into(upto)]
            alone = bool(fed[0].needs) or any(each.stays for each in needed)
            if upto > lo and (alone or octets > OCTETS_TOGETHER):
                break
            octets += len(fed[1]) + sum(len(each.result.blob) for each in needed)
            upto += 1
            if alone:
                break
        return upto

    def completed(self, lo: int, hi: int) -> tuple[list[Block], list[bytes]]:
        """These items, each with the results that go into it."""
        blocks, blobs = [], []
        for item in range(lo, hi):
            fed = self.ledger.inputs.at(item)
            assert fed is not None
            block, blob = self._completed(fed)
            blocks.append(block)
            blobs.append(blob)
        return blocks, blobs

    def _completed(self, fed: Input) -> Input:
        block, blob = fed
        results = [edges.results[at] for edges, at in self.into(block.lo)]
        return self._needing(block, results), given.filled(blob, [each.result for each in results])

    @staticmethod
    def _needing(block: Block, results: Iterable[NeededResult]) -> Block:
        """The block needs what stays of these as well."""
        stays = {each.stays for each in results if each.stays is not None}
        return replace(block, needs=tuple(sorted(stays.union(block.needs)))) if stays else block

    def recipes(self, fed: list[Input], part: Part, blob: bytes) -> list[Input]:
        """These blocks as they have to be if their items, which a holder has done, are to run again when nothing
        else is here."""
        return [self._recipe(each, part, blob) for each in fed]

    def _recipe(self, fed: Input, part: Part, blob: bytes) -> Input:
        into = self.into(fed[0].lo)
        kept = [edges.results.get(at) or self._made_in(part, blob, edges, at) for edges, at in into]
        results = [each for each in kept if each is not None]
        if not into or len(results) < len(into):
            return fed
        filled = given.filled(fed[1], [each.result for each in results])
        return self._needing(fed[0], results), filled

    def _made_in(self, part: Part, blob: bytes, edges: JobEdges, item: int) -> NeededResult | None:
        """The result of an item in this part, which may go into another one there; None: it has none."""
        place = edges.places.at(item) if edges is self and part.lo <= item < part.hi else None
        if place is None or place[1] != part.lid or self.name_of_staying(item, part) is not None:
            return None
        result = good_in(part.codec, blob, item - part.lo)
        return None if result is None else NeededResult(result, 0)

    def values_into(self, item: int) -> set[ValueId]:
        """The results that go into this item and stay where they were made."""
        if item not in self.inputs:
            return set()
        into = (edges.results.get(at) for edges, at in self.into(item))
        return {each.stays for each in into if each is not None and each.stays is not None}

    def awaited(self, item: int) -> list[JobId]:
        """No durable calls go into items of ordinary jobs."""
        del item
        return []

    def needs_alone(self, item: int) -> bool:
        """Does this item, which may follow, need values?"""
        fed = self.ledger.inputs.at(item)
        assert fed is not None
        here = (edges.results.get(at) for edges, at in self.into(item))
        return bool(fed[0].needs) or any(each is not None and each.stays for each in here)

    def named(self, item: int) -> tuple[Block, bytes]:
        """This item, with the results that are there, and the names of those that are not."""
        fed = self.ledger.inputs.at(item)
        assert fed is not None
        there: list[Result | None] = []
        here: list[NeededResult] = []
        names: list[tuple[JobId, int, LeaseId]] = []
        makers: list[PeerId] = []
        holder, _ = self.follows[item]
        for edges, at in self.into(item):
            kept = edges.results.get(at)
            there.append(None if kept is None else kept.result)
            if kept is not None:
                here.append(kept)
            else:
                place = edges.places.at(at)
                assert place is not None, "it follows what is nowhere"
                names.append((edges.job, at, place[1]))
                makers.append(b"" if place[0] == holder else place[0])
        inputs: Inputs = tuple(names)
        if any(makers):
            self._from_afar.add(item)
        blob = given.filled(fed[1], there) if here else fed[1]
        needs = self._needing(fed[0], here).needs
        return Block(
            item, item + 1, ITEMS, needs, inputs, tuple(makers) if any(makers) else ()
        ), blob

    # ------------------------------------------------------------ what is over

    def credited(self, lo: int, hi: int, part: Part, blob: bytes) -> None:
        """These are done. The blob covers all of the part."""
        if self.dependents:
            for item in within(self.dependents, lo, hi):
                result = good_in(part.codec, blob, item - part.lo)
                if result is None:
                    self._news.failed(self, item, part, blob)
                else:
                    self._came(item, result, self.name_of_staying(item, part))
        self.over(lo, hi)

    def name_of_staying(self, item: int, part: Part) -> ValueId | None:
        """None: its result is in the blob."""
        stays = bool(part.stays) and any(each == item for each, _ in part.stays)
        return value_of_item(self.job, item) if stays else None

    def fed_by(self, part: Part, lo: int, hi: int) -> tuple[tuple[int, JobId, int], ...]:
        """Which items of [lo, hi), whose results stay, go into which others."""
        return tuple(
            (item, edges.job, other)
            for item, _ in part.stays
            if lo <= item < hi and item in self.dependents
            for edges, other in self.waiting_for(item)
        )

    def _came(self, item: int, result: Result, stays: ValueId | None) -> None:
        """What lacked this lacks one less."""
        waiting = self.waiting_for(item)
        del self.dependents[item]
        self.stays = stays is not None
        if waiting:
            self.keep(item, result, len(waiting), stays)
        for edges, other in waiting:
            if stays is not None:  # its node waits for octets that it may not use unasked
                self._news.withhold(edges, other)
                edges.ledger.needy = True
            edges.got_one(other)

    def got_one(self, item: int) -> None:
        left = self.missing[item] - 1
        if left:
            self.missing[item] = left
            self._news.look(self, item)
            return
        self.missing[item] = 0
        from_afar = item in self._from_afar
        where = self.leads_no_more(item)
        if where is None:
            self.ledger.end_withholding(item)
            self._news.changed(self.job)
        elif from_afar:
            self._news.complete(self, item, *where)

    def over(self, lo: int, hi: int) -> None:
        """These are over, one way or the other: what went into them is needed by one less."""
        if not self.inputs:
            return
        for item in within(self.inputs, lo, hi):
            names = self.into(item)
            del self.inputs[item]
            self.missing[item] = 0
            self.leads_no_more(item)
            for edges, at in names:
                edges.let_go(at)

    def let_go(self, item: int) -> None:
        kept = self.results.get(item)
        if kept is not None:
            kept.users -= 1
            if not kept.users:
                del self.results[item]

    def not_yet(self, holder: PeerId, part: Part, blob: bytes) -> tuple[list[int], list[int]]:
        """Those of these items that do not count yet, as not all that goes into them does, nor has the holder made it
        before them in the same part, under the same lease: first those whose inputs may have been made, as other nodes
        have them, or they are of other jobs, or wait as well; then those that cannot have run."""
        early: list[int] = []
        impossible: list[int] = []
        for item in sorted(within(self.follows, part.lo, part.hi) if self.follows else ()):
            if self.follows[item] != (holder, part.lid):
                continue
            later = {*early, *impossible}
            lacks = [
                (edges, at)
                for edges, at in self.into(item)
                if at not in edges.results
                and (at >= item or at in later or not self._made_in(part, blob, edges, at))
            ]
            if not lacks:
                continue
            may_have_run = all(
                edges is not self or self.may_be_made(at, holder) or at in early
                for edges, at in lacks
            )
            (early if may_have_run else impossible).append(item)
        return early, impossible

    def may_be_made(self, item: int, holder: PeerId) -> bool:
        """May this item of ours, which does not count, be over already? `holder` would have told us if it had it, at
        least before what is of the same job: reports of different jobs leave a node in any order (world 40534)."""
        place = self.places.at(item)
        return item in self.early or (place is not None and place[0] != holder)

    def audit(self) -> None:
        """Check the edges. It takes as long as there are some."""
        for item in self.missing:
            assert item in self.inputs, "an item lacks something that does not go into it"
        for item in self.inputs:
            lacks = sum(at not in edges.results for edges, at in self.into(item))
            assert lacks == self.missing[item], f"item {item} lacks another number of inputs"
            for edges, at in self.into(item):
                if at not in edges.results:
                    assert (self, item) in edges._names(edges.dependents.get(at)), (
                        "nobody would tell it"
                    )
        for item, (holder, lid) in self.follows.items():
            assert item in self.missing, "an item follows nothing"
            assert self.ledger.is_open(holder, lid, item), "a follow-on is not where it should be"
            for edges, at in self.into(item):
                place = edges.places.at(at)
                assert at in edges.results or place is not None, "its input is nowhere"
                here = at in edges.results or (place is not None and place[0] == holder)
                assert here or item in self._from_afar, "its input is elsewhere"
        assert self._from_afar <= self.follows.keys()
        self.early.audit(self.follows)
        for lo, hi, (holder, lid, _) in self.places:
            assert self.ledger.leases[lid].holder == holder, "a lease is elsewhere"
            assert self.ledger.leases[lid].open.covers(lo, hi), "an item is elsewhere"
        assert sum(hi - lo for lo, hi, _ in self.places) == self.ledger.leased
        for lo, hi in self.ledger.withheld or ():
            for item in range(lo, hi):
                assert self.missing[item], "an item is withheld that lacks nothing"
                assert item not in self.follows


def within(items: Mapping[int, object], lo: int, hi: int) -> list[int]:
    """Those of these items that are in [lo, hi)."""
    some: Iterable[int] | Iterator[int]
    if hi - lo <= len(items):
        some = (item for item in range(lo, hi) if item in items)
    else:
        some = (item for item in items if lo <= item < hi)
    return list(some)
