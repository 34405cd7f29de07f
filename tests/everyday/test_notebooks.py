"""What a notebook shows of a mesh, a job, a future and progress; the cell of a bar. Without IPython: a module
of the same name stands in for it."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import stealmesh
from stealmesh.client.durable_job import Progress
from stealmesh.notebook import card, cell, looks
from stealmesh.progress import Bar

from .running import PATIENCE_SECONDS as PATIENCE

NASTY = "<script>alert('x')</script>&\"quoted\""


def same(x: Any) -> Any:
    return x


def waits_for(path: str) -> str:
    while not Path(path).exists():
        threading.Event().wait(0.01)
    return path


def holds_the_last(path: str, x: int) -> int:
    if x == 49:
        waits_for(path)
    return x


class Reader(HTMLParser):
    """Reads HTML, and finds what a strict reader would stumble over."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("href", "src", "class", "id"), "it needs nothing from elsewhere"
            assert "url(" not in (value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words_of(html: str) -> str:
    found = Reader(html)
    assert found.tags <= {"div", "b", "span", "table", "thead", "tbody", "tr", "th", "td"}
    return " ".join(" ".join(found.words).split())


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as opened:
        yield opened


# ---------------------------------------------------------------- looks


def test_a_mesh_says_its_nodes_and_its_work(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    held = mesh.options(name=NASTY).map(waits_for, [str(tmp_path / "go")])
    words = words_of(mesh._repr_html_())
    assert "stealmesh.Mesh open" in words
    assert "2 workers" in words
    assert "local-0" in words
    assert NASTY in words, "as text, and not as HTML"
    (tmp_path / "go").touch()
    assert list(held) == [str(tmp_path / "go")]


def test_a_closed_mesh_says_so_and_its_futures_stay() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        future = mesh.submit(same, 3)
        job = mesh.launch(same, range(3))
        assert future.result(PATIENCE) == 3
        job.wait(PATIENCE)
    words = words_of(mesh._repr_html_())
    assert "closed" in words
    assert "shut down" in words
    assert "returned int" in words_of(future._repr_html_())
    assert "3 of 3" in words_of(job._repr_html_())


def test_a_future_tells_its_state_and_opens_nothing(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    future = mesh.submit(waits_for, str(tmp_path / "go"))
    words = words_of(future._repr_html_())
    assert "stealmesh.Future of" in words
    assert "waits_for" in words
    assert "pending" in words or "running" in words
    (tmp_path / "go").touch()
    assert future.exception(PATIENCE) is None
    assert "returned str" in words_of(future._repr_html_())
    failed = mesh.submit(int, NASTY)
    failed.exception(PATIENCE)
    words = words_of(failed._repr_html_())
    assert "raised ValueError" in words
    assert "alert" not in words, "an exception's own words may run its code"
    unread = mesh.submit(same, [1])
    while not unread.done():
        threading.Event().wait(0.01)
    if unread._parcel is not None:
        assert "not opened yet" in words_of(unread._repr_html_())
    assert unread.result(PATIENCE) == [1]


def test_a_job_and_its_progress(mesh: stealmesh.Mesh) -> None:
    job = mesh.options(name=NASTY).launch(same, range(5))
    assert job.id[:12] in words_of(job._repr_html_()), "also before a node has told of it"
    job.wait(PATIENCE)
    words = words_of(job._repr_html_())
    assert f"{NASTY} · done" in words
    assert "5 of 5" in words
    assert "5 of 5" in words_of(job.progress()._repr_html_())
    half = Progress(1500, 3000, 2, 7, 100.0, 15.0)
    html = half._repr_html_()
    assert 'aria-valuenow="50"' in html
    assert "width:50.0%" in html
    words = words_of(html)
    for each in ("1,500 of 3,000", "100.0 a second", "0:15 left", "2 failed", "7 running"):
        assert each in words


def test_nothing_waits(mesh: stealmesh.Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """All locks are held by another thread, and no node is asked."""
    future, job = mesh.submit(same, 3), mesh.launch(same, range(3))
    job.wait(PATIENCE)
    monkeypatch.setattr(mesh._link, "ask_status", lambda: pytest.fail("it asks"))
    drawn: list[str] = []
    locks = [mesh._link.condition, job._changed, mesh._submitted.lock]

    def draw() -> None:
        drawn.extend(thing._repr_html_() for thing in (mesh, future, job))

    for lock in locks:
        lock.acquire()  # type: ignore[attr-defined]
    try:
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join(PATIENCE)
    finally:
        for lock in locks:
            lock.release()  # type: ignore[attr-defined]
    assert len(drawn) == 3
    assert all("cannot be shown" not in html for html in drawn)


def test_nothing_raises() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    class Restless:
        reads = 0

        @property
        def failed(self) -> int:
            self.reads += 1
            raise RuntimeError("dictionary changed size during iteration")

    ways: list[Callable[[Any], str]] = [looks.mesh, looks.job, looks.future, looks.progress]
    for look in ways:
        assert "cannot be shown: KeyError" in words_of(looks.html_of(look, Broken()))
    restless = Restless()
    assert "too quickly" in words_of(looks.html_of(looks.progress, restless))
    assert restless.reads == looks.READS_MAX


def test_what_is_shown_has_a_bound() -> None:
    html = card.table(("n",), ((f"{n} {'x' * 10_000}",) for n in range(1000)))
    assert len(html) < 20_000
    assert "and 980 more" in words_of(html)
    assert 'aria-valuenow="100"' in card.bar(7, 3, "more than all")
    assert "aria-valuenow" not in card.bar(7, None, "of an unknown number")


# ---------------------------------------------------------------- the cell


class Display:
    """What IPython's `display` does with a display id."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.outputs = 0
        self.gone = False

    def __call__(self, thing: Any, *, display_id: bool) -> Display:
        assert display_id is True
        self.outputs += 1
        self.shown.append(thing)
        return self

    def update(self, thing: Any) -> None:
        if self.gone:
            raise RuntimeError("no kernel")
        self.shown.append(thing)

    @property
    def last(self) -> str:
        assert repr(self.shown[-1]).startswith("bar: ")
        return words_of(self.shown[-1]._repr_html_())


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    made = Display()
    ipython, its_display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    its_display.display = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", its_display)
    return made


def test_a_map_moves_one_cell(
    mesh: stealmesh.Mesh, display: Display, capfd: pytest.CaptureFixture[str]
) -> None:
    view = mesh.options(progress=True, name="bar")
    assert list(view.map(same, range(50))) == list(range(50))
    assert display.outputs == 1
    assert "50 of 50" in display.last
    assert view.map_reduce(same, range(50), max).result(PATIENCE) == 49
    assert display.outputs == 2
    assert "50 of 50" in display.last
    assert "stopped" not in display.last
    assert capfd.readouterr().err == "", "nothing is drawn beside it"


def test_a_bar_that_was_left_says_so_and_moves_no_more(
    mesh: stealmesh.Mesh, display: Display, tmp_path: Path
) -> None:
    view = mesh.options(progress=True, name="bar", chunksize=1)
    go = tmp_path / "go"

    def reads() -> None:
        for x in view.map(functools.partial(holds_the_last, str(go)), range(50)):
            if x == 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reads()
    go.touch()
    assert "stopped" in display.last
    assert " of 50" in display.last
    before = len(display.shown)
    assert list(view.map(same, range(3))) == [0, 1, 2]
    assert display.outputs == 2, "the next one has a cell of its own"
    assert "3 of 3" in display.last
    assert len(display.shown) > before


def test_an_error_ends_the_bar(mesh: stealmesh.Mesh, display: Display) -> None:
    view = mesh.options(progress=True, name="bar")
    with pytest.raises(ZeroDivisionError):
        list(view.map((1).__floordiv__, [1, 0]))
    assert "stopped" in display.last
    with pytest.raises(ZeroDivisionError):
        view.map_reduce((1).__floordiv__, [1, 0], max).result(PATIENCE)
    for _ in range(1000):
        if "stopped" in display.last:
            break
        threading.Event().wait(PATIENCE / 1000)
    assert "stopped" in display.last


def test_a_front_end_that_is_gone_does_no_harm(display: Display) -> None:
    bar = Bar("bar")
    display.gone = True
    for done in range(3):
        bar(done, 3)
    bar.close()
    bar(3, 3)
    assert display.outputs == 1


def test_who_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert cell.notebook() is None
    ipython = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert cell.notebook() is None, "it is only half imported"
    for shell in (None, SimpleNamespace()):
        ipython.get_ipython = lambda shell=shell: shell  # type: ignore[attr-defined]
        assert cell.notebook() is None, "IPython in a terminal, or merely imported"
