"""How some items of a chunk failed, in the one line that an entry of a journal has room for.

Decides the form: `item 17: ValueError: no`, and `item 17 (2 of 3): ValueError: no` if the others of the chunk failed in
other words. A node writes it, and what shows journals reads it back to tell what is the same. Plain words: no user
value is opened, and of each failure only its place and its words are decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from stealmesh_protocol.limits import ENTRY_DETAIL_CHARS_MAX
from stealmesh_protocol.values import LACKING, OUTCOMES

_FORM = re.compile(r"item (\d{1,20})(?: \((\d{1,20}) of \d{1,20}\))?: (.*)", re.DOTALL)


class _Words(msgspec.Struct, array_like=True):
    """The first fields of a `Failure`; the others are skipped."""

    offset: int
    kind: str
    exception: msgspec.Raw = msgspec.Raw()
    text: str = ""


class _Failed(msgspec.Struct, array_like=True):
    """The first fields of outcomes."""

    codec: int
    blob: msgspec.Raw
    failures: list[_Words]


_decode = msgspec.msgpack.Decoder(_Failed).decode


@dataclass(frozen=True, slots=True)
class FailedWords:
    """What the line says."""

    item: int
    alike: int
    """How many items of the chunk failed in these words; 0: all that failed."""
    text: str


def line_of(codec: int, blob: bytes, first: int | None = None) -> str:
    """How items of a chunk failed that begins with the item `first`; empty: its blob does not tell. Items of an explore
    bag have no numbers: then it is the words alone."""
    if codec not in (OUTCOMES, LACKING):
        return ""
    try:
        failures = _decode(blob).failures
    except (msgspec.MsgspecError, RecursionError):
        return ""  # its owner says so when it opens the blob
    if not failures:
        return ""
    one = failures[-1]
    if first is None:
        return (one.text or one.kind)[:ENTRY_DETAIL_CHARS_MAX]
    alike = sum(each.text == one.text and each.kind == one.kind for each in failures)
    some = f" ({alike} of {len(failures)})" if alike < len(failures) else ""
    return f"item {first + one.offset}{some}: {one.text or one.kind}"[:ENTRY_DETAIL_CHARS_MAX]


def read_line(line: str) -> FailedWords | None:
    """None: it is no such line."""
    found = _FORM.fullmatch(line)
    return found and FailedWords(int(found[1]), int(found[2] or 0), found[3])
