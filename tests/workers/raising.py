"""Functions that raise in all the ways that a traceback can look."""

from __future__ import annotations

import json
from typing import Any


def deep(n: int) -> float:
    return 1 / (n - n)


def plain(n: int) -> float:
    sizes = {"a": n}
    return deep(sizes["a"]) + sizes["b"]


def over_lines(n: int) -> Any:
    return [
        n,
        deep(
            n,
        ),
    ]


def with_umlauts(n: int) -> Any:
    return {"größe": n}["größe"] + {"länge": n}["breite"]


def from_another(n: int) -> None:
    try:
        plain(n)
    except ZeroDivisionError as error:
        raise ValueError("outer") from error


def while_handling(n: int) -> None:
    try:
        from_another(n)
    except ValueError:
        raise KeyError("outermost")  # noqa: B904


def from_none(n: int) -> None:
    try:
        plain(n)
    except ZeroDivisionError:
        raise ValueError("outer") from None


def grouped(n: int) -> None:
    errors: list[Exception] = []
    for way in (plain, from_another, with_notes):
        try:
            way(n)
        except Exception as error:  # noqa: BLE001
            errors.append(error)
    raise ExceptionGroup("several", [*errors, ExceptionGroup("inside", [OSError(2, "gone")])])


def with_notes(n: int) -> None:
    error = RuntimeError("noted")
    error.add_note("first note")
    error.add_note("second\nnote")
    raise error


def wrong_syntax(n: int) -> None:
    compile("a = (1,\n b = 3", "foo.py", "exec")


def endless(n: int) -> int:
    return endless(n + 1)


def in_library(n: int) -> Any:
    return json.loads("{" * n)


class TwoArguments(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


def own_constructor(n: int) -> None:
    raise TwoArguments(n, "because")


def cannot_be_printed(n: int) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise TypeError("no words")

    raise Silent


executed: dict[str, Any] = {}
exec("def from_a_string(n):\n    return n.nothing\n", executed)


def calls_executed(n: int) -> Any:
    return executed["from_a_string"](n)


WAYS = [
    plain,
    over_lines,
    with_umlauts,
    from_another,
    while_handling,
    from_none,
    grouped,
    with_notes,
    wrong_syntax,
    endless,
    in_library,
    own_constructor,
    calls_executed,
]
