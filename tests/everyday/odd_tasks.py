"""Classes whose own code answers what everybody asks: with an error, a lie, or themselves."""

from __future__ import annotations

import sys
import threading
from typing import Any, NoReturn

import stealmesh


def refuses(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("asked")


def leaves(*_: Any) -> NoReturn:
    sys.exit(3)


class Plain(Exception):
    pass


class NoClass(Exception):
    __class__ = property(refuses)


class AnotherClass(Exception):
    __class__ = property(lambda self: int)


class NoAttributes(Exception):
    __getattribute__ = refuses


class EndsOnLook(Exception):
    __getattribute__ = leaves


class NoDict(Exception):
    __dict__ = property(refuses)


class NoTraceback(Exception):
    __traceback__ = property(refuses, refuses)


class NoCause(Exception):
    __cause__ = property(refuses, refuses)


class NoContext(Exception):
    __context__ = property(refuses, refuses)
    __suppress_context__ = property(refuses, refuses)


class NoNotes(Exception):
    __notes__ = property(refuses)


class NoArgs(Exception):
    args = property(refuses)


class NoReduce(Exception):
    __reduce_ex__ = refuses


class NoTruth(Exception):
    __bool__ = __len__ = __eq__ = refuses
    __hash__ = refuses


class NoWords(Exception):
    __str__ = __repr__ = refuses


class NoName(ImportError):
    name = property(refuses)


class NoAncestors(BaseException):
    __class__ = property(refuses)


class _Instanceless(type):
    def __instancecheck__(cls, other: Any) -> bool:
        raise RuntimeError("asked")


class NoInstances(Exception, metaclass=_Instanceless):
    pass


class _Unequal(type):
    __eq__ = __hash__ = refuses


class NoEqualClass(Exception, metaclass=_Unequal):
    pass


RAISED: dict[str, type[BaseException]] = {
    cls.__name__: cls
    for cls in (
        NoClass, AnotherClass, NoAttributes, EndsOnLook, NoDict, NoTraceback, NoCause, NoContext,
        NoNotes, NoArgs, NoReduce, NoTruth, NoWords, NoName, NoAncestors, NoInstances, NoEqualClass,
    )
}  # fmt: skip


class ValueWithoutClass:
    __class__ = property(refuses)


class ValueWithoutAttributes:
    __getattribute__ = refuses


class ValueThatLeaves:
    __getattribute__ = leaves


class ValueWithoutEqualClass(metaclass=_Unequal):
    pass


class LikeAnArray:
    __array_interface__ = property(refuses)
    nbytes = property(refuses)


class Awkward:
    """It can be sent, whatever else is asked of it."""

    dtype = property(refuses)
    __await__ = property(refuses)
    __bool__ = __len__ = __eq__ = __repr__ = refuses
    __hash__ = refuses


RETURNED: dict[str, type[Any]] = {
    "class": ValueWithoutClass,
    "attributes": ValueWithoutAttributes,
    "leaves": ValueThatLeaves,
    "equal class": ValueWithoutEqualClass,
}


class Coded(ExceptionGroup[Exception]):
    """Its `__new__` takes more than a group's."""

    code: int

    def __new__(cls, message: str, members: list[Exception], code: int) -> Coded:
        self = super().__new__(cls, message, members)
        self.code = code
        return self


# ---------------------------------------------------------------- tasks


def raises(kind: str) -> NoReturn:
    raise RAISED[kind](1)


def raises_if_named(kind: str) -> str:
    if kind:
        raise RAISED[kind](1)
    return kind


async def raises_on_the_loop(kind: str) -> NoReturn:
    raise RAISED[kind](1)


def raises_from(kind: str) -> NoReturn:
    raise Plain("outer") from RAISED[kind](1)


def returns(kind: str | None) -> Any:
    return 1 if kind is None else RETURNED[kind]()


async def returns_on_the_loop(kind: str) -> Any:
    return RETURNED[kind]()


def returns_an_awkward_one() -> Any:
    return Awkward()


async def returns_an_awkward_one_on_the_loop() -> Any:
    return Awkward()


def returns_what_is_like_an_array() -> Any:
    return LikeAnArray()


def takes(_: Any) -> int:
    return 1


# ---------------------------------------------------------------- exceptions that hold exceptions


def of_itself() -> Exception:
    error = Plain("x")
    error.args = (error,)
    return error


def of_each_other() -> Exception:
    one, other = Plain(1), Plain(2)
    one.args, other.args = (other,), (one,)
    return one


def deep() -> Exception:
    """Packing one twice for each step outwards would take 2**60 steps."""
    error = Plain("innermost", threading.Lock())
    for _ in range(60):
        error = Plain(error)
    return error


def deeper_than_python() -> Exception:
    error = Plain("innermost")
    for _ in range(3000):
        error = Plain(error)
    return error


def long_chain() -> Exception:
    error = Plain("first")
    for number in range(3000):
        after = Plain(number)
        after.__cause__ = error
        error = after
    return error


def holds_itself_and_a_lock() -> Exception:
    error: Any = Plain("x")
    error.me, error.lock = error, threading.Lock()
    return error  # type: ignore[no-any-return]


def around() -> Exception:
    one, other = Plain(1), Plain(2)
    one.__cause__, other.__cause__ = other, one
    return one


def notes_that_are_no_list() -> Exception:
    error: Any = Plain("x", threading.Lock())
    error.__notes__ = 5
    return error  # type: ignore[no-any-return]


def odd_keys() -> Exception:
    error = Plain("x", threading.Lock())
    error.__dict__[5] = 6  # type: ignore[index]
    error.__dict__[Awkward] = 6  # type: ignore[index]
    return error


def odd_arguments() -> Exception:
    return Plain(ValueWithoutClass(), Awkward())


HOLDING = {
    made.__name__: made
    for made in (
        of_itself, of_each_other, deep, deeper_than_python, long_chain, holds_itself_and_a_lock,
        around, notes_that_are_no_list, odd_keys, odd_arguments,
    )
}  # fmt: skip


def raises_one_that_holds(kind: str) -> NoReturn:
    raise HOLDING[kind]()


def raises_coded() -> NoReturn:
    raise Coded("several", [ValueError(1), TypeError(2)], 7)


def raises_coded_with_odd_members() -> NoReturn:
    odd: Any = RAISED["NoEqualClass"](1)
    raise Coded("several", [odd, Plain(threading.Lock()), ValueError(3)], 7)


def raises_a_long_message(chars: int) -> NoReturn:
    raise ValueError("é" * chars)


def raises_many_long_messages(chars: int, count: int) -> NoReturn:
    raise ValueError(*(str(number) + "x" * chars for number in range(count)))


# ---------------------------------------------------------------- elsewhere than in a task of its own


def raises_inside(kind: str) -> NoReturn:
    with stealmesh.here() as mesh:
        mesh.submit(raises, kind).result()
        raise AssertionError("it raises nothing")


def returns_inside(kind: str) -> str:
    with stealmesh.here() as mesh:
        return type.__repr__(type(mesh.submit(returns, kind).result()))


class Actor:
    def raises(self, kind: str) -> NoReturn:
        raises(kind)

    def returns(self, kind: str) -> Any:
        return returns(kind)

    def counts(self) -> int:
        return 1
