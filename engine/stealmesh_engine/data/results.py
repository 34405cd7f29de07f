"""Results that stay where they were made: which are needed, and what is made again after a loss.

Decides that a result without a copy is made again from its call if something needs it, and so are the results
that this call needs and that are gone as well. Decides that the copies of a result go when neither the
program nor a call that runs again needs it, while its recipe stays as long as something is made of it.
Refuses to know how a call runs again (`ledger/staying.py`) and how copies travel (`directory.py`).

Invariant: a result that is needed has a copy, or its call is under way.

Idea: lineage, as in Spark's RDDs (Zaharia et al. 2012): what is lost is computed again from what it was made
of, and nothing is written down in two places before it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.directory import Directory
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import LeaseId, PeerId, ValueId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import Needs, ValueDrop


class CallsBehind(Protocol):
    """The calls that made results (`ledger/staying.py`)."""

    def tells(self, results: StayingResults) -> None:
        """From now on, tell these of what is made."""

    def again(self, value: ValueId, times: int, now: float) -> str:
        """Have the call of this result run again, for the `times`-th time. Returns why that cannot be, or ""."""

    def forget(self, value: ValueId, now: float) -> None:
        """It never has to run again."""


@dataclass(slots=True)
class ResultRecipe:
    """What is known of one result."""

    inputs: Needs
    """The values that its call needs."""
    needed: bool = True
    """The program needs it."""
    for_others: set[ValueId] = field(default_factory=set)
    """Results that are made again, and whose calls need it."""
    times: int = 0
    """How often it was made again."""
    under_way: bool = False
    """It is being made again."""

    @property
    def is_needed(self) -> bool:
        return self.needed or bool(self.for_others)


class StayingResults:
    """The results of this owner's calls that stay on nodes."""

    def __init__(
        self, context: Context, links: Links, directory: Directory, calls: CallsBehind
    ) -> None:
        self._context = context
        self._links = links
        self._directory = directory
        self._calls = calls
        self.recipes: dict[ValueId, ResultRecipe] = {}
        self.made_again = 0
        directory.lost = self._lost
        calls.tells(self)

    # ------------------------------------------------------------ what holders report

    def counts(
        self,
        value: ValueId,
        octets: int,
        holder: PeerId,
        making: LeaseId,
        inputs: Needs,
        now: float,
        *,
        again: bool,
    ) -> bool:
        """A holder has made this result (`again`: after a loss), and it is the one that counts. False: it was
        needed no more by then."""
        recipe = self.recipes.get(value)
        if recipe is None:
            if again:
                self.does_not_count(value, holder, making, now)
                return False
            recipe = self.recipes[value] = ResultRecipe(inputs)
        self._directory.made(value, octets, holder, making, now)
        recipe.under_way = False
        self._let_inputs_go(value, recipe, now)
        self._let_go(value, recipe, now)
        return True

    def does_not_count(self, value: ValueId, holder: PeerId, making: LeaseId, now: float) -> None:
        """Another making does, or none."""
        self._links.send(holder, ValueDrop(value, making), now)

    def cannot(self, value: ValueId, why: str, now: float) -> None:
        """It cannot be made again: what waits for it fails."""
        recipe = self.recipes.pop(value, None)
        if recipe is None:
            return
        self._context.counters.count("values-not-made-again")
        self._context.journal.tell(now, "cannot be made again", value, 0, why)
        self._context.journal.rings.note(
            now, RingKind.VALUE, "cannot be made again", about=value, detail=why
        )
        self._let_inputs_go(value, recipe, now)
        self._directory.give_up(value, why, now)
        self._calls.forget(value, now)

    # ------------------------------------------------------------ what the program needs

    def release(self, value: ValueId, now: float) -> bool:
        """The program needs the value no more, but perhaps its recipe. False: it is no result."""
        recipe = self.recipes.get(value)
        if recipe is None:
            return False
        recipe.needed = False
        self._let_go(value, recipe, now)
        return True

    def forget(self, value: ValueId, now: float) -> None:
        """It never has to be made again: the program needs it no more, not even to make another one again, or
        has it itself."""
        recipe = self.recipes.pop(value, None)
        if recipe is not None:
            self._let_inputs_go(value, recipe, now)
            if not recipe.needed or not self._directory.has_it_here(value):
                self._directory.release(value, now)
            self._calls.forget(value, now)

    # ------------------------------------------------------------ losses

    def _lost(self, value: ValueId, now: float) -> None:
        """Nobody has a copy. If it is needed, it is made again, after what it is made of."""
        todo = [value]
        while todo:
            each = todo.pop()
            recipe = self.recipes.get(each)
            if recipe is None or recipe.under_way or not recipe.is_needed:
                continue
            if not self._directory.is_lost(each):
                continue
            recipe.under_way = True
            recipe.times += 1
            for needed in recipe.inputs:
                other = self.recipes.get(needed)
                if other is not None:
                    other.for_others.add(each)
                    todo.append(needed)
            why = self._calls.again(each, recipe.times, now)
            if why:
                self.cannot(each, why, now)
                continue
            self.made_again += 1
            self._context.counters.count("values-made-again")
            self._context.journal.tell(now, "makes again", each)
            self._context.journal.rings.note(now, RingKind.VALUE, "is made again", about=each)

    def _let_inputs_go(self, value: ValueId, recipe: ResultRecipe, now: float) -> None:
        """It is not made again any more: its inputs were needed for that, perhaps."""
        for each in recipe.inputs:
            other = self.recipes.get(each)
            if other is not None and value in other.for_others:
                other.for_others.discard(value)
                self._let_go(each, other, now)

    def _let_go(self, value: ValueId, recipe: ResultRecipe, now: float) -> None:
        if not recipe.is_needed:
            self._directory.let_copies_go(value, now)

    def audit(self) -> None:
        for value, recipe in self.recipes.items():
            account = self._directory.accounts[value]
            assert recipe.under_way or account.copies or not recipe.is_needed, (
                "a result that is needed has no copy and is not made again"
            )
            assert recipe.is_needed or not account.copies, "nothing needs what has copies"
            for each in recipe.for_others:
                assert self.recipes[each].under_way, "a result is kept for one that is there"
