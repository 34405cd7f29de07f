"""The initial value of a reduction, and what happens without one. A separate file: workers import nothing else of the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""No initial value: an empty job is a TypeError, as with `functools.reduce`."""


def with_initial(value: Any, combine: Callable[[Any, Any], Any], initial: Any, name: str) -> Any:
    """The result of the reduction `name` over no item (`value` is MISSING) or over some."""
    if initial is MISSING:
        if value is MISSING:
            raise TypeError(f"{name}: nothing to combine and no initial value")
        return value
    return initial if value is MISSING else combine(initial, value)
