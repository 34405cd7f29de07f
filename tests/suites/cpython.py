"""CPython's own tests of executors, run on `stealmesh.Mesh`.

    python tests/suites/cpython.py [--tests DIRECTORY] [NAME ...]

They are imported from the interpreter's `test` package; no file of them is here. Some builds come
without: `--tests` then names a directory that has `test_concurrent_futures` of the same or a later
version (Debian's libpython3.11-testsuite, another interpreter's lib/python3.x/test).

Decides how a mesh is given to tests that were written for the standard pools, and which of them cannot
mean a mesh: those that look into private attributes of a standard pool, and the few of behaviour that
a mesh has on purpose otherwise, each with its reason. A test that is skipped for any other reason is
a defect of this file. Exit status 1: some failed; 3: this
interpreter has no such tests.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
import unittest
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

NO_TESTS = 3
HERE = str(Path(__file__).parent)
ROOMS = [str(Path(__file__).parents[2] / room) for room in ("protocol", "engine", "nodes", "bench")]
sys.path[:0] = [path for path in (HERE, *ROOMS) if path not in sys.path]

import stealmesh  # noqa: E402  from this clone, whatever the interpreter has

PRIVATE = {
    "test_traceback": "names the private class concurrent.futures.process._RemoteTraceback",
    "test_killed_child": "takes a process from _processes; a mesh runs the task again elsewhere",
    "test_saturation": "counts _processes",
    "test_idle_process_reuse_one": "counts _processes",
    "test_idle_process_reuse_multiple": "counts _processes",
    "test_max_tasks_per_child": "counts _processes",
    "test_max_tasks_per_child_defaults_to_spawn_context": "looks at _mp_context",
    "test_python_finalization_error": "breaks the threads that a standard pool starts inside",
    "test_broken_process_pool_traceback": "takes a process from _processes",
    "test_force_shutdown_workers": "looks at _processes",
    "test_force_shutdown_workers_stops_pool": "looks at _processes",
    "test_force_shutdown_workers_invalid_op": "calls _force_shutdown",
    "test_terminate_workers": "replaces _force_shutdown",
    "test_kill_workers": "replaces _force_shutdown",
    "test_force_shutdown_workers_not_started_yet": "counts the processes that a standard pool starts",
    "test_shutdown_no_wait_max_tasks_gh119592": "joins _executor_manager_thread",
    "test_gc_during_max_tasks_worker_exit_gh152967": "joins _executor_manager_thread",
    "test_force_shutdown_during_max_tasks_worker_exit": "joins _executor_manager_thread",
    "test_failed_worker_replacement_breaks_pool": "joins _executor_manager_thread",
    "test_shutdown_deadlock_pickle": "joins _executor_manager_thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces _ThreadWakeup",
}
"""Tests that mean the inside of a standard pool: why."""

WHERE_A_POOL_BREAKS = (BrokenExecutor, stealmesh.CannotLoad)
"""Tests name the error of a standard pool that is of no use any more. Of a mesh only that one item fails:
its task ended every worker that tried it, or its value could not be opened."""

OTHERWISE = {
    "test_exit_during_result_pickle_on_worker": "expects the result's own SystemExit; a mesh says "
    "CannotShip, with the exit as its reason, as for all results that cannot be sent",
}
"""Tests of behaviour that a mesh has on purpose otherwise: why."""

MEANT = {
    "ExecutorTest": False,
    "ExecutorShutdownTest": False,
    "WaitTests": True,
    "AsCompletedTests": False,
    "AsCompletedTest": False,
    "InitializerMixin": False,
    "FailingInitializerMixin": True,
    "ProcessPoolExecutorTest": True,
    "ExecutorDeadlockTest": True,
    "FutureTests": False,
}
"""What is run, and whether it needs the context of a process pool (queues, managers, semaphores)."""


class MeshExecutor(stealmesh.Mesh):
    """A mesh with the signature of a standard pool."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(
            max_workers=max_workers,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
        )

    @property
    def _broken(self) -> bool:
        return self._link.failure is not None

    def terminate_workers(self) -> None:
        self._abandon()

    kill_workers = terminate_workers


class ManagerContext:
    """What tests make with a context of multiprocessing, in a form that can be sent anywhere."""

    def __init__(self) -> None:
        self._manager: Any = None

    def Manager(self) -> Any:  # noqa: N802  as multiprocessing has it
        return multiprocessing.Manager()

    def Queue(self) -> Any:  # noqa: N802
        if self._manager is None:
            self._manager = multiprocessing.Manager()
        return self._manager.Queue()

    def get_start_method(self, allow_none: bool = False) -> str:
        return "forkserver"


def overlay(tests: str, directory: str) -> None:
    """Let `test` be the interpreter's own package and what is in `tests`, here and in workers."""
    own = Path(os.__file__).parent / "test"
    package = Path(directory) / "test"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"__path__ = {[str(own), tests]!r}\n"
        "from test import support\n"
        "skip = lambda *why, **more: lambda test: test\n"
        "support.skip_if_sanitizer, support.check_sanitizer = skip, lambda **more: False\n"
        "for name, value in dict(Py_GIL_DISABLED=False, requires_gil_enabled=skip).items():\n"
        "    hasattr(support, name) or setattr(support, name, value)  # later versions' tests ask\n"
    )
    sys.path.insert(0, directory)


def modules() -> list[Any]:
    """CPython's tests: one file until 3.11, a package since. None if the interpreter has none."""
    try:
        first = importlib.import_module("test.test_concurrent_futures")
    except ImportError:
        return []
    if not hasattr(first, "__path__"):
        return [first]
    names = ["executor", "test_shutdown", "test_wait", "test_as_completed", "test_init"]
    names += ["test_process_pool", "test_deadlock", "test_future"]
    return [importlib.import_module(f"{first.__name__}.{name}") for name in names]


def with_a_mesh(module: Any) -> None:
    """Scripts that tests start import their executor from `concurrent.futures`: have it there, and as
    late as the standard pools, which are imported when they are asked for."""
    ok = getattr(module, "assert_python_ok", None)
    if ok is None:
        return
    paths = [HERE, *ROOMS, *(path for path in sys.path if path)]
    prefix = (
        f"import sys; sys.path[:0] = {paths!r}; import concurrent.futures as f; g = f.__getattr__\n"
        "f.__getattr__ = lambda n: getattr(__import__('cpython'), n) if n == 'MeshExecutor' else g(n)\n"
    )

    def assert_python_ok(*arguments: str, **environment: str) -> Any:
        *options, code = arguments
        return ok(*options, prefix + code, **environment)

    module.assert_python_ok = assert_python_ok


def cases(module: Any) -> Iterator[type[unittest.TestCase]]:
    """The tests of one file, each with a mesh for an executor."""
    package = module.__package__
    util = module if package == "test" else importlib.import_module(f"{package}.util")
    for name, needs_context in MEANT.items():
        tests = module.__dict__.get(name)
        if tests is None or tests.__module__ != module.__name__:
            continue
        made: dict[str, Any] = {"executor_type": MeshExecutor, "__module__": module.__name__}
        if needs_context:
            made |= {"ctx": "forkserver", "get_context": lambda self: ManagerContext()}
            made["create_event"] = lambda self: self.manager.Event()
        for test in dir(tests):
            why = PRIVATE.get(test) or OTHERWISE.get(test)
            if why:
                made[test] = unittest.skip(why)(lambda self: None)
        if issubclass(tests, unittest.TestCase):
            bases: tuple[type, ...] = (tests,)
        elif issubclass(tests, util.ExecutorMixin):
            bases = (tests, util.BaseTestCase)
        else:
            bases = (tests, util.ExecutorMixin, util.BaseTestCase)
        yield type(f"Mesh{name}", bases, made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tests", help="a directory that has test_concurrent_futures")
    parser.add_argument("names", nargs="*", help="run only these tests")
    told = parser.parse_args()
    sys.modules["cpython"] = sys.modules[__name__]
    MeshExecutor.__module__ = "cpython"
    with tempfile.TemporaryDirectory() as directory:
        if told.tests:
            overlay(told.tests, directory)
        return run(told.names)


def run(names: list[str]) -> int:
    found = modules()
    if not found:
        print(f"{sys.executable} has no test.test_concurrent_futures; see --tests")
        return NO_TESTS
    suite = unittest.TestSuite()
    loader = unittest.defaultTestLoader
    for module in found:
        with_a_mesh(module)
        if hasattr(module, "BrokenProcessPool"):
            module.BrokenProcessPool = WHERE_A_POOL_BREAKS
        for case in cases(module):
            if hasattr(case, "executor_type") and case.__name__ == "MeshFutureTests":
                module.Future = stealmesh.Future
            wanted = [name for name in loader.getTestCaseNames(case) if not names or name in names]
            suite.addTests(map(case, wanted))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    for test, why in result.skipped:
        print(f"skipped: {test}: {why}")
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    passed = result.testsRun - failed - skipped
    print(f"cpython {sys.version.split()[0]}: {passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
