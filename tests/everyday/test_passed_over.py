"""Other people's machines: a node without a module, or with another Python, joins. Rows 6 and 45.

Real nodes. A module `only_here` lies where some of them look for modules, and is not importable in
this program, so that nothing can be sent instead of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh
from stealmesh.host.identity import runtime
from stealmesh.host.node import NodeOptions
from stealmesh_bench.paths import python_path
from stealmesh_protocol.errors import CannotLoad

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0
ELSEWHERE = "cpython-3.99"
START = "import sys; from stealmesh.host.node import main; sys.exit(main(int(sys.argv[1])))"


class Node:
    """A node process, and what it says."""

    def __init__(self, mesh: Mesh, name: str, python: str = sys.executable, **options: Any) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [python, "-c", START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": python_path()},
            )
        told = dataclasses.asdict(
            NodeOptions(seeds=mesh.seeds, key=mesh.key.secret, name=name, **options)
        )
        told.pop("parent_fd")
        told["key"] = mesh.key.secret.hex()
        ours.sendall((json.dumps(told) + "\n").encode())
        self.wire = ours
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        with ours.makefile() as told_back:
            self.endpoints = json.loads(told_back.readline())["endpoints"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.lines.extend(stderr)

    def close(self) -> None:
        self.wire.close()  # that is how its parent ends
        self.process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join()


class Mesh:
    """Nodes of several kinds, started by hand, and a program."""

    def __init__(self, here: Path) -> None:
        self.key = stealmesh.Key.generate()
        self.seeds: list[str] = []
        self.nodes: dict[str, Node] = {}
        self.here = here
        self._program: stealmesh.Mesh | None = None

    def node(self, name: str, *, has: bool = True, **options: Any) -> Node:
        paths = [str(self.here)] if has else []
        options = {"import_paths": paths, "workers": 1, **options}
        node = self.nodes[name] = Node(self, name, **options)
        self.seeds = self.seeds or node.endpoints[:1]
        return node

    def program(self, nodes: int = 0) -> stealmesh.Mesh:
        """Joined, and it knows this many nodes."""
        if self._program is None:
            self._program = stealmesh.Mesh(self.seeds, key=self.key)
        until(lambda: len(self.status()) >= (nodes or len(self.nodes)))
        return self._program

    def status(self) -> dict[str, dict[str, Any]]:
        assert self._program is not None
        nodes = self._program.status()["nodes"]
        return {node["name"]: node for node in nodes if node["role"] != "client"}

    def counted(self, name: str) -> int:
        assert self._program is not None
        return int(self._program.status()["counters"].get(name, 0))

    def close(self) -> None:
        if self._program is not None:
            self._program.shutdown(cancel_futures=True)
        for node in self.nodes.values():
            node.close()


ONLY_HERE = """
def double(x):
    return 2 * x

class Thing:
    def __init__(self, value):
        self.value = value
"""


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Mesh]:
    here = tmp_path / "here"
    here.mkdir()
    (here / "only_here.py").write_text(ONLY_HERE)
    with contextlib.closing(Mesh(here)) as mesh:
        yield mesh


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """`only_here` as this program knows it: by name, without a file that could be sent."""
    module = types.ModuleType("only_here")
    exec(ONLY_HERE, module.__dict__)
    exec("def newer(x):\n    return 2 * x", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    return module


def importing() -> Callable[[Any], Any]:
    def double(x: Any) -> Any:
        import only_here  # type: ignore[import-not-found]

        return only_here.double(x)

    return double


def slowly() -> Callable[[Any], Any]:
    def double(x: Any) -> Any:

        import only_here

        time.sleep(0.01)
        return only_here.double(x)

    return double


# ---------------------------------------------------------------- row 45


def test_two_nodes_with_a_module_and_one_without_join_in_the_middle(others: Mesh) -> None:
    """Row 45: the job failed, and `retries=3` did not help."""
    others.node("first")
    mesh = others.program()
    results = mesh.map(slowly(), range(600))
    got = [next(results) for _ in range(20)]
    others.node("without", has=False)
    others.node("second")
    others.node("third")
    got += results
    assert got == [2 * x for x in range(600)]
    assert others.status()["without"]["executed"] == 0


@pytest.mark.parametrize("first", ["with", "without"])
def test_lone_submits_beside_a_node_without_it(others: Mesh, first: str) -> None:
    """Either node may be asked first, and nothing else shows what it can do."""
    for name in (first, "without" if first == "with" else "with"):
        others.node(name, has=name == "with")
    mesh = others.program()
    task = importing()
    assert [mesh.submit(task, x).result(PATIENCE_SECONDS) for x in range(30)] == [
        2 * x for x in range(30)
    ]
    assert others.status()["without"]["executed"] == 0


def test_reductions_and_searches_are_passed_over_too(others: Mesh) -> None:
    others.node("without", has=False)
    others.node("with")
    mesh = others.program()
    task = importing()
    total = mesh.map_reduce(task, range(2000), lambda a, b: a + b)
    assert total.result(PATIENCE_SECONDS) == 2 * sum(range(2000))

    def visit(bag: list[Any], limit: int) -> tuple[Any, list[Any]]:
        import only_here

        x = bag.pop()
        return only_here.double(1), [*bag, *([x - 1, x - 1] if x else [])]

    found = mesh.explore(visit, [8], lambda a, b: a + b, initial=0)
    assert found.result(PATIENCE_SECONDS) == 2 * (2**9 - 1)
    assert others.status()["without"]["executed"] == 0


def test_a_durable_job_is_passed_over_too(others: Mesh) -> None:
    others.node("without", has=False)
    others.node("with")
    mesh = others.program()
    job = mesh.launch(importing(), range(500))
    assert list(job.results(timeout=PATIENCE_SECONDS)) == [2 * x for x in range(500)]
    assert others.status()["without"]["executed"] == 0


def test_a_function_that_is_only_named(others: Mesh, named: types.ModuleType) -> None:
    """It cannot even be loaded where its module is missing."""
    others.node("without", has=False)
    others.node("with")
    mesh = others.program().options(no_ship=["only_here"])
    assert list(mesh.map(named.double, range(500))) == [2 * x for x in range(500)]
    assert others.status()["without"]["executed"] == 0


def test_an_older_version_of_a_module(others: Mesh, tmp_path: Path) -> None:
    """It is there, and lacks what a task imports from it."""
    old, new = tmp_path / "old", tmp_path / "new"
    for path, text in ((old, ONLY_HERE), (new, f"{ONLY_HERE}\nnewer = double")):
        path.mkdir()
        (path / "only_here.py").write_text(text)
    others.node("old", import_paths=[str(old)])
    others.node("new", import_paths=[str(new)])
    mesh = others.program()

    def task(x: Any) -> Any:
        from only_here import newer

        return newer(x)

    assert list(mesh.map(task, range(300))) == [2 * x for x in range(300)]
    assert others.status()["old"]["executed"] == 0


def test_items_of_a_class_that_one_node_lacks(others: Mesh, named: types.ModuleType) -> None:
    others.node("without", has=False)
    others.node("with")
    mesh = others.program().options(no_ship=["only_here"])
    values = list(mesh.map(lambda thing: thing.value, [named.Thing(x) for x in range(50)]))
    assert values == list(range(50))
    assert others.status()["without"]["executed"] == 0


def test_a_module_that_cannot_be_imported_on_one_node(
    others: Mesh, named: types.ModuleType, tmp_path: Path
) -> None:
    """It is there, and raises (no GPU, no licence): whatever keeps a function from being loaded."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "only_here.py").write_text("raise RuntimeError('no device was found')")
    others.node("broken", import_paths=[str(broken)])
    others.node("with")
    mesh = others.program().options(no_ship=["only_here"])
    assert list(mesh.map(named.double, range(300))) == [2 * x for x in range(300)]
    # The worker is none the worse for it.
    assert sum(mesh.map(abs, range(2000))) == sum(range(2000))


def test_a_library_that_says_itself_what_it_lacks(others: Mesh) -> None:
    """pandas wraps the missing module in an ImportError of its own."""
    others.node("without", has=False)
    others.node("with")
    mesh = others.program()

    def task(x: Any) -> Any:
        try:
            import only_here
        except ImportError as error:
            raise ImportError("Missing optional dependency 'only_here'") from error
        return only_here.double(x)

    assert list(mesh.map(task, range(100))) == [2 * x for x in range(100)]


def test_when_all_lack_it_the_error_has_everybodys_reason(
    others: Mesh, named: types.ModuleType
) -> None:
    for name in ("one", "two", "three"):
        others.node(name, has=False)
    mesh = others.program().options(no_ship=["only_here"])
    error = mesh.submit(named.double, 1).exception(PATIENCE_SECONDS)
    assert isinstance(error, CannotLoad)
    for name in ("one", "two", "three"):
        assert f"node {name} (" in str(error)
    assert str(error).count("module 'only_here' is not importable") == 3


def test_an_import_that_fails_everywhere_is_the_tasks_own_exception(others: Mesh) -> None:
    others.node("one", has=False)
    others.node("two", has=False)
    mesh = others.program()
    error = mesh.submit(importing(), 1).exception(PATIENCE_SECONDS)
    assert isinstance(error, ModuleNotFoundError)
    assert error.name == "only_here"
    assert "Tried before on other nodes" in str(error.__cause__)
    # Neither is spoilt for what it can run.
    assert sum(mesh.map(abs, range(1000))) == sum(range(1000))


def test_an_exception_that_a_task_makes_itself_is_tried_nowhere_else(
    others: Mesh, tmp_path: Path
) -> None:
    others.node("one")
    others.node("two")
    mesh = others.program().options(retries=2)
    log = tmp_path / "log"

    def task(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        raise ModuleNotFoundError("I say so")

    error = mesh.submit(task, str(log)).exception(PATIENCE_SECONDS)
    assert isinstance(error, ModuleNotFoundError)
    assert log.read_text() == "xxx"


# ---------------------------------------------------------------- row 6


def test_a_node_with_another_python_gets_nothing_and_says_so(others: Mesh) -> None:
    """Row 6: it was leased byte code, and crashed."""
    stranger = others.node("stranger", runtime=ELSEWHERE)
    others.node("alike")
    mesh = others.program()
    task = importing()
    assert list(mesh.map(task, range(1000))) == [2 * x for x in range(1000)]
    assert [mesh.submit(task, x).result(PATIENCE_SECONDS) for x in range(10)] == [
        2 * x for x in range(10)
    ]
    status = others.status()
    assert status["stranger"]["executed"] == 0
    assert status["stranger"]["runtime"] == ELSEWHERE
    assert status["alike"]["runtime"] == runtime()
    assert others.counted("leases-declined") == 0
    until(lambda: any("runs" in line for line in stranger.lines))
    said = [line for line in stranger.lines if "runs" in line]
    assert len(said) == 1
    assert ELSEWHERE in said[0]
    assert runtime() in said[0]


def test_a_job_that_no_node_can_run_waits_and_says_why(
    others: Mesh, capfd: pytest.CaptureFixture[str]
) -> None:
    others.node("stranger", runtime=ELSEWHERE)
    mesh = others.program()
    future = mesh.options(name="doubled").submit(importing(), 4)
    told = ""

    def said() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "start a node with that Python" in told

    until(said)
    assert f"1 node runs {ELSEWHERE}; doubled needs {runtime()}" in told
    (job,) = mesh.status()["jobs"]
    assert job["state"].startswith(f"waiting: 1 node runs {ELSEWHERE}")
    others.node("alike")
    assert future.result(PATIENCE_SECONDS) == 8


def another_python(minor: str, where: Path) -> str | None:
    """An interpreter of this version with what a node needs, if this machine has one."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
    found = str(kept[-1]) if kept else shutil.which(f"python{minor}")
    if found is None:
        return None
    subprocess.run([found, "-m", "venv", where], check=True, timeout=300)
    python = str(where / "bin/python")
    needs = ["pyzmq", "msgspec", "cloudpickle", "lz4"]
    made = subprocess.run([python, "-m", "pip", "install", "-q", *needs], timeout=300)
    return python if made.returncode == 0 else None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("minor", ["3.12", "3.13"])
def test_a_real_node_of_another_python(others: Mesh, tmp_path: Path, minor: str) -> None:
    """Row 6 with the real thing: its workers crashed on this program's byte code."""
    python = another_python(minor, tmp_path / "venv")
    if python is None:
        pytest.skip(f"there is no Python {minor} here, or nothing could be installed for it")
    stranger = others.node("stranger", python=python)
    others.node("alike")
    mesh = others.program()
    task = importing()
    assert list(mesh.map(task, range(3000))) == [2 * x for x in range(3000)]
    total = mesh.map_reduce(task, range(1000), lambda a, b: a + b).result(PATIENCE_SECONDS)
    assert total == 2 * sum(range(1000))
    status = others.status()
    assert status["stranger"]["runtime"] == f"cpython-{minor}"
    assert status["stranger"]["executed"] == 0
    until(lambda: any(runtime() in line for line in stranger.lines))
    # And the other way round: a program of that Python is not run by us.
    told = (
        "import sys, stealmesh\n"
        "mesh = stealmesh.Mesh(sys.argv[1], key=stealmesh.Key(bytes.fromhex(sys.argv[2])))\n"
        "print(sum(mesh.map(lambda x: x * x, range(1000))), flush=True)\n"
        "mesh.shutdown()\n"
    )
    ended = subprocess.run(
        [python, "-c", told, others.seeds[0], others.key.secret.hex()],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.stdout == f"{sum(x * x for x in range(1000))}\n", ended.stderr
    before = status["alike"]["executed"]
    assert others.status()["alike"]["executed"] == before
