"""In the program: a task's exception with its frames, as a local call would have left them.

Makes real tracebacks of a failure's record: `traceback`, `pdb`, loggers and notebooks read them as any other.
Their frames have no variables, for none travelled. A frame leads to the program's own file if that has the
text that ran; otherwise its file's name says what is different, and the text that ran stands under it. So
no line is shown that did not run.

Where a record is missing or does not fit the exception, the worker's text is all there is, in the
RemoteTraceback at the end of its causes. What a node sends is bounded (`trails.opened`) and never run: a
frame's code only waits.

Ideas: tracebacks made of records are tblib's, which has to raise in each frame; ours are frames of generators
that never begin, so they hold nothing of the functions that made them. The line table is that of PEP 626 and PEP 657.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType, FunctionType, TracebackType
from typing import Any

from msgspec.structs import replace

from stealmesh.tracebacks.lines import name_for
from stealmesh_protocol import trails, values
from stealmesh_protocol.errors import RemoteTraceback, TaskFailed
from stealmesh_protocol.raised import put_behind
from stealmesh_protocol.trails import Place, Trail, TrailFile, Trails
from stealmesh_protocol.unasked import cause_of, is_a, set_field

CHANGED = "changed since"
NOT_HERE = "not here"
DASH_C = "python -c"
REMARKS_CHARS_MAX = 8192
CODES_CACHED_MAX = 512


def rebuilt(failure: values.Failure) -> BaseException:
    """The exception to raise for a failure, with its frames."""
    record = trails.opened(failure.trails)
    if record is None:
        return values.rebuild(failure)
    error = values.rebuild(replace(failure, traceback=""))
    remote = RemoteTraceback(failure.traceback)
    if not _give_frames(error, record):
        put_behind(error, remote)
        return error
    first = trails.first_of(error)
    before = cause_of(first)
    inner = before.brief if type(before) is RemoteTraceback else ""
    remote.brief = _brief(record, failure.traceback, inner)
    if before is None or inner:  # or it is among its own causes
        set_field(first, "__cause__", remote)
    return error


def _brief(record: Trails, text: str, inner: str) -> str:
    """Where it ran, and what stands behind the traceback. `inner`: the same of a task that this one waited for."""
    remark = text[record.told :].strip()[:REMARKS_CHARS_MAX] if record.told > 0 else ""
    where = f"this ran on node {record.node}"
    if inner.startswith(where):
        where = inner
    elif inner:
        where = f"{inner}\nfor a task that ran on node {record.node}"
    return f"{where}\n\n{remark}\n" if remark else where


def _give_frames(error: BaseException, record: Trails) -> bool:
    """False: it is not the exception that the record tells of, or they are not of one shape."""
    told = list(trails.exceptions_told(error))
    kinds = [trail.kind for trail in record.trails]
    # Or it stands in for another.
    alone = len(kinds) == len(told) == 1 and is_a(error, TaskFailed)
    if not alone and kinds != [type(one).__name__[: trails.NAME_CHARS_MAX] for one in told]:
        return False
    names = _Names(record.files, record.trails)
    for one, trail in zip(told, record.trails, strict=True):
        BaseException.with_traceback(one, _traceback(trail, names))
    return True


# ---------------------------------------------------------------- frames


def _traceback(trail: Trail, names: _Names) -> TracebackType | None:
    trace: TracebackType | None = None
    for place in reversed(trail.places):
        frame, at = names.frame_of(place)
        for _ in range(place.times):
            trace = TracebackType(trace, frame, at, place.line)
    return trace


def _waits() -> Iterator[None]:
    """The body of all frames: it never begins."""
    yield


_CODE = _waits.__code__
_UNITS = len(_CODE.co_code) // 2
_AT = len(_CODE.co_code) - 2
"""Any instruction will do: the line table gives all of them the same place."""

_NO_COLUMNS, _LONG = 13, 14
"""Kinds of entries of the line table (CPython's Objects/locations.md). An entry is for up to eight units."""


@lru_cache(CODES_CACHED_MAX)
def _code(
    path: str, name: str, first: int, line: int, end_line: int, column: int, end_column: int
) -> CodeType:
    """Code that says of each of its instructions: it is there."""
    has_columns = column >= 0 and end_column >= 0 and end_line >= line
    table = bytearray()
    ahead = line - first
    for done in range(0, _UNITS, 8):
        units = min(8, _UNITS - done)
        table.append(0x80 | (_LONG if has_columns else _NO_COLUMNS) << 3 | units - 1)
        table += _varint(-ahead << 1 | 1 if ahead < 0 else ahead << 1)
        if has_columns:
            table += _varint(end_line - line) + _varint(column + 1) + _varint(end_column + 1)
        ahead = 0
    return _CODE.replace(
        co_filename=path,
        co_name=name,
        co_qualname=name,
        co_firstlineno=first,
        co_linetable=bytes(table),
    )


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 64:
        octets.append(64 | number & 63)
        number >>= 6
    octets.append(number)
    return bytes(octets)


def _frame(code: CodeType, module: str) -> Any:
    made: Any = FunctionType(code, {"__name__": module})
    return made().gi_frame


# ---------------------------------------------------------------- files


class _Names:
    """Under which names the files of a record are shown here."""

    def __init__(self, files: Sequence[TrailFile], of: Sequence[Trail]) -> None:
        self._files = files
        self._places: dict[int, dict[int, Place]] = {}
        """Of each file, one of each line."""
        for trail in of:
            for place in trail.places:
                self._places.setdefault(place.file, {}).setdefault(place.line, place)
        self._names: dict[int, str] = {}

    def frame_of(self, place: Place) -> tuple[Any, int]:
        number = place.file
        name = self._names.get(number)
        if name is None:
            name = self._names[number] = self._named(self._files[number], self._places[number])
        return _frame(_code_at(place, name), self._files[number].module), _AT

    def _named(self, file: TrailFile, places: dict[int, Place]) -> str:
        if not file.lines:
            return file.path
        for path in (file.path, *_elsewhere(file)):
            if all(_shows(path, file, place) for place in places.values()):
                return path
        remark = DASH_C if file.path == "<string>" else NOT_HERE
        if os.path.exists(file.path):
            remark = CHANGED
        return name_for(file.path, remark, file.lines)


def _code_at(place: Place, path: str) -> CodeType:
    return _code(
        path,
        place.name,
        place.first,
        place.line,
        place.end_line,
        place.column,
        place.end_column,
    )


def _shows(path: str, file: TrailFile, place: Place) -> bool:
    """Does the program see the text that ran, in this file at this line?"""
    text = file.lines.get(place.line)
    if text is None:
        return True
    trace = TracebackType(None, _frame(_code_at(place, path), file.module), _AT, place.line)
    return (traceback.extract_tb(trace)[0].line or "").strip() == text.strip()


def _elsewhere(file: TrailFile) -> Iterator[str]:
    """Where this module's file may be on this machine."""
    loaded = getattr(sys.modules.get(file.module), "__file__", None)
    if isinstance(loaded, str):
        yield loaded
    inside = file.module.replace(".", "/")
    for end in (f"/{inside}.py", f"/{inside}/__init__.py"):
        if inside and file.path.endswith(end):
            yield from (f"{root.rstrip('/')}{end}" for root in sys.path if root)
