"""The end of a process that a task forked and that came back out of the task.

`if os.fork() == 0: ...; sys.exit(3)` is ordinary Python: the child unwinds and ends with that
status. In a worker it unwinds into our frames, which belong to the worker. Decides only how such
a copy ends: with the status that Python would give it, and with its prints flushed. It never
speaks to the node: its ends of the worker's sockets are closed when it is forked.
"""

from __future__ import annotations

import os
import signal
import sys

from stealmesh.workers.printing import CALLER, HERE
from stealmesh_protocol.unasked import is_a, traceback_of

_worker = 0
"""The pid of the worker; 0 where there is none (tests of `run` have no worker)."""


def this_process_is_the_worker() -> None:
    global _worker
    _worker = os.getpid()


def end_if_forked(error: BaseException | None = None) -> None:
    """In a forked copy of the worker: end the process. `error` is what the task raised."""
    if _worker == 0 or os.getpid() == _worker:
        return
    try:
        status = _status(error)
        flush()
    except BaseException:  # noqa: BLE001 - a task's own __str__ or standard file; it ends here
        status = 1
    finally:
        os._exit(status)


def flush() -> None:
    """Print what a task has written before its result goes out: a kill may come at any time."""
    if HERE.quiet and HERE.mode == CALLER and sys.stdout is HERE.out and sys.stderr is HERE.err:
        return
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, full or replaced by a task: its output, its loss
    if not HERE.quiet:
        HERE.chunk_ends()


def _status(error: BaseException | None) -> int:
    """The exit status of an interpreter that ends with this error."""
    if error is None:
        return 0
    if is_a(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    sys.excepthook(type(error), error, traceback_of(error))
    if is_a(error, KeyboardInterrupt):
        flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 1
