"""What a function or class reaches in the program, as far as its code can tell.

Decides which modules are the program's and are watched, which of them travel whole, and which globals
have to be in place before a function is called. Refuses to know how they are packed (packing.py).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as by_value

from stealmesh.shipping.bindings import text_of
from stealmesh.shipping.bundle import is_own
from stealmesh.shipping.change_watch import ChangeWatch, content
from stealmesh.shipping.dispatching import registry_of
from stealmesh.shipping.needs import imports_in
from stealmesh.shipping.opening import is_under

Key = tuple[str, str]
"""A module and the name of one of its globals."""

_ASKS_FOR_NAMES = frozenset({"hasattr", "getattr", "vars", "dir", "__dict__", "globals"})
"""Code that mentions none of these reaches variables by their names alone."""

_FUNC_HOLDERS = (
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
)


@dataclass(slots=True)
class Reach:
    """What one pickle has met: names it needs, objects to watch, versions it relies on."""

    watch: ChangeWatch = field(default_factory=ChangeWatch)
    by_name: bool = False
    """True in a worker: the program has everything that has a name there."""
    needs: dict[Key, None] = field(default_factory=dict)
    walked: set[int] = field(default_factory=set)
    reached: set[str | type] | None = field(default_factory=set)
    """Names of modules, and types of values. None: they are not collected."""
    no_ship: tuple[str, ...] = ()
    """Modules that are not to travel (`no_ship`): workers have their own, by name."""

    def watches(self, module: str) -> bool:
        return is_watched(module) and not (self.no_ship and is_under(module, self.no_ship))

    def sends(self, module: str) -> bool:
        """Do its functions and classes travel whole?"""
        return _is_by_value(module) and not (self.no_ship and is_under(module, self.no_ship))

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


def walk(value: Any, reach: Reach) -> None:
    """Collect what a function or class that travels as a name reaches in the program's own modules."""
    if id(value) in reach.walked:
        return
    reach.walked.add(id(value))
    _need_itself(value, reach)
    if isinstance(value, type):
        reach.watch.klass(value)
        for attribute in list(vars(value).values()):
            walk_all(functions_in(attribute), reach)
        for base in value.__bases__:
            if reach.watches(base.__module__):
                walk(base, reach)
    elif isinstance(value, FunctionType):
        walk_code(value.__code__, value.__globals__, reach)
        walk_all(functions_in(value.__dict__.get("__wrapped__")), reach)
        registry = registry_of(value)
        reach.watch.registry(registry)
        for implementation in list((registry or {}).values()):
            walk_all(functions_in(implementation), reach)
        for cell in value.__closure__ or ():
            for function in functions_in(content(cell)):
                walk(function, reach)


def _need_itself(value: type | FunctionType, reach: Reach) -> None:
    """What the program has changed of a class, or put in a function's place, has to be in place, too."""
    module, name = value.__module__, value.__qualname__
    if "." not in name and isinstance(module, str) and reach.watches(module):
        found = sys.modules.get(module)
        if found is not None and vars(found).get(name) is value and not reach.sends(module):
            reach.needs[module, name] = None


def walk_all(functions: Iterable[FunctionType], reach: Reach) -> None:
    for function in functions:
        if function.__module__ and reach.watches(function.__module__):
            walk(function, reach)


def walk_code(code: CodeType, names: dict[str, Any], reach: Reach) -> None:
    module = module_of(names)
    if module is None or not reach.watches(module):
        return
    reached, attributes, imports = names_in(code)
    if imports and reach.reached is not None:
        reach.reached |= imports
    for name in reached:
        if name in names:
            value = names[name]
            reach.reaches(value)
            if reach.sends(module) or not _is_managed(names, name):
                reach.needs[module, name] = None
            if isinstance(value, ModuleType) and hasattr(value, "__path__"):
                for part in _parts_used(value.__name__, attributes):
                    reach.needs[module, part] = None
            if isinstance(value, ModuleType):
                reach_into(value, attributes, reach)
        elif reach.sends(module):
            reach.needs[module, name] = None  # it may come to be
    if not _ASKS_FOR_NAMES.isdisjoint(attributes):
        _need_names_that_differ(module, names, reached, reach)
    if "__subclasses__" in attributes:
        for name in reached:
            if isinstance(names.get(name), type):
                need_subclasses(names[name], reach)
    for name in attributes:  # imported by the function itself
        imported = sys.modules.get(name)
        if imported is not None and name not in reached:
            reach_into(imported, attributes, reach)


def _need_names_that_differ(
    module: str, names: dict[str, Any], reached: tuple[str, ...], reach: Reach
) -> None:
    """The function may ask which names a module has: those that it reaches, and its own."""
    modules = [names[name] for name in reached if isinstance(names.get(name), ModuleType)]
    modules.append(sys.modules[module])
    for each in modules:
        if reach.watches(each.__name__) and not reach.sends(each.__name__):
            reach.watch.names_of(each)
            for name in text_of(each).names_that_differ():
                reach.needs[each.__name__, name] = None


def asks_for_subclasses(functions: Iterable[FunctionType]) -> bool:
    return any("__subclasses__" in names_in(each.__code__)[1] for each in functions)


def need_subclasses(cls: type, reach: Reach) -> None:
    """Code asks for the subclasses of this class of the program's file: those that have a name there, over any
    number of steps. Workers have only the classes that something needs."""
    waiting, seen = [cls], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or not reach.sends(one.__module__):
            continue
        seen.add(id(one))
        reach.watch.subclasses_of(one)
        if vars(sys.modules[one.__module__]).get(one.__qualname__) is one:
            reach.needs[one.__module__, one.__qualname__] = None
        waiting += type.__subclasses__(one)


def reach_into(module: ModuleType, attributes: tuple[str, ...], reach: Reach) -> None:
    """Collect what is used of another of the program's modules, as far as names can tell."""
    if not reach.watches(module.__name__):
        return
    inside = vars(module)
    whole = reach.sends(module.__name__)
    for attribute in attributes:
        if attribute in inside and (whole or not _is_managed(inside, attribute)):
            reach.needs[module.__name__, attribute] = None


@functools.lru_cache(4096)
def names_in(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
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


def module_of(names: dict[str, Any]) -> str | None:
    """The name of the module with these variables; None: no module has them."""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is not None and module.__dict__ is names:
        return str(name)
    main = sys.modules.get("__main__")
    return "__main__" if main is not None and main.__dict__ is names else None


def functions_in(value: Any, depth: int = 0) -> list[FunctionType]:
    """The functions behind a method, a property, a decorated function."""
    if isinstance(value, FunctionType):
        found = [value]
        if depth < 4:
            inner = [value.__dict__.get("__wrapped__")]
            inner += [content(cell) for cell in value.__closure__ or ()]
            for part in inner:
                found += functions_in(part, depth + 1)
        return found
    if depth >= 4 or isinstance(value, type):
        return []
    found = []
    if isinstance(value, staticmethod | classmethod):
        found = functions_in(value.__func__, depth + 1)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            found += functions_in(part, depth + 1)
    elif isinstance(value, _FUNC_HOLDERS):
        found = functions_in(value.func, depth + 1)
        for implementation in list((registry_of(value) or {}).values()):
            found += functions_in(implementation, depth + 1)
    elif isinstance(value, functools._lru_cache_wrapper):
        found = functions_in(value.__wrapped__, depth + 1)
    return found


_watched: dict[str, tuple[Any, bool]] = {}


def is_watched(name: str) -> bool:
    """Is this a module of the program? Then its variables are watched."""
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    known = _watched.get(name)
    if known is None or known[0] is not module:
        own = module is not None and is_own(name, module)
        _watched[name] = known = (module, own)
    return known[1]


def _is_by_value(name: str) -> bool:
    """Is this a module that no other process can import? Its functions and classes travel whole."""
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    return (
        module is not None
        and getattr(module, "__spec__", None) is None
        and getattr(module, "__file__", None) is None
        and is_watched(name)
    )
