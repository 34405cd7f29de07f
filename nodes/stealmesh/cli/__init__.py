"""The command `stealmesh`. Everything that a command needs is imported when it runs, not before."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    from stealmesh.cli.commands import dispatch

    return dispatch(list(sys.argv[1:] if argv is None else argv))
