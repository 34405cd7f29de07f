"""What runs user code knows no secret, and another user of the machine can do nothing.

The mesh key is sought where it could be: in the environment, the descriptors and all the memory of workers and of the
fork server that makes them. The node itself is looked through, too: a search that finds nothing anywhere shows nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.everyday.running import PATIENCE_SECONDS, environment, write

import stealmesh
from stealmesh.host import hideout
from stealmesh.host.interpreter import Surroundings
from stealmesh.host.security import JoinToken

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

PROGRAM = """
import os, sys
import stealmesh

def looked():
    return dict(os.environ), os.getpid(), os.getppid(), open("/proc/self/environ").read(), open("/proc/self/cmdline").read()

if __name__ == "__main__":
    with stealmesh.Mesh(None, workers=1, key=sys.argv[1]) as mesh:
        found = mesh.submit(looked).result()
        node = next(each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client")
        print(repr((found, node, mesh.key_file)), flush=True)
        sys.stdin.read()
"""


class Running:
    """A program with a local mesh, its key, and the processes of it."""

    def __init__(self, directory: Path) -> None:
        self.key = stealmesh.Key.generate()
        self.token = JoinToken(self.key, ("tcp://127.0.0.1:1",)).encode()
        self.path = directory / "mesh.key"
        self.key.save(self.path)
        write(directory, program=PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "program.py", str(self.path)],
            cwd=directory,
            env={
                **environment(),
                "STEALMESH_TOKEN": self.token,
                "STEALMESH_KEY_FILE": str(self.path),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told, "the program has ended"
        (self.environ, self.worker, self.nursery, self.first, self.argv), self.node, _ = eval(told)

    def close(self) -> None:
        self.process.communicate()

    @property
    def parts(self) -> list[bytes]:
        """What of the key must be nowhere: itself, and as people and we write it."""
        line = self.path.read_text().strip().rpartition("-")[2]
        return [self.key.secret, self.key.secret.hex().encode(), line.encode(), self.token.encode()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one = Running(tmp_path_factory.mktemp("secrets"))
    yield one
    one.close()


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process has in its own pages."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                first, end = (int(each, 16) for each in found.groups())
                memory.seek(first)
                try:
                    yield memory.read(end - first)
                except OSError:
                    continue  # reserved, and not there


def knows(pid: int, parts: list[bytes]) -> bool:
    return any(part in piece for piece in memory_of(pid) for part in parts)


@pytest.mark.real
@as_root
def test_the_key_is_in_the_memory_of_the_node_and_of_nobody_who_runs_user_code(
    running: Running,
) -> None:
    assert knows(running.node, running.parts), "the search finds what is there"
    assert not knows(running.worker, running.parts)
    assert not knows(running.nursery, running.parts)


@pytest.mark.real
def test_workers_have_nothing_of_it_in_their_environment_and_arguments(running: Running) -> None:
    ours = {name for name in running.environ if name.startswith("STEALMESH_")}
    assert ours <= {"STEALMESH_PURE"}, (
        "which core runs is no secret, and what a task starts is to have the same"
    )
    nursery = Path(f"/proc/{running.nursery}")
    told = [
        running.first,
        running.argv,
        (nursery / "environ").read_text(),
        (nursery / "cmdline").read_text(),
    ]
    for text in told:
        assert "STEALMESH_TOKEN" not in text
        assert "STEALMESH_KEY" not in text
        assert not [
            part for part in running.parts if part in text.encode("utf-8", "surrogateescape")
        ]
    assert running.environ["PATH"] == os.environ["PATH"], "all else is as the program has it"


def sockets_of(pid: int) -> set[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # it has just been closed
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def named_or_network_sockets() -> set[str]:
    """Sockets of the network, and local ones with a name: others can reach those."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            found.add(line.split()[9])
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if len(words) > 7:
            found.add(words[6])
    return found


@pytest.mark.real
@as_root
def test_no_socket_of_the_mesh_is_in_a_process_that_runs_user_code(running: Running) -> None:
    reachable = named_or_network_sockets()
    assert sockets_of(running.node) & reachable, "the node's are found"
    assert not sockets_of(running.worker) & reachable
    assert not sockets_of(running.nursery) & reachable
    shared = sockets_of(running.worker) & sockets_of(running.node)
    assert len(shared) <= 1, "the node keeps its own copy of the end that takes orders back"


def test_a_fork_server_gets_no_secret_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEALMESH_TOKEN", "STEALMESH_KEY", "STEALMESH_KEY_FILE"):
        monkeypatch.setenv(name, "what-opens")
    monkeypatch.setenv("OTHER", "kept")
    found = Surroundings.of_this_process(hash_seed=7)
    assert found.variables["OTHER"] == "kept"
    assert "what-opens" not in repr(found)


# ---------------------------------------------------------------- another user

STRANGER = """
import json, os, socket, sys
told = json.loads(sys.argv[1])
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})

def tried(action):
    try:
        return repr(action())
    except OSError as error:
        return type(error).__name__

def dial(path):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)

print(json.dumps({{
    "key": tried(lambda: open(told["key"]).read()),
    "keys": tried(lambda: os.listdir(os.path.dirname(told["key"]))),
    "inbox": tried(lambda: dial(told["inbox"])),
    "directory": tried(lambda: os.listdir(os.path.dirname(told["inbox"]))),
    "remove": tried(lambda: os.rmdir(os.path.dirname(told["inbox"]))),
    **{{f"{{what}} of {{who}}": tried(lambda: open(f"/proc/{{told[who]}}/{{what}}", "rb").read(1))
       for who in ("node", "worker", "program") for what in ("environ", "mem", "maps")}},
    **{{f"fd of {{who}}": tried(lambda: os.listdir(f"/proc/{{told[who]}}/fd")) for who in ("node", "worker")}},
    **{{f"kill {{who}}": tried(lambda: os.kill(told[who], 9)) for who in ("node", "worker", "program")}},
}}))
"""


def inbox_of(mesh: stealmesh.Mesh) -> str:
    found = [each for each in mesh.address.split(",") if each.startswith("ipc://")]
    node = next(each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client")
    places = [
        path for base in hideout.bases() for path in Path(base).glob(f"stealmesh-{node}-*/inbox")
    ]
    return found[0].removeprefix("ipc://") if found else str(places[0])


@pytest.mark.real
@as_root
def test_another_user_can_do_nothing() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        node = next(each for each in mesh.status()["nodes"] if each["role"] != "client")
        key, inbox = mesh.key_file, inbox_of(mesh)
        for path, mode in (
            (key, 0o600),
            (os.path.dirname(key), 0o700),
            (os.path.dirname(inbox), 0o700),
        ):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode, path
        told = {
            "key": key, "inbox": inbox, "node": node["pid"], "program": os.getpid(),
            "worker": mesh.submit(os.getpid).result(PATIENCE_SECONDS),
        }  # fmt: skip
        code = STRANGER.format(nobody=NOBODY)
        out = subprocess.run([sys.executable, "-c", code, json.dumps(told)], capture_output=True, text=True, check=True)  # fmt: skip
        got = json.loads(out.stdout)
        assert len(got) == 19
        assert set(got.values()) == {"PermissionError"}, got
        assert mesh.submit(pow, 2, 3).result(PATIENCE_SECONDS) == 8


AS_ANY_USER = """
import ctypes, os, sys
call, drop_from_bounds = ctypes.CDLL(None).prctl, 24
for power in range(64):
    call(drop_from_bounds, power, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Root without any capability is a user like others, and can read its own installation."""

SAME_USER = """
import json, os
import numpy, stealmesh

def looked(node):
    def tried(action):
        try:
            return repr(action())
        except OSError as error:
            return type(error).__name__
    found = {what: tried(lambda: open(f"/proc/{node}/{what}", "rb").read(1)) for what in ("environ", "mem", "maps")}
    found["descriptor"] = tried(lambda: os.readlink(f"/proc/{node}/fd/0"))
    return found

def doubled(array):
    return array * 2

if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        node = next(each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client")
        kept = mesh.options(keep=True).submit(doubled, numpy.ones(300_000))
        total = float(mesh.submit(doubled, kept).result(60).sum())
        print(json.dumps([mesh.submit(looked, node).result(60), mesh.submit(looked, os.getpid()).result(60), total]))
"""


@pytest.mark.real
def test_user_code_of_the_same_user_cannot_look_into_the_node(tmp_path: Path) -> None:
    """Values that lie in files still reach the workers: a node may go on using its own descriptors."""
    write(tmp_path, program=SAME_USER)
    argv = [sys.executable, "-c", AS_ANY_USER, "program.py"]
    out = subprocess.run(argv, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
    assert out.returncode == 0, out.stderr
    node, program, total = json.loads(out.stdout)
    assert set(node.values()) == {"PermissionError"}, node
    assert set(program.values()) != {"PermissionError"}, (
        "which is why the program is no safe place: see SECURITY.md"
    )
    assert total == 4 * 300_000


# ---------------------------------------------------------------- what is left behind

KILLED = """
import os, signal, sys
import stealmesh
stealmesh.Mesh._replace_dead_nodes = False  # or one may just begin
mesh = stealmesh.Mesh(workers=1)
pids = [each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client"]
print(repr((mesh.key_file, pids)), flush=True)
for pid in pids: os.kill(pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.real
def test_what_killed_processes_leave_goes_with_the_next_start(tmp_path: Path) -> None:
    place = {**environment(), "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", KILLED], env=place, stdout=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert out.returncode == -signal.SIGKILL
    key, pids = eval(out.stdout)
    left = set(tmp_path.glob("stealmesh-*"))
    assert Path(key).parent in left
    assert [path for path in left if any(f"-{pid}-" in path.name for pid in pids)]
    decoy = tmp_path / "decoy"
    (decoy / "inside").mkdir(parents=True)
    link = tmp_path / f"stealmesh-{pids[0]}-link"
    link.symlink_to(decoy)
    started = "import stealmesh\nwith stealmesh.Mesh(workers=1) as mesh: print(mesh.submit(pow, 2, 3).result())"
    subprocess.run(
        [sys.executable, "-c", started], env=place, check=True, stdout=subprocess.DEVNULL
    )
    assert set(tmp_path.glob("stealmesh-*")) == {link}
    assert (decoy / "inside").is_dir()
