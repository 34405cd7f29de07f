"""The function of `stealmesh run`: from `module:function` to a function that can be called.

Also `package.module:Class.method` and `path/file.py:function`. Importing the module runs its code here;
an exception in it ends the command with one line.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from stealmesh.cli.exits import USAGE, CommandEnded


def find(name: str) -> tuple[Callable[[Any], Any], ModuleType]:
    """The function that is called `module:function` or `file.py:function`, and its module.

    Puts the directory of the module on `sys.path`. Raises CommandEnded with the remedy.
    """
    where, colon, attribute = name.rpartition(":")
    if not (where and colon and attribute):
        raise CommandEnded(USAGE, f"{name!r} names no function: write {_meant(name)}")
    root, module_name, file = working_directory(), where, None
    if where.endswith(".py") or os.sep in where:
        root, module_name, file = _in_file(where, attribute)
    if root and root not in sys.path:
        sys.path.insert(0, root)
    module = _imported(module_name, root)
    if file is not None and not _is_file(module, file):
        raise CommandEnded(
            USAGE,
            f"{file} cannot be imported: another module is called {module_name}; rename the file",
        )
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        others = [each for each, value in vars(module).items() if _is_own(value, module)]
        close = difflib.get_close_matches(attribute, others, 1) or others[:5]
        hint = f"; it has {', '.join(close)}" if close else ""
        raise CommandEnded(USAGE, f"{where} has no function {attribute!r}{hint}")
    return found, module


def working_directory() -> str:
    """Empty: it was deleted, and nothing can be imported from there."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _imported(name: str, root: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        places = (
            f"{root} and the Python path"
            if root
            else "the Python path alone: the working directory is gone"
        )
        raise CommandEnded(USAGE, f"cannot import {name}: {error} (looked in {places})") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  the user's code ran
        at = traceback.extract_tb(error.__traceback__)[-1]
        text, line = str(error), f"{at.filename}, line {at.lineno}"
        if isinstance(error, SyntaxError):
            text, line = error.msg, f"{error.filename}, line {error.lineno}"
        hint = ""
        if isinstance(error, SystemExit):
            hint = ': put what is not to run on import behind `if __name__ == "__main__":`'
        raise CommandEnded(
            USAGE, f"importing {name} ends with {type(error).__name__}: {text} ({line}){hint}"
        ) from None


def _in_file(where: str, attribute: str) -> tuple[str, str, Path]:
    """The directory to import from, the module's name there (with its packages), and its file."""
    path = Path(os.path.expanduser(where))
    if not path.suffix:
        path = path.with_suffix(".py")
    with contextlib.suppress(
        FileNotFoundError
    ):  # the working directory is gone, and all files in it
        path = path.absolute()
    if not path.is_file():
        raise CommandEnded(
            USAGE, f"there is no file {path}: write file.py:{attribute} or module:{attribute}"
        )
    names = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while (root / "__init__.py").exists():
        names.insert(0, root.name)
        root = root.parent
    unfit = next((each for each in names if not each.isidentifier()), "")
    if unfit or path.suffix != ".py":
        raise CommandEnded(
            USAGE,
            f"{path} cannot be imported: {unfit or path.name!r} cannot be the name of a module; rename it",
        )
    return str(root), ".".join(names), path


def _is_file(module: ModuleType, file: Path) -> bool:
    found = getattr(module, "__file__", None)
    return found is not None and Path(found).resolve() == file.resolve()


def _meant(name: str) -> str:
    """What a text without a colon probably means."""
    if name.endswith(".py"):
        return f"{name}:function"
    module, dot, attribute = name.rpartition(".")
    return f"{module}:{attribute}" if dot and module else "module:function"


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
