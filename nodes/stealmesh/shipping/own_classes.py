"""What a class of the program's file has become, beside what the file's text makes of it.

Decides which attributes go along with such a class, also for classes inside of it (`Inner.x`): what was set, what
was deleted, other bases. What differed once and is again as the text makes it goes as ORIGINAL. Refuses to know how
they are packed (packing.py) and put in place (opening.py).

The text does not tell all that a class statement makes: decorators, metaclasses and `__init_subclass__` add to it.
So each class is remembered as it was at the first look. What cannot be pickled stays at home, unless it
takes the place of something that could not be compared either: never an old value in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import cleandoc
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from stealmesh.shipping.bindings import Imported, ModuleText
from stealmesh.shipping.bundle import is_installed
from stealmesh.shipping.change_watch import ChangeWatch
from stealmesh.shipping.dispatching import registry_of
from stealmesh.shipping.opening import ABSENT, ORIGINAL
from stealmesh.shipping.pickler import dump
from stealmesh.shipping.reach import (
    Reach,
    asks_for_subclasses,
    functions_in,
    need_subclasses,
    walk,
    walk_all,
)
from stealmesh.shipping.source import Source
from stealmesh.shipping.variables import is_home_of, is_plain, refuse_futures

OF_SLOTS = (MemberDescriptorType, GetSetDescriptorType)
_MISSING = object()


@dataclass(slots=True)
class _Memory:
    """One class, for as long as its name means this class."""

    cls: type
    first: dict[str, Any]
    """What it had at the first look."""
    bases: tuple[type, ...]
    differed: set[str] = field(default_factory=set)
    """What some worker may have otherwise than the text makes it. An empty name is the class itself."""


_memories: dict[tuple[str, str], _Memory] = {}


def memory_of(cls: type) -> _Memory:
    key = (cls.__module__, cls.__qualname__)
    known = _memories.get(key)
    if known is None or known.cls is not cls:
        known = _memories[key] = _Memory(cls, dict(vars(cls)), cls.__bases__)
    return known


def changes_of(cls: type, source: Source, text: ModuleText, reach: Reach) -> dict[str, Any] | None:
    """The attributes of the class that differ from its text. None: it is not the class in the text."""
    for base in (*cls.__mro__[1:], type(cls)):
        reach.reaches(base)
        if reach.sends(base.__module__):
            reach.needs[base.__module__, base.__qualname__.partition(".")[0]] = None
        elif reach.watches(base.__module__):
            walk(base, reach)
    return ClassLook(cls, source, text, reach).changes()


class ClassLook:
    """A look at one class of the program's file."""

    def __init__(self, cls: type, source: Source, text: ModuleText, reach: Reach) -> None:
        self._cls = cls
        self._source = source
        self._text = text
        self._reach = reach
        self._memory = memory_of(cls)
        self._methods = text.methods_of(cls.__qualname__)
        self._kept = 0
        self._changes: dict[str, Any] = {}

    def changes(self) -> dict[str, Any] | None:
        for name, value in list(vars(self._cls).items()):
            refuse_futures(f"{self._cls.__qualname__}.{name}", value)
            self._attribute(name, value)
        differed = self._memory.differed
        if self._methods and not self._kept:
            differed.add("")
            return None
        if hasattr(self._cls, "__members__"):
            return {name: value for name, value in self._changes.items() if functions_in(value)}
        self._changes |= changes_of_statement(self._cls, self._text)
        again = sorted(differed - self._changes.keys())
        differed.update(self._changes)
        return {**dict.fromkeys(again, ORIGINAL), **self._changes}

    # ------------------------------------------------------------ attributes

    def _attribute(self, name: str, value: Any) -> None:
        found = functions_in(value)
        if found:
            walk_all(found, self._reach)
            if asks_for_subclasses(found):
                need_subclasses(self._cls, self._reach)
            written = self._is_as_written(name, value, found)
            if not written or registry_of(value) is not None:
                self._changes[name] = value
            self._kept += written and name in self._methods
        elif isinstance(value, type):
            self._class_inside(name, value)
        elif name.startswith("__") or isinstance(value, OF_SLOTS):
            if name in self._methods:
                self._changes[name] = value
        elif (
            is_plain(value)
            or name in self._methods
            or is_other(self._cls, name, value, self._text, self._reach)
        ):
            self._changes[name] = value
            self._reach.watch.value(value)

    def _class_inside(self, name: str, inner: type) -> None:
        qualname = f"{self._cls.__qualname__}.{name}"
        if not is_home_of(inner, self._cls.__module__, qualname):
            walk(inner, self._reach)
            if not name.startswith("__") and is_other(
                self._cls, name, inner, self._text, self._reach
            ):
                self._changes[name] = inner
            return
        self._reach.watch.klass(inner)
        changed = changes_of(inner, self._source, self._text, self._reach)
        if changed is None:
            self._changes[name] = inner
        else:
            self._changes |= {f"{name}.{path}": value for path, value in changed.items()}

    def _is_as_written(self, name: str, value: Any, found: list[FunctionType]) -> bool:
        codes = [function.__code__ for function in found]
        if name in self._methods:
            inside = self._cls.__qualname__ + "."
            return any(
                code in self._source.codes
                and getattr(code, "co_qualname", inside).startswith(inside)
                for code in codes
            )
        # A dataclass's `__init__`, what a decorator adds: made with the class, if it was there at first.
        is_first = self._memory.first.get(name) is value
        if all(is_installed(code.co_filename) for code in codes):
            return is_first or not travels(value, self._reach)
        inner = any("<locals>" in function.__qualname__ for function in found)
        return is_first and inner and name.startswith("__")


# ---------------------------------------------------------------- of classes of all the program's modules


def is_other(cls: type, name: str, value: Any, text: ModuleText, reach: Reach) -> bool:
    """Is it, as far as we can tell, not what the class statement makes?"""
    before = memory_of(cls).first.get(name, _MISSING)
    if before is value:
        made = text.makes_attribute(cls, name, value, [])
        added = not text.binds_attribute(cls, name) and _is_plainly_made(cls, text)
        return (added or made is Imported.NO) and travels(value, reach)
    if before is _MISSING or is_plain(before):
        return travels(value, reach)
    return True


def _is_plainly_made(cls: type, text: ModuleText) -> bool:
    """Does the class have just what its statement says?"""
    if type(cls) is not type or not text.is_plain_class(cls.__qualname__):
        return False
    is_pythons_own = getattr(cls.__init_subclass__, "__func__", None) is None
    written = text.bases_of(cls.__qualname__) or ["object"]
    return is_pythons_own and [each.__name__ for each in cls.__bases__] == written


def travels(value: Any, reach: Reach) -> bool:
    """Can it be pickled? A connection, say, is each process's own."""
    aside = Reach(ChangeWatch(room=0), no_ship=reach.no_ship)
    try:
        dump(value, aside)
    except Exception:  # noqa: BLE001 - pickling runs the object's own code
        return False
    return True


def changes_of_statement(cls: type, text: ModuleText) -> dict[str, Any]:
    """Another docstring, other bases, and what is gone."""
    qualname, changes = cls.__qualname__, dict[str, Any]()
    doc = vars(cls).get("__doc__")
    if (
        isinstance(doc, str | None)
        and text.has_class(qualname)
        and _differ(doc, text.doc_of(qualname))
    ):
        changes["__doc__"] = doc
    if cls.__bases__ is not memory_of(cls).bases or _were_set(cls, text):
        changes["__bases__"] = cls.__bases__
    gone = [name for name in text.attributes_of(qualname) if name not in vars(cls)]
    return changes | dict.fromkeys(gone, ABSENT)


def _differ(doc: str | None, written: str | None) -> bool:
    if doc is None or written is None:
        return doc is not written
    return cleandoc(doc) != cleandoc(written)  # from 3.13 on it is not indented


def _were_set(cls: type, text: ModuleText) -> bool:
    """Had its bases been set before the first look? Told by names where the text has only names."""
    written = text.bases_of(cls.__qualname__)
    if not written or type(cls) is not type or "__orig_bases__" in vars(cls):
        return False
    named = [text.module.__dict__.get(name) for name in written]
    are_classes = all(
        isinstance(each, type) and each.__name__ == name
        for each, name in zip(named, written, strict=True)
    )
    return are_classes and [each.__name__ for each in cls.__bases__] != written
