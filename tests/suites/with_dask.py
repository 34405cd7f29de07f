"""A plugin for pytest (`-p with_dask`): dask's own tests of bags and delayed values, on the workers of a mesh.

dask's scheduler of processes takes any executor as its pool.
"""

from __future__ import annotations

import dask
import pytest

import stealmesh

THREADS_ONLY = {
    "test_traverse_false": "expects the very object back (`is`), which only threads can give",
    "test_to_delayed_optimize_graph": "counts calls in a variable of the program, which only threads change",
}
"""Test → why it cannot run in other processes."""

_mesh: list[stealmesh.Mesh] = []


def pytest_configure(config: pytest.Config) -> None:
    _mesh.append(stealmesh.Mesh(workers=2))
    dask.config.set(pool=_mesh[0], scheduler="processes")


def pytest_unconfigure(config: pytest.Config) -> None:
    for mesh in _mesh:
        mesh.shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        why = THREADS_ONLY.get(getattr(item, "originalname", ""))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
