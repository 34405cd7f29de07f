"""One output of a notebook that is kept up to date, by IPython's display handle.

Decides whether there is a notebook: IPython is loaded, and a kernel runs it. In a terminal IPython draws
nothing but text, so there a bar is drawn as in any terminal. Refuses to know what is shown, and to import
IPython: a notebook has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class CellContent:
    """Something that looks as HTML, and as text where there is none."""

    def __init__(self, html: str, words: str) -> None:
        self._html = html
        self._words = words

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._words


class Cell:
    """The output. It ends quietly when the notebook is gone."""

    def __init__(self, display: Callable[..., Any], first: CellContent) -> None:
        self._handle = display(first, display_id=True)
        self.failure: Exception | None = None
        """Why it cannot be drawn any more."""

    def show(self, shown: CellContent) -> bool:
        """False: there is no one to see it any more."""
        try:
            self._handle.update(shown)
        except Exception as error:  # noqa: BLE001  a front end's
            self.failure = error
            return False
        return True


def notebook() -> Callable[..., Any] | None:
    """IPython's `display`, if this program is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    try:
        shell = None if ipython is None else ipython.get_ipython()
        if shell is None or getattr(shell, "kernel", None) is None:
            return None
        display: Callable[..., Any] = sys.modules["IPython.display"].display
    except (AttributeError, KeyError):
        return None
    return display
