"""Where lines go: a terminal of its width, or a pipe without any; once, or again and again.

Decides how a picture is drawn anew: a terminal's is overwritten, in a pipe one block follows the other, an empty
line between them. Refuses to know what is in the lines.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

from stealmesh.cli.output import written

EVERY_SECONDS = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_CLEAR_LINE = "\x1b[K"


def width() -> int | None:
    """Of the terminal; None: it is none, and nothing need be cut."""
    if not sys.stdout.isatty():
        return None
    return max(20, shutil.get_terminal_size().columns)


def height() -> int | None:
    return shutil.get_terminal_size().lines if sys.stdout.isatty() else None


def show(lines: list[str]) -> None:
    with written():
        print("\n".join(lines), flush=True)


def watch(make: Callable[[], list[str]], seconds: float = EVERY_SECONDS) -> None:
    """Until Ctrl-C, or until its reader has left."""
    first = True
    while True:
        lines, high = make(), height()
        if high is None:
            show(lines if first else ["", *lines])
        else:
            shown = [line + _CLEAR_LINE for line in lines[: high - 1]]
            with written():
                print(_HOME_AND_CLEAR + "\n".join(shown), flush=True)
        first = False
        time.sleep(seconds)
