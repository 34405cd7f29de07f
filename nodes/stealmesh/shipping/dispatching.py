"""Functions with one implementation for each type: functools.singledispatch and singledispatchmethod.

Decides whether such a function has others than its module makes by being imported: one of the program's file, or one
that was not there at the first look. Refuses to know how they travel. Implementations are added and
replaced, but never taken away, so what has differed once differs for good.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import FunctionType
from typing import Any

_first: dict[tuple[str, str], dict[Any, Any]] = {}
"""The implementations at the first look, by the function's module and name."""


def registry_of(value: Any) -> Mapping[Any, Any] | None:
    """Type → implementation. None: it is no such function."""
    if isinstance(value, functools.singledispatchmethod):
        value = value.dispatcher
    if not isinstance(value, FunctionType) or not hasattr(value, "dispatch"):
        return None
    registry = getattr(value, "registry", None)
    return registry if isinstance(registry, Mapping) and object in registry else None


def has_others(module: str, qualname: str, registry: Mapping[Any, Any]) -> bool:
    """Than an import of the module makes."""
    first = _first.setdefault((module, qualname), dict(registry))
    return len(first) != len(registry) or any(
        first.get(kind) is not each or getattr(each, "__module__", None) == "__main__"
        for kind, each in list(registry.items())
    )
