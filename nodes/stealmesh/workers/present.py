"""Which task runs in this context: where `stealmesh.here()` finds out that it is in one.

Decides to whom a thread belongs: the loop's thread, and a context that was copied from it, to the chunk that
runs there; a thread that a task has started, to the only chunk that runs in this process when it first asks.
An item that never asks costs nothing, and a chunk one small object. Refuses to know what children do
(`stealmesh/nested`): that is loaded when a task first calls `here()`.
"""

from __future__ import annotations

import os
from collections.abc import Sized
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec


class Household(Protocol):
    """The children that the items of one chunk have submitted (`nested/family.py`)."""

    def settle(self) -> None:
        """The present item has returned: finish what it left."""

    def abandon(self) -> None:
        """The present item has failed: cancel what it left."""

    def close(self) -> None:
        """The chunk is over."""


class Tellable(Protocol):
    """What the listener may tell of a chunk (`division.py`)."""

    held: int | None


class Present(msgspec.Struct, eq=False):
    """One chunk that runs, or one bag of an exploration."""

    results: Sized
    """As many as items before this one."""
    run: Tellable | None = None
    """None: nothing is told of this chunk before its end."""
    family: Household | None = None
    """None: no item has called `here()`."""
    mesh: Any = None
    """What `here()` returns."""
    over: bool = False

    def item_over(self) -> None:
        """The present item has returned, and is the last one or one of an exploration."""
        if self.family is not None:
            self.family.settle()

    def ends(self) -> None:
        """All items have returned: finish their children, before the results count."""
        if self.family is not None:
            self.family.settle()
        self.over = True
        LIVE.pop(self, None)
        if self.family is not None:
            self.family.close()
        self.results, self.run = (), None  # the context has us until the next chunk begins


PRESENT: ContextVar[Present | None] = ContextVar("present", default=None)
LIVE: dict[Present, None] = {}
"""Those that are not over in this process. One, unless chunks run side by side."""


def begins(results: Sized) -> Present:
    """A chunk begins in this context."""
    one = Present(results)
    LIVE[one] = None
    PRESENT.set(one)
    return one


def item_over() -> None:
    """The present item of this context's chunk, and those before it, are over."""
    one = PRESENT.get()
    if one is not None:
        one.item_over()


def item_failed() -> None:
    """An item of this context's chunk has raised."""
    one = PRESENT.get()
    if one is not None and one.family is not None:
        one.family.abandon()


def _is_no_task() -> None:
    """In a process that a task has forked: it is a copy, whose results are nobody's."""
    for one in LIVE:
        one.over = True
    LIVE.clear()
    PRESENT.set(None)


os.register_at_fork(after_in_child=_is_no_task)
