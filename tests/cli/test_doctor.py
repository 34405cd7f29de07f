"""`stealmesh doctor`: each finding, and the command beside a real node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell

from stealmesh.cli import doctor
from stealmesh.doctor import here, keys, mesh
from stealmesh.doctor.diagnosis import Diagnosis, report
from stealmesh.host import hideout, machine
from stealmesh.host.issuing import issued
from stealmesh.host.security import JoinToken, MeshKey, save_private
from stealmesh.transport.library import Library, greeted_at
from stealmesh_engine.links.introductions import PROTOCOL_VERSION
from stealmesh_protocol.passes import KeyRole

MIB = 1 << 20
BUILD = "stealmesh 1.2.3 cpython-3.11 linux"

# ---------------------------------------------------------------- this machine


@pytest.mark.parametrize(
    ("finding", "remedy"),
    [
        (here.versions((3, 10)), "Python 3.11"),
        (here.encryption(Library("26.0", "4.3.5", curve=False)), "wheel"),
        (here.encryption(Library("26.0", "4.2.5", curve=True)), "upgrade pyzmq"),
        (here.descriptors(256), "ulimit -n"),
        (here.processes(100, 90), "ulimit -u"),
        (here.memory(100 * MIB), "fewer workers"),
        (here.shared_memory(MIB), "--shm-size"),
        (here.shared_memory(-1), "--shm-size"),
        (here.disk("/d", MIB, writable=True), "--state"),
        (here.disk("/d", 1 << 40, writable=False), "--state"),
        (here.clock(0.0), "set the clock"),
        (here.leftovers([Path("/tmp/stealmesh-1-a")]), "rm -r /tmp/stealmesh-1-a"),
    ],
    ids=lambda each: each.what if isinstance(each, Diagnosis) else "",
)
def test_what_is_to_be_done_here(finding: Diagnosis, remedy: str) -> None:
    assert not finding.is_well
    assert remedy in finding.remedy
    assert finding.line().startswith("TODO ")


@pytest.mark.parametrize(
    "finding",
    [
        here.versions((3, 11)),
        here.encryption(Library("26.0", "4.3.5", curve=True)),
        here.descriptors(machine.UNLIMITED),
        here.processes(1000, 90),
        here.memory(1 << 33),
        here.memory(-1),
        here.shared_memory(1 << 30),
        here.disk("/d", 1 << 40, writable=True),
        here.clock(time.time()),
        here.leftovers([]),
    ],
    ids=lambda each: each.what,
)
def test_what_is_well_here(finding: Diagnosis) -> None:
    assert finding.is_well
    assert finding.line().startswith("ok   ")


def test_all_of_it_is_looked_at() -> None:
    found = [each.what for each in here.findings()]
    assert found == [
        "versions", "core", "encryption", "open files", "processes", "memory", "shared memory", "state", "clock", "leftovers",
    ]  # fmt: skip
    assert here.processes_of(os.getuid()) >= 1


def test_the_state_directory_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    [found] = [each for each in here.findings(str(file / "under")) if each.what == "state"]
    assert not found.is_well
    assert "cannot be written to" in found.text
    [found] = [each for each in here.findings(str(tmp_path / "new" / "er")) if each.what == "state"]
    assert found.is_well


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    left = tmp_path / f"stealmesh-{ended.pid}-x"
    left.mkdir()
    assert hideout.dead_in(str(tmp_path)) == [left]
    ended.wait()


def test_only_own_directories_of_dead_processes_are_left_behind(tmp_path: Path) -> None:
    pid = dead_pid()
    (tmp_path / f"stealmesh-{pid}-dead").mkdir()
    (tmp_path / f"stealmesh-{pid}-key-dead").mkdir()
    (tmp_path / f"stealmesh-{os.getpid()}-alive").mkdir()
    (tmp_path / "stealmesh-x-other").mkdir()
    (tmp_path / f"stealmesh-{pid}-link").symlink_to(tmp_path)
    (tmp_path / f"stealmesh-{pid}-file").touch()
    assert {path.name for path in hideout.dead_in(str(tmp_path))} == {
        f"stealmesh-{pid}-dead",
        f"stealmesh-{pid}-key-dead",
    }


def test_the_clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine.Machine()
    assert abs(one.jumped()) < 1
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert 3599 < one.jumped() < 3601


# ---------------------------------------------------------------- keys


KEY = MeshKey(bytes(range(32)))


def of_file(path: Path) -> list[Diagnosis]:
    return list(keys.findings(str(path), None, time.time()))


def kept(path: Path) -> Path:
    KEY.save(path)
    return path


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (lambda path: path.chmod(0o640), "chmod 600"),
        (lambda path: path.parent.chmod(0o777), "chmod go-w"),
        (lambda path: path.write_text(path.read_text()[:-9] + "\n"), "copy the key file once more"),
        (lambda path: path.rename(path.with_name("x")) and path.symlink_to("x"), "name the file itself"),
    ],
    ids=["modes", "directory", "damaged", "link"],
)  # fmt: skip
def test_a_key_file_that_is_not_well(
    tmp_path: Path, spoil: Callable[[Path], Any], remedy: str
) -> None:
    path = kept(tmp_path / "mesh.key")
    assert report(of_file(path))["well"]
    spoil(path)
    bad = [each for each in of_file(path) if not each.is_well]
    assert len(bad) == 1
    assert remedy in bad[0].remedy


def test_the_fingerprint_is_shown_and_the_key_is_not(tmp_path: Path) -> None:
    path = kept(tmp_path / "mesh.key")
    told = " ".join(each.line() for each in of_file(path))
    assert KEY.fingerprint() in told
    assert path.read_text().split("-")[-1].strip() not in told


def test_no_key_yet_is_no_fault(tmp_path: Path) -> None:
    assert report(of_file(tmp_path / "mesh.key"))["well"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1.0, "has expired"), (3600.0, "within a day"), (864000.0, "")]
)
def test_a_token_that_ends(seconds: float, words: str) -> None:
    now = time.time()
    guest = issued(KEY, KeyRole.SUBMIT, "laptop", now + seconds)
    [found] = keys.findings("", guest, now)
    assert words in found.text
    assert found.is_well == (not words)
    assert KEY.fingerprint() in found.text


def test_a_token_in_the_place_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "mesh.key"
    guest = issued(KEY, KeyRole.VIEW, "wall")
    save_private(path, JoinToken(guest).encode())
    assert "view token 'wall'" in of_file(path)[0].text


# ---------------------------------------------------------------- nodes


def node(**other: Any) -> dict[str, Any]:
    told = {
        "name": "a", "role": "super", "state": "alive", "host": "h/1", "build": BUILD, "runtime": "cpython-3.11",
        "protocol": PROTOCOL_VERSION, "address": "tcp://10.0.0.1:7077", "addresses": ["tcp://10.0.0.1:7077"],
        "sees": 2, "cannot_reach": [],
        "machine": {
            "clock": 1000.5, "clock_jumped": 0.0, "descriptors": 50, "descriptors_max": 1024,
            "memory_free": 1 << 33, "shared_memory_free": 1 << 33, "state_free": -1,
        },
    }  # fmt: skip
    machine = {**told["machine"], **other.pop("machine", {})}  # type: ignore[dict-item]
    return {**told, "machine": machine, **other}


def looked(*nodes: dict[str, Any], dials: mesh.Dials = lambda address: "") -> list[Diagnosis]:
    client = {"role": "client", "name": "me"}
    return list(mesh.findings({"nodes": [client, *nodes]}, BUILD, (1000.0, 1001.0), dials))


def bad(*nodes: dict[str, Any], dials: mesh.Dials = lambda address: "") -> list[Diagnosis]:
    return [each for each in looked(*nodes, dials=dials) if not each.is_well]


def test_nodes_that_are_well() -> None:
    assert bad(node(), node(name="b")) == []
    older = {name: each for name, each in node().items() if name not in ("machine", "addresses", "protocol", "cannot_reach")}  # fmt: skip
    assert bad(older) == [], "an older version says less"


@pytest.mark.parametrize(
    ("other", "what", "remedy"),
    [
        ({"build": "stealmesh 1.2.4 cpython-3.11 linux"}, "version", "upgrade the older one"),
        ({"protocol": PROTOCOL_VERSION + 1}, "version", "upgrade the older side"),
        ({"state": "unreadable"}, "version", "upgrade the older side"),
        ({"cannot_reach": ["b"]}, "reaches others", "firewall"),
        ({"machine": {"clock": 1090.0}}, "clock", "time from the network"),
        ({"machine": {"clock": 900.0}}, "clock", "time from the network"),
        ({"machine": {"clock_jumped": -60.0}}, "clock", "did not sleep"),
        ({"machine": {"descriptors": 1000}}, "open files", "ulimit -n"),
        ({"machine": {"memory_free": MIB}}, "memory", "fewer workers"),
        ({"machine": {"shared_memory_free": 0}}, "shared memory", "container"),
        ({"machine": {"state_free": 1000}}, "state", "--state"),
    ],
)
def test_a_node_that_is_not_well(other: dict[str, Any], what: str, remedy: str) -> None:
    [found] = bad(node(**other))
    assert found.what == f"a: {what}"
    assert remedy in found.remedy


def test_figures_of_a_liar_end_nothing() -> None:
    for odd in (
        {"machine": 7},
        {"machine": {"clock": "x", "memory_free": None}},
        {"addresses": [7]},
    ):
        told = {**node(), **odd}
        assert looked(told)


def test_an_address_where_nobody_answers() -> None:
    two = ["tcp://10.0.0.1:1", "tcp://10.0.0.1:2"]
    [found] = bad(node(addresses=two), dials=lambda at: "refused" if at.endswith("2") else "")
    assert "tcp://10.0.0.1:2 (refused)" in found.text
    assert "10.0.0.1:1" not in found.text


def test_a_node_that_only_its_own_host_reaches() -> None:
    here_only = node(addresses=["tcp://127.0.0.1:7077"])
    assert bad(here_only) == []
    [found] = bad(here_only, node(name="b", host="other/2"))
    assert "--listen" in found.remedy


def test_a_mesh_that_does_not_answer() -> None:
    assert [each.what for each in bad()] == ["mesh"]


@pytest.fixture
def listener() -> Iterator[Callable[[bytes], str]]:
    sockets = []

    def listen(greeting: bytes) -> str:
        door = socket.create_server(("127.0.0.1", 0))
        sockets.append(door)
        address = f"tcp://127.0.0.1:{door.getsockname()[1]}"
        caller = socket.create_connection(door.getsockname())
        caller.close()
        import threading

        def answer() -> None:
            door.accept()[0].close()  # our own
            line, _ = door.accept()
            with line:
                line.sendall(greeting)

        threading.Thread(target=answer, daemon=True).start()
        return address

    yield listen
    for door in sockets:
        door.close()


def test_what_answers_at_an_address(listener: Callable[[bytes], str]) -> None:
    assert greeted_at(listener(b"\xff" + bytes(8) + b"\x7f"), 10.0) == ""
    assert "no node" in greeted_at(listener(b"HTTP/1.1 400 Bad"), 10.0)
    assert "hangs up" in greeted_at(listener(b""), 10.0)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
    assert "refused" in greeted_at(address, 10.0).lower()


# ---------------------------------------------------------------- the command


LEFTOVERS = "leftovers"
"""What killed meshes of this user have left on this machine: no business of these tests, which may be run beside them."""


def diagnosed(shell: Shell, *argv: str) -> tuple[bool, dict[str, Diagnosis]]:
    """Is all well, and what was found?"""
    done = shell.run("doctor", "--json", *argv)
    told = json.loads(done.stdout)
    found = {each["what"]: Diagnosis(**each) for each in told["findings"]}
    assert told["well"] == all(each.is_well for each in found.values())
    assert done.returncode == (0 if told["well"] else 1)
    del found[LEFTOVERS]
    return all(each.is_well for each in found.values()), found


@pytest.mark.real
def test_the_doctor_beside_a_node(shell: Shell) -> None:
    """Each call takes a second, so this is one story."""
    well, found = diagnosed(shell)
    assert (well, "mesh: reached" in found) == (True, False)
    assert "none at" in found["key"].text
    start = shell.start(
        "start", "--listen", "tcp://127.0.0.1:0", "--nworkers", "1", "--name", "one"
    )
    start.address()
    shell.key_file.parent.mkdir(exist_ok=True)
    well, found = diagnosed(shell)
    assert well, [each.line() for each in found.values()]
    assert {"one: version", "one: reached", "one: reaches others", "one: clock"} <= found.keys()
    blocked = socket.create_server(("127.0.0.1", 0))
    wrong = f"tcp://127.0.0.1:{blocked.getsockname()[1]}"
    blocked.close()
    shell.node("--listen", "tcp://127.0.0.1:0", "--seed", start.address(), "--advertise", wrong, "--name", "two").address()  # fmt: skip
    well, found = diagnosed(shell)
    assert not well
    bad = {each.what for each in found.values() if not each.is_well}
    # Where the first one has to dial the second, it says that it cannot.
    assert {"two: reached"} <= bad <= {"two: reached", "one: reaches others"}
    shell.key_file.chmod(0o644)
    done = shell.run("doctor")
    assert done.returncode == 1
    todo = [line for line in done.stdout.splitlines() if line.startswith("TODO")]
    assert [line for line in todo if LEFTOVERS not in line] == [
        f"TODO key: others can read or change {shell.key_file}: run `chmod 600 {shell.key_file}`"
    ]


@pytest.mark.real
def test_the_doctor_where_the_named_node_does_not_answer(shell: Shell) -> None:
    shell.key_file.parent.mkdir(parents=True)
    KEY.save(shell.key_file)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
    well, found = diagnosed(shell, "--seed", address)
    assert not well
    assert "nobody answers at tcp://127.0.0.1" in found["mesh"].text
    assert diagnosed(shell)[0], "nobody has said that a mesh should be there"
    assert doctor.__doc__
    assert "Exit status" in doctor.__doc__
