"""What the program's file puts into modules that are not its own: `json.JSONEncoder.default = mine` at its head.

A forked child has such patches, a spawned one makes them again, and so the program's functions count on them. Decides
which there are, by the assignments in the text of the program's file to an attribute of a module or class that workers
import from elsewhere, and takes what is there now. What is assigned elsewhere, or cannot be pickled, is the program's
own. Refuses to know how patches travel (packing.py) and are put in place (opening.py).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from stealmesh.shipping.opening import ORIGINAL
from stealmesh.shipping.reach import Reach
from stealmesh.shipping.source import Source
from stealmesh.shipping.variables import is_home_of

Patch = tuple[str, tuple[str, ...], Any]
"""Module, path in it, value (ORIGINAL: what the import makes)."""

_OURS_TO_SAY = ("sys", "stealmesh", "stealmesh_engine", "stealmesh_protocol")
"""Streams, paths and hooks of a worker are its node's."""

_read: tuple[Source | None, tuple[tuple[str, ...], ...]] = (None, ())


def patches_of(source: Source | None, names: dict[str, Any], reach: Reach) -> Iterator[Patch]:
    """Those of the program's file, with the values that they have now. `names`: the file's variables."""
    for path in () if source is None else _assigned(source):
        patch = _patch(path, names, reach)
        if patch is not None:
            yield patch


def _assigned(source: Source) -> tuple[tuple[str, ...], ...]:
    """The dotted names that the file assigns to, read once."""
    global _read
    if _read[0] is not source:
        found = dict.fromkeys(_paths_in(ast.parse(source.text)))
        _read = (source, tuple(found))
    return _read[1]


def _paths_in(text: ast.Module) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(text):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            path = _path(node)
            if path:
                yield path


def _path(node: ast.expr) -> tuple[str, ...]:
    """Empty: it is no dotted name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if not isinstance(node, ast.Attribute):
        return ()
    before = _path(node.value)
    return (*before, node.attr) if before else ()


def _patch(path: tuple[str, ...], names: dict[str, Any], reach: Reach) -> Patch | None:
    """None: it goes to an object of the program's own, or is not there (any more)."""
    first, *inside, last = path
    target = _inside(names.get(first), inside)
    if isinstance(target, ModuleType):
        home, around = target.__name__, []
    elif isinstance(target, type) and isinstance(target.__module__, str):
        home, around = target.__module__, target.__qualname__.split(".")
    else:
        return None
    if home.partition(".")[0] in _OURS_TO_SAY or reach.watches(home) or reach.sends(home):
        return None
    if _inside(sys.modules.get(home), around) is not target or last not in vars(target):
        return None
    reach.watch.attribute(target, last)
    value = vars(target)[last]
    way = (*around, last)
    return home, way, ORIGINAL if is_home_of(value, home, ".".join(way)) else value


def _inside(target: Any, names: list[str]) -> Any:
    """What modules and classes have there. None: nothing, or there is something else on the way."""
    for name in names:
        if not isinstance(target, ModuleType | type):
            return None
        target = vars(target).get(name)
    return target
