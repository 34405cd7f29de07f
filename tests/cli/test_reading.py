"""What people write on the command line, and what is understood."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import signal
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from stealmesh.__main__ import run as run_as_module
from stealmesh.cli import (
    added,
    arguments,
    commands,
    demo,
    drawing,
    items,
    jobs,
    looks,
    main,
    status,
    tables,
    top,
)
from stealmesh.cli.exits import FAILED, INTERRUPTED, NOT_JOINED, USAGE, CommandEnded
from stealmesh.cli.function import find
from stealmesh.cli.run import as_json, as_they_come, in_order
from stealmesh.client import job_ids
from stealmesh.futures import Future
from stealmesh.transport import TransportError
from stealmesh_protocol import errors


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0:1000", range(1000)),
        (":7", range(7)),
        ("5:-5:-2", range(5, -5, -2)),
        ("range(10**9)", None),
        ("range(1_000_000_000)", range(10**9)),
        ("range(1, 10, 3)", range(1, 10, 3)),
        ("[1, 'a', (2, 3)]", [1, "a", (2, 3)]),
        ("(1, 2)", [1, 2]),
        ("", None), ("range()", None), ("range('a')", None), ("range(1,2,3,4)", None),
        ("1:9:0", None), ("17", None), ("__import__('os')", None), ("@/no/such/file", None),
    ],
)  # fmt: skip
def test_items(text: str, meant: Any) -> None:
    if meant is None:
        with pytest.raises(ValueError):
            items.parse(text)
    else:
        assert items.parse(text) == meant
        assert type(items.parse(text)) is type(meant)


def test_items_are_the_lines_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\r\n b \n\nc")
    assert list(items.parse(f"@{file}")) == ["a", " b ", "", "c"]
    monkeypatch.setattr("sys.stdin", io.StringIO('{"x": 1}\n\n[2]\n'))
    assert list(items.parse("-", as_json=True)) == [{"x": 1}, [2]]
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nx\n"))
    with pytest.raises(ValueError, match="line 2"):
        list(items.parse("-", as_json=True))


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("2M", 2 << 20),
        ("4GiB", 4 << 30),
        ("1.5g", 3 << 29),
        ("8000000", 8000000),
        ("2 mb", 2 << 20),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    assert arguments.octets(text) == octets


@pytest.mark.parametrize("text", ["", "M", "-1M", "12", "4 GHz", "1e9"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.octets(text)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "dance",
        "node --nworkers 0",
        "node --nworkers many",
        "node --nthreads 0",
        "node --nthreads 100000",
        "node --role king",
        "node --seed host:7077",
        "node --seed tcp://a:1,nonsense",
        "node --listen 7077",
        "node --listen tcp://a:b",
        "node --advertise ipc:///x",
        "node --memory-limit lots",
        "node --join-timeout -1",
        "node --i-understand",
        "node --insecure --listen tcp://127.0.0.1:0 --config /no/such/file",
        "node --insecure --seed env://NO_SUCH_VARIABLE",
        "node --se tcp://a:1",
        "join",
        "join stealmesh1-nonsense",
        "join stealmeshkey1-abc",
        "run",
        "run math:sqrt",
        "run math --items 0:3",
        "run math:cube --items 0:3",
        "run no_such_module:f --items 0:3",
        "run math:sqrt --items nonsense",
        "run math:sqrt --items 0:3 --ordered --unordered",
        "run math:sqrt --items 0:3 --retries x",
        "run math:sqrt --items 0:3 --seed tcp://a:1 --nodes 2",
        "status --seed nonsense",
    ],
)
def test_wrong_usage_is_2_and_says_something(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(line.split()) == USAGE
    said = capsys.readouterr()
    assert not said.out
    assert said.err.strip()
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotAllowed("this token does not allow it: use another"), NOT_JOINED),
        (errors.JoinRefused("no-answer"), NOT_JOINED),
        (errors.MeshClosed("it is gone"), NOT_JOINED),
        (errors.CannotStart("cannot start: raise a limit"), USAGE),
        (TransportError("cannot listen: choose another port"), USAGE),
        (errors.JobRefused("there is no room"), FAILED),
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_error_of_ours_is_one_line_of_any_command(
    error: Exception,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("stealmesh.cli.jobs.run", fail)
    assert main(["jobs"]) == status
    assert capsys.readouterr().err == f"stealmesh: {error}\n"


@pytest.mark.parametrize("error", [KeyError("x"), errors.LocalProtocolError("text", "too long")])
def test_a_defect_of_ours_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("stealmesh.cli.jobs.run", fail)
    with pytest.raises(type(error)):
        main(["jobs"])


def test_an_interrupt_while_a_command_is_imported_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "stealmesh.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "stealmesh.cli.commands")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main(["--help"]) == INTERRUPTED
    said = capsys.readouterr()
    assert not said.out
    assert not said.err


def test_an_interrupt_before_anything_is_imported_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stealmesh.__main__.find_packages", interrupt)
    assert run_as_module() == INTERRUPTED


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "status --seed 127.0.0.1:99999",
            "'99999' in 'tcp://127.0.0.1:99999' is not a port number",
        ),
        ("status --seed tcp://127.0.0.1:99999", "is not a port number"),
        ("status --seed 127.0.0.1:7077", "write tcp://127.0.0.1:7077"),
        (
            "node --listen tcp://127.0.0.1:many",
            "'many' in 'tcp://127.0.0.1:many' is not a port number",
        ),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == USAGE
    assert said in capsys.readouterr().err


def test_help_is_for_every_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in (
        "start",
        "join",
        "status",
        "run",
        "token",
        "events",
        "explain",
        "doctor",
    ):
        assert f"\n    {command} " in said
        assert main([command, "--help"]) == 0
        assert "exit status:" in capsys.readouterr().out


def test_a_function_is_found_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_here_only.py").write_text(
        "class A:\n    @staticmethod\n    def f(x): return x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    function, module = find("found_here_only:A.f")
    assert function(7) == 7
    assert module.__name__ == "found_here_only"
    with pytest.raises(CommandEnded):
        find("found_here_only:A.g")


def test_a_second_ctrl_c_ends_everything() -> None:
    """The first is an exception; from then on the system's own handling of the signal is in force."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), commands._interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with commands._interruptible():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------- results


class Mesh:
    """Futures that a test finishes when it likes."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.waited = 0

    def submit(self, item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        return future

    def finish_first(self) -> None:
        """Called when the run has nothing to do but wait: exactly then something is finished."""
        self.waited += 1
        next(future for future in self.futures if not future.done()).set_result(None)

    def finish_last(self) -> None:
        self.waited += 1
        next(future for future in reversed(self.futures) if not future.done()).set_result(None)


def test_results_in_order_with_a_bound_on_what_is_under_way() -> None:
    mesh = Mesh()
    rows = in_order(mesh.submit, range(10), 3, mesh.finish_first)
    assert next(rows)[0] == 0
    assert len(mesh.futures) == 3
    assert [index for index, _, _ in rows] == list(range(1, 10))


def test_results_as_they_come_with_a_bound_on_what_is_under_way() -> None:
    mesh = Mesh()
    rows = as_they_come(mesh.submit, iter("abcdefghij"), 3, mesh.finish_last)
    assert next(rows)[:2] == (2, "c")
    assert len(mesh.futures) == 3
    seen = [(index, item) for index, item, _ in rows]
    assert sorted([*seen, (2, "c")]) == list(enumerate("abcdefghij"))
    assert seen[-1] == (0, "a")


def test_any_value_makes_a_line() -> None:
    numpy = pytest.importorskip("numpy")
    row = {"index": 0, "item": 1, "result": [numpy.arange(2), numpy.float64(0.5), {2, 1}, b"x", 1j]}
    assert json.loads(as_json(row))["result"] == [[0, 1], 0.5, [1, 2], "b'x'", "1j"]
    assert (
        json.loads(as_json({"index": 0, "item": 1, "result": {(1, 2): 3}}))["result"]
        == "{(1, 2): 3}"
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, None),
        (-math.inf, None),
        ([1.5, (math.inf, 2), {"a": math.nan}], [1.5, [None, 2], {"a": None}]),
        ({math.nan, 1.0}, [1.0, None]),
        ({math.nan: 1}, "{nan: 1}"),
        ({(1, 2): math.nan}, "{(1, 2): nan}"),
    ],
)
def test_a_strict_parser_reads_every_line(value: Any, written: Any) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    numpy = pytest.importorskip("numpy")
    row = {"index": 0, "item": math.nan, "result": value, "more": numpy.array([math.nan, 1.0])}
    read = json.loads(as_json(row), parse_constant=refuse)
    assert read["result"] == written
    assert read["item"] in (None, "nan")


def test_a_value_inside_itself_makes_a_line() -> None:
    value: list[Any] = [math.nan]
    value.append(value)
    line = as_json({"index": 0, "item": 1, "result": value})
    assert json.loads(line)["result"] == "[nan, [...]]"


def test_status_looks_until_it_has_seen_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.0)
    looks = ["a", "ab", "abc", "abc", "abcd"]

    class Growing:
        def status(self) -> dict[str, Any]:
            return {"nodes": [{"id": identity} for identity in looks.pop(0)]}

    assert len(status.settled(Growing())["nodes"]) == 3  # type: ignore[arg-type]
    assert looks == ["abcd"]


@pytest.mark.parametrize(
    ("primes", "counts", "exit_status"),
    [
        (664_579, (4_130_071, 3_305_118, 10), 0),
        (664_578, (4_130_071, 3_305_118, 10), 1),
        (664_579, (4_130_072, 3_305_118, 10), 1),
        (664_579, (4_130_071, 3_305_118, 11), 1),
    ],
)
def test_the_demo_judges_by_what_is_published(
    primes: int, counts: tuple[int, ...], exit_status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo._verdict(Console(width=100), primes, counts) == exit_status
    said = capsys.readouterr().out
    assert said.count("WRONG") == exit_status
    assert said.count("exact") == (5 if exit_status == 0 else 3)


def test_status_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    node = {
        "id": "00", "name": "n-1", "address": "tcp://10.0.0.5:7077", "role": "plain", "state": "alive",
        "pid": 4711, "workers": 2, "queued_seconds": 1.25, "steals_in": 3, "steals_out": 1234,
    }  # fmt: skip
    job = {
        "id": "ab" * 20, "kind": "map", "name": "squares", "state": "running", "total": 10, "done": 5,
        "failed": 0, "leased": 3, "free": 2, "rerun": 0, "duplicates_dropped": 0,
    }  # fmt: skip
    client = node | {"role": "client", "name": "me", "workers": 0}
    status.show({"nodes": [node, client], "jobs": [job], "counters": {"x": 0, "y": 7}}, width=120)
    said = capsys.readouterr().out
    for words in ("1 node", "2 workers", "1 client", "n-1", "10.0.0.5", "1,234", "squares", "y 7"):
        assert words in said
    assert "x 0" not in said


NODE = {
    "id": "0a" * 16, "name": "n-1", "address": "tcp://10.0.0.5:7077", "role": "plain", "state": "alive",
    "pid": 4711, "workers": 2, "busy": 1, "queued_seconds": 1.25, "steals_in": 3, "steals_out": 1234,
    "runtime": "cpython-3.11",
    "running": [
        {"job": "ab" * 20, "name": "squares", "lo": 417, "hi": 418, "worker": 1, "seconds": 75.0}
    ],
}  # fmt: skip
JOB = {
    "id": "ab" * 20, "kind": "map", "name": "squares", "state": "running", "total": 1000, "done": 250,
    "failed": 3, "leased": 3, "free": 2, "rerun": 0, "duplicates_dropped": 0, "durable": False,
    "owner": "ada@host:4711", "started": 1e9, "ended": None, "rate": 12.0, "eta_seconds": 62.5,
    "error": "item 3: ValueError: a\nb\x1b[31m " + "x" * 200,
}  # fmt: skip


def test_a_status_has_room_in_80_columns_and_a_pipe_has_one_line_a_job() -> None:
    nodes = [
        NODE | {"name": f"node-{at}", "state": "leaving" if at == 39 else "alive"}
        for at in range(40)
    ]
    whole = {
        "nodes": nodes,
        "jobs": [JOB] * 30,
        "counters": {f"counter-{at}": 1 for at in range(30)},
    }
    lines = tables.frame(whole, 80)
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    said = "\n".join(lines)
    for words in ("39 alive, 1 leaving", "80 workers, 40 busy", "250/1,000 25%", "12/s", "1:02",
                  "squares (map) of ada@host:4711", r"last error: item 3: ValueError: a\x0ab\x1b[31m",
                  "abababab..abab/417", "16 more nodes", "14 more jobs"):  # fmt: skip
        assert words in said, words
    assert said.index("node-39 ") < said.index("node-0 "), "what is not well comes first"
    piped = tables.jobs_lines([JOB], None)
    assert len(piped) == 2
    for words in ("abababab..abab", "squares (map)", "ada@host:4711", "x" * 200):
        assert words in piped[1]
    assert tables.jobs_lines([], 80) == ["no jobs"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.25, "0.25 s"), (59.94, "59.9 s"), (245, "4:05"), (7390, "2:03:10"), (300000, "3 d")],
)
def test_times_are_told_shortly(seconds: float, told: str) -> None:
    assert tables.seconds_text(seconds) == told


def test_a_job_is_called_by_its_id_its_beginning_or_its_name() -> None:
    one, two = JOB | {"id": "ab12" * 10}, JOB | {"id": "ab34" * 10, "name": "cubes"}
    lines: list[dict[str, Any]] = [one, two]
    for text in ("ab12" * 10, "ab12", "ab12ab12..ab12", "squares"):
        assert job_ids.line_named(text, lines) is one
    assert job_ids.line_named("cubes", lines) is two
    with pytest.raises(ValueError, match="2 jobs are called 'ab': write more of"):
        job_ids.line_named("ab", lines)
    twice = [one, two | {"name": "squares", "ended": 2e9, "state": "done"}]
    with pytest.raises(ValueError, match=r"running.*done"):
        job_ids.line_named("squares", twice)
    with pytest.raises(ValueError, match="stealmesh jobs"):
        job_ids.line_named("soup", lines)
    durable = [one | {"durable": True}, two]
    assert job_ids.job_named("squares", lambda: durable).hex() == one["id"]
    with pytest.raises(ValueError, match="ends with the program"):
        job_ids.job_named("cubes", lambda: durable)


@pytest.mark.parametrize(
    ("name", "over", "facts", "known"),
    [
        ("square", False, [], True),
        ("", True, [], True),
        ("", False, [{"told": "has no primary"}], True),
        ("", False, [], False),
    ],
)
def test_a_job_without_a_primary_is_known_if_any_node_has_heard_of_it(
    name: str, over: bool, facts: list[Any], known: bool
) -> None:
    """Its nodes may just be starting again: then it is waited for."""
    job: Any = SimpleNamespace(id="ff" * 20, name=name, latest=lambda: None, done=lambda: over)
    story = {"facts": facts}
    mesh: Any = SimpleNamespace(looking=SimpleNamespace(explain=lambda job: story))
    assert jobs.is_known(mesh, job) is known


def test_a_node_is_called_by_its_name_process_address_or_id() -> None:
    nodes: list[dict[str, Any]] = [
        NODE,
        NODE | {"name": "n-2", "pid": 5, "id": "0b" * 16, "address": "tcp://a:1"},
    ]
    for text in ("n-1", "4711", "10.0.0.5:7077", "tcp://10.0.0.5:7077", "0A0a"):
        assert looks.node_called(nodes, text) is nodes[0]
    assert looks.node_called(nodes, "0") is None, "too short for an id"
    with pytest.raises(CommandEnded, match="2 nodes are called 'n-2'"):
        looks.node_called([nodes[1], nodes[1]], "n-2")


def test_a_terminal_is_drawn_over_and_a_pipe_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = iter([["one"], ["two", *["line"] * 100]])

    def watched() -> str:
        with pytest.raises(StopIteration):
            drawing.watch(lambda: next(pictures), 0.0)
        return capsys.readouterr().out

    assert watched() == "one\n\ntwo\n" + "line\n" * 100
    pictures = iter([["one"], ["two", *["line"] * 100]])
    monkeypatch.setattr(drawing, "height", lambda: 24)
    drawn = watched()
    assert drawn.startswith("\x1b[H\x1b[Jone\x1b[K\n\x1b[H\x1b[Jtwo")
    assert drawn.count("line") == 22, "no more than there is room for"


def test_top_is_one_picture() -> None:
    lines = top.picture({"nodes": [NODE], "jobs": [JOB], "counters": {}}, 80, now=1e9)
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("stealmesh at ")
    (row,) = (line for line in lines if "/417" in line)
    assert row.split() == ["1:15", "abababab..abab/417", "n-1", "1", "squares"]
    assert "nothing runs" in top.picture({"nodes": [], "jobs": [], "counters": {}}, 80)


def test_a_clone_declares_the_commands_that_bench_adds(tmp_path: Path) -> None:
    here = {point.name: point.value for point in added.in_clone(added.CLONE)}
    assert here == {
        "bench": "stealmesh_bench.commands:bench",
        "chaos": "stealmesh_bench.commands:chaos",
    }
    assert list(added.in_clone(tmp_path)) == []
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'another'\n")
    assert list(added.in_clone(tmp_path)) == []


def test_added_commands_are_summed_up_by_their_docstrings() -> None:
    found = added.added_commands()
    summaries = {name: added.summary_of(command) for name, command in found.items()}
    assert summaries["bench"] == "measure, beside the standard library's pool"
    assert summaries["chaos"] == "break things on purpose and check that nothing is lost"


def test_a_command_whose_package_is_not_installed_is_not_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("gone", "no_such_package.commands:gone", added.GROUP)
    monkeypatch.setattr(added, "entry_points", lambda *, group: [point])
    assert added.added_commands() == {}
