"""The items of `stealmesh run`, read from the text behind --items.

A range of any length stays a range; lines of a file or of standard input are read as they are needed.
Evaluates no code, only numbers and Python literals.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

HELP = (
    "0:1000 or range(1000): numbers; [1, 'a', (2, 3)]: a Python list; @file: the lines of a file; "
    "-: the lines of standard input"
)
_COLONS = re.compile(r"(-?\d*):(-?\d+)(?::(-?\d+))?")


def parse(text: str, *, as_json: bool = False) -> Iterable[Any]:
    """The items that `text` names. Raises ValueError with the remedy."""
    text = text.strip()
    if text == "-":
        return _lines(sys.stdin, as_json)
    if text.startswith("@"):
        return _file(text[1:], as_json)
    if as_json:
        raise ValueError("--json-lines is for @file and -")
    colons = _COLONS.fullmatch(text)
    if colons:
        start, stop, step = colons.groups()
        return _range(text, int(start or 0), int(stop), int(step or 1))
    if text.startswith("range(") and text.endswith(")"):
        return _range(text, *_numbers(text))
    return _literal(text)


def _range(text: str, *numbers: int) -> range:
    try:
        return range(*numbers)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text}: {error}") from None


def _numbers(text: str) -> list[int]:
    inside = text.removeprefix("range(").removesuffix(")")
    try:
        numbers = ast.literal_eval(f"[{inside}]")
    except (ValueError, SyntaxError):
        numbers = [None]
    if not numbers or not all(type(number) is int for number in numbers):
        raise ValueError(
            f"{text}: a range takes whole numbers, as in range(1000) or range(0, 1000, 2)"
        )
    return list(numbers)


def _literal(text: str) -> list[Any]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, list | tuple):
        raise ValueError(f"cannot read the items {text!r}; write {HELP}")
    return list(value)


def _file(path: str, as_json: bool) -> Iterator[Any]:
    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115  # read, and closed, by the generator
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return _closing(file, as_json)


def _closing(file: Any, as_json: bool) -> Iterator[Any]:
    with file:
        yield from _lines(file, as_json)


def _lines(lines: Iterable[str], as_json: bool) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if not as_json:
            yield line
        elif line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} of the items is not JSON: {error}") from None
