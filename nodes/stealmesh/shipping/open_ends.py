"""Open connections as arguments and results: handed over as the standard library's pools do it.

A connection of `multiprocessing` pickles as its bare number. Where that is opened the number is another
descriptor, or none, and is closed with the copy. The library's own pools hand such objects over with a reducer
of `multiprocessing.reduction`: the pickle names a socket of the process that has the descriptor, and the process
that opens it fetches a copy there, once. That takes one host and one authkey, so it works on a local mesh.
Elsewhere, and when the item runs again after its worker died, the item fails and says this.

Decides which types are handed over. Refuses to know who pickles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

HANDED_OVER = (("multiprocessing.connection", "Connection"), ("socket", "socket"))
"""Not all that the library registers: it has ways of its own for methods and partials, too, and so have we."""


def handed_over(value: Any) -> Any:
    """What a `reducer_override` returns for it; NotImplemented: it is no such object. Raises RuntimeError for the
    shared values and arrays of `multiprocessing`."""
    kind = type(value)
    for module, name in HANDED_OVER:
        if kind is getattr(sys.modules.get(module), name, None):
            from multiprocessing.reduction import ForkingPickler  # only who has one pays for it

            reduce = ForkingPickler._extra_reducers.get(kind)  # type: ignore[attr-defined]
            return NotImplemented if reduce is None else (fetched, (name, *reduce(value)))
    if "multiprocessing.sharedctypes" in sys.modules:
        _must_be_nobody_elses(kind, value)
    return NotImplemented


def _must_be_nobody_elses(kind: type, value: Any) -> None:
    """Values and arrays of shared memory would travel as copies, and what tasks write would be lost."""
    import ctypes
    from multiprocessing import context, heap

    plain = (ctypes.Array, ctypes.Structure, ctypes.Union, ctypes._SimpleCData)
    if issubclass(kind, plain) and isinstance(getattr(value, "_wrapper", None), heap.BufferWrapper):
        context.assert_spawning(value)


def fetched(name: str, rebuild: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    """The copy. Raises ConnectionError: it cannot be had here, or not again."""
    from multiprocessing import ProcessError

    try:
        return rebuild(*given)
    except (OSError, EOFError, ProcessError) as error:
        raise ConnectionError(
            f"an open {name} is fetched once, and only within a local mesh ({error!r}): connect in the task, or "
            "give it a queue of a multiprocessing.Manager"
        ) from error
