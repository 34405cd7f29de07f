"""How a global of the program's other modules travels, if a worker's own import makes another one.

Decides what differs: a variable that is set, a function or class that is replaced, attributes of classes,
the state of an object in a global. What differed once and is again as the import makes it goes as
ORIGINAL. Refuses to know what imports make (bindings.py) and which globals are reached (reach.py).

What cannot be pickled stays as the worker's import makes it, for workers often have their own (a
connection). A function or class that was replaced is never left behind: that is an error.
"""

from __future__ import annotations

import argparse
import functools
import pickle
import sys
import types
from types import FunctionType, ModuleType
from typing import Any

from stealmesh.shipping.bindings import Imported, ModuleText, text_of
from stealmesh.shipping.dispatching import has_others, registry_of
from stealmesh.shipping.opening import ORIGINAL, REGISTER, PieceKind
from stealmesh.shipping.own_classes import OF_SLOTS, changes_of_statement, is_other
from stealmesh.shipping.pickler import dump
from stealmesh.shipping.reach import Key, Reach, functions_in, walk, walk_all
from stealmesh.shipping.variables import (
    FILLED_IN_PLACE,
    is_as_first_seen,
    is_home_of,
    is_light,
    is_plain,
    refuse_futures,
    refuse_only_for_children,
)
from stealmesh_protocol import apart

OWN_VALUE_OCTETS_MAX = 1 << 20
"""A larger variable of the program's other modules does not travel: workers have what the import makes."""

_NAMESPACES = (argparse.Namespace, types.SimpleNamespace)

_have_differed: dict[Key, set[str]] = {}
"""Globals that some worker may see with another value, each with the attributes concerned. An empty name is the
global itself."""

Payload = tuple[PieceKind | None, bytes]


def packed_elsewhere(module: str, name: str, value: Any, reach: Reach) -> Payload:
    """A global of a module that workers import. Kind None: they have it."""
    refuse_futures(f"{module}.{name}", value)
    refuse_only_for_children(f"{module}.{name}", value)
    if is_plain(value) or (type(value) in FILLED_IN_PLACE and is_light(value)):
        is_as_first_seen(module, name, "", value)
        return _filled_in_place((module, name), value, reach)
    text = text_of(sys.modules[module])
    if _goes_whole(value) or _is_replaced(text, module, name, value):
        return _replacement(text, (module, name), value, reach)
    attributes: dict[str, Any] = {}
    if isinstance(value, FunctionType):
        walk(value, reach)
        attributes = _implementations_of((module, name), value)
    elif isinstance(value, type):
        walk(value, reach)
        if is_home_of(value, module, name):
            attributes = _changes_of_class(text, value, reach)
    else:
        attributes = _state_of(value, reach)
    return _with_attributes((module, name), attributes, reach)


def is_deleted(key: Key, *, known: bool) -> bool:
    """May workers have this global, which the program has not got? `known`: it has been packed before."""
    found = sys.modules.get(key[0])
    if not known and (
        found is None or key[0] == "__main__" or not text_of(found).is_deleted(key[1])
    ):
        return False
    _have_differed.setdefault(key, set()).add("")
    return True


def _implementations_of(key: Key, function: FunctionType) -> dict[str, Any]:
    """All of them, if there are others than the import makes."""
    registry = registry_of(function)
    if not registry or not has_others(*key, registry):
        return {}
    return {REGISTER: list(registry.items())}


def _goes_whole(value: Any) -> bool:
    """Is it cheaper to send than to tell whether the import makes the same?"""
    if isinstance(value, functools.partial):
        return is_light((value.func, value.args, value.keywords))
    kind = type(value)
    array = (kind.__module__, kind.__name__) == ("numpy", "ndarray")
    return array and value.nbytes <= OWN_VALUE_OCTETS_MAX and not value.dtype.hasobject


def _filled_in_place(key: Key, value: Any, reach: Reach) -> Payload:
    reach.watch.value(value)
    try:
        payload = dump(value, reach)
    except apart.CannotBeLeftOut:
        raise
    except Exception:  # noqa: BLE001 - pickling runs user code; a function in a table refers to a lock, say
        return None, b""  # workers have their own
    if len(payload) > OWN_VALUE_OCTETS_MAX:
        return None, b""
    _have_differed.setdefault(key, set()).add("")
    return PieceKind.PLAIN, payload


def _with_attributes(key: Key, attributes: dict[str, Any], reach: Reach) -> Payload:
    """The global is the import's, but for these attributes."""
    differed = _have_differed.get(key)
    if differed is None:
        if not attributes:
            return None, b""
        differed = _have_differed[key] = set()
    if "" in differed:
        # The object is made the import's first; its attributes are set with the next word of it.
        attributes = {"": ORIGINAL, **attributes}
    attributes = {**dict.fromkeys(sorted(differed - {""}), ORIGINAL), **attributes}
    differed.update(attributes)
    return PieceKind.SOURCE, dump(attributes, reach)


def _is_replaced(text: ModuleText, module: str, name: str, value: Any) -> bool:
    made = text.makes(name, value)
    if made is Imported.UNKNOWN:
        return not is_as_first_seen(module, name, "", value)
    return made is Imported.NO


def _replacement(text: ModuleText, key: Key, value: Any, reach: Reach) -> Payload:
    reach.watch.value(value)
    try:
        payload = dump(value, reach)
    except apart.CannotBeLeftOut:
        raise
    except Exception as error:  # pickling runs the object's own code
        if text.defines(key[1]):
            raise pickle.PicklingError(
                f"{key[0]}.{key[1]} was replaced by something that cannot be pickled "
                f"({type(error).__name__}: {error}), and workers must not use what it was before"
            ) from error
        return None, b""
    _have_differed.setdefault(key, set()).add("")
    return PieceKind.VALUE, payload


def _changes_of_class(
    text: ModuleText, cls: type, reach: Reach, within: str = ""
) -> dict[str, Any]:
    """Its attributes that the class statement does not make, and those of classes inside of it (`Inner.x`)."""
    if hasattr(cls, "__members__"):
        return {}  # an enumeration
    changes = {within + name: each for name, each in changes_of_statement(cls, text).items()}
    for attribute, value in list(vars(cls).items()):
        functions = functions_in(value)
        if attribute.startswith("__") and not functions:
            continue
        if isinstance(value, type) and is_home_of(
            value, cls.__module__, f"{cls.__qualname__}.{attribute}"
        ):
            reach.watch.klass(value)
            changes |= _changes_of_class(text, value, reach, f"{within}{attribute}.")
            continue
        made = text.makes_attribute(cls, attribute, value, functions)
        registry = registry_of(value)
        if registry and has_others(cls.__module__, f"{cls.__qualname__}.{attribute}", registry):
            made = Imported.NO
        if made is Imported.YES:
            reach.watch.value(value)  # a container may change without being another
            continue
        refuse_futures(f"{cls.__qualname__}.{attribute}", value)
        if made is Imported.NO or (
            is_plain(value)
            or (not isinstance(value, OF_SLOTS) and is_other(cls, attribute, value, text, reach))
        ):
            walk_all(functions, reach)
            changes[within + attribute] = value
            reach.watch.value(value)
    return changes


def _state_of(value: Any, reach: Reach) -> dict[str, Any]:
    """The attributes of an object whose state is plain data throughout."""
    kind = type(value)
    if not isinstance(value, _NAMESPACES):
        if isinstance(value, ModuleType) or not reach.watches(kind.__module__):
            return {}
        walk(kind, reach)
    reach.watch.value(value)
    state = dict(getattr(value, "__dict__", {}))
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            if hasattr(value, slot) and not slot.startswith("__"):
                state[slot] = getattr(value, slot)
    if not all(type(name) is str and is_plain(each) for name, each in state.items()):
        return {}
    return state
