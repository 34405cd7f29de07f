"""Puts the compiled core in front of the pure one, if both are made of the same sources.

`stealmesh_protocol` imports this before any of its modules, if it is installed. Decides between the two, once a
process: compiled are either all modules of the list or none. Refuses to guess: with other sources than those that
it is made of, with another Python, or with STEALMESH_PURE in the environment, pure Python runs, and `verdict` says why.

Idea: a second wheel of extension modules alone, after sqlglotc.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGES = ("stealmesh_protocol", "stealmesh_engine", "stealmesh_sim")
PURE = "STEALMESH_PURE"
NOTE = "made_of.json"
LIBRARY = "stealmesh_fast__mypyc"
"""What all compiled modules open."""


def digest_of(packages: Sequence[Path]) -> str:
    """One number for all sources in these directories: names and contents."""
    found = blake2b(digest_size=16)
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            source = path.read_bytes()
            found.update(f"{path.relative_to(package).as_posix()} {len(source)}\n".encode())
            found.update(source)
    return found.hexdigest()


def made_of(packages: Sequence[Path], modules: Sequence[str]) -> str:
    """The note that goes with compiled modules."""
    made = {"sources": digest_of(packages), "python": sys.implementation.cache_tag}
    return json.dumps({**made, "modules": list(modules)}, indent=1)


class Finder:
    """Finds the compiled modules, and no other ones. It stands before Python's own finders."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        place = self._places.get(name)
        return None if place is None else spec_from_file_location(name, place)


def compiled_in(directory: Path) -> dict[str, Path]:
    """Module → its compiled file; those alone that the note names."""
    named = {LIBRARY, *json.loads((directory / NOTE).read_text())["modules"]}
    there = {
        ".".join((*path.relative_to(directory).parent.parts, path.name.partition(".")[0])): path
        for path in directory.rglob("*.so")
    }
    return {name: there[name] for name in sorted(named & there.keys())}


def against(directory: Path, packages: Sequence[Path], environment: Mapping[str, str]) -> str:
    """Why pure Python has to run in place of what is in this directory; empty: no reason."""
    if environment.get(PURE, "") not in ("", "0"):
        return f"{PURE} is set"
    note = directory / NOTE
    if not note.exists():
        return "nothing is compiled here"
    made = json.loads(note.read_text())
    if made["python"] != sys.implementation.cache_tag:
        return f"the other one is compiled for {made['python']}"
    if made["sources"] != digest_of(packages):
        return "the other one is compiled from other sources"
    there = compiled_in(directory)
    missing = [name for name in (LIBRARY, *made["modules"]) if name not in there]
    return f"{missing[0]} is missing from the other one" if missing else ""


def _places() -> list[Path]:
    """Where the pure packages are; the first one is just being imported. Without one the sources are other ones."""
    there = [
        getattr(sys.modules.get(name), "__spec__", None) or find_spec(name) for name in PACKAGES
    ]
    return [Path(spec.origin).parent for spec in there if spec is not None and spec.origin]


_HERE = Path(__file__).parent
_why = against(_HERE, _places(), os.environ)
if not _why:
    sys.meta_path.insert(0, Finder(compiled_in(_HERE)))
verdict = f"pure Python ({_why})" if _why else "compiled"
