"""Programs as users write them: files in a directory of their own, run by an interpreter of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 100.0
"""Only ever reached by a defect."""


def killed(pid: int) -> bool:
    """Kill a process of the mesh. False: it has ended since it was named (a worker too many, one already killed)."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def environment() -> dict[str, str]:
    """Ours can be imported, and nothing else that this test run can."""
    roots = [str(ROOT / room) for room in ("protocol", "engine", "nodes")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}


def write(directory: Path, **files: str) -> None:
    """`pkg__tool="..."` is the file pkg/tool.py, `pkg__="..."` is pkg/__init__.py."""
    for name, text in files.items():
        package, _, module = name.rpartition("__")
        path = directory.joinpath(*package.split("__"), f"{module or '__init__'}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def run(directory: Path, text: str, *flags: str, stdin: str | None = None) -> str:
    """What the program prints. It must end well."""
    write(directory, program=text)
    return finish(directory, str(directory / "program.py"), *flags, stdin=stdin)


def finish(directory: Path, *argv: str, stdin: str | None = None) -> str:
    done = ended(directory, *argv, stdin=stdin)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def ended(
    directory: Path, *argv: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A run of the interpreter, however it ends."""
    return subprocess.run(
        [sys.executable, *argv],
        cwd=directory,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
