"""What the program's functions, classes and values are on their way to workers.

Decides what travels as a name, what as a value, and what is made from the program's text:

* What is found by name in an importable module travels as that name (its module is in the bundle).
* A function of `__main__` travels whole: its code, not its name, so it is what the program has now.
  The globals that it reaches, and what they reach, travel as pieces beside it.
* A class of the program's file is made there from its text, with the methods and plain attributes
  that have been changed since; a class of a notebook travels whole.
* A value that cannot be pickled (a lock, a connection) is made from the text as well.
* Settings of the interpreter go first (settings.py), then what the program's file has put into other modules
  (patches.py).
* Of the program's other modules those variables go along that functions reach, if they are not what
  the import makes (elsewhere.py), unless the module itself rebinds them (`global`): that is its own
  business in each process.

Every global that a function reaches is watched (change_watch.py): what has changed is packed again.
"""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from stealmesh import refs
from stealmesh.shipping import opening, settings
from stealmesh.shipping.bindings import ModuleText
from stealmesh.shipping.change_watch import ChangeWatch
from stealmesh.shipping.elsewhere import is_deleted, packed_elsewhere
from stealmesh.shipping.opening import Piece, PieceKind
from stealmesh.shipping.own_classes import changes_of
from stealmesh.shipping.patches import Patch, patches_of
from stealmesh.shipping.pickler import Call, Pickler, dump, on_the_way_back
from stealmesh.shipping.reach import Key, Reach
from stealmesh.shipping.source import Source, text_of_main
from stealmesh.shipping.variables import (
    is_home_of,
    refuse_futures,
    refuse_only_for_children,
)
from stealmesh_protocol import apart
from stealmesh_protocol.ids import digest_of

__all__ = ["Packed", "Pickler", "dumps", "meant_for", "pack", "source_of"]

Reached = set[str | type] | frozenset[str | type]

KEPT_OCTETS_MAX = 1 << 20
"""A larger global is packed anew for each function that reaches it, rather than kept twice."""


@dataclass(slots=True)
class Packed:
    """A function, or any value, ready to travel."""

    blob: bytes
    watch: ChangeWatch
    reached: Reached
    """Modules and types that it reaches. `needs.py` keeps those that are not the program's, with their versions."""


@dataclass(slots=True)
class Unit:
    """One global, packed once for each value that it has had."""

    value: Any
    piece: Piece
    needs: dict[Key, None]
    watch: ChangeWatch
    reached: Reached = frozenset()


# Used from all threads without a lock, as pickling runs the user's code. Each step below leaves a whole
# entry in its place, and packing something twice does no harm.
_units: dict[tuple[Key, tuple[str, ...]], Unit] = {}


def pack(value: Any, no_ship: tuple[str, ...] = ()) -> Packed:
    """`no_ship`: modules that do not travel. Raises what pickling raises."""
    reach = Reach(no_ship=no_ship)
    if isinstance(value, FunctionType):
        reach.watch.root(value)
    else:
        reach.watch.value(value)
    reach.watch.settings()
    own = (*_settings(), *_patches(reach))
    blob = dump(value, reach)
    pieces = (*own, *pieces_for(reach, value))
    reach.watch.close()
    whole = with_pieces(pieces, blob) if pieces else blob
    return Packed(whole, reach.watch, reach.reached or frozenset())


def _settings() -> tuple[Piece, ...]:
    """Those of the interpreter, if the program has made any. What a task sends goes with the task's own function."""
    packed = None if opening.living() is not None else settings.taken()
    if packed is None:
        return ()
    return (("", "", digest_of(packed)[:12], int(PieceKind.SETTINGS), packed),)


def _patches(reach: Reach) -> tuple[Piece, ...]:
    """What the program has put into modules that are not its own. In a worker it is there."""
    if opening.living() is not None:
        return ()
    main = vars(sys.modules["__main__"])
    made = (_patch(each, reach) for each in patches_of(source_of("__main__"), main, reach))
    return tuple(piece for piece in made if piece is not None)


def _patch(patch: Patch, reach: Reach) -> Piece | None:
    try:
        payload = dump(patch, reach)
    except apart.CannotBeLeftOut:
        raise
    except Exception:  # noqa: BLE001 - pickling runs the object's own code
        return None  # workers have their own
    module, path, _ = patch
    name = ".".join((module, *path))
    return "", name, digest_of(payload)[:12], int(PieceKind.PATCH), payload


def meant_for(needs: tuple[tuple[str, str], ...], blob: bytes) -> bytes:
    """The same blob with the versions that it needs. A worker with other versions tells the program."""
    return pickle.dumps(Call(opening.meant_for, (needs, blob)), 5)


def dumps(value: Any) -> bytes:
    """A value that refers to the program's classes or functions: an argument, or a result."""
    reach = on_the_way_back()
    blob = dump(value, reach)
    pieces = () if reach.by_name else pieces_for(reach)
    return with_pieces(pieces, blob) if pieces else blob


def with_pieces(pieces: tuple[Piece, ...], blob: bytes) -> bytes:
    return pickle.dumps(Call(opening.opened, (pieces, blob)), 5)


# ---------------------------------------------------------------- globals


def pieces_for(reach: Reach, root: Any = None) -> tuple[Piece, ...]:
    """The pieces for all globals that are reached, over any number of steps."""
    pieces: dict[Key, Piece] = {}
    wanted: dict[str, list[str]] = {}
    needs: list[dict[Key, None]] = []
    waiting = list(reach.needs)
    seen = set(waiting)
    while waiting:
        module, name = key = waiting.pop()
        if "." not in name:
            wanted.setdefault(module, []).append(name)
        unit = _unit(key, reach.no_ship)
        if unit is None:
            continue
        if unit.piece[2]:
            pieces[key] = unit.piece
        reach.watch.join(unit.watch)
        if reach.reached is not None:
            reach.reached |= unit.reached
        needs.append(unit.needs)
        fresh = [need for need in unit.needs if need not in seen]
        seen.update(fresh)
        waiting += fresh
    reached = {need for unit_needs in needs for need in unit_needs}
    for module, names in wanted.items():
        found = sys.modules.get(module)
        if found is not None:
            mine = found.__dict__
            # The name of the function itself matters only to functions that call it by this name.
            reach.watch.names(
                mine,
                [n for n in names if mine.get(n) is not root or (module, n) in reached],
            )
    return tuple(pieces.values())


def _unit(key: Key, no_ship: tuple[str, ...]) -> Unit | None:
    """The global, packed. None: it does not exist (yet)."""
    module, name = key
    names = vars(sys.modules[module]) if module in sys.modules else {}
    if "." in name:
        piece = (module, name, name.encode(), int(PieceKind.MODULE), name.encode())
        return Unit(None, piece, {}, ChangeWatch())
    if name not in names:
        if not is_deleted(key, known=(key, no_ship) in _units):
            return None
        return Unit(None, (module, name, b"-", int(PieceKind.ABSENT), b""), {}, ChangeWatch())
    value = names[name]
    known = _units.get((key, no_ship))
    if known is not None and known.value is value and known.watch.holds():
        return known
    reach = Reach(no_ship=no_ship)
    # A global goes once to each worker, so no result of one task may be a part of it.
    (kind, payload), values = refs.noting(
        lambda: apart.packed_whole(lambda: _packed_global(module, name, value, reach))
    )
    if values:
        raise pickle.PicklingError(
            f"the global {name!r} holds a Ref, and a global goes to each worker once and stays: give the Ref "
            "as an argument, or bind it to the function with functools.partial"
        )
    version = b"" if kind is None else digest_of(bytes([kind]) + payload)[:12]
    piece = (module, name, version, int(kind or 0), payload)
    unit = Unit(value, piece, reach.needs, reach.watch, reach.reached or frozenset())
    if len(payload) <= KEPT_OCTETS_MAX:
        _units[key, no_ship] = unit
    else:
        _units.pop((key, no_ship), None)
    return unit


def _packed_global(
    module: str, name: str, value: Any, reach: Reach
) -> tuple[PieceKind | None, bytes]:
    """How this global travels; None: not at all, workers have it by importing its module."""
    reach.reaches(value)
    if isinstance(value, ModuleType):
        reach.watch.module(value)
        return (PieceKind.MODULE, value.__name__.encode()) if reach.sends(module) else (None, b"")
    if not reach.sends(module):
        return packed_elsewhere(module, name, value, reach)
    source = source_of(module)
    if isinstance(value, type) and is_home_of(value, module, name):
        reach.watch.klass(value)
        if source is not None and source.defines_class(name):
            changed = changes_of(value, source, _text_of(source), reach)
            if changed is not None:
                return PieceKind.SOURCE, dump(changed, reach, name=name) if changed else b""
    elif isinstance(value, FunctionType):
        reach.watch.function(value)
    else:
        reach.watch.value(value)
    refuse_futures(name, value)
    try:
        return PieceKind.VALUE, dump(value, reach, root=value, name=name)
    except apart.CannotBeLeftOut:
        raise  # the program's file has not what the future will be
    except Exception as error:
        refuse_only_for_children(name, value, error)
        if source is None or not source.binds(name):
            raise
        if name in source.restless:
            raise pickle.PicklingError(
                f"the global {name!r} cannot be pickled ({type(error).__name__}: {error}), and the "
                "program rebinds it while it runs, so workers cannot make it from the program's file; "
                "make it inside the function"
            ) from error
        return PieceKind.SOURCE, b""


_main_source: tuple[Any, Source | None] = (None, None)


def source_of(module: str) -> Source | None:
    """The text of the program's own file, as it was when it was first asked for."""
    global _main_source
    if module != "__main__":
        return None
    main = sys.modules["__main__"]
    if _main_source[0] is not main:
        text = text_of_main(main)
        path = getattr(main, "__file__", None)
        if text is None:  # nor is there a path to make absolute: the working directory may be gone
            _main_source = (main, None)
        else:
            _main_source = (main, Source(text, os.path.abspath(path) if path else "<string>"))
    return _main_source[1]


_main_statements: tuple[Source | None, ModuleText | None] = (None, None)


def _text_of(source: Source) -> ModuleText:
    """The statements of the program's own file, read once."""
    global _main_statements
    of, statements = _main_statements
    if of is not source or statements is None:
        statements = ModuleText(sys.modules["__main__"], source.text)
        _main_statements = (source, statements)
    return statements
