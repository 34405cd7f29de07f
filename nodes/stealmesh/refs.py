"""Ref: a name for a value that lives on the mesh.

A Ref can be given to any call instead of the value. While the arguments of a call are packed, each Ref in
them notes that the call needs its value, and leaves its name in the pickle. Where the pickle is opened, in a
worker, the value takes the place of the name. Pickle itself finds the Refs, so they may lie anywhere: in a
list, a dataclass, a partial. A call without any costs nothing.

A Ref that a task has made has its value in the task's own process. It leaves only where somebody takes the value
along (`Packing.leaves`): with a child that goes elsewhere, and with the result. A task that is to hand a Ref on
gets it closed (`Ref.closed`).

Decides what stands in a pickle for a Ref, and when the program needs a value no more: when its last Ref is
gone and no call needs it. Refuses to know where values are and how they travel. Idea: proxies that resolve
themselves where they are needed, after ProxyStore (Pauloski et al. 2023).

Importing this file is cheap on purpose: workers import it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from stealmesh_protocol.errors import ValueLost
from stealmesh_protocol.ids import ValueId

T = TypeVar("T")


class Home(Protocol):
    """What a program has of its own values."""

    is_a_tasks: bool
    """It belongs to a task in a worker, and ends with it."""

    def open(self, value: ValueId, place: int | None) -> Any:
        """The value, in memory of the caller's own. Raises KeyError, CannotLoad, ValueLost."""

    def octets_of(self, value: ValueId, place: int | None) -> memoryview:
        """The value as it is packed. Raises KeyError, ValueLost."""

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

    @property
    def home(self) -> Home:
        return self._home

    def open(self, place: int | None = None) -> Any:
        """`place`: of a value that is several in one (`values/together.py`)."""
        return self._home.open(self.value, place)

    def packed_octets(self, place: int | None) -> memoryview:
        """Raises KeyError, ValueLost."""
        return self._home.octets_of(self.value, place)

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

    __slots__ = ("asked_for", "lent", "recipe")

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
        self.lent = False
        """The result itself has come. These are the values of Refs in it."""
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

    def open(self, place: int | None = None, timeout: float | None = None) -> Any:
        """Raises ValueLost, TimeoutError, CannotLoad."""
        self.bring(timeout)
        return self._home.open(self.value, place)

    def packed_octets(self, place: int | None) -> memoryview:
        self.bring()
        return super().packed_octets(place)

    def came_home(self) -> None:
        """The program has the result itself, so it need not be made again."""
        self.recipe = None

    def ref(self) -> Ref[Any]:
        return Ref(self.value, self.octets, self)


_grips: weakref.WeakValueDictionary[ValueId, Grip] = weakref.WeakValueDictionary()
"""The values of this program that something needs."""


@dataclass(slots=True)
class Packing:
    """What is noted while something is packed."""

    leaves: Callable[[Ref[Any]], Ref[Any]] | None
    """A Ref is packed: returns the name under which its value can be had where the pickle goes. None: that is its own
    name, and those of tasks cannot go there."""
    is_result: bool
    """It goes to the owner of a task, where Refs stay Refs."""
    values: dict[ValueId, None] = field(default_factory=dict)
    """These are needed where it is opened."""
    lends: list[Grip] = field(default_factory=list)
    """What keeps those that go as closed Refs."""


_packing: ContextVar[Packing | None] = ContextVar("packing", default=None)
"""None: a Ref stays a Ref."""


class Finder(Protocol):
    """Has values that were given along to this process. All raise KeyError for one that it has not."""

    def open(self, value: ValueId, place: int | None) -> Any: ...

    def octets_of(self, value: ValueId, place: int | None) -> memoryview: ...


_finders: list[Finder] = []
"""Where values are looked up by name in this process; each raises KeyError for one that it has not."""
in_use = False
"""Has this process had a Ref? The only question while it has not."""


class Ref(Generic[T]):
    """A value that lives on the mesh. `Mesh.scatter` makes it.

    As an argument of a call, anywhere in it, the value itself takes its place. The value goes when all of its
    Refs are gone and no call needs it any more; `del ref` frees it. A Ref can be pickled: opened in its own
    program it is the same Ref again, as long as something there still needs the value.
    """

    __slots__ = ("__weakref__", "_grip", "_octets", "_place", "_value")

    def __init__(
        self, value: ValueId, octets: int, grip: Grip | None, place: int | None = None
    ) -> None:
        global in_use
        in_use = True
        self._value = value
        self._octets = octets
        self._grip = grip
        """None in other processes than its program."""
        self._place = place
        """Of several values in one, as the Refs in a task's result have them; None: it is all of the value."""

    @property
    def octets(self) -> int:
        """How large the value is, packed."""
        return self._octets

    def result(self, timeout: float | None = None) -> T:
        """The value: a copy that the caller may change. `timeout`: seconds to wait for a result that is elsewhere.

        Raises TimeoutError, and ValueLost where the value is not at hand: in a task, give the Ref as an argument instead.
        """
        grip, place = self._grip, self._place
        try:
            if isinstance(grip, ResultGrip):
                opened: T = grip.open(place, timeout)
                return opened
            found: T = _found(self._value, place) if grip is None else grip.open(place)
        except KeyError:
            raise self._lost() from None
        return found

    def closed(self) -> ClosedRef:
        """For a task that is to get the Ref itself, and not its value: to hand it on to tasks of its own, or to
        return it. `mesh.submit(divide, ref.closed())`. The value stays while the call is under way."""
        return ClosedRef(self)

    @property
    def grip(self) -> Grip | None:
        """What keeps its value, in its program."""
        return self._grip

    @property
    def is_a_tasks(self) -> bool:
        """Does its value end with a task of this process?"""
        return self._grip is not None and self._grip.home.is_a_tasks

    @property
    def value(self) -> ValueId:
        """The name of its value."""
        return self._value

    @property
    def place(self) -> int | None:
        """Which of several values in one it is."""
        return self._place

    def packed_octets(self) -> memoryview:
        """Its value as it is packed. Raises ValueLost, if that is not in this process."""
        try:
            if self._grip is not None:
                return self._grip.packed_octets(self._place)
            for finder in _finders:
                with contextlib.suppress(KeyError):
                    return finder.octets_of(self._value, self._place)
        except KeyError:
            raise self._lost() from None
        raise self._lost()

    def _lost(self) -> ValueLost:
        return ValueLost(
            f"the value {self._value.hex()} is not at hand in this process: its program needs it "
            "no more, or it belongs to another program; a task gets it as an argument",
            self._value.hex(),
        )

    def __repr__(self) -> str:
        return f"<stealmesh.Ref {self._value.hex()}, {self._octets:,} octets>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ref) and self._value == other._value and self._place == other._place
        )

    def __hash__(self) -> int:
        return hash((self._value, self._place))

    def __copy__(self) -> Ref[T]:
        return self

    def __deepcopy__(self, memo: object) -> Ref[T]:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        packing = _packing.get()
        ref = _as_it_leaves(self, packing)
        if packing is None:
            return ref_of, ref._name()
        if packing.is_result:
            return ref_of if ref is self else lent_of, ref._name()
        _note(packing, ref._value)
        return value_of, ref._name()

    def _name(self) -> tuple[Any, ...]:
        whole = self._value, self._octets
        return whole if self._place is None else (*whole, self._place)


class ClosedRef:
    """A Ref that stays one where the call is opened that it is given to. `Ref.closed` makes it."""

    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[Any]) -> None:
        self._ref = ref

    @property
    def ref(self) -> Ref[Any]:
        return self._ref

    def __repr__(self) -> str:
        return f"{self._ref!r}.closed()"

    def __reduce_ex__(self, protocol: Any) -> Any:
        packing = _packing.get()
        if packing is None:
            return ClosedRef, (self._ref,)
        ref = _as_it_leaves(self._ref, packing)
        if not packing.is_result:
            _note(packing, ref._value)
            packing.lends += () if ref._grip is None else (ref._grip,)
        return ref_of, ref._name()


BOUND = (
    "a Ref that a task has made lives in the task's own process, and leaves it only as an argument of "
    "here().submit(), or in a result of submit() or map() that goes to the program: elsewhere, return the value "
    "itself"
)


def _as_it_leaves(ref: Ref[Any], packing: Packing | None) -> Ref[Any]:
    """The name that its value has where the pickle goes. Raises TypeError."""
    if packing is not None and packing.leaves is not None:
        return packing.leaves(ref)
    if ref.is_a_tasks:
        raise TypeError(BOUND)
    return ref


def _note(packing: Packing, value: ValueId) -> None:
    """It is needed, and so is what it is made of."""
    packing.values[value] = None
    grip = _grips.get(value)
    for inner in () if grip is None else grip.inner:
        if inner.value not in packing.values:
            _note(packing, inner.value)


def noting(
    pack: Callable[[], T],
    *,
    leaves: Callable[[Ref[Any]], Ref[Any]] | None = None,
    is_result: bool = False,
    lends: list[Grip] | None = None,
) -> tuple[T, tuple[ValueId, ...]]:
    """`pack()`, and the values that what it packed needs, sorted. `leaves`, `is_result`: see `Packing`. `lends`:
    is added to."""
    packing = Packing(leaves, is_result)
    before = _packing.set(packing)
    try:
        packed = pack()
    finally:
        _packing.reset(before)
    if lends is not None:
        lends += packing.lends
    return packed, tuple(sorted(packing.values))


def grips_of(values: Iterable[ValueId]) -> list[Grip]:
    """Those of this program's. Holding them keeps the values."""
    return [grip for value in values if (grip := _grips.get(value)) is not None]


def in_hand() -> int:
    """How many values this process keeps on the mesh."""
    return len(_grips)


def find_with(finder: Finder) -> None:
    """From now on look values up with this, too."""
    _finders.append(finder)


def _found(value: ValueId, place: int | None = None) -> Any:
    grip = _grips.get(value)
    return _given(value, place) if grip is None else grip.open(place)


def _given(value: ValueId, place: int | None = None) -> Any:
    """What was given along to this process. Raises KeyError."""
    for finder in _finders:
        try:
            return finder.open(value, place)
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
    try:
        return _given(value)
    except KeyError:
        return Stayed(value, octets)


def lent_of(value: ValueId, octets: int, place: int) -> Any:
    """Stands in results for a Ref whose value came with the result. In a task that the result is given to it is the
    value; in the program it is the Ref."""
    try:
        return _given(value, place)
    except KeyError:
        grip = _grips.get(value)
        if isinstance(grip, ResultGrip):
            grip.lent = True
        return Ref(value, octets, grip, place)


def value_of(value: ValueId, octets: int, place: int | None = None) -> Any:
    """Stands in pickles for a value that is given along to the process that opens them. Without it, it is a Ref."""
    try:
        return _found(value, place)
    except KeyError:
        return ref_of(value, octets, place)


def ref_of(value: ValueId, octets: int, place: int | None = None) -> Ref[Any]:
    """Stands in pickles for a Ref that stays one."""
    return Ref(value, octets, _grips.get(value), place)
