"""A host for one pool: steps nothing, remembers every event, waits for those that are asked for."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

import cloudpickle

from stealmesh.workers.pool import LOOK_SECONDS, WorkerPool
from stealmesh_engine.effects import RunChunk
from stealmesh_engine.events import ChunkDone, Event, WorkerReady
from stealmesh_protocol import values
from stealmesh_protocol.ids import digest_of, job_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
"""Only ever reached by a defect."""


class Host:
    def __init__(self, workers: int = 1, *, start: bool = True, **options: Any) -> None:
        self.pool = WorkerPool(workers, node_name="here", **options)
        self.log: list[Event] = []
        self._unread = 0
        self._numbers = count(1)
        self._jobs = count(1)
        if start:
            self.pool.start(time.monotonic())
            for _ in range(workers):
                self.take(WorkerReady)
            # A worker speaks for itself; its process id comes from the fork server, perhaps later.
            self.until(lambda: len(self.pool.worker_pids()) == workers)

    # ------------------------------------------------------------ events

    def wait(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event not yet looked at that is wanted; those before it count as looked at."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            while self._unread < len(self.log):
                event = self.log[self._unread]
                self._unread += 1
                if wanted(event):
                    return event
            self._collect(deadline)

    def until(self, condition: Callable[[], object]) -> None:
        """Something about the pool that no event tells of."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self._collect(deadline)

    def _collect(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        assert left > 0, f"never happened; instead: {self.log[-5:]}"
        due = self.pool.next_deadline()
        if due is not None:
            left = min(left, max(0.0, due - time.monotonic()))
        # Like the driver, it looks now and then even if nothing has fired.
        select.select([self.pool.fileno()], [], [], min(left, LOOK_SECONDS))
        self.log += self.pool.collect(time.monotonic())

    def take(self, kind: type[T]) -> T:
        event = self.wait(lambda e: isinstance(e, kind))
        assert isinstance(event, kind)
        return event

    def done(self, chunk: int) -> ChunkDone:
        """The end of that chunk, with other events before it."""
        seen = [e for e in self.log if isinstance(e, ChunkDone) and e.chunk == chunk]
        event = seen[0] if seen else self.wait(lambda e: getattr(e, "chunk", None) == chunk)
        assert isinstance(event, ChunkDone), event
        return event

    # ------------------------------------------------------------ effects

    def spec(self, function: Any, kind: JobKind = JobKind.MAP, **fields: Any) -> JobSpec:
        owner = b"o" * 16
        return JobSpec(
            job_id(owner, next(self._jobs)), kind, owner, "a job",
            digest_of(shipped(function)), **fields,
        )  # fmt: skip

    def run(
        self,
        function: Any,
        items: Any,
        kind: JobKind = JobKind.MAP,
        *,
        combine: Any = None,
        worker: int = 0,
        **fields: Any,
    ) -> int:
        """Order one chunk of a job of its own: a range, or a list in one block."""
        if combine is not None:
            fields["combine"] = digest_of(shipped(combine))
        blocks = []
        if isinstance(items, range):
            fields |= {"start": items.start, "step": items.step}
        else:
            blocks = [block(0, items)]
        spec = self.spec(function, kind, **fields)
        return self.order(spec, 0, len(items), blocks, function, combine, worker)

    def order(
        self,
        spec: JobSpec,
        lo: int,
        hi: int,
        blocks: list[tuple[Block, bytes]],
        function: Any,
        combine: Any = None,
        worker: int = 0,
        code: bytes = b"",
    ) -> int:
        chunk = next(self._numbers)
        self.pool.run(
            RunChunk(
                worker, chunk, spec, lo, hi, blocks, shipped(function),
                b"" if combine is None else shipped(combine), code,
            )
        )  # fmt: skip
        return chunk

    def explore(self, visit: Any, combine: Any, blob: bytes, items: int, worker: int = 0) -> int:
        spec = self.spec(visit, JobKind.EXPLORE, combine=digest_of(shipped(combine)))
        bag = (Block(0, items, 0), blob)
        return self.order(spec, 0, items, [bag], visit, combine, worker)

    # ------------------------------------------------------------ results

    def results(self, chunk: int) -> list[Any]:
        done = self.done(chunk)
        assert not done.failed, self.failures(chunk)
        return values.unpack_list(done.codec, done.blob)

    def value(self, chunk: int) -> Any:
        done = self.done(chunk)
        assert not done.failed, self.failures(chunk)
        return values.unpack(done.codec, done.blob)

    def failures(self, chunk: int) -> list[values.Failure]:
        done = self.done(chunk)
        return values.unpack_outcomes(done.codec, done.blob)[1]

    def close(self) -> None:
        self.pool.close()


_shipped: dict[int, tuple[Any, bytes]] = {}


def shipped(function: Any) -> bytes:
    """Each function once: two pickles of one function may differ. Bytes are shipped as they are."""
    if isinstance(function, bytes):
        return function
    if id(function) not in _shipped:
        _shipped[id(function)] = (function, cloudpickle.dumps(function))
    return _shipped[id(function)][1]


def block(lo: int, items: list[Any]) -> tuple[Block, bytes]:
    codec, blob = values.pack_list(items)
    return Block(lo, lo + len(items), codec), blob
