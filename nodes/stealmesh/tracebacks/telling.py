"""In a worker: what there is to tell of an exception's frames, as text and as a record.

Decides which frames are told (the mesh's own are not), with which text, and what is left out where there
are too many. Text of a line is told only if it is what ran: under a name like `<string>` there may be
several. Refuses to know items and chunks (`workers/failures.py`), and what the program makes of it.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Iterator
from itertools import islice
from types import CodeType, TracebackType
from typing import Any

from stealmesh.shipping import opening
from stealmesh.tracebacks.ours import folded, frames_of
from stealmesh_protocol.limits import TRACEBACK_CHARS_MAX
from stealmesh_protocol.raised import headline
from stealmesh_protocol.trails import (
    EXCEPTIONS_MAX,
    FRAMES_MAX,
    LINE_CHARS_MAX,
    LINES_MAX,
    NAME_CHARS_MAX,
    PATH_CHARS_MAX,
    PLACES_MAX,
    Place,
    Trail,
    TrailFile,
    Trails,
    exceptions_told,
    is_brief,
    members_of,
    packed,
)
from stealmesh_protocol.unasked import cause_of, context_of, traceback_of
from stealmesh_protocol.values import utf8

TEXT_CHARS_MAX = TRACEBACK_CHARS_MAX - 4096
"""The rest is for remarks behind it."""
HEAD = "Traceback (most recent call last):\n"
CUT = "\n  [...]\n"
FRAMES_LOOKED_AT_MAX = 20_000
"""Of one exception: the recursion limit is the user's to set."""


def told(error: BaseException, node: str) -> tuple[str, bytes]:
    """The traceback of an exception as text, and its trails."""
    teller = _Teller()
    text = teller.text(error)
    trails = teller.trails(error)
    if trails is None:
        return text, b""
    return text, packed(Trails(node[:NAME_CHARS_MAX], len(text), trails, teller.files))


class _Teller:
    """Looks at each exception once."""

    def __init__(self) -> None:
        self.files: list[TrailFile] = []
        self._numbers: dict[tuple[str, str, bool], int] = {}
        self._known: dict[int, list[Place]] = {}
        self._positions: dict[tuple[CodeType, int], tuple[int, int, int, int]] = {}

    def text(self, error: BaseException) -> str:
        try:
            text = utf8("".join(self._as_python_prints(error)))
        except BaseException:  # noqa: BLE001 - Python asks the exception, which may raise
            frames = self._summary(self.places(error)).format()
            text = utf8("".join([HEAD, *frames, headline(error), "\n"]))
        if len(text) > TEXT_CHARS_MAX:
            half = (TEXT_CHARS_MAX - len(CUT)) // 2
            text = f"{text[:half]}{CUT}{text[-half:]}"
        return text

    def _as_python_prints(self, error: BaseException) -> Iterator[str]:
        summary = traceback.TracebackException(
            type(error), error, traceback_of(error), limit=0, compact=True
        )
        for part, one in _pairs(summary, error):
            part.stack = self._summary(self.places(one))
        return summary.format()

    def trails(self, error: BaseException) -> list[Trail] | None:
        """None: they are too many, and only the text tells them."""
        trails: list[Trail] = []
        places = frames = 0
        for one in islice(exceptions_told(error), EXCEPTIONS_MAX + 1):
            found = self.places(one)
            places += len(found)
            frames += sum(place.times for place in found)
            trails.append(Trail(type(one).__name__[:NAME_CHARS_MAX], found))
        if len(trails) > EXCEPTIONS_MAX or places > PLACES_MAX or frames > FRAMES_MAX:
            return None
        return trails

    def places(self, error: BaseException) -> list[Place]:
        known = self._known.get(id(error))
        if known is None:
            known = self._known[id(error)] = self._places(error)
        return known

    def _places(self, error: BaseException) -> list[Place]:
        frames = list(islice(frames_of(traceback_of(error)), FRAMES_LOOKED_AT_MAX))
        places: list[Place] = []
        before: Any = None
        for trace in folded(frames, _path_of, error):
            at = (trace.tb_frame.f_code, trace.tb_lasti, trace.tb_lineno)
            if at == before and places[-1].times < FRAMES_MAX:
                places[-1].times += 1
            else:
                places.append(self._place(trace))
            before = at
        return places

    def _place(self, trace: TracebackType) -> Place:
        code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
        line = trace.tb_lineno or 0
        start, end, column, end_column = self._position(code, trace.tb_lasti)
        if start != line or column < 0 or end_column < 0:
            end, column, end_column = line, -1, -1
        has_text = _is_its_text(code)
        number = self._file(code, names, has_text)
        if has_text:
            self._read(self.files[number], code, names, line, max(end, line))
        name = utf8(code.co_name)[:NAME_CHARS_MAX]
        return Place(number, name, code.co_firstlineno, line, max(end, line), column, end_column)

    def _position(self, code: CodeType, at: int) -> tuple[int, int, int, int]:
        """Lines and columns of an instruction; -1 for what is not known."""
        known = self._positions.get((code, at))
        if known is None:
            found = next(islice(code.co_positions(), at // 2, None), (None,) * 4) if at >= 0 else ()
            line, end, column, end_column = (
                -1 if each is None else each for each in found or (None,) * 4
            )
            known = self._positions[code, at] = (line, end, column, end_column)
        return known

    def _file(self, code: CodeType, names: dict[str, Any], has_text: bool) -> int:
        path = utf8(code.co_filename)[:PATH_CHARS_MAX] or "<unknown>"
        module = names.get("__name__")
        module = utf8(module)[:NAME_CHARS_MAX] if type(module) is str else ""
        number = self._numbers.setdefault((path, module, has_text), len(self.files))
        if number == len(self.files):
            self.files.append(TrailFile(path, module, {}))
            linecache.checkcache(code.co_filename)
        return number

    def _read(
        self, file: TrailFile, code: CodeType, names: dict[str, Any], line: int, end: int
    ) -> None:
        if line in file.lines:
            return
        for number in range(line, min(end, line + LINES_MAX - 1) + 1):
            text = utf8(linecache.getline(code.co_filename, number, names)).rstrip()
            if text and len(text) <= LINE_CHARS_MAX:
                file.lines[number] = text

    def _summary(self, places: list[Place]) -> traceback.StackSummary:
        """Python's own words for frames, with our text: `linecache` may have another under that name."""
        frames = []
        for place in places:
            file = self.files[place.file]
            numbers = range(place.line, place.end_line + 1)
            if sys.version_info < (3, 13):  # later ones show all lines of a statement
                numbers = numbers[:1]
            known = place.column >= 0 and all(number in file.lines for number in numbers)
            text = "".join(
                f"{file.lines.get(each, '')}\n" for each in numbers[: None if known else 1]
            )
            frame = traceback.FrameSummary(
                file.path,
                place.line,
                place.name,
                lookup_line=False,
                line=text if text.strip() else "",
                end_lineno=place.end_line if known else None,
                colno=place.column if known else None,
                end_colno=place.end_column if known else None,
            )
            frames += [frame] * place.times
        return traceback.StackSummary.from_list(frames)


def _path_of(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _is_its_text(code: CodeType) -> bool:
    """Is what `linecache` has under this name the text of this code? `<string>` is the program of
    `python -c`, and all that it executes from strings."""
    if code.co_filename != "<string>":
        return True
    living = opening.living()
    main = None if living is None else living.sources.get("__main__")
    return main is not None and main.path == code.co_filename and code in main.codes


def _pairs(
    summary: traceback.TracebackException, error: BaseException
) -> Iterator[tuple[traceback.TracebackException, BaseException]]:
    """The parts of a summary with the exceptions that they tell, less what says the node only."""
    waiting: list[tuple[traceback.TracebackException, Any]] = [(summary, error)]
    while waiting:
        part, one = waiting.pop()
        yield part, one
        for name in ("__cause__", "__context__"):
            before = getattr(part, name)
            if before is None:
                continue
            led = cause_of(one) if name == "__cause__" else context_of(one)
            if led is None or is_brief(led):
                setattr(part, name, None)
            else:
                waiting.append((before, led))
        for inside, member in zip(part.exceptions or (), members_of(one), strict=False):
            waiting.append((inside, member))
