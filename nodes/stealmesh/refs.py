"""Ref: a name for a value that lives on the mesh.

A Ref can be given to any call instead of the value. While the arguments of a call are packed, each Ref in
them notes that the call needs its value, and leaves its name in the pickle. Where the pickle is opened, in a
worker, the value takes the place of the name. Pickle itself finds the Refs, so they may lie anywhere: in a
list, a dataclass, a partial. A call without any costs nothing.

Decides what stands in a pickle for a Ref, and when the program needs a value no more: when its last Ref is
gone and no call needs it. Refuses to know where values are and how they travel. Idea: proxies that resolve
themselves where they are needed, after ProxyStore (Pauloski et al. 2023).

Importing this file is cheap on purpose: workers import it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

from stealmesh_protocol.errors import ValueLost
from stealmesh_protocol.ids import ValueId

T = TypeVar("T")


class Home(Protocol):
    """What a program has of its own values."""

    def open(self, value: ValueId) -> Any:
        """The value, in memory of the caller's own. Raises KeyError, CannotLoad."""

    def released(self, value: ValueId) -> None:
        """Nothing needs it any more. May be called by any thread at any moment."""

    def forget_recipe(self, value: ValueId) -> None:
        """Likewise: the result will not be made again."""

    def ask(self, value: ValueId) -> None:
        """The value is going to be wanted here."""

    def bring(self, value: ValueId, timeout: float | None) -> None:
        """Have the value here, in octets. Raises ValueLost, TimeoutError."""


class Grip:
    """Keeps a value of this program on the mesh as long as it is kept itself."""

    __slots__ = ("__weakref__", "_home", "inner", "octets", "value")

    def __init__(self, home: Home, value: ValueId, octets: int, inner: list[Grip]) -> None:
        self._home = home
        self.value = value
        self.octets = octets
        self.inner = inner
        """Of values that this one is made of."""
        _grips[value] = self

    def open(self) -> Any:
        return self._home.open(self.value)

    def __del__(self) -> None:
        self._home.released(self.value)


class Recipe:
    """Keeps the call of a result that stays, as long as that may have to be made again, or something that was
    made of it."""

    __slots__ = ("__weakref__", "_home", "_inputs", "_value")

    def __init__(self, home: Home, value: ValueId, inputs: list[Recipe | Grip]) -> None:
        self._home = home
        self._value = value
        self._inputs = inputs
        """Recipes of results that the call needs, and what keeps its other values: these cannot be made again."""

    def __del__(self) -> None:
        self._home.forget_recipe(self._value)


class ResultGrip(Grip):
    """Keeps a result that stays on the node that made it."""

    __slots__ = ("asked_for", "recipe")

    def __init__(
        self,
        home: Home,
        value: ValueId,
        octets: int,
        inputs: Iterable[Grip],
        *,
        asked_for: bool,
    ) -> None:
        super().__init__(home, value, octets, [])
        self.asked_for = asked_for
        """By `keep=True`; else it is only too large to travel before somebody wants it."""
        made_of: list[Recipe | Grip] = [
            (each.recipe or each) if isinstance(each, ResultGrip) else each for each in inputs
        ]
        self.recipe: Recipe | None = Recipe(home, value, made_of)

    def ask(self) -> None:
        """It is going to be wanted here."""
        self._home.ask(self.value)

    def bring(self, timeout: float | None = None) -> None:
        """Raises ValueLost, TimeoutError."""
        self._home.bring(self.value, timeout)

    def open(self, timeout: float | None = None) -> Any:
        """Raises ValueLost, TimeoutError, CannotLoad."""
        self.bring(timeout)
        return self._home.open(self.value)

    def came_home(self) -> None:
        """The program has the result itself, so it need not be made again."""
        self.recipe = None

    def ref(self) -> Ref[Any]:
        return Ref(self.value, self.octets, self)


_grips: weakref.WeakValueDictionary[ValueId, Grip] = weakref.WeakValueDictionary()
"""The values of this program that something needs."""
_noting: ContextVar[dict[ValueId, None] | None] = ContextVar("noting", default=None)
"""What is packed here needs these. None: a Ref stays a Ref."""
_finders: list[Callable[[ValueId], Any]] = []
"""Where values are looked up by name in this process; each raises KeyError for one that it has not."""
in_use = False
"""Has this process had a Ref? The only question while it has not."""


class Ref(Generic[T]):
    """A value that lives on the mesh. `Mesh.scatter` makes it.

    As an argument of a call, anywhere in it, the value itself takes its place. The value goes when all of its
    Refs are gone and no call needs it any more; `del ref` frees it. A Ref can be pickled: opened in its own
    program it is the same Ref again, as long as something there still needs the value.
    """

    __slots__ = ("__weakref__", "_grip", "_octets", "_value")

    def __init__(self, value: ValueId, octets: int, grip: Grip | None) -> None:
        global in_use
        in_use = True
        self._value = value
        self._octets = octets
        self._grip = grip
        """None in other processes than its program."""

    @property
    def octets(self) -> int:
        """How large the value is, packed."""
        return self._octets

    def result(self, timeout: float | None = None) -> T:
        """The value: a copy that the caller may change. `timeout`: seconds to wait for a result that is elsewhere.

        Raises TimeoutError, and ValueLost where the value is not at hand: in a task, give the Ref as an argument instead.
        """
        grip = self._grip
        try:
            if isinstance(grip, ResultGrip):
                opened: T = grip.open(timeout)
                return opened
            found: T = _found(self._value) if grip is None else grip.open()
        except KeyError:
            raise ValueLost(
                f"the value {self._value.hex()} is not at hand in this process: its program needs it "
                "no more, or it belongs to another program; a task gets it as an argument",
                self._value.hex(),
            ) from None
        return found

    def __repr__(self) -> str:
        return f"<stealmesh.Ref {self._value.hex()}, {self._octets:,} octets>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        noting = _noting.get()
        if noting is None:
            return ref_of, (self._value, self._octets)
        _note(noting, self._value)
        return value_of, (self._value, self._octets)


def _note(noting: dict[ValueId, None], value: ValueId) -> None:
    """It is needed, and so is what it is made of."""
    noting[value] = None
    grip = _grips.get(value)
    for inner in () if grip is None else grip.inner:
        if inner.value not in noting:
            _note(noting, inner.value)


def noting(pack: Callable[[], T]) -> tuple[T, tuple[ValueId, ...]]:
    """`pack()`, and the values that what it packed needs, sorted."""
    found: dict[ValueId, None] = {}
    before = _noting.set(found)
    try:
        packed = pack()
    finally:
        _noting.reset(before)
    return packed, tuple(sorted(found))


def grips_of(values: Iterable[ValueId]) -> list[Grip]:
    """Those of this program's. Holding them keeps the values."""
    return [grip for value in values if (grip := _grips.get(value)) is not None]


def find_with(find: Callable[[ValueId], Any]) -> None:
    """From now on look values up with this, too."""
    _finders.append(find)


def _found(value: ValueId) -> Any:
    grip = _grips.get(value)
    if grip is not None:
        return grip.open()
    for find in _finders:
        try:
            return find(value)
        except KeyError:
            continue
    raise KeyError(value)


def living_results(home: Home) -> list[ResultGrip]:
    """The results of this program's mesh that stay on nodes and that something needs."""
    return [
        grip
        for grip in list(_grips.values())
        if isinstance(grip, ResultGrip) and grip._home is home
    ]


class Stayed:
    """Stands in results for one that stayed on the node that made it."""

    __slots__ = ("octets", "value")

    def __init__(self, value: ValueId, octets: int) -> None:
        self.value = value
        self.octets = octets

    def __reduce__(self) -> Any:
        return stayed, (self.value, self.octets)


def stayed(value: ValueId, octets: int) -> Any:
    """Stands in pickles for such a result. Where it is at hand, as in a task that was given it, it is the result
    itself; in its program it is what asks for it."""
    for find in _finders:
        try:
            return find(value)
        except KeyError:
            continue
    return Stayed(value, octets)


def value_of(value: ValueId, octets: int) -> Any:
    """Stands in pickles for a value that is given along to the process that opens them. Without it, it is a Ref."""
    try:
        return _found(value)
    except KeyError:
        return ref_of(value, octets)


def ref_of(value: ValueId, octets: int) -> Ref[Any]:
    """Stands in pickles for a Ref that stays one."""
    return Ref(value, octets, _grips.get(value))
