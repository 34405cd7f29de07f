"""How a command ends: exit statuses, and the one line on standard error that says why.

Statuses are for scripts and never change their meaning. What a person can put right ends as
`CommandEnded`, and so does every error of our own types that a command lets pass (`ended_by`); a traceback is
a defect of ours.
"""

from __future__ import annotations

from stealmesh.cli import INTERRUPTED as INTERRUPTED
from stealmesh.host import saying

DONE = 0
FAILED = 1
"""The work itself failed (an item raised, an answer was wrong)."""
USAGE = 2
"""What was asked for makes no sense here: an option, an address to listen at, a file, a token."""
NOT_JOINED = 3
"""There is no mesh for us: unreachable, another key, no key."""
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


def ended_by(error: Exception) -> CommandEnded | None:
    """How a command ends by an error that one of our own types tells, whichever command it is. None: a defect of
    ours, or of the user's code, and a traceback says more."""
    from stealmesh_protocol import errors  # most commands end well, and --help needs none of it

    if not isinstance(error, errors.MeshError) or isinstance(error, errors.ProtocolError):
        return None
    from stealmesh.transport import TransportError

    status = FAILED
    if isinstance(error, errors.NotAllowed | errors.JoinRefused | errors.MeshClosed):
        status = NOT_JOINED
    elif isinstance(error, errors.CannotStart | TransportError):
        status = USAGE  # as `node` has it, for what this machine does not let us do
    return CommandEnded(status, str(error))


def say(text: str) -> None:
    """One line for people: on standard error, so that standard output stays data."""
    saying.say(text)
