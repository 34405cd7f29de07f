"""The thread that shows what tasks print: it ends with its mesh, and no stream of the program's can stop it."""

from __future__ import annotations

import io
import sys
import threading

import pytest
from tests.patience import until

from stealmesh.client.printer import Printer
from stealmesh_engine.effects import JobPrinted


def line(text: str, item: int = 0) -> JobPrinted:
    return JobPrinted(bytes(20), "n1", [(item, item + 1, f"{text}\n".encode(), 0)])


def showing() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "stealmesh-output"]


def test_no_thread_outlives_its_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opens a mesh for each of its requests would run out of threads."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = len(showing())
    for number in range(20):
        one = Printer()
        one.show(line(str(number)))
        one.finish()
    until(lambda: len(showing()) == before)
    assert stream.getvalue().split("\n")[:-1] == [f"[n1 item 0] {n}" for n in range(20)]


def test_what_comes_after_the_end_is_shown_and_its_thread_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = len(showing())
    one = Printer()
    one.finish()
    one.show(line("late"))
    until(lambda: len(showing()) == before and "late" in stream.getvalue())


class Raises(io.StringIO):
    """A stream of the program's that fails once."""

    def __init__(self, error: Exception, method: str) -> None:
        super().__init__()
        self.failed = False

        def fails(*_: object) -> int:
            setattr(self, method, getattr(io.StringIO, method).__get__(self))
            self.failed = True
            raise error

        setattr(self, method, fails)


@pytest.mark.parametrize("method", ["write", "flush"])
@pytest.mark.parametrize(
    "error", [RuntimeError("no"), TypeError("no"), KeyError(1), BrokenPipeError(32, "gone")]
)
def test_a_stream_that_raises_stops_no_later_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, method: str
) -> None:
    stream = Raises(error, method)
    monkeypatch.setattr(sys, "stderr", stream)
    one = Printer()
    one.show(line("first"))
    until(lambda: stream.failed)
    one.show(line("second"))
    until(lambda: "second" in stream.getvalue())
    assert "(1 line could not be shown)" in stream.getvalue()
    one.finish()
    until(lambda: not showing())
