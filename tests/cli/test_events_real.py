"""Real nodes on loopback: what they say, and what `events`, `trace` and `metrics` show of a mesh in trouble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Command, Shell
from tests.cli.test_events import check_exposition, check_schema

pytestmark = pytest.mark.real

LOOPBACK = ("--listen", "tcp://127.0.0.1:0", "--no-peer-cache")
FUNCTIONS = """
import os, time
from pathlib import Path

def dies_once(path):
    path, _, number = path.partition("#")
    if number == "7" and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    time.sleep(0.01)
    return number
"""


@pytest.fixture
def functions(shell: Shell) -> None:
    (shell.directory / "functions.py").write_text(FUNCTIONS)


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


class Watch:
    """`events --json --follow`, up to the entries that are waited for."""

    def __init__(self, shell: Shell, seed: str) -> None:
        self.command = shell.start("events", "--json", "--follow", "--kind", "all", "--seed", seed)
        self.seen: list[dict[str, Any]] = []

    def until(self, what: str, **wanted: Any) -> dict[str, Any]:
        for seen in self.seen:
            if seen["what"] == what and wanted.items() <= seen.items():
                return seen
        while True:
            row: dict[str, Any] = json.loads(self.command.line("", "out"))
            self.seen.append(row)
            if row["what"] == what and wanted.items() <= row.items():
                return row


@pytest.mark.usefixtures("key", "functions")
def test_a_mesh_in_trouble_tells_what_happened(shell: Shell) -> None:
    first = shell.node("--name", "first", *LOOPBACK)
    seed = first.address()
    second = shell.node("--name", "second", "--seed", seed, "--log-json", *LOOPBACK)
    second.line("second joined: through first")
    third = shell.node("--name", "third", "--seed", seed, *LOOPBACK)
    third.line("third joined: through")
    watch = Watch(shell, seed)
    watch.until("joined", name="third")

    path = shell.directory / "died"
    items = json.dumps([f"{path}#{number}" for number in range(300)])
    ended = shell.run("run", "functions:dies_once", "--items", items, "--seed", seed)
    assert ended.returncode == 0, ended.stderr
    death = watch.until("worker died")
    assert death["detail"] == "signal 9 (SIGKILL)"
    assert death["name"] == "functions:dies_once"
    assert watch.until("died", kind="chunk")["node"] == death["node"]
    steal = watch.until("gave")
    assert steal["count"] > 0

    third.process.kill()
    verdict = watch.until("is declared dead", name="third")
    assert "nothing listens at its address" in verdict["detail"]
    first.line("third is declared dead: nothing listens at its address: first")

    look = shell.run("events", "--seed", seed)
    assert look.returncode == 0, look.stderr
    lines = look.stdout.splitlines()
    assert any("third is declared dead" in line for line in lines)
    assert all(len(line) <= 80 for line in lines), lines
    assert not any(" chunk " in line for line in lines), "there are too many to show unasked"
    only = shell.run("events", "--seed", seed, "--kind", "chunk", "--node", "first", "--json")
    assert {(row["kind"], row["node"]) for row in rows(only.stdout)} == {("chunk", "first")}

    trace = shell.run("trace", "functions:dies_once", "--seed", seed)
    assert trace.returncode == 0, trace.stderr
    events = json.loads(trace.stdout)["traceEvents"]
    check_schema(events)
    assert {e["ph"] for e in events} >= {"X", "M"}
    figures = check_exposition(shell.run("metrics", "--seed", seed).stdout)
    assert figures["stealmesh_workers"] >= 1, "a busy node may not answer a status in time"
    assert figures["stealmesh_tasks_executed_total"] > 0

    watch.command.process.send_signal(signal.SIGINT)
    assert watch.command.end() == 130
    assert "Traceback" not in "".join(watch.command.told)
    second.process.terminate()
    assert second.end() == 0
    first.line("second left")
    said = rows("".join(second.told))
    assert {row.get("what") for row in said} >= {"joined", "drains", "is declared dead"}
    assert all(row.keys() >= {"time", "text"} for row in said)


@pytest.mark.usefixtures("key")
def test_follow_ends_when_nobody_reads(shell: Shell) -> None:
    """Also while nothing happens: there is nothing to write that could fail."""
    node = shell.node(*LOOPBACK)
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "stealmesh", "events", "--follow", "--kind", "value", "--seed", node.address()],
        env=shell.environment, cwd=shell.directory, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert process.wait(PATIENCE_SECONDS) == 141
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.usefixtures("key")
def test_a_crowd_of_strangers_is_a_few_lines(shell: Shell) -> None:
    """Nodes with another key knock again and again: each reason is one line in a while, with a count."""
    from stealmesh.host.security import MeshKey

    node = shell.node(*LOOPBACK)
    stranger = shell.elsewhere("stranger")
    MeshKey.generate().save(stranger.key_file)
    knocking = [_start_stranger(stranger, node.address()) for _ in range(3)]
    node.line(": wrong-key")
    later = node.line(": wrong-key")
    assert int(later.split("refused ")[1].split()[0].replace(",", "")) > 1
    for command in knocking:
        command.process.kill()
    look = shell.run("events", "--json", "--kind", "refused", "--seed", node.address())
    told = [row for row in rows(look.stdout) if row["what"] == "refused:wrong-key"]
    assert sum(row["count"] for row in told) > len(told)
    times = [row["time"] for row in told]
    assert all(later - sooner > 4.0 for sooner, later in pairwise(times))


def _start_stranger(shell: Shell, seed: str) -> Command:
    return shell.start("node", "--nworkers", "1", "--seed", seed, *LOOPBACK)


def test_the_fork_server_of_a_node_dies(shell: Shell, key: Path) -> None:
    node = shell.node("--name", "only", *LOOPBACK)
    seed = node.address()
    watch = Watch(shell, seed)
    [server] = _children(node.process.pid)
    os.kill(server, signal.SIGKILL)
    assert watch.until("the fork server died")["node"] == "only"
    node.line("the fork server died")
    watch.command.process.send_signal(signal.SIGINT)
    assert watch.command.end() == 130


def _children(pid: int) -> list[int]:
    """A node has one child, the fork server."""
    found: list[int] = []
    while not found:
        found = [
            int(each)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for each in (thread / "children").read_text().split()
        ]
        threading.Event().wait(0.05)
    return found


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("form", [[], ["--log-json"]], ids=["words", "json"])
def test_a_node_whose_reader_is_gone_goes_on(shell: Shell, form: list[str]) -> None:
    """`stealmesh node 2>&1 | head -1`: the next word that the node said ended it with 141."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "stealmesh", "node", "--nworkers", "1", *LOOPBACK, *form]
    node = subprocess.Popen(argv, env=shell.environment, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            seed = next(word for word in said.readline().split() if word.startswith("tcp://"))
        for _ in range(2):
            shell.node(*LOOPBACK, "--seed", seed.strip('",')).line("joined")
        status = shell.run("status", "--json", "--seed", seed.strip('",'))
        assert len([each for each in json.loads(status.stdout)["nodes"] if each["workers"]]) == 3
        assert node.poll() is None
        node.terminate()
        assert node.wait(PATIENCE_SECONDS) == 0
    finally:
        node.kill()
        node.wait()
