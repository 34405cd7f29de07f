"""Which items of one durable job wait for durable calls, and what they are made of when they run.

Decides when an item has all that goes into it. The graph is in the copies: a block names the calls whose results
go into its item, and the copies of those calls have the results. So nothing is written anew when a result comes,
and a new primary finds the same edges in its replica. Refuses to know where results are asked for (inputs.py).

A holder that has an item has its inputs, too. So an item is withheld only while no holder has it.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from stealmesh_engine.base.blocks import Input
from stealmesh_engine.durable.inputs import Inputs, NoResult, no_result
from stealmesh_engine.durable.replica import Added, Replica
from stealmesh_engine.ledger.edges import within
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owner import Owner
from stealmesh_protocol import given
from stealmesh_protocol.given import Result
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId
from stealmesh_protocol.limits import BLOB_OCTETS_MAX, MIB
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Part
from stealmesh_protocol.values import ITEMS, UNSENDABLE


def fits(spec: JobSpec, block: Block, blob: bytes) -> bool:
    """May these calls go into this item of the job, and does it have places for them?"""
    kinds = (JobKind.SUBMIT, JobKind.MAP)
    return spec.kind in kinds and given.places_in(blob, len(block.inputs)) >= len(block.inputs)


class Leads(Protocol):
    """The primary of the job."""

    replica: Replica

    def merged(self, added: Added, now: float) -> None: ...

    def cancel(self, now: float) -> None: ...


class CallEdges:
    """The edges of one job, at its primary."""

    def __init__(self, lead: Leads, owner: Owner, ledger: IndexedLedger, asked: Inputs) -> None:
        self.guest = lead.replica.spec.guest
        self._lead = lead
        self._owner = owner
        self._ledger = ledger
        ledger.edges = self
        self._asked = asked
        self.into: dict[int, list[JobId]] = {}
        """Of each item that is not over: the calls that go into it, in the order of their places."""
        self.needed: Counter[JobId] = Counter()
        """Calls that are asked for, and for how many items."""
        self._asks: dict[int, None] = {}
        """Items whose calls are asked for."""

    def enter(self, block: Block) -> None:
        """These go into the item, which no holder has, or one that claims it."""
        item = block.lo
        self.into[item] = [job for job, _, _ in block.inputs]
        if self._ledger.free.covers(item, item + 1):
            self._ask(item)
            if self._lacks(item):
                self._ledger.withhold(item)

    def _ask(self, item: int) -> None:
        first = item not in self._asks
        self._asks[item] = None
        for call in self.into[item]:
            self.needed[call] += first
            self._asked.need(call, self)

    def _lacks(self, item: int) -> bool:
        return not all(self._asked.has(call, self.guest) for call in self.into[item])

    # ------------------------------------------------------------ what becomes of inputs

    def lacking(self, call: JobId) -> list[int]:
        """The items that are withheld, and that this goes into."""
        withheld = self._ledger.withheld
        return [
            item
            for lo, hi in ([] if withheld is None else list(withheld))
            for item in range(lo, hi)
            if call in self.into[item]
        ]

    def needs(self, call: JobId) -> bool:
        return call in self.needed

    def beside(self, call: JobId) -> list[list[JobId]]:
        waiting = [*self.lacking(call), *self._free_with(call)]
        return [[each for each in self.into[item] if each != call] for item in waiting]

    def _free_with(self, call: JobId) -> list[int]:
        """The items that lack nothing, and that no holder has, and that this goes into: it must stay for them."""
        free = self._ledger.free
        if not free:
            return []
        return [
            item for item in self._asks if call in self.into[item] and free.covers(item, item + 1)
        ]

    def told(self, call: JobId, failed: NoResult | None, now: float) -> None:
        """The call is over: what lacked it lacks one less, or ends with it."""
        waiting = self.lacking(call)
        if failed is not None:
            self._end(waiting, failed, now)
            return
        for item in waiting:
            if not self._lacks(item):
                self._ledger.end_withholding(item)
                self._must_fit(item, now)
        self._owner.work_changed(self._lead.replica.spec.job, now)

    def _must_fit(self, item: int, now: float) -> None:
        octets = sum({id(each.blob): len(each.blob) for each in self._results(item)}.values())
        if octets > BLOB_OCTETS_MAX:
            text = (
                f"the results that go into this call have {octets / MIB:.0f} MiB together, and "
                f"{BLOB_OCTETS_MAX // MIB} MiB go into a durable call at most: hand on the names of files"
            )
            self._end([item], no_result(UNSENDABLE, text), now)

    def _end(self, items: list[int], failed: NoResult, now: float) -> None:
        replica = self._lead.replica
        if items and failed.cancelled and replica.spec.kind is JobKind.SUBMIT:
            self._lead.cancel(now)
            return
        for item in items:
            part = Part(0, item, item + 1, failed.codec, 0.0, 1)
            added = Added(results=replica.add_result(part, failed.blob, item, item + 1))
            self._lead.merged(added, now)

    def over(self, lo: int, hi: int) -> None:
        """These are over, one way or the other."""
        for item in within(self.into, lo, hi):
            calls = self.into.pop(item)
            if item not in self._asks:
                continue
            del self._asks[item]
            for call in calls:
                self.needed[call] -= 1
                if not self.needed[call]:
                    del self.needed[call]
                    self._asked.need_no_more(call, self)

    def let_go(self) -> None:
        """The job is not led here any more, or is over."""
        for call in self.needed:
            self._asked.need_no_more(call, self)
        self.needed.clear()
        self._asks.clear()
        self.into.clear()

    # ------------------------------------------------------------ what the ledger asks and says

    def lent(self, lo: int, hi: int, holder: PeerId, lid: LeaseId) -> None:
        """It runs with what it has been given."""

    def left(self, lo: int, hi: int, holder: PeerId) -> None:
        """Done or not: `over` and `lost` say it."""

    def lost(self, lo: int, hi: int) -> list[int]:
        """They have left their lease undone. Returns those that lack inputs: a former primary gave them those."""
        waiting = within(self.into, lo, hi)
        for item in waiting:
            self._ask(item)
        return [item for item in waiting if self._lacks(item)]

    def reach(self, lo: int, hi: int) -> int:
        """How far the items from `lo` on go together in one grant. `lo`: it has no inputs."""
        return lo + 1 if lo in self.into else lo

    def completed(self, lo: int, hi: int) -> tuple[list[Block], list[bytes]]:
        """These items, each with the results that go into it."""
        fed = [self._ledger.inputs.at(item) for item in range(lo, hi)]
        filled = [self._filled(each) for each in fed if each is not None]
        return [Block(item, item + 1, ITEMS) for item in range(lo, hi)], filled

    def values_into(self, item: int) -> set[ValueId]:
        """No result of a durable call stays where it was made."""
        del item
        return set()

    def awaited(self, item: int) -> list[JobId]:
        """The durable calls that go into this item and whose results are not here."""
        return [call for call in self.into.get(item, ()) if not self._asked.has(call, self.guest)]

    def _filled(self, fed: Input) -> bytes:
        return given.filled(fed[1], self._results(fed[0].lo))

    def _results(self, item: int) -> list[Result]:
        return [self._asked.results[call] for call in self.into[item]]

    def audit(self) -> None:
        """Check the edges. It takes as long as there are some."""
        assert +self.needed == Counter(call for item in self._asks for call in self.into[item])
        for lo, hi in self._ledger.withheld or ():
            for item in range(lo, hi):
                assert item in self._asks, "an item waits for what nobody asks for"
