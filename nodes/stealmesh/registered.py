"""Data-only mode: which functions a process has by name, and how a call names one.

A function is registered if a module that was named with `functions` shows it: it is in the module's
`__all__`, or it has a public name and was defined there. So the list of what strangers may call is a list
of modules, made for that by the person who starts the node, and needs no mark in code that others wrote.
What a module has imported is not shown by it. Classes are no functions: their objects are no plain data.
Some of `operator`'s are always registered, as combines need them.

What travels is the name; around it the ways of Stealmesh to make one function of another (`partial` with
plain arguments, `each`, `vectorized`, `retry_on`), as plain data. Decides what is registered, and what a
client or worker is told of what is not. Refuses to know jobs and nodes.
"""

from __future__ import annotations

import importlib
import operator
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from stealmesh.tasks import Each, RetryOn, Star, Vectorized
from stealmesh_protocol import values
from stealmesh_protocol.data_only import RAISED_AS_THEMSELVES
from stealmesh_protocol.errors import CannotShip, NotRegistered, RemoteProtocolError

MARK = b"\xc1stealmesh-by-name\n"
"""Before a named function. No pickle and no msgpack begins with this octet."""

ALWAYS = ("add", "mul", "and_", "or_", "xor", "concat")
DEPTH_MAX = 8
NAME_CHARS_SHOWN = 200


class Registry:
    """The functions that one process has by name."""

    def __init__(self, modules: Iterable[str]) -> None:
        """Imports the modules, which runs them. Raises what they raise, and ValueError for one without functions."""
        self.modules = tuple(dict.fromkeys(modules))
        self._by_name: dict[str, Callable[..., Any]] = {
            f"operator:{name}": getattr(operator, name) for name in ALWAYS
        }
        for name in self.modules:
            found = shown_by(importlib.import_module(name))
            if not found:
                raise ValueError(f"functions: {name} has no public functions of its own")
            self._by_name |= {f"{name}:{each}": function for each, function in found.items()}
        self._names = {id(function): name for name, function in self._by_name.items()}

    # ------------------------------------------------------------ to the mesh

    def packed(self, function: Any) -> bytes:
        """The function as it travels. Raises NotRegistered, and CannotShip for an argument that is no plain data."""
        _, blob = values.pack(self._said(function), plain_only=True)
        return MARK + blob

    def _said(self, function: Any) -> list[Any]:
        name = self._names.get(id(function))
        if name is not None:
            return ["name", name]
        match function:
            case partial():
                inner = self._said(function.func)
                return ["partial", inner, list(function.args), dict(function.keywords)]
            case Star() | Vectorized():
                kind = "star" if isinstance(function, Star) else "vectorized"
                return [kind, self._said(function.function)]
            case Each():
                return ["each", self._said(function.expand), self._said(function.combine)]
            case RetryOn():
                return ["retry", self._said(function.function), _kinds_said(function.kinds)]
        raise NotRegistered(_shown(function))

    # ------------------------------------------------------------ from the mesh

    def opened(self, blob: bytes) -> Callable[..., Any]:
        """Raises NotRegistered for what is no name of ours, RemoteProtocolError for what is no name."""
        if not blob.startswith(MARK):
            raise NotRegistered("a function that travels as code")
        return self._meant(values.unpack(values.PLAIN, blob[len(MARK) :], plain_only=True), 0)

    def _meant(self, said: Any, depth: int) -> Callable[..., Any]:
        if depth > DEPTH_MAX:
            raise RemoteProtocolError("function", "a named function is nested too deeply")
        match said:
            case ["name", str(name)]:
                if name not in self._by_name:
                    raise NotRegistered(name[:NAME_CHARS_SHOWN])
                return self._by_name[name]
            case ["partial", inner, list(args), dict(keywords)]:
                return partial(self._meant(inner, depth + 1), *args, **keywords)
            case ["star", inner]:
                return Star(self._meant(inner, depth + 1))
            case ["vectorized", inner]:
                return Vectorized(self._meant(inner, depth + 1))
            case ["each", expand, combine]:
                return Each(self._meant(expand, depth + 1), self._meant(combine, depth + 1))
            case ["retry", inner, list(kinds)] if RAISED_AS_THEMSELVES.keys() >= set(kinds):
                meant = tuple(RAISED_AS_THEMSELVES[kind] for kind in kinds)
                return RetryOn(self._meant(inner, depth + 1), meant)
        raise RemoteProtocolError("function", "this names no function")


def shown_by(module: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions that a module shows, by their names in it."""
    listed = getattr(module, "__all__", None)
    found = {}
    for name in vars(module) if listed is None else listed:
        value = getattr(module, name, None)
        if not callable(value) or isinstance(value, type):
            continue
        if listed is None and (
            name.startswith("_") or getattr(value, "__module__", None) != module.__name__
        ):
            continue
        found[name] = value
    return found


def _kinds_said(kinds: Iterable[type[BaseException]]) -> list[str]:
    for kind in kinds:
        if RAISED_AS_THEMSELVES.get(kind.__name__) is not kind:
            raise CannotShip(
                f"retry_on: {kind.__name__} is none of Python's own exceptions, and a data-only mesh sends "
                "no classes: name the one that it descends from",
                kind.__name__,
            )
    return [kind.__name__ for kind in kinds]


def _shown(function: Any) -> str:
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}:{name}"
