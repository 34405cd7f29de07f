"""The leases that a node holds of an indexed job: intervals, and workers and thieves cut both ends.

Decides which items a worker gets next (the first untouched ones), which ones a thief gets (the last), and
which blocks of inputs may go. Refuses to know what an item is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Set

import msgspec
from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks, Input
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.holding.bags import Bags, Cut, Gate
from stealmesh_engine.holding.poison import FragileItems
from stealmesh_protocol.ids import LeaseId, ValueId
from stealmesh_protocol.messages import Grant, JobSpec, Lease


class HeldLease(msgspec.Struct):
    """One indexed lease: what of it is not started, and how much is with workers."""

    lo: int
    hi: int
    untouched: IntervalSet
    busy: int = 0
    unwanted: IntervalSet | None = None
    """What was cancelled while workers had some of the lease: it does not run if they give it back."""
    waiting: IntervalSet | None = None
    """Items that no worker has because they lack values; None: none ever did."""
    handed_on: IntervalSet | None = None
    """Follow-ons that a worker has, each behind the one that goes into it; None: none ever were."""

    def note_unwanted(self, lo: int, hi: int) -> None:
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        if lo < hi:
            if self.unwanted is None:
                self.unwanted = IntervalSet()
            self.unwanted.add(lo, hi)

    @property
    def is_used_up(self) -> bool:
        return not (self.busy or self.untouched.size or self.waiting)

    def wait(self, lo: int, hi: int) -> int:
        """What is untouched of [lo, hi) lacks a value. Returns how many items that are."""
        parts = self.untouched.overlap(lo, hi)
        if parts and self.waiting is None:
            self.waiting = IntervalSet()
        for low, high in parts:
            assert self.waiting is not None
            self.waiting.add(low, high)
            self.untouched.remove(low, high)
        return sum(high - low for low, high in parts)

    def stop_waiting(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """What waits of [lo, hi) goes. Returns it."""
        parts = [] if self.waiting is None else self.waiting.overlap(lo, hi)
        for low, high in parts:
            assert self.waiting is not None
            self.waiting.remove(low, high)
        return parts

    def hand_on(self, lo: int, hi: int) -> None:
        """A worker gets these, which wait."""
        assert self.waiting is not None
        self.waiting.remove(lo, hi)
        if self.handed_on is None:
            self.handed_on = IntervalSet()
        self.handed_on.add(lo, hi)

    def no_longer_handed_on(self, lo: int, hi: int) -> None:
        """They are done, or come back, or nobody wants them."""
        if self.handed_on:
            self.handed_on.remove(lo, hi)

    def is_follow_on(self, item: int) -> bool:
        """Does it wait, here or at a worker, for something to be made?"""
        both = (self.waiting, self.handed_on)
        return any(some is not None and some.covers(item, item + 1) for some in both)

    def go_on(self) -> int:
        """Nothing waits any more. Returns how many items did."""
        waiting, self.waiting = self.waiting, None
        for lo, hi in waiting or ():
            self.untouched.add(lo, hi)
        return 0 if waiting is None else waiting.size


class IndexedBags(Bags):
    """The leases that a node holds of one indexed job."""

    leases: dict[LeaseId, HeldLease]

    def __init__(self, spec: JobSpec) -> None:
        super().__init__(spec)
        self.untouched = 0
        """Items that no worker has."""
        self.fragile = FragileItems()
        """Items that are here, of chunks that died with their worker."""
        self.inputs = Blocks()
        self._gate: Gate | None = None
        """Where items wait for values; None: no block needs any."""
        self._follows: dict[int, list[LeaseId]] = {}
        """Items that wait for inputs, or did: under which leases."""
        self._swept = 0
        """How many blocks the last sweep has left."""

    # -- receiving

    def take(self, grant: Grant) -> list[bool]:
        for block, blob in zip(grant.blocks, grant.blobs, strict=True):
            known = block.inputs and block.lo in self.inputs
            self.inputs.add(block, blob)
            if block.inputs:
                self.some_follow = True
            for lid in self.leases if known else ():  # one may be over, as we will hear
                self._withhold(lid, block.lo, block.hi)
        return [self.receive(lease) for lease in grant.leases]

    def receive(self, lease: Lease) -> bool:
        if lease.lid in self.leases or lease.lo >= lease.hi:
            return False
        lo, hi = lease.lo, lease.hi
        self.leases[lease.lid] = HeldLease(lo, hi, IntervalSet.of(lo, hi))
        self.untouched += hi - lo
        if self._gate is not None or self.some_follow:
            self._withhold(lease.lid, lo, hi)
        return True

    def take_begun(self, lease: Lease) -> bool:
        if lease.lid in self.leases or lease.lo >= lease.hi:
            return False
        held = HeldLease(lease.lo, lease.hi, IntervalSet(), lease.hi - lease.lo)
        self.leases[lease.lid] = held
        return True

    @property
    def blocks(self) -> list[Input]:
        return list(self.inputs)

    def put_back(self, lid: LeaseId, lo: int, hi: int) -> bool:
        held = self.leases.get(lid)
        if held is None:
            return False
        held.busy -= hi - lo
        held.no_longer_handed_on(lo, hi)
        before = held.untouched.size
        held.untouched.add(lo, hi)
        if held.unwanted is not None:
            for low, high in held.unwanted.overlap(lo, hi):
                held.untouched.remove(low, high)
        self.untouched += held.untouched.size - before
        if self._gate is not None or self.some_follow:
            self._withhold(lid, lo, hi)
        self._tidy(lid, held)
        return True

    def unwanted_of(self, lid: LeaseId, lo: int, hi: int) -> list[Lease]:
        held = self.leases.get(lid)
        if held is None or held.unwanted is None:
            return []
        return [Lease(lid, low, high) for low, high in held.unwanted.overlap(lo, hi)]

    def died(self, lid: LeaseId, lo: int, hi: int, beside: int = 1) -> bool:
        """It died of one of these items, or of something else: run them in smaller pieces from now on."""
        unwanted = self.unwanted_of(lid, lo, hi)
        here = self.put_back(lid, lo, hi)
        if here:
            self.fragile.suspect(lo, hi, beside)
            for part in unwanted:
                self._gone(part.lo, part.hi)
        return here

    # -- giving to workers

    def cut(self, items: int, behind: int = 0) -> Cut | None:
        """The first ones of the first lease that has any. Fewer, if some of them may have killed a
        worker and the others have not."""
        for lid, held in self.leases.items():
            if held.untouched.size:
                return self._cut_off(lid, held, items, behind)
        return None

    def _cut_off(self, lid: LeaseId, held: HeldLease, items: int, behind: int = 0) -> Cut:
        if self.fragile:
            items, behind = self.fragile.together(held.untouched.first, items), 0
        taken = held.untouched.take_first(items)
        assert taken is not None, "the lease has untouched items"
        lo, hi = taken
        self.untouched -= hi - lo
        if behind and hi - lo == 1:
            hi = self._chained(lid, held, hi, hi + behind)
        held.busy += hi - lo
        return Cut(lid, lo, hi, [] if self.spec.step else self.inputs.within(lo, hi))

    def _chained(self, lid: LeaseId, held: HeldLease, lo: int, most: int) -> int:
        """How far the follow-ons from `lo` on each lack only the item in front, under the same lease: a worker
        gets them with it."""
        hi, waiting = lo, held.waiting
        while hi < most and waiting is not None and waiting.covers(hi, hi + 1):
            fed = self.inputs.at(hi)
            if fed is None or fed[0].needs or fed[0].inputs != ((self.spec.job, hi - 1, lid),):
                break
            hi += 1
        if hi > lo:
            held.hand_on(lo, hi)
        return hi

    def finish(self, lid: LeaseId, lo: int, hi: int) -> bool:
        held = self.leases.get(lid)
        if held is None:
            return False
        held.busy -= hi - lo
        if held.handed_on:
            held.no_longer_handed_on(lo, hi)
        self._gone(lo, hi)
        self._tidy(lid, held)
        return True

    # -- values

    @property
    def waits(self) -> bool:
        return self._gate is not None

    def wait_at(self, gate: Gate) -> None:
        self._gate = gate

    def needed_by(self, parts: Iterable[tuple[int, int]]) -> set[ValueId]:
        if self._gate is None:
            return set()
        within = self.inputs.within
        return {value for part in parts for block, _ in within(*part) for value in block.needs}

    def let_in(self) -> None:
        if self._gate is None:
            return
        for lid, held in self.leases.items():
            self.untouched += held.go_on()
            self._withhold(lid, held.lo, held.hi)

    def give_lacking(self, values: Set[ValueId]) -> list[Lease]:
        parts: list[Lease] = []
        for lid, held in list(self.leases.items()):
            for block, _ in self.inputs.within(held.lo, held.hi) if held.waiting else ():
                if not block.inputs and not values.isdisjoint(block.needs):
                    parts += [Lease(lid, *part) for part in held.stop_waiting(block.lo, block.hi)]
            self._tidy(lid, held)
        for part in parts:
            self._gone(part.lo, part.hi)
        return parts

    def _withhold(self, lid: LeaseId, lo: int, hi: int) -> None:
        """What lacks a value or an input of the untouched items in [lo, hi) waits; values are fetched."""
        gate, held = self._gate, self.leases[lid]
        for block, _ in self.inputs.within(lo, hi):
            lacks = gate is not None and block.needs and gate.lacks(block.needs)
            if lacks or block.inputs:
                count = held.wait(max(lo, block.lo), min(hi, block.hi))
                self.untouched -= count
                if count and block.inputs:
                    under = self._follows.setdefault(block.lo, [])
                    if lid not in under:  # it may come back from a worker
                        under.append(lid)
                if count and lacks and gate is not None:
                    gate.want(block.needs)

    def has(self, item: int, lid: LeaseId) -> bool:
        held = self.leases.get(lid)
        return held is not None and (
            held.untouched.covers(item, item + 1)
            or (held.waiting is not None and held.waiting.covers(item, item + 1))
        )

    def is_waiting(self, item: int) -> bool:
        leases = [self.leases.get(lid) for lid in self._follows.get(item, ())]
        here = any(held is not None and held.is_follow_on(item) for held in leases)
        if not here:
            self._follows.pop(item, None)
        return here

    def complete(self, item: int, blob: bytes) -> None:
        found = self.inputs.at(item)
        assert found is not None, "what waits is here"
        self.inputs.add(replace(found[0], inputs=(), makers=()), blob)
        for lid in self._follows.pop(item):
            held = self.leases.get(lid)
            if (
                held is not None
                and held.waiting is not None
                and held.waiting.covers(item, item + 1)
            ):
                held.waiting.remove(item, item + 1)
                held.untouched.add(item, item + 1)
                self.untouched += 1
                if self._gate is not None:
                    self._withhold(lid, item, item + 1)

    def take_lost(self, lost: Container[ValueId]) -> list[tuple[Lease, ValueId]]:
        found = []
        for lid, held in self.leases.items():
            for block, _ in self.inputs.within(held.lo, held.hi):
                value = next((each for each in block.needs if each in lost), None)
                if value is not None:
                    parts = self._cut_out(held, block.lo, block.hi)
                    found += [(Lease(lid, *part), value) for part in parts]
        return found

    def cut_any(self) -> Cut | None:
        for lid, held in self.leases.items():
            for lo, hi in self._cut_out(held, held.lo, held.hi, most=1):
                return Cut(lid, lo, hi, [])
        return None

    def _cut_out(
        self, held: HeldLease, lo: int, hi: int, most: int | None = None
    ) -> list[tuple[int, int]]:
        """Take what no worker has of [lo, hi), as if one had it."""
        self.untouched += held.go_on()
        parts = held.untouched.overlap(lo, hi)[:most]
        for low, high in parts:
            held.untouched.remove(low, high)
            held.busy += high - low
            self.untouched -= high - low
        return parts

    # -- giving to thieves and back to the ledger

    def give(self, items: int) -> list[Lease]:
        parts: list[Lease] = []
        for lid in reversed(list(self.leases)):
            held = self.leases[lid]
            while items > 0:
                taken = held.untouched.take_last(items)
                if taken is None:
                    break
                parts.append(Lease(lid, *taken))
                items -= taken[1] - taken[0]
                self.untouched -= taken[1] - taken[0]
                self._gone(*taken)
            self._tidy(lid, held)
            if items <= 0:
                break
        return parts

    def last_parts(self, items: int) -> list[tuple[int, int]]:
        parts: list[tuple[int, int]] = []
        for lid in reversed(list(self.leases)):
            for lo, hi in reversed(list(self.leases[lid].untouched)):
                if items <= 0:
                    return parts
                parts.append((max(lo, hi - items), hi))
                items -= hi - parts[-1][0]
        return parts

    def drop(self, lid: LeaseId) -> bool:
        held = self.leases.pop(lid, None)
        if held is None:
            return False
        self.untouched -= held.untouched.size
        self._gone(held.lo, held.hi)
        self._tidy_blocks()
        return True

    def withdraw(self, lo: int, hi: int) -> None:
        for lid, held in list(self.leases.items()):
            before = held.untouched.size
            held.untouched.remove(lo, hi)
            self.untouched -= before - held.untouched.size
            if held.waiting:
                held.waiting.remove(lo, hi)
            held.no_longer_handed_on(lo, hi)
            if held.busy:
                held.note_unwanted(lo, hi)
            self._tidy(lid, held)
        self._gone(lo, hi)

    @property
    def queued_items(self) -> int:
        return self.untouched

    @property
    def has_suspects(self) -> bool:
        return bool(self.fragile)

    @property
    def may_queue(self) -> bool:
        return not self.fragile and self.cost.known

    @property
    def company(self) -> int:
        if not self.fragile:
            return 0
        firsts = (held.untouched.first for held in self.leases.values() if held.untouched)
        return next((self.fragile.company_at(first) for first in firsts), 0)

    def untouched_parts(self) -> list[Lease]:
        return [
            Lease(lid, lo, hi)
            for lid, held in self.leases.items()
            for lo, hi in (*held.untouched, *(held.waiting or ()))
        ]

    def audit(self, with_workers: int | None = None) -> None:
        assert self.untouched == sum(held.untouched.size for held in self.leases.values())
        assert not any(held.is_used_up for held in self.leases.values())
        for held in self.leases.values():
            for part in held.handed_on or ():
                here = [some for some in (held.untouched, held.waiting) if some is not None]
                assert not any(some.overlap(*part) for some in here), "a worker does not have it"
        if with_workers is not None:
            busy = sum(held.busy for held in self.leases.values())
            assert busy == with_workers, f"{busy} items count as busy, workers have {with_workers}"

    def _gone(self, lo: int, hi: int) -> None:
        if self.fragile:
            self.fragile.clear(lo, hi)

    def _tidy(self, lid: LeaseId, held: HeldLease) -> None:
        if held.is_used_up:
            del self.leases[lid]
            self._tidy_blocks()

    def _tidy_blocks(self) -> None:
        """Blocks that no lease spans may go; without any lease, all of them."""
        if not self.leases:
            self.inputs.clear()
            self._swept = 0
            self._follows.clear()
        elif len(self.inputs) > 2 * max(len(self.leases), self._swept * self.some_follow) + 8:
            # Leases end roughly in the order of their blocks, so sweep only when blocks pile up.
            self.inputs.keep_only(IntervalSet((held.lo, held.hi) for held in self.leases.values()))
            self._swept = len(self.inputs)
