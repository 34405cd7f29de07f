"""Pickles: made so that each value can be opened alone, opened so that nothing escapes.

Decides who pickles what: pickle itself where that works everywhere, cloudpickle for what lives in
``__main__`` or nowhere. Whether values may go together as one pickle (only if nothing in them is
the user's), and how a class that travels whole travels once for all items that need it.

Refuses to know codecs. The user's code runs in here: what it raises comes out as CannotShip
or CannotLoad, which name the value's type and say what to do; only a Ctrl-C stays one.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import islice
from types import FunctionType
from typing import Any, NoReturn

from stealmesh_protocol import unasked, whole
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import CannotLoad, CannotShip
from stealmesh_protocol.raised import Refused, headline, interruptible


def unpickled(blob: bytes | memoryview, common: list[Any] | None = None) -> Any:
    """Raises CannotLoad for anything that the value's own code raises. `common`: see CommonPickler."""
    PICKLES.opens_none()
    load = pickle.loads if common is None else _CommonUnpickler.opener(common)
    try:
        return load(blob)
    except KeyboardInterrupt:
        try:
            interruptible(partial(load, blob))
        except Refused as refused:
            error = refused.error
        else:
            raise
    except BaseException as raised:  # noqa: BLE001 - unpickling runs code of the user's
        error = raised
    named = type_named_in(blob, common)
    raise CannotLoad(
        f"a value{f' of type {named}' if named else ''} cannot be opened here: "
        f"{headline(error)}; use plain data, or give its class a __reduce__ that pickle can "
        "rebuild it with"
    ) from error


def type_named_in(blob: bytes | memoryview, common: list[Any] | None = None) -> str:
    """The first class or function of the user's that a pickle mentions; empty: none. Runs nothing."""
    words: list[str] = []
    memo: list[str] = []
    inside = b""
    by_value = in_common = False
    found_from: int | None = None
    try:
        for opcode, argument, _ in pickletools.genops(bytes(blob)):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "MEMOIZE":
                memo.append(words[-1] if words else "")
            elif opcode.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
                words.append(memo[argument])
            elif in_common and common and isinstance(argument, int):
                return str(getattr(common[argument], "__qualname__", ""))
            elif isinstance(argument, bytes):
                inside = argument
            elif isinstance(argument, str):
                words.append(argument)
                if by_value:
                    return argument
            elif opcode.name == "STACK_GLOBAL":
                module, name = words[-2:]
                in_common = (module, name) == (__name__, _common_part.__name__)
                if in_common:
                    continue
                if module.startswith(_OUR_MODULES):
                    found_from = len(words) if name == _FIND else None
                    continue
                if module not in _HARMLESS_MODULES and not module.startswith("cloudpickle"):
                    return f"{module}.{name}"
                # What makes a class by value is followed by its metaclass and its name.
                by_value = words[-3:-2] == ["_make_skeleton_class"]
            if found_from is not None and len(words) == found_from + 2:
                return words[-1]
    except (ValueError, IndexError):  # cut off, or not made by pickle
        return ""
    # A pickle with pieces of the program holds that of the value last.
    return type_named_in(inside) if inside.startswith(_PICKLE_HEAD) else ""


_OUR_MODULES = "stealmesh."
"""What is called from there when a pickle is opened is ours, and not what the user knows it by."""
_FIND = "find"
"""It is given a module and a name in it."""
_PICKLE_HEAD = b"\x80"

_HARMLESS_MODULES = frozenset(
    {
        "builtins",
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "numpy",
        "numpy.dtypes",
        "pathlib",
        "uuid",
    }
)
"""Values of these types can be opened wherever they could be packed."""

_HARMLESS_BUILTINS = frozenset({complex, range, slice, bytearray, type(...), type(NotImplemented)})


class _InDoubtError(Exception):
    """Something that is not known to be harmless."""


class _TogetherPickler(pickle.Pickler):
    """Pickles what holds nothing of the user's, and runs no code of the user's to find out."""

    def reducer_override(self, value: Any) -> Any:
        """Called for what pickle does not know by itself: classes, and instances of all others."""
        kind = type(value)
        if kind is type:
            harmless = value.__module__ in _HARMLESS_MODULES
        else:
            harmless = kind in _HARMLESS_BUILTINS or (
                kind.__module__ in _HARMLESS_MODULES and kind.__module__ != "builtins"
            )
        if not harmless and kind is not type(len):
            raise _InDoubtError
        return NotImplemented


def pickled_together(values: list[Any]) -> bytes | None:
    """All of them as one pickle; None where one might be refused when it is opened."""
    PICKLES.makes_none()
    buffer = io.BytesIO()
    try:
        _TogetherPickler(buffer, 5).dump(values)
    except (_InDoubtError, pickle.PicklingError, TypeError, ValueError, RecursionError):
        return None
    return buffer.getvalue()


def pickled(value: Any) -> bytes:
    """Raises CannotShip for anything that the value's own code raises."""
    PICKLES.makes_none()
    blob = quickly_pickled(value)
    return by_value(value) if blob is None else blob


_NAMED = (type, FunctionType, type(lru_cache(int)))


class NamingPickler(pickle.Pickler):
    """pickle's own, one value after the other, until it meets a function or class whose name will not do."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        super().__init__(self._buffer, 5)
        self._known: dict[int, Any] = {}
        """Functions and classes that we have asked about."""
        self.named: list[Any] = []
        """Those of them whose names alone will not do."""
        self.beside: list[Any] = []
        """What has to be in place with them."""

    def pickled(self, value: Any) -> bytes | None:
        """What `named` needs does not come with it. None: cloudpickle is to have the last word."""
        self._buffer.seek(0)
        self._buffer.truncate()
        self.clear_memo()
        try:
            self.dump(value)
        except KeyboardInterrupt:
            # Ctrl-C, or the value's own code? What comes again is the value's.
            by_value(value)
            raise
        except BaseException:  # noqa: BLE001 - all that pickle dislikes
            return None
        blob = self._buffer.getvalue()
        return None if b"__main__" in blob else blob

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, _NAMED) and id(value) not in self._known:
            beside = whole.sender().beside(value)
            if beside is None:
                raise _InDoubtError
            self._known[id(value)] = value
            if beside:
                self.named.append(value)
                self.beside += beside
        return whole.sender().own_way(value)


def quickly_pickled(value: Any) -> bytes | None:
    """None: cloudpickle is to have the last word."""
    pickler = NamingPickler()
    blob = pickler.pickled(value)
    if blob is None or not pickler.beside:
        return blob
    return whole.sender().joined(pickler.beside, blob)


def _common_part(number: int) -> NoReturn:
    """Stands in a pickle for one of the common parts, and is never called: see CommonUnpickler."""
    raise AssertionError("an item was opened without what it has in common with others")


class _CommonUnpickler(pickle.Unpickler):
    """Opens what a CommonPickler has made."""

    common: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        if name == _common_part.__name__ and module == __name__:
            return self.common.__getitem__
        return super().find_class(module, name)

    @classmethod
    def opener(cls, common: list[Any]) -> Callable[[bytes | memoryview], Any]:
        def opened(blob: bytes | memoryview) -> Any:
            unpickler = cls(io.BytesIO(blob))
            unpickler.common = common
            return unpickler.load()

        return opened


_TRAVEL_WHOLE = (type, FunctionType)


@lru_cache(maxsize=2)
def _common_pickler_class(pickler: type[Any]) -> Any:
    class CommonPickler(pickler):  # type: ignore[misc]
        """Pickles items one by one, and puts aside what would travel whole with each."""

        def __init__(self) -> None:
            self._buffer = io.BytesIO()
            super().__init__(self._buffer, 5)
            self.parts: list[Any] = []
            self._numbers: dict[int, int] = {}

        def pickled(self, value: Any) -> bytes:
            """Raises CannotShip."""
            self._buffer.seek(0)
            self._buffer.truncate()
            self.clear_memo()
            try:
                interruptible(partial(self.dump, value))
            except Refused:
                return by_value(value)  # or the error that says what in it is to blame
            return self._buffer.getvalue()

        def reducer_override(self, value: Any) -> Any:
            number = self._numbers.get(id(value))
            if number is None:
                needed = len(getattr(self, "needs", ()))
                reduced = super().reducer_override(value)
                whole_part = isinstance(value, _TRAVEL_WHOLE) and reduced is not NotImplemented
                if not whole_part and len(getattr(self, "needs", ())) == needed:
                    return reduced
                number = self._numbers[id(value)] = len(self.parts)
                self.parts.append(value)  # which keeps its id from being another's
            return _common_part, (number,)

    return CommonPickler


def common_pickler() -> Any:
    PICKLES.makes_none()
    return _common_pickler_class(whole.pickler())()


def by_value(value: Any) -> bytes:
    PICKLES.makes_none()
    try:
        return interruptible(lambda: whole.dumps(value))
    except Refused as refused:
        culprit = _culprit_in(value)
        raise CannotShip(
            f"{culprit} cannot be sent to another process: {headline(refused.error)}", culprit
        ) from refused.error


def _culprit_in(value: Any) -> str:
    """Looking for it runs properties and `__repr__` of the user's."""
    try:
        return interruptible(lambda: _culprit(value, "value", 0))
    except Refused:
        return f"value (a {name_of(value)})"


def _culprit(value: Any, path: str, depth: int) -> str:
    """The innermost part that refuses to be pickled, by the way that leads to it."""
    if depth < 8:
        for step, part in islice(_parts_of(value), 1000):
            if not _ships(part):
                return _culprit(part, path + step, depth + 1)
    return f"{path} (a {name_of(value)})"


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What pickling this value would pickle too, with the step that leads there."""
    if hasattr(value, "__code__"):
        yield from _captured_by(value)
    elif _refuses_itself(value):
        return
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    else:
        if getattr(value, "__self__", None) is not None:
            yield ".__self__", value.__self__
        for name in ("func", "args", "keywords"):
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _refuses_itself(value: Any) -> bool:
    """It says by its own method that it is not to be pickled: what it holds is not looked at."""
    try:
        interruptible(lambda: value.__reduce_ex__(5))
    except Refused:
        return True
    return False


def _captured_by(function: Any) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in cells:
        try:
            yield f"'s variable {name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f"'s global {name}", function.__globals__[name]


def _ships(value: Any) -> bool:
    try:
        interruptible(lambda: whole.dumps(value))
    except Refused:
        return False
    return True


def name_of(value: Any) -> str:
    return unasked.name_of(type(value))
