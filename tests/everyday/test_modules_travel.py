"""The user's own modules travel: nodes are started in empty directories and have none of them."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.everyday.running import PATIENCE_SECONDS, environment, finish, run, write

from stealmesh.host.security import MeshKey

pytestmark = pytest.mark.real


class Nodes:
    """Nodes of a mesh, each in an empty directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = directory / "mesh.key"
        MeshKey.generate().save(self.key)
        self.processes: list[subprocess.Popen[str]] = []
        self.readers: list[threading.Thread] = []
        self.seed = ""

    def start(self, workers: int = 1) -> None:
        place = self.directory / f"node-{len(self.processes)}"
        place.mkdir()
        argv = [sys.executable, "-m", "stealmesh", "node", "--key-file", str(self.key)]
        argv += ["--listen", "tcp://127.0.0.1:0", "--nworkers", str(workers)]
        argv += ["--seed", self.seed] if self.seed else []
        process = subprocess.Popen(
            argv,
            cwd=place,
            env={**environment(), "HOME": str(place)},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        words: queue.Queue[str] = queue.Queue()
        self.readers.append(threading.Thread(target=self._read, args=(process, words)))
        self.readers[-1].start()
        while "listens at tcp://" not in (line := words.get(timeout=PATIENCE_SECONDS)):
            pass
        self.seed = self.seed or next(w for w in line.split() if w.startswith("tcp://"))

    @staticmethod
    def _read(process: subprocess.Popen[str], words: queue.Queue[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            words.put(line)

    def end(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process, reader in zip(self.processes, self.readers, strict=True):
            process.wait()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    (tmp_path / "nodes").mkdir()
    running = Nodes(tmp_path / "nodes")
    with contextlib.ExitStack() as stack:
        stack.callback(running.end)
        yield running


def project(directory: Path) -> None:
    """Three packages, one of them without `__init__.py`, with data, and a module beside them."""
    write(
        directory,
        first__="from first.core import start\nfrom . import numbers",
        first__core="from second import double\ndef start(x): return double(x) + 1",
        first__numbers="BASE = 10",
        first__lazy="def late(x): return x + 100",
        second__="def double(x): return 2 * x",
        third__deep__tool="from first.numbers import BASE\ndef use(x): return x + BASE",
        beside="VALUE = 3\nclass Thing:\n    def __init__(self, x): self.x = x",
        only_named="def f(x): return x + 1000",
    )
    (directory / "first" / "data").mkdir()
    (directory / "first" / "data" / "words.txt").write_text("one two")


PROGRAM = """
import sys, time
import stealmesh
import first, second, beside
from third.deep import tool

def task(x):
    import importlib.resources, pkgutil
    import first.lazy
    import only_named
    words = importlib.resources.files("first").joinpath("data/words.txt").read_text()
    assert pkgutil.get_data("first", "data/words.txt").decode() == words == "one two"
    return (first.start(x), second.double(x), tool.use(x), first.lazy.late(x), only_named.f(x),
            beside.Thing(x + beside.VALUE))

def where(_):
    import os
    time.sleep(0.3)
    return os.getcwd(), first.core.__file__

if __name__ == "__main__":
    with stealmesh.Mesh(SEED, key=KEY) as mesh:
        begun = time.perf_counter()
        *got, thing = mesh.submit(task, 1).result()
        print(f"first result after {time.perf_counter() - begun:.3f} s", file=sys.stderr)
        print(got, thing.x, type(thing) is beside.Thing)
        assert mesh.submit(first.start, 5).result() == first.start(5)
        assert mesh.submit(lambda t: t.x, beside.Thing(4)).result() == 4
        seen = {w for w, _ in [f.result() for f in [mesh.submit(where, i) for i in range(32)]]}
        print(len(seen))
"""


def test_three_packages_and_eight_nodes_in_empty_directories(tmp_path: Path, nodes: Nodes) -> None:
    """Rows 4 and 30, and what issue 9 asks to be shown: no flag, edit and rerun uses the new code, and a
    node that has worked for the program before is not sent what it has."""
    place = tmp_path / "project"
    place.mkdir()
    project(place)
    for _ in range(8):
        nodes.start()
    program = PROGRAM.replace("SEED", repr(nodes.seed)).replace("KEY", repr(str(nodes.key)))
    told = run(place, program).split("\n")
    assert told[0] == "[3, 2, 11, 101, 1001] 4 True"
    assert int(told[1]) > 1, "one node did it all"
    write(place, first__numbers="BASE = 20", second__="def double(x): return 3 * x")
    assert run(place, program).split("\n")[0] == "[4, 3, 21, 101, 1001] 4 True"
    write(
        place,
        first__lazy="def late(x): return x + 200",
        beside="VALUE = 5\nfrom other import Thing",
    )
    write(place, other="class Thing:\n    def __init__(self, x): self.x = x")
    assert run(place, program).split("\n")[0] == "[4, 3, 21, 201, 1001] 6 True"


def test_two_versions_side_by_side(tmp_path: Path, nodes: Nodes) -> None:
    """Two programs, or two versions of one, take turns on the same worker and never meet."""
    nodes.start()
    texts = []
    for version in ("old", "new"):
        place = tmp_path / version
        write(place, lib__thing=f"NAME = {version!r}\nseen = []", lib__="")
        texts.append(
            (
                place,
                f"""
            import stealmesh
            from lib import thing
            K = {version!r}
            def task(x):
                thing.seen.append(thing.NAME)
                return thing.NAME, K, len(set(thing.seen))
            if __name__ == "__main__":
                with stealmesh.Mesh({nodes.seed!r}, key={str(nodes.key)!r}) as mesh:
                    for i in range(60):
                        got = mesh.submit(task, i).result()
                        assert got == ({version!r}, {version!r}, 1), got
                    assert set(mesh.map(task, range(500))) == {{({version!r}, {version!r}, 1)}}
            """,
            )
        )
    problems: list[str] = []

    def go(place: Path, text: str) -> None:
        try:
            run(place, text)
        except AssertionError as error:
            problems.append(str(error))

    threads = [threading.Thread(target=go, args=each) for each in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_a_late_joiner_gets_it_too(tmp_path: Path, nodes: Nodes) -> None:
    place = tmp_path / "project"
    write(place, helper="def f(x):\n    import time\n    time.sleep(0.05)\n    return x + 1")
    nodes.start()
    text = f"""
    import stealmesh, helper, sys
    if __name__ == "__main__":
        with stealmesh.Mesh({nodes.seed!r}, key={str(nodes.key)!r}) as mesh:
            print("go", flush=True)
            assert list(mesh.map(helper.f, range(200))) == list(range(1, 201))
            print(sum(1 for n in mesh.status()["nodes"] if n["role"] != "client"))
    """
    write(place, program=text)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    nodes.start()
    with process.stdout:
        assert process.stdout.read().strip() == "2"
    assert process.wait(PATIENCE_SECONDS) == 0


def test_modules_of_every_kind(tmp_path: Path, nodes: Nodes) -> None:
    """Row 30: loaded by path (registered or not), made by hand, added to sys.path after the start, from
    a zip file; own inputs: a loader of the program's own, a relative import in `python -m`, a module
    that is run by `-m`, installed packages by `ship`, own ones left out by `no_ship`."""
    place = tmp_path / "project"
    elsewhere = tmp_path / "elsewhere"
    write(
        elsewhere,
        by_path="import other_kind\nN = 4\ndef f(x): return x + N",
        late="def f(x): return x + 5",
    )
    write(place, other_kind="")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("zipped.py", "def f(x): return x + 6")
    write(tmp_path / "site-packages", installed="def f(x): return x + 1")
    nodes.start()
    run(
        place,
        f"""
        import importlib.util, sys, types
        import stealmesh

        def load(name, register):
            spec = importlib.util.spec_from_file_location(name, {str(elsewhere / "by_path.py")!r})
            module = importlib.util.module_from_spec(spec)
            if register:
                sys.modules[name] = module
            spec.loader.exec_module(module)
            return module

        registered, loose = load("registered", True), load("loose", False)
        made = types.ModuleType("made")
        exec("M = 7\\ndef f(x): return x + M\\nclass C:\\n  def __init__(self, x): self.x = x", made.__dict__)
        sys.modules["made"] = made
        def use_made(x):
            import made
            return made.f(x), made.C(x)

        if __name__ == "__main__":
            with stealmesh.Mesh({nodes.seed!r}, key={str(nodes.key)!r}) as mesh:
                go = lambda f, x=1: mesh.submit(f, x).result()
                assert go(registered.f) == 5
                assert go(loose.f) == 5
                assert go(made.f) == 8
                total, it = go(use_made)
                assert total == 8 and type(it) is made.C and it.x == 1
                assert go(lambda c: c.x, made.C(3)) == 3
                sys.path.insert(0, {str(elsewhere)!r})
                sys.path.insert(0, {str(tmp_path / "packed.zip")!r})
                import late, zipped
                assert go(late.f) == 6
                assert go(zipped.f) == 7
                made.M = 9
                assert go(made.f) == 10
                late.__dict__["f"] = lambda x: x + 50
                assert go(late.f) == 51
                out = mesh.options(no_ship=["late"])
                try:
                    out.submit(importlib.import_module, "late").result()
                except Exception as error:
                    assert "late" in str(error)
                else:
                    raise AssertionError("it travelled")
                sys.path.append({str(tmp_path / "site-packages")!r})
                import installed
                assert "installed" in str(mesh.submit(installed.f, 1).exception())
                assert mesh.options(ship=[installed]).submit(installed.f, 1).result() == 2
        """,
    )
    write(place, pkg__="", pkg__part="def f(x): return x + 1")
    write(
        place,
        pkg__main=f"""
        import stealmesh
        from . import part
        class C:
            def __init__(self, x): self.x = x
        def f(x):
            from .part import f as g
            return C(g(x) + part.f(x))
        if __name__ == "__main__":
            with stealmesh.Mesh({nodes.seed!r}, key={str(nodes.key)!r}) as mesh:
                got = mesh.submit(f, 1).result()
                assert type(got) is C and got.x == 4
        """,
    )
    finish(place, "-m", "pkg.main")


def test_a_module_imported_anew_in_the_running_program(tmp_path: Path) -> None:
    """Row 4 while the program runs, on a local mesh: `importlib.reload`; and an edit without it is an
    error rather than two truths."""
    write(tmp_path, helper="N = 1\ndef f(x): return x + N")
    run(
        tmp_path,
        """
        import importlib, os, pathlib
        import stealmesh, helper
        file = pathlib.Path(helper.__file__)
        def through(x): return helper.f(x)
        def edit(text):
            file.write_text(text)
            os.utime(file, (now := os.stat(file).st_mtime + 10, now))
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=2) as mesh:
                assert mesh.submit(helper.f, 1).result() == mesh.submit(through, 1).result() == 2
                edit("N = 5\\ndef f(x): return x * 1 + N")
                assert list(mesh.map(helper.f, [1, 1])) == [2, 2]
                importlib.reload(helper)
                assert list(mesh.map(helper.f, [1, 1])) == [6, 6]
                assert mesh.submit(helper.f, 1).result() == mesh.submit(through, 1).result() == 6
                assert [f.result() for f in [mesh.submit(through, i) for i in range(20)]] == [
                    i + 5 for i in range(20)]
        """,
    )
    write(tmp_path, young="def f(x): return x + 1")
    run(
        tmp_path,
        """
        import os, pathlib, young
        import stealmesh
        file = pathlib.Path(young.__file__)
        import stealmesh.mesh
        file.write_text("def f(x): return x + 2")
        os.utime(file, (now := os.stat(file).st_mtime + 10, now))
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                try:
                    print(mesh.submit(young.f, 1).result())
                except stealmesh.CannotShip as error:
                    assert "edited" in str(error) and "reload" in str(error)
                else:
                    raise AssertionError
        """,
    )


def test_a_module_that_a_node_lacks_is_named(tmp_path: Path, nodes: Nodes) -> None:
    """What is installed here and not there is no business of the bundle; the error names it."""
    nodes.start()
    write(tmp_path / "site-packages", installed="def f(x): return x")
    run(
        tmp_path,
        f"""
        import sys
        sys.path.append({str(tmp_path / "site-packages")!r})
        import stealmesh, installed
        if __name__ == "__main__":
            with stealmesh.Mesh({nodes.seed!r}, key={str(nodes.key)!r}) as mesh:
                error = mesh.submit(installed.f, 1).exception()
                assert "installed" in str(error), error
        """,
    )


def test_time_does_not_decide(tmp_path: Path) -> None:
    """The bundle is what counts, not the node's own copy of the same path: the file is edited while
    the nodes run, after the program has started."""
    write(tmp_path, helper="def f(x): return x + 1\ndef g(x): return f(x)")
    run(
        tmp_path,
        """
        import pathlib, helper, stealmesh
        if __name__ == "__main__":
            with stealmesh.Mesh(nodes=2, workers=1) as mesh:
                assert mesh.submit(helper.f, 1).result() == 2
                pathlib.Path(helper.__file__).write_text("def f(x): return x + 5\\ndef g(x): return f(x)")
                got = {f.result() for f in [mesh.submit(helper.g, 1) for _ in range(50)]}
                assert got == {2}, got
        """,
    )
