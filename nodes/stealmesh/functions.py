"""Functions on their way to the mesh: pickled once, named by the hash of their bytes.

Does the pickling for clients. A function that can be imported by name travels as that name;
any other (a lambda, a closure, anything in `__main__`) travels whole, with the values it
refers to. Pickling costs 20 µs, a thousand times what looking it up does, so it is done once
a function object, and again only when a variable that the function sees has been rebound
since. A value that was changed *in place* is not noticed: pass it as an argument.

Knows nothing of nodes: it returns (digest, bytes).
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle

from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import Digest, digest_of

LATELY = 8
"""Functions of maps in a loop need not be pickled for each of them."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Shipped:
    function: Callable[..., Any]
    """Kept so that its id cannot be given to another function."""
    seen: tuple[Any, ...]
    digest: Digest
    blob: bytes


class Shipper:
    """The functions that one program has sent, by object. Those that nobody uses any more are forgotten."""

    def __init__(self) -> None:
        self._shipped: weakref.WeakValueDictionary[int, Shipped] = weakref.WeakValueDictionary()
        """Kept by the streams whose function it is, and for a moment by:"""
        self._lately: deque[Shipped] = deque(maxlen=LATELY)

    def ship(self, function: Callable[..., Any]) -> Shipped:
        """The name and bytes of a function. Raises CannotShip naming what in it cannot be pickled."""
        seen = _seen_by(function)
        known = self._shipped.get(id(function))
        if known is not None and known.function is function and _same(known.seen, seen):
            return known
        try:
            blob = cloudpickle.dumps(function, protocol=5)
        except Exception as error:  # pickling runs the objects' own code: anything can be raised
            raise CannotShip(
                f"{name_of(function)} cannot be sent to the mesh: {type(error).__name__}: {error}. "
                "Something that it refers to cannot be pickled; create it inside the function, "
                "or pass what it is made from as an argument"
            ) from error
        shipped = Shipped(function, seen, digest_of(blob), blob)
        self._shipped[id(function)] = shipped
        self._lately.append(shipped)
        return shipped

    def tidy(self) -> None:
        """Called now and then: what no stream needs goes."""
        self._lately.clear()


def name_of(function: Callable[..., Any]) -> str:
    """How people call it."""
    named = getattr(function, "stealmesh_name", None)
    if named:
        return str(named)
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in ("", "builtins", "__main__") else f"{module}.{name}"


def is_imported(function: Callable[..., Any]) -> bool:
    """Does it travel as a name?"""
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    if module is None or module.__name__ == "__main__":
        return False
    found: Any = module
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is function


def _seen_by(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The values behind the variables that a function which travels whole refers to."""
    code = getattr(function, "__code__", None)
    if code is None or (not code.co_names and not code.co_freevars):
        return ()
    if is_imported(function):
        return ()
    variables = function.__globals__
    cells = tuple(_content(cell) for cell in function.__closure__ or ())
    return cells + tuple(variables[name] for name in code.co_names if name in variables)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
