"""What the program's functions, classes and values are on their way to workers.

Decides what travels as a name, what as a value, and what is made from the program's text:

* What is found by name in an importable module travels as that name (its module is in the bundle).
* A function of `__main__` travels whole: its code, not its name, so it is what the program has now.
  The globals that it reaches, and what they reach, travel as pieces beside it.
* A class of the program's file is made there from its text, with the methods and plain attributes
  that have been changed since; a class of a notebook travels whole.
* A value that cannot be pickled (a lock, a connection) is made from the text as well.
* Of the program's other modules those variables go along that functions reach, as they are now,
  unless the module itself rebinds them (`global`): that is its own business in each process.

Every global that a function reaches is watched (watching.py): what has changed is packed again.
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
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as by_value

from stealmesh.shipping import opening
from stealmesh.shipping.bundle import is_installed, is_own
from stealmesh.shipping.needs import imports_in
from stealmesh.shipping.opening import Piece, PieceKind, is_under
from stealmesh.shipping.source import Source, text_of_main
from stealmesh.shipping.watching import ChangeWatch
from stealmesh_protocol.ids import digest_of

Key = tuple[str, str]
Reached = set[str | type] | frozenset[str | type]

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_FUNC_HOLDERS = (
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
)
_ALIASED = frozenset({list, dict, set, object})
_LOCKS = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}
KEPT_OCTETS_MAX = 1 << 20
"""A larger global is packed anew for each function that reaches it, rather than kept twice."""
OWN_VALUE_OCTETS_MAX = 1 << 20
"""Of the program's other modules larger variables are what their import makes of them."""


@dataclass(slots=True)
class Packed:
    """A function, or any value, ready to travel."""

    blob: bytes
    watch: ChangeWatch
    reached: Reached
    """Of what is not the program's: for whose versions it is meant."""


@dataclass(slots=True)
class Unit:
    """One global, packed once for each value that it has had."""

    value: Any
    piece: Piece
    needs: dict[Key, None]
    watch: ChangeWatch
    reached: Reached = frozenset()


@dataclass(slots=True)
class _Parcel:
    """What one pickle has met."""

    watch: ChangeWatch = field(default_factory=ChangeWatch)
    by_name: bool = False
    """In a worker, on the way back: the program has all that has a name there."""
    needs: dict[Key, None] = field(default_factory=dict)
    walked: set[int] = field(default_factory=set)
    reached: set[str | type] | None = field(default_factory=set)
    """Names of modules, and types of values. None: nobody asks for them."""
    left: tuple[str, ...] = ()
    """Modules that are not to travel (`no_ship`): whoever has them has them by name."""

    def watches(self, module: str) -> bool:
        return _is_watched(module) and not (self.left and is_under(module, self.left))

    def sends(self, module: str) -> bool:
        """Do its functions and classes travel whole?"""
        return _is_by_value(module) and not (self.left and is_under(module, self.left))

    def reaches(self, value: Any) -> None:
        if self.reached is None:
            return
        if isinstance(value, ModuleType):
            self.reached.add(value.__name__)
        elif isinstance(value, type):
            self.reached.add(value)
        elif isinstance(value, FunctionType | BuiltinFunctionType):
            self.reached.add(value.__module__ or "")
        else:
            self.reached.add(type(value))


# Used from all threads, and without a lock, for pickling runs code of the user's: each step below
# leaves a whole entry in its place, and to pack something twice does no harm.
_units: dict[tuple[Key, tuple[str, ...]], Unit] = {}
_first_seen: dict[tuple[str, str, str], Any] = {}
"""Attributes of classes that cannot be compared with the text: as they were at first."""


def pack(value: Any, left: tuple[str, ...] = ()) -> Packed:
    """`left`: modules that are not to travel. Raises whatever pickling raises."""
    parcel = _Parcel(left=left)
    if isinstance(value, FunctionType):
        parcel.watch.root(value)
    else:
        parcel.watch.value(value)
    blob = _dump(value, parcel)
    pieces = _pieces(parcel, value)
    parcel.watch.close()
    whole = _with_pieces(pieces, blob) if pieces else blob
    return Packed(whole, parcel.watch, parcel.reached or frozenset())


def meant_for(needs: tuple[tuple[str, str], ...], blob: bytes) -> bytes:
    """The same, to be opened where these versions are installed; elsewhere the program is told."""
    return pickle.dumps(_Call(opening.meant_for, (needs, blob)), 5)


def dumps(value: Any) -> bytes:
    """A value that refers to the program's classes or functions: an argument, or a result."""
    parcel = _on_the_way_back()
    blob = _dump(value, parcel)
    pieces = () if parcel.by_name else _pieces(parcel)
    return _with_pieces(pieces, blob) if pieces else blob


def _with_pieces(pieces: tuple[Piece, ...], blob: bytes) -> bytes:
    return pickle.dumps(_Call(opening.opened, (pieces, blob)), 5)


def _on_the_way_back() -> _Parcel:
    """From a worker to its program, unless this is the program; in any case, nothing is watched."""
    return _Parcel(ChangeWatch(room=0), by_name=opening.living() is not None, reached=None)


class _Call:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _dump(value: Any, parcel: _Parcel, root: Any = None, name: str = "") -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 5, parcel, root, name).dump(value)
    return buffer.getvalue()


# ---------------------------------------------------------------- globals


def _pieces(parcel: _Parcel, root: Any = None) -> tuple[Piece, ...]:
    """All that is reached, over any number of steps."""
    pieces: dict[Key, Piece] = {}
    wanted: dict[str, list[str]] = {}
    needs: list[dict[Key, None]] = []
    waiting = list(parcel.needs)
    seen = set(waiting)
    while waiting:
        module, name = key = waiting.pop()
        if "." not in name:
            wanted.setdefault(module, []).append(name)
        unit = _unit(key, parcel.left)
        if unit is None:
            continue
        if unit.piece[2]:
            pieces[key] = unit.piece
        parcel.watch.join(unit.watch)
        if parcel.reached is not None:
            parcel.reached |= unit.reached
        needs.append(unit.needs)
        fresh = [need for need in unit.needs if need not in seen]
        seen.update(fresh)
        waiting += fresh
    reached = {need for unit_needs in needs for need in unit_needs}
    for module, names in wanted.items():
        found = sys.modules.get(module)
        if found is not None:
            mine = found.__dict__
            # What a function itself is bound to matters only to those that call it by this name.
            parcel.watch.names(
                mine,
                [n for n in names if mine.get(n) is not root or (module, n) in reached],
            )
    return tuple(pieces.values())


def _unit(key: Key, left: tuple[str, ...]) -> Unit | None:
    """None: there is no such global (yet)."""
    module, name = key
    names = vars(sys.modules[module]) if module in sys.modules else {}
    if "." in name:
        piece = (module, name, name.encode(), int(PieceKind.MODULE), name.encode())
        return Unit(None, piece, {}, ChangeWatch())
    if name not in names:
        if (key, left) not in _units:
            return None
        return Unit(None, (module, name, b"-", int(PieceKind.ABSENT), b""), {}, ChangeWatch())
    value = names[name]
    known = _units.get((key, left))
    if known is not None and known.value is value and known.watch.holds():
        return known
    parcel = _Parcel(left=left)
    kind, payload = _packed_global(module, name, value, parcel)
    version = b"" if kind is None else digest_of(bytes([kind]) + payload)[:12]
    piece = (module, name, version, int(kind or 0), payload)
    unit = Unit(value, piece, parcel.needs, parcel.watch, parcel.reached or frozenset())
    if len(payload) <= KEPT_OCTETS_MAX:
        _units[key, left] = unit
    else:
        _units.pop((key, left), None)
    return unit


def _packed_global(
    module: str, name: str, value: Any, parcel: _Parcel
) -> tuple[PieceKind | None, bytes]:
    """How this global travels; None: not at all, workers have it by importing its module."""
    parcel.reaches(value)
    if isinstance(value, ModuleType):
        parcel.watch.module(value)
        return (PieceKind.MODULE, value.__name__.encode()) if parcel.sends(module) else (None, b"")
    if not parcel.sends(module):
        return _packed_elsewhere(module, name, value, parcel)
    source = source_of(module)
    if isinstance(value, type) and _is_home_of(value, module, name):
        parcel.watch.klass(value)
        if source is not None and source.defines_class(name):
            changed = _changes_of(value, source, parcel)
            if changed is not None:
                return PieceKind.SOURCE, _dump(changed, parcel, name=name) if changed else b""
    elif isinstance(value, FunctionType):
        parcel.watch.function(value)
    else:
        parcel.watch.value(value)
    try:
        return PieceKind.VALUE, _dump(value, parcel, root=value, name=name)
    except BaseException as error:
        if source is None or not source.binds(name):
            raise
        if name in source.restless:
            raise pickle.PicklingError(
                f"the global {name!r} cannot be pickled ({type(error).__name__}: {error}), and the "
                "program rebinds it while it runs, so workers cannot make it from the program's file; "
                "make it inside the function"
            ) from error
        return PieceKind.SOURCE, b""


def _packed_elsewhere(
    module: str, name: str, value: Any, parcel: _Parcel
) -> tuple[PieceKind | None, bytes]:
    """A variable of one of the program's other modules."""
    if isinstance(value, FunctionType | type):
        parcel_walk(value, parcel)
        return None, b""
    if _is_plain(value):
        parcel.watch.value(value)
        payload = _dump(value, parcel)
        return (PieceKind.PLAIN, payload) if len(payload) <= OWN_VALUE_OCTETS_MAX else (None, b"")
    if _first_seen.setdefault((module, name, ""), value) is value:
        return None, b""
    return PieceKind.VALUE, _dump(value, parcel)


def _changes_of(cls: type, source: Source, parcel: _Parcel) -> dict[str, Any] | None:
    """What of the class is not as its text says. None: it is another class than that of the text."""
    changes: dict[str, Any] = {}
    for base in (*cls.__mro__[1:], type(cls)):
        parcel.reaches(base)
        if parcel.sends(base.__module__):
            parcel.needs[base.__module__, base.__qualname__.partition(".")[0]] = None
        elif parcel.watches(base.__module__):
            parcel_walk(base, parcel)
    methods = source.methods_of(cls.__name__)
    kept = 0
    for attribute, value in list(vars(cls).items()):
        found = _functions_in(value)
        if found:
            parcel_walk_all(found, parcel)
            if _is_as_written(cls, attribute, found, methods, source):
                kept += attribute in methods
            else:
                changes[attribute] = value
        elif attribute.startswith("__") or hasattr(type(value), "__get__"):
            if attribute in methods:
                changes[attribute] = value
        elif isinstance(value, type):
            parcel_walk(value, parcel)
        elif _is_plain(value) or attribute in methods:
            changes[attribute] = value
            parcel.watch.value(value)
        elif (
            _first_seen.setdefault((cls.__module__, cls.__qualname__, attribute), value)
            is not value
        ):
            changes[attribute] = value
    if hasattr(cls, "__members__"):
        changes = {name: value for name, value in changes.items() if _functions_in(value)}
    return None if methods and not kept else changes


def _is_as_written(
    cls: type, attribute: str, found: list[FunctionType], methods: set[str], source: Source
) -> bool:
    codes = [function.__code__ for function in found]
    if attribute in methods:
        inside = cls.__qualname__ + "."
        return any(
            code in source.codes and getattr(code, "co_qualname", inside).startswith(inside)
            for code in codes
        )
    # A dataclass's `__init__`, what a decorator of some library adds: made with the class.
    return attribute.startswith("__") or all(is_installed(code.co_filename) for code in codes)


def _functions_in(value: Any, depth: int = 0) -> list[FunctionType]:
    """The functions behind a method, a property, a decorated function."""
    if isinstance(value, FunctionType):
        found = [value]
        if depth < 4:
            inner = [value.__dict__.get("__wrapped__")]
            inner += [_content(cell) for cell in value.__closure__ or ()]
            for part in inner:
                found += _functions_in(part, depth + 1)
        return found
    if depth >= 4 or isinstance(value, type):
        return []
    found = []
    if isinstance(value, staticmethod | classmethod):
        found = _functions_in(value.__func__, depth + 1)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            found += _functions_in(part, depth + 1)
    elif isinstance(value, _FUNC_HOLDERS):
        found = _functions_in(value.func, depth + 1)
    elif isinstance(value, functools._lru_cache_wrapper):
        found = _functions_in(value.__wrapped__, depth + 1)
    return found


def _is_plain(value: Any, depth: int = 0) -> bool:
    if type(value) in _PLAIN:
        return True
    if type(value) not in _CONTAINERS or depth > 4 or len(value) > 1000:
        return False
    parts = [*value, *value.values()] if type(value) is dict else value
    return all(_is_plain(part, depth + 1) for part in parts)


# ---------------------------------------------------------------- what functions reach


def parcel_walk(value: Any, parcel: _Parcel) -> None:
    """What something that travels as a name reaches in the program's own modules."""
    if id(value) in parcel.walked:
        return
    parcel.walked.add(id(value))
    if isinstance(value, type):
        parcel.watch.klass(value)
        for attribute in list(vars(value).values()):
            parcel_walk_all(_functions_in(attribute), parcel)
        for base in value.__bases__:
            if parcel.watches(base.__module__):
                parcel_walk(base, parcel)
    elif isinstance(value, FunctionType):
        _walk_code(value.__code__, value.__globals__, parcel)
        for cell in value.__closure__ or ():
            for function in _functions_in(_content(cell)):
                parcel_walk(function, parcel)


def parcel_walk_all(functions: Iterable[FunctionType], parcel: _Parcel) -> None:
    for function in functions:
        if function.__module__ and parcel.watches(function.__module__):
            parcel_walk(function, parcel)


def _walk_code(code: CodeType, names: dict[str, Any], parcel: _Parcel) -> None:
    module = _module_of(names)
    if module is None or not parcel.watches(module):
        return
    reached, attributes, imports = _names_in(code)
    if imports and parcel.reached is not None:
        parcel.reached |= imports
    for name in reached:
        if name in names:
            value = names[name]
            parcel.reaches(value)
            if parcel.sends(module) or not _is_managed(names, name):
                parcel.needs[module, name] = None
            if isinstance(value, ModuleType) and hasattr(value, "__path__"):
                for part in _parts_used(value.__name__, attributes):
                    parcel.needs[module, part] = None
            if isinstance(value, ModuleType):
                _reach_into(value, attributes, parcel)
        elif parcel.sends(module):
            parcel.needs[module, name] = None  # it may come to be
    for name in attributes:  # imported by the function itself
        imported = sys.modules.get(name)
        if imported is not None and name not in reached:
            _reach_into(imported, attributes, parcel)


def _reach_into(module: ModuleType, attributes: tuple[str, ...], parcel: _Parcel) -> None:
    """What is used of another module of the program's, as far as names can tell."""
    if not parcel.watches(module.__name__):
        return
    inside = vars(module)
    whole = parcel.sends(module.__name__)
    for attribute in attributes:
        if attribute in inside and (whole or not _is_managed(inside, attribute)):
            parcel.needs[module.__name__, attribute] = None


@functools.lru_cache(4096)
def _names_in(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """The globals that a function may reach, with those of functions inside of it; all names; and what
    it imports by name."""
    names: dict[str, None] = {}
    waiting = [code]
    while waiting:
        one = waiting.pop()
        names.update(dict.fromkeys(one.co_names))
        waiting += [const for const in one.co_consts if isinstance(const, CodeType)]
    everything = tuple(names)
    return tuple(by_value._extract_code_globals(code)), everything, imports_in(code)


def _parts_used(package: str, attributes: tuple[str, ...]) -> list[str]:
    """`import a.b` binds only `a`: the part has to be imported there, too."""
    prefix = package + "."
    return [
        name
        for name in list(sys.modules)
        if name.startswith(prefix) and set(name[len(prefix) :].split(".")) <= set(attributes)
    ]


_managed: dict[int, tuple[int, frozenset[str]]] = {}


def _is_managed(names: dict[str, Any], name: str) -> bool:
    """Does the module itself rebind this variable while it runs?"""
    known = _managed.get(id(names))
    if known is None or known[0] != len(names):
        functions = [
            value
            for value in list(names.values())
            if isinstance(value, FunctionType) and value.__globals__ is names
        ]
        rebound = frozenset[str]().union(*(_rebound_by(each.__code__) for each in functions))
        known = _managed[id(names)] = (len(names), rebound)
    return name in known[1]


@functools.lru_cache(4096)
def _rebound_by(code: CodeType) -> frozenset[str]:
    import dis

    return frozenset(
        each.argval for each in dis.get_instructions(code) if each.opname == "STORE_GLOBAL"
    )


def _module_of(names: dict[str, Any]) -> str | None:
    """The module whose variables these are."""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is not None and module.__dict__ is names:
        return str(name)
    main = sys.modules.get("__main__")
    return "__main__" if main is not None and main.__dict__ is names else None


_watched: dict[str, tuple[Any, bool]] = {}


def _is_watched(name: str) -> bool:
    """Is this a module of the program, whose variables are worth a look?"""
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    known = _watched.get(name)
    if known is None or known[0] is not module:
        own = module is not None and is_own(name, module)
        _watched[name] = known = (module, own)
    return known[1]


def _is_by_value(name: str) -> bool:
    """Can nobody import this module? Its functions and classes travel whole."""
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    return (
        module is not None
        and getattr(module, "__spec__", None) is None
        and getattr(module, "__file__", None) is None
        and _is_watched(name)
    )


_main_source: tuple[Any, Source | None] = (None, None)


def source_of(module: str) -> Source | None:
    """The text of the program's own file, as it was when it was first asked for."""
    global _main_source
    if module != "__main__":
        return None
    main = sys.modules["__main__"]
    if _main_source[0] is not main:
        text = text_of_main(main)
        path = getattr(main, "__file__", None)
        path = os.path.abspath(path) if path else "<string>"
        _main_source = (main, None if text is None else Source(text, path))
    return _main_source[1]


def _is_home_of(value: Any, module: str, qualname: str) -> bool:
    """Is it found there by its own name?"""
    named = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return named == qualname and getattr(value, "__module__", None) == module


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


# ---------------------------------------------------------------- the pickler


class Pickler(by_value.Pickler):  # type: ignore[misc]
    """cloudpickle's, which knows how to send most things whole, with our idea of what has a name."""

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int = 5,
        parcel: _Parcel | None = None,
        root: Any = None,
        name: str = "",
    ) -> None:
        super().__init__(file, protocol)
        self._parcel = _on_the_way_back() if parcel is None else parcel
        self._root = root
        """This one is sent whole although it has a name: it is the piece of that name."""
        self._root_name = name

    @property
    def needs(self) -> Sized:
        """What was named so far, and has to be in place before it is opened."""
        return self._parcel.needs

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        self._parcel.reaches(value)
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
        self._parcel.watch.value(value)
        return super().reducer_override(value)

    def _named(self, value: Any) -> Any:
        """As a piece, where it is a global of a module that travels piece by piece."""
        module = getattr(value, "__module__", None)
        qualname = getattr(value, "__qualname__", None)
        if not isinstance(module, str) or not qualname or "<locals>" in qualname:
            return None
        if not self._parcel.sends(module) or value is self._root:
            return None
        if "." in qualname and qualname.partition(".")[0] == self._root_name:
            return None  # a part of what is being sent whole
        found: Any = sys.modules[module]
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if found is not value:
            return None
        if self._parcel.by_name:
            return qualname  # pickle's own way to say a name: the program has it, too
        self._parcel.needs[module, qualname.partition(".")[0]] = None
        return opening.find, (module, qualname)

    def _function(self, function: FunctionType) -> Any:
        named = self._named(function)
        if named is not None:
            return named
        if not self._parcel.sends(
            function.__module__ or ""
        ) and by_value._should_pickle_by_reference(function):
            parcel_walk(function, self._parcel)
            return NotImplemented
        self._parcel.watch.function(function)
        registry = getattr(function, "registry", None)
        if registry is not None and hasattr(function, "dispatch") and object in registry:
            return opening.single_dispatch, (list(registry.items()),)
        return self._whole(function)

    def _whole(self, function: FunctionType) -> Any:
        code, names = function.__code__, function.__globals__
        module = _module_of(names)
        registered = by_value.list_registry_pickle_by_value()
        if module is not None and module in registered and not self._parcel.watches(module):
            return self._dynamic_function_reduce(function)  # the user knows that nodes lack it
        if module is None:
            if any(name in names for name in by_value._extract_code_globals(code)):
                return self._dynamic_function_reduce(function)
        elif self._parcel.watches(module):
            _walk_code(code, names, self._parcel)
        if module is not None and not self._parcel.sends(module):
            reached = by_value._extract_code_globals(code)
            if not any(name in names for name in reached):
                module = None
        for cell in function.__closure__ or ():
            around = _content(cell)
            if isinstance(around, ModuleType):  # imported by the function around this one
                _reach_into(around, _names_in(code)[1], self._parcel)
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

    def _alias(self, value: Any) -> Any:
        """A container that is a global, too, must be one and the same there."""
        if type(value) in _ALIASED and value is not self._root:
            named = self._global_of(value)
            if named is not None:
                return _Call(opening.find, named)
        return value

    def _global_of(self, value: Any) -> Key | None:
        """The global of the program's file that this very object is."""
        if self._parcel.by_name:
            return None
        main = sys.modules["__main__"].__dict__
        name = next((name for name, each in list(main.items()) if each is value), None)
        if name is None or (name.startswith("__") and name.endswith("__")):
            return None
        self._parcel.needs["__main__", name] = None
        return "__main__", name

    def _class(self, cls: type) -> Any:
        named = self._named(cls)
        if named is not None:
            return named
        if (
            isinstance(cls.__module__, str)
            and cls.__module__ != "builtins"
            and self._parcel.sends(cls.__module__)
        ):
            reduced = by_value._dynamic_class_reduce(cls)
        else:
            reduced = by_value._class_reduce(cls)
        if reduced is NotImplemented:
            if self._parcel.watches(cls.__module__):
                parcel_walk(cls, self._parcel)
            return reduced
        make, given, *rest = reduced
        if not rest:
            return reduced
        self._parcel.watch.klass(cls)
        state, lists, items, _ = rest
        return opening.make_class, (make, *given), state, lists, items, opening.set_class_state

    def _cache(self, cache: Any) -> Any:
        if not self._parcel.sends(cache.__module__ or ""):
            return NotImplemented
        parameters = cache.cache_parameters()
        self._parcel.watch.function(cache.__wrapped__)
        return opening.cached, (cache.__wrapped__, parameters["maxsize"], parameters["typed"])

    def _module(self, module: ModuleType) -> Any:
        if self._parcel.sends(module.__name__) and sys.modules.get(module.__name__) is module:
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
    """The text of what has no file (a notebook's cell, a doctest), for tracebacks."""
    path = code.co_filename
    if (not path.startswith("<") or path == "<string>") and not _is_cell(path):
        return ""
    lines = linecache.getlines(path)
    return "".join(lines)


@functools.lru_cache(256)
def _is_cell(path: str) -> bool:
    """ipykernel names its cells as files that may not exist."""
    return path in linecache.cache and not os.path.exists(path)
