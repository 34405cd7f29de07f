"""What is known of an object without running its code.

A task's exceptions and results are the user's. Their classes may answer `__class__`, `__dict__`, `__cause__` or
any other name with code that raises, lies or never ends; `isinstance` asks for `__class__`, too. An
error there, in our own code, ends a worker or hides the task's error. So what decides by such an object asks
here. Reads what Python itself reads: the type, and the fields that BaseException keeps. Refuses to know
what is done with the answer.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")

_fields: Any = BaseException.__dict__
_import_fields: Any = ImportError.__dict__
_type_fields: Any = type.__dict__


def is_a(value: object, kinds: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Is it one of these? They are Python's or ours, without a metaclass that runs code."""
    return issubclass(type(value), kinds)


def is_caught_by(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Would `except kinds` catch it? They may be the user's: no `__instancecheck__` is asked."""
    mro = _type_fields["__mro__"].__get__(type(error))
    return any(cls is kind for cls in mro for kind in kinds)


def name_of(kind: type) -> str:
    return str(_type_fields["__qualname__"].__get__(kind))


def full_name_of(kind: type) -> str:
    return f"{_type_fields['__module__'].__get__(kind)}.{name_of(kind)}"


def state_of(error: BaseException) -> dict[Any, Any]:
    """Its `__dict__`, to read and to write."""
    state: dict[Any, Any] = _fields["__dict__"].__get__(error)
    return state


def args_of(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = _fields["args"].__get__(error)
    return args


def traceback_of(error: BaseException) -> TracebackType | None:
    trace: TracebackType | None = _fields["__traceback__"].__get__(error)
    return trace


def cause_of(error: BaseException) -> BaseException | None:
    cause: BaseException | None = _fields["__cause__"].__get__(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    context: BaseException | None = _fields["__context__"].__get__(error)
    return context


def is_context_hidden(error: BaseException) -> bool:
    return bool(_fields["__suppress_context__"].__get__(error))


def missing_module(error: BaseException) -> Any:
    """The `name` of an ImportError."""
    return _import_fields["name"].__get__(error)


def set_field(error: BaseException, name: str, value: Any) -> bool:
    """Set one of BaseException's fields, or a field of its own. False: it takes no such value."""
    try:
        if name in _fields:
            _fields[name].__set__(error, value)
        else:
            BaseException.__setattr__(error, name, value)
    except Exception:  # noqa: BLE001 - read-only, or a property of the user's
        return False
    return True
