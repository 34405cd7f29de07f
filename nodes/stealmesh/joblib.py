"""A backend for joblib, and with it for scikit-learn: `n_jobs` are the workers of a mesh.

    import stealmesh.joblib
    stealmesh.joblib.register(mesh)
    with joblib.parallel_config(backend="stealmesh"):
        GridSearchCV(...).fit(X, y)

Without a mesh, the first call starts a local one with as many workers as jobs, and later calls use it
again. Large arrays among the arguments go through memory that the workers of a host share, each once for one
call of joblib (`Arrays`). Decides only how joblib's batches become calls. joblib is not among our dependencies: a program
that imports this file has it.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)
from joblib.parallel import BatchedCalls

from stealmesh.mesh import Mesh
from stealmesh.refs import Ref

LARGE_OCTETS = 1 << 20
"""As joblib's `max_nbytes`: a smaller array is quicker sent than named."""

_own: dict[tuple[int, int, Any], Mesh] = {}
"""By process, number of workers and their initializer. A forked child finds its parent's meshes here."""
_own_lock = threading.Lock()


def register(mesh: Mesh | None = None, name: str = "stealmesh") -> None:
    """Make the backend known to joblib; its calls run on `mesh`."""
    register_parallel_backend(name, type("StealmeshBackend", (StealmeshBackend,), {"given": mesh}))


def run(batch: Callable[[], Any]) -> Any:
    """Run a batch of calls of joblib's, in a worker."""
    return batch()


class StealmeshBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """joblib's backend; see `register`."""

    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False
    default_n_jobs = -1
    given: Mesh | None = None
    """The mesh of the program's; None: a local mesh of our own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._mesh: Mesh | None = None
        self._pending: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._arrays = Arrays()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        workers = (os.cpu_count() or 1) if self.given is None else self.given._max_workers
        if n_jobs is None:
            return 1
        return max(workers + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        self.parallel = parallel
        n_jobs = self.effective_n_jobs(n_jobs)
        if self.given is not None:
            self._mesh = self.given
        elif n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        else:
            settings = {**self.backend_kwargs, **settings}
            made_by = (settings.get("initializer"), settings.get("initargs", ()))
            self._mesh = _mesh_for(n_jobs, *made_by)
        return n_jobs

    def terminate(self) -> None:
        """One call of joblib is over; the mesh stays for the next."""
        self.reset_batch_stats()
        self._arrays = Arrays()

    def submit(self, func: Callable[[], Any], callback: Any = None) -> Future[Any]:
        assert self._mesh is not None, "joblib configures a backend before it uses it"
        if isinstance(func, BatchedCalls):
            func = self._arrays.taken_out(func, self._mesh)
        future: Future[Any] = self._mesh.submit(run, func)
        self._pending.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the calls that have not started.

        A mesh of our own also stops those that run, and the next call gets a fresh mesh. A mesh that was
        given to us lets them end. A call that has begun a moment ago, unknown to us, runs on.
        """
        pending = [future for future in self._pending if not future.done()]
        for future in pending:
            future.cancel()
        if pending and self.given is None and self._mesh is not None:
            self._mesh._abandon()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


class Arrays:
    """The large arrays of one call of joblib, each put on the mesh once.

    An array that was changed since is put there again: joblib's own memmaps would show the old one.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Ref[Any], Any]] = {}
        """Each with a view of what workers see."""

    def taken_out(self, batch: BatchedCalls, mesh: Mesh) -> BatchedCalls:
        """The same batch, with a Ref for each large array among the arguments."""
        if "numpy" not in sys.modules:
            return batch
        items = [
            (
                function,
                tuple(self._named(each, mesh) for each in args),
                {key: self._named(each, mesh) for key, each in kwargs.items()},
            )
            for function, args, kwargs in batch.items
        ]
        lighter = copy.copy(batch)
        lighter.items = items
        return lighter

    def _named(self, value: Any, mesh: Mesh) -> Any:
        import numpy

        if type(value) is not numpy.ndarray or value.nbytes < LARGE_OCTETS or value.dtype.hasobject:
            return value
        known = self._known.get(id(value))
        if known is not None and known[0]() is value and _are_alike(known[2], value):
            return known[1]
        ref: Ref[Any] = mesh.scatter(value)
        self._known[id(value)] = weakref.ref(value), ref, ref.result()
        return ref


def _are_alike(one: Any, other: Any) -> bool:
    """The same octets? (Compared as numbers, NaN would differ from itself.)"""
    import numpy

    if one.shape != other.shape or one.dtype != other.dtype or not other.flags.forc:
        return False
    words = numpy.uint64 if one.nbytes % 8 == 0 else numpy.uint8
    octets = (each.ravel(order="K").view(words) for each in (one, other))
    return one.flags.c_contiguous == other.flags.c_contiguous and numpy.array_equal(*octets)


def _mesh_for(n_jobs: int, initializer: Any, initargs: tuple[Any, ...]) -> Mesh:
    """A local mesh of this size: the last one if it has this size and still works, or a new one."""
    with _own_lock:
        key = (os.getpid(), n_jobs, initializer)
        mesh = _own.get(key)
        if mesh is not None and mesh._link.failure is None and not mesh._submitted.closed:
            return mesh
        for other in list(_own):
            if other[0] == key[0]:
                _own.pop(other).shutdown()
        mesh = _own[key] = Mesh(workers=n_jobs, initializer=initializer, initargs=initargs)
        return mesh


__all__ = ["StealmeshBackend", "register"]
