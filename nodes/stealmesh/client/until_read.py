"""What keeps the values of Refs in the results of a map, until the program opens these results.

A result that came has Refs to values that a task has made, or to values that the program gave to it closed. From the
moment in which the reader has opened it these Refs keep their values themselves. Decides that until then we do, and
not beyond the iterator's life. Refuses to know what a value is and who makes it again. It takes no lock, because
dropping an iterator may happen in any thread at any moment: each step is one change of a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable

from stealmesh.refs import Grip, ResultGrip, grips_of
from stealmesh_protocol.messages import Needs


class UntilRead:
    """Of one map."""

    def __init__(self) -> None:
        self._made: dict[int, Iterable[ResultGrip]] = {}
        """Of tasks, by the first item of what came together."""
        self._given: dict[int, list[object]] = {}
        """The program's own, by the first item of a block: its end, how many items are not read, grips."""
        self._everywhere: list[Grip] = []
        """The function has these."""
        self._dropped = False

    def function_has(self, needs: Needs) -> None:
        """Any result may have one of these in it."""
        self._everywhere = grips_of(needs)

    def items_have(self, lo: int, hi: int, grips: list[Grip]) -> None:
        """The results of [lo, hi) may have these in them. Blocks come in order."""
        self._given[lo] = [hi, hi - lo, grips]
        self._drop_if_dropped()

    def came(self, lo: int, grips: Iterable[ResultGrip]) -> None:
        """Results from `lo` on have these in them."""
        self._made[lo] = grips
        self._drop_if_dropped()

    def opens(self, lo: int) -> Iterable[ResultGrip]:
        """Results from `lo` on are about to be opened. The caller holds this until they are."""
        return self._made.pop(lo, ())

    def opened(self, lo: int, hi: int) -> None:
        """Their Refs keep their values themselves now."""
        for first, block in list(self._given.items()):
            end, left, _ = block
            assert isinstance(end, int)
            assert isinstance(left, int)
            if first >= hi:
                break
            if end > lo:
                block[1] = left = left - (min(hi, end) - max(lo, first))
                if left <= 0:
                    self._given.pop(first, None)

    def drop(self) -> None:
        """Nobody opens results any more."""
        self._dropped = True
        self._made.clear()
        self._given.clear()
        self._everywhere = []

    def _drop_if_dropped(self) -> None:
        if self._dropped:  # at this very moment, perhaps
            self.drop()
