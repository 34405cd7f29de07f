"""Items of a ledger that run later: nobody has them, and they are not free before their time has come.

Decides what such an item is to its ledger: free → waiting → free. Refuses to know for how long an item waits and
why (`put_off.py`, `lacking.py`), and what leases are (indexed.py).
"""

from __future__ import annotations

from typing import TypeVar

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.ledger.job_ledger import JobLedger, Lending
from stealmesh_engine.ledger.put_off import PutOff

L = TypeVar("L", bound=Lending)


class LedgerOfLater(JobLedger[L]):
    """The part of an indexed ledger that knows what waits for its time."""

    free: IntervalSet

    def __init__(self) -> None:
        super().__init__()
        self.put_off: PutOff | None = None
        """Items that run later; None until there is one."""

    def putting_off(self) -> PutOff:
        """The items that run later."""
        if self.put_off is None:
            self.put_off = PutOff()
        return self.put_off

    def put_off_free(self, item: int, until: float) -> None:
        """The item, which is free, is not leased before that time."""
        self.free.remove(item, item + 1)
        self.putting_off().add(item, until)
        self._balanced()

    def end_waits(self, now: float) -> float | None:
        """What has waited long enough is free, or lacks inputs. Returns when to ask again; None: nothing waits."""
        if self.put_off is None:
            return None
        for item in self.put_off.take_due(now):
            self._lost(item, item + 1)
        self._balanced()
        return self.put_off.next_at

    def _take_out(self, item: int) -> bool:
        """If nobody has this item, it is neither free any more nor does it wait. False: somebody has it."""
        if self.free.covers(item, item + 1):
            self.free.remove(item, item + 1)
            return True
        return self.put_off is not None and bool(self.put_off.credited(item, item + 1))

    def _lost(self, lo: int, hi: int) -> None:
        """[lo, hi) has left its lease undone, at once or some time ago."""
        raise NotImplementedError

    def _balanced(self) -> None:
        raise NotImplementedError
