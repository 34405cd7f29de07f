"""What pickles of the program's code call when they are opened.

In a worker, one module stands in for the program's `__main__`. Pieces come with the code that needs
them, each with a version, and are put in place when another version is there: what has not changed in
the program keeps the state that it has in this worker (a class's counters, a cache, what an
initializer set), as in a child process. What no piece brought is made from the program's text.

In the program the same pickles touch nothing: names mean the program's own objects, and a class
that is known is never changed. Refuses to know what is worth sending (packing.py).
"""

from __future__ import annotations

import functools
import importlib
import linecache
import marshal
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from types import CellType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import cloudpickle.cloudpickle as by_value

from stealmesh.shipping import settings, versions
from stealmesh.shipping.source import Source
from stealmesh.shipping.variables import FILLED_IN_PLACE
from stealmesh_protocol.errors import CannotLoad


class PieceKind(IntEnum):
    """What a piece's bytes are."""

    VALUE = 0
    """A pickle of it."""
    SOURCE = 1
    """It is made from the program's text, or by an import; then these attributes are set, if there are any."""
    MODULE = 2
    """The name of a module."""
    PLAIN = 3
    """A pickle of plain data; a list, dict or set that is there already is filled anew, for others
    may hold it, too."""
    ABSENT = 4
    """The program has deleted it."""
    SETTINGS = 5
    """Of the interpreter (settings.py); they belong to no module and have no name."""
    PATCH = 6
    """A pickle of a module, a path in it, and what the program has put there (patches.py)."""


Piece = tuple[str, str, bytes, int, bytes]
"""Module, name, version, kind, bytes."""


class StandIn(ModuleType):
    """The program's `__main__` in a worker, or a module that the program made by hand."""

    def __getattr__(self, name: str) -> Any:
        """Make what no piece has brought yet, for example a class that a task unpickles."""
        if not (name.startswith("__") and name.endswith("__")):
            living = _living
            if living is not None and living.make(self.__name__, name):
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Original(Enum):
    ORIGINAL = auto()
    ABSENT = auto()


ORIGINAL = _Original.ORIGINAL
"""In a piece: the value that the import made. Under an empty name it stands for the global itself."""
ABSENT = _Original.ABSENT
"""In a piece: the program has deleted this attribute."""
REGISTER = "()"
"""In a piece, in the place of an attribute: the implementations of a functools.singledispatch function."""
_MISSING = object()


@dataclass(slots=True)
class Living:
    """The part of the program that this worker has."""

    sources: dict[str, Source] = field(default_factory=dict)
    versions: dict[tuple[str, str], bytes] = field(default_factory=dict)
    pending: dict[tuple[str, str], Piece] = field(default_factory=dict)
    """Pieces that have come and are not in place yet, as they refer to each other."""
    placed: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Functions while their pieces are opened: they exist, and are filled later."""
    originals: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    """What was in the place of a global (module, name, empty) or of an attribute before the first piece."""
    no_ship: tuple[str, ...] = ()
    """Modules that the program does not send: those of this machine stay as they are."""
    defining: int = 0
    current: tuple[Piece, ...] | None = None
    """The pieces applied last, while all of them are still in place."""
    collected: tuple[Piece, ...] | None = None

    def load(self, blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
        """A function, and the pieces that have to be in place whenever it is called."""
        self.collected = None
        made = pickle.loads(blob)
        return made, self.collected or ()

    def apply(self, pieces: tuple[Piece, ...]) -> None:
        if self.current is pieces:
            return
        versions = self.versions
        news = [piece for piece in pieces if versions.get(piece[:2]) != piece[2]]
        if news and self.no_ship:
            news = [piece for piece in news if not is_under(piece[0], self.no_ship)]
        self.current = pieces
        if not news:
            return
        self.pending |= {piece[:2]: piece for piece in news}
        try:
            for piece in news:
                if piece[:2] in self.pending:
                    self._put(piece)
        except BaseException:
            self.current = None
            raise
        finally:
            self.pending.clear()
            self.placed.clear()

    def get(self, module: str, name: str) -> Any:
        key = (module, name)
        if key in self.placed:
            return self.placed[key]
        piece = self.pending.get(key)
        if piece is not None:
            self._put(piece)
        place = place_of(module)
        if name not in place and not self.make(module, name):
            return getattr(sys.modules[module], name)
        return place[name]

    def make(self, module: str, name: str) -> bool:
        """Make the name from the program's text. False: the text does not bind it."""
        source = self.sources.get(module)
        if source is None:
            return False
        self.defining += 1
        try:
            return source.make(name, place_of(module))
        finally:
            self.defining -= 1

    def _put(self, piece: Piece) -> None:
        module, name, version, kind, payload = piece
        key = (module, name)
        del self.pending[key]
        if kind == PieceKind.SETTINGS:
            settings.put(payload)
        elif kind == PieceKind.PATCH:
            self._patch(*pickle.loads(payload))
        else:
            self._put_global(module, name, kind, payload)
        self.versions[key] = version

    def _put_global(self, module: str, name: str, kind: int, payload: bytes) -> None:
        place = place_of(module)
        if kind == PieceKind.SOURCE:
            if name not in place:
                self.make(module, name)
            attributes = pickle.loads(payload) if payload else {}
            if attributes.pop("", None) is ORIGINAL:
                self._put_back(place, module, name)
            if name not in place:
                raise CannotLoad(f"{name} is not in the text of {module}")
            self._set_attributes(place, module, name, attributes)
        elif kind == PieceKind.MODULE:
            found = importlib.import_module(payload.decode())
            if "." not in name:  # with a dot: a part of a package that only has to be there
                place[name] = found
        else:
            self.originals.setdefault((module, name, ""), place.get(name, _MISSING))
            if kind == PieceKind.ABSENT:
                place.pop(name, None)
            elif kind == PieceKind.PLAIN:
                place[name] = _in_place_of(place.get(name), pickle.loads(payload))
            else:
                place[name] = pickle.loads(payload)

    def _set_attributes(
        self, place: dict[str, Any], module: str, name: str, attributes: dict[str, Any]
    ) -> None:
        for kind, implementation in attributes.pop(REGISTER, ()):
            place[name].register(kind, implementation)
        for path, value in attributes.items():
            target = place[name]
            *inside, attribute = path.split(".")
            for each in inside:
                target = getattr(target, each)
            key = (module, name, path)
            if value is ORIGINAL:
                if key not in self.originals:
                    continue  # this worker has never had another
                value = self.originals[key]
            else:
                self.originals.setdefault(key, _own_attribute(target, attribute))
            _set_attribute(target, attribute, _MISSING if value is ABSENT else value)

    def _patch(self, module: str, path: tuple[str, ...], value: Any) -> None:
        try:
            target: Any = importlib.import_module(module)
        except ImportError:
            return  # what needs it says so
        *inside, attribute = path
        for name in inside:
            target = getattr(target, name)
        key = (module, path[0], ".".join(path))
        if value is not ORIGINAL:
            self.originals.setdefault(key, vars(target).get(attribute, _MISSING))
            setattr(target, attribute, value)
        elif self.originals.get(key, _MISSING) is not _MISSING:
            setattr(target, attribute, self.originals[key])

    def _put_back(self, place: dict[str, Any], module: str, name: str) -> None:
        """Let the global be what the import made of it, or the text."""
        original = self.originals.get((module, name, ""), place.get(name))
        if original is not _MISSING:
            place[name] = original
        elif module in self.sources:  # a piece came before the text was asked
            del place[name]
            self.make(module, name)


def _set_attribute(target: Any, attribute: str, value: Any) -> None:
    """Without properties and `__setattr__` of an object: its state is what pickle would set."""
    if isinstance(target, type):
        if value is not _MISSING:
            setattr(target, attribute, value)
        elif attribute in vars(target):
            delattr(target, attribute)
    elif isinstance(getattr(type(target), attribute, None), MemberDescriptorType):  # a slot
        if value is not _MISSING:
            object.__setattr__(target, attribute, value)
        elif hasattr(target, attribute):
            object.__delattr__(target, attribute)
    elif value is not _MISSING:
        vars(target)[attribute] = value
    else:
        vars(target).pop(attribute, None)


def _own_attribute(target: Any, attribute: str) -> Any:
    """Not one of its class."""
    if attribute == "__bases__":
        return target.__bases__
    if isinstance(getattr(type(target), attribute, None), MemberDescriptorType):
        return getattr(target, attribute, _MISSING)
    return vars(target).get(attribute, _MISSING)


def _in_place_of(old: Any, new: Any) -> Any:
    if type(old) is not type(new) or type(new) not in FILLED_IN_PLACE or old == new:
        return old if type(old) is type(new) and old == new else new
    old.clear()
    if type(new) in (list, deque):
        old.extend(new)
    else:
        old.update(new)
    return old


_living: Living | None = None
"""None: this is a program, not a worker."""


def be_worker(main: Source | None, package: str | None, no_ship: Iterable[str] = ()) -> Living:
    """From now on this process is a child of the program with this file."""
    global _living
    _living = Living(no_ship=tuple(no_ship))
    stand_in("__main__")
    sys.modules["__mp_main__"] = sys.modules["__main__"]
    if main is not None:
        _living.sources["__main__"] = main
        place = sys.modules["__main__"].__dict__
        place["__file__"] = main.path
        if package is not None:
            place["__package__"] = package
        show(main.path, main.text)
    return _living


def stand_in(name: str) -> ModuleType:
    module = StandIn(name)
    module.__dict__["__builtins__"] = __builtins__
    sys.modules[name] = module
    return module


def living() -> Living | None:
    return _living


def is_under(name: str, roots: tuple[str, ...]) -> bool:
    """Is it one of these modules, or a part of one?"""
    return any(name == root or name.startswith(root + ".") for root in roots)


def is_defining() -> bool:
    """Is a definition of the program's file being executed in a worker just now?"""
    return _living is not None and bool(_living.defining)


def show(path: str, text: str) -> None:
    """Let tracebacks find this text, even if a file with other text is there."""
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)


def place_of(module: str) -> dict[str, Any]:
    """The variables of a module."""
    found = sys.modules.get(module)
    if found is None:
        found = importlib.import_module(module)
    return found.__dict__


# ---------------------------------------------------------------- what pickles call


def module_of(name: str) -> ModuleType:
    return importlib.import_module(name)


def opened(pieces: tuple[Piece, ...], blob: bytes) -> Any:
    """Open a pickle that comes with pieces: put them in place first."""
    if _living is not None:
        if _living.collected is None:
            _living.collected = pieces
        _living.apply(pieces)
    return pickle.loads(blob)


def meant_for(needs: tuple[versions.Need, ...], blob: bytes) -> Any:
    """A function, and what is installed where it was written. The comparison comes first, so that an
    error in opening the function can name it."""
    versions.compare(needs)
    return pickle.loads(blob)


def find(module: str, qualname: str) -> Any:
    """Look up a name in the program's module."""
    first, *rest = qualname.split(".")
    if _living is not None and (module, first) in _living.pending:
        found = _living.get(module, first)
    elif _living is not None and (module, first) in _living.placed:
        found = _living.placed[module, first]
    else:
        importlib.import_module(module)
        found = getattr(sys.modules[module], first)
    for part in rest:
        found = getattr(found, part)
    return found


def function(
    module: str | None, qualname: str, code: bytes, cells: int, placed: bool, source: str
) -> FunctionType:
    """A function that is still empty. `module`: its variables are the function's globals; None: it
    uses none."""
    body = marshal.loads(code)
    names = {"__builtins__": __builtins__} if module is None else place_of(module)
    closure = tuple(CellType() for _ in range(cells))
    made = FunctionType(body, names, None, None, closure or None)
    if placed and _living is not None and module is not None:
        _living.placed[module, qualname] = made
    if source and body.co_filename not in linecache.cache:
        show(body.co_filename, source)
    return made


def fill(made: FunctionType, state: dict[str, Any]) -> None:
    cells = state.pop("cells")
    for cell, content in zip(made.__closure__ or (), cells, strict=True):
        if content:
            cell.cell_contents = content[0]
    made.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        setattr(made, name, value)


def cached(wrapped: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(wrapped)


def single_dispatch(registry: list[tuple[type, Any]]) -> Any:
    made = functools.singledispatch(dict(registry)[object])
    for cls, implementation in registry:
        if cls is not object:
            made.register(cls, implementation)
    return made


def cached_property(function: Any, name: str | None, doc: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


_known: WeakSet[type] = WeakSet()
"""Classes that this program has already. A pickle that describes one again does not change it."""


def make_class(make: Callable[..., type], *args: Any) -> type:
    """Make a class that cannot be found by name, or find the same class from an earlier pickle."""
    tracker = args[-2]
    known = by_value._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
    if known is None:
        return make(*args)
    assert isinstance(known, type)
    if _living is None:
        _known.add(known)
    elif make is by_value._make_skeleton_class and known.__bases__ != args[2]:
        known.__bases__ = args[2]
    return known


_brought: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()
"""The attributes that a class of a worker got with its last pickle."""


def set_class_state(cls: type, state: Any) -> None:
    if cls in _known:
        return
    attributes = set(state[0])
    for gone in _brought.get(cls, set()) - attributes:
        if gone in vars(cls):
            delattr(cls, gone)
    _brought[cls] = attributes
    by_value._class_setstate(cls, state)
