"""Maps, reductions and explorations of a task, as loops over its own items.

Each item is a task like any other: what it submits and leaves is over before its result counts. An item costs
a call and some bookkeeping. While others have nothing to do, a map makes children of the items that come next,
which can be given away. Decides the order (that of the items, and of the bag), and refuses to know who else
runs some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from time import monotonic, perf_counter
from typing import Any, Protocol

from stealmesh import refs
from stealmesh.client.missing import MISSING, with_initial
from stealmesh.nested.child import Call, ChildFuture
from stealmesh.nested.inputs import PLAIN, prepared
from stealmesh.returned import results_of, visited
from stealmesh.workers.explore import VisitPace

AHEAD_MAX = 64
"""How many items of a map become children at once."""

Inline = Callable[[Callable[..., Any], tuple[Any, ...]], Any]
"""Calls a function with these arguments, as a task."""


class Loop:
    """A map that somebody reads."""

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        self.wanted = False
        """Other workers are idle: the map makes children of its next items."""


class Loops(Protocol):
    """The family that these loops belong to (`family.Family`)."""

    @property
    def inline(self) -> Inline: ...

    def add(self, call: Call) -> ChildFuture: ...

    def begins_loop(self) -> Loop: ...

    def ends_loop(self, loop: Loop) -> None: ...


def mapped(
    family: Loops, fn: Callable[..., Any], items: Iterator[tuple[Any, ...]], until: float | None
) -> Iterator[Any]:
    """The results, in order. An item runs when its result is asked for, or elsewhere before that."""
    inline, loop = family.inline, family.begins_loop()
    try:
        for args in items:
            if until is not None and monotonic() >= until:
                raise TimeoutError
            if loop.wanted:
                loop.wanted = False
                yield from _ahead(family, fn, chain((args,), islice(items, AHEAD_MAX - 1)), until)
            else:
                yield inline(*_prepared(fn, args))
    finally:
        family.ends_loop(loop)


def _ahead(
    family: Loops, fn: Callable[..., Any], items: Iterator[tuple[Any, ...]], until: float | None
) -> Iterator[Any]:
    """The results of these items, which are children from now on. Who leaves cancels those not begun."""
    children = [family.add((*_prepared(fn, args), {})) for args in items]
    children.reverse()
    try:
        while children:
            if until is not None and monotonic() >= until:
                raise TimeoutError
            yield children.pop().result()
    finally:
        for child in children:
            child.cancel()


def mapped_whole(
    inline: Inline, fn: Callable[..., Any], items: Iterator[Any], chunk: int | None
) -> Iterator[Any]:
    """Of a `vectorized` function."""
    left = list(items)
    size = chunk or max(1, len(left))
    for at in range(0, len(left), size):
        part = left[at : at + size]
        yield from results_of(fn, inline(fn, (part,)), len(part))


def reduced(
    family: Loops,
    fn: Callable[..., Any],
    items: Iterable[Any],
    combine: Callable[[Any, Any], Any],
    initial: Any,
    *,
    whole: bool,
    name: str,
) -> Any:
    """`combine` over `fn(item)` of all items, in their order."""
    value = MISSING
    if whole:
        items = items if isinstance(items, range) else list(items)
        if len(items):
            value = family.inline(fn, (items,))
    else:
        for one in mapped(family, fn, zip(items, strict=False), None):
            value = one if value is MISSING else combine(value, one)
    return with_initial(value, combine, initial, name)


def explored(
    family: Loops,
    visit: Callable[..., Any],
    bag: list[Any],
    combine: Callable[[Any, Any], Any],
    initial: Any,
    *,
    name: str,
) -> Any:
    """Visit the bag until it is empty."""
    value, pace = MISSING, VisitPace()
    while bag:
        begun = perf_counter()
        gained, bag = visited(visit, family.inline(visit, (bag, pace.limit)))
        value = gained if value is MISSING else combine(value, gained)
        if bag:
            pace.learn(perf_counter() - begun)
    return with_initial(value, combine, initial, name)


def _prepared(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    if len(args) == 1 and type(args[0]) in PLAIN and not refs.in_use:
        return fn, args
    fn, args, kwargs = prepared(fn, args, {})
    return (partial(fn, **kwargs) if kwargs else fn), args
