"""What an item printed last, as it goes with the item's failure.

Decides how much of it goes along, and how a person reads it: below the traceback, as a note. Refuses to know how
it was caught (`stealmesh/workers`) and how a failure travels (`values.py`).
"""

from __future__ import annotations

import contextlib

from stealmesh_protocol.limits import TEXT_OCTETS_MAX
from stealmesh_protocol.raised import Refused, interruptible

NOTE_LINES_MAX = 20
"""More would push the traceback off the screen; the attribute has all of it."""
NOTE_CHARS_MAX = 4096


def readable(octets: bytes | bytearray) -> str:
    """What a task printed, as a text that any stream takes. Of a line that a progress bar has written over and
    over, what one sees at last."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text.replace("\0", "\\x00")


def tail_of(octets: bytes | bytearray) -> str:
    """The end of it, within the bound of what goes with a failure."""
    return bounded(readable(octets[-TEXT_OCTETS_MAX:]))


def bounded(text: str) -> str:
    """A peer may send more, and in other characters."""
    octets = text.encode("utf-8", "backslashreplace")
    if len(octets) <= TEXT_OCTETS_MAX:
        return octets.decode()
    return octets[-TEXT_OCTETS_MAX:].decode("utf-8", "ignore")


def goes_with(error: BaseException, output: str) -> None:
    """The exception has the output from now on, and shows the end of it."""
    output = bounded(output)

    def set_both() -> None:
        BaseException.__setattr__(error, "task_output", output)
        BaseException.add_note(error, note(output))

    with contextlib.suppress(Refused):  # by the exception's own class: then it goes without
        interruptible(set_both)


def note(output: str) -> str:
    lines = output.rstrip("\n").split("\n")
    shown = "\n".join(f"  | {line}" for line in lines[-NOTE_LINES_MAX:])[-NOTE_CHARS_MAX:]
    if len(lines) > NOTE_LINES_MAX:
        return f"The task printed (the last {NOTE_LINES_MAX} lines; `task_output` has {len(lines):,}):\n{shown}"
    return f"The task printed:\n{shown}"
