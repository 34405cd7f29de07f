"""How a process of ours says something to the person at its terminal: one line on standard error.

Decides the form: words behind "stealmesh:", or with `as_json` (`--log-json`) one JSON object a line, so that a
collector of logs reads all that we say. Refuses to know what is said, and how often (`terminal.py`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

_form = {"json": False}


def as_json(wanted: bool = True) -> None:
    """From now on, in this process."""
    _form["json"] = wanted


def say(text: str, **facts: Any) -> None:
    """One line. `facts` are shown in JSON only. A reader that is gone ends nobody: what we say then goes nowhere."""
    words = printable(" ".join(text.split()))
    line = f"stealmesh: {words}"
    if _form["json"]:
        import json  # a node that says nothing in JSON does not need it here

        line = json.dumps({"time": round(time.time(), 3), "text": words, **facts})
    if sys.stderr is None:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _say_nowhere()


def _say_nowhere() -> None:
    """Or what is left in Python's buffer would be an error again, at the latest at the end of the process."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """Text of strangers, without what would move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
