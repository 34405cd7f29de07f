"""Data-only mode: the switch that forbids pickle in a whole process, and exceptions as plain data.

Decides nothing but that: a process that has forbidden pickle neither makes nor opens one again, in either
direction. Each door to pickle asks here. The switch is the process's and not a mesh's, so that no path is
left where somebody forgot to hand a flag on. Refuses to know what a function is called (`stealmesh.registered`).
"""

from __future__ import annotations

import builtins
from typing import Any

from stealmesh_protocol.errors import CannotShip, RemoteProtocolError

RUNTIME = "data-only"
"""What a data-only node says in the place of its Python: it runs no byte code of anybody's."""


class Forbidden:
    """May this process pickle and unpickle? It can forbid it to itself once, for good."""

    on = False

    def forbid(self) -> None:
        self.on = True

    def makes_none(self) -> None:
        """At each door to pickle. Raises CannotShip."""
        if self.on:
            raise CannotShip(
                "this process is in data-only mode, and pickles nothing: pass plain data and arrays of "
                "numbers to each call"
            )

    def opens_none(self) -> None:
        """At each door from pickle. Raises RemoteProtocolError."""
        if self.on:
            raise RemoteProtocolError("pickle", "pickled values are not opened in data-only mode")


PICKLES = Forbidden()


# ---------------------------------------------------------------- exceptions


def _own(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


RAISED_AS_THEMSELVES: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if _own(kind) and kind.__name__ == name and not issubclass(kind, ExceptionGroup)
}
"""Python's own exceptions. Making one of plain arguments runs nothing of anybody's. Those that end programs
(SystemExit, KeyboardInterrupt) are not among them."""


def told(error: BaseException) -> list[Any] | None:
    """An exception as plain data: name, arguments, notes. None: it is not one of Python's own."""
    kind = type(error)
    if RAISED_AS_THEMSELVES.get(kind.__name__) is not kind:
        return None
    args = list(error.args)
    if isinstance(error, OSError) and error.filename is not None:
        args = [error.errno, error.strerror, error.filename]
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    return [kind.__name__, args, notes]


def made_of(data: Any) -> BaseException | None:
    """The exception again. None: these data tell of none."""
    match data:
        case [str(name), list(args), list(notes)] if name in RAISED_AS_THEMSELVES:
            try:
                error = RAISED_AS_THEMSELVES[name](*args)
            except (TypeError, ValueError):
                return None
            for note in notes:
                error.add_note(str(note))
            return error
    return None


def bases_here(bases: list[str]) -> list[str]:
    """Of the types that a failure descends from, those that need no import."""
    return [
        base
        for base in bases
        if base.startswith("builtins:") and base.removeprefix("builtins:") in RAISED_AS_THEMSELVES
    ]
