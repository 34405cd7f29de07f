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

from stealmesh_protocol import unasked, whole
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
from stealmesh_protocol.unasked import set_field

T = TypeVar("T")

EXCEPTION_OCTETS_MAX = 1024 * 1024
"""What is larger travels without its large parts."""
PART_OCTETS_MAX = EXCEPTION_OCTETS_MAX // 4
"""Of what is larger, this is the most that one of its parts may have."""
SMALL_PART_OCTETS_MAX = EXCEPTION_OCTETS_MAX // 64
"""The same, where such parts are too many."""
OCTETS_BESIDE = 256
"""Of a part, for what is not its text."""
HEADLINE_CHARS_MAX = EXCEPTION_OCTETS_MAX
CIRCLES_MAX = 64
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
    name = unasked.name_of(type(error))
    first = slice(HEADLINE_CHARS_MAX)
    try:
        # A str of the user's own may cut itself in its own way.
        text = interruptible(lambda: str.__getitem__(str(error), first))
    except Refused:
        return f"{name} (which cannot be printed)"
    return f"{name}: {text}" if text else name


# ---------------------------------------------------------------- taking apart


def packed_exception(error: BaseException) -> bytes:
    """The exception as a pickle that was opened once to see whether it can be; empty if it cannot."""
    if PICKLES.on:
        return b""
    for way in (
        lambda: _tried(error, None, by_parts=False),
        lambda: _tried(error, None),
        lambda: _tried(error, Pruning(PART_OCTETS_MAX)),
        lambda: _tried(error, Pruning(SMALL_PART_OCTETS_MAX)),
    ):
        try:
            blob = interruptible(way)
        except Refused:
            continue
        if len(blob) <= EXCEPTION_OCTETS_MAX:
            return blob
    return b""


def _tried(error: BaseException, pruning: Pruning | None, *, by_parts: bool = True) -> bytes:
    """Raises where it cannot be pickled, opened or printed."""
    blob = _dumps(error, by_parts, pruning)
    there = pickle.loads(blob)
    if unasked.name_of(type(there)) != unasked.name_of(type(error)):
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


class LeadsBack(Exception):
    """The arguments of an exception lead back to it, so it cannot be made of them."""


def _dumps(value: Any, by_parts: bool, pruning: Pruning | None) -> bytes:
    later: set[int] = set()
    """Exceptions that are made without their arguments, which are filled in behind them."""
    for _ in range(CIRCLES_MAX):
        buffer = io.BytesIO()
        try:
            _pickler_class(whole.pickler())(buffer, by_parts, pruning, later).dump(value)
        except LeadsBack:
            continue
        return buffer.getvalue()
    raise LeadsBack


@lru_cache(maxsize=2)
def _pickler_class(pickler: type[Any]) -> Any:
    class ExceptionPickler(pickler):  # type: ignore[misc]
        """Exceptions are taken apart by us."""

        def __init__(
            self, file: Any, by_parts: bool, pruning: Pruning | None, later: set[int]
        ) -> None:
            super().__init__(file, 5)
            self._by_parts = by_parts
            self._pruning = pruning
            self._later = later
            self._begun: dict[int, BaseException] = {}

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if not issubclass(kind, BaseException):
                return super().reducer_override(value)
            if self._pruning is not None and id(value) in self._pruning.inside:
                return Exception, ()  # it is looked into: what leads back to it need not be
            if not self._by_parts and _reduces_itself(kind):
                return _by_its_author(value)
            if id(value) in self._begun and not self._starts_again(value):
                return StandsIn(value).__reduce__()
            self._begun[id(value)] = value
            return _parts_of(value, self._pruning, id(value) in self._later)

        def _starts_again(self, value: BaseException) -> bool:
            """Pickle knows an object once it is made, and this one is not: it leads back to itself. It, or one on
            the way, is made without its arguments then. A group cannot be. False: one has to stand in for it."""
            begun = list(self._begun)
            circle = begun[begun.index(id(value)) :]
            more = {one for one in circle if not issubclass(type(self._begun[one]), _GROUP)}
            if not more <= self._later:
                self._later.update(more)
                raise LeadsBack
            if self._pruning is None:
                raise TypeError("it leads back to itself in a way that cannot be rebuilt")
            return False

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
    hidden = unasked.is_context_hidden(error)
    return [unasked.cause_of(error), unasked.context_of(error), hidden]


def _parts_of(error: BaseException, pruning: Pruning | None, later: bool) -> tuple[Any, ...]:
    """For pickle: make it of its class and arguments, then fill in the rest (which may lead back to it)."""
    args = unasked.args_of(error)
    members = dict(_members_of(error))
    state = dict(unasked.state_of(error))
    made_of: tuple[Any, ...] = ()
    if issubclass(type(error), _GROUP):
        made_of = members.pop("message"), list(members.pop("exceptions"))
    chain = _chain_of(error)
    if pruning is not None:
        args, members, state, made_of, chain = pruning.pruned(
            error, (args, members, state, made_of, chain)
        )
    if made_of or later:
        members["args"] = args
    else:
        made_of = args
    filling = [members, state, chain]
    return _bare, (type(error), made_of), filling, None, None, _fill


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


_GROUP = BaseExceptionGroup


class Pruning:
    """What of an exception, and of those in it, stays behind.

    Looks at each part once: exceptions that hold exceptions would else be packed twice as often with
    each step inwards, and those that hold themselves for ever.
    """

    def __init__(self, octets_max: int) -> None:
        """A part of more octets stays behind; of a text its beginning travels."""
        self.inside: set[int] = set()
        """Exceptions whose parts are looked at just now."""
        self._octets_max = octets_max
        self._known: dict[int, tuple[Any, bool]] = {}
        """The value with its answer: it keeps its id."""

    def pruned(self, error: BaseException, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same parts without what stays behind, which a note names."""
        args, members, state, made_of, chain = parts
        left: list[str] = []
        self.inside.add(id(error))
        args = tuple(
            self._kept(left, f"argument {place}", value) for place, value in enumerate(args)
        )
        members = self._filtered(left, members)
        state = self._filtered(left, state)
        if made_of:
            message = self._kept(left, "message", made_of[0])
            made_of = message, [self._or_stand_in(one) for one in made_of[1]]
        chain = [*map(self._or_stand_in, chain[:2]), chain[2]]
        self.inside.discard(id(error))
        if left:
            notes = state.get("__notes__", ())
            notes = list(notes) if type(notes) in (list, tuple) else [notes]
            state["__notes__"] = [*notes, f"(left behind in the worker: {', '.join(left)})"]
        return args, members, state, made_of, chain

    def _filtered(self, left: list[str], kept: dict[Any, Any]) -> dict[Any, Any]:
        found = {}
        for name, value in kept.items():
            if type(name) is str and type(value) is str:
                found[name] = self._kept(left, name, value)
            elif self.travels(value) and self.travels(name):
                found[name] = value
            else:
                left.append(_said(name if type(name) is str else "an entry", value))
        return found

    def _kept(self, left: list[str], name: str, value: Any) -> Any:
        if self.travels(value):
            return value
        left.append(_said(name, value))
        if type(value) is str:
            return self._beginning(value)
        return f"<a {unasked.name_of(type(value))}, left behind in the worker>"

    def _beginning(self, text: str) -> str:
        octets = text.encode("utf-8", "surrogatepass")[: self._octets_max - OCTETS_BESIDE]
        kept = octets.decode("utf-8", "ignore")
        return (
            f"{kept}... ({len(text) - len(kept):,} more characters were left behind in the worker)"
        )

    def _or_stand_in(self, error: BaseException | None) -> BaseException | StandsIn | None:
        """A member of a group, or a cause: one that cannot travel costs the others nothing."""
        return error if error is None or self.travels(error) else StandsIn(error)

    def travels(self, value: Any) -> bool:
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = value, self._looked_at(value)
        return known[1]

    def _looked_at(self, value: Any) -> bool:
        if id(value) in self.inside:
            return True
        try:
            blob = interruptible(lambda: _dumps(value, True, self))
            interruptible(lambda: pickle.loads(blob))
        except Refused:
            return False
        return len(blob) < self._octets_max


class StandsIn:
    """In a pickle, where an exception cannot be. Opening it makes a `stand_in`."""

    def __init__(self, error: BaseException) -> None:
        self._said = headline(error), tuple(bases_of(type(error)))

    def __reduce__(self) -> tuple[Any, ...]:
        return stand_in, self._said


def _said(name: str, value: Any) -> str:
    return f"{name}, a {unasked.name_of(type(value))}"


def bases_of(kind: type[BaseException]) -> list[str]:
    """The types it descends from that others can find by name, from the nearest to Python's own."""
    try:
        return interruptible(lambda: _bases_of(kind))
    except Refused:  # a class may answer for its own name
        return []


def _bases_of(kind: type[BaseException]) -> list[str]:
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
    set_field(error, "args", args)
    return error


def _fill(error: BaseException, filling: list[Any]) -> None:
    members, state, chain = filling
    for name, value in members.items():
        set_field(error, name, value)  # what is read-only was set by its arguments
    unasked.state_of(error).update(state)
    _chain(error, chain)


def _remade(make: Callable[..., BaseException], args: tuple[Any, ...]) -> BaseException:
    return make(*args)


def _fill_remade(error: BaseException, filling: list[Any]) -> None:
    state, chain, notes = filling
    if state is not None:
        error.__setstate__(state)
    if notes:
        set_field(error, "__notes__", notes)
    _chain(error, chain)


def _chain(error: BaseException, chain: list[Any]) -> None:
    cause, context, suppress = chain
    if cause is not None:
        set_field(error, "__cause__", cause)
    if context is not None:
        set_field(error, "__context__", context)
    set_field(error, "__suppress_context__", suppress)


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
    set_field(error, "__context__", context)


def put_behind(error: BaseException, last: RemoteTraceback) -> None:
    """Let this be the end of its causes."""
    for _ in range(CAUSES_MAX):
        cause = unasked.cause_of(error)
        if cause is None:
            set_field(error, "__cause__", last)
            break
        error = cause


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
            group = issubclass(cls, _GROUP)
            error = _bare(cls, (text, [TaskFailed(text)]) if group else (text,))
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
        group = issubclass(made, _GROUP)
        interruptible(partial(_bare, made, ("", [TaskFailed("")]) if group else ("",)))
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
