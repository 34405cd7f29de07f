"""What this worker's threads and asyncio tasks are at, told to its node: taken in the process itself.

The listener (`division.py`) reads the question and takes the stacks, in a thread that holds the interpreter for a
moment. So a task that computes in Python, sleeps or waits for a lock is seen as it is, and no line of it runs
otherwise. A worker with single calls only has no listener yet: the node's SIGURG makes its main thread start one.
A task that holds the interpreter in C answers neither. Then the node sends `wire.DUMP_SIGNAL`, and the C handler of
`faulthandler` writes the frames into a file that both have open. It needs no interpreter, and it is safe just
then: no other thread runs Python code while one holds the interpreter.

Decides which frames are the task's (those of the worker itself are left out) and how much is told. Refuses to
know which job a chunk belongs to, and who asks.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from stealmesh.workers import stopping, wire

FRAMES_MAX = 64
"""Of one stack: the innermost and some of the outermost are told."""
OUTERMOST = 16
STACKS_MAX = 256
TOLD_OCTETS_MAX = 256 * 1024
TEXT_CHARS_MAX = 200

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""Where the worker's own code is."""
_STARTERS = (os.sep + "threading.py", os.sep + "runpy.py", os.sep + "base_events.py", os.sep + "events.py",
             os.sep + "runners.py")  # fmt: skip

Line = tuple[str, int, str, str]
Told = tuple[str, list[Line], int, int, int]
"""name, frames (the innermost last), chunk, item, frames left out: a `Stack`."""


def all_stacks() -> list[Told]:
    """Those of the threads, then those of the asyncio tasks that do not run at this moment."""
    me = threading.get_ident()
    at_work = stopping.NOW.at_work()
    frames = {ident: frame for ident, frame in sys._current_frames().items() if ident != me}
    told = [each for ident, frame in frames.items() for each in _of_thread(ident, frame, at_work)]
    told += _of_tasks(frames.values(), at_work)
    told.sort(key=lambda each: each[2] < 0)  # what runs a chunk comes first
    return told[:STACKS_MAX]


def packed(ticket: int) -> bytes:
    """The answer to a question with this number, within its bound."""
    told = all_stacks()
    more = 0
    while len(blob := wire.pack([ticket, told, more])) > TOLD_OCTETS_MAX:
        more += len(told) - len(told) // 2
        told = told[: len(told) // 2]
    return blob


# ---------------------------------------------------------------- threads


def _of_thread(ident: int, frame: FrameType, at_work: list[stopping.AtWork]) -> Iterator[Told]:
    lines = [(each.f_code, each.f_lineno, each.f_globals) for each in _outwards(frame)][::-1]
    own = next((each for each in at_work if each.thread == ident and each.task is None), None)
    kept = lines[where_the_task_begins([code.co_filename for code, _, _ in lines]) :]
    if own is None and all(_waits_for_events(code.co_filename) for code, _, _ in kept):
        return  # a thread of the worker itself, or one that waits for work
    name = getattr(getattr(threading, "_active", {}).get(ident), "name", f"thread {ident}")
    yield _told(name, kept, own)


def _waits_for_events(file: str) -> bool:
    """An event loop's own file."""
    return f"{os.sep}asyncio{os.sep}" in file or file.endswith(os.sep + "selectors.py")


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def where_the_task_begins(files: list[str]) -> int:
    """How many of the outermost frames are the worker's own."""
    begins = 0
    for at, file in enumerate(files):
        if file.startswith(_OWN):
            begins = at + 1
        elif not (file.startswith("<") or file.endswith(_STARTERS)):
            break
    return begins


# ---------------------------------------------------------------- asyncio


def _of_tasks(threads: Iterable[FrameType], at_work: list[stopping.AtWork]) -> list[Told]:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    told = []
    for loop in _loops(threads):
        running = asyncio.current_task(loop)
        for task in asyncio.all_tasks(loop):
            if task is running:
                continue  # its thread has told its frames
            lines = list(_of_coroutine(task.get_coro()))
            own = next((each for each in at_work if each.task is task), None)
            kept = lines[where_the_task_begins([code.co_filename for code, _, _ in lines]) :]
            if kept or own is not None:
                told.append(_told(f"task {task.get_name()}", kept, own))
    return told


def _loops(threads: Iterable[FrameType]) -> list[Any]:
    """The event loops that run in these threads."""
    found = {}
    for frame in threads:
        for each in _outwards(frame):
            code = each.f_code
            if code.co_name == "run_forever" and "self" in code.co_varnames:
                loop = each.f_locals.get("self")
                if hasattr(loop, "call_soon_threadsafe"):
                    found[id(loop)] = loop
    return list(found.values())


def _of_coroutine(one: Any) -> Iterator[tuple[CodeType, int, dict[str, Any]]]:
    """From the outermost to what it waits in. A task itself knows only the outermost frame of one that waits."""
    for _ in range(4 * FRAMES_MAX):
        frame = next(
            (f for f in (getattr(one, n, None) for n in ("cr_frame", "gi_frame", "ag_frame")) if f),
            None,
        )
        if frame is None:
            return
        yield frame.f_code, frame.f_lineno, frame.f_globals
        one = next(
            (
                o
                for o in (getattr(one, n, None) for n in ("cr_await", "gi_yieldfrom", "ag_await"))
                if o
            ),
            None,
        )


# ---------------------------------------------------------------- in words


def _told(
    name: str, lines: list[tuple[CodeType, int, dict[str, Any]]], own: stopping.AtWork | None
) -> Told:
    left_out = max(0, len(lines) - FRAMES_MAX)
    if left_out:
        lines = lines[:OUTERMOST] + lines[OUTERMOST + left_out :]
    frames = [
        (
            code.co_filename,
            line or 0,
            code.co_qualname,
            _text_of(code.co_filename, line or 0, names),
        )
        for code, line, names in lines
    ]
    chunk, item = (-1, -1) if own is None else (own.chunk, own.item)
    return name[:TEXT_CHARS_MAX], frames, chunk, item, left_out


def _text_of(file: str, line: int, names: dict[str, Any]) -> str:
    try:
        return linecache.getline(file, line, names).strip()[:TEXT_CHARS_MAX]
    except Exception:  # noqa: BLE001 - a module may have a loader of its own, which fails
        return ""
