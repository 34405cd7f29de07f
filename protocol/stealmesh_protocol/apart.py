"""What is left out of a pickle, and put in where the pickle is opened.

A value may hold results that do not exist yet: futures in the arguments of a call. While such a value is
packed, each future leaves itself out, and a number stands in its place. The results travel beside the
pickle and are put in when it is opened. Pickle itself finds the futures, so they may lie anywhere in the
value, and a value without any costs nothing.

Decides the numbers. Refuses to know what is left out, when it exists and how it travels (`values.py`: the
codec GIVEN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from stealmesh_protocol.unasked import is_a

T = TypeVar("T")

DEPTH_MAX = 4


_left_out: ContextVar[dict[int, tuple[int, Any]] | None] = ContextVar("left_out", default=None)
"""By `id`: number and object. None: nothing is packed here that objects may leave."""
_put_in: ContextVar[Sequence[Any] | None] = ContextVar("put_in", default=None)
"""What the pickle that is being opened was packed without, by number."""


def packed_apart(pack: Callable[[Any], T], value: Any) -> tuple[T, list[Any]]:
    """`pack(value)`, and the objects that left themselves out of it, by number."""
    left_out: dict[int, tuple[int, Any]] = {}
    before = _left_out.set(left_out)
    try:
        packed = pack(value)
    finally:
        _left_out.reset(before)
    return packed, [one for _, one in left_out.values()]


def packed_whole(pack: Callable[[], T]) -> T:
    """`pack()`, in which nothing can be left out: it is packed once for several values."""
    before = _left_out.set(None)
    try:
        return pack()
    finally:
        _left_out.reset(before)


class CannotBeLeftOut(TypeError):
    """An object that always leaves itself out is packed where nothing can be."""


class LeavesItselfOut:
    """An object that is never packed: a number takes its place, and later what the number stands for."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        number = number_of(self)
        if number is None:
            raise CannotBeLeftOut(
                "a future of a mesh can be pickled only as an argument of submit() or an item of map(); "
                "elsewhere, take its result()"
            )
        return put_in, (number,)


def number_of(value: LeavesItselfOut) -> int | None:
    """What takes its place where the value around it is packed as plain data; None: nothing can."""
    left_out = _left_out.get()
    return None if left_out is None else left_out.setdefault(id(value), (len(left_out), value))[0]


def holds_one(value: Any, depth: int = 0) -> bool:
    """Is it such an object, or a container with one in it?"""
    if is_a(value, LeavesItselfOut):
        return True
    if type(value) not in (list, tuple, set, frozenset, dict) or depth > DEPTH_MAX:
        return False
    parts = [*value, *value.values()] if type(value) is dict else value
    return any(holds_one(part, depth + 1) for part in parts)


def opened_with(given: Sequence[Any], unpack: Callable[[], T]) -> T:
    """`unpack()`, which puts these values in by their numbers."""
    before = _put_in.set(given)
    try:
        return unpack()
    finally:
        _put_in.reset(before)


def put_in(number: int) -> Any:
    """Stands in pickles in the place of what was left out."""
    given = _put_in.get()
    if given is None or not 0 <= number < len(given):
        raise LookupError("a value was opened without what it was packed without")
    return given[number]
