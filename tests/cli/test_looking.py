"""What a person finds out about a mesh at work, and about a program that was killed, with commands alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Command, Shell
from tests.marks import later

from stealmesh.cli import main

pytestmark = pytest.mark.real

FUNCTIONS = """
import asyncio, ctypes, threading
from pathlib import Path

def stuck(x):
    if x == 0:
        lock = threading.Lock()
        lock.acquire()
        Path("entered-lock").touch()
        lock.acquire()  # for ever
    if x == 1:
        lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(128)
        lock(mutex)
        Path("entered-c").touch()
        lock(mutex)  # holds the interpreter
    if x == 2:
        raise ValueError("not two\\x1b[31m")
    return x

async def waits(x):
    Path("entered-async").touch()
    await asyncio.Event().wait()
"""


class Person:
    """Somebody at a terminal: runs commands in this process, sees what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str], seed: str) -> None:
        self._capsys = capsys
        self.seed = seed

    def types(self, *argv: str, status: int = 0) -> str:
        assert main([*argv, "--seed", self.seed]) == status
        said = self._capsys.readouterr()
        return said.out if status == 0 else said.err


@pytest.fixture
def shown(shell: Shell, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del key
    (shell.config / "looks.py").write_text(FUNCTIONS)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shell.environment[name])


def program(shell: Shell, what: str, items: str, seed: str) -> Command:
    return shell.start("run", what, "--items", items, "--seed", seed, cwd=shell.config)


def until(person: Person, holds: str, *argv: str) -> str:
    for _ in range(200):
        said = person.types(*argv)
        if re.search(holds, said):
            return said
        time.sleep(0.3)  # each look is a program that joins
    raise AssertionError(f"never saw {holds!r}, last: {said}")


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("nodes", [2, *later(8)])
def test_what_is_stuck_is_found(
    shell: Shell, capsys: pytest.CaptureFixture[str], nodes: int
) -> None:
    first = shell.node("--nworkers", "2", "--name", "first", "--listen", "tcp://127.0.0.1:0")
    seed = first.address()
    others = [
        shell.node("--nworkers", "2", "--name", f"n{at}", "--seed", seed) for at in range(1, nodes)
    ]
    for other in others:
        other.address()
    one, two = (
        program(shell, "looks:stuck", "0:4", seed),
        program(shell, "looks:waits", "0:1", seed),
    )
    person = Person(capsys, seed)
    for name in ("entered-lock", "entered-c", "entered-async"):
        until_exists(shell, one, name)

    # Two commands: what runs long, and its stack.
    top = until(person, r"/0 +\S+ +\d +looks:stuck", "top", "--once")
    row = next(line for line in top.splitlines() if re.search(r"/0 +\S+ +\d+ +looks:stuck", line))
    item = next(word for word in row.split() if word.endswith("/0"))
    said = person.types("stacks", item)
    assert "looks.py" in said
    assert " in stuck\n      lock.acquire()  # for ever" in said
    assert f"runs looks:stuck {item}" in said

    job = item.removesuffix("/0")
    assert "lock(mutex)  # holds the interpreter" in person.types("stacks", f"{job}/1")
    assert "written down by a signal" in person.types("stacks", f"{job}/1")
    said = person.types("stacks", "looks:waits/0")
    assert re.search(r"task Task-\d+, runs looks:waits", said)
    assert "await asyncio.Event().wait()" in said

    assert re.search(r"item 0: at \S+, it runs on worker \d+, for", person.types("explain", item))
    others = look_further(shell, person, job, nodes) if nodes > 2 else []

    # A program that is killed leaves a line behind.
    one.process.send_signal(signal.SIGKILL)
    one.end()
    jobs = until(person, "owner gone", "jobs")
    assert re.search(r"2/4 50% +1 .*owner gone after .*looks:stuck.*item 2: ValueError", jobs)
    said = person.types("explain", item)
    assert "its program is gone" in said
    for command in (two, *others):
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 130


def look_further(shell: Shell, person: Person, job: str, nodes: int) -> list[Command]:
    """The rest of what a person may ask."""
    story = json.loads(person.types("explain", f"{job}/2", "--json"))
    assert (story["why"], story["told"]) == ("failed", "it failed: ValueError: not two\x1b[31m")
    assert "\x1b" not in person.types("explain", f"{job}/2")
    assert "its ledger did not answer" not in person.types("explain", job)
    assert "has not submitted it yet" in person.types("explain", f"{job}/99")
    status = until(person, "last error", "status")
    assert "item 2: ValueError: not two?[31m" in status
    assert f"{nodes} nodes ({nodes} alive), {2 * nodes} workers" in status
    assert "no worker runs" in person.types("stacks", f"{job}/3", status=1)
    assert "worker 0" in person.types("stacks", "first")
    assert "no node is called 'no-one'" in person.types("stacks", "no-one", status=2)
    assert "is no item" in person.types("explain", "looks:waits/x", status=2)

    again = program(shell, "looks:waits", "0:1", person.seed)
    until(person, r"(?s)waits.*waits", "jobs")
    assert "2 jobs are called 'looks:waits'" in person.types("explain", "looks:waits/0", status=2)

    # A person ends the job of a program that does not listen to its terminal.
    lines = [json.loads(line) for line in person.types("jobs", "--json").splitlines()]
    (younger,) = sorted(
        (line for line in lines if line["name"] == "looks:waits"), key=lambda line: line["started"]
    )[1:]
    said = person.types("cancel", younger["id"])
    assert f"the program {younger['owner']} has cancelled job looks:waits" in said
    assert again.end() == 1
    assert "the job was cancelled: items without a line have no result" in "".join(again.told)
    assert "had ended already" in person.types("cancel", younger["id"])
    return []


def until_exists(shell: Shell, command: Command, name: str) -> None:
    while not (shell.config / name).exists():
        try:
            command.process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"it ended: {''.join(command.told)}")


@pytest.mark.usefixtures("shown")
def test_a_watched_status_is_drawn_again_and_ends_with_ctrl_c(shell: Shell) -> None:
    node = shell.node("--listen", "tcp://127.0.0.1:0")
    node.address()
    watch = shell.start("status", "--watch")  # it finds the node of this user by itself
    for _ in range(2):
        watch.line("1 node (1 alive)", "out")
    watch.process.send_signal(signal.SIGINT)
    assert watch.end() == 130
    closed = subprocess.run(
        f"{sys.executable} -m stealmesh status --watch | head -1",
        shell=True, env=shell.environment, cwd=shell.directory, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert closed.stdout.startswith("1 node")
    assert "Traceback" not in closed.stderr
    assert os.path.isdir(shell.environment["XDG_STATE_HOME"])
