"""Text of lines that ran elsewhere, under names that no file here has.

Python's `linecache` is where all that prints or debugs tracebacks looks for text. Decides under which name
such text stands there, so that two texts of one line never share a name, and how much of it is kept.
Refuses to know which text is to be shown (`showing.py`).
"""

from __future__ import annotations

import linecache
import threading
from collections.abc import Mapping

NAMES_MAX = 64
LINE_NUMBER_MAX = 50_000
"""`linecache` keeps a file as a list: the text of a line beyond is not shown."""

_lock = threading.Lock()
_shown: dict[str, dict[int, str]] = {}
"""Name → line number → text, the name that was needed last at the end."""


def name_for(path: str, remark: str, lines: Mapping[int, str]) -> str:
    """A name that says the path and the remark, and under which these lines are shown from now on."""
    lines = {number: text for number, text in lines.items() if 0 < number <= LINE_NUMBER_MAX}
    with _lock:
        for count in range(1, NAMES_MAX + 2):
            name = f"{path} ({remark})" if count == 1 else f"{path} ({remark}, {count})"
            known = _shown.get(name, {})
            if all(known.get(number, text) == text for number, text in lines.items()):
                break
        known = _shown.pop(name, {}) | lines
        _shown[name] = known
        _enter(name, known)
        while len(_shown) > NAMES_MAX:
            oldest = next(iter(_shown))
            del _shown[oldest]
            linecache.cache.pop(oldest, None)
    return name


def _enter(name: str, lines: Mapping[int, str]) -> None:
    last = max(lines, default=0)
    text = [lines.get(number, "") + "\n" for number in range(1, last + 1)]
    # Without a time: it is never looked for on disk.
    linecache.cache[name] = (last, None, text, name)
