"""The pickler of the program's values: cloudpickle's, with our idea of what travels as a name.

Decides for each object that a pickle meets whether it is named or sent whole. Refuses to know which
globals go along (packing.py).
"""

from __future__ import annotations

import functools
import io
import linecache
import marshal
import os
import pickle
import sys
import threading
from collections.abc import Sized
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as by_value

from stealmesh.shipping import opening
from stealmesh.shipping.change_watch import ChangeWatch, content
from stealmesh.shipping.dispatching import registry_of
from stealmesh.shipping.open_ends import handed_over
from stealmesh.shipping.reach import (
    Key,
    Reach,
    functions_in,
    module_of,
    names_in,
    reach_into,
    walk,
    walk_all,
    walk_code,
)
from stealmesh_protocol.raised import Refused, headline, interruptible

_ALIASED = frozenset({list, dict, set, object})
_LOCKS = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


def dump(value: Any, reach: Reach, root: Any = None, name: str = "") -> bytes:
    """Raises what pickling raises, as an Exception: the user's code may raise SystemExit, say."""
    buffer, met = io.BytesIO(), [value]

    def pickled() -> bytes:
        buffer.seek(0)
        buffer.truncate()
        Pickler(buffer, 5, reach, root, name, met).dump(value)
        return buffer.getvalue()

    try:
        return interruptible(pickled)
    except Refused as refused:
        error = refused.error
    try:
        if isinstance(error, Exception):
            raise error
        raised = f"a {type(met[0]).__qualname__} raised {headline(error)}"
        raise pickle.PicklingError(raised) from error
    finally:
        del error  # which has this frame


def on_the_way_back() -> Reach:
    """For values outside of a submit (results, arguments): nothing is watched. In a worker the program has
    all names already."""
    return Reach(ChangeWatch(room=0), by_name=opening.living() is not None, reached=None)


class Call:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


class Pickler(by_value.Pickler):  # type: ignore[misc]
    """cloudpickle's, which knows how to send most things whole, with our idea of what has a name."""

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int = 5,
        reach: Reach | None = None,
        root: Any = None,
        name: str = "",
        met: list[Any] | None = None,
    ) -> None:
        """`met`: its one item is always the object that pickling met last."""
        super().__init__(file, protocol)
        self._met = [None] if met is None else met
        self._reach = on_the_way_back() if reach is None else reach
        self._root = root
        """Send this object whole although it has a name: it becomes the piece of that name."""
        self._root_name = name

    @property
    def needs(self) -> Sized:
        """The names met so far. They have to be in place before the pickle is opened."""
        return self._reach.needs

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        self._met[0] = value
        self._reach.reaches(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if issubclass(kind, type):
            return self._class(value)
        if kind is functools._lru_cache_wrapper:
            return self._named(value) or self._cache(value)
        if kind is ModuleType or isinstance(value, ModuleType):
            return self._module(value)
        if kind is functools.cached_property:
            return opening.cached_property, (value.func, value.attrname, value.__doc__)
        if kind in _LOCKS and value is self._root:
            return _LOCKS[kind], ()
        if kind is object and value is not self._root:
            named = self._global_of(value)
            if named is not None:
                return opening.find, named
        handed = handed_over(value)
        if handed is not NotImplemented:
            return handed
        self._reach.watch.value(value)
        return super().reducer_override(value)

    def _named(self, value: Any) -> Any:
        """Reduce it to its name, if it is a global of a module that travels piece by piece. None: it is not."""
        module = getattr(value, "__module__", None)
        qualname = getattr(value, "__qualname__", None)
        if not isinstance(module, str) or not qualname or "<locals>" in qualname:
            return None
        if not self._reach.sends(module) or value is self._root:
            return None
        if "." in qualname and qualname.partition(".")[0] == self._root_name:
            return None  # a part of what is being sent whole
        found: Any = sys.modules[module]
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if found is not value:
            return None
        if self._reach.by_name:
            return qualname  # pickle's own way to say a name: the program has it, too
        self._reach.needs[module, qualname.partition(".")[0]] = None
        return opening.find, (module, qualname)

    def _function(self, function: FunctionType) -> Any:
        named = self._named(function)
        if named is not None:
            return named
        if not self._reach.sends(
            function.__module__ or ""
        ) and by_value._should_pickle_by_reference(function):
            walk(function, self._reach)
            return NotImplemented
        self._reach.watch.function(function)
        registry = registry_of(function)
        if registry is not None:
            return opening.single_dispatch, (list(registry.items()),)
        return self._whole(function)

    def _whole(self, function: FunctionType) -> Any:
        code, names = function.__code__, function.__globals__
        module = module_of(names)
        registered = by_value.list_registry_pickle_by_value()
        if module is not None and module in registered and not self._reach.watches(module):
            return self._dynamic_function_reduce(function)  # the user knows that nodes lack it
        if module is None:
            reached = list(by_value._extract_code_globals(code))
            self._watch_variables(names, reached)
            if any(name in names for name in reached):
                return self._dynamic_function_reduce(function)
        elif self._reach.watches(module):
            walk_code(code, names, self._reach)
        if module is not None and not self._reach.sends(module):
            reached = by_value._extract_code_globals(code)
            if not any(name in names for name in reached):
                module = None
        for cell in function.__closure__ or ():
            around = content(cell)
            if isinstance(around, ModuleType):  # imported by the function around this one
                reach_into(around, names_in(code)[1], self._reach)
        cells = [tuple(map(self._alias, _boxed(cell))) for cell in function.__closure__ or ()]
        defaults, more = function.__defaults__, function.__kwdefaults__
        placed = function is self._root and bool(module)
        state = {
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": defaults and tuple(map(self._alias, defaults)),
            "__kwdefaults__": more and {name: self._alias(each) for name, each in more.items()},
            "__annotations__": _annotations_of(function),
            "cells": cells,
            "dict": function.__dict__,
        }
        given = (
            module,
            self._root_name if placed else function.__qualname__,
            marshal.dumps(code),
            len(cells),
            placed,
            _text_behind(code),
        )
        return opening.function, given, state, None, None, opening.fill

    def _watch_variables(self, names: dict[str, Any], reached: list[str]) -> None:
        """Those of a function that `exec` has made are no module's: they travel with the function."""
        self._reach.watch.names(names, reached)
        self._reach.watch.values(*(names[name] for name in reached if name in names))

    def _alias(self, value: Any) -> Any:
        """A container that is also a global must be the same object there: reduce it to its name."""
        if type(value) in _ALIASED and value is not self._root:
            named = self._global_of(value)
            if named is not None:
                return Call(opening.find, named)
        return value

    def _global_of(self, value: Any) -> Key | None:
        """The name of this object, if it is a global of the program's file."""
        if self._reach.by_name:
            return None
        main = sys.modules["__main__"].__dict__
        name = next((name for name, each in list(main.items()) if each is value), None)
        if name is None or (name.startswith("__") and name.endswith("__")):
            return None
        self._reach.needs["__main__", name] = None
        return "__main__", name

    def _class(self, cls: type) -> Any:
        named = self._named(cls)
        if named is not None:
            return named
        if (
            isinstance(cls.__module__, str)
            and cls.__module__ != "builtins"
            and self._reach.sends(cls.__module__)
        ):
            reduced = by_value._dynamic_class_reduce(cls)
        else:
            reduced = by_value._class_reduce(cls)
        if reduced is NotImplemented:
            if self._reach.watches(cls.__module__):
                walk(cls, self._reach)
            return reduced
        make, given, *rest = reduced
        if not rest:
            return reduced
        self._reach.watch.klass(cls)
        state, lists, items, _ = rest
        return opening.make_class, (make, *given), state, lists, items, opening.set_class_state

    def _cache(self, cache: Any) -> Any:
        if not self._reach.sends(cache.__module__ or ""):
            walk_all(functions_in(cache), self._reach)
            return NotImplemented
        parameters = cache.cache_parameters()
        self._reach.watch.function(cache.__wrapped__)
        return opening.cached, (cache.__wrapped__, parameters["maxsize"], parameters["typed"])

    def _module(self, module: ModuleType) -> Any:
        if self._reach.sends(module.__name__) and sys.modules.get(module.__name__) is module:
            return opening.module_of, (module.__name__,)
        return by_value._module_reduce(module)


def _annotations_of(function: FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except NameError:  # from 3.14 on they are worked out when they are asked for
        return {}


def _boxed(cell: Any) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not bound yet
        return ()


def _text_behind(code: CodeType) -> str:
    """The text of code without a file (a notebook's cell, a doctest), for tracebacks."""
    path = code.co_filename
    if (not path.startswith("<") or path == "<string>") and not _is_cell(path):
        return ""
    lines = linecache.getlines(path)
    return "".join(lines)


@functools.lru_cache(256)
def _is_cell(path: str) -> bool:
    """ipykernel names its cells as files that may not exist."""
    return path in linecache.cache and not os.path.exists(path)
