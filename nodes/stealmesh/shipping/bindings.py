"""What the text of one of the program's modules binds to its names, as far as that shows without running it.

Decides whether a variable, or an attribute of a class, is what importing the module makes of it: then
workers have it. Refuses to know how the others travel (elsewhere.py). It says YES or NO only where it is
sure. A name with several statements is what any of them makes.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from types import FunctionType, ModuleType
from typing import Any

from stealmesh.shipping.source import ast_text

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.Try, ast.With, ast.For, ast.While)
_BINDS_UNSEEN = frozenset({"globals", "vars", "setattr", "exec", "locals", "modules"})
"""A module that mentions one of these may bind more than its text says."""


class Imported(Enum):
    """Is it what an import makes?"""

    YES = auto()
    NO = auto()
    UNKNOWN = auto()


class ModuleText:
    """The statements of one module."""

    def __init__(self, module: ModuleType, text: str | None) -> None:
        self.module = module
        self.path = str(getattr(module, "__file__", "") or "")
        self._bound: dict[str, list[ast.AST]] = {}
        self._classes: dict[str, dict[str, list[ast.AST]]] = {}
        self._statements: dict[str, list[ast.ClassDef]] = {}
        self._always: list[str] = []
        """Names that are bound outside of branches and are not deleted again."""
        self._restless: set[str] = set()
        """Names that a function of the module rebinds, or that something deletes."""
        self._differed: dict[str, None] = {}
        self._opaque = text is None
        """It may bind names that we do not see."""
        if text is not None:
            self._read(text)

    def _read(self, text: str) -> None:
        try:
            tree = ast.parse(text)
        except SyntaxError:  # it was edited since
            self._opaque = True
            return
        for node in ast.walk(tree):
            named = getattr(node, "id", None) or getattr(node, "attr", None)
            self._opaque |= named in _BINDS_UNSEEN
            if isinstance(node, ast.Global):
                self._restless.update(node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                self._restless.add(node.id)
        for name, binder in _bound_in(tree.body):
            self._opaque |= name == "*"
            self._bound.setdefault(name, []).append(binder)
            if isinstance(binder, ast.ClassDef):
                self._read_class(name, binder)

        straight = [each for each in tree.body if not isinstance(each, _BLOCKS)]
        self._always = [
            name
            for name, binder in _bound_in(straight)
            if name not in self._restless and not _is_bare(binder)
        ]

    def _read_class(self, qualname: str, statement: ast.ClassDef) -> None:
        attributes = self._classes.setdefault(qualname, {})
        self._statements.setdefault(qualname, []).append(statement)
        for name, inner in _bound_in(statement.body):
            attribute = _mangled(name, statement.name)
            attributes.setdefault(attribute, []).append(inner)
            if isinstance(inner, ast.ClassDef):
                self._read_class(f"{qualname}.{attribute}", inner)

    # ------------------------------------------------------------ variables

    def makes(self, name: str, value: Any) -> Imported:
        """Does importing the module bind this value to the name?"""
        binders = self._bound.get(name)
        if binders is not None:
            made = _any_of(self._binds(name, binder, value) for binder in binders)
        else:
            made = Imported.UNKNOWN if self._opaque else Imported.NO
        if made is Imported.UNKNOWN and (_is_of_main(value) or _is_of_main(type(value))):
            return Imported.NO  # no import in a worker meets the program's own file
        return made

    def names_that_differ(self) -> list[str]:
        """Those that the module has and its text does not bind, or the other way round. A name that was seen to
        differ is one of them from then on."""
        if self._opaque:
            return []
        inside = self.module.__dict__
        fresh = [name for name in list(inside) if name not in self._bound and self._is_set(name)]
        gone = [name for name in self._always if name not in inside]
        self._differed.update(dict.fromkeys(fresh + gone))
        return list(self._differed)

    def _is_set(self, name: str) -> bool:
        """Python and pytest set some names, an import those of a package's parts, and the module its own."""
        part = isinstance(self.module.__dict__.get(name), ModuleType)
        pythons = not name.isidentifier() or (name.startswith("__") and name.endswith("__"))
        return not part and not pythons and name not in self._restless

    def is_deleted(self, name: str) -> bool:
        """Does an import bind it, in any case, and the program has not got it?"""
        return not self._opaque and name in self._always and name not in self.module.__dict__

    def defines(self, name: str) -> bool:
        """Is it bound by `def`, `class` or an import, and by nothing else?"""
        kinds = (*_DEFINITIONS, ast.ImportFrom, ast.Import)
        binders = self._bound.get(name, [])
        return bool(binders) and all(isinstance(each, kinds) for each in binders)

    def _binds(self, name: str, binder: ast.AST, value: Any) -> Imported:
        if isinstance(binder, _DEFINITIONS):
            if _is_home(self.module, name, value):
                return Imported.YES
            return self._decorated(name, value) if binder.decorator_list else Imported.NO
        if isinstance(binder, ast.ImportFrom):
            return self._imports(binder, name, value)
        if isinstance(binder, ast.Import):
            return Imported.YES if isinstance(value, ModuleType) else Imported.NO
        of = getattr(binder, "value", None)
        if isinstance(of, ast.Name) and of.id != name and of.id in self._bound:
            return self.makes(of.id, value)  # another name for it
        return _literal(binder, value)

    def _decorated(self, name: str, value: Any) -> Imported:
        """A decorator may make anything of a definition. It mostly keeps its name."""
        inner = getattr(value, "__wrapped__", None)
        if inner is not None and _is_home_name(self.module, name, inner):
            return Imported.YES
        return Imported.UNKNOWN

    def _imports(self, binder: ast.ImportFrom, name: str, value: Any) -> Imported:
        if isinstance(value, ModuleType):
            return Imported.YES
        original = next(
            (each.name for each in binder.names if (each.asname or each.name) == name), name
        )
        where = "." * binder.level + (binder.module or "")
        try:
            found = importlib.util.resolve_name(where, self.module.__package__ or "")
        except ImportError:
            return Imported.UNKNOWN
        there = sys.modules.get(found)
        if there is None or not hasattr(there, original):
            return Imported.UNKNOWN
        return Imported.YES if getattr(there, original) is value else Imported.NO

    # ------------------------------------------------------------ attributes of classes

    def makes_attribute(
        self, cls: type, attribute: str, value: Any, functions: list[FunctionType]
    ) -> Imported:
        """Does the class statement give the class this attribute? `functions`: those behind the value."""
        binders = self._classes.get(cls.__qualname__, {}).get(attribute)
        if binders is None:
            if functions:
                return Imported.NO if any(map(_is_of_main, functions)) else Imported.UNKNOWN
            return Imported.UNKNOWN
        if any(isinstance(each, _DEFINITIONS) for each in binders) and functions:
            inside = cls.__qualname__ + "."
            written = any(
                each.__code__.co_filename == self.path
                and each.__code__.co_qualname.startswith(inside)
                for each in functions
            )
            return Imported.YES if written else Imported.NO
        return _any_of(_literal(each, value) for each in binders)

    def binds_attribute(self, cls: type, attribute: str) -> bool:
        return attribute in self._classes.get(cls.__qualname__, {})

    def attributes_of(self, qualname: str) -> list[str]:
        """What the class statement gives a value; not what it only annotates."""
        return [
            attribute
            for attribute, binders in self._classes.get(qualname, {}).items()
            if not all(map(_is_bare, binders))
        ]

    def methods_of(self, qualname: str) -> set[str]:
        """The methods that the class statement defines by `def`."""
        return {
            attribute
            for attribute, binders in self._classes.get(qualname, {}).items()
            if any(isinstance(each, _FUNCTIONS) for each in binders)
        }

    # ------------------------------------------------------------ class statements

    def is_plain_class(self, qualname: str) -> bool:
        """Is there one statement that makes it, with nothing that could add to it?"""
        statements = self._statements.get(qualname, [])
        return (
            len(statements) == 1
            and not self._opaque
            and not statements[0].decorator_list
            and not statements[0].keywords
        )

    def has_class(self, qualname: str) -> bool:
        return qualname in self._statements

    def bases_of(self, qualname: str) -> list[str]:
        """The names of its bases. Empty: none, or not all of them are names."""
        statements = self._statements.get(qualname, [])
        bases = statements[0].bases if len(statements) == 1 else []
        names = [base.id for base in bases if isinstance(base, ast.Name)]
        return names if len(names) == len(bases) else []

    def doc_of(self, qualname: str) -> str | None:
        statements = self._statements.get(qualname)
        return ast.get_docstring(statements[-1]) if statements else None


def _is_bare(binder: ast.AST) -> bool:
    """Does it only annotate?"""
    return isinstance(binder, ast.AnnAssign) and binder.value is None


def _mangled(name: str, cls: str) -> str:
    """Python's names for what is private to a class."""
    private = name.startswith("__") and not name.endswith("__") and cls.strip("_")
    return f"_{cls.lstrip('_')}{name}" if private else name


def _any_of(found: Iterable[Imported]) -> Imported:
    each = set(found)
    return next((one for one in (Imported.UNKNOWN, Imported.YES) if one in each), Imported.NO)


def _literal(binder: ast.AST, value: Any) -> Imported:
    """Is the value that of a literal in the text?"""
    if not isinstance(binder, ast.Assign | ast.AnnAssign) or binder.value is None:
        return Imported.UNKNOWN
    try:
        written = ast.literal_eval(binder.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Imported.UNKNOWN
    if type(written) is not type(value):
        return Imported.NO
    return Imported.YES if _same(written, value) else Imported.NO


def _same(written: Any, value: Any) -> bool:
    """Compares plain values by what they show, so that 1 and True differ, and no user code runs."""
    if isinstance(written, list | tuple):
        return len(written) == len(value) and all(
            type(a) is type(b) and _same(a, b) for a, b in zip(written, value, strict=True)
        )
    if isinstance(written, dict):
        ours, theirs = list(written.items()), list(value.items())
        return _same([list(pair) for pair in ours], [list(pair) for pair in theirs])
    if isinstance(written, set):
        return written == value if all(type(each) in (int, str) for each in value) else False
    return repr(written) == repr(value)


def _bound_in(statements: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """(name, statement) for all that a body binds, also in branches; a star import binds `*`."""
    for statement in statements:
        if isinstance(statement, _DEFINITIONS):
            yield statement.name, statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0], statement
        elif isinstance(statement, _BLOCKS):
            yield from _bound_in_block(statement)
        else:
            yield from _stored_by(statement)


def _bound_in_block(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    for field in ("target", "items"):
        inner = getattr(statement, field, None)
        for node in inner if isinstance(inner, list) else [inner]:
            if isinstance(node, ast.AST):
                yield from _stored_by(node)
    for field in ("body", "orelse", "finalbody"):
        yield from _bound_in(getattr(statement, field, []))
    for handler in getattr(statement, "handlers", []):
        yield from _bound_in(handler.body)


def _stored_by(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """A single `name = value` is told apart from all else that stores names."""
    single = isinstance(node, ast.AnnAssign) or (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
    )
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id, node if single else inner


def _is_home(module: ModuleType, name: str, value: Any) -> bool:
    """Does the value say of itself that it is this global of the module?"""
    return isinstance(value, type | FunctionType) and _is_home_name(module, name, value)


def _is_home_name(module: ModuleType, name: str, value: Any) -> bool:
    return (
        getattr(value, "__qualname__", None) == name
        and getattr(value, "__module__", None) == module.__name__
    )


def _is_of_main(value: Any) -> bool:
    return isinstance(value, type | FunctionType) and value.__module__ == "__main__"


_texts: dict[str, ModuleText] = {}


def text_of(module: ModuleType) -> ModuleText:
    """The statements of a module, read once."""
    known = _texts.get(module.__name__)
    if known is None or known.module is not module:
        known = _texts[module.__name__] = ModuleText(module, _read_source(module))
    return known


def _read_source(module: ModuleType) -> str | None:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or not path.endswith((".py", ".pyw")):
        return None
    try:
        with open(path, "rb") as file:
            return ast_text(file.read())
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return None
