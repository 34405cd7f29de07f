"""Whether the calls of a program that wait for each other are deep or wide.

Decides which of two ways suits them: the core, where what follows runs without a journey, or the program, which
sends whole generations as blocks. Refuses to know what a call is.
"""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, ref

from stealmesh.futures import Future

WIDE = 64
"""A graph with more calls side by side than this goes through the program. There a whole generation is packed as
blocks of hundreds, while in the core each call has a block and edges of its own, and the journeys that follow-ons
save are few for that many calls."""


class Shape:
    """About how deep the calls of a program are that wait in the core.

    A call that waits for the deepest one so far is one deeper. That misses some depth where there are many paths,
    and costs nothing for each call.
    """

    __slots__ = ("_deepest", "_tip")

    def __init__(self) -> None:
        self._deepest = 1
        self._tip: ReferenceType[Future[Any]] | None = None

    @property
    def in_use(self) -> bool:
        """Has any call waited in the core?"""
        return self._tip is not None

    def is_wide(self, pending: int) -> bool:
        """With this number of calls that are not over: are many of them side by side?"""
        return pending > WIDE * self._deepest

    def grows(self, future: Future[Any], inputs: list[Future[Any]]) -> None:
        tip = None if self._tip is None else self._tip()
        if tip is None or tip.done():
            self._deepest = 1
        elif any(each is tip for each in inputs):
            self._deepest += 1
        else:
            return
        self._tip = ref(future)
