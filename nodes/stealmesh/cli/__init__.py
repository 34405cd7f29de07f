"""The command `stealmesh`: one module a command. What a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (see `exits`)."""
    from stealmesh.cli.commands import dispatch

    return dispatch(list(sys.argv[1:] if argv is None else argv))
