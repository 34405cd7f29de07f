"""A plugin for pytest (`-p with_joblib`): joblib's own tests, with our backend in place of loky's.

Decides which of them cannot mean another backend than loky: those that name its classes or its own
shared memory, each with its reason.
"""

from __future__ import annotations

import pytest
from joblib.parallel import BACKENDS

import stealmesh.joblib

_ITS_WARNINGS = (
    "compares the text of loky's own warnings about daemons and threads; a mesh has no such limit"
)
_ITS_MEMORY = "expects joblib's own memory-mapped files; a mesh sends arrays"
_ITS_EXECUTOR = "expects the error of loky's one shared executor; a mesh runs both calls"
LOKY_ONLY: dict[str, str] = {
    "test_nested_parallel_warnings": _ITS_WARNINGS,
    "test_error_capture": "looks for loky's _workers",
    "test_nested_parallelism_limit": "compares with the name of the class LokyBackend",
    "test_auto_memmap_on_arrays_from_generator": _ITS_MEMORY,
    "test_memmapping_leaks": _ITS_MEMORY,
    "test_multiple_generator_call_separated_gc": _ITS_EXECUTOR,
}
"""Test → why it means loky itself."""

stealmesh.joblib.register(name="loky")
BACKENDS["loky"].default_n_jobs = 1  # loky's; that of a mesh is all of its workers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.module.LokyBackend = BACKENDS["loky"]  # type: ignore[attr-defined]  # compared with by class
        why = LOKY_ONLY.get(item.name) or LOKY_ONLY.get(getattr(item, "originalname", ""))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
