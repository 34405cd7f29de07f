"""What can be told of a variable's value without running code of the user's.

Decides what is plain data, what is as it was when it was first seen, and that a variable may hold no
future, and nothing that only children of the program could share. Refuses to know how it travels.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType
from typing import Any

from stealmesh_protocol import apart

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})

FILLED_IN_PLACE = frozenset({list, dict, set, Counter, OrderedDict, defaultdict, deque})
"""Others may hold the same container, so it is filled anew rather than replaced."""

_first_seen: dict[tuple[str, str, str], Any] = {}
"""Values that cannot be compared with the text, as they were when first seen."""


def is_plain(value: Any, depth: int = 0) -> bool:
    if type(value) in _PLAIN:
        return True
    if type(value) not in _CONTAINERS or depth > 4 or len(value) > 1000:
        return False
    parts = [*value, *value.values()] if type(value) is dict else value
    return all(is_plain(part, depth + 1) for part in parts)


def is_light(value: Any, depth: int = 0) -> bool:
    """Plain data, functions and classes, and containers of these: a table of handlers, a counter."""
    if type(value) in _PLAIN or isinstance(value, type | FunctionType | BuiltinFunctionType):
        return True
    if type(value) not in FILLED_IN_PLACE | _CONTAINERS or depth > 4 or len(value) > 1000:
        return False
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return all(is_light(part, depth + 1) for part in parts)


def is_as_first_seen(module: str, name: str, attribute: str, value: Any) -> bool:
    return _first_seen.setdefault((module, name, attribute), value) is value


class GlobalHoldsFuture(apart.CannotBeLeftOut):
    """A global that is not made yet, where a global travels apart from all calls."""


def refuse_futures(name: str, value: Any) -> None:
    """Raise if the value holds a future. Workers make a global from the program's text, which cannot make a future."""
    if apart.holds_one(value):
        raise GlobalHoldsFuture(
            f"{name} holds a future, and a global goes once to each worker: pass the future as an argument"
        )


ONLY_FOR_CHILDREN = "only be shared between processes through inheritance"
"""What locks, queues, values and arrays of multiprocessing say, wherever they lie. A second one in each worker, made
from the program's text or by an import, would guard and count nothing."""
_ONLY_FOR_CHILDREN = (
    "multiprocessing.synchronize",
    "multiprocessing.queues",
    "multiprocessing.sharedctypes",
)


def refuse_only_for_children(name: str, value: Any, error: Exception | None = None) -> None:
    """Raise if only children of the program could share the value, or what is in it, as this error says."""
    told = str(error)
    if error is None:
        if type(value).__module__ not in _ONLY_FOR_CHILDREN:
            return
        told = f"{type(value).__name__} objects should {ONLY_FOR_CHILDREN}"
    if ONLY_FOR_CHILDREN in told:
        raise pickle.PicklingError(
            f"the global {name!r}: {told}, and workers of a mesh are no children of this program: use what a "
            "multiprocessing.Manager() makes (Lock, Value, Queue, ...), or an actor"
        ) from error


def is_home_of(value: Any, module: str, qualname: str) -> bool:
    """Does the module have this value under the value's own name?"""
    named = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return named == qualname and getattr(value, "__module__", None) == module
