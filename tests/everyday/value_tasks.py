"""Values and tasks that misbehave, importable in workers: for the tests of how values travel."""

from __future__ import annotations

import io
import os
import threading
import urllib.error
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn


class TwoArguments(Exception):
    """Remembers one argument less than it needs."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class Truthless(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("nobody may ask for my truth")


class HoldsALock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.code = 7


class LockInArguments(Exception):
    def __init__(self, text: str, lock: Any) -> None:
        super().__init__(text, lock)


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class OwnReduce(Exception):
    """Says itself how to rebuild it, wrongly."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Refuses:
    """Cannot be opened: its own code raises `kind`."""

    def __init__(self, kind: type[BaseException] = ValueError) -> None:
        self.kind = kind

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise state["kind"]("not here")


class NotEvenPacked:
    """Cannot be pickled: its own code raises `kind`."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __getstate__(self) -> NoReturn:
        raise self.kind("not me")


class Remembers:
    """Where it was opened, and how often."""

    opened: list[int] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Remembers.opened.append(threading.get_ident())


class Finalized:
    """Notes in which thread it ends."""

    ended: list[str] = []  # noqa: RUF012

    def __del__(self) -> None:
        Finalized.ended.append(threading.current_thread().name)


def same(value: Any) -> Any:
    return value


def bare(value: Any) -> int:
    return 1


def size(value: bytes) -> int:
    return len(value)


def zeros(octets: int) -> bytes:
    return bytes(octets)


def remembers(number: int) -> Remembers:
    return Remembers(number)


def refuses_on_three(number: int) -> Any:
    return Refuses() if number == 3 else Remembers(number)


def returns(kind: str) -> Any:
    made: dict[str, Callable[[], Any]] = {
        "two arguments": lambda: TwoArguments(1, "returned"),
        "setstate": Refuses,
        "setstate exits": lambda: Refuses(SystemExit),
        "setstate interrupts": lambda: Refuses(KeyboardInterrupt),
        "setstate ends generators": lambda: Refuses(GeneratorExit),
        "setstate ends iterators": lambda: Refuses(StopIteration),
        "inside of a list": lambda: [1, [Refuses()], 2],
        "good": lambda: 5,
    }
    return made[kind]()


def packs_badly(kind: type[BaseException]) -> NotEvenPacked:
    return NotEvenPacked(kind)


def raises(kind: str) -> NoReturn:
    match kind:
        case "two arguments":
            raise TwoArguments(404, "raised")
        case "falsy":
            raise Falsy("false, and raised")
        case "truthless":
            raise Truthless("without truth, and raised")
        case "http":
            headers: Any = {"a": "b"}
            body = io.BytesIO(b"body")
            raise urllib.error.HTTPError("http://nowhere", 404, "not found", headers, body)
        case "lock":
            raise HoldsALock("holds a lock")
        case "lock in arguments":
            raise LockInArguments("holds a lock", threading.Lock())
        case "slots":
            raise Slotted(code=3)
        case "frozen":
            raise Frozen(4)
        case "own reduce":
            raise OwnReduce("says it wrongly")
        case "unicode":
            b"\xff".decode()
        case "os error":
            os.stat("/nowhere/at/all")
        case "from":
            try:
                raise TwoArguments(1, "the cause")
            except TwoArguments as cause:
                error = ValueError("the effect")
                error.add_note("a note")
                raise error from cause
        case "context":
            try:
                raise TwoArguments(2, "the context")
            except TwoArguments:
                raise ValueError("meanwhile")  # noqa: B904 - what is tested
        case "group":
            raise ExceptionGroup("several", [TwoArguments(3, "one"), ValueError("two")])
    raise AssertionError(kind)


def raises_a_local_class(_: int) -> NoReturn:
    """Nobody else can have this type: what it refers to cannot be pickled."""
    lock = threading.Lock()

    class Local(TwoArguments, ValueError):
        held = lock

    raise Local(5, "of a class that stays here")


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1
