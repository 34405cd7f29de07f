"""Progress bars: in a notebook a cell that moves, elsewhere rows on standard error, drawn by rich.

Decides when a bar moves: when it is told something, and eight times a second while the program waits for
results. While the program's own code runs, and after the end of a bar, nothing is drawn, so that a bar does not
come back behind Ctrl-C, over a traceback or a prompt. All bars of a program share one place on the screen.
Refuses to know what is counted. rich is imported only when there is a bar to draw.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, Protocol

from stealmesh.notebook import cell, looks

REFRESHES_A_SECOND = 8
CELL_SECONDS = 0.2
"""A notebook's front end is asked to draw at most this often."""


class Picture(Protocol):
    """Where a bar is drawn."""

    def move(self, done: float, total: float | None) -> None: ...
    def write(self, text: str) -> None: ...
    def wake(self, waits: bool) -> None:
        """`waits`: the program waits for results from now on."""

    def end(self, state: str) -> None:
        """Draw it once more. `state`: what it came to, if it did not come to its end."""


class Bar:
    """One bar. A call says how many items are done, and of how many (None: unknown)."""

    def __init__(self, name: str) -> None:
        display = cell.notebook()
        self._picture: Picture = _Row(name) if display is None else _CellBar(name, display)
        self._lock = threading.Lock()
        self._open = True
        self._rests = False
        self._done = 0
        self._total: int | None = None
        self._running = 0.0

    def running(self, items: float) -> None:
        """Shares of items that run count as done."""
        self._running = items
        if not self._rests:
            self._move()

    def rest(self) -> None:
        """The program's own code runs."""
        self._rests = True
        self._wake(False)

    def goes_on(self) -> None:
        """The program waits for results."""
        self._rests = False
        self._wake(True)

    def __call__(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        self._move()
        if total is not None and done >= total:
            self.close()

    def write(self, text: str) -> None:
        """Lines above the bar."""
        self._picture.write(text)

    def close(self, *_: object) -> None:
        """It moves no more. Another time is no harm."""
        with self._lock:
            first, self._open = self._open, False
            if first:
                is_over = self._total is not None and self._done >= self._total
                self._picture.end("" if is_over else "stopped")

    def _wake(self, waits: bool) -> None:
        with self._lock:
            if self._open:
                self._picture.wake(waits)

    def _move(self) -> None:
        shown = self._done + self._running
        if self._total is not None:
            shown = min(shown, self._total)
        with self._lock:
            if self._open:
                self._picture.move(shown, self._total)


# ---------------------------------------------------------------- a terminal


class _Screen:
    """The rows on standard error, and the thread that redraws them while the program waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Any = None
        self._rows = 0
        self._waiting: set[Any] = set()
        self._is_wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, name: str) -> tuple[Any, Any]:
        """The drawing, and the row's number in it."""
        with self._lock:
            if self._progress is None:
                self._progress = _drawing()
                self._progress.start()
            self._rows += 1
            return self._progress, self._progress.add_task(name, total=None)

    def wake(self, row: Any, *, waits: bool) -> None:
        with self._lock:
            (self._waiting.add if waits else self._waiting.discard)(row)
            if not self._waiting:
                self._is_wanted.clear()
                return
            self._is_wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._redraw, name="stealmesh-bar", daemon=True
                )
                self._thread.start()

    def drop(self, row: Any) -> None:
        with self._lock:
            self._waiting.discard(row)
            if not self._waiting:
                self._is_wanted.clear()
            self._rows -= 1
            ended, self._progress = (
                (self._progress, None) if self._rows == 0 else (None, self._progress)
            )
        if ended is not None:
            ended.stop()

    def _redraw(self) -> None:
        while True:
            self._is_wanted.wait()
            time.sleep(1 / REFRESHES_A_SECOND)
            with self._lock:
                drawing = self._progress if self._waiting else None
            if drawing is not None:
                drawing.refresh()


_screen = _Screen()


def _forget() -> None:
    """In a forked child: the rows and their thread are the parent's."""
    global _screen
    _screen = _Screen()


os.register_at_fork(after_in_child=_forget)


def _drawing() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr, force_jupyter=False),
        auto_refresh=False,
        redirect_stdout=False,  # the program's own prints stay as they are
    )


class _Row:
    """A bar in a terminal."""

    def __init__(self, name: str) -> None:
        self._screen = _screen
        self._progress, self._task = self._screen.add(name)
        self._drawn = 0.0

    def move(self, done: float, total: float | None) -> None:
        now = time.monotonic()
        draws = now - self._drawn >= 1 / REFRESHES_A_SECOND
        if draws:
            self._drawn = now
        self._progress.update(self._task, completed=done, total=total, refresh=draws)

    def write(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def wake(self, waits: bool) -> None:
        self._screen.wake(self, waits=waits)

    def end(self, state: str) -> None:
        self._progress.stop_task(self._task)
        self._progress.refresh()
        self._screen.drop(self)


# ---------------------------------------------------------------- a notebook


class _CellBar:
    """A bar in a notebook's cell."""

    def __init__(self, name: str, display: Any) -> None:
        self._name = name
        self._began = self._drawn = time.monotonic()
        self._done = 0.0
        self._total: float | None = None
        self._cell: cell.Cell | None = cell.Cell(display, self._shown(""))

    def move(self, done: float, total: float | None) -> None:
        self._done, self._total = done, total
        now = time.monotonic()
        if now - self._drawn >= CELL_SECONDS:
            self._drawn = now
            self._show("")

    def write(self, text: str) -> None:
        print(text, file=sys.stderr)

    def wake(self, waits: bool) -> None:
        """It moves when it is told something: a cell need not be drawn again to stay."""

    def end(self, state: str) -> None:
        self._show(state)

    def _show(self, state: str) -> None:
        if self._cell is not None and not self._cell.show(self._shown(state)):
            self._cell = None

    def _shown(self, state: str) -> cell.CellContent:
        seconds = time.monotonic() - self._began
        html = looks.moving(self._name, self._done, self._total, seconds, state)
        of = "" if self._total is None else f" of {int(self._total):,}"
        return cell.CellContent(html, f"{self._name}: {int(self._done):,}{of} {state}".rstrip())
