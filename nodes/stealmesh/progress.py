"""Progress bars, drawn by rich, which is imported only when there is a bar to draw."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """One bar on standard error. A call says how many items are done, and of how many (None: unknown)."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            refresh_per_second=8,
            redirect_stdout=False,  # the program's own prints stay as they are
        )
        self._task: Any = self._progress.add_task(name, total=None)
        self._progress.start()
        self._open = True
        self._done = 0
        self._total: int | None = None
        self._running = 0.0

    def running(self, items: float) -> None:
        """Shares of items that run count as done."""
        self._running = items
        if self._open:
            self._show()

    def _show(self) -> None:
        shown = self._done + self._running
        if self._total is not None:
            shown = min(shown, self._total)
        self._progress.update(self._task, completed=shown, total=self._total)

    def __call__(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        self._show()
        if total is not None and done >= total:
            self.close()

    def close(self, *_: object) -> None:
        if self._open:
            self._open = False
            self._progress.stop()
