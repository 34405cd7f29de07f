"""Tracebacks of failed items on standard error, where the JSON lines on standard output only have the error.

Decides how many are shown: a run with a wrong function fails a million times in one way. Each traceback is
shown once, and only the first few. Refuses to know what an item is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh.cli.exits import say

SHOWN_MAX = 5
ITEM_CHARS_MAX = 80


class FailedItems:
    """`write` puts lines on standard error, above a bar if there is one."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._shown: set[str] = set()
        self._hidden = 0

    def add(self, index: int, item: Any, error: BaseException) -> None:
        if len(self._shown) >= SHOWN_MAX:
            self._hidden += 1
            return
        import traceback  # here: most runs see no failure

        text = "".join(traceback.format_exception(error)).rstrip()
        if text in self._shown:
            self._hidden += 1
            return
        self._shown.add(text)
        self._write(f"stealmesh: item {index} ({_short(item)}) failed:\n{text}\n")

    def end(self) -> None:
        if self._hidden:
            say(f"{self._hidden:,} more items failed; their errors are in the output")


def _short(item: Any) -> str:
    try:
        text = repr(item)
    except Exception as error:  # noqa: BLE001  the user's own __repr__
        text = f"which cannot be printed: {type(error).__name__}"
    return text if len(text) <= ITEM_CHARS_MAX else f"{text[: ITEM_CHARS_MAX - 3]}..."
