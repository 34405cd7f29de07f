"""How a task's exception travels, and what is raised where it cannot.

Decides how an exception is taken apart and put together again: by its class, its arguments and
its state, without calling its ``__init__``: its parameters are unknown. Causes,
contexts, groups and notes go with it. What of it cannot travel (a lock, an open file) is left
behind, and a note says so. Where the type itself cannot be had, a stand-in is raised that is
both a TaskFailed and an exception of the nearest type that both sides know.

Refuses to know which item failed. The user's code runs here, in workers and clients: all that
it raises ends in ``Refused``, except a Ctrl-C of the person at the keyboard.

Ideas: rebuilding by ``__reduce_ex__``'s parts is tblib's; a class made of ours and theirs is
Ray's RayTaskError.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from types import MemberDescriptorType
from typing import Any, TypeVar

from stealmesh_protocol import whole
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import (
    ActorDied,
    CannotLoad,
    CannotShip,
    NotRegistered,
    RemoteTraceback,
    ResourcesMissing,
    TaskFailed,
    TaskOutOfMemory,
    TaskStopped,
    TaskTimeout,
    ValueLost,
    WorkerDied,
)

T = TypeVar("T")

EXCEPTION_OCTETS_MAX = 1024 * 1024
"""What is larger travels without its large parts."""
HEADLINE_CHARS_MAX = EXCEPTION_OCTETS_MAX
CAUSES_MAX = 1000
BASES_MAX = 8

# ---------------------------------------------------------------- code of the user's


class Refused(Exception):
    """What the user's code raised; `error` is that exception, of any kind."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def interruptible(action: Callable[[], T]) -> T:
    """Do something that runs the user's code. Raises Refused for all that it raises.

    KeyboardInterrupt is either Ctrl-C or raised by the code itself. The two cannot be told apart by
    looking; but what the code raises by itself comes again, and a person who has pressed Ctrl-C has
    done so once.
    """
    try:
        return action()
    except KeyboardInterrupt:
        try:
            action()
        except BaseException as error:
            raise Refused(error) from error
        raise
    except BaseException as error:
        raise Refused(error) from error


def headline(error: BaseException) -> str:
    """Its type and message, even if its own `__str__` fails."""
    name = type(error).__qualname__
    try:
        text = interruptible(lambda: str(error)[:HEADLINE_CHARS_MAX])
    except Refused:
        return f"{name} (which cannot be printed)"
    return f"{name}: {text}" if text else name


# ---------------------------------------------------------------- taking apart


def packed_exception(error: BaseException) -> bytes:
    """The exception as a pickle that was opened once to see whether it can be; empty if it cannot."""
    if PICKLES.on:
        return b""
    for ways in ({}, {"by_parts": True}, {"by_parts": True, "pruned": True}):
        try:
            blob = interruptible(partial(_tried, error, **ways))
        except Refused:
            continue
        if len(blob) <= EXCEPTION_OCTETS_MAX:
            return blob
    return b""


def _tried(error: BaseException, *, by_parts: bool = False, pruned: bool = False) -> bytes:
    """Raises where it cannot be pickled, opened or printed."""
    blob = _dumps(error, by_parts, pruned)
    there = pickle.loads(blob)
    if type(there).__qualname__ != type(error).__qualname__:
        raise TypeError("its own __reduce__ makes something else of it")
    if _prints(error) and not _prints(there):
        raise TypeError("what can be sent of it cannot be printed")
    return blob


def _prints(error: BaseException) -> bool:
    try:
        interruptible(partial(str, error))
    except Refused:
        return False
    return True


def _dumps(value: Any, by_parts: bool, pruned: bool) -> bytes:
    buffer = io.BytesIO()
    _pickler_class(whole.pickler())(buffer, by_parts, pruned).dump(value)
    return buffer.getvalue()


@lru_cache(maxsize=2)
def _pickler_class(pickler: type[Any]) -> Any:
    class ExceptionPickler(pickler):  # type: ignore[misc]
        """Exceptions are taken apart by us."""

        def __init__(self, file: Any, by_parts: bool, pruned: bool) -> None:
            super().__init__(file, 5)
            self._by_parts = by_parts
            self._pruned = pruned

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if issubclass(kind, BaseException):
                if self._by_parts or not _reduces_itself(kind):
                    return _parts_of(value, self._pruned)
                return _by_its_author(value)
            return super().reducer_override(value)

    return ExceptionPickler


def _reduces_itself(kind: type[BaseException]) -> bool:
    """Does its author say how to rebuild it?"""
    for cls in kind.__mro__:
        if cls.__module__ == "builtins":
            return False
        if {"__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__"} & vars(
            cls
        ).keys():
            return True
    return False


def _by_its_author(error: BaseException) -> Any:
    """For pickle: as its author says, and then what authors forget: its chain and its notes."""
    chain = _chain_of(error)
    notes = list(getattr(error, "__notes__", ()))
    if chain[:2] == [None, None] and not notes:
        return NotImplemented
    reduced: Any = error.__reduce_ex__(5)
    if type(reduced) is not tuple or len(reduced) not in (2, 3):
        return reduced
    make, args, *state = reduced
    return _remade, (make, args), [*(state or [None]), chain, notes], None, None, _fill_remade


def _chain_of(error: BaseException) -> list[Any]:
    return [error.__cause__, error.__context__, error.__suppress_context__]


def _parts_of(error: BaseException, pruned: bool) -> tuple[Any, ...]:
    """For pickle: make it of its class and arguments, then fill in the rest (which may lead back to it)."""
    args = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    members = dict(_members_of(error))
    state = dict(BaseException.__getattribute__(error, "__dict__"))
    if pruned:
        left: list[str] = []
        args = tuple(
            value if _travels(value) else _left(left, f"argument {place}", value)
            for place, value in enumerate(args)
        )
        for kept in (members, state):
            for name in [name for name, value in kept.items() if not _travels(value)]:
                _left(left, name, kept.pop(name))
        if left:
            notes = list(state.get("__notes__", ()))
            state["__notes__"] = [*notes, f"(left behind in the worker: {', '.join(left)})"]
    filling = [members, state, _chain_of(error)]
    return _bare, (type(error), args), filling, None, None, _fill


def _members_of(error: BaseException) -> Iterator[tuple[str, Any]]:
    """What lies beside `__dict__`: errno and the like, and the slots of the user's classes."""
    for cls in type(error).__mro__:
        for name, found in vars(cls).items():
            if isinstance(found, MemberDescriptorType) and name != "__suppress_context__":
                try:
                    value = found.__get__(error)
                except AttributeError:  # an empty slot
                    continue
                if value is not None:
                    yield name, value


def _travels(value: Any) -> bool:
    try:
        blob = interruptible(lambda: _dumps(value, by_parts=True, pruned=True))
        interruptible(lambda: pickle.loads(blob))
    except Refused:
        return False
    return len(blob) < EXCEPTION_OCTETS_MAX // 4


def _left(left: list[str], name: str, value: Any) -> str:
    kind = type(value).__qualname__
    left.append(f"{name}, a {kind}")
    return f"<a {kind}, left behind in the worker>"


def bases_of(kind: type[BaseException]) -> list[str]:
    """The types it descends from that others can find by name, from the nearest to Python's own."""
    names: list[str] = []
    for cls in kind.__mro__:
        if issubclass(cls, BaseException) and _is_found(cls):
            names.append(f"{cls.__module__}:{cls.__qualname__}")
            if cls.__module__ == "builtins" or len(names) == BASES_MAX:
                break
    return names


def _is_found(cls: type) -> bool:
    found: Any = None if cls.__module__ == "__main__" else sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is cls


# ---------------------------------------------------------------- putting together


def _bare(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """One of this class that no `__init__` has seen."""
    native: Any = cls
    while native.__module__ != "builtins":
        native = native.__base__  # it has this one's layout
    error: BaseException = native.__new__(cls, *args)
    _set(error, "args", args)
    return error


def _fill(error: BaseException, filling: list[Any]) -> None:
    members, state, chain = filling
    for name, value in members.items():
        _set(error, name, value)
    BaseException.__getattribute__(error, "__dict__").update(state)
    _chain(error, chain)


def _remade(make: Callable[..., BaseException], args: tuple[Any, ...]) -> BaseException:
    return make(*args)


def _fill_remade(error: BaseException, filling: list[Any]) -> None:
    state, chain, notes = filling
    if state is not None:
        error.__setstate__(state)
    if notes:
        _set(error, "__notes__", notes)
    _chain(error, chain)


def _chain(error: BaseException, chain: list[Any]) -> None:
    cause, context, suppress = chain
    if cause is not None:
        _set(error, "__cause__", cause)
    if context is not None:
        _set(error, "__context__", context)
    _set(error, "__suppress_context__", suppress)


def _set(error: BaseException, name: str, value: Any) -> None:
    """Past a `__setattr__` of its own. What is read-only was set by its arguments."""
    try:
        BaseException.__setattr__(error, name, value)
    except (AttributeError, TypeError):
        return


def opened_exception(blob: bytes) -> BaseException | None:
    """None: it cannot be opened here."""
    if PICKLES.on:
        return None
    try:
        error = interruptible(lambda: pickle.loads(blob))
    except Refused:
        return None
    chain = None
    if type(error) is tuple and len(error) == 2:
        error, chain = error
    if not issubclass(type(error), BaseException):
        return None
    if chain is not None:
        _chain(error, chain)
    found: BaseException = error
    return found


def exception_for(
    kind: str,
    text: str,
    exception: bytes,
    traceback: str,
    attempts: Sequence[str],
    bases: Sequence[str],
    error: BaseException | None = None,
) -> BaseException:
    """What to raise for a failed item, with the remote traceback at the end of its causes. `error`: it
    travelled as plain data, and is made already."""
    if error is None and exception:
        error = opened_exception(exception)
    if error is None:
        error = _our_exception(kind, text, attempts, bases)
    if traceback:
        put_behind(error, RemoteTraceback(traceback))
    return error


def set_context(error: BaseException, context: BaseException) -> None:
    """Python has put the exception in its place that was handled when this one was raised again."""
    _set(error, "__context__", context)


def put_behind(error: BaseException, last: RemoteTraceback) -> None:
    """Let this be the end of its causes."""
    for _ in range(CAUSES_MAX):
        if error.__cause__ is None:
            _set(error, "__cause__", last)
            break
        error = error.__cause__


def _our_exception(
    kind: str, text: str, attempts: Sequence[str], bases: Sequence[str]
) -> BaseException:
    match kind:
        case "worker-died":
            return WorkerDied(text, attempts)
        case "actor-died":
            return ActorDied(text, attempts)
        case "timeout":
            return TaskTimeout(text)
        case "out-of-memory":
            return TaskOutOfMemory(text)
        case "stopped":
            return TaskStopped(text)
        case "unsendable":
            return CannotShip(text)
        case "unloadable":
            return CannotLoad(text)
        case "not-registered":
            return NotRegistered(text=text)
        case "unplaceable":
            return ResourcesMissing(text)
        case "value-lost":
            return ValueLost(text, attempts[0] if attempts else "")
        case _:
            return stand_in(text, tuple(bases))


def stand_in(text: str, bases: tuple[str, ...]) -> TaskFailed:
    """A TaskFailed that the nearest of these types catches, too."""
    for name in bases:
        cls = _stand_in_class(name)
        if cls is not None:
            error = _bare(cls, (text,))
            assert isinstance(error, TaskFailed)
            return error
    return TaskFailed(text)


@lru_cache(maxsize=256)
def _stand_in_class(name: str) -> type[TaskFailed] | None:
    """None: there is no such type here, or none can be made of the two."""
    if name in ("builtins:Exception", "builtins:BaseException"):
        return TaskFailed
    module, _, path = name.partition(":")
    try:
        base: Any = interruptible(partial(importlib.import_module, module))
        for part in path.split("."):
            base = getattr(base, part)
        made: Any = (
            base
            if issubclass(base, TaskFailed)
            else type(
                base.__name__,
                (TaskFailed, base),
                {
                    "__doc__": "The task raised this, and what it raised could not be sent.",
                    "__module__": "stealmesh_protocol.raised",
                    "__str__": lambda self: str(self.args[0]),
                    "__repr__": lambda self: f"{type(self).__name__}({str(self.args[0])!r})",
                    "__reduce__": lambda self: (stand_in, (str(self.args[0]), (name,))),
                    "__bool__": lambda self: True,
                },
            )
        )
        interruptible(partial(_bare, made, ("",)))
    except (Refused, AttributeError, TypeError, ValueError):
        return None
    cls: type[TaskFailed] = made
    return cls


__all__ = [
    "EXCEPTION_OCTETS_MAX",
    "Refused",
    "bases_of",
    "exception_for",
    "headline",
    "interruptible",
    "opened_exception",
    "packed_exception",
    "put_behind",
    "set_context",
    "stand_in",
]
