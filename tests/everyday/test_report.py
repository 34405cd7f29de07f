"""`stealmesh.report(done, total)`: tasks say how far they are, and the program, bars and `status` show it.

A task that has spoken stays until a file says that its word was seen, so no test goes by the clock.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stealmesh
from stealmesh.progress import Bar
from stealmesh.workers import reporting

PATIENCE = 60.0


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as mesh:
        yield mesh


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    return tmp_path / "seen"


def stays_until(file: str) -> None:
    until = time.monotonic() + PATIENCE
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.01)


class Heard:
    """Keeps what it is told, and lets the tasks go once it has `enough`."""

    def __init__(self, seen: Path, enough: set[Any] | None = None) -> None:
        self.words: list[Any] = []
        self.threads: set[str] = set()
        self.seen, self.enough = seen, enough

    def __call__(self, index: int, done: float, total: float | None) -> None:
        self.words.append((index, done, total))
        self.threads.add(threading.current_thread().name)
        if self.enough is not None and self.enough <= set(self.words):
            self.seen.touch()


def test_the_program_hears_of_each_running_item(mesh: stealmesh.Mesh, seen: Path) -> None:
    file = str(seen)

    def halfway(x: int) -> int:
        stealmesh.report(x + 1, 4)
        stays_until(file)
        return x

    heard = Heard(seen, {(0, 1, 4), (1, 2, 4)})
    assert list(mesh.options(report=heard).map(halfway, range(2))) == [0, 1]
    assert {(0, 1, 4), (1, 2, 4)} <= set(heard.words)
    assert heard.threads <= {"stealmesh-callbacks"}, "never in the mesh's own thread"


def test_the_last_word_wins_and_few_travel(mesh: stealmesh.Mesh, seen: Path) -> None:
    """Ten thousand words in a row, then silence: the last one is heard while the task still runs."""
    file = str(seen)

    def counts(total: int) -> int:
        for done in range(1, total + 1):
            stealmesh.report(done, total)
        stays_until(file)
        return total

    heard = Heard(seen, {(0, 10_000, 10_000)})
    future = mesh.options(report=heard).submit(counts, 10_000)
    assert future.result(PATIENCE) == 10_000
    assert seen.exists(), "it was the word that let the task go"
    assert heard.words[-1] == (0, 10_000, 10_000)
    assert len(heard.words) < 100


def test_the_last_word_of_a_short_item_is_heard(mesh: stealmesh.Mesh) -> None:
    def quick(x: int) -> None:
        stealmesh.report(1, 3)
        stealmesh.report(2, 3)
        stealmesh.report(3, 3)

    last = threading.Event()

    def hear(index: int, done: float, total: float | None) -> None:
        if done == total == 3:
            last.set()

    mesh.options(report=hear).submit(quick, 1).result(PATIENCE)
    assert last.wait(PATIENCE)


def test_without_a_total(mesh: stealmesh.Mesh, seen: Path) -> None:
    file = str(seen)

    def unknown(x: int) -> None:
        stealmesh.report(0.5)
        stays_until(file)

    heard = Heard(seen, {(0, 0.5, None)})
    mesh.options(report=heard).submit(unknown, 1).result(PATIENCE)
    assert (0, 0.5, None) in heard.words


def test_a_thread_and_a_coroutine_of_the_task_may_speak(mesh: stealmesh.Mesh, seen: Path) -> None:
    import asyncio

    file = str(seen)

    def spreads(x: int) -> None:
        async def aside() -> None:
            await asyncio.to_thread(stealmesh.report, 1, 2)

        asyncio.run(aside())
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(stealmesh.report, 2, 2)
        )
        thread.start()
        thread.join()
        stays_until(file)

    heard = Heard(seen, {(0, 2, 2)})
    mesh.options(report=heard).submit(spreads, 1).result(PATIENCE)
    assert (0, 2, 2) in heard.words


def test_a_thread_that_outlives_its_task_harms_no_result(mesh: stealmesh.Mesh) -> None:
    """It shares the stream with results: a word in the middle of one would end the worker."""

    def leaves_a_thread(x: int) -> bytes:
        def goes_on() -> None:
            for done in range(200_000):
                stealmesh.report(done)

        threading.Thread(target=goes_on, daemon=True).start()
        return bytes(500_000)

    results = [mesh.submit(leaves_a_thread, x) for x in range(40)]
    assert all(len(result.result(PATIENCE)) == 500_000 for result in results)
    status = mesh.status()
    assert not status["counters"].get("workers-lost")


def test_a_thread_that_outlives_its_task_does_not_speak_for_the_next(seen: Path) -> None:
    """Who looks at the next task would see how far the last one is."""
    file = str(seen)

    def leaves_a_thread(x: int) -> int:
        spoke = threading.Event()

        def goes_on() -> None:
            while not Path(file).exists():
                stealmesh.report(100 + x, 1000)
                spoke.set()

        threading.Thread(target=goes_on, daemon=True).start()
        spoke.wait(PATIENCE)
        return x

    def speaks_twice(x: int) -> int:
        stealmesh.report(1, 4)
        time.sleep(0.6)  # the other thread has its turn, if it has any
        stealmesh.report(2, 4)
        stays_until(file)
        return x

    heard: list[tuple[int, float, float | None]] = []
    with stealmesh.Mesh(workers=1) as mesh:
        assert list(mesh.map(leaves_a_thread, range(3))) == [0, 1, 2]
        view = mesh.options(report=lambda *word: heard.append(word))
        future = view.submit(speaks_twice, 7)
        until = time.monotonic() + PATIENCE
        while (0, 2, 4) not in heard and time.monotonic() < until:
            time.sleep(0.01)
        seen.touch()
        assert future.result(PATIENCE) == 7
    assert set(heard) == {(0, 1, 4), (0, 2, 4)}


def test_status_shows_running_items_only(mesh: stealmesh.Mesh, seen: Path) -> None:
    file = str(seen)

    def slow_in_status(x: int) -> None:
        stealmesh.report(3, 4)
        stays_until(file)

    view = mesh.options(name="told-of")
    future = view.submit(slow_in_status, 1)
    until = time.monotonic() + PATIENCE
    told: list[Any] = []
    while not told and time.monotonic() < until:
        told = next(job["told"] for job in mesh.status()["jobs"] if job["name"] == "told-of")
    seen.touch()
    assert [list(word) for word in told] == [[0, 3.0, 4.0]]
    future.result(PATIENCE)
    (after,) = [job["told"] for job in mesh.status()["jobs"] if job["name"] == "told-of"]
    assert list(after) == []


def test_a_durable_job_tells_of_its_running_items(tmp_path: Path, seen: Path) -> None:
    file = str(seen)

    def half(x: int) -> int:
        stealmesh.report(1, 2)
        stays_until(file)
        return x

    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        job = mesh.launch(half, range(2))
        until = time.monotonic() + PATIENCE
        while len(job.progress().items) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert job.progress().items == {0: (1, 2), 1: (1, 2)}
        assert job.progress().done == 0
        seen.touch()
        assert job.result(PATIENCE) == [0, 1]
        with pytest.raises(ValueError, match="report"):
            mesh.options(report=print).launch(half, range(2))


def test_the_bar_moves_with_running_items(
    mesh: stealmesh.Mesh, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[float] = []

    def running(bar: Bar, items: float) -> None:
        moved.append(items)
        if items == 1.5:
            seen.touch()

    monkeypatch.setattr(Bar, "running", running)
    file = str(seen)

    def threequarters(x: int) -> int:
        stealmesh.report(3, 4)
        stays_until(file)
        return x

    assert list(mesh.map(threequarters, range(2), progress=True)) == [0, 1]
    assert 1.5 in moved


def test_a_view_with_a_bar_draws_it_for_a_map_that_does_not_say(
    mesh: stealmesh.Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    view = mesh.options(progress=True, name="barred")
    assert list(view.map(abs, range(3))) == [0, 1, 2]
    assert "barred" in capsys.readouterr().err
    assert list(mesh.map(abs, range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_outside_of_a_task_it_does_nothing() -> None:
    stealmesh.report(1, 2)
    assert not reporting.HERE.spoke


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (("1",), TypeError),
        ((None,), TypeError),
        ((-1,), ValueError),
        ((1, float("nan")), ValueError),
    ],
)
def test_what_is_no_number_raises_where_it_is_said(word: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        stealmesh.report(*word)


def test_a_callback_that_is_none_raises_at_the_call(mesh: stealmesh.Mesh) -> None:
    with pytest.raises(TypeError, match="report"):
        mesh.options(report=3)  # type: ignore[arg-type]
