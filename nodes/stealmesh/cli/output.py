"""Standard output for results alone: all other prints of this process and its children go to standard error.

Nodes, workers and their children inherit our descriptors, so the change is made there: inside of
`standard_output_kept`, descriptor 1 is standard error, and only the file that it yields leads to the
real standard output. (A lock around each line would not keep prints of C libraries and of child
processes out of the results.)
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

from stealmesh.cli.exits import FAILED, CommandEnded


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Around each write: an error of the file ends the command, because a full disk must not lose results
    in silence. BrokenPipeError passes: each command decides what it means that the reader left."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandEnded(FAILED, f"cannot write to standard output: {error.strerror}") from None


@contextlib.contextmanager
def standard_output_kept() -> Iterator[IO[str]]:
    """The one file that leads to standard output; the caller flushes it."""
    sys.stdout.flush()
    try:
        if sys.stdout.fileno() != 1 or os.fstat(2) is None:
            raise OSError("standard output was replaced")
        ours = os.dup(1)
    except (OSError, ValueError):  # replaced by an embedding program, or one of the two is closed
        yield sys.stdout
        return
    out = os.fdopen(ours, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    try:
        yield out
        with written():
            out.flush()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what was printed meanwhile is no result
        os.dup2(ours, 1)
        with contextlib.suppress(OSError):
            out.close()
