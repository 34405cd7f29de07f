"""The text of the program's own file, and how a worker makes single definitions of it.

A worker never runs the file: it may have no `if __name__ == "__main__"`, and half of its statements
are the program's business (it starts a mesh, it opens its output). It executes the very statements
that bind the names it needs, in their order, and what these statements need in turn. So a lock, a
class with `__slots__` or a decorated function is made in the worker as it was made in the program.

Refuses to know which names a worker makes this way (packing.py) and where it puts them (opening.py).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cached_property
from types import CodeType, ModuleType
from typing import Any

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_QUIET = (*_DEFINITIONS, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Pass)
RETRIES_MAX = 64


def text_of_main(module: ModuleType) -> str | None:
    """The text of the program's file; None where there is none (a notebook, standard input)."""
    path = getattr(module, "__file__", None)
    if path is None:
        return _text_of_dash_c()
    try:
        with open(path, "rb") as file:
            return ast_text(file.read())
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        pass
    get_source = getattr(getattr(module, "__loader__", None), "get_source", None)
    try:
        text = get_source(module.__name__) if get_source is not None else None
    except (ImportError, OSError, SyntaxError, UnicodeDecodeError):
        return None
    return text if isinstance(text, str) else None


def ast_text(source: bytes) -> str:
    """Decoded as Python does it. Raises SyntaxError, UnicodeDecodeError."""
    import importlib.util

    return importlib.util.decode_source(source)


def _text_of_dash_c() -> str | None:
    given = sys.orig_argv
    if not sys.argv or sys.argv[0] != "-c" or "-c" not in given:
        return None
    at = given.index("-c")
    return given[at + 1] if at + 1 < len(given) else None


def codes_in(source: str | bytes, path: str) -> set[CodeType]:
    """All code objects that this text compiles to. Raises SyntaxError."""
    found: set[CodeType] = set()
    waiting = [compile(source, path, "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        found.add(code)
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


class Source:
    """One file's text, taken apart."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self._done: set[int] = set()
        """Statements that have been executed here, by their place."""

    @cached_property
    def statements(self) -> list[ast.stmt]:
        try:
            return ast.parse(self.text).body
        except SyntaxError:  # it was edited since
            return []

    @cached_property
    def codes(self) -> set[CodeType]:
        try:
            return codes_in(self.text, self.path)
        except SyntaxError:
            return set()

    @cached_property
    def _flags(self) -> int:
        """`from __future__ import` goes for the whole file."""
        flags = 0
        for statement in self.statements:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                import __future__

                for alias in statement.names:
                    flags |= getattr(__future__, alias.name).compiler_flag
        return flags

    @cached_property
    def _binders(self) -> dict[str, list[int]]:
        """Which statements bind which name."""
        binders: dict[str, list[int]] = {}
        for at, statement in enumerate(self.statements):
            if _is_quiet(statement):
                for name in _bound_by(statement):
                    binders.setdefault(name, []).append(at)
        return binders

    @cached_property
    def restless(self) -> set[str]:
        """Names that a function of the file rebinds, or that only code under a guard binds."""
        names: set[str] = set()
        for statement in self.statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Global):
                    names.update(node.names)
            if not _is_quiet(statement):
                names.update(_bound_by(statement))
        return names

    def binds(self, name: str) -> bool:
        return name in self._binders

    def defines_class(self, name: str) -> bool:
        """Is this a class statement of the file, at its top?"""
        return any(
            isinstance(node, ast.ClassDef) and node.name == name
            for at in self._binders.get(name, ())
            for node in _tops(self.statements[at])
        )

    # ------------------------------------------------------------ in a worker

    def make(self, name: str, names: dict[str, Any]) -> bool:
        """Execute the statements that bind this name, and those that they need. False: there is none."""
        places = self._binders.get(name)
        if not places:
            return False
        for at in places:
            self._execute(at, names)
        if all(isinstance(self.statements[at], ast.Import | ast.ImportFrom) for at in places):
            return name in names  # `@functools.singledispatch` adds nothing to functools
        for at, statement in enumerate(self.statements):
            if at not in self._done and name in _registers_with(statement):
                self._execute(at, names)
        return name in names

    def _execute(self, at: int, names: dict[str, Any]) -> None:
        if at in self._done:
            return
        self._done.add(at)
        statement = self.statements[at]
        for needed in sorted(_needed_at_once(statement)):
            if needed not in names:
                self.make(needed, names)
        module = ast.Module([statement], [])
        code = compile(module, self.path, "exec", self._flags, dont_inherit=True)
        try:
            self._run(code, names)
        except BaseException:
            self._done.discard(at)
            raise

    def _run(self, code: CodeType, names: dict[str, Any]) -> None:
        """Run the statement. It may call a function that needs a name not made yet: make it, and run again."""
        for _ in range(RETRIES_MAX):
            try:
                exec(code, names)
                return
            except NameError as error:
                missing = error.name
                if not missing or missing in names or not self.make(missing, names):
                    raise
        exec(code, names)


def _is_quiet(statement: ast.stmt) -> bool:
    """Does the statement only define names? False for guards (`if __name__ ...`) and their bodies."""
    if isinstance(statement, _QUIET):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.If):
        names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
        return "__name__" not in names and _are_quiet(statement.body + statement.orelse)
    if isinstance(statement, ast.Try):
        handled = [each for handler in statement.handlers for each in handler.body]
        return _are_quiet(statement.body + handled + statement.orelse + statement.finalbody)
    return False


def _are_quiet(statements: list[ast.stmt]) -> bool:
    return all(map(_is_quiet, statements))


def _tops(statement: ast.stmt) -> Iterator[ast.stmt]:
    """The statement and those in its branches, not what is inside of functions and classes."""
    yield statement
    if isinstance(statement, _DEFINITIONS):
        return
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield from _tops(child)
        elif isinstance(child, ast.ExceptHandler):
            for inner in child.body:
                yield from _tops(inner)


def _bound_by(statement: ast.stmt) -> set[str]:
    names: set[str] = set()
    for top in _tops(statement):
        if isinstance(top, _DEFINITIONS):
            names.add(top.name)
        elif isinstance(top, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in top.names)
        else:
            for node in _outside_of_functions(top):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
    return names


def _needed_at_once(statement: ast.stmt) -> set[str]:
    """Names that the statement looks up while it runs, not later when its definitions are called."""
    return {
        node.id
        for node in _outside_of_functions(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(node, _FUNCTIONS):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _outside_of_functions(child)


def _registers_with(statement: ast.stmt) -> set[str]:
    """`@area.register` adds to what `area` is, although it binds another name."""
    names: set[str] = set()
    if isinstance(statement, _DEFINITIONS):
        for decorator in statement.decorator_list:
            node = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names.add(node.value.id)
    return names
