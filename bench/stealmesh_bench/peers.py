"""The pools that are compared, behind the few calls that the measurements make.

An adapter adds a method call and nothing else: each peer is used the way its own
documentation says, with two worker processes, and with the chunk size by hand where the peer
cannot find one itself. Stealmesh runs with its defaults.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol

WORKERS = 2
CHUNK_ITEMS_MAX = 10_000
"""What a careful user of the standard library would pass for tasks of microseconds."""
CHUNKS_A_WORKER_MIN = 8
"""And what they would see to where there are few items, so that the workers end together."""


def chunk_items(items: int) -> int:
    """The `chunksize` for a pool that needs one."""
    return max(1, min(CHUNK_ITEMS_MAX, items // (CHUNKS_A_WORKER_MIN * WORKERS)))


class BenchPeer(Protocol):
    """A pool, open and ready."""

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """One task there and back."""

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """One task an item, each submitted by itself; then all results in order."""

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        """The pool's own map, read lazily."""

    def close(self) -> None:
        """End its processes."""


class Stealmesh:
    """A local mesh. `nodes` and `workers` as in `stealmesh.Mesh`."""

    def __init__(self, **arguments: int) -> None:
        import stealmesh

        self.mesh = stealmesh.Mesh(**({"workers": WORKERS} | arguments))  # type: ignore[arg-type]

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self.mesh.submit(function, item).result()

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        futures = [self.mesh.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        return self.mesh.map(function, items)

    def close(self) -> None:
        self.mesh.shutdown()


class StandardExecutor:
    """`concurrent.futures.ProcessPoolExecutor`."""

    def __init__(self) -> None:
        self.executor = ProcessPoolExecutor(WORKERS)

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self.executor.submit(function, item).result()

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        futures = [self.executor.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        return self.executor.map(function, items, chunksize=chunk_items(len(items)))

    def close(self) -> None:
        self.executor.shutdown()


class StandardPool:
    """`multiprocessing.Pool`."""

    def __init__(self) -> None:
        self.pool = multiprocessing.Pool(WORKERS)

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self.pool.apply(function, (item,))

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        results = [self.pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in results]

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        return self.pool.imap(function, items, chunksize=chunk_items(len(items)))

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


STEALMESH = "stealmesh"
PURE = "stealmesh (pure)"
"""A second column, if Stealmesh's own is that of its compiled core."""
PPE = "ProcessPoolExecutor"
POOL = "multiprocessing.Pool"

STANDARD: dict[str, Callable[..., BenchPeer]] = {
    STEALMESH: Stealmesh,
    PPE: StandardExecutor,
    POOL: StandardPool,
}
"""Those that need nothing but this project."""


def environment_of(peer: str) -> dict[str, str]:
    """What is added to the environment of the process in which this peer is measured."""
    return {"STEALMESH_PURE": "1"} if peer == PURE else {}
