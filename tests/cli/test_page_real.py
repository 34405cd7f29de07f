"""The page of a real node and of `stealmesh dashboard`: served, asked, guarded, and gone when its node is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Command, Shell
from tests.cli.test_events import check_exposition
from tests.patience import until

from stealmesh.cli import main

pytestmark = pytest.mark.real

STUCK = """
import threading
def stuck(x):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()  # for ever
"""


def page_of(node: Command) -> str:
    said = "the page of this node is at"
    line = until(lambda: next((each for each in node.told if said in each), ""), said)
    return line.split()[-1]


def get(url: str, **headers: str) -> str:
    asked = Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
        return str(answer.read().decode())


def is_refused(url: str, bearer: str = "") -> bool:
    try:
        get(url, Authorization=bearer)
    except OSError as error:
        return "401" in str(error) if bearer else "refused" in str(error)
    return False


def frame(page: str, name: str = "frame") -> dict[str, Any]:
    with urlopen(f"{page}live?first=0", timeout=PATIENCE_SECONDS) as stream:
        for line in stream:
            if line == f"event: {name}\n".encode():
                found: dict[str, Any] = json.loads(next(stream).removeprefix(b"data: "))
                return found
    raise AssertionError("the stream ended")


def sees(page: str, *names: str) -> dict[str, Any] | None:
    found = frame(page)
    return found if sorted(node["name"] for node in found["nodes"]) == sorted(names) else None


def test_a_page_shows_the_mesh_and_another_one_when_its_node_is_killed(
    shell: Shell, key: Path
) -> None:
    del key
    shell.config.mkdir(exist_ok=True)
    (shell.config / "tasks_of_mine.py").write_text(STUCK)
    hostile = "<img src=x>"
    first = shell.node("--listen", "tcp://127.0.0.1:0", "--name", hostile, "--dashboard")
    seed = first.address()
    second = shell.node("--seed", seed, "--name", "two", "--dashboard", "127.0.0.1:0")
    one, two = page_of(first), page_of(second)
    until(lambda: sees(one, hostile, "two"), "both are seen")
    until(
        lambda: {page["url"] for page in frame(one)["pages"]} == {one, two}, "both pages are known"
    )
    shell.start("run", "tasks_of_mine:stuck", "--items", "0:1", "--seed", seed, cwd=shell.config)
    slow = until(lambda: frame(two)["slow"], "it runs")
    told = json.loads(get(f"{two}look?job={slow[0]['job']}&item={slow[0]['lo']}"))
    assert "it runs on worker 0" in told["story"]["told"]
    stacks = [each[3] for each in told["stacks"][0]["stacks"][0]["frames"]]
    assert stacks[-1] == "lock.acquire()  # for ever"
    leased = 'stealmesh_tasks{state="leased"}'  # the program tells its nodes once a while
    until(lambda: check_exposition(get(f"{two}metrics"))[leased] == 1, "the ledger's word has come")
    first.process.send_signal(signal.SIGKILL)
    until(lambda: sees(two, "two"), "the other page goes on")
    until(lambda: is_refused(one), "its page has ended with it")


def test_a_page_that_asks_for_a_token_takes_one_until_it_is_revoked(
    shell: Shell, key: Path
) -> None:
    del key
    node = shell.node("--listen", "tcp://127.0.0.1:0")
    seed = node.address()
    page = shell.start("dashboard", "--seed", seed, "--login").line("http://", "out").strip()
    line = shell.run("token", "--role", "view", "--name", "eye", "--seed", seed).stdout
    bearer = f"Bearer {line.split()[-1]}"
    with pytest.raises(HTTPError, match="401"):
        get(f"{page}metrics")
    with pytest.raises(HTTPError, match="421"):
        get(f"{page}metrics", Host="evil.example", Authorization=bearer)
    assert "stealmesh_nodes" in get(f"{page}metrics", Authorization=bearer)
    assert shell.run("token", "--revoke", "eye", "--seed", seed).returncode == 0
    until(lambda: is_refused(f"{page}metrics", bearer), "it is refused")


def test_a_mesh_without_a_key_has_no_page(shell: Shell) -> None:
    told = shell.run("node", "--insecure", "--dashboard", "--listen", "tcp://127.0.0.1:0")
    assert told.returncode == 2
    assert "needs a mesh with a key" in told.stderr
    assert main(["dashboard", "--listen", "a:b"]) == 2
    assert main(["node", "--name", "\x1b[31m"]) == 2, "peers take no such name"
