"""Items of a ledger whose results may have to be made again.

Decides that the input of an item is kept as long as its result may be lost and needed, and that then the item
is free again: credited → free. Refuses to know who needs results (`staying.py`) and what leases are (indexed.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.ledger.job_ledger import Lending
from stealmesh_engine.ledger.later import LedgerOfLater
from stealmesh_protocol.messages import Block

L = TypeVar("L", bound=Lending)


class LedgerOfRecipes(LedgerOfLater[L]):
    """The part of an indexed ledger that knows recipes."""

    needy = False
    """Has any item needed values of its own?"""

    credited: IntervalSet
    inputs: Blocks

    def __init__(self) -> None:
        super().__init__()
        self.recipes: set[int] = set()
        """Items whose results may have to be made again: their inputs stay."""
        self.again: set[int] = set()
        """Those of them that were credited, and whose results are being made again."""
        self._spent: IntervalSet | None = None
        """Credited items without a recipe; None: all that are credited."""

    @property
    def spent(self) -> IntervalSet:
        """Credited items whose inputs are of no use any more."""
        return self.credited if self._spent is None else self._spent

    def keep_recipe(self, item: int, fed: Iterable[tuple[Block, bytes]]) -> None:
        """The result of this item, which has just been credited, may have to be made again. It came in one of
        these blocks."""
        assert self.credited.covers(item, item + 1), "an item that is not done has a result"
        if self._spent is None:
            self._spent = self.credited.copy()
        self._spent.remove(item, item + 1)
        self.recipes.add(item)
        if self.inputs.at(item) is None:
            for block, blob in fed:
                if block.lo <= item < block.hi:
                    self.inputs.add(block, blob)

    def made_again(self, item: int) -> None:
        """What was to be made again is there, or failed."""
        self.again.discard(item)
        self.recipes.discard(item)

    def lose(self, item: int) -> bool:
        """The result of this item is lost and needed: it runs again. False: it cannot."""
        if item not in self.recipes or not self.credited.covers(item, item + 1):
            return False
        self.credited.remove(item, item + 1)
        self.free.add(item, item + 1)
        self.again.add(item)
        self.rerun += 1
        self._balanced()
        return True

    def forget_recipe(self, item: int) -> None:
        """Its result never has to be made again."""
        self.recipes.discard(item)
        if item in self.again and self._take_out(item):
            self.again.discard(item)
            self.credited.add(item, item + 1)
            self._balanced()
        if self._spent is not None and self.credited.covers(item, item + 1):
            self._spent.add(item, item + 1)
            self.inputs.drop_covered([(item, item + 1)], self._spent)

    def _spend(self, lo: int, hi: int) -> None:
        """All that is credited of [lo, hi) and has no recipe."""
        assert self._spent is not None
        for part in self.credited.overlap(lo, hi):
            self._spent.add(*part)
        for item in self.recipes:
            if lo <= item < hi:
                self._spent.remove(item, item + 1)
