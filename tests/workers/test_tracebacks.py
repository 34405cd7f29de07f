"""Tracebacks of tasks, without processes: told as a worker does it, shown as a program does it."""

from __future__ import annotations

import importlib.util
import io
import linecache
import pdb
import pickle
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from tests.workers import raising

from stealmesh.shipping import opening
from stealmesh.shipping.source import Source
from stealmesh.tracebacks import lines, ours, showing
from stealmesh.workers.failures import Failures
from stealmesh_protocol import limits, trails, values
from stealmesh_protocol.errors import RemoteTraceback, TaskFailed
from stealmesh_protocol.values import Failure

NODE = "stealmesh_protocol.errors.RemoteTraceback: this ran on node this node\n"
DIRECT = "\nThe above exception was the direct cause of the following exception:\n\n"


def raised_by(task: Callable[[int], Any], n: int = 3) -> BaseException:
    """Its error, as a local call of it leaves it, from the task's own frame on."""
    try:
        task(n)
    except BaseException as error:  # noqa: BLE001
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)
    raise AssertionError("it did not raise")


def sent(error: BaseException) -> Failure:
    """The failure, after a journey."""
    failures = Failures()
    failures.add(0, error)
    _, (failure,) = values.unpack_outcomes(*values.pack_outcomes(None, failures.records))
    return failure


def text_of(error: BaseException) -> str:
    """What is printed of it, without the line that says where it ran."""
    text = "".join(traceback.format_exception(error))
    head = re.sub(r"^(  [+|] )?", "", NODE)
    if text.startswith(head + DIRECT):
        return text.removeprefix(head + DIRECT)
    return text


def module_at(path: Path, text: str) -> ModuleType:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


# ---------------------------------------------------------------- as a local call


@pytest.mark.parametrize("task", raising.WAYS, ids=lambda task: task.__name__)
def test_it_reads_like_a_local_call(task: Callable[[int], Any]) -> None:
    error = raised_by(task)
    local = "".join(traceback.format_exception(error))
    failure = sent(error)
    there = showing.rebuilt(failure)
    assert type(there) is type(error)
    assert text_of(there) == local
    assert failure.traceback == local, "the worker's own text says the same"
    remote = trails.first_of(there).__cause__
    assert isinstance(remote, RemoteTraceback)
    assert (str(remote), remote.text) == ("this ran on node this node", local)
    again = pickle.loads(pickle.dumps(remote))
    assert (str(again), again.text) == (str(remote), remote.text)


def test_the_frames_say_where_in_the_line_it_was() -> None:
    text = text_of(showing.rebuilt(sent(raised_by(raising.plain))))
    assert "    return 1 / (n - n)\n           ~~^~~~~~~~~\n" in text


def test_a_thousand_frames_are_few_on_the_way() -> None:
    failure = sent(raised_by(raising.endless))
    assert len(failure.trails) < 400
    assert "[Previous line repeated" in text_of(showing.rebuilt(failure))


def test_the_frames_go_home_through_two_workers() -> None:
    """A task that waits for another raises that one's error."""
    inner = showing.rebuilt(sent(raised_by(raising.plain)))

    def outer(n: int) -> None:
        raise inner

    there = showing.rebuilt(sent(raised_by(outer)))
    text = "".join(traceback.format_exception(there))
    assert re.search(r"in outer\n.*\n.*in plain\n(.*\n)+.*in deep\n", text)
    assert text.count("this ran on node") == 1

    inner = showing.rebuilt(sent(raised_by(raising.while_handling)))
    first = trails.first_of(inner).__cause__
    assert isinstance(first, RemoteTraceback)
    first.brief = "this ran on node far away"
    there = showing.rebuilt(sent(raised_by(outer)))
    text = "".join(traceback.format_exception(there))
    assert (
        "RemoteTraceback: this ran on node far away\nfor a task that ran on node this node" in text
    )
    assert text.count("KeyError: 'outermost'") == 1
    assert isinstance(there.__context__, ValueError)


def test_a_remark_of_the_worker_stands_above() -> None:
    failure = sent(raised_by(raising.plain))
    failure.traceback += "\nTried before on other nodes: n1: no pandas\n"
    there = showing.rebuilt(failure)
    assert "this ran on node this node\n\nTried before on other nodes: n1: no pandas\n" in str(
        there.__cause__
    )


def test_an_exception_that_cannot_be_had_has_its_frames() -> None:
    error = raised_by(raising.own_constructor)
    failure = sent(error)
    failure.exception, failure.bases = b"", ["builtins:ValueError"]
    there = showing.rebuilt(failure)
    assert isinstance(there, TaskFailed)
    assert isinstance(there, ValueError)
    assert 'raise TwoArguments(n, "because")' in text_of(there)
    assert '"""' not in "".join(traceback.format_exception(there))


def test_a_chain_that_cannot_be_had_is_told_as_text() -> None:
    error = raised_by(raising.while_handling)
    failure = sent(error)
    failure.exception = b""
    local = "".join(traceback.format_exception(error))
    there = showing.rebuilt(failure)
    assert f'"""\n{local.rstrip()}\n"""' in "".join(traceback.format_exception(there))


def test_what_cannot_be_printed_is_told_all_the_same() -> None:
    text = text_of(showing.rebuilt(sent(raised_by(raising.cannot_be_printed))))
    assert "raise Silent" in text
    assert "Silent" in text.splitlines()[-1]


# ---------------------------------------------------------------- the mesh's own frames


def test_our_frames_are_folded_away() -> None:
    def task(n: int) -> Any:
        return showing_calls(n)

    def showing_calls(n: int) -> Any:
        return interruptible_without_catching(lambda: raising.deep(n))

    # A function of ours that calls the user's: an initializer of the test compiles it under our name.
    path = str(Path(ours.__file__).with_name("folded_here.py"))
    names: dict[str, Any] = {}
    exec(compile("def interruptible(f):\n    return f()\n", path, "exec"), names)
    interruptible_without_catching = names["interruptible"]
    text = text_of(showing.rebuilt(sent(raised_by(task))))
    assert "folded_here" not in text
    assert re.findall(r" in (\S+)\n", text) == ["task", "showing_calls", "<lambda>", "deep"]


def test_a_defect_of_ours_keeps_one_line() -> None:
    def task(n: int) -> Any:
        return trails.opened(n)  # type: ignore[arg-type]

    text = text_of(showing.rebuilt(sent(raised_by(task))))
    assert re.findall(r" in (\S+)\n", text) == ["task", "opened"]


def test_what_we_say_in_words_needs_none() -> None:
    def task(n: int) -> Any:
        return values.unpack(99, b"")

    text = text_of(showing.rebuilt(sent(raised_by(task))))
    assert re.findall(r" in (\S+)\n", text) == ["task"]


def test_examples_are_the_users() -> None:
    root = Path(showing.__file__).parents[1]
    assert not ours.is_ours(str(root / "examples" / "primes.py"))
    assert ours.is_ours(str(root / "workers" / "run.py"))
    assert not ours.is_ours(str(root) + "_of_mine/workers.py")


# ---------------------------------------------------------------- files

PROGRAM = "# nothing\ndef broken(n):\n    return 1 // (n - n)  # as it ran\n"


def broken_at(path: Path, text: str = PROGRAM) -> Failure:
    return sent(raised_by(module_at(path, text).broken))


def test_a_file_that_was_edited_says_so(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    failure = broken_at(path)
    path.write_text("# nothing\n# more\n# now another line\n")
    text = text_of(showing.rebuilt(failure))
    assert f'  File "{path} (changed since)", line 3, in broken\n' in text
    assert "    return 1 // (n - n)  # as it ran\n           ~~^^~~~~~~~~\n" in text
    assert "another line" not in text


def test_a_file_that_was_edited_elsewhere_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    failure = broken_at(path)
    path.write_text(PROGRAM + "\n# later\n")
    assert f'  File "{path}", line 3, in broken\n' in text_of(showing.rebuilt(failure))


def test_a_file_that_is_not_here(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    failure = broken_at(path)
    path.unlink()
    linecache.checkcache()
    text = text_of(showing.rebuilt(failure))
    assert f'  File "{path} (not here)", line 3, in broken\n' in text
    assert "    return 1 // (n - n)  # as it ran\n" in text


def test_two_versions_of_a_file_have_two_names(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    one = broken_at(path)
    other = broken_at(path, PROGRAM.replace("as it ran", "as it ran later"))
    path.write_text("")
    linecache.checkcache()
    errors = [showing.rebuilt(one), showing.rebuilt(other)]
    first, second = map(text_of, errors)
    assert "as it ran\n" in first
    assert f"{path} (changed since, 2)" in second
    assert "as it ran later\n" in second


def test_a_module_that_lies_elsewhere_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    failure = broken_at(there / "moved_away.py")
    (there / "moved_away.py").rename(here / "moved_away.py")
    linecache.checkcache()
    monkeypatch.syspath_prepend(here)
    assert f'"{here / "moved_away.py"}", line 3' in text_of(showing.rebuilt(failure))


def test_text_that_is_known_only_here_is_shown(tmp_path: Path) -> None:
    """A node may have no text of a function that came by value."""
    path = tmp_path / "program.py"
    failure = broken_at(path)
    record = trails.opened(failure.trails)
    assert record is not None
    for file in record.files:
        file.lines.clear()
    failure.trails = trails.packed(record)
    assert "# as it ran\n           ~~^^~~~~~~~~\n" in text_of(showing.rebuilt(failure))


def test_dash_c_and_what_it_executes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are `<string>`."""
    program = "def own(n):\n    return inner(n)\n"
    names: dict[str, Any] = {}
    for text in (program, "def inner(n):\n    return 1 // (n - n)\n"):
        exec(compile(text, "<string>", "exec", dont_inherit=True), names)
    living = opening.Living(sources={"__main__": Source(program, "<string>")})
    monkeypatch.setattr(opening, "_living", living)
    monkeypatch.setitem(
        linecache.cache, "<string>", (len(program), None, program.splitlines(True), "<string>")
    )
    failure = sent(raised_by(names["own"]))
    assert failure.traceback.count("return inner(n)") == 1
    monkeypatch.delitem(linecache.cache, "<string>")
    frames = traceback.extract_tb(showing.rebuilt(failure).__traceback__)
    assert [(frame.filename, frame.line) for frame in frames] == [
        ("<string> (python -c)", "return inner(n)"),
        ("<string>", ""),
    ] or sys.version_info >= (3, 13)


# ---------------------------------------------------------------- who looks at it


def test_a_debugger_walks_through_it() -> None:
    error = showing.rebuilt(sent(raised_by(raising.plain)))
    out = io.StringIO()
    debugger = pdb.Pdb(
        stdin=io.StringIO("where\nlist\nargs\np 1 + 1\nup\nll\ndown\nquit\n"), stdout=out
    )
    debugger.reset()
    debugger.interaction(None, error.__traceback__)
    said = out.getvalue()
    assert "-> return 1 / (n - n)" in said
    assert "->\t    return 1 / (n - n)" in said
    assert 'sizes = {"a": n}' in said
    assert "\n2\n" in said.replace("(Pdb) ", "")


def test_frames_hold_nothing_of_who_made_them() -> None:
    error = showing.rebuilt(sent(raised_by(raising.plain)))
    found = list(ours.frames_of(error.__traceback__))
    assert [frame.tb_frame.f_code.co_name for frame in found] == ["plain", "deep"]
    for frame in found:
        assert frame.tb_frame.f_back is None
        assert frame.tb_frame.f_locals == {}
        assert frame.tb_frame.f_lineno == frame.tb_lineno
        frame.tb_frame.clear()
    traceback.clear_frames(error.__traceback__)


def test_the_excepthook_of_python_prints_it(capfd: pytest.CaptureFixture[str]) -> None:
    local = raised_by(raising.from_another)
    error = showing.rebuilt(sent(local))
    sys.__excepthook__(type(local), local, local.__traceback__)
    expected = capfd.readouterr().err
    sys.__excepthook__(type(error), error, error.__traceback__)
    assert capfd.readouterr().err == NODE + DIRECT + expected


# ---------------------------------------------------------------- bounds, and liars


def test_a_long_way_is_told_by_its_ends() -> None:
    source = "".join(f"def f{i}(n):\n    return f{i + 1}(n)\n" for i in range(700))
    names: dict[str, Any] = {}
    exec(source + "def f700(n):\n    return 1 // (n - n)\n", names)
    failure = sent(raised_by(names["f0"]))
    assert len(failure.trails) <= limits.TRAILS_OCTETS_MAX
    assert len(failure.traceback) <= limits.TRACEBACK_CHARS_MAX
    text = "".join(traceback.format_exception(showing.rebuilt(failure)))
    assert "in f0\n" in text
    assert "in f700\n" in text


def test_a_huge_group_is_told_as_text() -> None:
    def task(n: int) -> None:
        raise ExceptionGroup("many", [ValueError(i) for i in range(500)])

    there = showing.rebuilt(sent(raised_by(task)))
    assert isinstance(there, ExceptionGroup)
    assert len(there.exceptions) == 500
    assert isinstance(there.__cause__, RemoteTraceback)
    assert "many (500 sub-exceptions)" in str(there.__cause__)


def record_of(**changes: Any) -> bytes:
    failure = sent(raised_by(raising.plain))
    record: Any = msgspec.msgpack.decode(failure.trails)
    place = record[2][0][1][0]
    for name, value in changes.items():
        place[trails.Place.__struct_fields__.index(name)] = value
    return msgspec.msgpack.encode(record)


@pytest.mark.parametrize(
    "blob",
    [
        b"garbage",
        b"\x90",
        b"\x91" * 5000,
        b"\x00" * (limits.TRAILS_OCTETS_MAX + 1),
        record_of(file=77),
        record_of(line=2**40),
        record_of(line=-1),
        record_of(times=10**9),
        record_of(name=7),
        record_of(column=-7),
    ],
)
def test_what_cannot_be_used_leaves_the_text(blob: bytes) -> None:
    failure = sent(raised_by(raising.plain))
    failure.trails = blob
    there = showing.rebuilt(failure)
    assert type(there) is ZeroDivisionError
    assert there.__traceback__ is None
    assert "in deep" in str(there.__cause__)


@pytest.mark.parametrize(
    "blob",
    [
        record_of(line=2**31 - 2),
        record_of(line=0, first=0),
        record_of(first=2**31 - 2),
        record_of(end_line=1),
        record_of(column=10**6, end_column=2),
        record_of(end_column=2**31 - 2),
        record_of(times=4000),
        record_of(name=""),
    ],
)
def test_lies_that_do_no_harm(blob: bytes) -> None:
    failure = sent(raised_by(raising.plain))
    failure.trails = blob
    assert "ZeroDivisionError" in "".join(traceback.format_exception(showing.rebuilt(failure)))


def test_the_text_of_lines_that_ran_elsewhere_is_bounded() -> None:
    names = [
        lines.name_for(f"/far/{i}.py", "not here", {i + 1: "x", 10**9: "y"}) for i in range(200)
    ]
    assert names[-1] in linecache.cache
    assert names[0] not in linecache.cache
    assert linecache.getline(names[-1], 200) == "x\n"
    assert sum(name in linecache.cache for name in names) == lines.NAMES_MAX


def test_several_places_together_are_bounded() -> None:
    failure = sent(raised_by(raising.plain))
    record = trails.opened(failure.trails)
    assert record is not None
    for place in record.trails[0].places:
        place.times = trails.FRAMES_MAX
    failure.trails = trails.packed(record)
    assert trails.opened(failure.trails) is None
    assert "in deep" in str(showing.rebuilt(failure).__cause__)


def test_an_older_peer_sends_none() -> None:
    failure = sent(raised_by(raising.plain))
    old = msgspec.msgpack.encode(failure)
    before = Failure.__struct_fields__.index("trails")
    fields: list[Any] = msgspec.msgpack.decode(old)[:before]
    there = showing.rebuilt(msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Failure))
    assert "in deep" in str(there.__cause__)


def test_a_node_that_knows_no_columns_brings_no_carets() -> None:
    """`python -X no_debug_ranges`."""
    failure = sent(raised_by(raising.plain))
    record = trails.opened(failure.trails)
    assert record is not None
    for place in record.trails[0].places:
        place.column = place.end_column = -1
    failure.trails = trails.packed(record)
    text = text_of(showing.rebuilt(failure))
    assert "    return 1 / (n - n)\n" in text
    assert "^" not in text
