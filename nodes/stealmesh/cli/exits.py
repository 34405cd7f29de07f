"""How a command ends: exit statuses, and the one line on standard error that says why.

Statuses are for scripts and never change their meaning. What a person can put right ends as
`CommandEnded`; a traceback is a defect of ours.
"""

from __future__ import annotations

from stealmesh.host import saying

DONE = 0
FAILED = 1
"""The work itself failed (an item raised, an answer was wrong)."""
USAGE = 2
"""What was asked for makes no sense here: an option, an address to listen at, a file, a token."""
NOT_JOINED = 3
"""There is no mesh for us: unreachable, another key, no key."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""The reader of our output is gone, as a shell says it."""


class CommandEnded(BaseException):
    """The command is over with this status; the text has the reason and the remedy in one line.

    Like SystemExit it is no Exception: it leaves the block of a mesh at once, without waiting for the
    tasks that still run, and handlers for failed tasks do not catch it.
    """

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


def say(text: str) -> None:
    """One line for people: on standard error, so that standard output stays data."""
    saying.say(text)
