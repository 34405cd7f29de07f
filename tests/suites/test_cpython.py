"""CPython's own tests of executors on a mesh, the quick part: those that sleep for seconds are left to `make suites`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

RUNNER = Path(__file__).with_name("cpython.py")
NO_TESTS = 3
QUICK = [
    "test_submit", "test_submit_keyword", "test_map", "test_map_exception", "test_map_chunksize",
    "test_shutdown_race_issue12456", "test_no_stale_references", "test_free_reference",
    "test_max_workers_negative", "test_run_after_shutdown", "test_cancel_futures", "test_hang_gh94440",
    "test_initializer", "test_ressources_gced_in_workers", "test_timeout", "test_cancel",
    "test_done_callback_raises", "test_result_with_timeout",
]  # fmt: skip


@pytest.mark.timeout(600)
def test_those_of_the_running_interpreter() -> None:
    tests = os.environ.get("CPYTHON_TESTS")
    where = ["--tests", tests] if tests else []
    ran = subprocess.run(
        [sys.executable, str(RUNNER), *where, *QUICK], capture_output=True, text=True, timeout=500
    )
    if ran.returncode == NO_TESTS:
        pytest.skip(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 failed" in ran.stdout
