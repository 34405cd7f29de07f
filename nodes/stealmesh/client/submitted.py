"""What one mesh has taken from its program and not ended yet, and whether it takes more.

A `Mesh` and all its views share one `Submitted`. It holds no `Mesh`, because what was submitted outlives
a mesh that the program drops. Decides what counts as started when `cancel_futures` cancels the rest: a
call that a worker has. Only the nodes know which those are, so they are asked; a node that does not
answer in time keeps what it said before. Refuses to know how jobs are made and how a mesh is closed.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref

from stealmesh.client.durable_call import DurableCall
from stealmesh.client.map import MapJob
from stealmesh.client.pending_calls import PendingCalls
from stealmesh.client.reduce import FoldJob
from stealmesh.client.session import ProgramLink
from stealmesh.client.streams import Streams
from stealmesh.functions import Shipper
from stealmesh_protocol.errors import MeshClosed, MeshError

ASK_SECONDS_MAX = 1.0
CALLS_REMEMBERED = 1000
"""After this number of durable calls those that are safe are struck out."""
START_SECONDS = 0.1
"""Calls that were submitted a moment ago are on their way to workers. As in the standard library, as many
of them run as there are workers."""


class Submitted:
    """The open streams, maps and folds of one mesh."""

    def __init__(self, link: ProgramLink, shipper: Shipper, pending_calls_max: int) -> None:
        self.link = link
        self.lock = threading.Lock()
        """Held while a stream is chosen, opened or closed, and while the mesh is closed."""
        self.streams = Streams(link, shipper, self.lock)
        self.maps: weakref.WeakSet[MapJob] = weakref.WeakSet()
        self.folds: weakref.WeakSet[FoldJob] = weakref.WeakSet()
        self.calls: set[DurableCall] = set()
        """Durable calls that the mesh may not hold yet."""
        self.closed = False
        self.pending_calls = PendingCalls(
            link, pending_calls_max, self._pending, lambda: self.closed
        )
        self._refusal: MeshError | None = None
        """Why this process may not use the mesh, or not for that."""

    # ------------------------------------------------------------ may more be submitted?

    def must_be_open(self) -> None:
        """Raises RuntimeError after shutdown, MeshClosed in a forked child, NotAllowed with a token that looks."""
        self.must_be_ours()
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def must_be_ours(self) -> None:
        """Raises MeshClosed in a child that was forked from the program."""
        if self._refusal is not None:
            raise self._refusal

    def refuse(self, error: MeshError) -> None:
        """Take nothing, ever: `error` says why."""
        self._refusal = error

    def close(self) -> bool:
        """Take no more. True for the first call, False for all others."""
        with self.lock:
            first, self.closed = not self.closed, True
        return first

    def close_at_once(self) -> None:
        """The same after Ctrl-C, which must not wait for the lock."""
        self.closed = True

    def disown(self, error: MeshClosed) -> None:
        """In a forked child: refuse everything with `error`. A thread of the parent may hold the lock."""
        self.lock = threading.Lock()
        self.closed = True
        self._refusal = error

    def _pending(self) -> int:
        """Calls that are not over."""
        return sum(stream.pending + stream.held_back for stream in self.streams)

    # ------------------------------------------------------------ the end of what was

    def wait(self, *, hurried: bool) -> None:
        """Sleep until everything has ended, or the mesh is of no use any more.

        Hurried: do not wait for a map that the program has begun to read and not read to its end.
        """
        link, streams, maps, folds = self.link, self.streams, self.maps, self.folds
        for each in list(maps):
            each.finish(hurried=hurried)
        for stream in list(streams):
            link.feed_later(stream)  # Ctrl-C may have kept the stream from doing so itself
        while link.failure is None and not (
            all(stream.idle for stream in list(streams))
            and all(job.finished for job in list(maps))
            and all(fold.finished for fold in list(folds))
            and not self._unsafe_calls()
        ):
            link.user_threads.do_abandoned_work()
            with link.condition:
                # Streams and folds notify when they settle futures; maps end by JobDone.
                link.condition.wait_for_any(0.05)

    def enter_call(self, call: DurableCall) -> None:
        """The mesh is not left before it holds this call, or the call is over."""
        if len(self.calls) >= CALLS_REMEMBERED:
            self._unsafe_calls()
        self.calls.add(call)

    def _unsafe_calls(self) -> set[DurableCall]:
        self.calls = {call for call in list(self.calls) if not call.is_safe}
        return self.calls

    def cancel_pending(self, workers: int) -> None:
        """Cancel all that has not started. `workers`: how many calls count as started at least."""
        for job in list(self.maps):
            job.cancel()
        for fold in list(self.folds):
            if not fold.finished:
                fold.cancel()
        for call in self._unsafe_calls():
            call.future.cancel()
        pending = [stream for stream in self.streams if not stream.idle]
        if not pending:
            return
        until = time.monotonic() + START_SECONDS
        while True:
            for stream in pending:
                stream.ask_what_runs()
            with contextlib.suppress(TimeoutError, MeshError):
                self.link.ask_status().result(timeout=ASK_SECONDS_MAX)
            if time.monotonic() >= until or all(stream.under_way for stream in pending):
                break
            time.sleep(START_SECONDS / 20)
        for stream in pending:
            stream.cancel_pending(workers)
