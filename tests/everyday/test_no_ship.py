"""`no_ship` holds for modules of every kind: nodes use what they have, and the program's stays at home."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.test_passed_over import PATIENCE_SECONDS, Mesh

from stealmesh import CannotLoad

pytestmark = pytest.mark.real

NODES_OWN = """
WHOSE = "the node's"

def f(x):
    return x, WHOSE

class Thing:
    def __init__(self, x):
        self.x = x
    def whose(self):
        return self.x, WHOSE
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module made by hand. It holds what cannot be pickled, as such modules do."""
    module = types.ModuleType("no_ship_made")
    exec(NODES_OWN.replace("the node's", "the program's"), module.__dict__)
    monkeypatch.setitem(sys.modules, "no_ship_made", module)
    return module


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Mesh]:
    here = tmp_path / "here"
    here.mkdir()
    (here / "no_ship_made.py").write_text(NODES_OWN)
    with contextlib.closing(Mesh(here)) as mesh:
        mesh.node("with")
        yield mesh


def reaching() -> Callable[[Any], Any]:
    import no_ship_made  # type: ignore[import-not-found]

    def task(x: Any) -> Any:
        return no_ship_made.f(x)

    return task


def importing() -> Callable[[Any], Any]:
    def task(x: Any) -> Any:
        import no_ship_made

        return no_ship_made.f(x)

    return task


THEIRS = (1, "the node's")


@pytest.mark.parametrize("make", [reaching, importing, lambda: sys.modules["no_ship_made"].f])
def test_functions_that_reach_a_module_made_by_hand(
    others: Mesh, made: types.ModuleType, make: Callable[[], Any]
) -> None:
    """The program's code ran on the node, and took the place of what was there."""
    mesh = others.program()
    assert mesh.submit(make(), 1).result(PATIENCE_SECONDS) == (1, "the program's")
    out = mesh.options(no_ship=["no_ship_made"])
    assert out.submit(make(), 1).result(PATIENCE_SECONDS) == THEIRS
    assert list(out.map(make(), [1, 1])) == [THEIRS, THEIRS]
    assert mesh.submit(make(), 1).result(PATIENCE_SECONDS) == (1, "the program's")


def test_arguments_and_results_of_its_classes(others: Mesh, made: types.ModuleType) -> None:
    out = others.program().options(no_ship=["no_ship_made"])
    assert out.submit(lambda thing: thing.whose(), made.Thing(1)).result(PATIENCE_SECONDS) == THEIRS
    assert list(out.map(lambda thing: thing.whose(), [made.Thing(1)] * 3)) == [THEIRS] * 3
    assert out.submit(reaching(), 1).result(PATIENCE_SECONDS) == THEIRS, "it is as it was"
    thing = out.submit(lambda x: sys.modules["no_ship_made"].Thing(x), 1).result(PATIENCE_SECONDS)
    assert type(thing) is made.Thing


def test_what_cannot_be_pickled_in_it_does_not_matter(others: Mesh, made: types.ModuleType) -> None:
    """What is not sent need not be sendable."""
    made.lock = threading.Lock()  # type: ignore[attr-defined]
    made.thread = threading.current_thread()  # type: ignore[attr-defined]
    exec("def f(x):\n    with lock:\n        return x, WHOSE, thread.name", made.__dict__)
    out = others.program().options(no_ship=["no_ship_made"])
    assert out.submit(reaching(), 1).result(PATIENCE_SECONDS) == THEIRS
    assert out.submit(made.f, 1).result(PATIENCE_SECONDS) == THEIRS


def test_a_changed_variable_of_an_ordinary_module_stays_at_home_too(
    others: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home = tmp_path / "program"
    at_home.mkdir()
    (at_home / "no_ship_made.py").write_text(NODES_OWN)
    monkeypatch.syspath_prepend(at_home)
    import no_ship_made

    try:
        no_ship_made.WHOSE = "changed"
        mesh = others.program()
        assert mesh.submit(reaching(), 1).result(PATIENCE_SECONDS) == (1, "changed")
        out = mesh.options(no_ship=[no_ship_made])
        assert out.submit(reaching(), 1).result(PATIENCE_SECONDS) == THEIRS
    finally:
        del sys.modules["no_ship_made"]


def test_where_no_node_has_it_the_error_says_what_to_do(
    tmp_path: Path, made: types.ModuleType
) -> None:
    with contextlib.closing(Mesh(tmp_path)) as others:
        others.node("without", has=False)
        out = others.program().options(no_ship=["no_ship_made"])
        for future in (
            out.submit(made.f, 1),
            out.submit(lambda thing: thing.x, made.Thing(1)),
        ):
            error = future.exception(PATIENCE_SECONDS)
            assert isinstance(error, CannotLoad)
            assert "'no_ship_made' is not importable on node without" in str(error)
            assert "take it out of no_ship" in str(error)
