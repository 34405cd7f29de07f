"""A progress bar in a terminal, and what is left of it after Ctrl-C.

The programs run in a terminal of their own; a small emulator says which lines a person would see.
"""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from pathlib import Path

import pytest

from stealmesh.progress import Bar

from .running import PATIENCE_SECONDS, environment, write

PROGRAM = """
import os, signal, sys, threading, time
import stealmesh

def slow(n):
    time.sleep(0.02)
    return n

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

def reads(results):
    for n in results:
        if n == 5 and way != "waits":
            ctrl_c()
            time.sleep(60)
        elif n == 5:
            threading.Timer(0.3, ctrl_c).start()

way = sys.argv[1]
if __name__ == "__main__":
    mesh = stealmesh.Mesh(workers=1)
    view = mesh.options(progress=True, name="bar", chunksize=1)
    try:
        if way == "fold":
            threading.Timer(0.5, ctrl_c).start()
            view.map_reduce(slow, range(2000), max).result()
        elif way == "named":
            results = view.map(slow, range(2000))
            reads(results)
        else:
            reads(view.map(slow, range(2000)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        time.sleep(1.0)  # the work of a reduction goes on
        print("a prompt", file=sys.stderr)
        raise
"""


def in_a_terminal(directory: Path, *argv: str) -> str:
    """All that the program writes to its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        given = {**environment(), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        os.execve(sys.executable, [sys.executable, *argv], given)
    said = b""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            said += os.read(terminal, 65536)
        except OSError:  # the program has ended
            break
    os.close(terminal)
    os.waitpid(pid, 0)
    return said.decode("utf-8", "replace")


def seen(said: str) -> list[str]:
    """The lines on the screen, as far as they are made of texts, ends of lines, and what bars use."""
    lines, row, column = [""], 0, 0
    for text, command in re.findall(r"([^\x1b]+)|\x1b\[([?\d;]*[A-Za-z])", said):
        for each in text:
            if each == "\n":
                row += 1
                lines += [""] * (row - len(lines) + 1)
            elif each == "\r":
                column = 0
            else:
                lines[row] = lines[row].ljust(column)[:column] + each + lines[row][column + 1 :]
                column += 1
        if command.endswith("A"):
            row = max(0, row - int(command[:-1] or 1))
        elif command == "2K":
            lines[row] = ""
    return lines


@pytest.mark.real
@pytest.mark.parametrize(
    "way",
    ["waits", "fold", *(pytest.param(each, marks=pytest.mark.slow) for each in ("body", "named"))],
)
def test_after_ctrl_c_the_bar_stays_where_it_was(way: str, tmp_path: Path) -> None:
    write(tmp_path, program=PROGRAM)
    said = in_a_terminal(tmp_path, "program.py", way)
    lines = seen(said)
    bars = [n for n, line in enumerate(lines) if "/2000" in line]
    assert len(bars) == 1, lines
    assert "KeyboardInterrupt" in said
    behind = said.partition("interrupted")[2]
    if way in ("waits", "fold"):  # the others may be read on, until their reader is gone
        assert "/2000" not in behind, lines
        assert said.rindex("\x1b[?25h") < said.index("interrupted"), "the cursor is shown again"
    assert "a prompt" in "\n".join(lines)
    assert "\x1b[?25h" in said, "the cursor is shown again"


def test_two_bars_share_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = Bar("one"), Bar("other")
    one(1, 3)
    other.write("[a line]")
    other(2, 2)
    assert "one" not in capsys.readouterr().err, "it is no terminal: only the end is written"
    one.close()
    one.close()
    one(3, 3)
    one.running(0.5)
    said = capsys.readouterr().err
    assert said.count("1/3") == 1
    assert said.count("2/2") == 1


class Notes:
    """A picture that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def move(self, done: float, total: float | None) -> None:
        self.told.append((done, total))

    def write(self, text: str) -> None:
        self.told.append(text)

    def wake(self, waits: bool) -> None:
        self.told.append(waits)

    def end(self, state: str) -> None:
        self.told.append(state)


def test_a_bar_moves_while_the_program_waits_and_never_after_its_end() -> None:
    bar = Bar("bar")
    bar._picture.end("")
    bar._picture = notes = Notes()
    bar.goes_on()
    bar.running(0.5)
    bar(1, 3)
    bar.rest()
    bar.running(1.5)
    assert notes.told == [True, (0.5, None), (1.5, 3), False]
    bar.close()
    bar.goes_on()
    bar.running(0.5)
    bar(3, 3)
    assert notes.told[4:] == ["stopped"]
