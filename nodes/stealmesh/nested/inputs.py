"""Futures and Refs in the arguments of a child: its inputs, and the values that it gets.

Most arguments hold none, and that is seen without pickling them: numbers, texts, containers of them (at the
speed of C), plain objects by their attributes. Only what cannot be looked into is pickled, which finds every
future. A child with inputs keeps its arguments packed, and the results take the places of the futures when it
runs. One with Refs, and without futures, keeps its arguments as they are, so that it can leave; where it runs, the
values take the places of the Refs. Decides that; refuses to know when a child runs.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from stealmesh import refs
from stealmesh.client.inputs import name_the_culprit
from stealmesh.nested.child import Call
from stealmesh.refs import ClosedRef, Grip, Ref
from stealmesh_protocol import apart
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.unasked import is_a

DEPTH_MAX = 12

PLAIN = frozenset({
    int, float, bool, complex, type(None), str, bytes, bytearray, range, slice, type(...),
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodType, type,
})  # fmt: skip
"""Nothing is looked for in these. A future in the closure of a function is the function's own affair."""
_SAYS_ITSELF = (
    "__slots__", "__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__",
)  # fmt: skip
REFS = (Ref, ClosedRef)
_SEQUENCES = frozenset({list, tuple, set, frozenset})

Packed = tuple[int, bytes]


class InputCancelled(Exception):
    """An input was cancelled, so the child is."""


def prepared(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The call of a child with these arguments, whatever they hold. Raises CannotShip for arguments with futures
    or Refs that cannot be packed, TypeError for a Ref around the function."""
    if refs.in_use:
        fn, args, kwargs = _without_refs_around(fn, args, kwargs)
    if not any(_may_hold(value, 0) for value in (*args, *kwargs.values())):
        return fn, args, kwargs
    try:
        (packed, inputs), needs = refs.noting(
            lambda: apart.packed_apart(vx.pack, (args, kwargs)), leaves=_stays_here
        )
    except CannotShip:
        if any(apart.holds_one(value) for value in (*args, *kwargs.values())):
            raise
        if any(is_a(value, REFS) for value in (*args, *kwargs.values())):
            return call_with_values, (fn, args, kwargs), {}  # the others are given as they are
        return fn, args, kwargs  # the child gets the very object, as all others do
    if inputs:
        return call_with_inputs, (fn, packed, inputs, refs.grips_of(needs)), {}
    return (call_with_values, (fn, args, kwargs), {}) if needs else (fn, args, kwargs)


def _stays_here(ref: Ref[Any]) -> Ref[Any]:
    """What is packed is opened in this process."""
    return ref


def _without_refs_around(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """What a partial holds are arguments. A variable around a function is not: the function would find a Ref in it
    here, and a value elsewhere."""
    while isinstance(fn, partial):
        fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:
            continue  # the variable has no value yet
        if is_a(held, REFS):
            raise TypeError(
                f"{getattr(fn, '__qualname__', fn)} refers to a Ref in a variable around it: a task inside a task "
                "gets Refs as arguments only"
            )
    return fn, args, kwargs


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


def call_with_values(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `fn` with the values of Refs in their places. Raises ValueLost."""
    rest = [each for each in (*args, *kwargs.values()) if type(each) not in REFS]
    if any(_may_hold(each, 0) for each in rest):
        try:
            packed, _ = refs.noting(lambda: vx.pack((args, kwargs)), leaves=_stays_here)
        except CannotShip:
            return fn(*map(_opened, args), **{name: _opened(each) for name, each in kwargs.items()})
        args, kwargs = vx.unpack(*packed)
        return fn(*args, **kwargs)
    return fn(*map(_opened, args), **{name: _opened(each) for name, each in kwargs.items()})


def _opened(value: Any) -> Any:
    """An argument as the child gets it."""
    kind = type(value)
    return value.result() if kind is Ref else value.ref if kind is ClosedRef else value


def call_with_inputs(fn: Any, packed: Packed, inputs: list[Any], held: list[Grip]) -> Any:
    """Call `fn` with the results of its inputs; `held` keeps the values that it needs. Raises the error of an
    input that has failed, and InputCancelled."""
    del held
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
