"""Items that wait for values, and those whose values are lost.

Decides that a job whose functions lack a value waits as a whole, and that items fail by name when a value that
they need is gone for good. Refuses to know where values are and how they come (`data`), and which items of a
job lack something (`indexed_bags.py`).
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.values import Values
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.holding.stock import Stock
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import ValueId, item_of
from stealmesh_protocol.messages import Commit, Grant, JobKind, JobSpec, Part, Returned
from stealmesh_protocol.values import VALUE_LOST, Failure, pack_outcomes


class Shortage:
    """What the work that a node holds lacks of values."""

    def __init__(
        self,
        context: Context,
        links: Links,
        jobs: HeldJobs,
        stock: Stock,
        reports: Reports,
        values: Values,
    ) -> None:
        self._links = links
        self._journal = context.journal
        self._jobs = jobs
        self._stock = stock
        self._reports = reports
        self._values = values

    def before(self, held: HeldJob, message: Grant) -> None:
        """This is going to be taken in: what it lacks is to wait."""
        if message.spec.needs:
            self._values.want(message.spec.needs)
        if any(block.needs for block in message.blocks):
            held.bags.wait_at(self._values)

    def look(self, now: float) -> None:
        """Values have come or gone, or some wait for room."""
        if self._values.news:
            self.heard(self._values.take_news(), now)
        else:
            self._values.copies.hurry(now)

    def heard(self, news: dict[ValueId, str], now: float) -> None:
        """Values have come (""), or are lost (and why)."""
        lost = {value: why for value, why in news.items() if why}
        for held in list(self._jobs.values()):
            for value in lost:
                if value in held.spec.needs:
                    self._fail_all(held, value, lost[value], now)
            if held.bags.waits or held.spec.needs:
                for part, value in held.bags.take_lost(lost):
                    self._fail(held, part.lid, part.lo, part.hi, value, lost[value], now)
                held.bags.let_in()
                self._stock.restock(held)
        self._values.start(now)

    def give_back(self, now: float) -> None:
        """What waits here for values that are being made again goes back to its ledger: if it stays, and its job
        has a bound on its leases, there may be none for what makes them (`ledger/lacking.py`)."""
        lost = self._values.copies.made_again
        for job, held in self._jobs.items() if lost else ():
            if held.bags.waits and held.primary_gone_since is None:
                parts = held.bags.give_lacking(lost)
                if parts:
                    self._journal.tell(now, "gives back", job, parts[0].lid, len(parts))
                    self._links.send(held.spec.owner, Returned(job, parts), now)

    def _fail_all(self, held: HeldJob, value: ValueId, why: str, now: float) -> None:
        """Nothing of this job can run here."""
        while (cut := held.bags.cut_any()) is not None:
            if not held.bags.opaque:
                self._fail(held, cut.lid, cut.lo, cut.hi, value, why, now)
                continue
            seq = held.bags.step(cut.lid, 0, b"")
            codec, blob = lost_outcome(held.spec, 1, value, why)
            blobs = [bytes([codec]) + blob, b""]
            commit = Commit(held.spec.job, cut.lid, seq, 0, [], 0.0, 0, 1, blobs)
            self._links.send(held.spec.owner, commit, now)

    def _fail(
        self, held: HeldJob, lid: int, lo: int, hi: int, value: ValueId, why: str, now: float
    ) -> None:
        job = held.spec.job
        count = 1 if held.spec.kind is JobKind.REDUCE else hi - lo
        codec, blob = lost_outcome(held.spec, count, value, why)
        self._journal.tell(now, "lacks a value", job, lid, (lo, hi))
        if held.bags.finish(lid, lo, hi):
            self._reports.add(job, Part(lid, lo, hi, codec, 0.0, count), blob, now)


def lost_outcome(spec: JobSpec, count: int, value: ValueId, why: str) -> tuple[int, bytes]:
    """Codec and blob of the outcome of items that need a value that is gone."""
    name = value.hex()
    again = "scatter it again" if item_of(value) is None else "submit the call that makes it again"
    text = f"the value {name}, which {spec.name} needs, is gone: {why}; {again}"
    return pack_outcomes(
        None, [Failure(at, VALUE_LOST, text=text, attempts=[name]) for at in range(count)]
    )
