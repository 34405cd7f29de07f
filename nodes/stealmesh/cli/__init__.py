"""The command `stealmesh`: one module a command. What a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""Here, as importing `exits` may be what is interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (see `exits`)."""
    try:
        from stealmesh.cli.commands import dispatch

        return dispatch(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # while that was imported
        exec("")  # as in `dispatch`
        return INTERRUPTED
