"""What tasks print comes home: to standard error of the program, marked, in order, within bounds, and with failures.

A line comes before the result of its item, so no test waits by the clock: a result is there, or a task stays
until the test has seen its line.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stealmesh
from stealmesh.submitter import MeshView
from stealmesh_protocol.errors import TaskTimeout, WorkerDied

from . import running

PATIENCE = 60.0

Lines = Callable[[], list[str]]


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as mesh:
        yield mesh


@pytest.fixture
def view(mesh: stealmesh.Mesh) -> MeshView:
    return mesh.options(output="caller")


@pytest.fixture
def lines(mesh: stealmesh.Mesh, capsys: pytest.CaptureFixture[str]) -> Lines:
    """What has been shown since the last call."""

    def read() -> list[str]:
        mesh._life.link.printer.finish()
        return capsys.readouterr().err.splitlines()

    return read


def stays_until(file: str) -> None:
    until = time.monotonic() + PATIENCE
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.01)


# ---------------------------------------------------------------- kinds of prints


SHOWS_WARNINGS = pytest.mark.filterwarnings("default")
"""Tasks have the filters of their program, and in a test run these raise."""


def says_all(x: int) -> int:
    print("print", x)
    print("to stderr", x, file=sys.stderr)
    logging.getLogger("mine").warning("logged %d", x)
    warnings.warn(f"warned {x}", stacklevel=1)
    sys.stdout.write("written\n")
    sys.stdout.buffer.write(b"octets\n")
    os.write(1, b"descriptor 1\n")
    os.write(2, b"descriptor 2\n")
    subprocess.run(["/bin/sh", "-c", "echo child; echo its error >&2"], check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"of C")
    libc.fflush(None)
    print("last")
    return x


@SHOWS_WARNINGS
def test_all_that_a_task_prints_comes_in_order(view: MeshView, lines: Lines) -> None:
    assert view.submit(says_all, 5).result() == 5
    said = lines()
    assert all(line.startswith("[item 0] ") for line in said), said
    texts = [line.removeprefix("[item 0] ") for line in said]
    assert texts[:3] == ["print 5", "to stderr 5", "logged 5"]
    assert "UserWarning: warned 5" in texts[3]
    at = texts.index("written")
    assert texts[at:] == [
        "written", "octets", "descriptor 1", "descriptor 2", "child", "its error", "of C", "last",
    ]  # fmt: skip


def forks() -> None:
    print("parent")
    pid = os.fork()
    if pid == 0:
        print("forked child")
        os._exit(0 if sys.stdout.flush() is None else 1)
    os.waitpid(pid, 0)
    child = multiprocessing.get_context("fork").Process(target=print, args=("of multiprocessing",))
    child.start()
    child.join()
    print("parent again")


def test_children_that_a_task_forks_speak_for_its_item(view: MeshView, lines: Lines) -> None:
    view.submit(forks).result()
    said = ["parent", "forked child", "of multiprocessing", "parent again"]
    assert lines() == [f"[item 0] {each}" for each in said]


def odd() -> None:
    print("lone \ud800 surrogate")
    print("é ∑ 😀")
    sys.stdout.buffer.write(b"no \xff utf-8\n")
    print("nul \0 here")
    for done in range(0, 101, 10):
        sys.stderr.write(f"\r{done} %")
        sys.stderr.flush()
    print(file=sys.stderr)
    print("x" * 10_000_000)
    print("no end", end="")


def test_odd_texts(view: MeshView, lines: Lines) -> None:
    view.submit(odd).result()
    texts = [line.removeprefix("[item 0] ") for line in lines()]
    assert texts[:4] == [r"lone \ud800 surrogate", "é ∑ 😀", "no � utf-8", r"nul \x00 here"]
    assert texts[4] == "100 %"
    assert 8_000 < len(texts[5]) < 9_000
    assert set(texts[5].removesuffix(" […]")) == {"x"}
    assert texts[6:] == ["no end"]


def redirects() -> str:
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept):
        print("kept")
    before, sys.stdout = sys.stdout, io.StringIO()
    print("to its own")
    sys.stdout = before
    print("to all", flush=True)
    assert sys.stdout.fileno() == 1
    assert not sys.stdout.isatty()
    assert sys.stdout.encoding.lower() == "utf-8"
    return kept.getvalue()


def test_a_task_may_replace_its_standard_output(view: MeshView, lines: Lines) -> None:
    assert view.submit(redirects).result() == "kept\n"
    assert lines() == ["[item 0] to all"]


# ---------------------------------------------------------------- whose line it is


def says(x: int) -> int:
    print("a", x)
    print("b", x)
    return x


def test_each_item_of_a_chunk_has_its_lines(view: MeshView, lines: Lines) -> None:
    assert list(view.map(says, range(200))) == list(range(200))
    by_item: dict[str, list[str]] = {}
    for line in lines():
        head, _, text = line.partition("] ")
        by_item.setdefault(head, []).append(text)
    assert by_item == {f"[item {n}": [f"a {n}", f"b {n}"] for n in range(200)}


async def takes_turns(x: int) -> int:
    for step in range(3):
        print(f"step {step}", x, end="")
        await asyncio.sleep(0.001)
        print("!")
    await asyncio.to_thread(print, "in a thread", x)
    return x


def test_coroutines_side_by_side_keep_their_lines_apart(view: MeshView, lines: Lines) -> None:
    assert sorted(view.map(takes_turns, range(40))) == list(range(40))
    by_item: dict[str, list[str]] = {}
    for line in lines():
        head, _, text = line.partition("] ")
        by_item.setdefault(head, []).append(text)
    assert by_item == {
        f"[item {n}": [*(f"step {step} {n}!" for step in range(3)), f"in a thread {n}"]
        for n in range(40)
    }


async def meets(place: str, x: int) -> None:
    print("mine", x)
    os.mkdir(f"{place}/{x}")
    until = time.monotonic() + PATIENCE
    while len(os.listdir(place)) < 2 and time.monotonic() < until:  # noqa: ASYNC110 - by two tasks
        await asyncio.sleep(0.01)
    if x == 0:
        os.write(1, b"anyone's\n")
    await asyncio.sleep(0.1)


def test_what_c_writes_beside_others_is_nobodys(
    mesh: stealmesh.Mesh, lines: Lines, tmp_path: Path
) -> None:
    with stealmesh.Mesh(workers=1) as alone:
        view = alone.options(output="caller", chunksize=1)
        list(view.map(meets, [str(tmp_path)] * 2, range(2)))
        alone._life.link.printer.finish()
    assert sorted(lines()) == ["[item 0] mine 0", "[item 1] mine 1", "anyone's"]


def in_its_own_thread(x: int) -> None:
    thread = threading.Thread(target=print, args=("thread of", x))
    thread.start()
    thread.join()


def test_a_thread_of_the_task_speaks_for_it(view: MeshView, lines: Lines) -> None:
    list(view.map(in_its_own_thread, range(5)))
    assert sorted(lines()) == [f"[item {n}] thread of {n}" for n in range(5)]


def test_tasks_in_threads_of_one_worker(capsys: pytest.CaptureFixture[str]) -> None:
    with stealmesh.Mesh(workers=1, threads=3) as mesh:
        list(mesh.options(output="caller").map(says, range(60)))
        mesh._life.link.printer.finish()
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == sorted(f"[item {n}] {word} {n}" for n in range(60) for word in "ab")


class Talker:
    def __init__(self) -> None:
        print("made")

    def say(self, word: str) -> None:
        print("says", word)


def test_an_actor_speaks_for_its_calls(view: MeshView, lines: Lines) -> None:
    actor = view.actor(Talker)
    actor.say("one").result()
    actor.say("two").result()
    said = lines()
    assert [line.partition("] ")[2] for line in said] == ["made", "says one", "says two"]
    assert all(line.startswith("[item ") for line in said)


def with_child(x: int) -> int:
    print("outer")
    return stealmesh.here().submit(says, x).result()


def test_children_in_the_same_worker_speak_for_their_item(view: MeshView, lines: Lines) -> None:
    assert view.submit(with_child, 3).result() == 3
    assert lines() == ["[item 0] outer", "[item 0] a 3", "[item 0] b 3"]


def visits(items: list[int], limit: int) -> tuple[int, list[int]]:
    print("visits", len(items))
    return len(items), [each - 1 for each in items if each]


def test_explore_and_map_reduce(view: MeshView, lines: Lines) -> None:
    assert view.explore(visits, [3], int.__add__).result() == 4
    assert any("visits" in line for line in lines())
    assert view.map_reduce(says, range(4), int.__add__).result() == 6
    assert sorted(lines()) == sorted(f"[item {n}] {word} {n}" for n in range(4) for word in "ab")


def speaks_and_stays(file: str) -> None:
    print("here I am")
    stays_until(file)


def test_a_line_comes_while_its_task_runs(view: MeshView, lines: Lines, tmp_path: Path) -> None:
    file = tmp_path / "seen"
    future = view.submit(speaks_and_stays, str(file))
    until, said = time.monotonic() + PATIENCE, lines()
    while not said and time.monotonic() < until:
        time.sleep(0.01)
        said = lines()
    assert said == ["[item 0] here I am"]
    assert not future.done()
    file.touch()
    future.result()


# ---------------------------------------------------------------- failures


def fails(x: int) -> None:
    print("about to fail", x)
    subprocess.run(["/bin/sh", "-c", "echo the compiler says no >&2"], check=False)
    raise ValueError(x)


def test_the_output_goes_with_the_exception(view: MeshView) -> None:
    future = view.submit(fails, 3)
    error = future.exception()
    assert error is not None
    assert error.task_output == "about to fail 3\nthe compiler says no\n"  # type: ignore[attr-defined]
    assert "  | the compiler says no" in error.__notes__[-1]


def fails_at_seven(x: int) -> int:
    print("item", x)
    if x == 7:
        raise ValueError(x)
    return x


def test_a_failure_in_a_chunk_has_the_output_of_its_item_alone(mesh: stealmesh.Mesh) -> None:
    view = mesh.options(output="caller", chunksize=20)
    with pytest.raises(ValueError, match="7") as caught:
        list(view.map(fails_at_seven, range(20)))
    assert caught.value.task_output == "item 7\n"  # type: ignore[attr-defined]


def says_nothing_and_fails() -> None:
    raise ValueError


def test_who_prints_nothing_has_no_note(view: MeshView) -> None:
    error = view.submit(says_nothing_and_fails).exception()
    assert not hasattr(error, "task_output")
    assert not getattr(error, "__notes__", [])


def is_killed() -> None:
    for number in range(10_000):
        print("line", number)
    print("unfinished", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_output_survives_sigkill(view: MeshView) -> None:
    error = view.submit(is_killed).exception()
    assert isinstance(error, WorkerDied)
    said: str = error.task_output  # type: ignore[attr-defined]
    assert said.endswith("line 9998\nline 9999\nunfinished")
    assert len(said) == 16 * 1024
    assert "  | line 9999" in error.__notes__[-1]


def never_ends() -> None:
    print("begins")
    time.sleep(3600)


@pytest.mark.slow
def test_the_output_goes_with_a_timeout(mesh: stealmesh.Mesh) -> None:
    error = mesh.options(output="caller", timeout=2).submit(never_ends).exception()
    assert isinstance(error, TaskTimeout)
    assert error.task_output == "begins\n"  # type: ignore[attr-defined]


def launched(x: int) -> int:
    print("item", x)
    if x == 2:
        raise ValueError(x)
    return x


def test_the_home_of_a_durable_job_keeps_its_output(view: MeshView, lines: Lines) -> None:
    job = view.launch(launched, range(4))
    assert job.wait(PATIENCE)
    assert [job.output(index) for index in range(4)] == [f"item {index}\n" for index in range(4)]
    assert job.output(99) == ""
    ((index, error),) = job.errors()
    assert index == 2
    assert error.task_output == "item 2\n"  # type: ignore[attr-defined]
    assert lines() == [], "it is kept, and not shown"
    with pytest.raises(ValueError, match="index"):
        job.output(-1)


# ---------------------------------------------------------------- bounds, choices, ends


def floods(x: int) -> int:
    for number in range(50_000):
        print("line", number)
    return x


def test_too_many_lines_are_counted_and_nothing_waits(view: MeshView, lines: Lines) -> None:
    assert list(view.map(floods, range(4), chunksize=1)) == list(range(4))
    shown, dropped = [0] * 4, [0] * 4
    at = [-1] * 4
    for line in lines():
        head, _, text = line.partition("] ")
        item = int(head.removeprefix("[item "))
        if text.endswith("dropped)"):
            dropped[item] += int(text[1:].split()[0].replace(",", ""))
        else:
            assert int(text.split()[1]) > at[item], "in order"
            at[item] = int(text.split()[1])
            shown[item] += 1
    assert [s + d for s, d in zip(shown, dropped, strict=True)] == [50_000] * 4
    assert all(0 < s < 45_000 for s in shown)


@SHOWS_WARNINGS
def test_none_shows_nothing(mesh: stealmesh.Mesh, lines: Lines) -> None:
    mesh.options(output="none").submit(says_all, 1).result()
    assert lines() == []


@pytest.mark.parametrize("output", ["Caller", "stdout", "", "NODE"])
def test_an_unknown_choice_is_refused(mesh: stealmesh.Mesh, output: str) -> None:
    with pytest.raises(ValueError, match='"caller", "node" or "none"'):
        mesh.options(output=output)
    with pytest.raises(TypeError):
        mesh.options(output=3)  # type: ignore[arg-type]


PROGRAM = """
import sys, stealmesh

def f(x):
    print("out", x)
    print("err", x, file=sys.stderr)

if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        mesh.submit(f, 1).result()
        mesh.options(output="caller").submit(f, 2).result()
        mesh.submit(f, 3).result()
"""


def test_without_a_terminal_it_goes_where_it_went(tmp_path: Path) -> None:
    running.write(tmp_path, program=PROGRAM)
    done = running.ended(tmp_path, str(tmp_path / "program.py"))
    assert (done.returncode, done.stdout) == (0, "out 1\nout 3\n")
    assert sorted(done.stderr.splitlines()) == [
        "[item 0] err 2", "[item 0] out 2", "err 1", "err 3",
    ]  # fmt: skip


def test_the_command_writes_it_beside_its_results(tmp_path: Path) -> None:
    text = "import os\n\ndef f(x):\n    print('{not json', x)\n    os.write(1, b'nor this\\n')\n    return int(x) + 1\n"
    running.write(tmp_path, mine=text)
    argv = ["-m", "stealmesh", "run", "mine:f", "--items", "range(3)", "--local"]
    done = running.ended(tmp_path, *argv)
    assert done.returncode == 0
    assert [line[:10] for line in done.stdout.splitlines()] == ['{"index": '] * 3
    assert "[item 2] {not json 2" in done.stderr.splitlines()
    assert "[item 1] nor this" in done.stderr.splitlines()


INTERRUPTED = """
import os, signal, sys, time, stealmesh

def f():
    print("so far")
    open("said", "w").close()
    time.sleep(3600)

if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        future = mesh.options(output="caller").submit(f)
        while not os.path.exists("said"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        future.result()
"""


def test_what_was_printed_before_ctrl_c_still_comes(tmp_path: Path) -> None:
    running.write(tmp_path, program=INTERRUPTED)
    done = running.ended(tmp_path, str(tmp_path / "program.py"))
    assert "[item 0] so far" in done.stderr.splitlines()
