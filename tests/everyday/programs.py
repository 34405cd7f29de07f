"""Small programs as users write them: written to a file, run by an interpreter of their own, watched."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORKS_ARE_MEANT = "-Wignore:This process:DeprecationWarning"
"""Python 3.12 and later warn of a fork in a program with threads."""
PATIENCE_SECONDS = 90.0
"""Only ever reached by a defect."""


def run(
    text: str,
    directory: Path,
    *,
    flags: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Its text goes into a file, so that it has a directory of its own."""
    argv = [sys.executable, *flags, str(write(text, directory))]
    return subprocess.run(
        argv,
        cwd=cwd or directory,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        **more,
    )


def start(text: str, directory: Path, **more: Any) -> subprocess.Popen[str]:
    """Start a program whose lines the test reads."""
    return subprocess.Popen(
        [sys.executable, str(write(text, directory))],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


def write(text: str, directory: Path) -> Path:
    path = directory / "program.py"
    path.write_text(textwrap.dedent(text))
    return path


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
