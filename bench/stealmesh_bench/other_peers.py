"""Pools of other projects, behind the same few calls as those of the standard library.

Each is optional and imported when it is opened, and runs with two worker processes on this machine. Where
a pool has no chunks of its own, its map gets the chunks that a careful user makes by hand. Celery, Dramatiq
and their like are not here: they need a broker that somebody else has started.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from stealmesh.host.core_in_use import COMPILED, core_in_use
from stealmesh_bench.peers import (
    PURE,
    STANDARD,
    WORKERS,
    BenchPeer,
    StandardExecutor,
    Stealmesh,
    chunk_items,
)


def _each(function: Callable[[Any], Any], items: range) -> list[Any]:
    return [function(item) for item in items]


def _chunks(items: range) -> list[range]:
    size = chunk_items(len(items))
    return [items[at : at + size] for at in range(0, len(items), size)]


class DaskBench:
    """`LocalCluster` of dask.distributed: a scheduler in this process, two workers of one thread."""

    calls: ClassVar[dict[str, Any]] = {"pure": False}
    """Said with each call: one that was made before is made again."""

    def __init__(self) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self.client = Client(self.cluster)

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self.client.submit(function, item, **self.calls).result()

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        futures = [self.client.submit(function, item, **self.calls) for item in items]
        results: list[Any] = self.client.gather(futures)
        return results

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        chunks = _chunks(items)
        futures = self.client.map(_each, [function] * len(chunks), chunks, **self.calls)
        while futures:
            yield from futures.pop(0).result()

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class FriskyBench(DaskBench):
    """`LocalCluster` of Frisky: dask's calls, and a core in Rust. It remembers no call that was made before."""

    calls: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        from frisky import LocalCluster

        self.cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, silence_summary=True
        )
        self.client = self.cluster.get_client()


class RayBench:
    """`ray.init(num_cpus=2)`."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self._ray.get(self._ray.remote(function).remote(item))

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        remote = self._ray.remote(function)
        results: list[Any] = self._ray.get([remote.remote(item) for item in items])
        return results

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        remote = self._ray.remote(_each)
        packed = self._ray.put(function)
        pending = [remote.remote(packed, chunk) for chunk in _chunks(items)]
        while pending:
            yield from self._ray.get(pending.pop(0))

    def close(self) -> None:
        self._ray.shutdown()


class LokyBench(StandardExecutor):
    """The executor under joblib: that of the standard library, and it outlives a worker."""

    def __init__(self) -> None:
        from loky import ProcessPoolExecutor

        self.executor = ProcessPoolExecutor(WORKERS)


class JoblibBench:
    """`joblib.Parallel`, which makes its own batches."""

    def __init__(self) -> None:
        import joblib

        self._delayed = joblib.delayed
        self._all = joblib.Parallel(n_jobs=WORKERS).__enter__()
        self._lazy = joblib.Parallel(n_jobs=WORKERS, return_as="generator")

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self.gather(function, [item])[0]

    def gather(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        task = self._delayed(function)
        results: list[Any] = self._all(task(item) for item in items)
        return results

    def stream(self, function: Callable[[Any], Any], items: range) -> Iterator[Any]:
        task = self._delayed(_each)
        for results in self._lazy(task(function, chunk) for chunk in _chunks(items)):
            yield from results

    def close(self) -> None:
        self._all.__exit__(None, None, None)


NEEDS = {
    "dask": "distributed",
    "frisky": "frisky",
    "ray": "ray",
    "loky": "loky",
    "joblib": "joblib",
}
"""What has to be importable."""


def is_installed(peer: str) -> bool:
    if peer == PURE:
        return core_in_use() == COMPILED  # otherwise there is nothing to tell apart
    return peer not in NEEDS or importlib.util.find_spec(NEEDS[peer]) is not None


PEERS: dict[str, Callable[..., BenchPeer]] = STANDARD | {
    PURE: Stealmesh,
    "dask": DaskBench,
    "frisky": FriskyBench,
    "ray": RayBench,
    "loky": LokyBench,
    "joblib": JoblibBench,
}
"""All that can be measured, if they are installed."""
