"""Standard output for results alone: whatever else this process and its children print goes to standard error.

A local mesh's nodes and workers inherit our descriptors, and so does what they start, so the change
is made there: for as long as this lasts, descriptor 1 is standard error, and only the file that is
handed out leads to where standard output did. (A lock around each line could not keep prints of C
libraries and of child processes out of the results.)
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
    """What is written here reaches its reader, or the command ends: a full disk must not lose results in
    silence. Of a reader that left (BrokenPipeError) the command judges itself."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandEnded(FAILED, f"cannot write to standard output: {error.strerror}") from None


@contextlib.contextmanager
def standard_output_kept() -> Iterator[IO[str]]:
    """The one way to standard output; its user flushes it."""
    sys.stdout.flush()
    try:
        if sys.stdout.fileno() != 1 or os.fstat(2) is None:
            raise OSError("standard output is somebody's own")
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
            sys.stdout.flush()  # what was printed meanwhile is no result either
        os.dup2(ours, 1)
        with contextlib.suppress(OSError):
            out.close()
