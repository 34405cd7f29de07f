"""Rule 5: a node that has another version of an installed package says so."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.test_passed_over import PATIENCE_SECONDS, Mesh
from tests.patience import until

import stealmesh
from stealmesh.client import remarks

pytestmark = pytest.mark.real

OLD, NEW = "1.2.0", "2.0.1"
MODULE = "VERSION = {version!r}\ndef double(x): return 2 * x\nclass Thing:\n    def __init__(self, x): self.x = x\n"


def install(place: Path, version: str, module: str = "acmelib", project: str = "") -> Path:
    """As pip leaves it behind."""
    site = place / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(MODULE.format(version=version))
    kept = site / f"{(project or module).replace('-', '_')}-{version}.dist-info"
    kept.mkdir()
    (kept / "METADATA").write_text(f"Name: {project or module}\nVersion: {version}\n")
    (kept / "RECORD").write_text(f"{module}.py,sha256=abc,10\n{kept.name}/METADATA,,\n")
    return site


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This program has the new version of it."""
    site = install(tmp_path / "program", NEW)
    install(tmp_path / "program", NEW, "othername", "Project-With.Name")
    monkeypatch.syspath_prepend(site)
    remarks._told.clear()
    yield site
    for name in ("acmelib", "othername"):
        sys.modules.pop(name, None)


@pytest.fixture
def others(tmp_path: Path, here: Path) -> Iterator[Mesh]:
    with contextlib.closing(Mesh(here)) as mesh:
        yield mesh


def old(others: Mesh, tmp_path: Path, name: str = "old", version: str = OLD) -> None:
    site = install(tmp_path / name, version)
    install(tmp_path / name, version, "othername", "Project-With.Name")
    others.node(name, import_paths=[str(site)])


@contextlib.contextmanager
def warned() -> Iterator[list[str]]:
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
    told += [str(each.message) for each in caught if each.category is stealmesh.OtherVersionWarning]


def by_global() -> Callable[[Any], Any]:
    import acmelib  # type: ignore[import-not-found]

    def task(x: Any) -> Any:
        return x, acmelib.VERSION

    return task


def inside() -> Callable[[Any], Any]:
    def task(x: Any) -> Any:
        import acmelib

        return x, acmelib.VERSION

    return task


@pytest.mark.parametrize("make", [by_global, inside])
def test_a_node_with_another_version_says_so(
    others: Mesh, tmp_path: Path, make: Callable[[], Any]
) -> None:
    """Nobody said anything, and results differed from node to node."""
    old(others, tmp_path)
    mesh = others.program()
    task = make()
    with warned() as told:
        assert mesh.submit(task, 1).result(PATIENCE_SECONDS) == (1, OLD)
        assert list(mesh.map(task, range(50))) == [(x, OLD) for x in range(50)]
    (text,) = told
    assert text.startswith("node old (")
    assert f"has acmelib {OLD}, this program has {NEW}" in text
    counted = others.counted(f"other-version:acmelib {OLD}, a program has {NEW}")
    assert counted == 1
    until(lambda: any("acmelib" in line for line in others.nodes["old"].lines))


def test_the_same_version_is_not_worth_a_word(others: Mesh) -> None:
    others.node("alike")
    mesh = others.program()
    with warned() as told:
        assert mesh.submit(inside(), 1).result(PATIENCE_SECONDS) == (1, NEW)
    assert told == []
    assert not [name for name in mesh.status()["counters"] if name.startswith("other-version")]


def test_one_word_a_node_and_a_package(others: Mesh, tmp_path: Path) -> None:
    """Also of a module whose distribution has another name, and by all kinds of jobs."""
    for name in ("one", "two"):
        old(others, tmp_path, name)
    mesh = others.program()

    def both(x: Any) -> Any:
        import time

        import acmelib
        import othername  # type: ignore[import-not-found]

        time.sleep(0.02)
        return (acmelib.VERSION, othername.VERSION) == (OLD, OLD)

    with warned() as told:
        assert all(mesh.map(both, range(200)))
        assert mesh.map_reduce(both, range(100), lambda a, b: a + b).result(PATIENCE_SECONDS) == 100
    assert sorted(text.split(" (")[0] + text.split(" has")[1] for text in told) == sorted(
        f"node {node} {package} {OLD}, this program"
        for node in ("one", "two")
        for package in ("acmelib", "project-with-name")
    )


@pytest.mark.parametrize("kind", ["explore", "launch", "launch-fold", "asyncio", "carried"])
def test_every_way_to_a_result_says_it(others: Mesh, tmp_path: Path, kind: str) -> None:
    old(others, tmp_path)
    mesh = others.program()
    task = inside()

    def visit(bag: list[Any], limit: int) -> tuple[int, list[Any]]:
        return len(task(0)[1]) * len(bag), []

    def count(x: Any) -> int:
        return len(task(x)[1])

    def add(a: int, b: int) -> int:
        return a + b

    with warned() as told:
        if kind == "explore":
            got: Any = mesh.explore(visit, [1, 2], add).result(PATIENCE_SECONDS)
        elif kind == "launch":
            got = sum(mesh.launch(count, range(2)).results(timeout=PATIENCE_SECONDS))
        elif kind == "launch-fold":
            got = mesh.launch(count, range(2), combine=add).result(PATIENCE_SECONDS)
        elif kind == "asyncio":

            async def go() -> Any:
                return await asyncio.wrap_future(mesh.submit(lambda: count(1) + count(2)))

            got = asyncio.run(go())
        else:
            made = [
                lambda x, n=n: x + n for n in range(40)
            ]  # that many have no streams of their own
            assert [mesh.submit(each, 1).result() for each in made] == list(range(1, 41))
            got = mesh.submit(lambda: count(1) + count(2)).result(PATIENCE_SECONDS)
    assert (got, len(told)) == (10, 1)


def test_an_exception_says_it_beside_its_traceback(others: Mesh, tmp_path: Path) -> None:
    old(others, tmp_path)
    mesh = others.program()

    def task(x: Any) -> Any:
        import acmelib

        return acmelib.only_in_the_new_one(x)

    error = mesh.submit(task, 1).exception(PATIENCE_SECONDS)
    assert type(error) is AttributeError
    assert f"acmelib {OLD} (the program has {NEW})" in str(error.__cause__)
    error = mesh.submit(lambda x: x.nothing, 1).exception(PATIENCE_SECONDS)
    assert error is not None
    assert "acmelib" not in str(error.__cause__), "that one has nothing to do with it"


def test_a_function_that_cannot_be_loaded_says_it_in_its_error(
    others: Mesh, tmp_path: Path, here: Path
) -> None:
    with (here / "acmelib.py").open("a") as file:
        file.write("def newer(x): return x\n")
    old(others, tmp_path)
    mesh = others.program()
    import acmelib

    error = mesh.submit(acmelib.newer, 1).exception(PATIENCE_SECONDS)
    assert isinstance(error, stealmesh.CannotLoad)
    assert f"acmelib {OLD} (the program has {NEW})" in str(error)


def test_warnings_that_are_errors_cost_no_result(
    others: Mesh, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old(others, tmp_path)
    mesh = others.program()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mesh.submit(inside(), 1).result(PATIENCE_SECONDS) == (1, OLD)
    told = ""

    def said() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return f"acmelib {OLD}, this program has {NEW}" in told

    until(said)


def test_what_travels_has_the_programs_version(others: Mesh, tmp_path: Path) -> None:
    old(others, tmp_path)
    mesh = others.program()
    import acmelib

    with warned() as told:
        task = by_global()
        shipped = mesh.options(ship=[acmelib])
        assert shipped.submit(task, 1).result(PATIENCE_SECONDS) == (1, NEW)
    assert told == []
