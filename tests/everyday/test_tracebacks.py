"""What programs print of their tasks' errors, beside what they print of local calls.

Each program asks itself: it calls the function, has the mesh call it, and compares the two texts.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .running import PATIENCE_SECONDS, ended, environment, finish, run, write

pytestmark = pytest.mark.real

COMPARE = r"""
import re, traceback

RAN = re.compile(
    r"stealmesh_protocol.errors.RemoteTraceback: this ran on node .*\n"
    r"(for a task that ran on node .*\n)?\n"
    r"The above exception was the direct cause of the following exception:\n\n"
)


def printed(error, name):
    '''What is printed of it, from the first frame of this function on.'''
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_name != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(error.with_traceback(trace)))


def frames(error):
    trace = traceback.extract_tb(error.__traceback__)
    return [frame.name for frame in trace]


def raised(call, *args):
    try:
        call(*args)
    except BaseException as error:
        return error


def compare(name, here, there, ran=1):
    '''The error of a local call, and that of a task.'''
    here = printed(here, name)
    there, found = RAN.subn("", printed(there, name))
    if found != ran:
        print(f"{name}: it says {found} times where it ran")
    if re.sub(r"repeated \d+ more", "repeated", there) != re.sub(r"repeated \d+ more", "repeated", here):
        print(f"{name}:\n{there}\nbut here:\n{here}")
"""

HELPER = """
import json

def deep(n):
    return 1 / (n - n)

def library(n):
    return json.loads("{" * n)
"""

PROGRAM = """
import asyncio, functools, os, sys
import stealmesh, helper
from compare import compare, frames, raised

def plain(n):
    sizes = {"a": n}
    return helper.deep(sizes["a"]) + sizes["b"]

def chained(n):
    try:
        plain(n)
    except ZeroDivisionError as error:
        raise ValueError("outer") from error

def handling(n):
    try:
        chained(n)
    except ValueError:
        raise KeyError("outermost")

def from_none(n):
    try:
        plain(n)
    except ZeroDivisionError:
        raise ValueError("outer") from None

def grouped(n):
    errors = []
    for way in (plain, handling, helper.library):
        try:
            way(n)
        except Exception as error:
            error.add_note(f"note of {way.__name__}")
            errors.append(error)
    raise ExceptionGroup("several", errors)

class Own(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")

def own(n):
    raise Own(n, "because")

def syntax(n):
    compile("a = (1,\\n b = 3", "foo.py", "exec")

def endless(n):
    return endless(n + 1)

def ends(n):
    sys.exit(f"no {n}")

exec("def executed(n):\\n    return helper.deep(n)\\n")

async def waits(n):
    await asyncio.sleep(0)
    return await waits_on(n)

async def waits_on(n):
    return plain(n)

class Actor:
    def go(self, n):
        return plain(n)

def same(n):
    return n

def combine(program, is_there, a, b):
    return a / (b - b) if (os.getpid() != program) is is_there else b

def mapped(n):
    return n if n < 5 else plain(n)

def asks(n):
    return stealmesh.here().submit(plain, n).result()

def asks_twice(n):
    call = stealmesh.here().submit(plain, n)
    try:
        call.result()
    except ZeroDivisionError:
        pass
    call.result()

ways = (
    plain, chained, handling, from_none, grouped, own, syntax, endless, ends, executed, helper.library
)
if __name__ == "__main__":
    with stealmesh.Mesh(workers=2) as mesh:
        for way in ways:
            compare(way.__name__, raised(way, 3), mesh.submit(way, 3).exception())
        compare("waits", raised(asyncio.run, waits(3)), mesh.submit(waits, 3).exception())
        with mesh.actor(Actor) as actor:
            compare("go", raised(Actor().go, 3), actor.go(3).exception())
        for is_there, chunksize in ((True, 50), (False, 1)):
            fold = functools.partial(combine, os.getpid(), is_there)
            error = mesh.options(chunksize=chunksize).map_reduce(same, range(100), fold).exception()
            if (names := frames(error)) != ["combine"]:
                print(names)
            here = raised(combine, 0, True, 1, 2)
            compare("combine", here, error, ran=int(is_there))
        compare("mapped", raised(mapped, 5), raised(list, mesh.map(mapped, range(9))))
        compare("plain", raised(plain, 3), mesh.submit(asks, 3).exception())

        async def awaits():
            await mesh.submit(plain, 3)
        compare("plain", raised(plain, 3), raised(asyncio.run, awaits()))
        again = mesh.submit(plain, 3)
        for _ in range(3):
            error = raised(again.result)
        if (names := frames(error)) != ["raised", "result", "plain", "deep"]:
            print(names)
        if (names := frames(mesh.submit(asks, 3).exception())) != ["asks", "plain", "deep"]:
            print(names)
        error = mesh.submit(asks_twice, 3).exception()
        if (names := frames(error)) != ["asks_twice", "plain", "deep"]:
            print(names)
        here = raised(handling, 3)
        try:
            {}["handled just now"]
        except KeyError:
            compare("handling", here, raised(mesh.submit(handling, 3).result))
"""


def ask(directory: Path, text: str, *flags: str) -> None:
    """Run the program. It prints nothing if all is well."""
    write(directory, compare=COMPARE, helper=HELPER)
    said = run(directory, text, *flags)
    assert not said, said


def test_they_read_like_local_calls(tmp_path: Path) -> None:
    ask(tmp_path, PROGRAM)


UNCAUGHT = """
import sys, helper

def plain(n):
    return helper.deep(n) + 1

def handling(n):
    try:
        plain(n)
    except ZeroDivisionError:
        raise KeyError("outermost")

if __name__ == "__main__":
    if "here" in sys.argv:
        handling(3)
    else:
        import stealmesh
        with stealmesh.Mesh(workers=1) as mesh:
            mesh.submit(handling, 3).result()
"""


def test_one_that_is_not_caught(tmp_path: Path) -> None:
    """Python's own printing, which reads files itself."""
    write(tmp_path, helper=HELPER, program=UNCAUGHT)
    here, there = (ends_badly(tmp_path, "program.py", where) for where in ("here", "there"))
    assert there.count("this ran on node") == 1
    there = there.partition("the following exception:\n\n")[2]
    ours = r'  File ".*futures.py", line \d+, in result\n    raise error\n'
    assert len(re.findall(ours, there)) == 1
    lines = re.sub(ours, "", there).splitlines()
    expected = here.splitlines()
    called = [n for n, line in enumerate(lines) if ", in <module>" in line]
    assert [line for line in lines if line in expected] == [
        line for line in expected if "in <module>" not in line and line != "    handling(3)"
    ]
    assert lines[called[0] + 1] == "    mesh.submit(handling, 3).result()"


def ends_badly(directory: Path, *argv: str) -> str:
    done = ended(directory, *argv)
    assert done.returncode == 1, done.stderr
    return done.stderr


WITHOUT_A_FILE = """
import stealmesh, linecache, traceback, re
def own(n):
    return executed(n)  # own line
exec("def executed(n):\\n    return cell(n)\\n")
text = "def cell(n):\\n    return input_cell(n)  # in a cell\\n"
name = "/tmp/ipykernel_77/123.py"
linecache.cache[name] = (len(text), None, text.splitlines(True), name)
exec(compile(text, name, "exec"))
text = "def input_cell(n):\\n    return 1 // (n - n)  # in another\\n"
name = "<ipython-input-2-abc>"
linecache.cache[name] = (len(text), None, text.splitlines(True), name)
exec(compile(text, name, "exec"))
with stealmesh.Mesh(workers=1) as mesh:
    error = mesh.submit(own, 3).exception()
    for frame in traceback.extract_tb(error.__traceback__):
        print(frame.filename, frame.lineno, frame.name, frame.line, frame.colno, sep=" | ")
"""


@pytest.mark.parametrize(
    "way", ["-c", *(pytest.param(each, marks=pytest.mark.slow) for each in ("-", "file"))]
)
def test_code_without_a_file(way: str, tmp_path: Path) -> None:
    """`python -c`, standard input, executed strings, cells of notebooks and of IPython."""
    if way == "file":
        said = run(tmp_path, WITHOUT_A_FILE)
    else:
        given = (way, WITHOUT_A_FILE) if way == "-c" else (way,)
        said = finish(tmp_path, *given, stdin=WITHOUT_A_FILE if way == "-" else None)
    name, text = {
        "-c": ("<string> (python -c)", "return executed(n)  # own line"),
        "-": ("<stdin>", ""),  # its text is gone, also for Python
        "file": (str(tmp_path / "program.py"), "return executed(n)  # own line"),
    }[way]
    if sys.version_info < (3, 13):
        assert said.splitlines() == [
            f"{name} | 4 | own | {text} | 11",
            "<string> | 2 | executed |  | 11",
            "/tmp/ipykernel_77/123.py | 2 | cell | return input_cell(n)  # in a cell | 11",
            "<ipython-input-2-abc> | 2 | input_cell | return 1 // (n - n)  # in another | 11",
        ]
    assert "dynamic" not in said


EDITED = """
import stealmesh, traceback, pathlib, edited
with stealmesh.Mesh(workers=1) as mesh:
    call = mesh.submit(edited.broken, 3)
    pathlib.Path(edited.__file__).write_text("# another\\n" * 9)
    traceback.print_exception(call.exception())
"""


@pytest.mark.slow
def test_a_file_that_is_edited_after_the_submit(tmp_path: Path) -> None:
    text = "def broken(n):\n    return 1 // (n - n)  # as it ran\n"
    write(tmp_path, edited=text, program=EDITED)
    done = ended(tmp_path, "program.py")
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert f'File "{tmp_path}/edited.py (changed since)", line 2, in broken\n' in said
    assert "    return 1 // (n - n)  # as it ran\n           ~~^^~~~~~~~~\n" in said
    assert "another" not in said


LAUNCHES = """
import stealmesh
def broken(n):
    return 1 // (n - n)  # only here
with stealmesh.Mesh(nodes=2, workers=1) as mesh:
    job = mesh.launch(broken, range(2))
    job.wait()
    print(mesh.address, mesh.key_file, job.id, flush=True)
    input()
"""
ATTACHES = """
import sys, traceback, stealmesh
address, key_file, job = sys.argv[1:]
with stealmesh.Mesh(address, key=key_file) as mesh:
    for _, error in mesh.attach(job).errors():
        traceback.print_exception(error)
"""


def test_another_program_that_has_no_such_file(tmp_path: Path) -> None:
    """It reads the errors of a durable job."""
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, launches=LAUNCHES)
    write(other, attaches=ATTACHES)
    first = subprocess.Popen(
        [sys.executable, "launches.py"],
        cwd=one,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    words = first.stdout.readline().split()
    (one / "launches.py").unlink()
    second = ended(other, "attaches.py", *words)
    first.communicate("\n", timeout=PATIENCE_SECONDS)
    assert second.returncode == 0, second.stderr
    frame = f'File "{one}/launches.py (not here)", line 4, in broken\n'
    line = "    return 1 // (n - n)  # only here\n           ~~^^~~~~~~~~\n"
    assert second.stderr.count(f"  {frame}{line}") == 2, second.stderr


def test_the_command_line_prints_them_beside_its_lines(tmp_path: Path) -> None:
    write(tmp_path, helper=HELPER, work="from helper import deep\n")
    done = ended(tmp_path, "-m", "stealmesh", "run", "work:deep", "--items", "0:9", "--local")
    assert done.returncode == 1
    assert all(line.startswith('{"index": ') for line in done.stdout.splitlines())
    assert "    return 1 / (n - n)\n           ~~^~~~~~~~~\nZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stdout
    assert done.stderr.count("Traceback") <= 5
    assert "8 more items failed" in done.stderr
