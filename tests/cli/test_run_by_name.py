"""`stealmesh run --functions`: a program in data-only mode, and a clear word where program and nodes differ in mode."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Shell
from tests.cli.test_real import LOOPBACK, one_line

pytestmark = pytest.mark.real

NAMED = """
import os

def square(x):
    if x == 3:
        raise ValueError(f"not {x}")
    return x * x
"""


@pytest.fixture
def named(shell: Shell) -> None:
    """A module in the working directory of all commands."""
    (shell.directory / "named.py").write_text(NAMED)
    shell.environment["PYTHONPATH"] = (
        f"{shell.directory}:{shell.environment.get('PYTHONPATH', '')}".rstrip(":")
    )


@pytest.mark.usefixtures("key", "named")
def test_data_only_nodes_run_what_is_named_and_nothing_else(shell: Shell) -> None:
    node = shell.start("node", "--nworkers", "1", *LOOPBACK, "--functions", "named")
    seed = ("--seed", node.address())
    ended = shell.run("run", "named:square", "--items", "2:5", "--functions", "named", *seed)
    assert ended.returncode == 1, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [each.get("result") for each in told] == [4, None, 16]
    assert told[1]["error"] == "ValueError: not 3"
    ended = shell.run("run", "named:square", "--items", "0:3", *seed)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "runs data-only" in one_line(ended)
    assert "stealmesh run --functions MODULE" in one_line(ended)


@pytest.mark.usefixtures("key", "named")
def test_nodes_that_take_code_are_not_given_names(shell: Shell) -> None:
    node = shell.start("node", "--nworkers", "1", *LOOPBACK)
    ended = shell.run("run", "named:square", "--items", "0:3", "--functions", "named", "--seed", node.address())  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "needs data-only" in one_line(ended)
    assert "start nodes of the kind" in one_line(ended)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("function", "modules", "words"),
    [
        ("named:os.getpid", "named", "no public function of its own there"),
        ("named:square", "nowhere_at_all", "No module named"),
        ("named:square", "collections.abc", "no public functions"),
    ],
    ids=["imported", "missing", "empty"],
)
def test_what_the_modules_do_not_show_is_wrong_usage(
    shell: Shell, function: str, modules: str, words: str
) -> None:
    ended = shell.run("run", function, "--items", "0:3", "--local", "--functions", modules)
    assert ended.returncode == 2
    assert words in one_line(ended)
