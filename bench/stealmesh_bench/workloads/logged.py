"""Work that leaves a trace each time it begins: how often a task really ran is counted afterwards."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from time import sleep


def logged_sleep(path: str, index: int, seconds: float) -> int:
    """Note in the file at `path` that item `index` begins, sleep, and return the index."""
    # One short write to a file opened for appending stays one line, even if others write too.
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, b"%d\n" % index)
    finally:
        os.close(log)
    sleep(seconds)
    return index


def logged_square(path: str, seconds: float, index: int) -> int:
    """The same with an answer that only this index has."""
    return logged_sleep(path, index, seconds) ** 2 + 1


def executions(path: str) -> Counter[int]:
    """How often each item began. Every run needs a file of its own."""
    return Counter(map(int, Path(path).read_text().split()))
