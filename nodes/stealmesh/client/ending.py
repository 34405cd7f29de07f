"""`cancel_futures`: what has not started when the mesh is shut down is cancelled, all at once.

Decides what counts as started: a single call that a worker has. Only the nodes know which those are, so
they are asked; whoever does not answer in time has what it said before. Refuses to know how a mesh is
closed and what is waited for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stealmesh_protocol.errors import MeshClosed

if TYPE_CHECKING:
    from stealmesh.client.map import MapJob
    from stealmesh.client.reduce import FoldJob
    from stealmesh.client.session import ProgramLink
    from stealmesh.client.submit import SubmitStream

ASK_SECONDS_MAX = 1.0
START_SECONDS = 0.1
"""Calls that were submitted a moment ago are on their way to workers: as in the standard library, as many
of them run as there are workers."""


def cancel_pending(
    link: ProgramLink,
    streams: Iterable[SubmitStream],
    maps: Iterable[MapJob],
    folds: Iterable[FoldJob],
    workers: int,
) -> None:
    for job in list(maps):
        job.cancel()
    for fold in list(folds):
        if not fold.finished:
            fold.cancel()
    pending = [stream for stream in streams if not stream.idle]
    if not pending:
        return
    until = time.monotonic() + START_SECONDS
    while True:
        for stream in pending:
            stream.ask_what_runs()
        with contextlib.suppress(TimeoutError, MeshClosed):
            link.ask_status().result(timeout=ASK_SECONDS_MAX)
        if time.monotonic() >= until or all(stream.under_way for stream in pending):
            break
        time.sleep(START_SECONDS / 20)
    for stream in pending:
        stream.cancel_pending(workers)
