"""A worker is like a child process of the program: its signals, its environment, its hashes, its path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.everyday.programs import run

import stealmesh

pytestmark = pytest.mark.real


# ---------------------------------------------------------------- signals


def test_a_worker_that_dies_is_noticed_though_the_program_blocks_signals(tmp_path: Path) -> None:
    """Row 17: a blocked SIGCHLD is inherited, and the fork server would never hear of a death."""
    done = run(
        """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        import stealmesh
        def die():
            os._exit(1)
        def blocked():
            return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        with stealmesh.Mesh(workers=1) as mesh:
            print(type(mesh.submit(die).exception(timeout=60)).__name__)
            print(mesh.submit(blocked).result(timeout=60))
        """,
        tmp_path,
    )
    assert done.stdout.split("\n")[:2] == ["WorkerDied", "[]"], done.stderr


@pytest.mark.parametrize("ignored", [False, True])
def test_a_task_stops_its_child_by_any_signal(tmp_path: Path, ignored: bool) -> None:
    """Row 31: the fork server ignores SIGINT, and what a process ignores its children ignore as well; so
    do the children of a program that ignores something."""
    done = run(
        f"""
        import signal, subprocess, stealmesh
        NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM]
        for number in NUMBERS if {ignored} else ():
            signal.signal(number, signal.SIG_IGN)
        def stop(number):
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            child.send_signal(number)
            try:
                return -child.wait(20)
            finally:
                child.kill()
        with stealmesh.Mesh(workers=1) as mesh:
            print(list(mesh.map(stop, map(int, NUMBERS), timeout=60)) == NUMBERS)
        """,
        tmp_path,
    )
    assert done.stdout == "True\n", done.stderr


def test_signals_of_a_worker_are_those_of_a_fresh_interpreter(tmp_path: Path) -> None:
    """But for SIGURG, which an interpreter ignores: by it a task is stopped (`workers/stopping.py`)."""
    text = """
        import signal, stealmesh
        def handlers():
            return {int(n): str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()}
        if __name__ == "__main__":
            for number in (signal.SIGHUP, signal.SIGQUIT):  # a shell's background job ignores these
                signal.signal(number, signal.SIG_DFL)
            here = handlers()
            with stealmesh.Mesh(workers=1) as mesh:
                there = mesh.submit(handlers).result(timeout=60)
            print({n: (here[n], there[n]) for n in here if here[n] != there[n] and n != signal.SIGURG})
        """
    assert run(text, tmp_path).stdout == "{}\n"


def test_an_interrupt_ends_the_task_that_it_reaches() -> None:
    """A terminal's Ctrl-C reaches no worker: it has a session of its own. What a task sends itself does."""

    def interrupt() -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    with stealmesh.Mesh(workers=1) as mesh:
        assert isinstance(mesh.submit(interrupt).exception(timeout=60), KeyboardInterrupt)
        assert mesh.submit(os.getsid, 0).result(timeout=60) != os.getsid(0)
        assert mesh.submit(os.getpgrp).result(timeout=60) != os.getpgrp()


# ---------------------------------------------------------------- children of tasks


FORKS = {
    "exit(3)": ("sys.exit(3)", 3, ""),
    "exit()": ("sys.exit()", 0, ""),
    "exit(text)": ("sys.exit('so long')", 1, ""),
    "exit(True)": ("sys.exit(True)", 1, ""),
    "exit(259)": ("sys.exit(259)", 3, ""),
    "raises": ("raise ValueError('in the child')", 1, ""),
    "returns": ("return 'from the child'", 0, ""),
    "prints": ("print('half a line', end=''); sys.exit(4)", 4, "half a line"),
    "interrupted": ("raise KeyboardInterrupt", -2, ""),
    "killed": ("os.kill(os.getpid(), 9)", -9, ""),
}


@pytest.mark.parametrize("how", ["submit", "map", "map_reduce", "explore", "vectorized"])
def test_a_child_that_a_task_forks_ends_with_its_own_status(tmp_path: Path, how: str) -> None:
    """Row 32: SystemExit of the copy was taken for the task's, and the copy ended with status 0."""
    calls = {
        "submit": "mesh.submit(task, kind).result(timeout=60)",
        "map": "next(mesh.map(task, [kind], timeout=60))",
        "map_reduce": "mesh.map_reduce(task, [kind], min).result(timeout=60)",
        "explore": "mesh.explore(lambda bag, n: (task(bag[0]), []), [kind], min).result(timeout=60)",
        "vectorized": "next(mesh.map(stealmesh.vectorized(lambda x: [task(x[0])]), [kind], timeout=60))",
    }
    branches = "".join(
        f"""
                if kind == {kind!r}:
                    {action}"""
        for kind, (action, _, _) in FORKS.items()
    )
    done = run(
        f"""
        import os, sys, stealmesh
        def task(kind):
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:{branches}
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with stealmesh.Mesh(workers=1) as mesh:
            for kind in {list(FORKS)}:
                found = {calls[how]}
                print("", kind, found, flush=True)
            counters = mesh.status()["counters"]
        print({{name: n for name, n in counters.items() if "dead" in name}})
        """,
        tmp_path,
    )
    wanted = "".join(f"{printed} {kind} {status}\n" for kind, (_, status, printed) in FORKS.items())
    assert done.stdout == wanted + "{}\n", done.stderr


# ---------------------------------------------------------------- the environment


SHOWN = """
    import os, subprocess, sys, json
    def shown():
        code = "import json, os, sys; print(json.dumps([dict(os.environ), sys.path]))"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return [dict(os.environ), *json.loads(child.stdout)]
"""
DOCUMENTED = {
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ({}, []),
        ({"PYTHONPATH": "/nowhere"}, []),
        ({"PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "7"}, []),
        ({"PYTHONPATH": "/nowhere", "PYTHONHASHSEED": "3"}, ["-E"]),
    ],
    ids=str,
)
def test_nothing_of_ours_is_in_the_environment_of_tasks(
    tmp_path: Path, variables: dict[str, str], flags: list[str]
) -> None:
    """Row 29: PYTHONPATH of a local mesh was seen by `subprocess` in a task."""
    text = (
        SHOWN
        + """
    if __name__ == "__main__":
        import stealmesh
        with stealmesh.Mesh(workers=1) as mesh:
            found = mesh.submit(shown).result(timeout=60)
        print(json.dumps([shown(), found]))
    """
    )
    if flags:
        text = f"    import sys; sys.path[:0] = {ROOMS!r}\n" + text
    done = run(text, tmp_path, flags=flags, variables=variables)
    assert done.returncode == 0, done.stderr
    here, there = json.loads(done.stdout)
    for ours, theirs in zip(here[:2], there[:2], strict=True):
        changed = {
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        }
        assert changed <= DOCUMENTED - variables.keys()
    assert here[2] == there[2], "sys.path of what a task starts"


ROOMS = [str(Path(__file__).parents[2] / room) for room in ("protocol", "engine", "nodes")]


def test_workers_find_what_the_program_finds_in_the_same_order(tmp_path: Path) -> None:
    """Relative entries, repeated ones, what is no text, and a directory that does not exist."""
    done = run(
        """
        import os, sys, pathlib, stealmesh
        sys.path[:0] = ["here", "/does/not/exist", "here"]
        sys.path[2:2] = [pathlib.Path("/a/path")]
        sys.path.append("at/the/end")
        def path():
            import sys
            return sys.path
        with stealmesh.Mesh(workers=1) as mesh:
            found = mesh.submit(path).result(timeout=60)
        wanted = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]
        print(found == list(dict.fromkeys(wanted)) or (found, wanted))
        """,
        tmp_path,
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("flag", ["-O", "-Wignore", "-Xdev"])
def test_workers_run_with_the_programs_flags(tmp_path: Path, flag: str) -> None:
    """An assert that the program does not check is not checked in a task, as in any child of it."""
    done = run(
        """
        import sys, stealmesh
        def flags():
            import sys
            return [str(sys.flags), sys.warnoptions, sys._xoptions]
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                found = mesh.submit(flags).result(timeout=60)
            here = flags()
            print(found[1:] == here[1:], found[0].replace("hash_randomization=0", "hash_randomization=1") == here[0] or (found, here))
        """,
        tmp_path,
        flags=[flag],
        variables={"PYTHONUNBUFFERED": ""},
    )
    assert done.stdout == "True True\n", done.stdout + done.stderr


# ---------------------------------------------------------------- names that shadow

SHADOWS = (
    "random", "json", "types", "queue", "socket", "select", "signal", "string", "enum", "copy",
    "struct", "tempfile", "shutil", "pathlib", "dataclasses", "typing", "traceback", "resource",
    "mmap", "ctypes", "subprocess", "threading", "logging", "contextlib", "functools", "heapq",
    "zmq", "msgspec", "cloudpickle", "stealmesh", "stealmesh_engine",
)  # fmt: skip


@pytest.mark.parametrize("shadow", ["started there", "goes there"])
def test_files_in_the_working_directory_shadow_nothing(tmp_path: Path, shadow: str) -> None:
    """Row 28: for 14 of 18 such names no mesh started."""
    theirs, ours = tmp_path / "cwd", tmp_path / "program"
    theirs.mkdir()
    ours.mkdir()
    for name in SHADOWS:
        (theirs / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')\n")
    text = f"""
        import os, stealmesh.mesh
        os.chdir({str(theirs)!r})
        with stealmesh.Mesh(workers=1) as mesh:
            print(mesh.submit(pow, 2, 10).result(timeout=60), sum(mesh.map(abs, range(100))))
    """
    # Either the program goes there after it has imported what it needs, or it is started there.
    done = run(text, ours, cwd=theirs if shadow == "started there" else ours)
    assert done.stdout == "1024 4950\n", done.stderr


def test_a_name_beside_the_program_that_only_we_import_breaks_nothing(tmp_path: Path) -> None:
    """The program never meets the file of that name, so nothing of ours may."""
    names = ("ctypes", "mmap", "resource", "traceback", "runpy", "shutil")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} beside the program')\n")
    done = run(
        f"""
        import sys
        beside = sys.path.pop(0)
        import stealmesh.mesh, {", ".join(names)}
        sys.path.insert(0, beside)
        with stealmesh.Mesh(workers=1) as mesh:
            print(mesh.submit(pow, 2, 10).result(timeout=60))
        """,
        tmp_path,
    )
    assert done.stdout == "1024\n", done.stderr


def test_a_package_that_replaces_a_module_of_the_standard_library(tmp_path: Path) -> None:
    """Row 29: PyPI's `pathlib`, installed beside us: the directory of our own package came before the
    standard library."""
    site = tmp_path / "site-packages"
    site.mkdir()
    for name in ("pathlib", "typing", "enum", "dataclasses"):
        (site / f"{name}.py").write_text(f"raise ImportError('a {name} of long ago')\n")
    for room, package in (
        ("protocol", "stealmesh_protocol"), ("engine", "stealmesh_engine"), ("nodes", "stealmesh"),
    ):  # fmt: skip
        (site / package).symlink_to(Path(__file__).parents[2] / room / package)
    done = run(
        f"""
        import sys
        sys.path[:] = [entry for entry in sys.path if entry not in {ROOMS!r}]
        sys.path.append({str(site)!r})
        import stealmesh
        assert stealmesh.__file__.startswith({str(site)!r})
        with stealmesh.Mesh(workers=1) as mesh:
            print(mesh.submit(pow, 2, 10).result(timeout=60))
        """,
        tmp_path,
    )
    assert done.stdout == "1024\n", done.stderr


# ---------------------------------------------------------------- hashes


def test_one_seed_for_all_hashes_of_a_mesh(tmp_path: Path) -> None:
    """Row 5. Replacements of workers and of nodes have the same one."""
    done = run(
        """
        import os, signal, time, stealmesh
        def found(_):
            time.sleep(0.002)
            return hash("abc"), hash(b"abc"), hash(frozenset("abc")), os.getpid()
        def all_found():
            return set(mesh.map(found, range(40)))
        with stealmesh.Mesh(nodes=2, workers=1) as mesh:
            first = all_found()
            for pid in {each[-1] for each in first}:
                os.kill(pid, signal.SIGKILL)
            second = all_found()
            for node in mesh.status()["nodes"]:
                if node["role"] != "client":
                    os.kill(node["pid"], signal.SIGKILL)
            third = all_found()
        assert len({each[-1] for each in first | second | third}) >= 3
        print(len({each[:-1] for each in first | second | third}))
        """,
        tmp_path,
    )
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize("seed", ["0", "4294967295"])
def test_a_seed_that_the_user_has_chosen_is_kept(tmp_path: Path, seed: str) -> None:
    done = run(
        """
        import os, stealmesh
        def found():
            return hash("abc"), os.environ["PYTHONHASHSEED"]
        with stealmesh.Mesh(nodes=2, workers=1) as mesh:
            there = {mesh.submit(found).result(timeout=60) for _ in range(8)}
        print(there == {found()})
        """,
        tmp_path,
        variables={"PYTHONHASHSEED": seed},
    )
    assert done.stdout == "True\n", done.stderr


def test_nodes_with_one_key_have_one_seed() -> None:
    """So that the nodes of all hosts of a mesh agree: two meshes with one key stand for them."""
    key = stealmesh.Key.generate()
    with stealmesh.Mesh(workers=1, key=key) as one, stealmesh.Mesh(workers=1, key=key) as other:
        found = [mesh.submit(hash, "abc").result(timeout=60) for mesh in (one, other)]
    assert found[0] == found[1]
