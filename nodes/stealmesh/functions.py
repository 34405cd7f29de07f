"""Functions on their way to the mesh: packed once, named by the hash of their bytes.

Decides when a function must be packed again: when an object that it reaches has changed (see
`shipping.watching` for what is noticed). Packing costs 20 µs and more, a thousand times the cost of
looking for changes. Knows nothing of nodes: it returns (digest, bytes) of the function and of the
program's modules.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stealmesh import refs
from stealmesh.client.arguments import shown
from stealmesh.client.results import FUNCTION_REMEDY, fault_of_size
from stealmesh_protocol import whole
from stealmesh_protocol.apart import CannotBeLeftOut
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import Digest, ValueId, digest_of

if TYPE_CHECKING:
    from stealmesh.refs import Grip
    from stealmesh.shipping.bundle import Bundle, Bundler
    from stealmesh.shipping.change_watch import ChangeWatch

# `shipping` is imported with the first function, so that importing stealmesh stays quick.


class _SenderToCome(whole.Sender):
    """Makes way for the real one with the first value that needs it."""

    def dumps(self, value: Any) -> bytes:
        return self._shipping().dumps(value)

    def pickler(self) -> Any:
        return self._shipping().pickler()

    def beside(self, named: Any) -> Sequence[Any] | None:
        return self._shipping().beside(named)

    def own_way(self, value: Any) -> Any:
        return self._shipping().own_way(value)

    @staticmethod
    def _shipping() -> whole.Sender:
        from stealmesh.shipping.named import ProgramsSender

        whole.send_with(ProgramsSender())
        return whole.sender()


whole.send_with(_SenderToCome())

LATELY = 8
"""How many of the latest functions are kept, so that maps in a loop do not pickle theirs each time."""


class Unchanging:
    """Data-only mode: a name means what the node has under it, whatever happens in the program."""

    def holds(self) -> bool:
        return True


@dataclass(slots=True, weakref_slot=True, eq=False)
class Shipped:
    """A function as it travels."""

    function: Callable[..., Any]
    """Kept so that its id cannot be given to another function."""
    seen: ChangeWatch | Unchanging
    """What the function reached when it was packed; tells if that has changed."""
    digest: Digest
    blob: bytes
    code: Bundle
    """The program's modules when it was packed."""
    needs: tuple[ValueId, ...] = ()
    """The values that it is made of."""
    grips: list[Grip] = field(default_factory=list)
    """What keeps these."""


def holds_futures(error: Exception) -> bool:
    """Is this why a function cannot be shipped? (A future in a global is an error of another type.)"""
    return type(error.__cause__) is CannotBeLeftOut


class Shipper:
    """The functions that one program has sent, by object. Forgets those without a stream."""

    by_name = False
    """Data-only mode: functions travel by name (`client/by_name.py`)."""
    runtime = ""
    """What a node must run for them; empty: this Python."""

    def __init__(self) -> None:
        self._shipped: weakref.WeakValueDictionary[
            tuple[int, tuple[str, ...], tuple[str, ...]], Shipped
        ] = weakref.WeakValueDictionary()
        """Streams keep their own functions alive; the latest functions are also kept by `_lately`."""
        self._lately: deque[Shipped] = deque(maxlen=LATELY)
        self._bundler: Bundler | None = None

    def bundle(self, ship: tuple[str, ...] = (), no_ship: tuple[str, ...] = ()) -> Bundle:
        """The program's own modules as they are now. `ship`, `no_ship`: as in `ship()`."""
        if self._bundler is None:
            from stealmesh.shipping.bundle import Bundler

            self._bundler = Bundler()
        return self._bundler.bundle(ship, no_ship)

    def ship(
        self,
        function: Callable[..., Any],
        ship: tuple[str, ...] = (),
        no_ship: tuple[str, ...] = (),
    ) -> Shipped:
        """The name and bytes of a function. Raises CannotShip naming what in it cannot be pickled.

        `ship`: names of modules that travel although they are installed; `no_ship`: of those that do not.
        """
        key = (id(function), ship, no_ship)
        known = self._shipped.get(key)
        if known is not None and known.function is function and known.seen.holds():
            return known
        from stealmesh.shipping.needs import needs_of
        from stealmesh.shipping.packing import meant_for, pack

        code = self.bundle(ship, no_ship)
        try:
            packed, values = refs.noting(lambda: pack(function, no_ship))
        except Exception as error:  # pickling runs the objects' own code: anything can be raised
            raise CannotShip(
                f"{name_of(function)} cannot be sent to the mesh: {type(error).__name__}: {error}. "
                "Something that it refers to cannot be pickled; create it inside the function, "
                "or pass what it is made from as an argument"
            ) from error
        blob, needs = packed.blob, needs_of(packed.reached, ship)
        if needs:
            blob = meant_for(needs, blob)
        too_large = fault_of_size(len(blob), name_of(function), FUNCTION_REMEDY)
        if too_large is not None:
            raise too_large
        # Unpickling ignores octets behind a pickle. The digest of the code makes another function of
        # the same one with other modules.
        blob += code.digest
        shipped = Shipped(
            function, packed.watch, digest_of(blob), blob, code, values, refs.grips_of(values)
        )
        self._shipped[key] = shipped
        self._lately.append(shipped)
        return shipped

    def refuses(self, what: str, instead: str) -> None:
        """Raises CannotShip for what these functions cannot be used with: here, nothing."""

    def tidy(self) -> list[Shipped]:
        """The latest functions, which are not kept any more. The caller drops the list where the user's
        finalizers may run."""
        unused = list(self._lately)
        self._lately.clear()
        return unused


def packed_call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """An initializer with its arguments. Raises CannotShip."""
    from stealmesh.shipping.packing import pack

    try:
        return pack((function, arguments)).blob
    except Exception as error:  # pickling runs the objects' own code
        raise CannotShip(
            f"the initializer {name_of(function)} cannot be sent to the mesh, or one of its "
            f"arguments: {type(error).__name__}: {error}"
        ) from error


def module_names(modules: Iterable[str | ModuleType], setting: str = "ship") -> tuple[str, ...]:
    """The sorted names in `ship=` or `no_ship=`, which take modules or names. Raises TypeError, ValueError."""
    if isinstance(modules, str | ModuleType):
        modules = (modules,)
    if not isinstance(modules, Iterable):
        raise TypeError(f"{setting} must be modules or their names, not {shown(modules)}")
    names = []
    for module in modules:
        name = module.__name__ if isinstance(module, ModuleType) else module
        if not isinstance(name, str):
            raise TypeError(
                f"{setting}: {shown(name)} is neither a module nor the name of one; "
                f"write {setting}=['package']"
            )
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(
                f"{setting}: not the name of a module: {name!r}; write {setting}=['package']"
            )
        names.append(name)
    return tuple(sorted(names))


def must_be_no_import() -> None:
    """Raises RuntimeError while a child process imports the program's file.

    A program without `if __name__ == "__main__"` would start a mesh in every child, without end.
    """
    process = sys.modules.get("multiprocessing.process")
    spawned = process is not None and getattr(process.current_process(), "_inheriting", False)
    opening = sys.modules.get("stealmesh.shipping.opening")
    if spawned or (opening is not None and opening.is_defining()):
        raise RuntimeError(
            "a mesh is started while a child process imports the program's file: put what the "
            'program does behind `if __name__ == "__main__":`'
        )


def name_of(function: Callable[..., Any]) -> str:
    """The name that people know a function by."""
    named = getattr(function, "stealmesh_name", None)
    if named:
        return str(named)
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in ("", "builtins", "__main__") else f"{module}.{name}"
