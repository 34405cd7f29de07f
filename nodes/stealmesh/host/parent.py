"""A node that a program started for itself, and that program: where we listen, and when it ends.

Two signs say that the program is gone, and either is enough:

* its end of the socket is closed. That is also how it asks us to end. But each process that the
  program has forked holds a copy of that end, and may live for hours;
* its process has ended. The kernel tells it (a pidfd), and no fork copies that.

Refuses to know what a node does then.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from collections.abc import Callable, Iterator

POLL_SECONDS = 0.5


def tell(fd: int, **what: object) -> None:
    """Write one line of JSON to the program. If it is gone, the watch finds out."""
    with contextlib.suppress(OSError):
        os.write(fd, (json.dumps(what) + "\n").encode())


@contextlib.contextmanager
def watched(
    epoll: select.epoll, fd: int, program: int | None, gone: Callable[[], None]
) -> Iterator[frozenset[int]]:
    """While this lasts, the end of the program makes `epoll` fire at one of these descriptors, or calls `gone` in a
    thread.

    `program` is its process, if it is our parent. On a kernel without pidfds a thread looks.
    """
    epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
    ended = threading.Event()
    process = None if program is None else _open_process(program)
    if process is not None:
        epoll.register(process, select.EPOLLIN)
    elif program is not None:
        args = (program, ended, gone)
        threading.Thread(target=_look, args=args, name="stealmesh-parent", daemon=True).start()
    # Asked after the watch is set up: if it ended before, its number may be another process's now.
    if program is not None and os.getppid() != program:
        gone()
    try:
        yield frozenset({fd} if process is None else {fd, process})
    finally:
        ended.set()
        epoll.unregister(fd)
        if process is not None:
            epoll.unregister(process)
            os.close(process)


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _look(program: int, ended: threading.Event, gone: Callable[[], None]) -> None:
    while not ended.wait(POLL_SECONDS):
        if os.getppid() != program:
            gone()
            return
