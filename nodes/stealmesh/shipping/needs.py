"""Which installed packages a function of the program uses, and in which versions the program has them.

Decides what is worth comparing: the distributions of the top-level modules that the function reaches
or imports by name, but neither the standard library nor modules that travel. Namespace packages have no
known distribution, so we say nothing of them. Refuses to know how versions are found (versions.py).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from types import CodeType

from stealmesh.shipping.bundle import OURS, is_installed
from stealmesh.shipping.versions import KINDS, Need, plain, versions_in

_NEVER = sys.stdlib_module_names | OURS | {"__main__", "__mp_main__", ""}


def needs_of(reached: Iterable[str | type], ship: tuple[str, ...] = ()) -> tuple[Need, ...]:
    """The installed versions of what was reached (names of modules, and types of values)."""
    names = {each if isinstance(each, str) else each.__module__ for each in reached}
    tops = {name.partition(".")[0] for name in names if isinstance(name, str)}
    found = [_distribution_of(top) for top in tops if top not in _NEVER and top not in ship]
    return tuple(sorted(filter(None, found)))


def _distribution_of(top: str) -> Need | None:
    file = getattr(sys.modules[top], "__file__", None) if top in sys.modules else _file_of(top)
    if not isinstance(file, str) or not is_installed(file):
        return None
    return _distribution_at(top, file)


@functools.lru_cache(1024)
def _file_of(top: str) -> str | None:
    """The file of a module that is not imported yet."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if spec is None or not spec.has_location else spec.origin


@functools.lru_cache(1024)
def _distribution_at(top: str, file: str) -> Need | None:
    directory, name = os.path.split(file)
    if name.partition(".")[0] == "__init__":
        directory = os.path.dirname(directory)
    versions = versions_in(directory)
    if not versions:  # nothing was installed there, or it is no directory (`<stdin>`, a zip file)
        return None
    owner = plain(top)
    if owner not in versions:
        owner = _owner_of(top, directory)
    version = versions.get(owner)
    return (owner, version) if version else None


def _owner_of(top: str, directory: str) -> str:
    """The distribution with this module (sklearn is scikit-learn's). Empty: none claims it, or several do."""
    installed = re.compile(rf"^{re.escape(top)}(/__init__)?\.[^/,]*,", re.MULTILINE)
    owners = set()
    try:
        entries = os.listdir(directory)
    except OSError:  # gone since
        return ""
    for entry in entries:
        if entry.endswith(KINDS):
            lists = _text_of(os.path.join(directory, entry, "top_level.txt"))
            if top in lists.split() or (
                not lists and installed.search(_text_of(os.path.join(directory, entry, "RECORD")))
            ):
                owners.add(plain(entry.partition("-")[0]))
    return owners.pop() if len(owners) == 1 else ""


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def imports_in(code: CodeType) -> frozenset[str]:
    """The modules that a function and its inner functions import by name."""
    from opcode import EXTENDED_ARG, opmap

    names: set[str] = set()
    waiting = [code]
    while waiting:
        one = waiting.pop()
        waiting += [const for const in one.co_consts if isinstance(const, CodeType)]
        octets, more = one.co_code, 0
        for at in range(0, len(octets), 2):
            place = octets[at + 1] | more
            more = place << 8 if octets[at] == EXTENDED_ARG else 0
            if octets[at] == opmap["IMPORT_NAME"]:
                names.add(one.co_names[place])
    return frozenset(names)
