"""Where a task's exception was raised, as a record: its frames without their objects.

Decides what of a frame travels (file, module, name, lines, columns as PEP 657 counts them, and the text of
those lines), in which order the exceptions of a chain or a group are told, and how much of it all there may
be. Its bytes are opaque to nodes. Refuses to know tracebacks: `stealmesh.tracebacks` makes records of them,
and them of records.

No value of a variable travels: it may be secret, huge, or refuse to be pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stealmesh_protocol.errors import RemoteTraceback
from stealmesh_protocol.limits import TRAILS_OCTETS_MAX
from stealmesh_protocol.unasked import cause_of, context_of, is_a, is_context_hidden

EXCEPTIONS_MAX = 64
"""Of one failure: a chain or a group may have thousands. The text tells the others."""
PLACES_MAX = 256
"""Of one failure."""
FRAMES_MAX = 4096
"""The same, when a place that repeats itself counts as often as it does."""
LINES_MAX = 4
"""Of one place: a statement may go over a hundred lines."""
LINE_CHARS_MAX = 240
NAME_CHARS_MAX = 240
PATH_CHARS_MAX = 1024

_LINE_MAX = 2**31 - 2
_Line = Annotated[int, Meta(ge=0, le=_LINE_MAX)]
_Column = Annotated[int, Meta(ge=-1, le=_LINE_MAX)]


class TrailFile(msgspec.Struct, array_like=True):
    """A file of code, as the code itself names it."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_CHARS_MAX)]
    module: Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
    """Another machine may have this module elsewhere."""
    lines: dict[_Line, Annotated[str, Meta(max_length=LINE_CHARS_MAX)]] = {}
    """The text that ran, as far as it is known there: line number → text."""


class Place(msgspec.Struct, array_like=True):
    """A frame of a function, or several in a row that are at the same place."""

    file: Annotated[int, Meta(ge=0)]
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
    first: _Line
    """Where the function begins."""
    line: _Line
    end_line: _Line = 0
    column: _Column = -1
    """In octets of UTF-8, as code objects count. -1: not known."""
    end_column: _Column = -1
    times: Annotated[int, Meta(ge=1, le=FRAMES_MAX)] = 1


class Trail(msgspec.Struct, array_like=True):
    """Of one exception: its type's name and its frames, the outermost first."""

    kind: Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
    places: list[Place]


class Trails(msgspec.Struct, array_like=True):
    """Of one failure: of its exception, and of those that are told together with it (`exceptions_told`)."""

    node: Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
    """Where it was raised, for people."""
    told: int
    """This number of characters of the failure's `traceback` says the same. What stands behind is a remark."""
    trails: list[Trail]
    files: list[TrailFile]


def packed(trails: Trails) -> bytes:
    """Empty: it is too much, and the text has to do."""
    try:
        blob = msgspec.msgpack.encode(trails)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate in a path
        return b""
    return blob if len(blob) <= TRAILS_OCTETS_MAX else b""


def opened(blob: bytes) -> Trails | None:
    """None: there are none that can be used, and the text has to do. What a liar sends ends here."""
    if not blob or len(blob) > TRAILS_OCTETS_MAX:
        return None
    try:
        trails = _decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    places = [place for trail in trails.trails for place in trail.places]
    sound = (
        0 < len(trails.trails) <= EXCEPTIONS_MAX
        and len(places) <= PLACES_MAX
        and sum(place.times for place in places) <= FRAMES_MAX
        and all(place.file < len(trails.files) for place in places)
    )
    return trails if sound else None


_decode = msgspec.msgpack.Decoder(Trails).decode


# ---------------------------------------------------------------- which exceptions are told

_members: Any = BaseExceptionGroup.__dict__["exceptions"]


def exceptions_told(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that Python prints with it, each once: groups first, then what led to it.

    Both sides count in this order. Runs no code of the user's. A `RemoteTraceback` that only says where
    it was is left out: the frames that it speaks of are the exception's own.
    """
    seen = {id(error)}
    waiting = [error]
    while waiting:
        one = waiting.pop()
        yield one
        found = list(members_of(one))
        before = led_to(one)
        if before is not None:
            found.append(before)
        for each in reversed(found):
            if id(each) not in seen and not is_brief(each):
                seen.add(id(each))
                waiting.append(each)


def members_of(error: BaseException) -> Sequence[BaseException]:
    """The exceptions of a group."""
    members: Sequence[BaseException] = ()
    if is_a(error, BaseExceptionGroup):
        members = _members.__get__(error)
    return members


def led_to(error: BaseException) -> BaseException | None:
    """The exception that Python prints before this one."""
    cause = cause_of(error)
    if cause is not None:
        return cause
    return None if is_context_hidden(error) else context_of(error)


def first_of(error: BaseException) -> BaseException:
    """The one that Python prints first, but for what only says where it was."""
    seen = {id(error)}
    while (before := led_to(error)) is not None and id(before) not in seen:
        if is_brief(before):
            break
        seen.add(id(before))
        error = before
    return error


def is_brief(error: BaseException) -> bool:
    return type(error) is RemoteTraceback and bool(error.brief)
