"""A mesh on several hosts, as somebody meets it on the first day: rows 43, 44, 46, 47, 48, 49 and 50.

Real processes on loopback. What needs hosts of its own is in tests/namespaces/test_addresses.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Command, Shell, no_process_is_left

import stealmesh
from stealmesh.cli.exits import CommandEnded
from stealmesh.cli.function import find
from stealmesh.host.interfaces import LOOPBACK, own_addresses
from stealmesh.host.security import JoinToken, MeshKey

pytestmark = pytest.mark.real

LISTEN = ("--listen", "tcp://127.0.0.1:0", "--nworkers", "1")

TASKS = """
import os, subprocess, sys, time

def square(x):
    return x * x

def chatty(x):
    print("printed", x)
    os.write(1, b"written %d" % x)
    subprocess.run(["echo", "a child's", str(x)])
    return x

def no_thirds(x):
    if x % 3 == 0:
        raise ValueError(f"not {x}")
    return x

def nap(x):
    time.sleep(0.2)
    return x
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "tasks_of_mine.py").write_text(TASKS)
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.close()
        assert no_process_is_left(shell)


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def started(shell: Shell, *options: str) -> tuple[Command, JoinToken, str]:
    """`stealmesh start`, its token, and the line on standard error for programs."""
    command = shell.start("start", *(options or LISTEN))
    token = JoinToken.decode(command.line("stealmesh join ", "out"))
    return command, token, command.line("stealmesh.Mesh(")


def program(shell: Shell, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=shell.environment | environment,
        cwd=shell.directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


# ---------------------------------------------------------------- row 43


def test_start_everywhere_tells_an_address_that_others_can_reach(shell: Shell) -> None:
    start, token, _ = started(shell, "--listen", "tcp://0.0.0.0:0", "--nworkers", "1")
    hosts = {seed.removeprefix("tcp://").rpartition(":")[0] for seed in token.seeds}
    others = {each.host for each in own_addresses() if ":" not in each.host} - {LOOPBACK}
    assert hosts <= (others or {LOOPBACK})
    ended = program(shell, f"import stealmesh; print(stealmesh.Mesh({token.encode()!r}).address)")
    assert ended.stdout.strip() == token.seeds[0], ended.stderr
    start.process.terminate()
    assert start.end() == 0


@pytest.mark.parametrize("wildcard", ["tcp://0.0.0.0:7077", "tcp://*:7077", "tcp://[::]:7077"])
def test_a_wildcard_is_not_an_address_to_dial(shell: Shell, wildcard: str) -> None:
    ended = shell.run("node", "--advertise", wildcard, "--insecure")
    assert ended.returncode == 2
    assert "others dial" in ended.stderr


# ---------------------------------------------------------------- row 44


def test_a_program_on_a_machine_that_is_no_node(shell: Shell) -> None:
    """By the line that start prints, by a token in the environment, by `join --key-only`."""
    _, token, line = started(shell)
    elsewhere = shell.elsewhere("elsewhere")
    elsewhere.environment["XDG_STATE_HOME"] = str(shell.directory / "state-elsewhere")
    text = token.encode()

    said = line[line.index("stealmesh.Mesh(") :]
    ended = program(elsewhere, f"import stealmesh; print({said}.submit(pow, 2, 5).result())")
    assert ended.stdout == "32\n", ended.stderr

    code = "import stealmesh; m = stealmesh.Mesh(); print(m.address, m.submit(pow, 2, 6).result())"
    ended = program(elsewhere, code, STEALMESH_TOKEN=text)
    assert ended.stdout == f"{token.seeds[0]} 64\n", ended.stderr

    code = f"import stealmesh; print(stealmesh.Mesh({token.seeds[0]!r}).submit(pow, 2, 7).result())"
    ended = program(elsewhere, code, STEALMESH_TOKEN=text)
    assert ended.stdout == "128\n", ended.stderr
    ended = program(elsewhere, code)
    assert "JoinRefused" in ended.stderr
    assert "--key-only" in ended.stderr.splitlines()[-1]

    kept = elsewhere.run("join", "--key-only", text)
    assert (kept.returncode, kept.stdout) == (0, "")
    assert elsewhere.key_file.stat().st_mode & 0o777 == 0o600
    ended = program(elsewhere, code)
    assert ended.stdout == "128\n", "what the refusal said helps"
    said = next(line for line in kept.stderr.splitlines() if "stealmesh.Mesh(" in line)
    said = said[said.index("stealmesh.Mesh(") : said.index("), commands") + 1]
    ended = program(elsewhere, f"import stealmesh; print({said}.submit(pow, 2, 8).result())")
    assert ended.stdout == "256\n", ended.stderr
    looked = elsewhere.run("status", "--json")
    assert looked.returncode == 0, looked.stderr


def test_key_only_starts_no_node_and_asks_nobody(shell: Shell, tmp_path: Path) -> None:
    token = JoinToken(MeshKey.generate(), ("tcp://127.0.0.1:1",)).encode()
    key = str(tmp_path / "other.key")
    assert shell.run("join", "--key-only", "--key-file", key, "-", stdin=token).returncode == 0
    assert MeshKey.load(key) == JoinToken.decode(token).key
    assert not shell.key_file.exists()
    spoiled = shell.run("join", "--key-only", token[:-3])
    assert spoiled.returncode == 2
    assert shell.run("status", "--key-file", key).returncode == 3, "nobody is there"


def test_commands_find_this_user_s_mesh(shell: Shell, tmp_path: Path) -> None:
    """A node with a key of its own, at a port of its own: no --seed, no --key-file."""
    keys = [tmp_path / "one.key", tmp_path / "two.key"]
    for each in keys:
        MeshKey.generate().save(each)
    assert shell.run("status").returncode == 3
    one = shell.start("node", *LISTEN, "--key-file", str(keys[0]))
    one.address()
    look = shell.run("status", "--json")
    assert [n["pid"] for n in json.loads(look.stdout)["nodes"] if n["role"] != "client"] == [
        one.process.pid
    ]
    ran = shell.run("run", "tasks_of_mine:square", "--items", "0:3")
    assert [row["result"] for row in rows(ran.stdout)] == [0, 1, 4]
    assert "running on the mesh at" in ran.stderr
    own = shell.run("run", "--local", "tasks_of_mine:square", "--items", "0:3")
    assert (own.returncode, own.stderr) == (0, "")
    assert shell.run("jobs").returncode == 0

    two = shell.start("node", *LISTEN, "--key-file", str(keys[1]))
    two.address()
    unsure = shell.run("status")
    assert unsure.returncode == 2
    assert all(f"--key-file {each}" in unsure.stderr for each in keys)
    assert shell.run("status", "--key-file", str(keys[1])).returncode == 0
    two.process.kill()
    two.end()
    assert shell.run("status").returncode == 0, "what a killed node left behind misleads nobody"


def test_a_mesh_that_was_known_and_is_gone_does_not_stop_a_run(shell: Shell) -> None:
    """Nobody said that there is a mesh: it is a guess, and the work can be done here."""
    token = JoinToken(MeshKey.generate(), ("tcp://127.0.0.1:1",)).encode()
    assert shell.run("join", "--key-only", token).returncode == 0
    ran = shell.run("run", "tasks_of_mine:square", "--items", "0:3")
    assert (ran.returncode, len(rows(ran.stdout))) == (0, 3)
    assert "on processes of this machine instead" in ran.stderr
    environment = shell.environment | {"STEALMESH_TOKEN": token}
    shell.environment = environment
    ran = shell.run("run", "tasks_of_mine:square", "--items", "0:3")
    assert (ran.returncode, ran.stdout) == (3, ""), "that was said, and is not overruled"


# ---------------------------------------------------------------- a node that once had peers


def test_a_lone_node_does_not_found_a_second_mesh_in_silence(shell: Shell) -> None:
    """It joined with --seed once, and is started without, at another address. The mesh lives on."""
    MeshKey.generate().save(shell.key_file)
    first = shell.node("--listen", "tcp://127.0.0.1:0")
    seed = first.address()
    second = shell.node("--seed", seed, "--listen", "tcp://127.0.0.1:0")
    second.address()
    remembered = shell.directory / "state" / "stealmesh" / "peers"
    until = time.monotonic() + PATIENCE_SECONDS
    while not list(remembered.glob("*.json")):
        assert time.monotonic() < until
        time.sleep(0.05)
    second.process.terminate()
    assert second.end() == 0

    again = shell.node("--listen", "tcp://localhost:0", "--name", "again")
    again.address()
    found = _names_seen(shell, seed, 2)
    assert "again" in found
    again.process.terminate()
    first.process.terminate()
    assert (again.end(), first.end()) == (0, 0)

    alone = shell.node("--listen", "tcp://127.0.0.1:0", "--name", "alone")
    seed = alone.address()
    said = alone.line("none of the peers of an earlier life answers")
    assert "--seed" in said
    assert _names_seen(shell, seed, 1) == {"alone"}, "the first machine after a full stop serves"
    newcomer = shell.node("--seed", seed, "--listen", "tcp://127.0.0.1:0")
    newcomer.address()
    assert _names_seen(shell, seed, 2)
    alone.line("no longer alone")
    assert not [line for line in newcomer.told if "earlier life" in line], "it was told where to go"


def _names_seen(shell: Shell, seed: str, count: int) -> set[str]:
    for _ in range(60):
        ended = shell.run("status", "--json", "--seed", seed)
        assert ended.returncode == 0, ended.stderr
        names = {n["name"] for n in json.loads(ended.stdout)["nodes"] if n["role"] != "client"}
        if len(names) == count:
            return names
    raise AssertionError(f"never {count} nodes, last {names}")


# ---------------------------------------------------------------- rows 46 and 47


def test_durable_results_come_in_spite_of_failed_items(shell: Shell) -> None:
    start, token, _ = started(shell)
    sys.path.insert(0, str(shell.directory))
    try:
        import tasks_of_mine  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(shell.directory))
    expected = [x if x % 3 else None for x in range(200)]
    with stealmesh.Mesh(token.encode()) as mesh:
        began = time.time()
        job = mesh.options(name="thirds").launch(tasks_of_mine.no_thirds, range(200))
        read: list[Any] = []
        results = job.results(PATIENCE_SECONDS)
        while len(read) < 200:
            if len(read) % 3:
                read.append(next(results))
            else:
                with pytest.raises(ValueError, match=f"not {len(read)}"):
                    next(results)
                read.append(None)
        assert read == expected
        assert next(results, "over") == "over"

        both = job.results(PATIENCE_SECONDS, return_exceptions=True)
        ahead = [next(both) for _ in range(150)]
        assert [index for index, _ in job.errors(PATIENCE_SECONDS)] == list(range(0, 200, 3))
        values = [*ahead, *both]
        assert [None if isinstance(v, ValueError) else v for v in values] == expected
        pair = zip(job.results(return_exceptions=True), job.results(return_exceptions=True), strict=True)  # fmt: skip
        assert all(str(one) == str(other) for one, other in pair), (
            "readers do not disturb each other"
        )
        with pytest.raises(ValueError, match="not 0"):
            job.result()
        assert job.name == "thirds"
        assert f":{os.getpid()}" in job.owner
        assert job.started is not None
        assert began - 1 < job.started < time.time()
        until = time.monotonic() + PATIENCE_SECONDS
        while mesh.jobs()[0].ended is None:
            assert time.monotonic() < until
        (line,) = mesh.status()["jobs"]
        assert line["started"] <= line["ended"] <= time.time() + 1
        assert (line["name"], line["owner"]) == ("thirds", job.owner)

        # Row 47: what status shows is what attach takes.
        shown = shell.run("jobs", "--seed", token.seeds[0])
        row = next(line for line in shown.stdout.splitlines() if "thirds" in line)
        short = row.split()[0]
        assert short in shell.run("status", "--seed", token.seeds[0]).stdout
        for name in (
            line["id"],
            line["id"].upper(),
            line["id"][:12],
            short,
            f" {short} ",
            "thirds",
        ):
            assert mesh.attach(name).id == job.id
        collected = shell.run("results", short)
        assert collected.returncode == 1
        told = rows(collected.stdout)
        assert [row.get("result") for row in told] == expected
        assert told[3] == {"index": 3, "error": "ValueError: not 3"}
    with stealmesh.Mesh(token.encode()) as mesh:
        (again,) = mesh.jobs()
        assert len(again.errors(PATIENCE_SECONDS)) == 67, "another program has them as well"
        clean = mesh.launch(tasks_of_mine.square, range(5))
        assert clean.errors(PATIENCE_SECONDS) == []
        one = again.id[:2] if again.id[:2] == clean.id[:2] else ""
        for name, words in (
            ("soup", "not a job id"), ("", "not a job id"), ("ffff" * 3, "no job of this mesh"),
            (one or "..", "write more"), (clean.id[:4] + "..zz", "not a job id"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=words):
                mesh.attach(name)
        for nothing in (None, 5, bytes.fromhex(clean.id), clean):
            with pytest.raises(TypeError, match=r"Job\.id"):
                mesh.attach(nothing)  # type: ignore[arg-type]
    assert start.process.poll() is None


def test_a_job_that_ends_with_its_program_cannot_be_attached_and_says_so() -> None:
    """The id that status shows of an ordinary job: on main that waits for a minute."""
    with stealmesh.Mesh(workers=1) as mesh:
        future = mesh.options(name="ordinary").submit(time.sleep, 0.5)
        (line,) = mesh.status()["jobs"]
        for name in (line["id"], line["id"][:10]):
            with pytest.raises(ValueError, match="durable=True"):
                mesh.attach(name)
        future.result()


# ---------------------------------------------------------------- rows 48 and 49


@pytest.mark.parametrize("written", ["./{}.py:square", "{}.py:square", "{}/{}.py:square", "./{}:square", "{}:square"])  # fmt: skip
def test_run_takes_a_file(shell: Shell, written: str) -> None:
    name = written.replace("{}/", f"{shell.directory}/").format("tasks_of_mine")
    ended = shell.run("run", name, "--items", "0:4", "--nworkers", "1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [row["result"] for row in rows(ended.stdout)] == [0, 1, 4, 9]


def test_run_takes_a_file_of_a_package_that_is_elsewhere(shell: Shell, tmp_path: Path) -> None:
    package = tmp_path / "far" / "away" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("FACTOR = 3\n")
    (package / "inner.py").write_text(
        "from . import FACTOR\n\ndef times(x):\n    return FACTOR * x\n"
    )
    ended = shell.run("run", f"{package}/inner.py:times", "--items", "0:3", "--nworkers", "1")
    assert [row["result"] for row in rows(ended.stdout)] == [0, 3, 6], ended.stderr


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("tasks_of_mine.square", "write tasks_of_mine:square"),
        ("tasks_of_mine.py", "write tasks_of_mine.py:function"),
        ("square", "write module:function"),
        ("", "write module:function"),
        (":square", "write module:function"),
        ("./nothing.py:square", "there is no file"),
        ("tasks_of_mine:sqare", "it has square"),
        ("tasks_of_mine:square()", "it has square"),
        ("raises:f", "ZeroDivisionError"),
        ("spoiled:f", "SyntaxError"),
        ("leaves:f", "__main__"),
        ("needs:f", "no_such_package"),
        ("./with-dash.py:f", "rename"),
    ],
)
def test_run_says_in_one_line_what_to_write(shell: Shell, written: str, words: str) -> None:
    for name, text in {
        "raises": "1 / 0", "spoiled": "def f(:", "leaves": "raise SystemExit(3)",
        "needs": "import no_such_package", "with-dash": "",
    }.items():  # fmt: skip
        (shell.directory / f"{name}.py").write_text(text)
    ended = shell.run("run", written, "--items", "0:2", "--nworkers", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert words in ended.stderr


def test_a_file_that_is_called_like_a_module_of_ours_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def dumps(x): pass\n")
    with pytest.raises(CommandEnded, match="rename the file"):
        find(f"{tmp_path}/json.py:dumps")


def test_prints_of_tasks_are_no_results(shell: Shell) -> None:
    ended = shell.run("run", "tasks_of_mine:chatty", "--items", "0:20", "--nworkers", "1")
    assert ended.returncode == 0
    assert [row["result"] for row in rows(ended.stdout)] == list(range(20))
    for x in (0, 7, 19):
        assert f"printed {x}\n" in ended.stderr
        assert f"written {x}" in ended.stderr
        assert f"a child's {x}\n" in ended.stderr


def test_prints_of_tasks_on_a_running_mesh_are_no_results(shell: Shell) -> None:
    start, token, _ = started(shell)
    ended = shell.run("run", "tasks_of_mine:chatty", "--items", "0:5", "--seed", token.seeds[0])
    assert [row["result"] for row in rows(ended.stdout)] == list(range(5)), ended.stderr
    assert "item 3] printed 3" in ended.stderr
    start.process.terminate()
    assert start.end() == 0
    assert not start.rest(), "its standard output is for the one line"


def test_what_the_module_prints_is_no_result(shell: Shell) -> None:
    (shell.directory / "loud.py").write_text('print("hello")\n\ndef same(x):\n    return x\n')
    ended = shell.run("run", "loud:same", "--items", "0:2", "--nworkers", "1")
    assert [row["result"] for row in rows(ended.stdout)] == [0, 1]
    assert "hello" in ended.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", ">/dev/full"])
def test_run_ends_whatever_becomes_of_its_output(shell: Shell, closed: str) -> None:
    ended = shell.bash(f"{{stealmesh}} run tasks_of_mine:chatty --items 0:3 --nworkers 1 {closed}")
    if closed == "2>&-":
        assert len(rows(ended.stdout)) >= 3 or ended.returncode == 0
    assert "Traceback" not in ended.stderr, ended.stderr


# ---------------------------------------------------------------- row 50

WAITS = """
import sys, time, stealmesh
sys.path.insert(0, ".")
import tasks_of_mine
with stealmesh.Mesh(sys.argv[1]) as mesh:
    futures = [mesh.submit(tasks_of_mine.nap, x) for x in range(8)]
    futures[0].result()
    print("under way", flush=True)
    sys.stdin.readline()
    print(sum(future.result() for future in futures), flush=True)
    sys.stdin.readline()
"""


def test_a_program_says_for_what_it_waits_when_all_nodes_are_gone(
    shell: Shell, nobody: str
) -> None:
    MeshKey.generate().save(shell.key_file)
    node = shell.start("node", "--listen", nobody, "--nworkers", "1")
    node.address()
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, nobody],
        env=shell.environment,
        cwd=shell.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        watch = threading.Timer(PATIENCE_SECONDS, waiting.kill)
        watch.start()
        try:
            assert waiting.stdin is not None
            assert waiting.stdout is not None
            assert waiting.stderr is not None
            assert waiting.stdout.readline() == "under way\n"
            node.process.send_signal(signal.SIGKILL)
            node.end()
            waiting.stdin.write("go on\n")
            waiting.stdin.flush()
            said = waiting.stderr.readline()
            assert "no node has answered" in said
            assert nobody in said
            assert "items wait" in said
            shell.start("node", "--listen", nobody, "--nworkers", "1").address()
            assert "a node is back" in waiting.stderr.readline()
            assert waiting.stdout.readline() == f"{sum(range(8))}\n"
            waiting.stdin.write("end\n")
            waiting.stdin.flush()
            assert waiting.stderr.read() == "", "once"
            assert waiting.wait() == 0
        finally:
            watch.cancel()
            waiting.kill()


@pytest.fixture
def nobody() -> str:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"
