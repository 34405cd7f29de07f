"""Futures in the arguments of a child: its inputs.

Most arguments hold none, and that is seen without pickling them: numbers, texts, containers of them (at the
speed of C), plain objects by their attributes. Only what cannot be looked into is pickled, which finds every
future. A child with inputs keeps its arguments packed, and the results take the places of the futures when it
runs. Decides that; refuses to know when a child runs.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from concurrent.futures import CancelledError
from typing import Any

from stealmesh.client.inputs import name_the_culprit
from stealmesh_protocol import apart
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip

DEPTH_MAX = 12

PLAIN = frozenset({
    int, float, bool, complex, type(None), str, bytes, bytearray, range, slice, type(...),
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodType, type,
})  # fmt: skip
"""Nothing is looked for in these. A future in the closure of a function is the function's own affair."""
_SAYS_ITSELF = (
    "__slots__", "__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__",
)  # fmt: skip
_SEQUENCES = frozenset({list, tuple, set, frozenset})

Packed = tuple[int, bytes]


class InputCancelled(Exception):
    """An input was cancelled, so the child is."""


def inputs_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Packed, list[Any]] | None:
    """The packed arguments and the futures in them. None: there are none. Raises CannotShip for arguments
    with futures that cannot be packed."""
    if not any(_may_hold(value, 0) for value in (*args, *kwargs.values())):
        return None
    try:
        packed, inputs = apart.packed_apart(vx.pack, (args, kwargs))
    except CannotShip:
        if any(apart.holds_one(value) for value in (*args, *kwargs.values())):
            raise
        return None  # the child gets the very object, as all others do
    return (packed, inputs) if inputs else None


def _may_hold(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in PLAIN:
        return False
    if depth > DEPTH_MAX:
        return True
    if kind in _SEQUENCES:
        return _some_may_hold(value, depth)
    if kind is dict:
        return _some_may_hold(value, depth) or _some_may_hold(value.values(), depth)
    if hasattr(value, "dtype"):
        return bool(getattr(value.dtype, "hasobject", True))
    if _is_what_its_attributes_are(kind):
        return _some_may_hold(value.__dict__.values(), depth)
    return True


def _some_may_hold(values: Iterable[Any], depth: int) -> bool:
    if set(map(type, values)) <= PLAIN:
        return False
    return any(_may_hold(value, depth + 1) for value in values)


def _is_what_its_attributes_are(kind: Any) -> bool:
    """Does it neither contain anything else nor say itself how it is pickled?"""
    names = kind.__dict__
    return (
        kind.__mro__[1:] == (object,)
        and kind.__dictoffset__ != 0
        and not any(name in names for name in _SAYS_ITSELF)
    )


def call_with_inputs(fn: Any, packed: Packed, inputs: list[Any]) -> Any:
    """Call `fn` with the results of its inputs. Raises the error of an input that has failed, and
    InputCancelled."""
    given = [_result_of(each) for each in inputs]
    args, kwargs = apart.opened_with(given, lambda: vx.unpack(*packed))
    return fn(*args, **kwargs)


def _result_of(future: Any) -> Any:
    try:
        error = future.exception()
    except CancelledError:
        raise InputCancelled from None
    if error is not None:
        name_the_culprit(error, future)
        raise error
    return future.result()
