"""Callables that hold values of their own, which a task may change: partials, bound methods, objects with `__call__`.

Decides which they are. What such a callable holds was given to a task like an argument, so the next task must
not find what this one made of it. A plain function holds names, and a worker keeps what they name, as a process does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from stealmesh_protocol.unasked import is_a

OWN_OCTETS_MAX = 1 << 20
"""A callable of more octets stays open in its worker, as what is that large is data, or a model. Opening 20 MB for each
call takes 30 ms."""
_FIXED = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type, FunctionType, range, ModuleType}
)
"""Nobody changes a value of these types through a call."""
_HEAP_TYPE = 1 << 9
"""CPython's `Py_TPFLAGS_HEAPTYPE`: a class that Python code, or a module at its import, has made."""


def holds_values(function: Any) -> bool:
    """May a call change something that the next call of the same object finds?"""
    if is_a(function, (FunctionType, type)):
        return False
    if is_a(function, partial):
        held = (*function.args, *function.keywords.values())
        return holds_values(function.func) or not all(map(_is_fixed, held))
    kind = type(function)
    if kind in (MethodType, BuiltinFunctionType):
        bound = function.__self__
        return not (bound is None or is_a(bound, (type, ModuleType)))
    module = str(kind.__module__)
    if module.startswith("stealmesh."):
        # A wrapper of ours holds what it wraps; the body of an actor has a process of its own.
        wrapped = getattr(function, "function", getattr(function, "expand", None))
        return wrapped is not None and holds_values(wrapped)
    return bool(kind.__flags__ & _HEAP_TYPE) and module != "functools"


def _is_fixed(value: Any) -> bool:
    kind = type(value)
    return kind in _FIXED or (kind in (tuple, frozenset) and all(map(_is_fixed, value)))


class MadeForEach:
    """Stands for such a callable when one order has several calls of it: each call gets one of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._make()(*args, **named)
