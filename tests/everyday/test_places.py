"""Machines that are not as one would wish: long paths, no home, no directory, few descriptors, few processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.everyday.programs import run, write

import stealmesh
from stealmesh.host.hideout import PATH_OCTETS_MAX, bases, hideout
from stealmesh.host.local import LocalMesh, LocalNode
from stealmesh.host.machine import UNLIMITED
from stealmesh.transport import TransportError, sockets

pytestmark = pytest.mark.real

HELLO = """
    import stealmesh
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        print(mesh.submit(pow, 2, 10).result(timeout=60), sum(mesh.map(abs, range(100))))
        with stealmesh.Mesh(mesh.address, key=mesh.key_file) as other:
            print(other.submit(pow, 2, 3).result(timeout=60))
"""
FINE = "1024 4950\n8\n"


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("octets", [75, 103, 200])
def test_a_temporary_directory_with_a_long_name(tmp_path: Path, octets: int) -> None:
    """Row 33: the path of a socket has room for 107 octets."""
    directory = tmp_path / ("d" * max(1, octets - len(str(tmp_path)) - 1))
    directory.mkdir()
    done = run(HELLO, tmp_path, variables={"TMPDIR": str(directory)})
    assert done.stdout == FINE, done.stderr
    assert not done.stderr
    assert not list(directory.iterdir())


@pytest.mark.parametrize("name", [b"a b", "ü".encode(), b"\xff", b"o'clock \"\n"])
def test_a_temporary_directory_whose_name_is_no_address(tmp_path: Path, name: bytes) -> None:
    """Peers take only printable ASCII, without blanks, in an address: the sockets go elsewhere."""
    directory = tmp_path / os.fsdecode(name)
    directory.mkdir()
    done = run(HELLO, tmp_path, variables={"TMPDIR": str(directory)})
    assert done.stdout == FINE, done.stderr
    assert not done.stderr
    assert not list(directory.iterdir())


@pytest.mark.parametrize("bad", ["/does/not/exist", "relative/one", "é" * 50])
def test_a_temporary_directory_that_is_none(tmp_path: Path, bad: str) -> None:
    done = run(HELLO, tmp_path, variables={"TMPDIR": bad})
    assert done.stdout == FINE, done.stderr


def test_the_local_socket_needs_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without any a node is reached by its network address."""
    monkeypatch.setattr("stealmesh.host.hideout.bases", lambda: [str(tmp_path / ("x" * 90))])
    with hideout() as path:
        assert path is None
    (tmp_path / "short").mkdir()
    monkeypatch.setattr("stealmesh.host.hideout.bases", lambda: ["/does/not/exist", "/tmp"])
    with hideout() as path:
        assert path is not None
        assert len(os.fsencode(path)) <= PATH_OCTETS_MAX
        assert oct(Path(path).parent.stat().st_mode)[-3:] == "700"
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("home", ["/" + "h" * 300, "relative"])
def test_a_home_that_cannot_be_looked_into(tmp_path: Path, home: str) -> None:
    """Row 33: looking for the settings raised whatever the system said."""
    done = run(HELLO, tmp_path, variables={"HOME": home, "XDG_CONFIG_HOME": ""})
    assert done.stdout == FINE, done.stderr
    assert not done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_home_of_somebody_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o000)
    assert run(HELLO, tmp_path, variables={"HOME": str(home)}).stdout == FINE


def test_settings_that_are_named_and_cannot_be_read(tmp_path: Path) -> None:
    text = "import stealmesh\nstealmesh.Mesh()\n"
    done = run(text, tmp_path, variables={"STEALMESH_CONFIG_FILE": "/does/not/exist"})
    assert done.stderr.splitlines()[-1] == (
        "ValueError: cannot read the settings in /does/not/exist (No such file or directory): make it "
        "readable, or name another file in STEALMESH_CONFIG_FILE"
    )


@pytest.mark.parametrize("temporary", ["/tmp", "relative"])
@pytest.mark.parametrize("how", ["-c", "standard input", "file"])
def test_a_working_directory_that_was_deleted(tmp_path: Path, how: str, temporary: str) -> None:
    """Row 33: the empty entry of sys.path stands for it. A relative TMPDIR has gone with it."""
    place = tmp_path / "gone"
    text = write(HELLO, tmp_path).read_text()
    # A path that is relative to it finds nothing either; ours are made absolute.
    rooms = [str(Path(__file__).parents[2] / room) for room in ("protocol", "engine", "nodes")]
    words = {
        "-c": f'{sys.executable} -c "$TEXT"',
        "standard input": f'echo "$TEXT" | {sys.executable}',
        "file": f"{sys.executable} {tmp_path}/program.py",
    }
    place.mkdir()
    done = subprocess.run(
        ["sh", "-c", f"rmdir {place}; {words[how]}"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(rooms), "TEXT": text, "TMPDIR": temporary},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.stdout == FINE, done.stderr
    assert not [line for line in done.stderr.splitlines() if "getcwd" not in line]


# ---------------------------------------------------------------- limits


def limited(what: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (most, most))


@pytest.mark.parametrize("descriptors", [12, 24, 64])
def test_few_descriptors(tmp_path: Path, descriptors: int) -> None:
    """Row 34: either all is well, or one line says what to do."""
    limit = limited(resource.RLIMIT_NOFILE, descriptors)
    done = run(HELLO, tmp_path, preexec_fn=limit)
    if done.returncode == 0:
        assert done.stdout == FINE
        assert not done.stderr
        return
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("Traceback")]) == 1, done.stderr
    kind, _, said = lines[-1].partition(": ")
    assert kind in (
        "stealmesh_protocol.errors.CannotStart",
        "stealmesh.transport.sockets.TransportError",
    )
    assert said.endswith("raise the limit of open files with `ulimit -n`"), said


@pytest.mark.parametrize(
    ("left", "stack", "remedy"),
    [
        (UNLIMITED, UNLIMITED, "ulimit -u"),
        (UNLIMITED, 8 << 20, "ulimit -u"),
        (1 << 40, 8 << 20, "ulimit -u"),
        (50 << 20, 8 << 20, "ulimit -v"),
    ],
)
def test_the_limit_that_keeps_threads_from_starting_is_named(
    monkeypatch: pytest.MonkeyPatch, left: int, stack: int, remedy: str
) -> None:
    """Each needs room for its stack: with `ulimit -v 200000` the limit of processes was to blame."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sockets, "address_space_left", lambda: left)
    monkeypatch.setattr(sockets, "soft_limit", lambda kind: stack)
    with pytest.raises(TransportError, match=remedy):
        sockets._require_threads()


def test_few_descriptors_by_default_and_more_to_be_had(tmp_path: Path) -> None:
    done = run(
        HELLO,
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 4096)),
    )
    assert done.stdout == FINE, done.stderr


# ---------------------------------------------------------------- standard files, languages, habits


@pytest.mark.parametrize("closed", ["0", "1 2", "0 1 2"])
def test_closed_standard_files(tmp_path: Path, closed: str) -> None:
    """The next descriptor has the number of a standard file: what tasks print must not go into it."""
    write(
        """
        import sys, stealmesh
        def loud(x):
            print("a lot of text " * 100, flush=True)
            print("a lot of text " * 100, file=sys.stderr, flush=True)
            return x
        with stealmesh.Mesh(nodes=2, workers=1) as mesh:
            found = sum(mesh.map(loud, range(20)))
        open("found", "w").write(str(found))
        """,
        tmp_path,
    )
    closing = " ".join(f"{n}>&-" for n in closed.split())
    subprocess.run(
        ["sh", "-c", f"exec {closing} {sys.executable} program.py"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=90,
    )  # fmt: skip
    assert (tmp_path / "found").read_text() == "190"


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONSAFEPATH": "1"},
        {"PYTHONSTARTUP": "/does/not/exist"},
        {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "2"},
        {"PYTHONHASHSEED": "random", "PYTHONFAULTHANDLER": "1", "PYTHONDEVMODE": "1"},
        {"PYTHONWARNINGS": "error", "PYTHONTRACEMALLOC": "1"},
        {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "ascii"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_variables_that_python_listens_to(tmp_path: Path, variables: dict[str, str]) -> None:
    done = run(HELLO, tmp_path, variables=variables)
    assert done.stdout == FINE, done.stderr
    assert not done.stderr


def test_directories_with_strange_names(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"o'clock \"\n\xff {x} \xc3\xa9")
    place.mkdir()
    (place / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    text = """
        import stealmesh, beside
        with stealmesh.Mesh(workers=1) as mesh:
            print(list(mesh.map(beside.double, [1, 2, 3])))
    """
    assert run(text, place).stdout == "[2, 4, 6]\n"


def test_sitecustomize_that_talks_and_imports(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import json, random, logging, sys; print('hello from site', file=sys.stderr)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = run(HELLO, tmp_path, variables={"PYTHONPATH": path})
    assert done.stdout == FINE, done.stderr


def test_nodes_that_are_interrupted_while_they_start_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C when the first has its directory and the second has not: they are killed, and cannot clear up."""
    pids: list[int] = []
    ready = LocalMesh._ready

    def interrupted(self: LocalMesh, node: LocalNode, deadline: float) -> LocalNode:
        pids.append(node.process.pid)
        if len(pids) > 1:
            raise KeyboardInterrupt
        return ready(self, node, deadline)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(LocalMesh, "_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stealmesh.Mesh(nodes=2, workers=2)
    assert len(pids) == 2
    assert not list(tmp_path.iterdir())
    assert not any(
        path for base in bases() for pid in pids for path in Path(base).glob(f"stealmesh-{pid}-*")
    )


def test_an_interpreter_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(stealmesh.CannotStart, match=r"set sys\.executable"):
        stealmesh.Mesh(workers=1)
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    with pytest.raises(stealmesh.CannotStart, match=r"No such file .*sys\.executable must name"):
        stealmesh.Mesh(workers=1)
