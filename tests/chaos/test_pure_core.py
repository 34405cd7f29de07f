"""A stage looks into the methods of the core, which native code would not show it: it plays on the pure one."""

from __future__ import annotations

import os

import pytest

from stealmesh.host.core_in_use import COMPILED
from stealmesh_bench.chaos import command


class Replaced(Exception):
    """The process would be another program now."""


def test_the_compiled_core_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[list[str], str]] = []

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        told.append((words, environment["STEALMESH_PURE"]))
        raise Replaced

    monkeypatch.setattr(command, "core_in_use", lambda: COMPILED)
    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Replaced):
        command.main(["--sim", "--nodes", "16"])
    assert told[0][0][1:] == ["-m", "stealmesh_bench.chaos", "--sim", "--nodes", "16"]
    assert told[0][1] == "1"
