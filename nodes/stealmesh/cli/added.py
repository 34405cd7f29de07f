"""Commands that other packages add to `stealmesh`, found by entry points of the group `stealmesh.commands`.

An entry point names a function `command(argv) -> exit status or None`; the first line of its docstring
is the summary in `stealmesh --help`. Decides where the entry points are read: in the metadata of the
installed packages and, in a clone that was never installed, in the clone's own pyproject.toml. Refuses
to know what the commands do. The idea is that of pytest's and tox's plugins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "stealmesh.commands"
CLONE = Path(__file__).resolve().parents[3]


AddedCommand = Callable[[list[str]], int | None]
"""Runs a command with the arguments behind its name; may raise SystemExit, as argparse does."""


def added_commands(clone: Path = CLONE) -> dict[str, AddedCommand]:
    """Name → command, for all entry points that can be imported."""
    commands: dict[str, AddedCommand] = {}
    for point in entry_points(group=GROUP) or in_clone(clone):
        try:
            commands[point.name] = point.load()
        except ImportError:  # named in the metadata, and not installed
            continue
    return commands


def summary_of(command: AddedCommand) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(command) or "").partition("\n")[0]


def in_clone(clone: Path) -> Iterable[EntryPoint]:
    """The entry points that the pyproject.toml in this directory declares; none without such a file."""
    import tomllib

    try:
        project = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return []
    if project.get("name") != "stealmesh":
        return []
    declared = project.get("entry-points", {}).get(GROUP, {})
    return [EntryPoint(name, where, GROUP) for name, where in declared.items()]
