"""Has anything changed that a function reaches? Every submit asks, so the answer must be quick.

We keep what we saw as tuples of objects and compare them by identity, at the speed of C: 20 variables
take about a microsecond. We look into small containers only. So we cannot notice a change inside a
large container, or in an object without `__dict__`: then rebind the variable, or pass the value as an
argument.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter, is_, itemgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from stealmesh.shipping import settings
from stealmesh.shipping.dispatching import registry_of
from stealmesh.shipping.variables import FILLED_IN_PLACE

ENTRIES_MAX = 64
"""Entries for one value: bounds how deep we look into nested containers."""
TOGETHER_MAX = 512
"""Entries for all that one function reaches."""
SMALL = 32
"""A container of at most this many items is compared item by item; of a larger one only its length."""

_ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, type(None), range, type(...), BuiltinFunctionType}
)

Look = Callable[[Any], tuple[Any, ...]]


class ChangeWatch:
    """What a number of objects looked like when they were packed."""

    __slots__ = ("_code", "_defaults", "_entries", "_known", "_more", "_room", "_root")

    def __init__(self, room: int = TOGETHER_MAX) -> None:
        self._entries: list[tuple[Look, Any, tuple[Any, ...]]] = []
        self._known: set[tuple[Look, int]] = set()
        """What has an entry; emptied when no more are added."""
        self._room = room
        self._root: Any = None
        self._code: Any = None
        self._defaults: Any = None
        self._more: Any = None

    def root(self, function: FunctionType) -> None:
        """The function that is submitted. It is checked most often, so it has attributes and no entry."""
        self._root, self._code = function, function.__code__
        self._defaults, self._more = function.__defaults__, function.__kwdefaults__
        self._known.add((_of_function, id(function)))
        self._parts_of(function)

    def close(self) -> None:
        """No more entries will be added."""
        self._known = set()

    def holds(self) -> bool:
        """Is everything as it was?"""
        root = self._root
        if root is not None and not (
            root.__code__ is self._code
            and root.__defaults__ is self._defaults
            and root.__kwdefaults__ is self._more
        ):
            return False
        try:
            for look, what, seen in self._entries:
                now = look(what)
                if len(now) != len(seen) or not all(map(is_, now, seen)):
                    return False
        except (KeyError, AttributeError, RuntimeError):  # deleted, or changed while we looked
            return False
        return True

    def join(self, other: ChangeWatch) -> None:
        for look, what, seen in other._entries:
            if (look, id(what)) not in self._known and len(self._entries) < self._room:
                self._known.add((look, id(what)))
                self._entries.append((look, what, seen))

    def names(self, names: dict[str, Any], wanted: list[str]) -> None:
        """Watch these variables of a module: they stay bound to the same objects, or stay unbound."""
        there = tuple(name for name in wanted if name in names)
        missing = frozenset(wanted).difference(there)
        if there:
            look: Look = itemgetter(*there) if len(there) > 1 else _only(there[0])
            self._entries.append((look, names, look(names)))
        if missing:
            self._entries.append(
                (lambda names: (names.keys().isdisjoint(missing),), names, (True,))
            )

    def function(self, function: FunctionType) -> None:
        if (_of_function, id(function)) in self._known:
            return
        self._add(_of_function, function)
        self._parts_of(function)

    def _parts_of(self, function: FunctionType) -> None:
        self.values(*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if function.__closure__:
            self._add(_of_cells, function.__closure__)
            self.values(*_of_cells(function.__closure__))
        if function.__dict__:
            self.value(function.__dict__)
            self.registry(registry_of(function))

    def klass(self, cls: type) -> None:
        self._add(_of_class, cls)
        for attribute in list(vars(cls).values()):
            self.registry(registry_of(attribute))

    def subclasses_of(self, cls: type) -> None:
        self._add(_subclasses, cls)

    def registry(self, registry: Any) -> None:
        """Watch the implementations of a function that has one for each type. None: it has not."""
        if registry is not None:
            self._add(_of_dict, registry)

    def module(self, module: ModuleType) -> None:
        """Watch whether the module is imported anew."""
        self._add(_spec_of, module)

    def names_of(self, module: ModuleType) -> None:
        """Watch which names the module has."""
        self._add(_names, vars(module))

    def attribute(self, target: ModuleType | type, name: str) -> None:
        self._entries.append((lambda target: (vars(target)[name],), target, (vars(target)[name],)))

    def settings(self) -> None:
        """Watch those of the interpreter, as they are in this thread."""
        self._entries.append((settings.look, settings.SettingsSeen(), (True,)))

    def values(self, *values: Any) -> None:
        for value in values:
            self.value(value)

    def value(self, value: Any) -> None:
        """Watch the parts of a value that can change, as far as it is small."""
        waiting, seen = [value], set[int]()
        while waiting and len(seen) < ENTRIES_MAX and len(self._entries) < self._room:
            one = waiting.pop()
            if type(one) in _ATOMS or id(one) in seen:
                continue
            seen.add(id(one))
            waiting += self._look_into(one)

    def _look_into(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        if kind in (tuple, frozenset):
            return tuple(value)[:SMALL]
        if kind in FILLED_IN_PLACE:
            if len(value) > SMALL:
                self._add(_size, value)
                return ()
            look = _of_dict if issubclass(kind, dict) else tuple
            self._add(look, value)
            return look(value)
        if isinstance(value, partial):
            return (value.func, value.args, value.keywords)
        if isinstance(value, type | ModuleType | FunctionType):
            return ()  # they have entries of their own
        inside = getattr(value, "__dict__", None)
        if type(inside) is dict:
            self._add(_of_instance, value)
            return tuple(inside.values())
        parts = getattr(kind, "__slots__", None)
        if not parts:
            return ()
        names = (parts,) if isinstance(parts, str) else tuple(parts)

        def slots(value: Any) -> tuple[Any, ...]:
            return tuple(getattr(value, name, None) for name in names)

        self._add(slots, value)
        return slots(value)

    def _add(self, look: Look, what: Any) -> None:
        if len(self._entries) >= self._room or (look, id(what)) in self._known:
            return
        self._known.add((look, id(what)))
        try:
            self._entries.append((look, what, look(what)))
        except (AttributeError, RuntimeError):  # cannot be looked at, or changes as we look
            self._entries.append((_never, what, (object(),)))


_of_function: Look = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _spec_of(module: Any) -> tuple[Any, ...]:
    return (module.__spec__,)


def _only(name: str) -> Look:
    return lambda names: (names[name],)


def _of_cells(cells: Any) -> tuple[Any, ...]:
    return tuple(map(content, cells))


def content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _of_class(cls: Any) -> tuple[Any, ...]:
    return (cls.__bases__, *cls.__dict__.values())


def _names(names: Any) -> tuple[Any, ...]:
    """A dict has its newest name last, so two objects tell whether any has come or gone."""
    return (*_size(names), next(reversed(names), None))


def _subclasses(cls: Any) -> tuple[Any, ...]:
    return tuple(type.__subclasses__(cls))


def _of_dict(value: Any) -> tuple[Any, ...]:
    return (*value, *value.values())


def _of_instance(value: Any) -> tuple[Any, ...]:
    return tuple(vars(value).values())


def _size(value: Any) -> tuple[Any, ...]:
    return (_LENGTHS.setdefault(len(value), len(value)),)


_LENGTHS: dict[int, int] = {}
"""One object for each length, so that lengths can be compared by identity."""


def _never(value: Any) -> tuple[Any, ...]:
    del value
    return ()
