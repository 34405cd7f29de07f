"""How meshes end: forgotten, with the program, in a child of multiprocessing, with their block."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import time
import weakref
from pathlib import Path

import pytest
from tests.everyday.programs import FORKS_ARE_MEANT, is_alive, run
from tests.patience import until

import stealmesh

pytestmark = pytest.mark.real


def node_pids(mesh: stealmesh.Mesh) -> list[int]:
    return [node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client"]


# ---------------------------------------------------------------- forgotten


def test_forgotten_meshes_are_collected() -> None:
    """Row 37: each kept its node and workers to the end of the program."""
    pids = []
    for _ in range(20):
        mesh = stealmesh.Mesh(workers=1)
        pids += node_pids(mesh)
    del mesh
    until(lambda: not any(map(is_alive, pids)))


def test_what_was_submitted_to_a_forgotten_mesh_is_done() -> None:
    def later(x: int) -> int:
        time.sleep(0.2)
        return x * x

    futures = [stealmesh.Mesh(workers=1).submit(later, x) for x in range(3)]
    total = stealmesh.Mesh(workers=1).map_reduce(later, range(3), int.__add__)
    unread = stealmesh.Mesh(workers=1).map(later, range(3))
    gc.collect()
    assert [future.result(timeout=60) for future in futures] == [0, 1, 4]
    assert total.result(timeout=60) == 5
    assert list(unread) == [0, 1, 4]


def test_an_iterator_that_is_read_keeps_its_mesh() -> None:
    """`for x in Mesh().map(...)`: nobody else holds that mesh."""
    results = stealmesh.Mesh(workers=1).map(abs, iter(range(10**9)), buffersize=8)
    gc.collect()
    assert [next(results) for _ in range(1000)] == list(range(1000))
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("used", ["unused", "submit", "map", "map_reduce", "explore", "view", "error", "cycle", "status"])  # fmt: skip
def test_nothing_holds_a_mesh_but_the_program(used: str) -> None:
    """Else forgetting it would not be noticed."""
    mesh = stealmesh.Mesh(workers=1)
    pids, gone = node_pids(mesh), weakref.ref(mesh)
    if used == "submit":
        assert mesh.submit(abs, -1).result(timeout=60) == 1
        assert [f.result(timeout=60) for f in [mesh.submit(pow, 2, i) for i in range(50)]][
            -1
        ] == 2**49
    elif used == "map":
        assert list(mesh.map(abs, [1, 2, 3])) == [1, 2, 3]
        assert sum(mesh.map(abs, range(1000))) == sum(range(1000))
    elif used == "map_reduce":
        assert mesh.map_reduce(abs, range(9), max).result(timeout=60) == 8
    elif used == "explore":
        assert (
            mesh.explore(stealmesh.each(lambda n: (1, range(n))), [3], int.__add__).result(60) == 8
        )
    elif used == "view":
        assert mesh.options(priority=3).submit(abs, 1).result(timeout=60) == 1
    elif used == "error":
        assert isinstance(mesh.submit(divmod, 1, 0).exception(timeout=60), ZeroDivisionError)
    elif used == "cycle":
        mesh.itself = mesh  # type: ignore[attr-defined]
    del mesh
    gc.collect()
    assert gone() is None
    until(lambda: not any(map(is_alive, pids)))


def test_shutdown_without_waiting_finishes_in_the_background() -> None:
    mesh = stealmesh.Mesh(workers=1)
    pids = node_pids(mesh)
    future = mesh.submit(time.sleep, 0.3)
    mesh.shutdown(wait=False)
    mesh.shutdown(wait=False)
    assert not future.done()
    del mesh
    assert future.result(timeout=60) is None
    until(lambda: not any(map(is_alive, pids)))


# ---------------------------------------------------------------- with the program


def submitted(end: str) -> str:
    return f"""
        import atexit, operator, os, sys, threading, time, stealmesh
        def later(x):
            time.sleep(0.1)
            return x + 1
        def visit(bag, limit):
            time.sleep(0.02)
            return len(bag), []
        def told(name):
            return lambda future: os.write(1, f"{{name}} {{future.result()}}\\n".encode())
        mesh = stealmesh.Mesh(workers=2)
        for x in range(4):
            mesh.submit(later, x).add_done_callback(told("submit"))
        mesh.map_reduce(later, range(4), operator.add).add_done_callback(told("reduce"))
        mesh.map_reduce(later, iter(range(4)), operator.add).add_done_callback(told("reduce"))
        mesh.explore(visit, [1, 2, 3], operator.add).add_done_callback(told("explore"))
        unread = mesh.map(lambda x: os.write(1, b"map x\\n"), [1, 2])
        {end}
    """


ALL_DONE = sorted(
    [f"submit {x}" for x in (1, 2, 3, 4)]
    + ["reduce 10", "reduce 10", "explore 3", "map x", "map x"]
)
ENDS = {
    "falls off": ("", 0),
    "exits": ("sys.exit(5)", 5),
    "raises": ("raise ValueError('at the end')", 1),
    "shuts down in the background": ("mesh.shutdown(wait=False)", 0),
    "forgets": ("del mesh", 0),
    "a thread goes on": ("threading.Timer(0.3, lambda: mesh.submit(abs, 1).result()).start()", 0),
    "atexit asks": ("atexit.register(lambda: mesh.submit(abs, 1).result())", 0),
    "atexit shuts down": ("atexit.register(mesh.shutdown)", 0),
    "closes its output": ("sys.stdout.close(); sys.stderr.close()", 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_finishes_what_it_submitted(tmp_path: Path, end: str) -> None:
    """Row 20: from 3.12 on no thread is started at the end of a program, and all was lost."""
    text, status = ENDS[end]
    done = run(submitted(text), tmp_path)
    assert sorted(done.stdout.splitlines()) == ALL_DONE, done.stderr
    assert done.returncode == status, done.stderr
    assert ("at the end" in done.stderr) == (end == "raises")
    assert end == "raises" or not done.stderr


SENT_AT_THE_END = {
    "arguments": """
        for _ in range(6):
            mesh.submit(slow, random.randbytes(2_000_000)).add_done_callback(tell)
        """,
    "map": """
        unread = mesh.map(slow, [random.randbytes(2_000_000) for _ in range(6)])
        """,
    "closures": """
        for held in [random.randbytes(2_000_000) for _ in range(6)]:
            mesh.submit(lambda held=held: slow(held)).add_done_callback(tell)
        """,
    "module": """
        import big_module
        for _ in range(6):
            mesh.submit(big_module.slow, b"abc").add_done_callback(tell)
        """,
    "fork": """
        child = os.fork()
        if child == 0:
            mesh = stealmesh.Mesh(workers=1)
        for _ in range(3):
            mesh.submit(slow, random.randbytes(2_000_000)).add_done_callback(tell)
        if child:
            os.waitpid(child, 0)
        """,
}


@pytest.mark.parametrize("what", SENT_AT_THE_END)
def test_what_is_large_is_still_sent_while_the_program_ends(tmp_path: Path, what: str) -> None:
    """Row 20: pyzmq had ended its part before us, or could not begin it any more, and all was lost."""
    slow = """
        def slow(value):
            time.sleep(0.1)
            os.write(1, b"done\\n")
            return value[:3]
    """
    table = f"TABLE = {base64.b64encode(random.randbytes(150_000))!r}"
    text = f"import os, time\n{textwrap.dedent(slow)}\n{table}\n"
    (tmp_path / "big_module.py").write_text(text)
    program = f"""
        import os, random, time, stealmesh
        {slow.strip()}
        def tell(future):
            future.result()
            os.write(1, b"told\\n")
        mesh = stealmesh.Mesh(workers=1)
        {SENT_AT_THE_END[what].strip()}
    """
    done = run(program, tmp_path, flags=[FORKS_ARE_MEANT])
    assert not done.stderr
    assert done.stdout.count("done") == 6
    assert done.stdout.count("told") == (0 if what == "map" else 6)


def test_what_dies_while_the_program_ends_is_replaced(tmp_path: Path) -> None:
    done = run(
        """
        import atexit, os, signal, stealmesh, time
        def later(x):
            time.sleep(0.3)
            return x
        mesh = stealmesh.Mesh(nodes=2, workers=1)
        for x in range(4):
            mesh.submit(later, x).add_done_callback(lambda f: os.write(1, b"%d\\n" % f.result()))
        for node in mesh.status()["nodes"]:
            if node["role"] != "client":
                atexit.register(os.kill, node["pid"], signal.SIGKILL)
        """,
        tmp_path,
    )
    assert sorted(done.stdout.split()) == ["0", "1", "2", "3"], done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_finishes_what_it_submitted(tmp_path: Path, method: str) -> None:
    """Row 39: such a child does not run `atexit`."""
    done = run(
        f"""
        import multiprocessing, os, sys, time, stealmesh
        def child(queue):
            later = lambda x: time.sleep(0.1) or x
            mesh = stealmesh.Mesh(workers=2)
            for x in range(4):
                mesh.submit(later, x).add_done_callback(lambda f: queue.put(f.result()))
            sys.exit(6)
        if __name__ == "__main__":
            before = stealmesh.Mesh(workers=1)  # the parent's is none of the child's business
            context = multiprocessing.get_context({method!r})
            queue = context.Queue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            found = sorted(queue.get(timeout=60) for _ in range(4))
            process.join()
            print(found, process.exitcode, before.submit(abs, -3).result())
        """,
        tmp_path,
        flags=[FORKS_ARE_MEANT],
    )
    assert done.stdout == "[0, 1, 2, 3] 6 3\n", done.stderr
    assert not done.stderr


def test_a_worker_of_the_standard_pool_finishes_what_it_submitted(tmp_path: Path) -> None:
    done = run(
        """
        import concurrent.futures, os, time, stealmesh
        meshes = []
        def later(x):
            time.sleep(0.1)
            return x
        def submit_and_go(x):
            meshes.append(stealmesh.Mesh(workers=1))
            meshes[-1].submit(later, x).add_done_callback(lambda f: os.write(1, b"%d\\n" % f.result()))
        if __name__ == "__main__":
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                list(pool.map(submit_and_go, range(2)))
        """,
        tmp_path,
    )
    assert sorted(done.stdout.split()) == ["0", "1"], done.stderr


def test_a_program_that_was_interrupted_in_shutdown_and_goes_on_ends(tmp_path: Path) -> None:
    """Asked for a second time, it waited for a first one that was no more."""
    done = run(
        """
        import os, signal, stealmesh, time
        def interrupt_and_go_on(pid):
            os.kill(pid, signal.SIGINT)
            time.sleep(0.3)
            return 5
        mesh = stealmesh.Mesh(workers=1)
        future = mesh.submit(interrupt_and_go_on, os.getpid())
        try:
            mesh.shutdown()
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
        mesh.shutdown()
        print(future.result(timeout=0))
        """,
        tmp_path,
    )
    assert done.stdout == "interrupted\n5\n", done.stderr


# ---------------------------------------------------------------- with their block


@pytest.mark.parametrize("error", [None, ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_mesh_ends_with_its_block(error: type[BaseException] | None) -> None:
    expected = contextlib.nullcontext() if error is None else pytest.raises(error)
    with expected, stealmesh.Mesh(workers=1) as mesh:
        pids = node_pids(mesh)
        future = mesh.submit(time.sleep, 0.2)
        if error is not None:
            raise error("in the block")
    assert future.done()
    until(lambda: not any(map(is_alive, pids)))
    mesh.shutdown()


@pytest.mark.parametrize("flags", [["-Xdev"], ["-Werror"], ["-Xdev", "-Werror", "-O"]], ids=str)
def test_strict_interpreters_have_nothing_to_complain_of(tmp_path: Path, flags: list[str]) -> None:
    """Unclosed sockets, running subprocesses and the like, at the end, in a fork and when forgotten."""
    done = run(
        """
        import os, stealmesh
        with stealmesh.Mesh(workers=1) as mesh:
            print(mesh.submit(pow, 2, 3).result())
        forgotten = stealmesh.Mesh(workers=1)
        del forgotten
        mesh = stealmesh.Mesh(workers=1)
        print(sum(mesh.map(abs, range(10))), flush=True)
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        tmp_path,
        flags=[*flags, FORKS_ARE_MEANT],
    )
    assert done.stdout == "8\n45\n0\n"
    assert not done.stderr


def test_many_meshes_at_once_end_at_once() -> None:
    meshes = [stealmesh.Mesh(workers=1) for _ in range(4)]
    pids = [pid for mesh in meshes for pid in node_pids(mesh)]
    waiting = [mesh.submit(os.getpid) for mesh in meshes]
    del meshes, waiting
    until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("end", ["mesh.shutdown(wait=False)", "del mesh"])
def test_the_end_of_the_program_waits_for_callbacks_of_a_mesh_that_has_ended(
    tmp_path: Path, end: str
) -> None:
    """As the standard library does. The mesh had gone, and the callback went with the program."""
    done = run(
        f"""
        import threading, time, stealmesh
        begun = threading.Event()
        def callback(_):
            begun.set()
            life.closed.wait(60)
            time.sleep(0.5)
            print("told", flush=True)
        mesh = stealmesh.Mesh(workers=1)
        life = mesh._life
        mesh.submit(time.sleep, 0.1).add_done_callback(callback)
        {end}
        assert begun.wait(60) and life.closed.wait(60)
        """,
        tmp_path,
    )
    assert (done.stdout, done.returncode) == ("told\n", 0), done.stderr


def test_the_key_of_a_killed_program_goes_with_the_next_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is killed cannot take its key file away. A place of its own: a mesh of a test beside this one
    would be the next."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = "import os, stealmesh\nprint(stealmesh.Mesh(workers=1).key_file, flush=True)\nos.kill(os.getpid(), 9)\n"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    key_file = Path(told.stdout.strip())
    assert key_file.name == "mesh.key", told.stderr
    assert key_file.exists()
    with stealmesh.Mesh(workers=1) as mesh:
        assert mesh.submit(pow, 2, 10).result() == 1024
    assert not key_file.parent.exists()
