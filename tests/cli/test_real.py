"""Real processes on loopback: what a person at two terminals would see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Command, Shell, no_process_is_left

from stealmesh.host.security import JoinToken, MeshKey

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
NODE_FIELDS = {
    "name", "pid", "host", "address", "role", "state", "workers", "worker_pids", "queued_seconds",
    "steals_in", "steals_out", "build",
}  # fmt: skip
JOB_FIELDS = {
    "id", "kind", "state", "total", "done", "failed", "leased", "free", "rerun", "duplicates_dropped",
}  # fmt: skip
LOOPBACK = ("--listen", "tcp://127.0.0.1:0")

FUNCTIONS = """
import os, time
from pathlib import Path

def square(x):
    if x == 3:
        raise ValueError(f"not {x}")
    return x * x

def same(x):
    return x

def die(x):
    if x == 1:
        os._exit(9)
    return x

def hold_five(x):
    while x == 5:
        time.sleep(60)
    return x

def upper(text):
    return text.upper()

def hold(path):
    Path(path).touch()
    while True:
        time.sleep(60)

def wait_for(path):
    Path(path + ".runs").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return "seen"
"""


@pytest.fixture
def functions(shell: Shell) -> None:
    """A module in the working directory of all commands."""
    (shell.directory / "functions.py").write_text(FUNCTIONS)


def look(shell: Shell, *argv: str) -> dict[str, Any]:
    """`status --json`."""
    ended = shell.run("status", "--json", *argv)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def look_until_nodes(shell: Shell, count: int, *argv: str, role: str = "") -> list[dict[str, Any]]:
    for _ in range(60):
        nodes = [n for n in look(shell, *argv)["nodes"] if n["role"] != "client"]
        if len(nodes) == count and all(role in ("", n["role"]) for n in nodes):
            return nodes
    raise AssertionError(f"never saw {count} nodes, last {nodes}")


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


# ---------------------------------------------------------------- a mesh of two nodes


@pytest.mark.usefixtures("key", "functions")
def test_two_nodes_a_client_a_drain_and_a_death(shell: Shell) -> None:
    first = shell.node("--name", "first", *LOOPBACK)
    seed = first.address()
    second = shell.node("--name", "second", "--seed", seed)
    second.address()
    nodes = look_until_nodes(shell, 2, "--seed", seed, role="super")
    assert {node["name"] for node in nodes} == {"first", "second"}
    assert len(look(shell, "--seed", seed)["nodes"]) == 3, "one look sees all, and itself"
    for node in nodes:
        assert node.keys() >= NODE_FIELDS
        assert (node["role"], node["state"], node["workers"]) == ("super", "alive", 1)
        assert len(node["worker_pids"]) == 1
        assert node["address"].startswith("tcp://127.0.0.1:")
    assert {node["pid"] for node in nodes} == {first.process.pid, second.process.pid}

    ended = shell.run("run", "functions:square", "--items", "0:200", "--seed", seed)
    assert ended.returncode == 1
    told = rows(ended.stdout)
    assert [row["index"] for row in told] == list(range(200))
    assert told[3] == {"index": 3, "item": 3, "error": "ValueError: not 3"}
    assert all(row["result"] == row["item"] ** 2 for row in told if row["index"] != 3)

    second.process.terminate()
    assert second.end() == 0
    look_until_nodes(shell, 1, "--seed", seed)

    first.process.kill()
    assert first.end() == -signal.SIGKILL
    assert shell.run("status", "--seed", seed).returncode == 3


@pytest.mark.usefixtures("key", "functions")
def test_a_node_finishes_what_runs_before_it_leaves(shell: Shell) -> None:
    node = shell.node(*LOOPBACK)
    sign = shell.directory / "sign"
    client = shell.start("run", "functions:wait_for", "--items", f"[{str(sign)!r}]", "--seed", node.address())  # fmt: skip
    await_file(client, Path(f"{sign}.runs"))
    status = look(shell, "--seed", node.address())
    assert [job.keys() >= JOB_FIELDS for job in status["jobs"]] == [True]
    assert status["jobs"][0]["leased"] == 1
    node.process.send_signal(signal.SIGINT)
    # It goes on listening while it drains, so it says when it has heard the signal.
    for _ in range(200):
        states = [n["state"] for n in look(shell, "--seed", node.address())["nodes"] if n["role"] != "client"]  # fmt: skip
        if states == ["leaving"]:
            break
    assert states == ["leaving"]
    assert node.process.poll() is None
    sign.touch()
    assert node.end() == 0
    assert client.end() == 0
    assert rows("\n".join(client.rest()))[0]["result"] == "seen"


@pytest.mark.usefixtures("key", "functions")
def test_the_second_signal_is_immediate(shell: Shell) -> None:
    node = shell.node(*LOOPBACK)
    mark = shell.directory / "runs"
    client = shell.start("run", "functions:hold", "--items", f"[{str(mark)!r}]", "--seed", node.address())  # fmt: skip
    await_file(client, mark)
    node.process.terminate()
    for _ in range(200):
        nodes = look(shell, "--seed", node.address())["nodes"]
        if any(n["state"] == "leaving" for n in nodes):
            break
    node.process.terminate()
    assert node.end() == 0
    client.process.send_signal(signal.SIGINT)
    assert client.end() == 130


def await_file(command: Command, path: Path) -> None:
    """Wait until a task has made this file; give up when the command that runs it ends."""
    while not path.exists():
        try:
            command.process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"it ended: {''.join(command.told)}")


# ---------------------------------------------------------------- start and join


def test_the_line_that_start_prints_is_all_that_join_needs(shell: Shell) -> None:
    start = shell.start("start", "--nworkers", "1", *LOOPBACK)
    line = start.line("stealmesh join stealmesh1-", "out")
    token = JoinToken.decode(line.split()[-1])
    assert token.seeds == (start.address(),)
    assert shell.key_file.stat().st_mode & 0o777 == 0o600

    other = shell.elsewhere("other")
    join = other.start("join", "-", "--nworkers", "1")
    assert join.process.stdin is not None
    join.process.stdin.write(line + "\n")
    join.process.stdin.close()
    join.address()
    assert other.key_file.stat().st_mode & 0o777 == 0o600
    assert MeshKey.load(other.key_file) == token.key
    look_until_nodes(other, 2, "--seed", token.seeds[0])

    start.process.terminate()
    join.process.terminate()
    assert (start.end(), join.end()) == (0, 0)
    assert not start.rest(), "standard output is for the one line"


def test_join_does_not_forget_another_mesh_unasked(shell: Shell, key: Path, nobody: str) -> None:
    before = key.read_bytes()
    token = JoinToken(MeshKey.generate(), (nobody,))
    refused = shell.run("join", token.encode(), "--join-timeout", "0.1")
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    assert key.read_bytes() == before
    replaced = shell.run("join", token.encode(), "--join-timeout", "0.1", "--replace")
    assert replaced.returncode == 3
    assert MeshKey.load(key) == token.key


def test_a_damaged_token_is_wrong_usage(shell: Shell) -> None:
    token = JoinToken(MeshKey.generate(), ("tcp://127.0.0.1:1",)).encode()
    ended = shell.run("join", "-", stdin=token[:-4])
    assert ended.returncode == 2
    assert "copy the whole line" in ended.stderr
    assert not shell.key_file.exists()


# ---------------------------------------------------------------- not let in


def one_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]


@pytest.mark.usefixtures("key")
def test_another_key_is_3_with_the_remedy(shell: Shell) -> None:
    seed = shell.node(*LOOPBACK).address()
    stranger = shell.elsewhere("stranger")
    MeshKey.generate().save(stranger.key_file)
    line = one_line(stranger.run("status", "--seed", seed))
    assert "did not accept this mesh key" in line
    assert "--key-file" in line
    assert stranger.run("status", "--seed", seed).returncode == 3
    node = stranger.run("node", "--seed", seed, "--join-timeout", "0.2", "--nworkers", "1")
    assert node.returncode == 3
    assert "could not join within 0.2 s" in node.stderr
    assert "--key-file" in node.stderr
    # With the right key file it is one of us.
    assert look(stranger, "--seed", seed, "--key-file", str(shell.key_file))["nodes"]


def test_no_key_is_3_with_the_remedy(shell: Shell, nobody: str) -> None:
    for argv in (["node", "--seed", nobody], ["status", "--seed", nobody]):
        ended = shell.run(*argv)
        assert ended.returncode == 3
        assert "stealmesh start" in one_line(ended)


@pytest.mark.usefixtures("key")
def test_nobody_there_is_3_with_the_remedy(shell: Shell, nobody: str) -> None:
    ended = shell.run("status", "--seed", nobody)
    assert ended.returncode == 3
    assert "connection refused" in one_line(ended)
    assert "check the address" in one_line(ended)
    node = shell.run("node", "--seed", nobody, "--join-timeout", "0.5", "--nworkers", "1")
    assert node.returncode == 3
    assert node.stderr.count("trying on") == 1


@pytest.mark.usefixtures("key")
def test_a_node_waits_for_its_seed(shell: Shell, nobody: str) -> None:
    early = shell.node("--seed", nobody)
    early.line("trying on")
    shell.node("--listen", nobody).address()
    look_until_nodes(shell, 2, "--seed", nobody)


@pytest.mark.usefixtures("key")
def test_a_node_that_is_a_seed_itself_needs_no_other(shell: Shell, nobody: str) -> None:
    node = shell.node("--seed", nobody, "--listen", nobody, "--join-timeout", "0")
    node.address()
    look_until_nodes(shell, 1, "--seed", nobody)
    node.process.terminate()
    assert node.end() == 0


@pytest.mark.usefixtures("key")
def test_seeds_come_from_a_file_that_is_written_later(shell: Shell) -> None:
    seed = shell.node(*LOOPBACK).address()
    file = shell.directory / "seeds"
    late = shell.node("--seed", f"file://{file}")
    late.line("no seed yet")
    file.write_text(seed + "\n")
    late.address()
    look_until_nodes(shell, 2, "--seed", f"file://{file}")


# ---------------------------------------------------------------- cannot listen


@pytest.mark.usefixtures("key")
def test_a_port_in_use_is_one_clear_line(shell: Shell, taken: str) -> None:
    for command in ("node", "start"):
        ended = shell.run(command, "--listen", taken, "--nworkers", "1")
        assert ended.returncode == 2
        assert "choose another port" in one_line(ended)
        assert not ended.stdout


def test_no_open_doors_by_accident(shell: Shell) -> None:
    ended = shell.run("node", "--insecure", "--listen", "tcp://0.0.0.0:0", "--nworkers", "1")
    assert ended.returncode == 2
    assert "mesh key" in one_line(ended)
    node = shell.node("--insecure")
    assert "INSECURE" in node.line("listens at tcp://127.0.0.1:")


# ---------------------------------------------------------------- run


@pytest.mark.usefixtures("functions")
def test_run_on_a_mesh_of_its_own(shell: Shell) -> None:
    ended = shell.run("run", "functions:upper", "--items", "-", "--nworkers", "1", stdin="a\nb\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert rows(ended.stdout) == [
        {"index": 0, "item": "a", "result": "A"},
        {"index": 1, "item": "b", "result": "B"},
    ]


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("--help >/dev/full", 1, "cannot write to standard output: No space left on device"),
        ("run --help >/dev/full", 1, "cannot write to standard output: No space left on device"),
        ("--version >/dev/full", 1, "cannot write to standard output: No space left on device"),
        ("--version >&-", 1, "cannot write to standard output: Bad file descriptor"),
        ("--help >&-", 1, "cannot write to standard output: Bad file descriptor"),
        ("run builtins:str --items - --nworkers 1 <&-", 2, "cannot read the items: Bad file descriptor"),
        ("run builtins:abs --items 0:2 --nworkers 1 >&-", 1, "cannot write to standard output: Bad file descriptor"),
        ("--help 2>&-", 0, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_written_or_read_is_one_line(
    shell: Shell, line: str, status: int, said: str, buffered: bool
) -> None:
    ended = shell.bash(f"exec {{stealmesh}} {line}", PYTHONUNBUFFERED="" if buffered else "1")
    assert ended.returncode == status, ended.stderr
    assert ended.stderr == (f"stealmesh: {said}\n" if said else "")


def test_a_limit_that_is_too_low_is_named(shell: Shell) -> None:
    ended = shell.bash("ulimit -f 0; exec {stealmesh} run builtins:abs --items 0:2 --nworkers 1")
    assert ended.returncode == 2, ended.stderr
    assert "raise the limit of the size of files with `ulimit -f`" in one_line(ended)


def run_where_nothing_is(shell: Shell, line: str) -> subprocess.CompletedProcess[str]:
    """In a working directory that was deleted."""
    place = shell.directory / "gone"
    place.mkdir()
    rooms = [str(ROOT / room) for room in ("protocol", "engine", "nodes")]
    return subprocess.run(
        ["sh", "-c", f"rmdir {place}; exec {sys.executable} -m stealmesh {line}"],
        cwd=place,
        env={**shell.environment, "PYTHONPATH": os.pathsep.join(rooms)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("function", ["builtins:abs", "{here}/functions.py:same"])
def test_run_needs_no_working_directory(shell: Shell, function: str) -> None:
    function = function.format(here=shell.directory)
    ended = run_where_nothing_is(shell, f"run {function} --items 0:2 --nworkers 1")
    assert [row["result"] for row in rows(ended.stdout)] == [0, 1], ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run here:f --items 0:2", "the working directory is gone"),
        ("run here.py:f --items 0:2", "there is no file here.py"),
        ("run ~nobody_at_all/here.py:f --items 0:2", "there is no file"),
        ("results ffff --seed tcp://127.0.0.1:9", "no usable mesh key"),
    ],
)
def test_what_needs_the_working_directory_says_that_it_is_gone(
    shell: Shell, line: str, said: str
) -> None:
    ended = run_where_nothing_is(shell, line)
    assert ended.returncode in (2, 3)
    told = [each for each in ended.stderr.splitlines() if "getcwd" not in each]  # the shell's
    assert len(told) == 1, ended.stderr
    assert said in told[0]


@pytest.mark.usefixtures("functions")
def test_an_item_that_kills_its_worker_fails_alone(shell: Shell) -> None:
    ended = shell.run("run", "functions:die", "--items", "range(20)", "--nworkers", "1", "--unordered", "--progress")  # fmt: skip
    assert ended.returncode == 1
    told = {row["index"]: row for row in rows(ended.stdout)}
    assert sorted(told) == list(range(20))
    assert told.pop(1)["error"].startswith("WorkerDied: ")
    assert all(row["result"] == row["index"] for row in told.values())
    assert "20 items in" in ended.stderr


@pytest.mark.usefixtures("functions")
def test_items_that_cannot_be_read_end_the_run(shell: Shell) -> None:
    ended = shell.run("run", "functions:upper", "--items", "-", "--json-lines", "--nworkers", "1", stdin='"a"\n{\n')  # fmt: skip
    assert ended.returncode == 2
    assert "line 2" in one_line(ended)


@pytest.mark.usefixtures("functions")
def test_ctrl_c_leaves_no_process_behind(shell: Shell) -> None:
    mark = shell.directory / "runs"
    command = shell.start("run", "functions:hold", "--items", f"[{str(mark)!r}]", "--nworkers", "1")
    await_file(command, mark)
    assert len(shell.processes()) >= 4, "the command, a node, a fork server, a worker"
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130
    assert no_process_is_left(shell)
    assert "Traceback" not in "".join(command.told)


@pytest.mark.usefixtures("functions")
def test_a_reader_that_leaves_ends_the_run_quietly_whatever_still_runs(shell: Shell) -> None:
    ended = shell.bash(
        "{stealmesh} run functions:hold_five --items 0:300000 --unordered --nworkers 2 | head -n 1; exit ${PIPESTATUS[0]}"
    )
    assert ended.returncode == 141
    assert len(rows(ended.stdout)) == 1
    assert ended.stderr == ""


# ---------------------------------------------------------------- demo, and ways to start


@pytest.mark.slow
def test_the_demo_is_exact(shell: Shell) -> None:
    ended = shell.run("demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for words in ("4,130,071", "3,305,118", "664,579", "Every answer is exact."):
        assert words in ended.stdout


def test_ctrl_c_in_the_middle_of_an_exec_is_an_interrupt_like_any_other(shell: Shell) -> None:
    """Once in ten demos that were interrupted while a dataclass was made: the command died of the signal."""
    text = "exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')"
    (shell.directory / "interrupted_import.py").write_text(text)
    assert shell.run("run", "interrupted_import:f", "--items", "0:3").returncode == 130


def test_ctrl_c_in_the_demo_leaves_no_process_behind(shell: Shell) -> None:
    demo = shell.start("demo", environment={"PYTHONUNBUFFERED": "1"})
    demo.line("nodes found each other", "out")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130
    assert no_process_is_left(shell)


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "nodes", "--version"],
        ["-m", "nodes", "node", "--help"],
        ["-m", "nodes", "--seed", "nonsense"],
        ["-m", "nodes", "chaos", "--list"],
        ["nodes/stealmesh", "demo", "--help"],
        ["-m", "stealmesh", "demo", "--help"],
    ],
)
def test_a_bare_clone_needs_no_installation(argv: list[str], shell: Shell) -> None:
    environment = {k: v for k, v in shell.environment.items() if k != "PYTHONPATH"}
    if "stealmesh" in argv:
        environment["PYTHONPATH"] = "nodes"  # the one place that Python has to be told
    ended = subprocess.run(
        [sys.executable, *argv],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "nonsense" in argv:
        assert ended.returncode == 2
        assert "stealmesh node: error" in ended.stderr
    else:
        assert ended.returncode == 0, ended.stderr


@pytest.mark.usefixtures("key")
def test_a_node_from_a_bare_clone_works(shell: Shell) -> None:
    seed = shell.node(*LOOPBACK).address()
    environment = {k: v for k, v in shell.environment.items() if k != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, "-m", "nodes", "--seed", seed, "--nworkers", "1"],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            assert node.stderr is not None
            assert "listens at" in node.stderr.readline()
            workers = [n["worker_pids"] for n in look_until_nodes(shell, 2, "--seed", seed)]
            assert all(workers)
        finally:
            node.terminate()
        assert node.wait(PATIENCE_SECONDS) == 0


def test_help_loads_nothing_heavy(shell: Shell) -> None:
    code = (
        "import sys; from stealmesh.cli import main; main(['--help']); "
        "heavy = {'zmq', 'msgspec', 'msgpack', 'numpy', 'rich', 'cloudpickle', 'stealmesh.mesh'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
