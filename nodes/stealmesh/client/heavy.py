"""Arguments that are too large to travel in a message: arrays and octets.

Decides which arguments of a call are put on the mesh as values, as if the program had scattered them. They go
through memory that processes of one host share, in pieces elsewhere, and there is no limit to their size.
Looks at the arguments themselves only, and not into them. Refuses to know how values are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HEAVY_OCTETS = 256 * 1024
"""Smaller ones are cheaper in the message that goes anyhow."""
_OCTETS = (bytes, bytearray)


def octets_of(value: Any) -> int:
    """Of octets and of arrays of numbers; 0: it is something else."""
    kind = type(value)
    if kind in _OCTETS:
        return len(value)
    if hasattr(kind, "__array_interface__") and kind.__module__ == "numpy":
        return 0 if value.dtype.hasobject else int(value.nbytes)
    return 0


def is_heavy(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(octets_of(each) >= HEAVY_OCTETS for each in args) or any(
        octets_of(each) >= HEAVY_OCTETS for each in kwargs.values()
    )


def lightened(
    scatter: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same, with what `scatter` makes of those that are large; of the same object once."""
    known: dict[int, Any] = {}

    def light(value: Any) -> Any:
        if octets_of(value) < HEAVY_OCTETS:
            return value
        if id(value) not in known:
            known[id(value)] = scatter(value)
        return known[id(value)]

    return tuple(map(light, args)), {name: light(each) for name, each in kwargs.items()}
